//! What the tests share: one server for each test process, and a schema of its own for each store.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use metamcp_core::{
    auth::Principal,
    error::StoreResult,
    id::{Lane, WorkerId},
    pointer::{Digest, ResultPointer},
    queue::{Final, Finish, LeaseKey, LeaseRequest},
    testing::{ManualClock, event_bus::SUITE_EVENTS_KEPT, job_store::suite_limits},
};
use metamcp_mcp_adapters::{
    store::postgres::{PostgresOptions, PostgresStore, PostgresTerms},
    testing::{PostgresServer, PostgresSetup},
};
use tokio::sync::Mutex;

/// The end of every wait, in seconds: a test that hangs must fail and say where.
const WAIT_S_MAX: u64 = 60;
/// Pause between two tries, in milliseconds.
const LOOK_MS: u64 = 10;

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

/// The name of a schema that nobody has used.
pub(crate) fn fresh_schema() -> String {
    static SCHEMAS: AtomicU64 = AtomicU64::new(1);
    format!("case_{}", SCHEMAS.fetch_add(1, Ordering::Relaxed))
}

/// A schema at an address; private servers run without fsync.
pub(crate) fn at(url: &str, schema: &str) -> PostgresOptions {
    PostgresOptions::parse(&format!("{url}?allow_lossy=true&schema={schema}")).expect("a good address")
}

/// The terms that suites ask for.
pub(crate) fn terms() -> PostgresTerms {
    let mut terms = PostgresTerms::default();
    terms.limits = suite_limits();
    terms.events_kept_max = SUITE_EVENTS_KEPT as u64;
    terms
}

/// A store in a fresh schema of the shared server, on a manual clock.
pub(crate) async fn fresh() -> (Arc<PostgresServer>, Arc<ManualClock>, PostgresStore) {
    let (server, clock) = (shared_server().await, ManualClock::new());
    let options = at(&server.url(), &fresh_schema());
    let store = PostgresStore::open_on_clock(&options, terms(), Arc::clone(&clock) as _).await.expect("a store opens");
    (server, clock, store)
}

/// A store on the server's own clock.
pub(crate) async fn open(options: &PostgresOptions) -> PostgresStore {
    PostgresStore::open(options).await.expect("a store opens")
}

pub(crate) fn worker(name: &str) -> WorkerId {
    WorkerId::new(name).expect("a good name")
}

/// A wish for jobs of lane `light`, with a request and a nonce that nobody else has.
pub(crate) fn want(by: &str, max: u16) -> LeaseRequest {
    static REQUESTS: AtomicU64 = AtomicU64::new(1);
    let request = REQUESTS.fetch_add(1, Ordering::Relaxed);
    LeaseRequest {
        lanes: vec![Lane::light()],
        max,
        visibility: Duration::from_secs(600),
        worker: worker(by),
        request,
        nonce: request.wrapping_mul(0x9E37_79B9_7F4A_7C15),
        shares: Arc::default(),
    }
}

/// The end of a lease with a result.
pub(crate) fn done(lease: LeaseKey) -> Finish {
    let result = ResultPointer { tenant: Principal::local().tenant, job: lease.job, digest: Digest::of(b"3") };
    Finish { lease, end: Final::Done(result) }
}

/// Repeats a call for as long as repeating can help.
pub(crate) async fn persist<T, F: Future<Output = StoreResult<T>>>(mut call: impl FnMut() -> F) -> T {
    bounded("a call", async {
        loop {
            match call().await {
                Ok(answer) => return answer,
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
    })
    .await
}

/// Starts a killed server again. The system may need a moment to see that nobody uses the memory of the old one.
pub(crate) async fn restart(server: &mut PostgresServer) {
    bounded("the restart", async {
        while let Err(error) = server.restart().await {
            assert!(error.to_string().contains("shared memory block"), "{error}");
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
    })
    .await;
}

pub(crate) async fn bounded<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(WAIT_S_MAX), work).await.unwrap_or_else(|_| panic!("{what} does not end"))
}
