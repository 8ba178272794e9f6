//! A job: the head that changes with every move, and the body that never does.
//!
//! ```text
//!  waiting ─▶ delayed ─▶ ready ──lease──▶ leased ──finish──▶ done
//!     │                     ▲  ▲            │  ├───────────▶ dead ──redrive──▶ ready
//!     └ a job it waits for  │  └ nack, lease expired ┤
//!       failed: dead        └─answer── input ◀─park──┘   cancel: waiting, delayed, ready, input → cancelled; leased → flag
//! ```
//! A ready job whose concurrency key is held as often as it may be is *blocked*: still ready, and passed over until a holder lets go.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    auth::Principal,
    id::{JobId, Lane, WorkerId},
    json::RawJson,
    matching::Route,
    pointer::{Digest, ResultPointer},
    task::{ConcurrencyKey, RateKey, TaskRecord},
    time::Timestamp,
};

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum JobState {
    /// Waits for the jobs named in its `after`.
    Waiting,
    /// Waits until it is due.
    Delayed,
    /// Can be leased.
    Ready,
    /// Held by a worker.
    Leased,
    /// Waits for an answer of its owner; holds no worker.
    Input,
    /// Ended with a result.
    Done,
    /// Ended without one; may be redriven.
    Dead,
    /// Ended by its owner's wish.
    Cancelled,
}

impl JobState {
    /// Whether the job has ended.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Dead | Self::Cancelled)
    }
}

/// Why a job, or one attempt of it, failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum JobErrorCode {
    /// The call may have happened and is not safe to repeat.
    OutcomeUnknown,
    /// The deadline passed.
    DeadlineExceeded,
    /// Leases ran out too often: the worker crashed, or the job crashes it.
    Lost,
    /// No answer came in time.
    InputExpired,
    /// The server could not be reached or broke off.
    ServerUnavailable,
    /// The server answered with a protocol error.
    ServerError,
    /// The server broke the protocol.
    ProtocolViolation,
    /// The result is larger than the bound.
    TooLarge,
    /// The tool is no longer offered, or not as it was when it was matched.
    ToolGone,
    /// A job that it waits for, or whose result it takes, ended without a result or is gone.
    DependencyFailed,
    /// The arguments do not fit the tool, once what they point to is in its place.
    InvalidInput,
    /// MetaMCP itself failed.
    Internal,
}

/// Longest error message kept with a job, in bytes.
pub const ERROR_BYTES_MAX: usize = 2_048;

/// A failure as its owner reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// The kind.
    pub code: JobErrorCode,
    /// In words, at most [`ERROR_BYTES_MAX`] bytes.
    pub message: String,
}

impl JobError {
    /// A failure; the message is cut to [`ERROR_BYTES_MAX`] bytes.
    #[must_use]
    pub fn new(code: JobErrorCode, message: impl Into<String>) -> Self {
        let mut message = message.into();
        message.truncate(message.floor_char_boundary(ERROR_BYTES_MAX));
        Self { code, message }
    }
}

/// How far a call has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Units done; grows.
    pub value: f64,
    /// Units in all, when known.
    pub total: Option<f64>,
    /// In words.
    pub message: Option<String>,
}

/// Largest checkpoint, in bytes of JSON text.
pub const CHECKPOINT_BYTES_MAX: usize = 64 << 10;

/// How to go on with a call that has begun: opaque to the queue, written and read by one kind of transport.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// JSON text, at most [`CHECKPOINT_BYTES_MAX`] bytes.
    pub text: String,
    /// Going on from here twice does no harm, also with an answer: true for a remote task that is polled, false for a call that is made
    /// again with answers and may act each time.
    pub replay_safe: bool,
}

/// A question of a server to the job's owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputRequest {
    /// Names the question within its job; the answer uses it.
    pub key: String,
    /// JSON text of the request as the server sent it: `{"method": …, "params": …}`.
    pub request: String,
}

/// How a lease ended. Tells a repeated call of the last holder from a stale one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LeaseEnd {
    /// Its holder ended the job.
    Finished,
    /// Its holder said that the attempt failed.
    Failed,
    /// Its holder gave the job back.
    Released,
    /// Its holder parked the job.
    Parked,
    /// It ran out and was reclaimed.
    Lost,
}

/// An owner's answer to what a server asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// JSON text: an object from request key to response.
    pub responses: String,
}

/// Most jobs one job waits for.
pub const AFTER_MAX: usize = crate::task::AFTER_MAX;
/// The fencing token of one lease: epoch and nonce must both match. A key from a stale lease is never accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LeaseKey {
    /// The job that is held.
    pub job: JobId,
    /// Which lease of the job; grows by one each time.
    pub epoch: u64,
    /// Drawn by the worker for each lease request.
    pub nonce: u64,
}

