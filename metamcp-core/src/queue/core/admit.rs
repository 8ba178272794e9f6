//! The way in: a new job is accepted, known already, in conflict, or one too many.

use super::{Core, lane::LaneQueue};
use crate::{
    id::JobId,
    queue::{
        job::{JobHead, JobState, NewJob},
        lease::{Durability, Enqueued},
    },
    time::Timestamp,
};

/// What became of one new job. [`Admission::kept`] makes the store's answer of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Accepted.
    Accepted,
    /// The same job, or one with the same idempotency key and the same request, stands already.
    Duplicate {
        /// The job that stands.
        job: JobId,
        /// Where it stands.
        state: JobState,
    },
    /// The idempotency key belongs to another request.
    Conflict {
        /// The job that has the key.
        job: JobId,
    },
    /// The lane holds as many jobs as it may.
    Full {
        /// The bound, in jobs.
        limit: u64,
    },
}

impl Admission {
    /// The answer of a store that keeps what was accepted this safely.
    #[must_use]
    pub const fn kept(self, durability: Durability) -> Enqueued {
        match self {
            Self::Accepted => Enqueued::Ok { durability },
            Self::Duplicate { job, state } => Enqueued::Duplicate { job, state },
            Self::Conflict { job } => Enqueued::Conflict { job },
            Self::Full { limit } => Enqueued::Full { limit },
        }
    }
}

impl Core {
    /// Accepts a job, or says why not.
    pub fn enqueue(&mut self, now: Timestamp, job: &NewJob) -> Admission {
        if let Some(head) = self.head(job.id) {
            return Admission::Duplicate { job: head.id, state: head.state };
        }
        let keyed = job.idempotency_key.as_deref().and_then(|key| self.idempotent(&job.owner.tenant, key));
        if let Some(head) = keyed.and_then(|id| self.head(id)) {
            return if head.request_digest == job.request_digest {
                Admission::Duplicate { job: head.id, state: head.state }
            } else {
                Admission::Conflict { job: head.id }
            };
        }
        let limit = self.limits.lane_jobs_max;
        if self.index.lane(&job.lane).map_or(0, LaneQueue::backlog) >= limit {
            return Admission::Full { limit };
        }
        self.insert(accepted(job, now));
        self.touched.insert(job.id);
        Admission::Accepted
    }
}

/// The first head of a job.
fn accepted(job: &NewJob, now: Timestamp) -> JobHead {
    let due_at = now + job.delay;
    JobHead {
        id: job.id,
        owner: job.owner.clone(),
        lane: job.lane.clone(),
        priority: job.priority,
        state: if due_at > now { JobState::Delayed } else { JobState::Ready },
        created_at: now,
        updated_at: now,
        due_at,
        started_at: None,
        finished_at: None,
        deadline: job.deadline,
        deadline_at: job.deadline.map(|deadline| now + deadline),
        retain: job.retain,
        attempts: 0,
        attempts_max: job.attempts_max.max(1),
        lost: 0,
        lost_max: job.lost_max.max(1),
        epoch: 0,
        nonce: 0,
        worker: None,
        lease_until: None,
        lease_end: None,
        maybe_called: false,
        cancel_reason: None,
        candidate: 0,
        checkpoint: None,
        requests: Vec::new(),
        answer: None,
        input_until: None,
        progress: None,
        result: None,
        error: None,
        idempotency_key: job.idempotency_key.clone(),
        request_digest: job.request_digest,
    }
}
