//! A clock that moves when it is told to, and the one way in which suites move the time of any store.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;

use crate::time::{Clock, Timestamp};

/// Where manual time starts: 2026-01-01T00:00:00Z, in milliseconds.
const START_MS: u64 = 1_767_225_600_000;

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct ManualClock {
    now_ms: AtomicU64,
}

impl ManualClock {
    /// A clock at the start of 2026, shared by the test and the store.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { now_ms: AtomicU64::new(START_MS) })
    }

    /// Moves on, cut to whole milliseconds.
    pub fn advance(&self, by: Duration) {
        self.now_ms.store((self.now() + by).as_millis(), Ordering::SeqCst);
    }

    /// Moves to an instant; an earlier one is ignored, a clock does not run backwards.
    pub fn set(&self, to: Timestamp) {
        self.now_ms.fetch_max(to.as_millis(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now_ms.load(Ordering::SeqCst))
    }
}

/// Moves the time of a store under test: a manual clock, or an offset that the store adds to its own.
#[async_trait]
pub trait StoreTime: fmt::Debug + Send + Sync + 'static {
    /// Moves the store's time on.
    async fn advance(&self, by: Duration);
}

#[async_trait]
impl StoreTime for ManualClock {
    async fn advance(&self, by: Duration) {
        Self::advance(self, by);
    }
}
