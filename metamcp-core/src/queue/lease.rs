//! The words spoken with a job store: leases with their fences, and the requests and answers of each call.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::job::{Checkpoint, InputRequest, Job, JobError, JobState, LeaseKey, Progress};
use crate::{
    auth::Principal,
    id::{JobId, Lane, TenantId, WorkerId},
    pointer::ResultPointer,
    time::Timestamp,
};

/// Most jobs one lease call hands out, and most entries of any batch.
pub const LEASE_BATCH_MAX: u16 = 100;
/// Most lanes one lease call names.
pub const LANES_MAX: usize = 32;
/// Most jobs on one page of a list.
pub const LIST_PAGE_MAX: u16 = 200;

/// How far a written thing is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Durability {
    /// Gone when the process ends.
    Memory,
    /// With the system, not on disk: lost with the machine. What a store that writes late may lose with its own process is told by
    /// [`StoreHealth::detail`].
    OsBuffered,
    /// On disk: survives power loss.
    LocalFsync,
    /// Also with as many replicas as the store was told to wait for: survives the loss of one machine.
    Replicated,
}

/// What became of one job of an enqueue call.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Enqueued {
    /// Accepted; durable as said.
    Ok {
        /// How far it is safe.
        durability: Durability,
        /// When that was, by the store's clock.
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

/// Heaviest tenant.
pub const WEIGHT_MAX: u32 = 1_000;
/// Most tenants with a weight of their own.
pub const WEIGHTS_MAX: usize = 1_000;

/// How lanes and tenants share what is leased. The same for all workers of a store, or they pull against each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shares {
    /// How many turns a tenant gets to another's one, 1 to [`WEIGHT_MAX`]; 1 for those not named. At most [`WEIGHTS_MAX`].
    pub weights: BTreeMap<TenantId, u32>,
    /// Most jobs of a lane that are leased at a time, over all workers; without bound for those not named.
    pub leased_max: BTreeMap<Lane, u64>,
}

/// A wish for work.
#[derive(Debug, Clone, PartialEq)]
pub struct LeaseRequest {
    /// Lanes to take from, the first first; at most [`LANES_MAX`].
    pub lanes: Vec<Lane>,
    /// Most jobs wanted; at most [`LEASE_BATCH_MAX`].
    pub max: u16,
    /// How long the lease lasts without a heartbeat.
    pub visibility: Duration,
    /// Who asks.
    pub worker: WorkerId,
    /// Names this request of this worker: asked again with the same id, the same grants come back.
    pub request: u64,
    /// Random, drawn for this request.
    pub nonce: u64,
    /// How lanes and tenants share.
    pub shares: Arc<Shares>,
}

/// One leased job with the key that everything about it must carry.
#[derive(Debug, Clone, PartialEq)]
pub struct Leased {
    /// The fence.
    pub key: LeaseKey,
    /// The job.
    pub job: Job,
}

/// What a lease call gave.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LeaseBatch {
    /// The leased jobs.
    pub jobs: Vec<Leased>,
    /// When nothing more is ready: how long until something may be.
    pub next_due: Option<Duration>,
}

/// A sign of life for one lease.
#[derive(Debug, Clone, PartialEq)]
pub struct Heartbeat {
    /// The lease.
    pub lease: LeaseKey,
    /// How far the call has come, if that is news.
    pub progress: Option<Progress>,
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beat {
    /// The lease is extended.
    Ok,
    /// The lease is extended, and the owner asks to stop.
    CancelAsked {
        /// Why.
        reason: String,
    },
    /// The lease is gone: stop at once, nothing of this attempt will be accepted.
    Lost,
}

/// What a fenced write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fenced {
    /// Done; the job now stands there.
    Ok(JobState),
    /// The same write was done before.
    OkAgain(JobState),
    /// The lease is not the job's newest, or is over: nothing was changed.
    Stale,
    /// There is no such job.
    Gone,
}

/// How a leased job ends.
#[derive(Debug, Clone, PartialEq)]
pub enum Final {
    /// With a result.
    Done(ResultPointer),
    /// With the result of an identical call made before.
    Cached {
        /// The result, kept for this job too.
        result: ResultPointer,
        /// The job that made the call.
        from: JobId,
    },
    /// Without one.
    Dead(JobError),
    /// By its owner's wish.
    Cancelled {
        /// Why.
        reason: String,
    },
}

/// The end of one lease and of its job.
#[derive(Debug, Clone, PartialEq)]
pub struct Finish {
    /// The lease.
    pub lease: LeaseKey,
    /// How it ends.
    pub end: Final,
}

/// How a job goes back without an end.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum NackHow {
    /// The attempt failed and counts; dead when attempts are used up. With another candidate the checkpoint and the answer are dropped; with
    /// the same one they stay, so that a begun call is gone on with, not begun again.
    /// `maybe_called` stays as it was: what an earlier lease may have done is not undone by a later failure.
    Fail {
        /// Not to be leased before.
        delay: Duration,
        /// The candidate of the route to call next.
        candidate: u16,
        /// Why.
        error: JobError,
    },
    /// Given back; counts nothing. The checkpoint stays.
    Release {
        /// Not to be leased before.
        delay: Duration,
        /// The call may have happened.
        maybe_called: bool,
    },
    /// Given back before anything was called, to be leased again at once and called at another candidate; counts nothing. With another
    /// candidate the checkpoint and the answer are dropped; `maybe_called` stays as it was.
    Move {
        /// The candidate of the route to call next.
        candidate: u16,
    },
    /// Waits for the owner's answer; the checkpoint says how to go on.
    Park {
        /// What is asked.
        requests: Vec<InputRequest>,
        /// How to go on.
        checkpoint: Checkpoint,
        /// How long to wait for an answer before the job is dead.
        ttl: Duration,
    },
}

