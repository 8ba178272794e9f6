//! The queue as a pure state machine: every head of a job with the indexes over them, and one method for each legal move.
//!
//! No clock, no I/O, no randomness: time is an argument, and the same calls give the same heads. It is the in-memory store, the heart of the
//! embedded one, and the model that other stores are compared with. Bodies of jobs are not here; persisting is the caller's, told by
//! [`Core::take_changes`].

mod admit;
mod depend;
mod fenced;
mod grant;
mod index;
mod keys;
mod lane;
mod rate;
mod steer;
mod upkeep;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    time::Duration,
};

pub use self::{admit::Admission, grant::Granted};
use self::{grant::Grants, index::Index, rate::Rates};
use super::{
    job::{JobHead, JobState, LeaseKey},
    lease::{LANES_TOLD_MAX, LaneCounts, Restored},
    moves,
};
use crate::{
    id::{JobId, Lane, TenantId},
    time::Timestamp,
};

/// Bounds and delays of a [`Core`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CoreLimits {
    /// Most jobs that wait in one lane, for their turn, their time, a key or other jobs.
    pub lane_jobs_max: u64,
    /// Delay after the second lost lease; doubles with each further one. The first costs none.
    pub lost_backoff_base: Duration,
    /// Longest delay after a lost lease.
    pub lost_backoff_max: Duration,
}

impl Default for CoreLimits {
    fn default() -> Self {
        Self {
            lane_jobs_max: 1_000_000,
            lost_backoff_base: Duration::from_secs(1),
            lost_backoff_max: Duration::from_secs(60),
        }
    }
}

/// What is to be persisted after a move.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A head as it stands now; new or in place of the one before.
    Put(Box<JobHead>),
    /// The job is no longer kept.
    Removed(JobId),
    /// The lane is paused, or not any more.
    Paused(Lane, bool),
}

/// The pure state machine of a durable queue.
#[derive(Debug, Default)]
pub struct Core {
    limits: CoreLimits,
    jobs: BTreeMap<JobId, Box<JobHead>>,
    index: Index,
    grants: Grants,
    rates: Rates,
    /// Ended jobs that others may still wait for.
    unsettled: BTreeSet<JobId>,
    touched: BTreeSet<JobId>,
    touched_lanes: BTreeMap<Lane, bool>,
}

impl Core {
    /// An empty queue.
    #[must_use]
    pub fn new(limits: CoreLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Takes in a stored head in any state, in place of one with the same id. Emits no change.
    pub fn load(&mut self, head: JobHead) {
        self.forget(head.id);
        let (id, ended) = (head.id, head.state.is_final());
        let parents = head.waits_on.clone();
        self.insert(head);
        // Which of parent and child is loaded first does not matter; what nobody waits for is forgotten by the next maintenance.
        self.unsettled.extend(parents.into_iter().chain(ended.then_some(id)));
    }

    /// Takes in a head as another store held it.
    pub fn restore(&mut self, head: JobHead) -> Restored {
        if self.contains(head.id) {
            return Restored::Exists;
        }
        let keyed = head.idempotency_key.as_deref().and_then(|key| self.idempotent(&head.owner.tenant, key));
        if let Some(job) = keyed {
            return Restored::KeyTaken { job };
        }
        self.touched.insert(head.id);
        self.load(head);
        Restored::Ok
    }

    /// Takes in that a lane is paused. Emits no change.
    pub fn load_paused(&mut self, lane: &Lane) {
        self.index.pause(lane, true);
    }

    /// Forgets an ended job without a change: the caller keeps it elsewhere and may [`load`](Self::load) it again. Until then it is in no
    /// count and no index here: its idempotency key, its retention and its place among the dead letters are the caller's. Answers false,
    /// and keeps it, when the job has not ended, is unknown, is used by live jobs, or has a change that was not taken yet.
    pub fn evict(&mut self, id: JobId) -> bool {
        let ended = self.jobs.get(&id).is_some_and(|head| head.state.is_final() && head.users == 0);
        let evicts = ended && !self.touched.contains(&id);
        if evicts {
            self.forget(id);
        }
        evicts
    }

    /// Whether the job is here.
    #[must_use]
    pub fn contains(&self, id: JobId) -> bool {
        self.jobs.contains_key(&id)
    }

    /// The job that has the idempotency key.
    #[must_use]
    pub fn idempotent(&self, tenant: &TenantId, key: &str) -> Option<JobId> {
        self.index.keyed(tenant, key)
    }

    /// One head.
    #[must_use]
    pub fn head(&self, id: JobId) -> Option<&JobHead> {
        self.jobs.get(&id).map(Box::as_ref)
    }

    /// All heads, newest first by id.
    pub fn heads(&self) -> impl Iterator<Item = &JobHead> {
        self.jobs.values().rev().map(Box::as_ref)
    }

    /// The heads older than `before`, newest first by id.
    pub fn heads_before(&self, before: JobId) -> impl Iterator<Item = &JobHead> {
        self.jobs.range((Bound::Unbounded, Bound::Excluded(before))).rev().map(|(_, head)| head.as_ref())
    }

    /// How many jobs of the lane stand where. Cost does not grow with ended jobs.
    #[must_use]
    pub fn counts(&self, lane: &Lane, now: Timestamp) -> LaneCounts {
        self.index.lane(lane).map(|queue| queue.counts(now)).unwrap_or_default()
    }

    /// The lanes that are not blank, A to Z, at most [`LANES_TOLD_MAX`].
    #[must_use]
    pub fn lanes(&self) -> Vec<Lane> {
        self.index.lane_names().take(LANES_TOLD_MAX).cloned().collect()
    }

    /// Whether the lane is paused.
    #[must_use]
    pub fn is_paused(&self, lane: &Lane) -> bool {
        self.index.lane(lane).is_some_and(|queue| queue.paused)
    }

    /// How long until a job of these lanes may be leased: zero when one may be now, `None` when none waits that time alone would bring.
    /// Paused lanes do not count.
    #[must_use]
    pub fn next_due<'a>(&self, lanes: impl IntoIterator<Item = &'a Lane>, now: Timestamp) -> Option<Duration> {
        let queues = lanes.into_iter().filter_map(|lane| self.index.lane(lane)).filter(|queue| !queue.paused);
        queues.filter_map(|queue| queue.next_due(now)).min()
    }

