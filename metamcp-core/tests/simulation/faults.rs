//! One process's view of the shared store: calls are late, fail before or after they were done, and hang for ever once the process is cut off.

use std::{
    num::NonZeroU16,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use metamcp_core::{
    entropy::Entropy,
    error::{StoreError, StoreErrorKind, StoreResult},
    id::{JobId, Lane, TenantId},
    queue::{
        Answer, Answered, Beat, Cancelled, Checkpoint, Enqueued, Fenced, Finish, Heartbeat, Job, JobPage, JobQuery,
        JobStore, LaneCounts, LeaseBatch, LeaseKey, LeaseRequest, Maintained, Nack, NewJob, Redriven, Restored,
        StoreHealth,
    },
};
use tokio::sync::watch;

#[derive(Debug)]
pub(crate) struct Faulty {
    inner: Arc<dyn JobStore>,
    entropy: Arc<dyn Entropy>,
    /// True while the process is cut off from the store; for ever when it is dead.
    pub(crate) cut: watch::Sender<bool>,
    /// Faults in a thousand calls.
    pub(crate) per_mille: AtomicU32,
}

impl Faulty {
    pub(crate) fn new(inner: Arc<dyn JobStore>, entropy: Arc<dyn Entropy>, per_mille: u32) -> Self {
        Self { inner, entropy, cut: watch::Sender::new(false), per_mille: AtomicU32::new(per_mille) }
    }

    fn unavailable() -> StoreError {
        StoreError::new(StoreErrorKind::Unavailable, "simulated", "broken")
    }

    fn strikes(&self) -> bool {
        self.entropy.next_u64() % 1_000 < u64::from(self.per_mille.load(Ordering::Relaxed))
    }

    async fn connected(&self) {
        let mut cut = self.cut.subscribe();
        cut.wait_for(|cut| !cut).await.expect("the sender is in self");
    }

    async fn through<T>(&self, call: impl Future<Output = StoreResult<T>>) -> StoreResult<T> {
        if self.strikes() {
            tokio::time::sleep(Duration::from_millis(self.entropy.next_u64() % 3_000)).await;
        }
        self.connected().await;
        if self.strikes() {
            return Err(Self::unavailable());
        }
        let answer = call.await;
        self.connected().await;
        if self.strikes() { Err(Self::unavailable()) } else { answer }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl JobStore for Faulty {
    async fn enqueue(&self, jobs: &[NewJob]) -> StoreResult<Vec<Enqueued>> {
        self.through(self.inner.enqueue(jobs)).await
    }

    async fn lease(&self, want: &LeaseRequest) -> StoreResult<LeaseBatch> {
        self.through(self.inner.lease(want)).await
    }

    async fn heartbeat(&self, beats: &[Heartbeat], extend: Duration) -> StoreResult<Vec<Beat>> {
        self.through(self.inner.heartbeat(beats, extend)).await
    }

    async fn checkpoint(&self, lease: LeaseKey, at: Checkpoint) -> StoreResult<Fenced> {
        self.through(self.inner.checkpoint(lease, at)).await
    }

    async fn finish(&self, done: &[Finish]) -> StoreResult<Vec<Fenced>> {
        self.through(self.inner.finish(done)).await
    }

    async fn nack(&self, back: &[Nack]) -> StoreResult<Vec<Fenced>> {
        self.through(self.inner.nack(back)).await
    }

    async fn answer(&self, job: JobId, answer: Answer) -> StoreResult<Answered> {
        self.through(self.inner.answer(job, answer)).await
    }

    async fn redrive(&self, job: JobId) -> StoreResult<Redriven> {
        self.through(self.inner.redrive(job)).await
    }

    async fn cancel(&self, job: JobId, reason: &str) -> StoreResult<Cancelled> {
        self.through(self.inner.cancel(job, reason)).await
    }

    async fn get(&self, job: JobId) -> StoreResult<Option<Job>> {
        self.through(self.inner.get(job)).await
    }

    async fn keyed(&self, tenant: &TenantId, key: &str) -> StoreResult<Option<JobId>> {
        self.through(self.inner.keyed(tenant, key)).await
    }

    async fn list(&self, query: &JobQuery) -> StoreResult<JobPage> {
        self.through(self.inner.list(query)).await
    }

    async fn counts(&self, lane: &Lane) -> StoreResult<LaneCounts> {
        self.through(self.inner.counts(lane)).await
    }

    async fn lanes(&self) -> StoreResult<Vec<Lane>> {
        self.through(self.inner.lanes()).await
    }

    async fn restore(&self, jobs: &[Job]) -> StoreResult<Vec<Restored>> {
        self.through(self.inner.restore(jobs)).await
    }

    async fn pause(&self, lane: &Lane, paused: bool) -> StoreResult<()> {
        self.through(self.inner.pause(lane, paused)).await
    }

    async fn maintain(&self, budget: NonZeroU16) -> StoreResult<Maintained> {
        self.through(self.inner.maintain(budget)).await
    }

    async fn wait_ready(&self, lanes: &[Lane], max_wait: Duration) {
        self.inner.wait_ready(lanes, max_wait).await;
    }

    async fn health(&self) -> StoreResult<StoreHealth> {
        self.through(self.inner.health()).await
    }
}
