//! How many tasks of a kind may run at a time, and how often they may start.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Longest concurrency or rate key, in bytes.
pub const LIMIT_KEY_BYTES_MAX: usize = 256;

/// At most so many jobs with this key are leased at a time, over all lanes and workers of a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConcurrencyKey {
    /// The key, 1 to [`LIMIT_KEY_BYTES_MAX`] bytes. Whoever builds it puts the tenant in.
    pub key: String,
    /// How many, at least 1; each job goes by its own.
    pub max: u32,
}

/// Jobs with this key are leased no more often than one in `every`, after a burst of `burst` (GCRA).
///
/// A job that comes too early is given the next free slot: it is delayed until then, once. A slot whose job is cancelled stays unused. Each
/// further attempt takes a slot of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateKey {
    /// The key, 1 to [`LIMIT_KEY_BYTES_MAX`] bytes. Whoever builds it puts the tenant in.
    pub key: String,
    /// The time one job takes up, in whole milliseconds, at least 1.
    pub every: Duration,
    /// How many may go at once after a quiet time, at least 1.
    pub burst: u32,
}
