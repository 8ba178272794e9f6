//! Stores that fail when they are told to: a queue from one of its calls on, with or without having done what was asked, and records.

use std::{
    num::NonZeroU16,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use metamcp_core::{
    error::{StoreError, StoreErrorKind, StoreResult},
    id::{JobId, Lane, TenantId},
    queue::{
        Answer, Answered, Beat, Cancelled, Checkpoint, Enqueued, Fenced, Finish, Heartbeat, Job, JobPage, JobQuery,
        JobStore, LaneCounts, LeaseBatch, LeaseKey, LeaseRequest, Maintained, MemoryJobStore, Nack, NewJob, Redriven,
        Restored, StoreHealth,
    },
    record::{Expect, MemoryRecordStore, Record, RecordKind, RecordStore, Written},
    time::{SystemClock, Timestamp},
};

/// How what is new is refused.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    /// Calls to enqueue that go well before.
    pub(crate) after: u32,
    pub(crate) kind: StoreErrorKind,
}

#[derive(Debug)]
pub(crate) struct PatchyJobs {
    inner: MemoryJobStore,
    fault: Mutex<Option<Fault>>,
    /// Calls to enqueue.
    pub(crate) enqueues: AtomicU32,
}

impl PatchyJobs {
    pub(crate) fn new() -> Arc<Self> {
        let inner = MemoryJobStore::new(Arc::new(SystemClock::default()));
        Arc::new(Self { inner, fault: Mutex::new(None), enqueues: AtomicU32::new(0) })
    }

    pub(crate) fn set(&self, fault: Option<Fault>) {
        *self.fault.lock().unwrap() = fault;
        self.enqueues.store(0, Ordering::SeqCst);
    }
}

#[async_trait]
impl JobStore for PatchyJobs {
    /// What is busy has done what was asked all the same.
    async fn enqueue(&self, jobs: &[NewJob]) -> StoreResult<Vec<Enqueued>> {
        let before = self.enqueues.fetch_add(1, Ordering::SeqCst);
        let fault = *self.fault.lock().unwrap();
        let Some(Fault { kind, .. }) = fault.filter(|fault| before >= fault.after) else {
            return self.inner.enqueue(jobs).await;
        };
        if kind == StoreErrorKind::Unavailable {
            self.inner.enqueue(jobs).await?;
        }
        Err(StoreError::new(kind, "patchy", "told to fail"))
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

    async fn get(&self, job: JobId) -> StoreResult<Option<Job>> {
        self.inner.get(job).await
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

    async fn health(&self) -> StoreResult<StoreHealth> {
        self.inner.health().await
    }
}

/// Records of which none is taken.
#[derive(Debug)]
pub(crate) struct FullRecords(MemoryRecordStore);

impl FullRecords {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(MemoryRecordStore::new(Arc::new(SystemClock::default()))))
    }
}

#[async_trait]
impl RecordStore for FullRecords {
    async fn get(&self, kind: RecordKind, name: &str) -> StoreResult<Option<Record>> {
        self.0.get(kind, name).await
    }

    async fn put(&self, _: RecordKind, _: &str, _: Bytes, _: Expect, _: Option<Duration>) -> StoreResult<Written> {
        Err(StoreError::new(StoreErrorKind::Full, "patchy", "no room"))
    }

    async fn now(&self) -> StoreResult<Timestamp> {
        self.0.now().await
    }

    async fn delete(&self, kind: RecordKind, name: &str) -> StoreResult<bool> {
        self.0.delete(kind, name).await
    }

    async fn list(&self, kind: RecordKind, after: Option<&str>, max: u16) -> StoreResult<Vec<Record>> {
        self.0.list(kind, after, max).await
    }
}
