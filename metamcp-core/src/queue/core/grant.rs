//! Giving out leases and keeping them alive.
//!
//! A lease call whose reply was lost is asked again with the same worker and request: it gets the same grants, as far as they are still
//! held, and never further jobs.

use std::{collections::BTreeMap, time::Duration};

use super::{Core, lane::LaneQueue};
use crate::{
    id::{JobId, Lane, WorkerId},
    queue::{
        job::{JobHead, LeaseKey},
        lease::{Beat, Heartbeat, LEASE_BATCH_MAX, LeaseRequest},
        moves,
    },
    time::Timestamp,
};

/// Most due jobs that one lease call promotes.
const LEASE_PROMOTED_MAX: u32 = 512;
/// Most jobs that one lease call passes over or delays on its way to those it grants.
const LEASE_SET_ASIDE_MAX: u32 = 512;
/// Workers whose last grants are remembered before those that hold nothing any more are forgotten.
const GRANTS_KEPT_MIN: usize = 256;

/// What a lease call gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Granted {
    /// The leased jobs, in the order they were taken. Their heads hold the keys.
    pub jobs: Vec<JobId>,
    /// How long until something more may be leased: zero when it may be now, `None` when nothing waits that time alone would bring.
    pub next_due: Option<Duration>,
}

/// Why a ready job cannot be leased now.
#[derive(Debug, Clone, Copy)]
enum Obstacle {
    /// Its concurrency key is held as often as it may be.
    KeyHeld,
    /// The next free slot of its rate is yet to come.
    TooEarly,
}

/// The last grants of each worker.
#[derive(Debug, Default)]
pub(super) struct Grants {
    by_worker: BTreeMap<WorkerId, (u64, Vec<LeaseKey>)>,
    prune_at: usize,
}

impl Core {
    /// Takes ready jobs, promoting on the way what is due. One past its deadline is handed out too: its worker ends it and tells so.
    pub fn lease(&mut self, now: Timestamp, want: &LeaseRequest) -> Granted {
        let jobs = self.replay(want).unwrap_or_else(|| self.grant(now, want));
        Granted { next_due: self.next_due(&want.lanes, now), jobs }
    }

    /// Extends a lease. Emits no change: a heartbeat is not worth persisting, and after a crash every lease is over anyway.
    pub fn heartbeat(&mut self, now: Timestamp, beat: &Heartbeat, extend: Duration) -> Beat {
        if !self.holds(beat.lease) {
            return Beat::Lost;
        }
        let Some(head) = self.jobs.get_mut(&beat.lease.job) else { return Beat::Lost };
        self.index.remove(head);
        let answer = moves::beat(head, now, extend, beat.progress.as_ref());
        self.index.add(head);
        answer
    }

    fn replay(&self, want: &LeaseRequest) -> Option<Vec<JobId>> {
        let (request, keys) = self.grants.by_worker.get(&want.worker)?;
        (*request == want.request).then(|| keys.iter().filter(|key| self.holds(**key)).map(|key| key.job).collect())
    }

    fn grant(&mut self, now: Timestamp, want: &LeaseRequest) -> Vec<JobId> {
        let max = usize::from(want.max.min(LEASE_BATCH_MAX));
        let (mut to_promote, mut to_set_aside) = (LEASE_PROMOTED_MAX, LEASE_SET_ASIDE_MAX);
        let mut jobs = Vec::new();
        let mut keys = Vec::new();
        for lane in &want.lanes {
            if self.is_paused(lane) || jobs.len() == max {
                continue;
            }
            self.promote_lane(lane, now, &mut to_promote);
            while jobs.len() < max && self.lane_has_room(lane, want) {
                let Some(id) = self.index.lane(lane).and_then(LaneQueue::next) else { break };
                let obstacle = self.obstacle(now, id);
                if obstacle.is_some() && to_set_aside == 0 {
                    break;
                }
                // A job that is only looked at costs a turn too: a flood of such jobs holds nobody else up.
                self.index.pay_turn(lane, &want.shares.weights);
                if let Some(obstacle) = obstacle {
                    to_set_aside -= 1;
                    self.set_aside(now, id, obstacle);
                    continue;
                }
                keys.extend(self.hand_out(now, id, want));
                jobs.push(id);
            }
        }
        if !keys.is_empty() {
            self.remember(want, keys);
        }
        jobs
    }

