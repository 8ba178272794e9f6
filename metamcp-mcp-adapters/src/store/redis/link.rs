//! Connects: to one server, to whoever the sentinels call master at this moment, or to a cluster.

use std::{fs, io, sync::Arc, time::Duration};

use metamcp_core::error::StoreResult;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, Pipeline,
    ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo, RedisFuture, RedisResult, TlsCertificates, TlsMode,
    Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster::{ClusterClient, ClusterClientBuilder},
    cluster_async::ClusterConnection,
    cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo, SingleNodeRoutingInfo},
    io::tcp::TcpSettings,
    sentinel::{SentinelClientBuilder, SentinelServerType},
};

use super::{
    address::{Host, Kind, Login, Secret},
    error::invalid,
    nodes::Nodes,
    options::RedisOptions,
};

/// Tries of one call within a cluster, while slots move or a failover goes on; all within the time one answer may take.
const CLUSTER_RETRIES: u32 = 8;
/// Shortest pause between them, in milliseconds.
const CLUSTER_PAUSE_MS: u64 = 10;
/// Longest pause between them, in milliseconds.
const CLUSTER_PAUSE_MS_MAX: u64 = 400;

/// A connection that many callers use at once: calls are written one after the other and their answers matched in order.
#[derive(Clone)]
pub(super) enum Link {
    /// To one server.
    Single(MultiplexedConnection),
    /// To every node of a cluster; it follows slots by itself.
    Cluster(ClusterConnection),
}

impl Link {
    /// Asks every master there is; each answer comes with the address of who gave it, which is empty where there is only one.
    pub(super) async fn ask_masters(&mut self, command: &Cmd) -> RedisResult<Vec<(String, Value)>> {
        match self {
            Self::Single(link) => Ok(vec![(String::new(), command.query_async(link).await?)]),
            Self::Cluster(link) => {
                let masters = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                redis::from_redis_value(link.route_command(command.clone(), masters).await?.extract_error()?)
                    .map_err(Into::into)
            }
        }
    }
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Single(link) => link.req_packed_command(cmd),
            Self::Cluster(link) => link.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Single(link) => link.req_packed_commands(pipeline, offset, count),
            Self::Cluster(link) => link.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Single(link) => link.get_db(),
            Self::Cluster(link) => link.get_db(),
        }
    }
}

/// Makes connections as the options say.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    options: Arc<RedisOptions>,
    certificates: Option<TlsCertificates>,
    /// Of a cluster.
    nodes: Arc<Nodes>,
}

