//! What only the holder of a job's newest lease may do: save a checkpoint, end the job, give it back.

use super::Core;
use crate::{
    id::JobId,
    queue::{
        job::{Checkpoint, JobHead, LeaseKey},
        lease::{Fenced, Finish, Nack},
        moves,
    },
    time::Timestamp,
};

impl Core {
    /// Saves how to go on with a call.
    pub fn checkpoint(&mut self, now: Timestamp, lease: LeaseKey, at: Checkpoint) -> Fenced {
        match moves::fence(self.head(lease.job), lease, |_| false) {
            Ok(()) => self.moved(lease.job, now, |head| moves::checkpoint(head, at)),
            Err(refused) => refused,
        }
    }

    /// Ends a job, whoever wished it cancelled in between.
    pub fn finish(&mut self, now: Timestamp, done: &Finish) -> Fenced {
        let id = done.lease.job;
        match moves::fence(self.head(id), done.lease, |head| moves::ended_so(head, &done.end)) {
            Ok(()) => self.moved(id, now, |head| moves::finish(head, now, &done.end)),
            Err(refused) => refused,
        }
    }

    /// Gives a job back. A cancel wish wins.
    pub fn nack(&mut self, now: Timestamp, back: &Nack) -> Fenced {
        let id = back.lease.job;
        match moves::fence(self.head(id), back.lease, |head| head.lease_end == Some(moves::nacked_as(&back.how))) {
            Ok(()) => self.moved(id, now, |head| moves::nack(head, now, &back.how)),
            Err(refused) => refused,
        }
    }

    fn moved(&mut self, id: JobId, now: Timestamp, edit: impl FnOnce(&mut JobHead)) -> Fenced {
        self.change(id, now, edit).map_or(Fenced::Gone, Fenced::Ok)
    }
}
