//! What the tests of the stores share: a server, and a namespace of it on a manual clock.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use metamcp_core::{
    error::StoreResult,
    pointer::ResultPointer,
    testing::{ManualClock, event_bus::SUITE_EVENTS_KEPT, job_store::suite_limits},
};
use metamcp_mcp_adapters::{
    store::redis::{RedisOptions, RedisStore, RedisStoreOptions},
    testing::{RedisServer, RedisSetup},
};

/// Largest body of the suites, in bytes.
const SUITE_BODY_BYTES: usize = 3_000_000;

pub(crate) async fn server(setup: RedisSetup) -> RedisServer {
    RedisServer::start(setup).await.expect("a Redis starts")
}

/// An address with one more parameter.
pub(crate) fn with(url: &str, parameter: &str) -> String {
    format!("{url}{}{parameter}", if url.contains('?') { '&' } else { '?' })
}

/// Options as the suites ask for them.
pub(crate) fn suite_options(url: &str) -> StoreResult<RedisStoreOptions> {
    let mut options = RedisStoreOptions::from(RedisOptions::parse(url)?);
    options.limits = suite_limits();
    options.events_kept_max = SUITE_EVENTS_KEPT as u64;
    options.result_bytes_max = SUITE_BODY_BYTES;
    Ok(options)
}

/// A store on a clock of the test's.
pub(crate) async fn open(url: &str, clock: &Arc<ManualClock>) -> RedisStore {
    let clock = Arc::<ManualClock>::clone(clock);
    RedisStore::connect_with_clock(suite_options(url).expect("a good address"), clock).await.expect("the store opens")
}

/// A server of its own, a store on it, and the store's clock.
pub(crate) async fn fresh() -> (RedisServer, Arc<ManualClock>, RedisStore) {
    fresh_with(RedisSetup::default()).await
}

/// As [`fresh`], the server set up like this.
pub(crate) async fn fresh_with(setup: RedisSetup) -> (RedisServer, Arc<ManualClock>, RedisStore) {
    let (server, clock) = (server(setup).await, ManualClock::new());
    let store = open(&server.url(), &clock).await;
    (server, clock, store)
}

/// The key of a result's body.
pub(crate) fn body_key(pointer: &ResultPointer) -> String {
    format!("{{metamcp}}:body:{}:{}", pointer.tenant, URL_SAFE_NO_PAD.encode(pointer.digest.as_bytes()))
}
