//! Every behaviour and the comparison with the model on a cluster of three masters and three replicas. All of a suite is one test: a cluster
//! takes seconds to start.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use metamcp_core::testing::{
    ManualClock, event_bus::EventBusFixture, job_store::JobStoreFixture, record_store::RecordStoreFixture,
    result_store::ResultStoreFixture,
};
use metamcp_mcp_adapters::{
    store::redis::RedisStore,
    testing::{RedisCluster, RedisSetup},
};

use crate::{
    fixture::{open, with},
    model::compare,
};

/// Runs of the comparison.
const RUNS: u32 = 25;

/// A namespace of its own, so a slot of its own, on the one cluster of a test.
async fn fresh(cluster: &mut Option<RedisCluster>) -> (Arc<ManualClock>, RedisStore) {
    static CASE: AtomicU64 = AtomicU64::new(0);
    if cluster.is_none() {
        *cluster = Some(RedisCluster::start(RedisSetup::default()).await.expect("a cluster starts"));
    }
    let url = cluster.as_ref().expect("it was started").url();
    let namespace = format!("namespace=case-{}", CASE.fetch_add(1, Ordering::Relaxed));
    let clock = ManualClock::new();
    let store = open(&with(&url, &namespace), &clock).await;
    (clock, store)
}

async fn job_store(cluster: &mut Option<RedisCluster>) -> JobStoreFixture {
    let (clock, store) = fresh(cluster).await;
    JobStoreFixture::new(store.jobs(), clock, ())
}

async fn result_store(cluster: &mut Option<RedisCluster>) -> ResultStoreFixture {
    ResultStoreFixture::new(fresh(cluster).await.1.results(), ())
}

async fn event_bus(cluster: &mut Option<RedisCluster>) -> EventBusFixture {
    EventBusFixture::new(fresh(cluster).await.1.events(), ())
}

async fn record_store(cluster: &mut Option<RedisCluster>) -> RecordStoreFixture {
    let (clock, store) = fresh(cluster).await;
    RecordStoreFixture::new(store.records(), clock, ())
}

mod jobs {
    metamcp_core::job_store_suite!(super::job_store, behaviours_in_one);
}
mod results {
    metamcp_core::result_store_suite!(super::result_store, behaviours_in_one);
}
mod events {
    metamcp_core::event_bus_suite!(super::event_bus, behaviours_in_one);
}
mod records {
    metamcp_core::record_store_suite!(super::record_store, behaviours_in_one);
}

#[test]
fn the_store_answers_as_the_model_does() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cluster = runtime.block_on(RedisCluster::start(RedisSetup::default())).expect("a cluster starts");
    compare(&cluster.url(), &runtime, RUNS);
}
