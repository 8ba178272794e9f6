//! The behaviour suites of the traits.

use std::sync::Arc;

use metamcp_core::{
    result::{MemoryResultStore, TieredResultStore},
    testing::{
        event_bus::EventBusFixture, job_store::JobStoreFixture, record_store::RecordStoreFixture,
        result_store::ResultStoreFixture,
    },
};
use metamcp_mcp_adapters::store::postgres::POSTGRES_RESULT_BYTES_MAX;

use crate::fixture::fresh;

async fn job_store() -> JobStoreFixture {
    let (server, clock, store) = fresh().await;
    JobStoreFixture::new(store.jobs(), clock, server)
}

/// As it is deployed: what is too large for PostgreSQL goes elsewhere.
async fn result_store() -> ResultStoreFixture {
    let (server, _, store) = fresh().await;
    let large = Arc::new(MemoryResultStore::new());
    let tiered = TieredResultStore::new(store.results(), large, POSTGRES_RESULT_BYTES_MAX);
    ResultStoreFixture::new(Arc::new(tiered), server)
}

async fn event_bus() -> EventBusFixture {
    let (server, _, store) = fresh().await;
    EventBusFixture::new(store.events(), server)
}

async fn record_store() -> RecordStoreFixture {
    let (server, clock, store) = fresh().await;
    RecordStoreFixture::new(store.records(), clock, server)
}

mod jobs {
    metamcp_core::job_store_suite!(super::job_store);
}
mod results {
    metamcp_core::result_store_suite!(super::result_store);
}
mod events {
    metamcp_core::event_bus_suite!(super::event_bus);
}
mod records {
    metamcp_core::record_store_suite!(super::record_store);
    metamcp_core::history_suite!(super::record_store);
}
