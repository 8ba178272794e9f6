//! The connections behind the registry: made lazily, once for all callers, and anew with backoff after they broke.
//!
//! One bad server costs only itself: every wait here is for one server and bounded.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    choice::Seen,
    policy::Policy,
    standing::{Flight, Standings},
    views::Views,
};
use crate::{
    auth::Principal,
    id::{ServerName, TenantId},
    matching::{Capability, Catalog, ServerTerms},
    queue::{Checkpoint, Job},
    registry::{Offer, Registry, ServerState, ServerStatus},
    time::Clock,
    transport::{Connector, Delivered, McpTransport, TransportError, TransportErrorKind},
};

/// Longest one connect with its discovery may take.
const CONNECT_S_MAX: u64 = 60;

/// Longest wait for a server to cancel what an ended job left there, in seconds.
const STOP_REMOTE_S_MAX: u64 = 30;
/// Least time between two readings of a server's offer that it says has changed, in seconds.
const CHANGED_S_MIN: u64 = 1;

/// One server to be orchestrated.
#[derive(Debug, Clone)]
pub struct ServerEntry {
    /// What it is called here.
    pub name: ServerName,
    /// What configuration says of it.
    pub terms: ServerTerms,
    /// How it is reached.
    pub connector: Arc<dyn Connector>,
}

#[derive(Debug, Default)]
struct Link {
    transport: Option<Arc<dyn McpTransport>>,
    /// Reads the offer again when the server says that it has changed; ends with the connection.
    follower: Option<AbortOnDropHandle<()>>,
    failures: u32,
    /// Not to be tried before, with what failed.
    pause: Option<(Instant, String)>,
}

#[derive(Debug)]
struct Server {
    connector: Arc<dyn Connector>,
    /// The transport of `link` while there is one: who calls a server that is up waits for nobody.
    live: ArcSwapOption<Arc<dyn McpTransport>>,
    /// Held while connecting, so that all callers share one attempt.
    link: tokio::sync::Mutex<Link>,
}

impl Server {
    fn new(connector: Arc<dyn Connector>) -> Self {
        Self { connector, live: ArcSwapOption::empty(), link: tokio::sync::Mutex::default() }
    }

    fn live(&self) -> Option<Arc<dyn McpTransport>> {
        self.live.load().as_deref().filter(|transport| !transport.is_closed()).cloned()
    }
}

/// Every configured server with its connection.
#[derive(Debug)]
pub(crate) struct Servers {
    servers: BTreeMap<ServerName, Server>,
    /// Short sections, never held over an await.
    registry: Mutex<Registry>,
    views: ArcSwap<Views>,
    /// The tenants that terms name, and whether some server is not for all.
    named: Arc<BTreeSet<TenantId>>,
    restricted: bool,
    standings: Standings,
    clock: Arc<dyn Clock>,
    policy: Arc<Policy>,
    closing: CancellationToken,
}

impl Servers {
    pub(crate) fn new(entries: Vec<ServerEntry>, clock: Arc<dyn Clock>, policy: Arc<Policy>) -> Self {
        let mut registry = Registry::default();
        let mut servers = BTreeMap::new();
        let restricted = entries.iter().any(|entry| entry.terms.tenants.is_some());
        let named = entries.iter().flat_map(|entry| entry.terms.tenants.iter().flatten()).cloned().collect();
        for ServerEntry { name, terms, connector } in entries {
            registry.add(name.clone(), Arc::new(terms), connector.target(), clock.now());
            servers.insert(name, Server::new(connector));
        }
        Self {
            standings: Standings::new(servers.keys().cloned()),
            servers,
            registry: Mutex::new(registry),
            views: ArcSwap::default(),
            named: Arc::new(named),
            restricted,
            clock,
            policy,
            closing: CancellationToken::new(),
        }
    }

