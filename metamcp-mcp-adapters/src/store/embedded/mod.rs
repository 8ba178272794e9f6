//! The embedded store: durable jobs, results, events and records in one data directory, for one process, with no service to install.
//!
//! ```text
//! owner.lock      held for the life of the process; names its owner
//! journal.redb    jobs, events, records, result references: one table, one writer thread, group commit, two-phase with fsync
//! results/        bodies, named by their digest
//! ```
//! Live jobs are in memory, in [`metamcp_core::queue::Core`]; the journal holds a record of each, written before anybody is answered.

mod blobs;
mod codec;
mod events;
#[cfg(test)]
mod fixtures;
mod head;
mod jobs;
mod journal;
mod keys;
mod list;
mod lock;
mod records;
mod reopen;
mod results;
mod shared;
mod state;
mod verify;
mod writer;

use std::{fs, path::Path, sync::Arc};

use metamcp_core::{
    error::{StoreError, StoreErrorKind, StoreResult},
    queue::CoreLimits,
    time::Clock,
};

use self::{blobs::Blobs, journal::Journal, lock::OwnerLock, writer::Writer};
pub use self::{
    events::EmbeddedEventBus, jobs::EmbeddedJobStore, records::EmbeddedRecordStore, results::EmbeddedResultStore,
};

/// Events that are kept unless the options say otherwise.
pub const EVENTS_KEPT_MAX: u64 = 100_000;

/// The store's name in errors.
const STORE: &str = "embedded";
const RESULTS_DIR: &str = "results";

/// How a data directory is used.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EmbeddedOptions {
    /// Bounds and delays of the queue.
    pub limits: CoreLimits,
    /// Most events that are kept; some more may stay until the next trim.
    pub events_kept_max: u64,
    /// What a second process is told of this one, such as the command or the address it listens on.
    pub about: String,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self { limits: CoreLimits::default(), events_kept_max: EVENTS_KEPT_MAX, about: String::new() }
    }
}

/// What all views of one data directory share. The order of fields is the order of their end: the lock goes last.
#[derive(Debug)]
struct Engine {
    writer: Writer,
    journal: Arc<Journal>,
    clock: Arc<dyn Clock>,
    place: String,
    events_kept_max: u64,
    lock: Option<OwnerLock>,
}

impl Engine {
    fn start(
        journal: Journal,
        lock: Option<OwnerLock>,
        place: String,
        clock: Arc<dyn Clock>,
        options: &EmbeddedOptions,
    ) -> StoreResult<Arc<Self>> {
        let journal = Arc::new(journal);
        let writer = Writer::start(Arc::clone(&journal), Arc::clone(&clock), options.limits)?;
        Ok(Arc::new(Self { writer, journal, clock, place, events_kept_max: options.events_kept_max, lock }))
    }

    /// Runs what may wait for the disk on a thread that may.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let engine = Arc::clone(self);
        tokio::task::spawn_blocking(move || work(&engine)).await.map_err(|e| {
            let message = "the call was interrupted; the runtime is shutting down";
            StoreError::new(StoreErrorKind::Unavailable, STORE, message).with_source(e)
        })?
    }
}

/// One open data directory.
///
/// It stays open for as long as it, or one of its views, is there. The last one that is dropped waits for the writer to end what it was asked.
#[derive(Debug, Clone)]
pub struct EmbeddedStore {
    engine: Arc<Engine>,
    views: Views,
    results: Arc<EmbeddedResultStore>,
}

/// The views of a data directory that need nothing but its journal.
#[derive(Debug, Clone)]
#[doc(hidden)]
#[non_exhaustive]
pub struct Views {
    /// The queue.
    pub jobs: Arc<EmbeddedJobStore>,
    /// The events.
    pub events: Arc<EmbeddedEventBus>,
    /// The records.
    pub records: Arc<EmbeddedRecordStore>,
}

impl Views {
    fn new(engine: &Arc<Engine>) -> Self {
        Self {
            jobs: Arc::new(EmbeddedJobStore::new(Arc::clone(engine))),
            events: Arc::new(EmbeddedEventBus::new(Arc::clone(engine))),
            records: Arc::new(EmbeddedRecordStore::new(Arc::clone(engine))),
        }
    }
}

/// Makes the folder and those above it that are missing, for its owner alone: results may be anybody's secrets. A folder that is there keeps
/// its rights.
fn create_private(dir: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(dir)
}

impl EmbeddedStore {
    /// Opens a data directory, and makes it where there is none. Blocks for the time it takes to read all live jobs. Every lease of a
    /// process before is taken back.
    ///
    /// # Errors
    /// `Unavailable` when another process has the directory (its pid is named) or the disk refuses, `Corrupt` when what is stored there
    /// cannot be read, or was written by a newer build; nothing is overwritten then.
    pub fn open(dir: &Path, clock: Arc<dyn Clock>, options: &EmbeddedOptions) -> StoreResult<Self> {
        let failed = |e: std::io::Error| {
            let message = format!("cannot use {} as data directory; check its rights and space", dir.display());
            StoreError::new(StoreErrorKind::Unavailable, STORE, message).with_source(e)
        };
        create_private(dir).map_err(failed)?;
        let lock = OwnerLock::take(dir, clock.now(), &options.about)?;
        let journal = Journal::open(dir)?;
        let blobs = Arc::new(Blobs::open(dir.join(RESULTS_DIR)).map_err(failed)?);
        let engine = Engine::start(journal, Some(lock), dir.display().to_string(), clock, options)?;
        let results = Arc::new(EmbeddedResultStore::new(Arc::clone(&engine), blobs));
        Ok(Self { views: Views::new(&engine), engine, results })
    }

    /// Jobs, events and records on a storage of the caller's, without results and without a lock: for tests that cut its power.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    #[doc(hidden)]
    pub fn open_backend(
        backend: impl redb::StorageBackend,
        clock: Arc<dyn Clock>,
        options: &EmbeddedOptions,
    ) -> StoreResult<Views> {
        let journal = Journal::with_backend(backend)?;
        Ok(Views::new(&Engine::start(journal, None, "the given storage".to_owned(), clock, options)?))
    }

    /// The queue.
    #[must_use]
    pub fn jobs(&self) -> Arc<EmbeddedJobStore> {
        Arc::clone(&self.views.jobs)
    }

    /// The results.
    #[must_use]
    pub fn results(&self) -> Arc<EmbeddedResultStore> {
        Arc::clone(&self.results)
    }

    /// The events.
    #[must_use]
    pub fn events(&self) -> Arc<EmbeddedEventBus> {
        Arc::clone(&self.views.events)
    }

    /// The records.
    #[must_use]
    pub fn records(&self) -> Arc<EmbeddedRecordStore> {
        Arc::clone(&self.views.records)
    }

    /// Changes what a second process is told of this one, once more is known than at its start.
    ///
    /// # Errors
    /// When the lock file cannot be written.
    pub fn describe_owner(&self, about: &str) -> StoreResult<()> {
        self.engine.lock.as_ref().map_or(Ok(()), |lock| lock.describe(about))
    }
}
