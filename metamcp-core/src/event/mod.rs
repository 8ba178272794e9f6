//! What happened to jobs, told in order after it is committed. Bodies never travel in events, only pointers.
//!
//! An event is news, not the truth: the job is. A process that dies between a commit and its event loses that event; who comes back after a
//! gap reads the job.

mod batched;
mod memory;

use std::{fmt, time::Duration};

use async_trait::async_trait;
pub use batched::BatchedEventBus;
pub use memory::MemoryEventBus;
use serde::{Deserialize, Serialize};

use crate::{
    auth::Principal,
    error::StoreResult,
    id::{CapabilityId, JobId},
    pointer::ResultPointer,
    queue::{JobError, Progress},
    time::Timestamp,
};

/// Most events one read answers, and most one publish takes.
pub const EVENT_PAGE_MAX: u16 = 500;

/// What happened. A closed set; new kinds may come, nobody subscribes to "all kinds".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// The job was accepted.
    Queued,
    /// A worker called a tool for it.
    Started {
        /// The tool.
        capability: CapabilityId,
        /// Failed attempts so far.
        attempts: u32,
    },
    /// The call has come further.
    Progress(Progress),
    /// The server asks something.
    InputRequired {
        /// The keys of what is asked.
        keys: Vec<String>,
    },
    /// An answer was brought, or a dead job was redriven: it is queued again.
    Resumed,
    /// An attempt failed; there will be another.
    Retrying {
        /// Why it failed.
        error: JobError,
        /// When the next one is due, in milliseconds from now.
        delay_ms: u64,
    },
    /// It was given back without counting.
    Released,
    /// It ended with a result.
    Completed {
        /// Where the result is.
        result: ResultPointer,
    },
    /// It ended without one.
    Failed {
        /// Why.
        error: JobError,
    },
    /// It ended by its owner's wish.
    Cancelled {
        /// Why.
        reason: String,
    },
}

/// An event before the bus has given it a place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewEvent {
    /// The job it is about.
    pub job: JobId,
    /// Who may read it.
    pub owner: Principal,
    /// What happened.
    pub kind: EventKind,
}

/// An event in its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its place: grows by one, from 1; never given twice, also after a crash.
    pub cursor: u64,
    /// When the bus took it.
    pub at: Timestamp,
    /// The event.
    #[serde(flatten)]
    pub event: NewEvent,
}

/// What a read found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EventPage {
    /// In order.
    pub events: Vec<Event>,
    /// Read on after this.
    pub next: u64,
    /// Events between the asked cursor and the first answered one are no longer kept.
    pub missed: bool,
}

/// Takes events and replays them in order.
///
/// # Contract
/// - Events get consecutive cursors in the order they are taken; those of one publish stay together.
/// - An event that was read is not forgotten before newer ones, and its cursor is never given to another event.
/// - The number of kept events is bounded; who is too slow is told `missed`, never blocks the rest.
#[async_trait]
pub trait EventBus: fmt::Debug + Send + Sync + 'static {
    /// Takes events, at most [`EVENT_PAGE_MAX`]; answers the cursor of the last one.
    async fn publish(&self, events: &[NewEvent]) -> StoreResult<u64>;

    /// Reads at most `max` events after `after` (0: from the oldest kept), waiting up to `wait` for the first one. Cancel-safe.
    async fn read(&self, after: u64, max: u16, wait: Duration) -> StoreResult<EventPage>;

    /// The cursor of the newest event; 0 before the first.
    async fn latest(&self) -> StoreResult<u64>;
}

#[cfg(test)]
mod dyn_compatible {
    fn _holds(_: Box<dyn super::EventBus>) {}
}
