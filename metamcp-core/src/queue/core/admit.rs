//! The way in: a new job is accepted, known already, in conflict, or one too many.

use super::{Core, lane::LaneQueue};
use crate::{
    id::JobId,
    queue::{
        job::{JobState, NewJob},
        lease::{Durability, Enqueued},
        moves,
    },
    time::Timestamp,
};

/// What became of one new job. [`Admission::kept`] makes the store's answer of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Accepted.
    Accepted {
        /// When.
        at: Timestamp,
    },
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
    /// A job it is to wait for is not there, or is another tenant's.
    Missing {
        /// That job.
        job: JobId,
    },
}

impl Admission {
    /// The answer of a store that keeps what was accepted this safely.
    #[must_use]
    pub const fn kept(self, durability: Durability) -> Enqueued {
        match self {
            Self::Accepted { at } => Enqueued::Ok { durability, at },
            Self::Duplicate { job, state } => Enqueued::Duplicate { job, state },
            Self::Conflict { job } => Enqueued::Conflict { job },
            Self::Full { limit } => Enqueued::Full { limit },
            Self::Missing { job } => Enqueued::Missing { job },
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
        let stands = |parent: &&JobId| self.head(**parent).is_some_and(|head| head.owner.tenant == job.owner.tenant);
        if let Some(missing) = job.after.iter().find(|parent| !stands(parent)) {
            return Admission::Missing { job: *missing };
        }
        let head = moves::accept(job, now, self.undone(&job.after));
        self.insert(head);
        self.keep_parents(&job.after);
        self.touched.insert(job.id);
        Admission::Accepted { at: now }
    }
}
