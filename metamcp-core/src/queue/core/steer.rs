//! What owners and operators do to a job or a lane, without a lease: answer, redrive, cancel, pause.

use std::time::Duration;

use super::{Core, end, requeue};
use crate::{
    id::{JobId, Lane},
    queue::{
        job::{Answer, JobState, LeaseEnd},
        lease::{Answered, Cancelled, Redriven},
    },
    time::Timestamp,
};

impl Core {
    /// Brings an owner's answer. The same answer again, before the next call is over, is well too.
    pub fn answer(&mut self, now: Timestamp, id: JobId, answer: &Answer) -> Answered {
        let Some(head) = self.head(id) else { return Answered::Gone };
        if head.state != JobState::Input {
            let again = !head.state.is_final() && head.answer.as_ref() == Some(answer);
            return if again { Answered::Ok } else { Answered::NotWaiting(head.state) };
        }
        self.change(id, now, |head| {
            head.answer = Some(answer.clone());
            requeue(head, now, Duration::ZERO);
        });
        Answered::Ok
    }

    /// Dead → ready. The job gets the same time again that it had from its acceptance; its last error stays until the next outcome.
    pub fn redrive(&mut self, now: Timestamp, id: JobId) -> Redriven {
        let Some(head) = self.head(id) else { return Redriven::Gone };
        if head.state != JobState::Dead {
            return Redriven::NotDead(head.state);
        }
        self.change(id, now, |head| {
            head.attempts = 0;
            head.lost = 0;
            head.candidate = 0;
            head.maybe_called = false;
            head.checkpoint = None;
            head.finished_at = None;
            // The end is undone: its holder saying it again is stale, even if the job comes to end in just that way.
            head.lease_end = head.lease_end.filter(|end| *end != LeaseEnd::Finished);
            head.deadline_at = head.deadline.map(|span| now + span);
            requeue(head, now, Duration::ZERO);
        });
        Redriven::Ok
    }

    /// Ends a job that nobody holds; flags one that somebody does. The first reason stays.
    pub fn cancel(&mut self, now: Timestamp, id: JobId, reason: &str) -> Cancelled {
        let Some(head) = self.head(id) else { return Cancelled::Gone };
        if head.state.is_final() {
            return Cancelled::Already(head.state);
        }
        let held = head.state == JobState::Leased;
        if held && head.cancel_reason.is_some() {
            return Cancelled::Asked;
        }
        self.change(id, now, |head| {
            head.cancel_reason = Some(reason.to_owned());
            if !held {
                end(head, now, JobState::Cancelled);
            }
        });
        if held { Cancelled::Asked } else { Cancelled::Now }
    }

    /// Stops or resumes leasing from a lane.
    pub fn pause(&mut self, lane: &Lane, paused: bool) {
        if self.index.pause(lane, paused) {
            self.touched_lanes.insert(lane.clone(), paused);
        }
    }
}
