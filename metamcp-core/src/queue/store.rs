//! The trait of durable queues.

use std::{fmt, num::NonZeroU16, time::Duration};

use async_trait::async_trait;

use super::{
    job::{Answer, Checkpoint, Job, LeaseKey, NewJob},
    lease::{
        Answered, Beat, Cancelled, Enqueued, Fenced, Finish, Heartbeat, JobPage, JobQuery, LaneCounts, LeaseBatch,
        LeaseRequest, Maintained, Nack, Redriven, Restored, StoreHealth,
    },
};
use crate::{
    error::StoreResult,
    id::{JobId, Lane, TenantId},
};

/// A durable queue with leases.
///
/// # Contract
/// - Every method is safe to repeat: a client's time-out never means "not done".
/// - What is acknowledged is as durable as [`JobStore::health`] says. No accepted job is lost; each reaches one final state.
/// - A final move, a nack or a checkpoint is accepted only with the key of the job's newest lease. A lease that has expired but was not yet
///   reclaimed may still finish.
/// - The store's clock is the only clock: callers give durations, never instants.
/// - Within a lane tenants take turns by weight; within a tenant a job's place is `due − priority · 60 s`, ties in order of id.
/// - A job whose concurrency key is held as often as it may be is passed over; each lease of the key that ends lets the first of those go on,
///   in each lane and for each bound, so that no lane waits for another one's. Whoever is leased first holds the key, the others are passed
///   over again.
///   A job whose rate key is used up is delayed until its slot. Either costs its tenant a turn, so that a flood of them holds nobody else up.
/// - A job is done before those that wait for it are ready; one that others wait for, or take results from, is kept until they have ended.
/// - Batches answer entry by entry, in order; at most [`LEASE_BATCH_MAX`](super::LEASE_BATCH_MAX) entries, more is `Invalid`.
///
/// # Cancel safety
/// Dropping a future may leave its effect done or undone; repeat the call to know.
#[async_trait]
pub trait JobStore: fmt::Debug + Send + Sync + 'static {
    /// Accepts jobs; durable before it returns. Ids are chosen by the caller: the same id again is a duplicate, and an id is not used again when
    /// its job was removed. One that comes [`held`](NewJob::held) is leased to its worker with its acceptance.
    async fn enqueue(&self, jobs: &[NewJob]) -> StoreResult<Vec<Enqueued>>;

    /// Takes ready jobs. The lease is durable before it returns; asked again with the same worker and request id while the grants are still
    /// held, it answers the same grants. A job past its deadline may be among them, as long as maintenance has not ended it: no store ends
    /// one unheard.
    async fn lease(&self, want: &LeaseRequest) -> StoreResult<LeaseBatch>;

    /// Extends leases to `extend` from now and brings progress in and cancel wishes out.
    async fn heartbeat(&self, beats: &[Heartbeat], extend: Duration) -> StoreResult<Vec<Beat>>;

    /// Saves how to go on with a call, durable before it returns. Clears `maybe_called` and the owner's answer.
    async fn checkpoint(&self, lease: LeaseKey, at: Checkpoint) -> StoreResult<Fenced>;

    /// Ends jobs: the only way from a lease to a final state. The same end again answers `OkAgain`.
    async fn finish(&self, done: &[Finish]) -> StoreResult<Vec<Fenced>>;

    /// Gives jobs back. A cancel wish wins: the job then ends cancelled. The same nack again answers `OkAgain` until the job is leased anew.
    async fn nack(&self, back: &[Nack]) -> StoreResult<Vec<Fenced>>;

    /// Brings an owner's answer: input → ready.
    async fn answer(&self, job: JobId, answer: Answer) -> StoreResult<Answered>;

    /// Dead → ready, with counters at zero; → waiting when a job it waits for is not done.
    async fn redrive(&self, job: JobId) -> StoreResult<Redriven>;

    /// Ends a job that nobody holds; asks its worker when somebody does.
    async fn cancel(&self, job: JobId, reason: &str) -> StoreResult<Cancelled>;

    /// One job.
    async fn get(&self, job: JobId) -> StoreResult<Option<Job>>;

    /// The job that holds an idempotency key: from its acceptance until it is removed, whichever way it ended. It may have been removed by
    /// the time it is read.
    async fn keyed(&self, tenant: &TenantId, key: &str) -> StoreResult<Option<JobId>>;

    /// A page of jobs, newest first.
    async fn list(&self, query: &JobQuery) -> StoreResult<JobPage>;

    /// How many jobs of `lane` stand where. Cost does not grow with ended jobs.
    async fn counts(&self, lane: &Lane) -> StoreResult<LaneCounts>;

    /// The lanes that hold live jobs or dead letters or are paused, A to Z; the first [`LANES_TOLD_MAX`](super::LANES_TOLD_MAX).
    async fn lanes(&self) -> StoreResult<Vec<Lane>>;

    /// Takes in jobs just as another store held them, for backup and migration: nothing of them is changed, judged or told. Both stores
    /// should be at rest; a lease that was held there runs out here.
    async fn restore(&self, jobs: &[Job]) -> StoreResult<Vec<Restored>>;

    /// Stops or resumes leasing from `lane`; durable. Jobs that are held go on.
    async fn pause(&self, lane: &Lane, paused: bool) -> StoreResult<()>;

    /// Promotes due jobs, reclaims expired leases, ends what waits past its deadline, moves what waits for a job that has ended, and when that
    /// is done removes what is past retention:
    /// at most `budget` moves. Whoever waits for jobs that are ready by it is woken. What the store took back or ended by itself since the last call is told as reclaimed, within the budget too.
    /// A lost lease counts, sets `maybe_called`, and brings the job back, from the second on after a backoff, or dead when it was lost too
    /// often.
    async fn maintain(&self, budget: NonZeroU16) -> StoreResult<Maintained>;

    /// Waits until a job of `lanes` may be ready, or `max_wait` is over. A hint, never a promise; cancel-safe.
    async fn wait_ready(&self, lanes: &[Lane], max_wait: Duration);

    /// What the store really gives.
    async fn health(&self) -> StoreResult<StoreHealth>;
}

#[cfg(test)]
mod dyn_compatible {
    fn _holds(_: Box<dyn super::JobStore>) {}
}
