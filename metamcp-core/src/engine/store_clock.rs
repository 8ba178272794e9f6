//! The store's time as a worker knows it: read off a lease, or asked for, and carried on by the process's own monotonic clock. What a worker's machine takes
//! for the time of day decides nothing about a job.

use tokio::time::Instant;

use crate::{queue::JobHead, time::Timestamp};

/// The store's clock, never ahead of it and behind it by no more than the answer to the lease took.
#[derive(Debug, Clone, Copy)]
pub(super) struct StoreClock {
    at: Timestamp,
    read: Instant,
}

impl StoreClock {
    /// Read off a job whose lease was just answered: that lease is what changed it last.
    pub(super) fn read(head: &JobHead) -> Self {
        Self { at: head.updated_at, read: Instant::now() }
    }

    /// Read off the store, which has just told it.
    pub(super) fn told(at: Timestamp) -> Self {
        Self { at, read: Instant::now() }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.at + self.read.elapsed()
    }
}
