//! What time does to jobs: promotion, lost leases, deadlines, retention.

use std::time::Duration;

use super::{Core, index::Timer};
use crate::{
    id::JobId,
    queue::{
        job::{JobErrorCode, JobState},
        lease::Maintained,
        moves,
    },
    time::Timestamp,
};

impl Core {
    /// How many moves other than removals are due, counted up to `max`: what is left of a budget is for removals.
    #[must_use]
    pub fn due_moves(&self, now: Timestamp, max: usize) -> usize {
        let unsettled = self.unsettled_moves(max);
        unsettled + self.index.due_timers(now, max - unsettled)
    }

    /// Does what is due: jobs whose parents ended, then the longest due first and removals after everything else, at most `budget` moves.
    pub fn maintain(&mut self, now: Timestamp, budget: u16) -> Maintained {
        let mut done = Maintained::default();
        for _ in 0..budget {
            if let Some((parent, child)) = self.next_unsettled() {
                done.settled.extend(self.settle(child, parent, now).map(|state| (child, state)));
                continue;
            }
            let Some((timer, id)) = self.index.first_timer(now) else { break };
            match timer {
                Timer::Due => {
                    self.promote(now, id);
                    done.promoted += 1;
                }
                Timer::Lease => {
                    let backoff = self.lost_backoff(id);
                    done.reclaimed.extend(self.reclaim(now, id, backoff).map(|state| (id, state)));
                }
                Timer::Deadline => {
                    self.expire(now, id, JobErrorCode::DeadlineExceeded);
                    done.expired.push(id);
                }
                Timer::Input => {
                    self.expire(now, id, JobErrorCode::InputExpired);
                    done.expired.push(id);
                }
                Timer::Retain => {
                    let result = self.forget(id).and_then(|head| head.result);
                    self.touched.insert(id);
                    done.removed.push((id, result));
                }
            }
        }
        done
    }

    /// Takes every lease back at once: for a store that knows that all workers of before are gone. Counts as lost, without a delay.
    pub fn reclaim_all(&mut self, now: Timestamp) -> Vec<(JobId, JobState)> {
        let held = self.jobs.values().filter(|head| head.state == JobState::Leased).map(|head| head.id);
        let held: Vec<JobId> = held.collect();
        held.into_iter().filter_map(|id| self.reclaim(now, id, Duration::ZERO).map(|state| (id, state))).collect()
    }

    /// Delayed → ready.
    pub(super) fn promote(&mut self, now: Timestamp, id: JobId) {
        self.change(id, now, moves::promote);
    }

    /// Ends a job that nobody holds because its time is over.
    fn expire(&mut self, now: Timestamp, id: JobId, code: JobErrorCode) {
        self.change(id, now, |head| moves::expire(head, now, code));
    }

    fn reclaim(&mut self, now: Timestamp, id: JobId, delay: Duration) -> Option<JobState> {
        self.change(id, now, |head| moves::reclaim(head, now, delay))
    }

    fn lost_backoff(&self, id: JobId) -> Duration {
        let lost = self.head(id).map_or(0, |head| head.lost);
        moves::lost_backoff(self.limits.lost_backoff_base, self.limits.lost_backoff_max, lost)
    }
}
