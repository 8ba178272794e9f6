//! The views of one namespace: jobs, results, events, records.

use std::{fmt, sync::Arc};

use metamcp_core::{error::StoreResult, time::Clock};

use super::{
    events::RedisEventBus,
    jobs::RedisJobStore,
    namespace::{Namespace, RedisStoreOptions},
    records::RedisRecordStore,
    results::RedisResultStore,
};

/// One namespace of a Redis, open.
///
/// Any number of processes may have it open. Connections are closed when it and all its views are dropped.
#[derive(Clone)]
pub struct RedisStore {
    namespace: Arc<Namespace>,
    jobs: Arc<RedisJobStore>,
    results: Arc<RedisResultStore>,
    events: Arc<RedisEventBus>,
    records: Arc<RedisRecordStore>,
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl RedisStore {
    /// Connects, and looks whether the server keeps what it is given. Needs a tokio runtime that stays.
    ///
    /// # Errors
    /// `Invalid` for options out of their bounds and for a server that is set up to lose jobs, unless that is allowed; `Closed` when it asks
    /// for another login; `Unavailable` when it cannot be used now; `Corrupt` when the namespace was written by a newer version.
    pub async fn connect(options: RedisStoreOptions) -> StoreResult<Self> {
        Self::open(options, None).await
    }

    /// As [`connect`](Self::connect), with a clock in place of the server's.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    #[cfg(feature = "testing")]
    pub async fn connect_with_clock(options: RedisStoreOptions, clock: Arc<dyn Clock>) -> StoreResult<Self> {
        Self::open(options, Some(clock)).await
    }

    async fn open(options: RedisStoreOptions, clock: Option<Arc<dyn Clock>>) -> StoreResult<Self> {
        let namespace = Namespace::open(options, clock).await?;
        Ok(Self {
            jobs: Arc::new(RedisJobStore::new(Arc::clone(&namespace))),
            results: Arc::new(RedisResultStore::new(Arc::clone(&namespace))),
            events: Arc::new(RedisEventBus::new(Arc::clone(&namespace))),
            records: Arc::new(RedisRecordStore::new(Arc::clone(&namespace))),
            namespace,
        })
    }

    /// The queue.
    #[must_use]
    pub fn jobs(&self) -> Arc<RedisJobStore> {
        Arc::clone(&self.jobs)
    }

    /// The results.
    #[must_use]
    pub fn results(&self) -> Arc<RedisResultStore> {
        Arc::clone(&self.results)
    }

    /// The events.
    #[must_use]
    pub fn events(&self) -> Arc<RedisEventBus> {
        Arc::clone(&self.events)
    }

    /// The records.
    #[must_use]
    pub fn records(&self) -> Arc<RedisRecordStore> {
        Arc::clone(&self.records)
    }
}
