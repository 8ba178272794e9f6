//! Opens the stores that configuration names.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result};
use metamcp_core::{
    error::{StoreError, StoreErrorKind},
    event::{BatchedEventBus, EventBus, MemoryEventBus},
    queue::{BatchedJobStore, JobStore, MemoryJobStore},
    record::{MemoryRecordStore, RecordStore},
    result::{CacheOptions, CachedResultStore, MemoryResultStore, ResultStore, TieredResultStore},
    time::{Clock, SystemClock},
};
use metamcp_mcp_adapters::store::{
    embedded::{EmbeddedOptions, EmbeddedStore},
    objects::{ObjectOptions, ObjectPlace, ObjectResultStore},
    postgres::{PostgresOptions, PostgresStore},
    redis::{RedisOptions, RedisStore},
};

use crate::config::{Address, Config, StoreKind};

/// Everything that outlives a process, or is shared by several.
#[derive(Debug, Clone)]
pub struct Stores {
    /// The queue.
    pub jobs: Arc<dyn JobStore>,
    /// The results.
    pub results: Arc<dyn ResultStore>,
    /// The events.
    pub events: Arc<dyn EventBus>,
    /// The records.
    pub records: Arc<dyn RecordStore>,
    /// Where that is, for people; without what logs in.
    pub place: String,
    pub(super) directory: Option<EmbeddedStore>,
}

impl Stores {
    /// Lets go of everything; waits for what is still to be written.
    pub async fn close(self) {
        // The last view of a directory waits for its writer.
        if let Err(error) = tokio::task::spawn_blocking(move || drop(self)).await {
            tracing::error!(%error, "the store did not close well");
        }
    }
}

/// Opens what `config` names.
///
/// # Errors
/// When it cannot be used; [`is_down`] tells whether it may be later.
pub async fn open(config: &Config) -> Result<Stores> {
    let mut stores = match &config.store {
        StoreKind::Memory => memory(),
        StoreKind::Embedded => directory(config)?,
        StoreKind::Shared(address) if address.is_postgres() => postgres(address, config).await?,
        StoreKind::Shared(address) => redis(address).await?,
    };
    if let Some(url) = &config.results.url {
        let large = objects(url).context("results.url")?;
        let small = Arc::clone(&stores.results);
        stores.results = Arc::new(TieredResultStore::new(small, large, config.results.inline_bytes_max));
    }
    if config.store.is_shared() || config.results.url.is_some() {
        let mut options = CacheOptions::default();
        options.bytes_max = config.results.cache_bytes_max;
        if options.bytes_max > 0 {
            stores.results = Arc::new(CachedResultStore::new(stores.results, &options));
        }
    }
    Ok(stores)
}

/// Whether an error of [`open`] says that the store is only not there yet.
#[must_use]
pub fn is_down(error: &anyhow::Error) -> bool {
    error.downcast_ref::<StoreError>().is_some_and(|error| error.kind() == StoreErrorKind::Unavailable)
}

fn memory() -> Stores {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    Stores {
        jobs: Arc::new(MemoryJobStore::new(Arc::clone(&clock))),
        results: Arc::new(MemoryResultStore::new()),
        events: Arc::new(MemoryEventBus::new(Arc::clone(&clock))),
        records: Arc::new(MemoryRecordStore::new(clock)),
        place: "memory".to_owned(),
        directory: None,
    }
}

fn directory(config: &Config) -> Result<Stores> {
    let mut options = EmbeddedOptions::default();
    options.about = "a metamcp command".to_owned();
    let path = &config.server.data_dir;
    let store = EmbeddedStore::open(path, Arc::new(SystemClock::default()), &options)?;
    Ok(Stores {
        jobs: store.jobs(),
        results: store.results(),
        events: store.events(),
        records: store.records(),
        place: std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path)).display().to_string(),
        directory: Some(store),
    })
}

async fn redis(address: &Address) -> Result<Stores> {
    let options = RedisOptions::parse(address.expose())?;
    let place = options.to_string();
    let store = RedisStore::connect(options.into()).await?;
    Ok(Stores {
        jobs: Arc::new(BatchedJobStore::new(store.jobs())),
        results: store.results(),
        events: Arc::new(BatchedEventBus::new(store.events())),
        records: store.records(),
        place,
        directory: None,
    })
}

async fn postgres(address: &Address, config: &Config) -> Result<Stores> {
    let mut options = PostgresOptions::parse(address.expose())?;
    if let Some(read) = &config.store_read_url {
        options = options.with_read_url(read.expose()).context("store_read_url")?;
    }
    let store = PostgresStore::open(&options).await?;
    Ok(Stores {
        jobs: Arc::new(BatchedJobStore::new(store.jobs())),
        results: store.results(),
        events: Arc::new(BatchedEventBus::new(store.events())),
        records: store.records(),
        place: address.to_string(),
        directory: None,
    })
}

fn objects(address: &Address) -> Result<Arc<dyn ResultStore>> {
    let place: ObjectPlace = address.expose().parse()?;
    let store = ObjectResultStore::open(&place, Arc::new(SystemClock::default()), &ObjectOptions::default())?;
    Ok(Arc::new(store))
}
