//! A queue's lane as its operators see it: how many jobs stand where, and whether it is paused.

use metamcp_core::{id::Lane, queue::LaneCounts};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Every lane that workers serve, that holds jobs, or that is paused; ordered by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueueList {
    /// The lanes.
    pub queues: Vec<QueueDocument>,
}

/// One lane. Ended tasks are not counted, but for those that failed and may be retried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueueDocument {
    /// The lane's name.
    #[schema(value_type = String)]
    pub lane: Lane,
    /// Nothing is taken from it; what runs goes on.
    pub paused: bool,
    /// Wait for a worker.
    pub ready: u64,
    /// Wait for a task with the same concurrency key to end; not counted as ready.
    pub blocked: u64,
    /// Wait for other tasks.
    pub waiting: u64,
    /// Wait for their time.
    pub delayed: u64,
    /// Are held by workers.
    pub leased: u64,
    /// Wait for an answer of their owner.
    pub input: u64,
    /// Failed.
    pub dead: u64,
    /// How long the oldest one that waits for a worker has been due, in milliseconds.
    pub oldest_ready_ms: u64,
}

impl From<(Lane, LaneCounts)> for QueueDocument {
    fn from((lane, counts): (Lane, LaneCounts)) -> Self {
        Self {
            lane,
            paused: counts.paused,
            ready: counts.ready,
            blocked: counts.blocked,
            waiting: counts.waiting,
            delayed: counts.delayed,
            leased: counts.leased,
            input: counts.input,
            dead: counts.dead,
            oldest_ready_ms: counts.oldest_ready_ms,
        }
    }
}
