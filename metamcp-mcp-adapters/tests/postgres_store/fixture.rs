//! What the tests share: one server for each test process, and a schema of its own for each store.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicU64, Ordering},
};

use metamcp_core::{
    testing::{ManualClock, event_bus::SUITE_EVENTS_KEPT, job_store::suite_limits},
    time::Clock,
};
use metamcp_mcp_adapters::{
    store::postgres::{PostgresOptions, PostgresStore, PostgresTerms},
    testing::{PostgresServer, PostgresSetup},
};
use tokio::sync::Mutex;

/// The server of this process, for as long as somebody uses it.
pub(crate) async fn shared_server() -> Arc<PostgresServer> {
    static SERVER: Mutex<Weak<PostgresServer>> = Mutex::const_new(Weak::new());
    let mut shared = SERVER.lock().await;
    if let Some(server) = shared.upgrade() {
        return server;
    }
    let server = Arc::new(PostgresServer::start(PostgresSetup::default()).await.expect("a server starts"));
    *shared = Arc::downgrade(&server);
    server
}

/// The address of a schema that nobody has used.
pub(crate) fn fresh_schema(url: &str) -> String {
    static SCHEMAS: AtomicU64 = AtomicU64::new(1);
    format!("{url}?allow_lossy=true&schema=case_{}", SCHEMAS.fetch_add(1, Ordering::Relaxed))
}

/// The terms that suites ask for.
pub(crate) fn terms() -> PostgresTerms {
    let mut terms = PostgresTerms::default();
    terms.limits = suite_limits();
    terms.events_kept_max = SUITE_EVENTS_KEPT as u64;
    terms
}

pub(crate) async fn open_on(url: &str, terms: PostgresTerms, clock: Arc<dyn Clock>) -> PostgresStore {
    let options = PostgresOptions::parse(url).expect("a good address");
    PostgresStore::open_on_clock(&options, terms, clock).await.expect("a store opens")
}

/// A store in a fresh schema of the shared server, on a manual clock.
pub(crate) async fn fresh() -> (Arc<PostgresServer>, Arc<ManualClock>, PostgresStore) {
    let (server, clock) = (shared_server().await, ManualClock::new());
    let store = open_on(&fresh_schema(&server.url()), terms(), Arc::clone(&clock) as _).await;
    (server, clock, store)
}
