//! Opens a shared store by its address, as the server does.

use std::sync::Arc;

use metamcp_core::{
    event::{BatchedEventBus, EventBus},
    queue::{BatchedJobStore, JobStore},
    record::RecordStore,
    result::ResultStore,
};
use metamcp_mcp_adapters::store::{
    postgres::{PostgresOptions, PostgresStore},
    redis::{RedisOptions, RedisStore},
};

/// The views of one store.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The queue.
    pub jobs: Arc<dyn JobStore>,
    /// The results.
    pub results: Arc<dyn ResultStore>,
    /// The events.
    pub events: Arc<dyn EventBus>,
    /// The records.
    pub records: Arc<dyn RecordStore>,
}

/// Opens `redis…://` or `postgres://`.
///
/// # Panics
/// When it cannot be opened: a bench has nobody to tell.
pub async fn open(url: &str) -> Shared {
    if url.starts_with("postgres") {
        let options = PostgresOptions::parse(url).expect("an address");
        let store = PostgresStore::open(&options).await.expect("a store");
        return Shared {
            jobs: Arc::new(BatchedJobStore::new(store.jobs())),
            results: store.results(),
            events: Arc::new(BatchedEventBus::new(store.events())),
            records: store.records(),
        };
    }
    let options = RedisOptions::parse(url).expect("an address");
    let store = RedisStore::connect(options.into()).await.expect("a store");
    Shared {
        jobs: Arc::new(BatchedJobStore::new(store.jobs())),
        results: store.results(),
        events: Arc::new(BatchedEventBus::new(store.events())),
        records: store.records(),
    }
}
