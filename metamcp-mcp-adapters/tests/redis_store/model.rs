//! Random calls on the store and on the memory model, compared after each of them.

use std::{
    num::NonZeroU16,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use metamcp_core::{
    queue::{JobStore as _, Maintained},
    testing::{
        ManualClock,
        model::{Caller, Op, compare_with_model, ops},
    },
};
use metamcp_mcp_adapters::{
    store::redis::{RedisOptions, RedisPool, RedisStore, RedisStoreOptions},
    testing::RedisSetup,
};
use proptest::{prelude::*, test_runner::TestCaseError, test_runner::TestRunner};

use crate::fixture::{server, with};

/// Calls of one run.
const OPS_MAX: usize = 60;
/// Longer than any span that is drawn.
const LONG: Duration = Duration::from_secs(1_000);
/// Runs on one server.
const RUNS: u32 = 200;

async fn same_as_model(url: &str, ops: &[Op]) -> Result<(), String> {
    static RUN: AtomicU64 = AtomicU64::new(0);
    let namespace = format!("namespace=run-{}", RUN.fetch_add(1, Ordering::Relaxed));
    let options = RedisOptions::parse(&with(&with(url, &namespace), "pool=1")).unwrap();
    let clock = ManualClock::new();
    let tag = options.tag();
    let store = RedisStore::connect_with_clock(RedisStoreOptions::from(options.clone()), Arc::clone(&clock) as _).await;
    let store = store.map_err(|error| error.to_string())?;
    compare_with_model(store.jobs().as_ref(), &clock, ops).await?;
    nothing_is_left(&store, &clock, &RedisPool::open(options).await.unwrap(), &tag).await
}

/// When all jobs have ended and were removed, nothing but what goes by itself is left of them.
async fn nothing_is_left(store: &RedisStore, clock: &ManualClock, pool: &RedisPool, tag: &str) -> Result<(), String> {
    let jobs = store.jobs();
    for lane in Caller::lanes() {
        jobs.pause(&lane, false).await.unwrap();
    }
    for job in Caller::jobs() {
        jobs.cancel(job, "the end").await.unwrap();
    }
    clock.advance(LONG);
    while jobs.maintain(NonZeroU16::MAX).await.unwrap() != Maintained::default() {
        clock.advance(LONG);
    }
    let keys: Vec<String> = pool.query(redis::cmd("KEYS").arg(format!("{tag}:*"))).await.unwrap();
    let stays = |key: &str| {
        let name = key.strip_prefix(tag).unwrap_or(key);
        name == ":format" || name.starts_with(":g:") || name.starts_with(":rate:")
    };
    let left: Vec<&String> = keys.iter().filter(|key| !stays(key)).collect();
    if left.is_empty() { Ok(()) } else { Err(format!("{left:?} are left of no jobs")) }
}

/// Draws runs and makes them against one server.
pub(crate) fn compare(url: &str, runtime: &tokio::runtime::Runtime, runs: u32) {
    let mut runner =
        TestRunner::new(ProptestConfig { cases: runs, failure_persistence: None, ..ProptestConfig::default() });
    let run = runner.run(&ops(OPS_MAX), |ops| runtime.block_on(same_as_model(url, &ops)).map_err(TestCaseError::fail));
    if let Err(error) = run {
        panic!("{error}");
    }
}

#[test]
fn the_store_answers_as_the_model_does() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(server(RedisSetup::default()));
    compare(&server.url(), &runtime, RUNS);
}
