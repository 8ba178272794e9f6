//! What operators do to a whole store: look at its queues, bring dead letters back, drain a lane, back it up, and move it to another store.
//!
//! Plain calls over the traits of stores, so the same for each of them. Each function may be dropped at any point and called again: what was
//! done stays done and is passed over. Memory is bounded by a page of jobs, one result, and a number for each job that live jobs name.

mod error;
mod export;
mod format;
mod import;
mod intake;
mod migrate;
mod steer;
mod verify;
mod walk;

use serde::{Deserialize, Serialize};

pub use self::{
    error::AdminError,
    export::{Exported, export},
    format::{CHUNK_BYTES, FORMAT, LINE_BYTES_MAX, VERSION},
    import::{check, import},
    intake::{BATCH_SPARE, CALL_KEPT, Moved},
    migrate::{MigrateOptions, Migrated, migrate},
    steer::{
        DeadFilter, Drained, REDRIVE_MAX, RedriveReport, STALLED_MAX, Stalled, dead_letters, drain, queues, redrive,
        stalled,
    },
    verify::{Verified, verify},
};
use crate::{queue::JobStore, record::RecordStore, result::ResultStore};

/// Most findings that are told in words; further ones are only counted.
pub const FINDINGS_MAX: usize = 20;

/// The stores of one place.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The queue.
    pub jobs: &'a dyn JobStore,
    /// The results.
    pub results: &'a dyn ResultStore,
    /// The records.
    pub records: &'a dyn RecordStore,
}

/// How much went through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Jobs.
    pub jobs: u64,
    /// Results.
    pub results: u64,
    /// Bytes of results.
    pub result_bytes: u64,
    /// Records.
    pub records: u64,
    /// Paused lanes.
    pub paused: u64,
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Jobs, results and records are read and written.
    Copy,
    /// Both sides are read and compared.
    Verify,
}

/// Is told how far it has come, after every page or batch.
pub type Watch<'a> = dyn FnMut(Step, &Tally) + Send + 'a;

/// What is not as it should be, in words; the first of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// How many there are.
    pub total: u64,
    /// The first of them, at most [`FINDINGS_MAX`].
    pub first: Vec<String>,
}

impl Findings {
    /// Whether there is nothing to tell.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.total == 0
    }

    fn add(&mut self, what: impl FnOnce() -> String) {
        self.total += 1;
        if self.first.len() < FINDINGS_MAX {
            self.first.push(what());
        }
    }
}