/// The part of a job that changes. Small: results, inputs and routes are elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobHead {
    /// The job.
    pub id: JobId,
    /// Who may read and steer it.
    pub owner: Principal,
    /// The queue it stands in.
    pub lane: Lane,
    /// 0 to 9: head start of 60 seconds a step.
    pub priority: u8,
    /// Where it stands.
    pub state: JobState,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it last moved.
    pub updated_at: Timestamp,
    /// When it is, or was, due to be leased.
    pub due_at: Timestamp,
    /// When it was first leased.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// How long it may take, counted from acceptance and anew from each redrive.
    pub deadline: Option<Duration>,
    /// When it is given up, running or not.
    pub deadline_at: Option<Timestamp>,
    /// How long it is kept after its end.
    pub retain: Duration,
    /// Attempts that failed.
    pub attempts: u32,
    /// Attempts after which it is dead.
    pub attempts_max: u32,
    /// Leases that ran out.
    pub lost: u32,
    /// Lost leases after which it is dead.
    pub lost_max: u32,
    /// Counts leases; half of the fencing token. Never goes back.
    pub epoch: u64,
    /// The other half, drawn for each lease; of the last lease when none is held.
    pub nonce: u64,
    /// Who holds the lease.
    pub worker: Option<WorkerId>,
    /// When the lease runs out.
    pub lease_until: Option<Timestamp>,
    /// How the last lease ended; `None` while it is held, before the first, and when a redrive undid the end.
    pub lease_end: Option<LeaseEnd>,
    /// The last lease ended without word of the call: it may have happened.
    pub maybe_called: bool,
    /// Why its owner wants it to stop: set on a held job that is asked to, and on a cancelled one.
    pub cancel_reason: Option<String>,
    /// Which candidate of the route is to be called.
    pub candidate: u16,
    /// How to go on with the call.
    pub checkpoint: Option<Checkpoint>,
    /// What the server asks, in state input.
    pub requests: Vec<InputRequest>,
    /// The owner's answer, until the next call is over.
    pub answer: Option<Answer>,
    /// When the wait for an answer ends.
    pub input_until: Option<Timestamp>,
    /// How far it has come, by the last heartbeat; may be lost in a crash.
    pub progress: Option<Progress>,
    /// Where the result is.
    pub result: Option<ResultPointer>,
    /// Why it failed, or why the last attempt did.
    pub error: Option<JobError>,
    /// The idempotency key, unique in the tenant.
    pub idempotency_key: Option<String>,
    /// Digest of what was asked: the same key with another digest is a conflict.
    pub request_digest: Digest,
    /// The jobs it waits for or takes results from, each once, of the same tenant.
    pub after: Vec<JobId>,
    /// Those of `after` that are not done yet, in state waiting.
    pub waits_on: Vec<JobId>,
    /// How many live jobs name this one in their `after`: it is kept as long as there are any.
    pub users: u32,
    /// How many of its kind may be leased at a time.
    pub concurrency: Option<ConcurrencyKey>,
    /// It is ready, and passed over until a holder of its concurrency key lets go.
    pub blocked: bool,
    /// How often its kind may be leased.
    pub rate: Option<RateKey>,
    /// Its slot of the rate is taken, for this attempt: being given back or asking its owner costs no other one, a failed attempt or a lost
    /// lease does.
    pub admitted: bool,
    /// The job whose result this one was given in place of a call of its own.
    pub cached_from: Option<JobId>,
}

impl JobHead {
    /// The key of the lease that was given last.
    #[must_use]
    pub const fn lease_key(&self) -> LeaseKey {
        LeaseKey { job: self.id, epoch: self.epoch, nonce: self.nonce }
    }
}

/// The part of a job that never changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobBody {
    /// What is wanted.
    pub task: TaskRecord,
    /// The ranked route, made before enqueue.
    pub route: Route,
}

impl JobBody {
    /// The tool's arguments.
    #[must_use]
    pub const fn input(&self) -> &RawJson {
        &self.task.need.input
    }
}

/// A job as stores give it out.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// What changes.
    pub head: JobHead,
    /// What never does.
    pub body: Arc<JobBody>,
}

/// A job to be enqueued. Instants are the store's: the caller gives durations.
#[derive(Debug, Clone, PartialEq)]
pub struct NewJob {
    /// Chosen by the caller, so that a repeated call is known for one.
    pub id: JobId,
    /// Who may read and steer it.
    pub owner: Principal,
    /// The queue it goes to.
    pub lane: Lane,
    /// 0 to 9.
    pub priority: u8,
    /// Not before this has passed.
    pub delay: Duration,
    /// Given up after this, counted from acceptance.
    pub deadline: Option<Duration>,
    /// How long it is kept after its end.
    pub retain: Duration,
    /// Failed attempts after which it is dead; at least 1.
    pub attempts_max: u32,
    /// Lost leases after which it is dead; at least 1.
    pub lost_max: u32,
    /// Unique in the tenant while the job is kept.
    pub idempotency_key: Option<String>,
    /// Digest of what is asked.
    pub request_digest: Digest,
    /// Not before these jobs are done, at most [`AFTER_MAX`], each once, all of the same tenant and still kept. They are kept until this job
    /// has ended. When one of them ends without a result, this one is dead.
    pub after: Vec<JobId>,
    /// How many of its kind may be leased at a time.
    pub concurrency: Option<ConcurrencyKey>,
    /// How often its kind may be leased.
    pub rate: Option<RateKey>,
    /// Who holds it from its acceptance on, if it is not for the queue to hand out. Only of a job that waits for nothing: no delay, no
    /// `after`, no concurrency key and no rate.
    pub held: Option<Held>,
    /// What never changes.
    pub body: Arc<JobBody>,
}

impl NewJob {
    /// The key of the lease that it is enqueued with.
    #[must_use]
    pub fn held_key(&self) -> Option<LeaseKey> {
        self.held.as_ref().map(|held| LeaseKey { job: self.id, epoch: 1, nonce: held.nonce })
    }
}

/// The lease that a job is enqueued with: a call that is under way already becomes a job, and nobody makes it again as long as its worker
/// gives signs of life. It is the job's first lease, and like any other from then on. No turn of its tenant is paid for it, and neither a
/// paused lane nor the bound of one on its leases holds it up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Who holds the job.
    pub worker: WorkerId,
    /// Drawn for this lease.
    pub nonce: u64,
    /// How long the lease lasts without a heartbeat.
    pub visibility: Duration,
}
