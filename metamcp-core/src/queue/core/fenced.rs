//! What only the holder of a job's newest lease may do: save a checkpoint, end the job, give it back.

use super::{Core, end, requeue};
use crate::{
    id::JobId,
    queue::{
        job::{Checkpoint, JobHead, JobState, LeaseEnd, LeaseKey},
        lease::{Fenced, Final, Finish, Nack, NackHow},
    },
    time::Timestamp,
};

impl Core {
    /// Saves how to go on with a call.
    pub fn checkpoint(&mut self, now: Timestamp, lease: LeaseKey, at: Checkpoint) -> Fenced {
        if let Err(refused) = self.fence(lease, |_| false) {
            return refused;
        }
        self.moved(lease.job, now, |head| {
            head.checkpoint = Some(at);
            head.maybe_called = false;
            head.answer = None;
        })
    }

    /// Ends a job, whoever wished it cancelled in between.
    pub fn finish(&mut self, now: Timestamp, done: &Finish) -> Fenced {
        if let Err(refused) = self.fence(done.lease, |head| ended_so(head, &done.end)) {
            return refused;
        }
        self.moved(done.lease.job, now, |head| {
            head.lease_end = Some(LeaseEnd::Finished);
            head.maybe_called = false;
            head.checkpoint = None;
            head.cancel_reason = None;
            match &done.end {
                Final::Done(pointer) => {
                    head.result = Some(pointer.clone());
                    head.error = None;
                    end(head, now, JobState::Done);
                }
                Final::Dead(error) => {
                    head.error = Some(error.clone());
                    end(head, now, JobState::Dead);
                }
                Final::Cancelled { reason } => {
                    head.cancel_reason = Some(reason.clone());
                    end(head, now, JobState::Cancelled);
                }
            }
        })
    }

    /// Gives a job back. A cancel wish wins.
    pub fn nack(&mut self, now: Timestamp, back: &Nack) -> Fenced {
        let how = match back.how {
            NackHow::Fail { .. } => LeaseEnd::Failed,
            NackHow::Release { .. } => LeaseEnd::Released,
            NackHow::Park { .. } => LeaseEnd::Parked,
        };
        if let Err(refused) = self.fence(back.lease, |head| head.lease_end == Some(how)) {
            return refused;
        }
        self.moved(back.lease.job, now, |head| {
            head.lease_end = Some(how);
            if head.cancel_reason.is_some() {
                head.maybe_called = false;
                end(head, now, JobState::Cancelled);
            } else {
                give_back(head, now, &back.how);
            }
        })
    }

    /// Lets only the held newest lease through; its last lease is told whether it is `again` what ended it.
    fn fence(&self, lease: LeaseKey, again: impl FnOnce(&JobHead) -> bool) -> Result<(), Fenced> {
        let head = self.head(lease.job).ok_or(Fenced::Gone)?;
        match (head.lease_key() == lease, head.state) {
            (true, JobState::Leased) => Ok(()),
            (true, state) if head.epoch > 0 && again(head) => Err(Fenced::OkAgain(state)),
            _ => Err(Fenced::Stale),
        }
    }

    fn moved(&mut self, id: JobId, now: Timestamp, edit: impl FnOnce(&mut JobHead)) -> Fenced {
        self.change(id, now, edit).map_or(Fenced::Gone, Fenced::Ok)
    }
}

fn give_back(head: &mut JobHead, now: Timestamp, how: &NackHow) {
    match how {
        NackHow::Fail { delay, candidate, error } => {
            head.attempts += 1;
            head.error = Some(error.clone());
            if head.candidate != *candidate {
                head.candidate = *candidate;
                head.checkpoint = None;
                head.answer = None;
            }
            head.progress = None;
            if head.attempts >= head.attempts_max {
                end(head, now, JobState::Dead);
            } else {
                requeue(head, now, *delay);
            }
        }
        NackHow::Release { delay, maybe_called } => {
            head.maybe_called = *maybe_called;
            requeue(head, now, *delay);
        }
        NackHow::Park { requests, checkpoint, ttl } => {
            head.maybe_called = false;
            head.checkpoint = Some(checkpoint.clone());
            head.answer = None;
            requeue(head, now, std::time::Duration::ZERO);
            head.state = JobState::Input;
            head.requests.clone_from(requests);
            head.input_until = Some(now + *ttl);
        }
    }
}

/// Whether the last lease ended the job in just this way.
fn ended_so(head: &JobHead, wanted: &Final) -> bool {
    head.lease_end == Some(LeaseEnd::Finished)
        && match wanted {
            Final::Done(pointer) => head.state == JobState::Done && head.result.as_ref() == Some(pointer),
            Final::Dead(error) => head.state == JobState::Dead && head.error.as_ref() == Some(error),
            Final::Cancelled { reason } => {
                head.state == JobState::Cancelled && head.cancel_reason.as_ref() == Some(reason)
            }
        }
}
