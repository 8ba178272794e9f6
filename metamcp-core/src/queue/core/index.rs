//! Everything that is derived from the heads: lanes, timers, idempotency keys, who waits for whom, who holds which concurrency key. Each head
//! is in it exactly once, by its state.
//!
//! A head must be removed as it was added: the caller removes it, changes it, and adds it again.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{keys::Keys, lane::LaneQueue};
use crate::{
    id::{JobId, Lane, TenantId},
    queue::job::{JobHead, JobState},
    time::Timestamp,
};

/// What time does to a job. In this order when several are due in the same instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Given up, unless somebody holds it.
    Deadline,
    /// The wait for an answer is over.
    Input,
    /// The lease is over.
    Lease,
    /// Delayed no more.
    Due,
    /// Kept no more.
    Retain,
}

/// The timers that run for a head in its state.
fn timers(head: &JobHead) -> impl Iterator<Item = (Timestamp, Timer)> {
    let queued = matches!(head.state, JobState::Waiting | JobState::Delayed | JobState::Ready | JobState::Input);
    [
        head.deadline_at.filter(|_| queued).map(|at| (at, Timer::Deadline)),
        head.input_until.map(|at| (at, Timer::Input)),
        head.lease_until.map(|at| (at, Timer::Lease)),
        (head.state == JobState::Delayed).then_some((head.due_at, Timer::Due)),
        // What others still use is kept.
        head.finished_at.filter(|_| head.users == 0).map(|at| (at + head.retain, Timer::Retain)),
    ]
    .into_iter()
    .flatten()
}

/// The indexes over all heads.
#[derive(Debug, Default)]
pub(super) struct Index {
    timers: BTreeSet<(Timestamp, Timer, JobId)>,
    /// The timers that remove: apart, so that a heap of ended jobs holds up no live one.
    removals: BTreeSet<(Timestamp, Timer, JobId)>,
    lanes: BTreeMap<Lane, LaneQueue>,
    keys: BTreeMap<TenantId, HashMap<Box<str>, JobId>>,
    concurrency: Keys,
    /// Waiting jobs by each job they wait for.
    waiters: BTreeMap<JobId, BTreeSet<JobId>>,
}

impl Index {
    /// Takes in a head.
    pub(super) fn add(&mut self, head: &JobHead) {
        for (at, timer) in timers(head) {
            self.running(timer).insert((at, timer, head.id));
        }
        self.concurrency.add(head);
        for parent in &head.waits_on {
            self.waiters.entry(*parent).or_default().insert(head.id);
        }
        match self.lanes.get_mut(&head.lane) {
            Some(queue) => queue.add(head),
            None if matches!(head.state, JobState::Done | JobState::Cancelled) => {}
            None => self.lanes.entry(head.lane.clone()).or_default().add(head),
        }
    }

    /// Takes a head out, as it was added.
    pub(super) fn remove(&mut self, head: &JobHead) {
        for (at, timer) in timers(head) {
            self.running(timer).remove(&(at, timer, head.id));
        }
        self.concurrency.remove(head);
        for parent in &head.waits_on {
            if let Some(children) = self.waiters.get_mut(parent) {
                children.remove(&head.id);
                if children.is_empty() {
                    self.waiters.remove(parent);
                }
            }
        }
        if let Some(queue) = self.lanes.get_mut(&head.lane) {
            queue.remove(head);
            if queue.is_blank() {
                self.lanes.remove(&head.lane);
            }
        }
    }

    /// Takes in the idempotency key of a head, once in its life.
    pub(super) fn bind_key(&mut self, head: &JobHead) {
        if let Some(key) = &head.idempotency_key {
            self.keys.entry(head.owner.tenant.clone()).or_default().insert(key.as_str().into(), head.id);
        }
    }

    /// Frees the idempotency key of a head that is forgotten.
    pub(super) fn free_key(&mut self, head: &JobHead) {
        let Some(key) = &head.idempotency_key else { return };
        let Some(keys) = self.keys.get_mut(&head.owner.tenant) else { return };
        if keys.get(key.as_str()) == Some(&head.id) {
            keys.remove(key.as_str());
        }
        if keys.is_empty() {
            self.keys.remove(&head.owner.tenant);
        }
    }

