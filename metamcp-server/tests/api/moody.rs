//! A job store that can be made to fail: the memory store behind a switch for reads and health.

use std::{
    num::NonZeroU16,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use metamcp_core::{
    error::{StoreError, StoreErrorKind, StoreResult},
    id::{JobId, Lane, TenantId},
    queue::{
        Answer, Answered, Beat, Cancelled, Checkpoint, Enqueued, Fenced, Finish, Heartbeat, Job, JobPage, JobQuery,
        JobStore, LaneCounts, LeaseBatch, LeaseKey, LeaseRequest, Maintained, MemoryJobStore, Nack, NewJob, Redriven,
        Restored, StoreHealth,
    },
    time::SystemClock,
};

/// How reads go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mood {
    /// As they should.
    Fine,
    /// The store is busy.
    Unavailable,
    /// The store is damaged.
    Corrupt,
    /// A bug.
    Panic,
    /// No answer ever comes.
    Hang,
}

/// The store.
#[derive(Debug)]
pub(crate) struct MoodyStore {
    inner: MemoryJobStore,
    mood: AtomicU8,
}

impl MoodyStore {
    pub(crate) fn new() -> Arc<Self> {
        let inner = MemoryJobStore::new(Arc::new(SystemClock::default()));
        Arc::new(Self { inner, mood: AtomicU8::new(Mood::Fine as u8) })
    }

    pub(crate) fn set(&self, mood: Mood) {
        self.mood.store(mood as u8, Ordering::SeqCst);
    }

    async fn feel(&self) -> StoreResult<()> {
        let is = |mood: Mood| self.mood.load(Ordering::SeqCst) == mood as u8;
        let error = |kind| Err(StoreError::new(kind, "moody", "at /secret/place"));
        if is(Mood::Hang) {
            std::future::pending::<()>().await;
        }
        assert!(!is(Mood::Panic), "the store has a bug");
        if is(Mood::Unavailable) {
            return error(StoreErrorKind::Unavailable);
        }
        if is(Mood::Corrupt) {
            return error(StoreErrorKind::Corrupt);
        }
        Ok(())
    }
}

#[async_trait]
impl JobStore for MoodyStore {
    async fn get(&self, job: JobId) -> StoreResult<Option<Job>> {
        self.feel().await?;
        self.inner.get(job).await
    }

    async fn health(&self) -> StoreResult<StoreHealth> {
        self.feel().await?;
        self.inner.health().await
    }

    async fn enqueue(&self, jobs: &[NewJob]) -> StoreResult<Vec<Enqueued>> {
        self.inner.enqueue(jobs).await
    }

    async fn lease(&self, want: &LeaseRequest) -> StoreResult<LeaseBatch> {
        self.inner.lease(want).await
    }

    async fn heartbeat(&self, beats: &[Heartbeat], extend: Duration) -> StoreResult<Vec<Beat>> {
        self.inner.heartbeat(beats, extend).await
    }

    async fn checkpoint(&self, lease: LeaseKey, at: Checkpoint) -> StoreResult<Fenced> {
        self.inner.checkpoint(lease, at).await
    }

    async fn finish(&self, done: &[Finish]) -> StoreResult<Vec<Fenced>> {
        self.inner.finish(done).await
    }

    async fn nack(&self, back: &[Nack]) -> StoreResult<Vec<Fenced>> {
        self.inner.nack(back).await
    }

    async fn answer(&self, job: JobId, answer: Answer) -> StoreResult<Answered> {
        self.inner.answer(job, answer).await
    }

    async fn redrive(&self, job: JobId) -> StoreResult<Redriven> {
        self.inner.redrive(job).await
    }

    async fn cancel(&self, job: JobId, reason: &str) -> StoreResult<Cancelled> {
        self.inner.cancel(job, reason).await
    }

    async fn keyed(&self, tenant: &TenantId, key: &str) -> StoreResult<Option<JobId>> {
        self.inner.keyed(tenant, key).await
    }

    async fn list(&self, query: &JobQuery) -> StoreResult<JobPage> {
        self.inner.list(query).await
    }

    async fn counts(&self, lane: &Lane) -> StoreResult<LaneCounts> {
        self.inner.counts(lane).await
    }

    async fn lanes(&self) -> StoreResult<Vec<Lane>> {
        self.inner.lanes().await
    }

    async fn restore(&self, jobs: &[Job]) -> StoreResult<Vec<Restored>> {
        self.inner.restore(jobs).await
    }

    async fn pause(&self, lane: &Lane, paused: bool) -> StoreResult<()> {
        self.inner.pause(lane, paused).await
    }

    async fn maintain(&self, budget: NonZeroU16) -> StoreResult<Maintained> {
        self.inner.maintain(budget).await
    }

    async fn wait_ready(&self, lanes: &[Lane], max_wait: Duration) {
        self.inner.wait_ready(lanes, max_wait).await;
    }
}
