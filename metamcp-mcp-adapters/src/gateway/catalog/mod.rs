//! What all servers offer, read in the background and shown as finished snapshots: a list request does no I/O and waits for nobody.
//!
//! ```text
//!  follow (one task a server) ─▶ read ─▶ Offer ─▶ Catalog ─▶ Snapshot per endpoint ─▶ pages
//!                                 keep ◀───┘ (survives a restart)     └─▶ news of changes ─▶ subscribe
//! ```

mod definition;
mod discover;
mod findable;
mod follow;
mod keep;
mod offer;
mod pages;
mod read;
mod snapshot;
mod template;
mod tool_ref;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use metamcp_core::{
    auth::Principal,
    id::{ServerName, TenantId},
    matching::ServerTerms,
};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use self::offer::{Offer, Offered};
pub(crate) use self::{
    discover::Discover,
    follow::Follower,
    pages::Pages,
    snapshot::{Clash, Own, SERVERS_URI, Snapshot},
    tool_ref::ToolRef,
};
use super::{
    options::{GatewayOptions, ListMode},
    subscribe::{ChangedLists, Hub},
};

/// What is known of the servers, and what is shown of it.
pub(crate) struct Catalog {
    options: Arc<GatewayOptions>,
    own: fn(ListMode) -> Own,
    hub: Arc<Hub>,
    main: Place,
    named: HashMap<Box<str>, Place>,
    /// Held while snapshots are made, so that a later one never holds less. Never held over an await.
    known: Mutex<BTreeMap<ServerName, Known>>,
    /// How many servers were neither reached nor found unreachable, nor known from before.
    unsettled: watch::Sender<usize>,
    started: Instant,
    /// Somebody reads lists: those that are past their time are read again.
    asked: Notify,
}

/// What one endpoint shows: to each tenant that the terms of some server name, and to all others.
#[derive(Debug)]
struct Place {
    of: BTreeMap<TenantId, ArcSwap<Snapshot>>,
    others: ArcSwap<Snapshot>,
}

impl Place {
    fn new<'a>(tenants: impl Iterator<Item = &'a TenantId>) -> Self {
        Self { of: tenants.map(|tenant| (tenant.clone(), ArcSwap::default())).collect(), others: ArcSwap::default() }
    }

    fn shown_to(&self, tenant: &TenantId) -> &ArcSwap<Snapshot> {
        self.of.get(tenant).unwrap_or(&self.others)
    }
}

#[derive(Debug, Default)]
struct Known {
    terms: Arc<ServerTerms>,
    offer: Option<Arc<Offer>>,
    left_out: bool,
    settled: bool,
    /// Why its lists could not be read the last time.
    unread: Option<String>,
}

impl Catalog {
    /// A catalogue of these servers, of which nothing is known.
    pub(crate) fn new(
        options: Arc<GatewayOptions>,
        own: fn(ListMode) -> Own,
        hub: Arc<Hub>,
        servers: &[(ServerName, Arc<ServerTerms>)],
    ) -> Self {
        let tenants = || servers.iter().flat_map(|(_, terms)| terms.tenants.iter().flatten());
        let known = |terms: &Arc<ServerTerms>| Known { terms: Arc::clone(terms), ..Known::default() };
        let known: BTreeMap<ServerName, Known> =
            servers.iter().map(|(server, terms)| (server.clone(), known(terms))).collect();
        let named = options.endpoints.keys().map(|name| (name.as_str().into(), Place::new(tenants()))).collect();
        let unsettled = watch::Sender::new(known.len());
        let (main, known) = (Place::new(tenants()), Mutex::new(known));
        let catalog =
            Self { options, own, hub, main, named, known, unsettled, started: Instant::now(), asked: Notify::new() };
        catalog.show(&catalog.known());
        catalog
    }

    /// What an endpoint shows to somebody now; `None` when there is no such endpoint.
    pub(crate) fn snapshot(&self, endpoint: Option<&str>, who: &Principal) -> Option<arc_swap::Guard<Arc<Snapshot>>> {
        Some(self.place(endpoint)?.shown_to(&who.tenant).load())
    }

    /// Somebody reads lists. They are answered as they stand, and read again behind that where their servers say that they are past their time.
    pub(crate) fn asked(&self) {
        self.asked.notify_waiters();
    }

    /// Waits until every server was reached or found unreachable once, or is known from before; not past the first wait after the start.
    pub(crate) async fn settled(&self) {
        if *self.unsettled.borrow() == 0 {
            return;
        }
        let mut unsettled = self.unsettled.subscribe();
        let until = self.started + self.options.first_wait;
        // Whether all are there or the time is over, what there is is shown.
        let _ = tokio::time::timeout_at(until, unsettled.wait_for(|count| *count == 0)).await;
    }