    /// The job that has the key.
    pub(super) fn keyed(&self, tenant: &TenantId, key: &str) -> Option<JobId> {
        self.keys.get(tenant)?.get(key).copied()
    }

    /// One lane; `None` stands for an empty one that is not paused.
    pub(super) fn lane(&self, lane: &Lane) -> Option<&LaneQueue> {
        self.lanes.get(lane)
    }

    /// The names of all lanes that are not blank, A to Z.
    pub(super) fn lane_names(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.keys()
    }

    /// The tenant at turn in the lane pays for the job that is looked at.
    pub(super) fn pay_turn(&mut self, lane: &Lane, weights: &BTreeMap<TenantId, u32>) {
        if let Some(queue) = self.lanes.get_mut(lane) {
            queue.pay_turn(weights);
        }
    }

    /// Who holds a concurrency key and who is passed over for it.
    pub(super) const fn concurrency(&self) -> &Keys {
        &self.concurrency
    }

    /// The jobs that wait for this one, in order of id.
    pub(super) fn waiters(&self, parent: JobId) -> impl Iterator<Item = JobId> {
        self.waiters.get(&parent).into_iter().flatten().copied()
    }

    /// Pauses or resumes a lane; answers whether that changed anything.
    pub(super) fn pause(&mut self, lane: &Lane, paused: bool) -> bool {
        if self.lane(lane).is_some_and(|queue| queue.paused) == paused {
            return false;
        }
        let queue = self.lanes.entry(lane.clone()).or_default();
        queue.paused = paused;
        if queue.is_blank() {
            self.lanes.remove(lane);
        }
        true
    }

    /// The earliest timer whose time has come; one that removes only when no other has.
    pub(super) fn first_timer(&self, now: Timestamp) -> Option<(Timer, JobId)> {
        let due = |timers: &BTreeSet<(Timestamp, Timer, JobId)>| {
            timers.first().filter(|(at, _, _)| *at <= now).map(|(_, timer, id)| (*timer, *id))
        };
        due(&self.timers).or_else(|| due(&self.removals))
    }

    /// How many timers of live jobs have run out, counted up to `max`.
    pub(super) fn due_timers(&self, now: Timestamp, max: usize) -> usize {
        self.timers.iter().take(max).take_while(|(at, _, _)| *at <= now).count()
    }

    fn running(&mut self, timer: Timer) -> &mut BTreeSet<(Timestamp, Timer, JobId)> {
        if timer == Timer::Retain { &mut self.removals } else { &mut self.timers }
    }

    /// Compares with an index built anew from the heads.
    pub(super) fn check<'a>(&self, heads: impl Iterator<Item = &'a JobHead>) -> Result<(), String> {
        let mut anew = Self::default();
        for head in heads {
            anew.add(head);
            anew.bind_key(head);
        }
        if self.removals != anew.removals {
            return Err(format!("removals are {:?}, should be {:?}", self.removals, anew.removals));
        }
        if self.timers != anew.timers {
            return Err(format!("timers are {:?}, should be {:?}", self.timers, anew.timers));
        }
        if self.concurrency != anew.concurrency {
            return Err(format!("concurrency keys are {:?}, should be {:?}", self.concurrency, anew.concurrency));
        }
        if self.waiters != anew.waiters {
            return Err(format!("waiting jobs are {:?}, should be {:?}", self.waiters, anew.waiters));
        }
        if self.keys != anew.keys {
            return Err(format!("idempotency keys are {:?}, should be {:?}", self.keys, anew.keys));
        }
        let lanes: BTreeSet<&Lane> = self.lanes.keys().chain(anew.lanes.keys()).collect();
        let blank = LaneQueue::default();
        for lane in lanes {
            let queue = self.lanes.get(lane).unwrap_or(&blank);
            let should = anew.lanes.get(lane).unwrap_or(&blank);
            queue
                .check(should)
                .map_err(|what| format!("lane {lane}: {what} differ: {queue:?}, should be {should:?}"))?;
            if queue.is_blank() && self.lanes.contains_key(lane) {
                return Err(format!("lane {lane} is blank and kept"));
            }
        }
        Ok(())
    }
}
