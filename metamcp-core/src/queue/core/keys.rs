//! Concurrency keys: how many leases hold each, and which ready jobs are passed over until one of them ends.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::{
    id::{JobId, Lane},
    queue::{
        job::{JobHead, JobState},
        moves::{LET_GO_MAX, place},
    },
};

/// One key.
#[derive(Debug, Default, PartialEq, Eq)]
struct Key {
    held: u32,
    /// By lane and bound, then by place and id: whose turn it is when a holder lets go.
    blocked: BTreeMap<(Lane, u32), BTreeSet<(u64, JobId)>>,
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
            key.blocked.entry((head.lane.clone(), limit.max)).or_default().insert((place(head), head.id));
        } else {
            key.held += 1;
        }
    }

    /// Takes a head out, as it was added.
    pub(super) fn remove(&mut self, head: &JobHead) {
        let Some(limit) = head.concurrency.as_ref().filter(|_| counts(head)) else { return };
        let Some(key) = self.keys.get_mut(limit.key.as_str()) else { return };
        if head.blocked {
            let group = (head.lane.clone(), limit.max);
            if let Some(blocked) = key.blocked.get_mut(&group) {
                blocked.remove(&(place(head), head.id));
                if blocked.is_empty() {
                    key.blocked.remove(&group);
                }
            }
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

    /// The jobs to go on when a holder of the key lets go: the first of each lane and bound, in order of place.
    pub(super) fn first_blocked(&self, key: &str) -> Vec<JobId> {
        let groups = self.keys.get(key).into_iter().flat_map(|key| key.blocked.values());
        let firsts: BTreeSet<(u64, JobId)> = groups.filter_map(|blocked| blocked.first().copied()).collect();
        firsts.into_iter().take(LET_GO_MAX).map(|(_, id)| id).collect()
    }
}

/// Whether the head is a holder of its key, or passed over for it.
const fn counts(head: &JobHead) -> bool {
    head.blocked || matches!(head.state, JobState::Leased)
}
