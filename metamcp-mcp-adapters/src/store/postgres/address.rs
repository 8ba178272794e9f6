//! Takes a `postgres://` address apart: how a server is reached, and the parameters that are for the store as a whole. It says where the text
//! is wrong and never repeats a password of it.

use std::{path::PathBuf, time::Duration};

use metamcp_core::error::StoreResult;
use percent_encoding::percent_decode_str;
use tokio_postgres::config::{ChannelBinding, Config, Host, SslMode};

use super::error::invalid;

/// Most hosts an address names.
const HOSTS_MAX: usize = 32;
/// A silent peer is asked for a sign of life after this time, in seconds.
const KEEPALIVE_IDLE_S: u64 = 10;
/// And asked again in this distance, in seconds.
const KEEPALIVE_INTERVAL_S: u64 = 5;
/// A peer that has not answered so many times is gone.
const KEEPALIVE_RETRIES: u32 = 3;
/// Bytes that nobody acknowledged for this long end a connection, in seconds.
const TCP_USER_TIMEOUT_S: u64 = 15;

/// Parameters that say how to reach a server; each address has its own.
pub(super) const SERVER_PARAMETERS: [&str; 5] =
    ["application_name", "channel_binding", "host", "sslmode", "sslrootcert"];
/// What a good address looks like, for errors.
const SHAPE: &str = "write postgres://user:password@host:5432/database";

/// One server, or several hosts of which one is the primary.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) config: Config,
    /// Authorities that are trusted in place of the system's.
    pub(super) ca_file: Option<PathBuf>,
    /// Hosts, ports and database, for messages.
    pub(super) place: String,
}

impl Server {
    /// Reads an address; answers it with the parameters that are not about reaching a server.
    pub(super) fn parse(url: &str) -> StoreResult<(Self, Vec<(String, String)>)> {
        let rest = ["postgres://", "postgresql://"].iter().find_map(|scheme| url.strip_prefix(scheme));
        let rest = rest.ok_or_else(|| invalid(format!("the address does not begin with postgres://; {SHAPE}")))?;
        let (user, after) = rest.split_once('@').map_or((None, rest), |(user, after)| (Some(user), after));
        // A stray one of these cuts the address elsewhere than its author meant, and part of a password would be shown as a host.
        if user.is_some_and(|user| user.contains(['/', '?', '#'])) || after.contains(['@', '#']) {
            return Err(invalid(
                "the address cannot be read: in user, password and parameters write @ as %40, / as %2F, ? as %3F, # as %23",
            ));
        }
        let (at, query) = after.split_once('?').unwrap_or((after, ""));
        let bare = format!("postgres://{}{}{at}", user.unwrap_or_default(), if user.is_some() { "@" } else { "" });
        let config =
            bare.parse().map_err(|e| invalid(format!("the address cannot be read; {SHAPE}")).with_source(e))?;
        let mut server = Self { config, ca_file: None, place: String::new() };
        let mut others = Vec::new();
        let mut sslmode = None;
        for (name, value) in parameters(query)? {
            match name.as_str() {
                "application_name" => {
                    server.config.application_name(value);
                }
                "channel_binding" => {
                    server.config.channel_binding(match value.as_str() {
                        "disable" => ChannelBinding::Disable,
                        "prefer" => ChannelBinding::Prefer,
                        "require" => ChannelBinding::Require,
                        _ => {
                            return Err(invalid(format!(
                                "channel_binding is `{value}`, say disable, prefer or require"
                            )));
                        }
                    });
                }
                "host" if server.config.get_hosts().is_empty() => {
                    server.config.host(value);
                }
                "host" => return Err(invalid("the address names its host twice; leave out the parameter `host`")),
                "sslmode" => sslmode = Some(self::sslmode(&value)?),
                "sslrootcert" => server.ca_file = Some(value.into()),
                _ => others.push((name, value)),
            }
        }
        server.complete(sslmode)?;
        Ok((server, others))
    }

    /// Fills in what the address does not say.
    fn complete(&mut self, sslmode: Option<SslMode>) -> StoreResult<()> {
        if self.config.get_hosts().is_empty() {
            return Err(invalid(format!("the address names no host; {SHAPE}")));
        }
        if self.config.get_hosts().len() > HOSTS_MAX {
            return Err(invalid(format!("the address names more than {HOSTS_MAX} hosts; leave some out")));
        }
        let sslmode = sslmode.unwrap_or_else(|| {
            if self.config.get_hosts().iter().all(is_local) { SslMode::Disable } else { SslMode::Require }
        });
        if self.ca_file.is_some() && sslmode == SslMode::Disable {
            return Err(invalid("sslrootcert is set, but TLS is off for this address; add sslmode=require"));
        }
        self.place = place(&self.config);
        let config = &mut self.config;
        if config.get_application_name().is_none() {
            config.application_name("metamcp");
        }
        config
            .ssl_mode(sslmode)
            .keepalives_idle(Duration::from_secs(KEEPALIVE_IDLE_S))
            .keepalives_interval(Duration::from_secs(KEEPALIVE_INTERVAL_S))
            .keepalives_retries(KEEPALIVE_RETRIES)
            .tcp_user_timeout(Duration::from_secs(TCP_USER_TIMEOUT_S));
        Ok(())
    }
}

fn parameters(query: &str) -> StoreResult<Vec<(String, String)>> {
    let decode = |text: &str| {
        let decoded = percent_decode_str(text).decode_utf8();
        decoded.map(String::from).map_err(|_| invalid("a parameter of the address is not UTF-8 after its %XX are read"))
    };
    let pair = |part: &str| {
        let (name, value) = part
            .split_once('=')
            .ok_or_else(|| invalid("a parameter of the address has no value; write ?name=value&name=value"))?;
        Ok((decode(name)?, decode(value)?))
    };
    query.split('&').filter(|part| !part.is_empty()).map(pair).collect()
}

fn sslmode(value: &str) -> StoreResult<SslMode> {
    match value {
        "disable" => Ok(SslMode::Disable),
        "require" | "verify-full" => Ok(SslMode::Require),
        _ => Err(invalid(format!(
            "sslmode is `{value}`, say require (TLS, certificate and name are checked) or disable (a network you trust)"
        ))),
    }
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

fn place(config: &Config) -> String {
    let ports = config.get_ports();
    let one = |(at, host): (usize, &Host)| {
        let port = ports.get(at).or_else(|| ports.first()).copied().unwrap_or(5432);
        match host {
            Host::Tcp(name) => format!("{name}:{port}"),
            #[cfg(unix)]
            Host::Unix(dir) => format!("{}:{port}", dir.display()),
        }
    };
    let hosts: Vec<String> = config.get_hosts().iter().enumerate().map(one).collect();
    format!("{}/{}", hosts.join(","), config.get_dbname().or_else(|| config.get_user()).unwrap_or_default())
}
