//! Tells the readers of this process that there may be new events: one connection of the process blocks on the stream, as long as somebody
//! reads.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use redis::{RedisResult, Value};
use tokio::{
    sync::{Notify, futures::Notified},
    task::JoinHandle,
};

use super::{
    error::store_error,
    link::{Connector, Link},
    pool::RedisPool,
};

/// How long one call blocks at most, in milliseconds.
const BLOCK_MS: u64 = 5_000;
/// The first pause after a failure is drawn below this, in milliseconds; the bound doubles with each failure.
const PAUSE_MS: u64 = 100;
/// No pause is drawn above this, in milliseconds.
const PAUSE_MS_MAX: u64 = 5_000;

#[derive(Debug, Default)]
struct Bell {
    rung: Notify,
    listeners: AtomicUsize,
    joined: Notify,
}

/// Rings when there may be new events. Dropping it closes its connection.
#[derive(Debug)]
pub(super) struct News {
    bell: Arc<Bell>,
    task: JoinHandle<()>,
}

impl News {
    /// Starts. It connects once somebody listens.
    pub(super) fn start(pool: &RedisPool, stream: String, cursor: String) -> Self {
        let bell = Arc::new(Bell::default());
        let response = Duration::from_millis(BLOCK_MS) + pool.options().response_timeout;
        let watcher =
            Watcher { connector: pool.connector().clone(), bell: Arc::clone(&bell), response, stream, cursor };
        Self { bell, task: tokio::spawn(watcher.run()) }
    }

    /// Wakes all who listen.
    pub(super) fn ring(&self) {
        self.bell.rung.notify_waiters();
    }

    /// Somebody listens until this is dropped.
    pub(super) fn listen(&self) -> Listener<'_> {
        self.bell.listeners.fetch_add(1, Ordering::AcqRel);
        self.bell.joined.notify_one();
        Listener(&self.bell)
    }
}

impl Drop for News {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Somebody who listens.
#[derive(Debug)]
pub(super) struct Listener<'a>(&'a Bell);

impl Listener<'_> {
    /// Ends with the next ring after it was enabled.
    pub(super) fn rung(&self) -> Notified<'_> {
        self.0.rung.notified()
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        self.0.listeners.fetch_sub(1, Ordering::AcqRel);
    }
}

struct Watcher {
    connector: Connector,
    bell: Arc<Bell>,
    response: Duration,
    stream: String,
    cursor: String,
}

impl Watcher {
    async fn run(self) {
        let mut failures = 0_u32;
        loop {
            self.somebody().await;
            let Err(error) = self.watch(&mut failures).await;
            failures = failures.saturating_add(1);
            tracing::warn!(error = %store_error(error), failures, "readers hear of no events of other processes for now");
            let bound = PAUSE_MS.saturating_mul(1 << failures.min(16)).min(PAUSE_MS_MAX);
            // Full jitter: the processes that one restart cut off do not come back together.
            tokio::time::sleep(Duration::from_millis(rand::random_range(0..=bound))).await;
        }
    }

    async fn somebody(&self) {
        while self.bell.listeners.load(Ordering::Acquire) == 0 {
            // Keeps the news of one who joined since the look.
            self.bell.joined.notified().await;
        }
    }

    /// Rings until the connection fails.
    async fn watch(&self, failures: &mut u32) -> RedisResult<Infallible> {
        let mut link = self.connector.connect(self.response, || {}).await?;
        loop {
            self.somebody().await;
            let latest = self.latest(&mut link).await?;
            *failures = 0;
            // Also when nothing came: what came while nobody watched is found by looking.
            self.bell.rung.notify_waiters();
            let mut command = redis::cmd("XREAD");
            command.arg("COUNT").arg(1).arg("BLOCK").arg(BLOCK_MS).arg("STREAMS");
            command.arg(&self.stream).arg(format!("{latest}-{}", u64::MAX));
            // The event itself is read by who listens, each in its own place.
            let _news: Value = command.query_async(&mut link).await?;
        }
    }

    async fn latest(&self, link: &mut Link) -> RedisResult<u64> {
        let latest: Option<u64> = redis::cmd("GET").arg(&self.cursor).query_async(link).await?;
        Ok(latest.unwrap_or_default())
    }
}