/// The end of one lease, not of its job.
#[derive(Debug, Clone, PartialEq)]
pub struct Nack {
    /// The lease.
    pub lease: LeaseKey,
    /// How it goes back.
    pub how: NackHow,
}

/// What an answer did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// The job is ready to go on.
    Ok,
    /// The job waits for no answer.
    NotWaiting(JobState),
    /// There is no such job.
    Gone,
}

/// What a redrive did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redriven {
    /// Ready again, counters at zero, the first candidate first.
    Ok,
    /// Only dead jobs are redriven.
    NotDead(JobState),
    /// A job that it waits for is no longer kept.
    Missing {
        /// That job.
        job: JobId,
    },
    /// There is no such job.
    Gone,
}

/// What a cancel did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// Nobody held it: it has ended.
    Now,
    /// A worker holds it and is told with its next heartbeat. It may still complete.
    Asked,
    /// It had ended before.
    Already(JobState),
    /// There is no such job.
    Gone,
}

/// Which jobs to list, newest first.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct JobQuery {
    /// Only jobs of this owner.
    pub owner: Option<Principal>,
    /// Only in these states; empty: in any.
    pub states: Vec<JobState>,
    /// Only in this lane.
    pub lane: Option<Lane>,
    /// Only with this label.
    pub label: Option<(String, String)>,
    /// Only jobs older than this one: the last page's cursor.
    pub before: Option<JobId>,
    /// Most jobs wanted; 0 means, and never more than, [`LIST_PAGE_MAX`].
    pub limit: u16,
}

impl JobQuery {
    /// Whether a job is one of those asked for, the cursor included.
    #[must_use]
    pub fn matches(&self, job: &Job) -> bool {
        self.before.is_none_or(|before| job.head.id < before)
            && self.owner.as_ref().is_none_or(|owner| job.head.owner == *owner)
            && (self.states.is_empty() || self.states.contains(&job.head.state))
            && self.lane.as_ref().is_none_or(|lane| job.head.lane == *lane)
            && self.label.as_ref().is_none_or(|(key, value)| job.body.task.labels.get(key) == Some(value))
    }

    /// The page size that holds.
    #[must_use]
    pub fn page_size(&self) -> usize {
        usize::from(if self.limit == 0 { LIST_PAGE_MAX } else { self.limit.min(LIST_PAGE_MAX) })
    }
}

/// One page of jobs, newest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobPage {
    /// The jobs.
    pub jobs: Vec<Job>,
    /// Ask on with `before` set to this; `None`: there is no more. A page may be short, even empty, and still go on.
    pub next: Option<JobId>,
}

/// How many jobs of a lane stand where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LaneCounts {
    /// Can be leased.
    pub ready: u64,
    /// Ready, and passed over until a holder of their concurrency key lets go.
    pub blocked: u64,
    /// Wait for other jobs.
    pub waiting: u64,
    /// Wait until they are due.
    pub delayed: u64,
    /// Held by workers.
    pub leased: u64,
    /// Wait for an answer.
    pub input: u64,
    /// Dead letters.
    pub dead: u64,
    /// How long the oldest job that can be leased has been due, in milliseconds.
    pub oldest_ready_ms: u64,
    /// Nothing is leased from the lane.
    pub paused: bool,
}

/// Most lanes a store tells of.
pub const LANES_TOLD_MAX: usize = 1_000;

/// What became of one job that another store held before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restored {
    /// It stands here now, just as it stood there.
    Ok,
    /// A job with this id stands already and was left as it is.
    Exists,
    /// Its idempotency key belongs to this other job here; nothing was taken in.
    KeyTaken {
        /// That job.
        job: JobId,
    },
}

/// What one round of maintenance did.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Maintained {
    /// Delayed jobs that became ready.
    pub promoted: u32,
    /// Jobs whose lease was over, by what they became: back in the queue, dead, or cancelled. Also those that the store itself took back
    /// before, such as when it was opened: they may have moved on since.
    pub reclaimed: Vec<(JobId, JobState)>,
    /// Jobs that ended because their deadline, or their wait for an answer, was over.
    pub expired: Vec<JobId>,
    /// Waiting jobs that moved because a job they waited for ended: waiting on, in the queue, or dead.
    pub settled: Vec<(JobId, JobState)>,
    /// Ended jobs past their retention that were removed, with the result each pointed to.
    pub removed: Vec<(JobId, Option<ResultPointer>)>,
}

impl Maintained {
    /// How many moves of the budget were used.
    #[must_use]
    pub fn moves(&self) -> usize {
        usize::try_from(self.promoted).unwrap_or(usize::MAX)
            + self.reclaimed.len()
            + self.expired.len()
            + self.settled.len()
            + self.removed.len()
    }
}

/// What a store really gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreHealth {
    /// How far a write is safe once it is acknowledged.
    pub durability: Durability,
    /// In words, for logs.
    pub detail: String,
}
