//! What the tests of the connection layer share.

use std::{future::Future, time::Duration};

use metamcp_core::error::{StoreError, StoreResult};
use metamcp_mcp_adapters::{
    store::redis::{RedisOptions, RedisPool, Script, WhenFull},
    testing::{RedisServer, RedisSetup},
};

/// Longest that anything is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(20);

pub(crate) async fn server(setup: RedisSetup) -> RedisServer {
    RedisServer::start(setup).await.expect("a Redis starts")
}

/// An address with one more parameter.
pub(crate) fn with(url: &str, parameter: &str) -> String {
    format!("{url}{}{parameter}", if url.contains('?') { '&' } else { '?' })
}

pub(crate) async fn open(url: &str) -> RedisPool {
    try_open(url).await.expect("the pool opens")
}

pub(crate) async fn try_open(url: &str) -> StoreResult<RedisPool> {
    RedisPool::open(RedisOptions::parse(url)?).await
}

pub(crate) async fn refused(url: &str) -> StoreError {
    try_open(url).await.expect_err("it is refused")
}

/// Adds one to a counter and answers with it: what was done twice is seen.
pub(crate) fn count() -> Script {
    Script::new(
        "count",
        WhenFull::Refuse,
        &["local key = KEYS[1] .. ':count'", "return redis.call('INCRBY', key, ARGV[1])"],
    )
}

pub(crate) async fn add(pool: &RedisPool, script: &Script, by: i64) -> StoreResult<i64> {
    pool.run(&script.call(&[&pool.options().tag()]).arg(by)).await
}

pub(crate) async fn ping(pool: &RedisPool) -> StoreResult<String> {
    pool.query(&redis::cmd("PING")).await
}

/// Waits for what must happen, however slow the machine is.
pub(crate) async fn bounded<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("{what} did not happen"))
}

/// Repeats a call until it goes well; each failure before must say that repeating helps.
pub(crate) async fn healed<T>(what: &str, mut call: impl AsyncFnMut() -> StoreResult<T>) -> T {
    let until_well = async {
        loop {
            match call().await {
                Ok(answer) => return answer,
                Err(error) => assert!(error.is_retryable(), "{what}: {error}"),
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    bounded(what, until_well).await
}

/// Looks until something holds.
pub(crate) async fn holds(what: &str, mut look: impl AsyncFnMut() -> bool) {
    let looks = async {
        while !look().await {
            tokio::time::sleep(LOOK).await;
        }
    };
    bounded(what, looks).await;
}
