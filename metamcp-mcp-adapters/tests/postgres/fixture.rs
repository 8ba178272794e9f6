//! What the tests share: a server, stores on it, and waiting without a clock in the verdict.

use std::time::Duration;

use metamcp_core::{
    error::{StoreError, StoreResult},
    id::Lane,
};
use metamcp_mcp_adapters::{
    store::postgres::{PostgresOptions, PostgresStore},
    testing::{PostgresServer, PostgresSetup},
};

/// The end of every wait, in seconds: a test that hangs must fail and say where.
const WAIT_S_MAX: u64 = 60;
/// Pause between two looks, in milliseconds.
const LOOK_MS: u64 = 10;

pub(crate) async fn server() -> PostgresServer {
    server_with(&[]).await
}

pub(crate) async fn server_with(settings: &[(&str, &str)]) -> PostgresServer {
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    PostgresServer::start(PostgresSetup { settings, ..PostgresSetup::default() }).await.expect("a server starts")
}

/// `url` with more parameters. Private servers run without fsync.
pub(crate) fn with(url: &str, parameters: &str) -> String {
    let join = if url.contains('?') { '&' } else { '?' };
    format!("{url}{join}{parameters}")
}

pub(crate) fn options(url: &str) -> PostgresOptions {
    PostgresOptions::parse(url).expect("a good address").with_allow_lossy(true)
}

pub(crate) async fn open(url: &str) -> PostgresStore {
    PostgresStore::open(&options(url)).await.expect("a store opens")
}

pub(crate) async fn refused(url: &str) -> StoreError {
    PostgresStore::open(&options(url)).await.expect_err("a store that must not open")
}

pub(crate) fn lane(name: &str) -> Lane {
    Lane::new(name).expect("a good lane")
}

pub(crate) async fn bounded<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(WAIT_S_MAX), work).await.unwrap_or_else(|_| panic!("{what} does not end"))
}

/// Asks again until it is so.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    bounded(what, async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
    })
    .await;
}

pub(crate) async fn listens(store: &PostgresStore) {
    let mut listening = store.notifier().listening();
    bounded("the listener", listening.wait_for(|up| *up)).await.expect("the store is there");
}

/// The one value of the one row.
pub(crate) async fn number(store: &PostgresStore, sql: &'static str) -> StoreResult<i32> {
    store.pools().write().query(sql, &[]).await.map(|rows| rows[0].get(0))
}
