//! Stores on PostgreSQL 15 or newer, for any number of processes that share one database.
//!
//! ```text
//! options     where the server is and how it is used                        address
//! connector   one connection: TLS, settings of the session, checks          tls
//! pool        connections for writes, and for reads that may be stale       error, backoff
//! migrate     the schema, in numbered files under an advisory lock           migrations/
//! notify      LISTEN and NOTIFY on a connection of its own                   wakes
//! health      what the server really gives
//! tx          one transaction, its statements in one flight                  locks, time
//! jobs        the job store
//! results     the result store
//! events      the event bus
//! records     the record store
//! ```
//! The server's clock is the only clock, every table is in one schema, and what is acknowledged is committed. LISTEN only saves time: who
//! waits polls as well.

mod address;
mod backoff;
mod connector;
mod error;
mod events;
mod health;
mod jobs;
mod locks;
mod migrate;
mod notify;
mod options;
mod pool;
mod records;
mod results;
mod time;
mod tls;
mod tx;
mod wakes;

use std::sync::Arc;

use metamcp_core::{
    error::{StoreError, StoreResult},
    id::Lane,
    queue::{CoreLimits, Durability, StoreHealth},
};

use self::{
    connector::{Connector, Purpose},
    time::Timekeeper,
    tx::{Act, InTx},
};
pub use self::{
    events::{EVENTS_KEPT_MAX, PostgresEventBus},
    health::{PostgresHealth, TRANSACTION_AGE_S_MAX},
    jobs::PostgresJobStore,
    migrate::{MIGRATION_LOCK_TIMEOUT_MS, MIGRATION_STATEMENT_TIMEOUT_MS, MIGRATIONS, Migration, migrate},
    notify::{LISTEN_PING_MS, NOTIFY_GAP_MS, Notifier},
    options::{
        CONNECT_MS, CONNECT_MS_MAX, POOL_SIZE, POOL_SIZE_MAX, PostgresOptions, SCHEMA, SCHEMA_BYTES_MAX, STATEMENT_MS,
        STATEMENT_MS_MAX,
    },
    pool::{Parameters, Pool, Pools, RETRIES_MAX, Session, Work},
    records::PostgresRecordStore,
    results::{POSTGRES_RESULT_BYTES_MAX, PostgresResultStore},
    wakes::Waiter,
};

/// The store's name in errors.
const STORE: &str = "postgres";

/// Bounds and delays of the stores. The same for all processes of a schema.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PostgresTerms {
    /// Bounds and delays of the queue. A lane may come to hold a few more jobs than its bound when several processes enqueue at once.
    pub limits: CoreLimits,
    /// Most events that are kept; some more may stay until the next trim.
    pub events_kept_max: u64,
}

impl Default for PostgresTerms {
    fn default() -> Self {
        Self { limits: CoreLimits::default(), events_kept_max: EVENTS_KEPT_MAX }
    }
}

/// What all views of one schema share.
#[derive(Debug)]
struct Engine {
    pools: Pools,
    notifier: Notifier,
    time: Timekeeper,
    terms: PostgresTerms,
    durability: Durability,
}

impl Engine {
    fn schema(&self) -> &str {
        self.pools.write().schema()
    }

    /// Runs a transaction, and again when another one was in its way.
    async fn transact<A: Act>(&self, act: A) -> StoreResult<A::Output> {
        // On the heap: what a transaction holds would make every future around it large.
        Box::pin(self.pools.write().call(InTx(act))).await?
    }

    /// Tells of lanes that jobs became ready in, once that is committed.
    fn wake<'l>(&self, lanes: impl IntoIterator<Item = &'l Lane>) {
        self.notifier.ready(lanes);
    }

    /// A failure of the server, or an answer that cannot be read.
    fn failed(&self, error: tokio_postgres::Error) -> StoreError {
        error::of_call(error, self.pools.write().place())
    }

    async fn health(&self) -> StoreResult<StoreHealth> {
        let pool = self.pools.write();
        let listening = *self.notifier.listening().borrow();
        Ok(PostgresHealth::of(pool).await?.report(pool.place(), listening))
    }
}

/// One schema of one database, ready for use.
///
/// It is cheap to clone. The connections are closed when the last clone and the last view of it are dropped.
#[derive(Debug, Clone)]
pub struct PostgresStore {
    engine: Arc<Engine>,
    jobs: Arc<PostgresJobStore>,
    results: Arc<PostgresResultStore>,
    events: Arc<PostgresEventBus>,
    records: Arc<PostgresRecordStore>,
}

impl PostgresStore {
    /// Connects, checks the server, brings the schema to this version and starts to listen.
    ///
    /// # Errors
    /// `Unavailable` when the server cannot be reached, does not let this user in, is too old or takes no writes. `Invalid` when it is set
    /// to lose data and the options do not allow that, or when the schema is newer than this program.
    pub async fn open(options: &PostgresOptions) -> StoreResult<Self> {
        Self::open_with(options, PostgresTerms::default()).await
    }

    /// As [`open`](Self::open), with other bounds and delays than the usual ones.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_with(options: &PostgresOptions, terms: PostgresTerms) -> StoreResult<Self> {
        Self::start(options, terms, Timekeeper::default()).await
    }

    /// As [`open_with`](Self::open_with), on this clock in place of the database's: for tests that move the time.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    pub async fn open_on_clock(
        options: &PostgresOptions,
        terms: PostgresTerms,
        clock: Arc<dyn metamcp_core::time::Clock>,
    ) -> StoreResult<Self> {
        Self::start(options, terms, Timekeeper::given(clock)).await
    }

    async fn start(options: &PostgresOptions, terms: PostgresTerms, time: Timekeeper) -> StoreResult<Self> {
        let pools = Pools::open(options).await?;
        let health = PostgresHealth::of(pools.write()).await?;
        if !options.allow_lossy {
            health.refuse_lossy(pools.write().place())?;
        }
        for warning in health.warnings() {
            tracing::warn!(place = pools.write().place(), "{warning}");
        }
        migrate(pools.write(), MIGRATIONS).await?;
        let line = Connector::new(options, &options.write, Purpose::Write)?;
        let notifier = Notifier::start(line, &options.schema);
        let durability = health.durability();
        let engine = Arc::new(Engine { pools, notifier, time, terms, durability });
        let shared = || Arc::clone(&engine);
        Ok(Self {
            jobs: Arc::new(PostgresJobStore::new(shared())),
            results: Arc::new(PostgresResultStore::new(shared())),
            events: Arc::new(PostgresEventBus::new(shared())),
            records: Arc::new(PostgresRecordStore::new(shared())),
            engine,
        })
    }

    /// The queue.
    #[must_use]
    pub fn jobs(&self) -> Arc<PostgresJobStore> {
        Arc::clone(&self.jobs)
    }

    /// The results.
    #[must_use]
    pub fn results(&self) -> Arc<PostgresResultStore> {
        Arc::clone(&self.results)
    }

    /// The events.
    #[must_use]
    pub fn events(&self) -> Arc<PostgresEventBus> {
        Arc::clone(&self.events)
    }

    /// The records.
    #[must_use]
    pub fn records(&self) -> Arc<PostgresRecordStore> {
        Arc::clone(&self.records)
    }

    /// Its connections.
    #[must_use]
    pub fn pools(&self) -> &Pools {
        &self.engine.pools
    }

    /// What tells other processes of news, and hears from them.
    #[must_use]
    pub fn notifier(&self) -> &Notifier {
        &self.engine.notifier
    }

    /// What the server really gives.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn health(&self) -> StoreResult<StoreHealth> {
        self.engine.health().await
    }
}
