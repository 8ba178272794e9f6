//! What owners and operators do to a job or a lane, without a lease: answer, redrive, cancel, pause.

use super::Core;
use crate::{
    id::{JobId, Lane},
    queue::{
        job::{Answer, JobState},
        lease::{Answered, Cancelled, Redriven},
        moves,
    },
    time::Timestamp,
};

impl Core {
    /// Brings an owner's answer. The same answer again, before the next call is over, is well too.
    pub fn answer(&mut self, now: Timestamp, id: JobId, answer: &Answer) -> Answered {
        self.change_if(id, now, |head| moves::answer(head, now, answer)).unwrap_or(Answered::Gone)
    }

    /// Dead → ready, or waiting when a job it waits for is not done.
    pub fn redrive(&mut self, now: Timestamp, id: JobId) -> Redriven {
        let Some(head) = self.head(id) else { return Redriven::Gone };
        if head.state != JobState::Dead {
            return Redriven::NotDead(head.state);
        }
        if let Some(missing) = head.after.iter().find(|parent| !self.contains(**parent)) {
            return Redriven::Missing { job: *missing };
        }
        let parents = head.after.clone();
        let undone = self.undone(&parents);
        self.change(id, now, |head| moves::redrive(head, now, undone));
        self.keep_parents(&parents);
        Redriven::Ok
    }

    /// Ends a job that nobody holds; flags one that somebody does. The first reason stays.
    pub fn cancel(&mut self, now: Timestamp, id: JobId, reason: &str) -> Cancelled {
        self.change_if(id, now, |head| moves::cancel(head, now, reason)).unwrap_or(Cancelled::Gone)
    }

    /// Stops or resumes leasing from a lane.
    pub fn pause(&mut self, lane: &Lane, paused: bool) {
        if self.index.pause(lane, paused) {
            self.touched_lanes.insert(lane.clone(), paused);
        }
    }
}
