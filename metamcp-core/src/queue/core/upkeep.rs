//! What time does to jobs: promotion, lost leases, deadlines, retention.

use std::time::Duration;

use super::{Core, end, index::Timer, requeue};
use crate::{
    id::JobId,
    queue::{
        job::{JobError, JobErrorCode, JobHead, JobState, LeaseEnd},
        lease::Maintained,
    },
    time::Timestamp,
};

impl Core {
    /// How many moves other than removals are due, counted up to `max`: what is left of a budget is for removals.
    #[must_use]
    pub fn due_moves(&self, now: Timestamp, max: usize) -> usize {
        self.index.due_timers(now, max)
    }

    /// Does what is due, the longest due first and removals after everything else, at most `budget` moves.
    pub fn maintain(&mut self, now: Timestamp, budget: u16) -> Maintained {
        let mut done = Maintained::default();
        for _ in 0..budget {
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
        self.change(id, now, |head| head.state = JobState::Ready);
    }

    /// Ends a job that nobody holds because its time is over.
    fn expire(&mut self, now: Timestamp, id: JobId, code: JobErrorCode) {
        let message = match code {
            JobErrorCode::InputExpired => "no answer came in time",
            _ => "the deadline passed before a worker could end the job",
        };
        self.change(id, now, |head| {
            die(head, now, code, message.to_owned());
        });
    }

    fn reclaim(&mut self, now: Timestamp, id: JobId, delay: Duration) -> Option<JobState> {
        self.change(id, now, |head| {
            head.lost += 1;
            head.maybe_called = true;
            head.lease_end = Some(LeaseEnd::Lost);
            if head.cancel_reason.is_some() {
                end(head, now, JobState::Cancelled);
            } else if head.lost >= head.lost_max {
                let message = format!("{} leases ran out without word of their worker", head.lost);
                die(head, now, JobErrorCode::Lost, message);
            } else {
                requeue(head, now, delay);
            }
        })
    }

    /// `base · 2^lost`, bounded.
    fn lost_backoff(&self, id: JobId) -> Duration {
        let lost = self.head(id).map_or(0, |head| head.lost);
        let factor = 1_u32.checked_shl(lost).unwrap_or(u32::MAX);
        self.limits.lost_backoff_base.saturating_mul(factor).min(self.limits.lost_backoff_max)
    }
}

/// Ends a job that no worker will look at again: its error is the last word on what may have happened.
fn die(head: &mut JobHead, now: Timestamp, code: JobErrorCode, mut message: String) {
    if head.maybe_called {
        message.push_str("; an earlier call may have happened");
    }
    head.error = Some(JobError::new(code, message));
    end(head, now, JobState::Dead);
}