    /// Whether a server is left out because it has been down for too long.
    pub(crate) fn is_left_out(&self, server: &ServerName) -> bool {
        self.known().get(server).is_some_and(|known| known.left_out)
    }

    /// Why the lists of a connected server could not be read the last time, as when it hangs.
    pub(crate) fn unread(&self, server: &ServerName) -> Option<String> {
        self.known().get(server)?.unread.clone()
    }

    /// A server offers this.
    fn offers(&self, server: &ServerName, offer: Arc<Offer>) {
        let mut all = self.known();
        let Some(known) = all.get_mut(server) else { return };
        let same = known.offer.as_ref().is_some_and(|old| old.digest == offer.digest) && !known.left_out;
        known.left_out = false;
        known.unread = None;
        if !same {
            known.offer = Some(offer);
            self.show(&all);
        }
        self.settle(&mut all, server);
    }

    /// A server could not be reached; what it offered stays for a while.
    fn unreachable(&self, server: &ServerName) {
        self.settle(&mut self.known(), server);
    }

    /// The lists of a connected server could not be read; what it offered stays.
    fn not_read(&self, server: &ServerName, why: String) {
        let mut all = self.known();
        if let Some(known) = all.get_mut(server) {
            known.unread = Some(why);
        }
        self.settle(&mut all, server);
    }

    /// A server has been down for too long.
    fn leave_out(&self, server: &ServerName) {
        let mut all = self.known();
        let Some(known) = all.get_mut(server) else { return };
        if !known.left_out && known.offer.is_some() {
            known.left_out = true;
            self.show(&all);
        }
    }

    fn settle(&self, all: &mut BTreeMap<ServerName, Known>, server: &ServerName) {
        if let Some(known) = all.get_mut(server)
            && !known.settled
        {
            known.settled = true;
            self.unsettled.send_modify(|count| *count -= 1);
        }
    }

    /// Makes every endpoint's snapshots anew and tells what changed.
    fn show(&self, all: &BTreeMap<ServerName, Known>) {
        let endpoints = self.named.iter().map(|(name, place)| (Some(&**name), place));
        for (name, place) in [(None, &self.main)].into_iter().chain(endpoints) {
            let tenants = place.of.iter().map(|(tenant, shown)| (Some(tenant), shown));
            let mut changed = ChangedLists::default();
            for (tenant, shown) in [(None, &place.others)].into_iter().chain(tenants) {
                let lists = self.show_one(all, name, tenant, shown);
                changed.tools |= lists.tools;
                changed.prompts |= lists.prompts;
                changed.resources |= lists.resources;
            }
            if changed != ChangedLists::default() {
                self.hub.changed(name, changed);
            }
        }
    }

    /// Makes what an endpoint shows to one tenant, or to all that no terms name; answers what changed.
    fn show_one(
        &self,
        all: &BTreeMap<ServerName, Known>,
        endpoint: Option<&str>,
        tenant: Option<&TenantId>,
        shown: &ArcSwap<Snapshot>,
    ) -> ChangedLists {
        let Some(view) = self.options.endpoint(endpoint) else { return ChangedLists::default() };
        let admits = |terms: &ServerTerms| tenant.map_or(terms.tenants.is_none(), |tenant| terms.admits(tenant));
        let offers: Vec<Offered<'_>> = all
            .iter()
            .filter(|(_, known)| !known.left_out && admits(&known.terms))
            .filter_map(|(server, known)| Some((server, &**known.offer.as_ref()?)))
            .collect();
        let next = Arc::new(Snapshot::of(&self.options, view, &offers, &(self.own)(view.list)));
        let last = shown.swap(Arc::clone(&next));
        for clash in next.clashes.iter().filter(|clash| !last.clashes.contains(clash)) {
            let Clash { what, name: shared, claimed_by, shown } = clash;
            let endpoint = endpoint.unwrap_or_default();
            tracing::warn!(
                endpoint,
                what,
                name = shared,
                ?claimed_by,
                ?shown,
                "a name is claimed twice; set `naming` or `alias`"
            );
        }
        ChangedLists {
            tools: !next.tools.same_as(&last.tools),
            prompts: !next.prompts.same_as(&last.prompts),
            resources: !next.resources.same_as(&last.resources) || !next.templates.same_as(&last.templates),
        }
    }

    fn place(&self, endpoint: Option<&str>) -> Option<&Place> {
        match endpoint {
            None => Some(&self.main),
            Some(name) => self.named.get(name),
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<ServerName, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn grace(&self) -> Duration {
        self.options.grace
    }
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalog").field("named", &self.named.len()).finish_non_exhaustive()
    }
}
