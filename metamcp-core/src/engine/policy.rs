//! The terms on which jobs run: attempts, backoff, leases, retention. Durations and counts only; decisions are made in `plan`.

use std::{sync::Arc, time::Duration};

use crate::{id::Lane, queue::Shares};

/// How jobs run. Every bound has a default that suits one machine.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Policy {
    /// The lanes that workers serve; a task for another one is refused, since nobody would ever take it.
    pub lanes: Vec<Lane>,
    /// How tenants and lanes share the workers. The same for all workers of a store.
    pub shares: Arc<Shares>,
    /// Failed attempts after which a job is dead.
    pub attempts_max: u32,
    /// Lost leases after which a job is dead.
    pub lost_max: u32,
    /// First pause after a failed attempt; doubles with each further one.
    pub backoff_base: Duration,
    /// Longest pause.
    pub backoff_max: Duration,
    /// How long a lease lasts without a heartbeat.
    pub visibility: Duration,
    /// Pause between heartbeats; well below `visibility`.
    pub heartbeat: Duration,
    /// Deadline of a task that names none.
    pub deadline: Duration,
    /// How long an ended job and its result are kept.
    pub retain: Duration,
    /// How long a job waits for an answer.
    pub input_ttl: Duration,
    /// Shortest and longest pause between two polls of a remote task.
    pub poll: (Duration, Duration),
    /// How long a submission waits for servers that were never connected before.
    pub discover_wait: Duration,
    /// Pause before a server that could not be connected is tried again; doubles up to `backoff_max`.
    pub reconnect_base: Duration,
    /// Least time between two progress reports of one job.
    pub progress_interval: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        let second = Duration::from_secs(1);
        Self {
            lanes: vec![Lane::light(), Lane::heavy()],
            shares: Arc::default(),
            attempts_max: 4,
            lost_max: 3,
            backoff_base: second,
            backoff_max: 60 * second,
            visibility: 30 * second,
            heartbeat: 10 * second,
            deadline: 3_600 * second,
            retain: 7 * 24 * 3_600 * second,
            input_ttl: 24 * 3_600 * second,
            poll: (second / 4, 30 * second),
            discover_wait: 15 * second,
            reconnect_base: second,
            progress_interval: second / 4,
        }
    }
}

impl Policy {
    /// The longest pause before attempt number `attempts + 1`, after `attempts` failed ones.
    #[must_use]
    pub fn backoff_ceiling(&self, attempts: u32) -> Duration {
        let doublings = attempts.saturating_sub(1).min(31);
        self.backoff_base.saturating_mul(1 << doublings).min(self.backoff_max)
    }
}