    /// What every server offers; for what is done for nobody in particular.
    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(self.views.load().all())
    }

    /// What somebody may use of it.
    pub(crate) fn catalog_for(&self, who: &Principal) -> Arc<Catalog> {
        self.views.load().of(&who.tenant)
    }

    pub(crate) fn statuses(&self) -> Vec<ServerStatus> {
        self.with_registry(|registry| registry.statuses())
    }

    /// The servers that somebody may use.
    pub(crate) fn statuses_for(&self, who: &Principal) -> Vec<ServerStatus> {
        let admitted = |registry: &mut Registry, name: &ServerName| {
            registry.terms(name).is_some_and(|terms| terms.admits(&who.tenant))
        };
        self.with_registry(|registry| {
            let all = registry.statuses().into_iter();
            all.filter(|status| admitted(registry, &status.name)).collect()
        })
    }

    /// Whether there is such a server, for somebody.
    pub(crate) fn admits(&self, who: &Principal, name: &ServerName) -> bool {
        self.terms(name).is_some_and(|terms| terms.admits(&who.tenant))
    }

    /// What a choice among equivalents goes by.
    pub(super) fn seen(&self, name: &ServerName) -> Seen {
        let now = self.clock.now();
        let (down, terms) = self.with_registry(|registry| {
            let down = registry.unreachable(name).map(|(since, why)| (now.since(since), why.to_owned()));
            (down, registry.terms(name).unwrap_or_default())
        });
        Seen { load: self.standings.load(name), down, terms }
    }

    /// Notes that a call of a server begins.
    pub(super) fn begin(&self, name: &ServerName) -> Flight {
        self.standings.begin(name)
    }

    /// Tries a server that is down again, in the background, once its pause is over: nobody is sent there to find out whether it is back.
    pub(super) fn revive(self: &Arc<Self>, name: &ServerName) {
        let over = |link: &Link| link.pause.as_ref().is_none_or(|(until, _)| *until <= Instant::now());
        let due = self.servers.get(name).is_some_and(|server| server.link.try_lock().is_ok_and(|link| over(&link)));
        if due {
            let (servers, name) = (Arc::clone(self), name.clone());
            // What comes of it stands in the registry.
            tokio::spawn(async move { servers.transport(&name).await.map(drop) });
        }
    }

    pub(crate) fn terms(&self, name: &ServerName) -> Option<Arc<ServerTerms>> {
        self.with_registry(|registry| registry.terms(name))
    }

    pub(crate) fn count(&self) -> usize {
        self.servers.len()
    }

    /// The live connection to a server, made if there is none. While a failed server is in its pause this answers at once.
    pub(crate) async fn transport(
        self: &Arc<Self>,
        name: &ServerName,
    ) -> Result<Arc<dyn McpTransport>, TransportError> {
        let unreachable = |message| TransportError::new(TransportErrorKind::Connect, Delivered::No, message);
        let server =
            self.servers.get(name).ok_or_else(|| unreachable(format!("server `{name}` is not configured any more")))?;
        match server.live() {
            Some(transport) => Ok(transport),
            // Boxed: rare and large, and the future of every call would carry it.
            None => Box::pin(self.reach(name, server)).await,
        }
    }

    /// Connects to a server, unless somebody else just did.
    async fn reach(
        self: &Arc<Self>,
        name: &ServerName,
        server: &Server,
    ) -> Result<Arc<dyn McpTransport>, TransportError> {
        let unreachable = |message| TransportError::new(TransportErrorKind::Connect, Delivered::No, message);
        let mut link = server.link.lock().await;
        if let Some(transport) = &link.transport {
            if !transport.is_closed() {
                return Ok(Arc::clone(transport));
            }
            server.live.store(None);
            link.follower = None;
            if let Some(closed) = link.transport.take() {
                closed.close().await;
            }
        }
        if let Some((until, why)) = &link.pause
            && Instant::now() < *until
        {
            let wait = until.duration_since(Instant::now());
            return Err(unreachable(format!("server `{name}` is down: {why}")).with_retry_after(Some(wait)));
        }
        self.with_registry(|registry| registry.connecting(name, self.clock.now()));
        let attempt = tokio::time::timeout(Duration::from_secs(CONNECT_S_MAX), self.connect(name, server));
        let Some(attempt) = self.closing.run_until_cancelled(attempt).await else {
            return Err(unreachable(format!("server `{name}` is not connected any more: the process is stopping")));
        };
        let outcome = attempt.unwrap_or_else(|_| {
            let message = format!("server `{name}` did not come up within {CONNECT_S_MAX} s");
            Err(TransportError::new(TransportErrorKind::Timeout, Delivered::No, message))
        });
        match outcome {
            Ok(transport) => {
                let follower = Some(self.follow(name.clone(), Arc::clone(&transport)));
                *link = Link { transport: Some(Arc::clone(&transport)), follower, ..Link::default() };
                server.live.store(Some(Arc::new(Arc::clone(&transport))));
                Ok(transport)
            }
            Err(mut error) => {
                // Whatever failed on the way to a connection, no tool was called.
                error.delivered = Delivered::No;
                if error.kind == TransportErrorKind::Invalid {
                    error.kind = TransportErrorKind::Connect;
                }
                link.failures = link.failures.saturating_add(1);
                let doublings = (link.failures - 1).min(16);
                let pause = (self.policy.reconnect_base * (1 << doublings)).min(self.policy.backoff_max);
                let pause = pause.max(error.retry_after.unwrap_or_default());
                link.pause = Some((Instant::now() + pause, error.to_string()));
                self.with_registry(|registry| registry.down(name, &error.to_string(), self.clock.now()));
                tracing::warn!(server = %name, %error, pause_ms = pause.as_millis(), "server is down");
                Err(error.with_retry_after(Some(pause)))
            }
        }
    }

    async fn connect(&self, name: &ServerName, server: &Server) -> Result<Arc<dyn McpTransport>, TransportError> {
        let transport = server.connector.connect().await?;
        if let Err(error) = self.learn(name, &*transport).await {
            transport.close().await;
            return Err(error);
        }
        Ok(transport)
    }

    fn follow(self: &Arc<Self>, name: ServerName, transport: Arc<dyn McpTransport>) -> AbortOnDropHandle<()> {
        let servers = Arc::downgrade(self);
        AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                transport.changed().await;
                let Some(servers) = servers.upgrade() else { return };
                if let Err(error) = servers.learn(&name, &*transport).await {
                    tracing::warn!(server = %name, %error, "changed tools not read");
                }
                drop(servers);
                tokio::time::sleep(Duration::from_secs(CHANGED_S_MIN)).await;
            }
        }))
    }

    /// Takes a server's offer into the catalogue.
    async fn learn(&self, name: &ServerName, transport: &dyn McpTransport) -> Result<(), TransportError> {
        let offer = transport.discover().await?;
        let configured = self.with_registry(|registry| registry.terms(name)).unwrap_or_default();
        let terms = match offer.instructions {
            Some(instructions) if configured.description.is_empty() => {
                Arc::new(ServerTerms { description: instructions, ..(*configured).clone() })
            }
            _ => configured,
        };
        let mut capabilities = Vec::with_capacity(offer.tools.len());
        for tool in offer.tools {
            match Capability::from_definition(name, Arc::clone(&terms), tool) {
                Ok(capability) => capabilities.push(Arc::new(capability)),
                Err(error) => tracing::warn!(server = %name, %error, "tool left out"),
            }
        }
        let info = transport.info();
        let offer =
            Offer { capabilities, protocol: info.protocol.clone(), implementation: info.implementation.clone() };
        self.with_registry(|registry| {
            registry.ready(name, offer, self.clock.now());
            // Under the lock: of two servers that are ready at once, the later snapshot holds both.
            let views = Views::new(registry.catalog(), Arc::clone(&self.named), self.restricted);
            self.views.store(Arc::new(views));
        });
        tracing::info!(server = %name, protocol = %info.protocol, "server is ready");
        Ok(())
    }

    /// Starts every server whose offer is not known, and waits up to `wait` for those that were never tried before. One that failed is tried
    /// again in the background once its pause is over, and nobody waits for it. With `only`, that server alone is started and waited for.
    pub(crate) async fn discover(self: &Arc<Self>, only: Option<&ServerName>, wait: Duration) {
        let unknown = self
            .statuses()
            .into_iter()
            .filter(|s| s.state != ServerState::Ready && s.tools == 0)
            .filter(|s| only.is_none_or(|only| s.name == *only));
        let (mut attempts, mut retries) = (tokio::task::JoinSet::new(), tokio::task::JoinSet::new());
        for status in unknown {
            let servers = Arc::clone(self);
            let awaited = status.last_failure.is_none() || only.is_some();
            let set = if awaited { &mut attempts } else { &mut retries };
            set.spawn(async move { servers.transport(&status.name).await.map(drop) });
        }
        retries.detach_all();
        let all = async { while attempts.join_next().await.is_some() {} };
        if tokio::time::timeout(wait, all).await.is_err() {
            // Slow servers go on connecting in the background; the next call finds them.
            attempts.detach_all();
        }
    }

    /// Asks the far side to stop what an ended job left running there: best effort, in the background, bounded.
    pub(crate) fn stop_remote(self: &Arc<Self>, job: &Job, checkpoint: &Checkpoint) {
        let Some(candidate) = job.body.route.candidates.get(usize::from(job.head.candidate)) else { return };
        let (servers, checkpoint) = (Arc::clone(self), checkpoint.clone());
        let (server, id) = (candidate.capability.server().clone(), job.head.id);
        tokio::spawn(async move {
            let stop = async { servers.transport(&server).await?.cancel(&checkpoint).await };
            match tokio::time::timeout(Duration::from_secs(STOP_REMOTE_S_MAX), stop).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::info!(job = %id, %server, %error, "remote work not cancelled"),
                Err(_) => tracing::info!(job = %id, %server, "remote work not cancelled: no answer"),
            }
        });
    }

    /// Closes every connection; children are reaped when this returns.
    pub(crate) async fn close(self: &Arc<Self>) {
        self.closing.cancel();
        let mut closing = tokio::task::JoinSet::new();
        for name in self.servers.keys() {
            let (servers, name) = (Arc::clone(self), name.clone());
            closing.spawn(async move {
                let server = servers.servers.get(&name).expect("the name is a key of this map");
                let transport = std::mem::take(&mut *server.link.lock().await).transport;
                server.live.store(None);
                if let Some(transport) = transport {
                    transport.close().await;
                }
            });
        }
        while closing.join_next().await.is_some() {}
    }

    fn with_registry<T>(&self, f: impl FnOnce(&mut Registry) -> T) -> T {
        f(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
