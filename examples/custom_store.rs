//! `embed` with its job store swapped: a store of one's own around another one. This one keeps an audit line of every end.
//!
//! A store from scratch implements the same trait and runs `metamcp_core::job_store_suite!` to know that it keeps the contract.

use std::{
    num::NonZeroU16,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use metamcp_core::{
    auth::Principal,
    engine::Orchestrator,
    error::StoreResult,
    id::{JobId, Lane, ServerName, TenantId},
    queue::{
        Answer, Answered, Beat, Cancelled, Checkpoint, Enqueued, Fenced, Finish, Heartbeat, Job, JobPage, JobQuery,
        JobStore, LaneCounts, LeaseBatch, LeaseKey, LeaseRequest, Maintained, MemoryJobStore, Nack, NewJob, Redriven,
        Restored, StoreHealth,
    },
    task::Task,
    time::SystemClock,
};
use metamcp_examples::code_server;
use serde_json::json;

#[derive(Debug)]
struct Audited {
    inner: MemoryJobStore,
    lines: Mutex<Vec<String>>,
}

// A wrapper that forgets a method would silently change it: the lint makes that an error.
#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl JobStore for Audited {
    async fn finish(&self, done: &[Finish]) -> StoreResult<Vec<Fenced>> {
        let answers = self.inner.finish(done).await?;
        let mut lines = self.lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        lines.extend(done.iter().zip(&answers).map(|(f, answer)| format!("{} {:?} {answer:?}", f.lease.job, f.end)));
        Ok(answers)
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

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let code = ServerName::new("code")?;
    let inner = MemoryJobStore::new(Arc::new(SystemClock::default()));
    let store = Arc::new(Audited { inner, lines: Mutex::default() });
    let orchestrator = Orchestrator::builder()
        .server(code.clone(), code_server(code)?)
        .jobs(Arc::clone(&store) as Arc<dyn JobStore>)
        .build();
    let worker = orchestrator.worker(Default::default());
    let who = Principal::local();

    let need =
        Task::new("list the symbols defined here").with_input(json!({ "text": "fn main() {}", "language": "rust" }));
    let submitted = orchestrator.submit(&who, need).await?;
    orchestrator.wait(&who, submitted.job.head.id, Duration::from_secs(30)).await?;
    worker.drain(Duration::from_secs(5)).await;
    orchestrator.close().await;

    let lines = store.lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    anyhow::ensure!(lines.len() == 1, "one job, one audit line: {lines:?}");
    println!("{}", lines.join("\n"));
    Ok(())
}
