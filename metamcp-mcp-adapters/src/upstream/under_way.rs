//! The requests under way on one connection, and which of them it must be that a server means when it does not say so.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::slot::Slot;

/// After a request was cancelled, how long the server may go on sending for it, in seconds, unless it answers before.
const AFTERMATH_S_MAX: u64 = 30;
/// Cancelled requests that are remembered for that; the oldest is forgotten first.
const CANCELLED_MAX: usize = 64;

/// The requests under way.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    pub(super) waiting: HashMap<u64, Arc<Slot>>,
    /// Requests that were cancelled and not answered since.
    cancelled: Vec<(u64, Instant)>,
}

impl UnderWay {
    /// The one request that something without an address must be for.
    pub(super) fn only(&mut self) -> Option<&Arc<Slot>> {
        let now = Instant::now();
        self.cancelled.retain(|(_, until)| *until > now);
        let mut under_way = self.waiting.values().filter(|slot| !slot.standing);
        match (under_way.next(), under_way.next()) {
            (Some(only), None) if self.cancelled.is_empty() => Some(only),
            _ => None,
        }
    }

    /// A request was answered: nothing comes for it any more.
    pub(super) fn answered(&mut self, id: u64) -> Option<Arc<Slot>> {
        self.cancelled.retain(|(cancelled, _)| *cancelled != id);
        self.waiting.remove(&id)
    }

    /// A request that may have left was cancelled: something may come for it still.
    pub(super) fn cancelled(&mut self, id: u64) {
        if self.cancelled.len() >= CANCELLED_MAX {
            self.cancelled.remove(0);
        }
        self.cancelled.push((id, Instant::now() + Duration::from_secs(AFTERMATH_S_MAX)));
    }
}
