//! Concurrency keys: how many leases hold each, and which ready jobs are passed over until one of them ends.

use std::collections::{BTreeSet, HashMap};

use crate::{
    id::JobId,
    queue::{
        job::{JobHead, JobState},
        moves::place,
    },
};

/// One key.
#[derive(Debug, Default, PartialEq, Eq)]
struct Key {
    held: u32,
    /// By place, then id: whose turn it is when a holder lets go.
    blocked: BTreeSet<(u64, JobId)>,
}

/// All keys that somebody holds or waits for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Keys {
    keys: HashMap<Box<str>, Key>,
}

impl Keys {
    /// Takes in a head.
    pub(super) fn add(&mut self, head: &JobHead) {
        let Some(limit) = head.concurrency.as_ref().filter(|_| counts(head)) else { return };
        let key = self.keys.entry(limit.key.as_str().into()).or_default();
        if head.blocked {
            key.blocked.insert((place(head), head.id));
        } else {
            key.held += 1;
        }
    }

    /// Takes a head out, as it was added.
    pub(super) fn remove(&mut self, head: &JobHead) {
        let Some(limit) = head.concurrency.as_ref().filter(|_| counts(head)) else { return };
        let Some(key) = self.keys.get_mut(limit.key.as_str()) else { return };
        if head.blocked {
            key.blocked.remove(&(place(head), head.id));
        } else {
            key.held -= 1;
        }
        if *key == Key::default() {
            self.keys.remove(limit.key.as_str());
        }
    }

    /// Whether a job would be one too many.
    pub(super) fn is_full_for(&self, head: &JobHead) -> bool {
        let held = |key: &str| self.keys.get(key).map_or(0, |key| key.held);
        head.concurrency.as_ref().is_some_and(|limit| held(&limit.key) >= limit.max)
    }

    /// The job to go on when a holder of the key lets go.
    pub(super) fn first_blocked(&self, key: &str) -> Option<JobId> {
        self.keys.get(key)?.blocked.first().map(|(_, id)| *id)
    }
}

/// Whether the head is a holder of its key, or passed over for it.
const fn counts(head: &JobHead) -> bool {
    head.blocked || matches!(head.state, JobState::Leased)
}
