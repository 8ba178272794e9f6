//! What callers read beside the journal, as of the last commit: the writer's thread writes it, everybody else reads.

use std::{
    collections::HashMap,
    sync::{OnceLock, RwLock},
};

use metamcp_core::{
    error::{StoreError, StoreErrorKind, StoreResult},
    id::JobId,
    queue::JobHead,
};
use tokio::sync::{Notify, watch};

use super::STORE;

/// The cursors of the oldest and the newest kept event; `oldest` is one more than `newest` when there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EventSpan {
    pub(super) oldest: u64,
    pub(super) newest: u64,
}

/// What callers read beside the journal, as of the last commit.
#[derive(Debug)]
pub(super) struct Shared {
    /// Heads that a heartbeat has moved past what is stored: a heartbeat is not worth a commit.
    beaten: RwLock<HashMap<JobId, JobHead>>,
    /// Told when a job may have become ready.
    pub(super) ready: Notify,
    /// Which events are kept.
    pub(super) events: watch::Sender<EventSpan>,
    failed: OnceLock<String>,
}

impl Shared {
    /// Nothing beaten, nothing failed, these events.
    pub(super) fn new(events: EventSpan) -> Self {
        Self {
            beaten: RwLock::default(),
            ready: Notify::new(),
            events: watch::Sender::new(events),
            failed: OnceLock::new(),
        }
    }

    /// Shows these heads in place of the stored ones, and of the stored jobs what is stored.
    pub(super) fn show_beaten(&self, beaten: impl Iterator<Item = JobHead>, stored: impl Iterator<Item = JobId>) {
        let mut shown = self.beaten.write().expect("nothing panics while it holds the heads");
        stored.for_each(|id| drop(shown.remove(&id)));
        shown.extend(beaten.map(|head| (head.id, head)));
    }

    /// The head of a job as a heartbeat left it, if that is news to the journal.
    pub(super) fn beaten(&self, id: JobId) -> Option<JobHead> {
        self.beaten.read().expect("nothing panics while it holds the heads").get(&id).cloned()
    }

    /// Closes the store for good; the first reason stays.
    pub(super) fn fail(&self, why: impl Into<String>) {
        let _ = self.failed.set(why.into());
        self.ready.notify_waiters();
    }

    /// Nothing, once the store has failed, may be read or written.
    pub(super) fn check_open(&self) -> StoreResult<()> {
        match self.failed.get() {
            None => Ok(()),
            Some(why) => Err(closed(why)),
        }
    }
}

/// What a caller of a store that is not open any more is told.
pub(super) fn closed(why: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Closed, STORE, why)
}
