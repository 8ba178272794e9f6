//! A job store that is called by many at a time: concurrent enqueues, ends and nacks go to the store behind it together.
//!
//! For stores where a call costs a round trip. Each caller still gets its own answers, and nothing is delayed for the sake of a batch.

use std::{num::NonZeroU16, sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{
    bounds,
    job::{Answer, Checkpoint, Job, LeaseKey, NewJob},
    lease::{
        Answered, Beat, Cancelled, Enqueued, Fenced, Finish, Heartbeat, JobPage, JobQuery, LEASE_BATCH_MAX, LaneCounts,
        LeaseBatch, LeaseRequest, Maintained, Nack, NackHow, Redriven, Restored, StoreHealth,
    },
    store::JobStore,
};
use crate::{
    coalesce::Coalescer,
    error::StoreResult,
    id::{JobId, Lane, TenantId},
};

const STORE: &str = "batched job store";

/// About what an entry weighs beside what its caller put in, in bytes.
const HEAD_BYTES: usize = 1_024;

fn weight_of(how: &NackHow) -> usize {
    match how {
        NackHow::Park { requests, checkpoint, .. } => {
            HEAD_BYTES + checkpoint.text.len() + requests.iter().map(|asked| asked.request.len()).sum::<usize>()
        }
        NackHow::Fail { .. } | NackHow::Release { .. } | NackHow::Move { .. } => HEAD_BYTES,
    }
}

/// A [`JobStore`] in front of another.
#[derive(Debug)]
pub struct BatchedJobStore {
    inner: Arc<dyn JobStore>,
    enqueue: Coalescer<NewJob, Enqueued>,
    finish: Coalescer<Finish, Fenced>,
    nack: Coalescer<Nack, Fenced>,
}

impl BatchedJobStore {
    /// In front of `inner`.
    ///
    /// # Panics
    /// Outside of a tokio runtime, which must live as long as the store is used.
    #[must_use]
    pub fn new(inner: Arc<dyn JobStore>) -> Self {
        let entries_max = usize::from(LEASE_BATCH_MAX);
        let (enqueue, finish, nack) = (Arc::clone(&inner), Arc::clone(&inner), Arc::clone(&inner));
        Self {
            enqueue: Coalescer::new(
                STORE,
                entries_max,
                |job| job.body.input().get().len() + HEAD_BYTES,
                move |jobs: Vec<NewJob>| {
                    let store = Arc::clone(&enqueue);
                    async move { store.enqueue(&jobs).await }
                },
            ),
            finish: Coalescer::new(
                STORE,
                entries_max,
                |_| HEAD_BYTES,
                move |done: Vec<Finish>| {
                    let store = Arc::clone(&finish);
                    async move { store.finish(&done).await }
                },
            ),
            nack: Coalescer::new(
                STORE,
                entries_max,
                |nack| weight_of(&nack.how),
                move |back: Vec<Nack>| {
                    let store = Arc::clone(&nack);
                    async move { store.nack(&back).await }
                },
            ),
            inner,
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl JobStore for BatchedJobStore {
    // Bounds are checked before entries of several callers meet: what is wrong is told to its own caller alone.
    async fn enqueue(&self, jobs: &[NewJob]) -> StoreResult<Vec<Enqueued>> {
        bounds::check_new(STORE, jobs)?;
        self.enqueue.call(jobs.to_vec()).await
    }

    async fn finish(&self, done: &[Finish]) -> StoreResult<Vec<Fenced>> {
        bounds::check_batch(STORE, done.len())?;
        self.finish.call(done.to_vec()).await
    }

    async fn nack(&self, back: &[Nack]) -> StoreResult<Vec<Fenced>> {
        bounds::check_nacks(STORE, back)?;
        self.nack.call(back.to_vec()).await
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
