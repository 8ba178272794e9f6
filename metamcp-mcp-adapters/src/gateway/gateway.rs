//! The gateway itself: an engine, what its servers offer, and how that is shown.

use std::sync::Arc;

use metamcp_core::{auth::Principal, engine::Orchestrator, error::StoreError, id::ServerName, record::RecordStore};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Caller, ClientSide, Reply, Request,
    catalog::{Catalog, Discover, Follower, Own, Snapshot, ToolRef},
    elicitations::Elicitations,
    methods,
    options::{GatewayOptions, ListMode},
    own_tools, pointers,
    seal::Seal,
    subscribe::{Filter, Hub, Subscription},
    tasks::TaskNews,
};

/// Every server of an engine behind one address. Cheap to clone; clones are the same gateway.
#[derive(Debug, Clone)]
pub struct Gateway(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    engine: Orchestrator,
    records: Arc<dyn RecordStore>,
    options: Arc<GatewayOptions>,
    seal: Seal,
    catalog: Arc<Catalog>,
    hub: Arc<Hub>,
    /// One task a server; they end with the gateway.
    _followers: Vec<AbortOnDropHandle<()>>,
}

/// Collects the parts of a [`Gateway`].
#[derive(Debug)]
#[must_use]
pub struct GatewayBuilder {
    engine: Orchestrator,
    records: Arc<dyn RecordStore>,
    options: GatewayOptions,
}

impl Gateway {
    /// A gateway to the servers of `engine`. What replicas share and what outlives a restart is kept in `records`.
    pub fn builder(engine: Orchestrator, records: Arc<dyn RecordStore>) -> GatewayBuilder {
        GatewayBuilder { engine, records, options: GatewayOptions::default() }
    }

    /// Answers any request of a client but those that the fronts answer: `initialize`, `ping`, `logging/setLevel`, subscriptions.
    pub(crate) fn handle<'a>(
        &'a self,
        caller: &'a Caller,
        request: &'a Request<'_>,
        side: &'a dyn ClientSide,
    ) -> impl Future<Output = Reply> + Send + use<'a> {
        methods::handle(self, caller, request, side)
    }

    /// Waits, for a bounded time after the start alone, until the lists hold what there is.
    pub(crate) async fn settled(&self) {
        self.0.catalog.settled().await;
    }

    /// Somebody reads lists.
    pub(crate) fn asked_for_lists(&self) {
        self.0.catalog.asked();
    }

    /// What an endpoint says of itself to somebody; `None` when there is no such endpoint.
    pub(crate) fn discover(&self, endpoint: Option<&str>, who: &Principal) -> Option<Discover> {
        self.0.catalog.snapshot(endpoint, who).map(|snapshot| snapshot.discover.clone())
    }

    /// News for a caller. Resources that nobody can watch for it are not granted.
    pub(crate) fn subscribe(&self, caller: &Caller, filter: &Filter) -> Subscription {
        let mut subscription = self.0.hub.subscribe(caller.endpoint.as_ref(), filter);
        for uri in &filter.resource_subscriptions {
            self.watch(caller, &mut subscription, uri);
        }
        subscription
    }

    /// As [`Self::subscribe`], for a modern client, which may follow tasks of its own.
    pub(crate) async fn listen(&self, caller: &Caller, filter: &Filter) -> Subscription {
        let mut subscription = self.subscribe(caller, filter);
        if !filter.task_ids.is_empty()
            && let Some((tasks, granted)) = TaskNews::follow(self, caller, &filter.task_ids).await
        {
            subscription.follow(Box::new(tasks), granted);
        }
        subscription
    }

    /// Adds a resource to a caller's news; `false` when nobody can watch it.
    pub(crate) fn watch(&self, caller: &Caller, subscription: &mut Subscription, uri: &str) -> bool {
        let Some(snapshot) = self.snapshot(caller) else { return false };
        snapshot.watchable(uri).is_some_and(|server| subscription.watch(uri, server))
    }

    /// The tool that a caller's endpoint shows it under this name.
    pub(crate) fn tool(&self, caller: &Caller, name: &str) -> Option<Arc<ToolRef>> {
        self.snapshot(caller)?.tool(name).cloned()
    }

    /// As [`Self::tool`]. Just after the start not every tool is known: one that is missing is waited for as long as a list would be.
    pub(crate) async fn awaited_tool(&self, caller: &Caller, name: &str) -> Option<Arc<ToolRef>> {
        if let Some(known) = self.tool(caller, name) {
            return Some(known);
        }
        if own_tools::named(name).is_some() {
            return None;
        }
        // Boxed: rare, and the future of every call would carry it.
        Box::pin(self.settled()).await;
        self.tool(caller, name)
    }

    /// What a caller's endpoint shows it now; `None` when there is no such endpoint. Not to be held over an await.
    pub(crate) fn snapshot(&self, caller: &Caller) -> Option<arc_swap::Guard<Arc<Snapshot>>> {
        self.0.catalog.snapshot(caller.endpoint.as_deref(), &caller.principal)
    }

    /// Whether a server is left out of the lists because it has been down for too long.
    pub(crate) fn is_left_out(&self, server: &ServerName) -> bool {
        self.0.catalog.is_left_out(server)
    }

    /// Why the lists of a connected server could not be read the last time.
    pub(crate) fn unread(&self, server: &ServerName) -> Option<String> {
        self.0.catalog.unread(server)
    }

    pub(crate) fn elicitations(&self) -> &Elicitations {
        &self.0.hub.elicitations
    }

    pub(crate) fn seal(&self) -> &Seal {
        &self.0.seal
    }

    pub(crate) fn engine(&self) -> &Orchestrator {
        &self.0.engine
    }

    pub(crate) fn records(&self) -> &Arc<dyn RecordStore> {
        &self.0.records
    }

    pub(crate) fn options(&self) -> &GatewayOptions {
        &self.0.options
    }
}

impl GatewayBuilder {
    /// Shows the servers so.
    pub fn options(mut self, options: GatewayOptions) -> Self {
        self.options = options;
        self
    }

    /// The gateway. It begins to connect to the servers in the background.
    ///
    /// # Errors
    /// When the record store cannot be used.
    pub async fn build(self) -> Result<Gateway, StoreError> {
        let Self { engine, records, options } = self;
        let (options, hub) = (Arc::new(options), Arc::new(Hub::default()));
        let seal = Seal::shared(&*records).await?;
        let servers: Vec<ServerName> = engine.servers().into_iter().map(|status| status.name).collect();
        for (name, view) in &options.endpoints {
            for server in view.servers.iter().filter(|server| !servers.contains(server)) {
                tracing::warn!(endpoint = name, %server, "an endpoint names a server that is not configured");
            }
        }
        let with_terms: Vec<_> =
            servers.iter().map(|name| (name.clone(), engine.terms(name).unwrap_or_default())).collect();
        let catalog = Arc::new(Catalog::new(Arc::clone(&options), own, Arc::clone(&hub), &with_terms));
        let follow = |server: ServerName| {
            let (engine, records) = (engine.clone(), Arc::clone(&records));
            let follower = Follower { engine, records, catalog: Arc::clone(&catalog), hub: Arc::clone(&hub), server };
            AbortOnDropHandle::new(tokio::spawn(follower.run()))
        };
        let followers = servers.into_iter().map(follow).collect();
        Ok(Gateway(Arc::new(Inner { engine, records, options, seal, catalog, hub, _followers: followers })))
    }
}

/// What we offer ourselves on an endpoint.
fn own(list: ListMode) -> Own {
    Own { tools: own_tools::definitions(list), templates: vec![pointers::template(), methods::route_template()] }
}