impl Connector {
    /// Reads the certificates, if any are named.
    ///
    /// # Errors
    /// `Invalid` when their file cannot be read.
    pub(super) fn new(options: Arc<RedisOptions>) -> StoreResult<Self> {
        let read = |path: &std::path::PathBuf| {
            fs::read(path)
                .map_err(|e| invalid(format!("cannot read the certificates in {}", path.display())).with_source(e))
        };
        let root_cert = options.ca.as_ref().map(read).transpose()?;
        if options.tls && rustls::crypto::CryptoProvider::get_default().is_none() {
            // The client takes the process' default and panics where a build has several. An error says that somebody was faster.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        }
        let certificates = options.tls.then_some(TlsCertificates { client_tls: None, root_cert });
        Ok(Self { options, certificates, nodes: Arc::default() })
    }

    /// Connects. `response` is how long each answer may take; `lost` is called when the connection to a single server ends, also when
    /// nobody is using it.
    pub(super) async fn connect(
        &self,
        response: Duration,
        lost: impl Fn() + Send + Sync + 'static,
    ) -> RedisResult<Link> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.options.connect_timeout))
            .set_response_timeout(Some(response))
            .set_push_sender(move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    lost();
                }
                Ok::<(), redis::aio::SendError>(())
            });
        let connecting = async {
            match self.options.kind {
                Kind::Standalone => self.connect_single(&config).await,
                Kind::Sentinel => self.connect_master(&config).await,
                Kind::Cluster => self.connect_cluster(response).await,
            }
        };
        let in_time = tokio::time::timeout(self.options.connect_time(), connecting).await;
        in_time.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
    }

    async fn connect_single(&self, config: &AsyncConnectionConfig) -> RedisResult<Link> {
        let Some(info) = self.infos(&self.options.hosts)?.into_iter().next() else { return Err(no_host()) };
        let client = match &self.certificates {
            Some(certificates) => Client::build_with_tls(info, certificates.clone())?,
            None => Client::open(info)?,
        };
        Ok(Link::Single(client.get_multiplexed_async_connection_with_config(config).await?))
    }

    /// Asks the sentinels anew each time: after a failover the last answer is wrong.
    async fn connect_master(&self, config: &AsyncConnectionConfig) -> RedisResult<Link> {
        let options = &self.options;
        let master = options.master.as_deref().unwrap_or_default();
        let sentinels: Vec<_> = options.hosts.iter().map(|host| self.addr(host)).collect();
        let mut builder = SentinelClientBuilder::new(sentinels, master, SentinelServerType::Master)?
            .set_client_to_redis_db(options.database)
            .set_client_to_redis_protocol(ProtocolVersion::RESP3)
            .set_client_to_redis_tcp_settings(tcp());
        if let Some(certificates) = &self.certificates {
            builder = builder
                .set_client_to_redis_tls_mode(TlsMode::Secure)
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_tls_mode(TlsMode::Secure)
                .set_client_to_sentinel_certificates(certificates.clone());
        }
        let Login { username, password } = &options.login;
        if let Some(name) = username {
            builder = builder.set_client_to_redis_username(name);
        }
        if let Some(password) = password {
            builder = builder.set_client_to_redis_password(password.expose());
        }
        let Login { username, password } = &options.sentinel_login;
        if let Some(name) = username {
            builder = builder.set_client_to_sentinel_username(name);
        }
        if let Some(password) = password {
            builder = builder.set_client_to_sentinel_password(password.expose());
        }
        let mut client = builder.build()?;
        Ok(Link::Single(client.get_async_connection_with_config(config).await?))
    }

    /// By the nodes that the address names and those that the cluster told of before, so that it is found again when the first are gone.
    async fn connect_cluster(&self, response: Duration) -> RedisResult<Link> {
        let hosts = self.nodes.beside(&self.options.hosts);
        let mut builder: ClusterClientBuilder = ClusterClient::builder(self.infos(&hosts)?)
            .connection_timeout(self.options.connect_timeout)
            .response_timeout(response)
            .retries(CLUSTER_RETRIES)
            .min_retry_wait(CLUSTER_PAUSE_MS)
            .max_retry_wait(CLUSTER_PAUSE_MS_MAX)
            .use_protocol(ProtocolVersion::RESP3)
            .tcp_settings(tcp());
        if let Some(certificates) = &self.certificates {
            builder = builder.certs(certificates.clone());
        }
        let mut link = builder.build()?.get_async_connection().await?;
        let anyone = RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random);
        match link.route_command(redis::cmd("CLUSTER").arg("SLOTS").take(), anyone).await {
            Ok(slots) => self.nodes.told(&slots),
            Err(error) => tracing::debug!(%error, "a cluster did not tell its nodes"),
        }
        Ok(Link::Cluster(link))
    }

    fn addr(&self, Host { name, port }: &Host) -> ConnectionAddr {
        let (host, port) = (name.clone(), *port);
        if self.options.tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        }
    }

    fn infos(&self, hosts: &[Host]) -> RedisResult<Vec<ConnectionInfo>> {
        let options = &self.options;
        let mut settings = RedisConnectionInfo::default()
            .set_db(options.database)
            .set_protocol(ProtocolVersion::RESP3)
            .set_lib_name("metamcp", env!("CARGO_PKG_VERSION"));
        if let Some(name) = &options.login.username {
            settings = settings.set_username(name);
        }
        if let Some(password) = options.login.password.as_ref().map(Secret::expose) {
            settings = settings.set_password(password);
        }
        let info = |host| {
            let info = self.addr(host).into_connection_info()?;
            Ok(info.set_tcp_settings(tcp()).set_redis_settings(settings.clone()))
        };
        hosts.iter().map(info).collect()
    }
}

/// Small calls leave at once.
fn tcp() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

fn no_host() -> redis::RedisError {
    (redis::ErrorKind::InvalidClientConfig, "the address names no host").into()
}