    /// Takes what is to be persisted since the last time. A head that moved twice appears once, as it stands now.
    pub fn take_changes(&mut self) -> Vec<Change> {
        let lanes =
            std::mem::take(&mut self.touched_lanes).into_iter().map(|(lane, paused)| Change::Paused(lane, paused));
        let heads = std::mem::take(&mut self.touched).into_iter().map(|id| match self.jobs.get(&id) {
            Some(head) => Change::Put(head.clone()),
            None => Change::Removed(id),
        });
        lanes.chain(heads).collect()
    }

    /// Drops what is to be persisted: for a caller that keeps nothing.
    pub fn drop_changes(&mut self) {
        self.touched.clear();
        self.touched_lanes.clear();
    }

    /// Builds every index and count anew from the heads and compares.
    ///
    /// # Errors
    /// The first difference, in words.
    pub fn check(&self) -> Result<(), String> {
        for (id, head) in &self.jobs {
            moves::check(head).map_err(|what| format!("job {id}: {what}: {head:?}"))?;
            if *id != head.id {
                return Err(format!("job {id} stands under the id of {}", head.id));
            }
        }
        self.check_dependencies()?;
        self.check_passed_over()?;
        self.index.check(self.heads())
    }

    /// Whether somebody will let each job go on that is passed over: who holds its key, or asks for it in its own lane.
    fn check_passed_over(&self) -> Result<(), String> {
        let keyed = |wanted: fn(&JobHead) -> bool| {
            self.heads()
                .filter(move |head| wanted(head))
                .filter_map(|head| Some((&head.lane, &head.concurrency.as_ref()?.key)))
        };
        let held: BTreeSet<&String> = keyed(|head| head.state == JobState::Leased).map(|(_, key)| key).collect();
        let asked: BTreeSet<_> = keyed(|head| head.state == JobState::Ready && !head.blocked).collect();
        let strands = |(lane, key): &(&Lane, &String)| !held.contains(key) && !asked.contains(&(*lane, *key));
        match keyed(|head| head.blocked).find(strands) {
            Some((lane, key)) => {
                Err(format!("nobody will let the jobs of lane {lane} go on that key {key:?} holds up"))
            }
            None => Ok(()),
        }
    }

    fn insert(&mut self, head: JobHead) {
        self.index.add(&head);
        self.index.bind_key(&head);
        self.jobs.insert(head.id, Box::new(head));
    }

    fn forget(&mut self, id: JobId) -> Option<Box<JobHead>> {
        let head = self.jobs.remove(&id)?;
        self.index.remove(&head);
        self.index.free_key(&head);
        Some(head)
    }

    /// Changes a head and everything that depends on it.
    fn change(&mut self, id: JobId, now: Timestamp, edit: impl FnOnce(&mut JobHead)) -> Option<JobState> {
        let head = self.jobs.get_mut(&id)?;
        let (was, was_blocked) = (head.state, head.blocked);
        self.index.remove(head);
        edit(head);
        head.updated_at = now;
        self.index.add(head);
        self.touched.insert(id);
        let state = head.state;
        let lets_go = moves::lets_go(was, was_blocked, state);
        if let Some(key) = head.concurrency.as_ref().filter(|_| lets_go).map(|limit| limit.key.clone()) {
            self.let_go(&key, now);
        }
        if state.is_final() && !was.is_final() {
            self.ended(id, now);
        }
        Some(state)
    }

    /// Changes a head if `edit` says that it did, and answers what it answers. `None`: there is no such job.
    fn change_if<T>(&mut self, id: JobId, now: Timestamp, edit: impl FnOnce(&mut JobHead) -> (T, bool)) -> Option<T> {
        let mut edited = self.head(id)?.clone();
        let (answer, changed) = edit(&mut edited);
        if changed {
            self.change(id, now, |head| *head = edited);
        }
        Some(answer)
    }

    /// Lets the first jobs that are passed over for this key go on.
    fn let_go(&mut self, key: &str, now: Timestamp) {
        for next in self.index.concurrency().first_blocked(key) {
            self.change(next, now, |head| moves::block(head, false));
        }
    }

    /// Whether `key` is the newest lease of its job, and still held.
    fn holds(&self, key: LeaseKey) -> bool {
        self.head(key.job).is_some_and(|head| moves::holds(head, key))
    }
}