    fn lane_has_room(&self, lane: &Lane, want: &LeaseRequest) -> bool {
        let leased = self.index.lane(lane).map_or(0, |queue| queue.leased);
        want.shares.leased_max.get(lane).is_none_or(|max| leased < *max)
    }

    fn obstacle(&self, now: Timestamp, id: JobId) -> Option<Obstacle> {
        let head = self.head(id)?;
        if self.index.concurrency().is_full_for(head) {
            return Some(Obstacle::KeyHeld);
        }
        let early = moves::slot_wanted(head).is_some_and(|rate| self.rates.next(now, rate) > now);
        early.then_some(Obstacle::TooEarly)
    }

    /// Passes a job over whose concurrency key is full, delays one that comes too early for its rate.
    fn set_aside(&mut self, now: Timestamp, id: JobId, obstacle: Obstacle) {
        match obstacle {
            Obstacle::KeyHeld => self.change(id, now, |head| moves::block(head, true)),
            Obstacle::TooEarly => {
                let slot = self.take_slot(now, id).unwrap_or(now);
                self.change(id, now, |head| moves::admit_later(head, now, slot))
            }
        };
    }

    fn take_slot(&mut self, now: Timestamp, id: JobId) -> Option<Timestamp> {
        let rate = moves::slot_wanted(self.jobs.get(&id)?)?;
        Some(self.rates.take(now, rate))
    }

    fn promote_lane(&mut self, lane: &Lane, now: Timestamp, to_promote: &mut u32) {
        while *to_promote > 0 {
            let Some(id) = self.index.lane(lane).and_then(|queue| queue.first_due(now)) else { return };
            *to_promote -= 1;
            self.promote(now, id);
        }
    }

    fn hand_out(&mut self, now: Timestamp, id: JobId, want: &LeaseRequest) -> Option<LeaseKey> {
        self.take_slot(now, id);
        self.change(id, now, |head| moves::lease(head, now, want))?;
        self.head(id).map(JobHead::lease_key)
    }

    fn remember(&mut self, want: &LeaseRequest, keys: Vec<LeaseKey>) {
        self.grants.by_worker.insert(want.worker.clone(), (want.request, keys));
        if self.grants.by_worker.len() < self.grants.prune_at.max(GRANTS_KEPT_MIN) {
            return;
        }
        let mut by_worker = std::mem::take(&mut self.grants.by_worker);
        by_worker.retain(|_, (_, keys)| keys.iter().any(|key| self.holds(*key)));
        // Twice what is left: the cost of looking through all is spread over as many new workers.
        self.grants.prune_at = by_worker.len() * 2;
        self.grants.by_worker = by_worker;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        auth::Principal,
        matching::Route,
        pointer::Digest,
        queue::{
            job::{JobBody, JobError, JobErrorCode, NewJob},
            lease::{Final, Finish},
        },
        task::{Need, TaskRecord},
    };

    fn job(n: u64) -> NewJob {
        let task = TaskRecord { need: Need::new("x"), labels: BTreeMap::new(), cache: None };
        NewJob {
            id: JobId::new(Timestamp::from_millis(n)),
            owner: Principal::local(),
            lane: Lane::light(),
            priority: 0,
            delay: Duration::ZERO,
            deadline: None,
            retain: Duration::ZERO,
            attempts_max: 1,
            lost_max: 1,
            idempotency_key: None,
            request_digest: Digest::of(b"x"),
            after: Vec::new(),
            concurrency: None,
            rate: None,
            held: None,
            body: Arc::new(JobBody { task, route: Route::default() }),
        }
    }

    #[test]
    fn workers_that_are_gone_leave_nothing_behind() {
        let mut core = Core::default();
        for n in 1..=2_000 {
            let now = Timestamp::from_millis(n);
            core.enqueue(now, &job(n));
            let want = LeaseRequest {
                lanes: vec![Lane::light()],
                max: 1,
                visibility: Duration::from_secs(1),
                worker: WorkerId::new(format!("worker-{n}")).unwrap(),
                request: 1,
                nonce: n,
                shares: Arc::default(),
            };
            let id = core.lease(now, &want).jobs[0];
            let lease = core.head(id).unwrap().lease_key();
            core.finish(now, &Finish { lease, end: Final::Dead(JobError::new(JobErrorCode::Internal, "x")) });
            core.maintain(now, 10);
        }
        assert!(core.grants.by_worker.len() <= GRANTS_KEPT_MIN, "{} are remembered", core.grants.by_worker.len());
        assert_eq!(core.heads().count(), 0);
    }
}
