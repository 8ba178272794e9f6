//! Rate keys: for each the time up to which its slots are taken (the generic cell rate algorithm).
//!
//! Kept in memory only: a store that is opened anew begins its rates anew.

use std::collections::HashMap;

use crate::{queue::moves, task::RateKey, time::Timestamp};

/// Keys that are remembered before those that have no slot taken any more are forgotten.
const RATES_KEPT_MIN: usize = 1_024;

/// The slots taken of every key.
#[derive(Debug, Default)]
pub(super) struct Rates {
    /// The theoretical arrival time of the next job.
    taken_until: HashMap<Box<str>, Timestamp>,
    prune_at: usize,
}

impl Rates {
    /// When the next free slot is. At once, when it is not later than `now`.
    pub(super) fn next(&self, now: Timestamp, rate: &RateKey) -> Timestamp {
        moves::slot(rate, now, self.taken(rate)).0
    }

    /// Takes the next free slot; answers when it is.
    pub(super) fn take(&mut self, now: Timestamp, rate: &RateKey) -> Timestamp {
        self.prune(now);
        let (slot, taken_until) = moves::slot(rate, now, self.taken(rate));
        self.taken_until.insert(rate.key.as_str().into(), taken_until);
        slot
    }

    fn taken(&self, rate: &RateKey) -> Option<Timestamp> {
        self.taken_until.get(rate.key.as_str()).copied()
    }

    fn prune(&mut self, now: Timestamp) {
        if self.taken_until.len() >= self.prune_at.max(RATES_KEPT_MIN) {
            self.taken_until.retain(|_, until| *until > now);
            // Twice what is left: the cost of looking through all is spread over as many new keys.
            self.prune_at = self.taken_until.len() * 2;
        }
    }
}
