//! The witness in front of the true store, which writes the ledger, and the mistakes it can be told to make: each a bug that real queues had.

use std::{
    collections::BTreeSet,
    num::NonZeroU16,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use metamcp_core::{
    error::StoreResult,
    id::{JobId, Lane, TenantId},
    queue::{
        Answer, Answered, Beat, Cancelled, Checkpoint, Enqueued, Fenced, Finish, Heartbeat, Job, JobPage, JobQuery,
        JobState, JobStore, LaneCounts, LeaseBatch, LeaseKey, LeaseRequest, Maintained, Nack, NewJob, Redriven,
        Restored, StoreHealth,
    },
};

use crate::{ledger::Ledger, world::Twin};

#[derive(Debug)]
pub(crate) struct Witness {
    pub(crate) inner: Arc<dyn JobStore>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) twin: Twin,
    /// Jobs that twin `PopBeforeWrite` has handed out and keeps no row of.
    pub(crate) popped: Mutex<BTreeSet<JobId>>,
    /// Jobs that twin `AckBeforeWrite` has acknowledged and not yet written.
    pub(crate) unwritten: Mutex<BTreeSet<JobId>>,
    /// Rows that a power cut took.
    pub(crate) lost: Mutex<BTreeSet<JobId>>,
}

impl Witness {
    /// The key that the store is asked with: the caller's, unless the twin is one that does not look at it.
    async fn key(&self, key: LeaseKey) -> LeaseKey {
        match self.inner.get(key.job).await {
            Ok(Some(job)) if self.twin == Twin::AckByIdOnly => job.head.lease_key(),
            _ => key,
        }
    }

    fn note(&self, key: LeaseKey, fenced: Fenced, what: &str) {
        if let Fenced::Ok(state) = fenced {
            self.ledger.wrote(key, state, what);
            self.popped.lock().unwrap().remove(&key.job);
        }
    }

    /// What was acknowledged and not written is gone.
    pub(crate) fn power_cut(&self) {
        self.lost.lock().unwrap().append(&mut self.unwritten.lock().unwrap());
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl JobStore for Witness {
    async fn enqueue(&self, jobs: &[NewJob]) -> StoreResult<Vec<Enqueued>> {
        if self.twin == Twin::AckBeforeWrite {
            let mut unwritten = self.unwritten.lock().unwrap();
            // Every further enqueue pushes the one before it to the disk.
            unwritten.clear();
            unwritten.extend(jobs.iter().map(|job| job.id));
        }
        self.inner.enqueue(jobs).await
    }

    async fn lease(&self, want: &LeaseRequest) -> StoreResult<LeaseBatch> {
        let mut batch = self.inner.lease(want).await?;
        if self.twin == Twin::PopBeforeWrite {
            // The row went away when the job was handed out: after a crash there is nothing to hand out again.
            let mut popped = self.popped.lock().unwrap();
            batch.jobs.retain(|leased| popped.insert(leased.key.job));
        }
        batch.jobs.retain(|leased| !self.lost.lock().unwrap().contains(&leased.key.job));
        for leased in &batch.jobs {
            self.ledger.leased(leased.key);
        }
        Ok(batch)
    }

    async fn heartbeat(&self, beats: &[Heartbeat], extend: Duration) -> StoreResult<Vec<Beat>> {
        self.inner.heartbeat(beats, extend).await
    }

    async fn checkpoint(&self, lease: LeaseKey, at: Checkpoint) -> StoreResult<Fenced> {
        let fenced = self.inner.checkpoint(self.key(lease).await, at).await?;
        self.note(lease, fenced, "checkpoint");
        Ok(fenced)
    }

    async fn finish(&self, done: &[Finish]) -> StoreResult<Vec<Fenced>> {
        let mut asked = done.to_vec();
        for finish in &mut asked {
            finish.lease = self.key(finish.lease).await;
        }
        let answers = self.inner.finish(&asked).await?;
        for (finish, fenced) in done.iter().zip(&answers) {
            self.note(finish.lease, *fenced, "finish");
        }
        Ok(answers)
    }

    async fn nack(&self, back: &[Nack]) -> StoreResult<Vec<Fenced>> {
        let mut asked = back.to_vec();
        for nack in &mut asked {
            nack.lease = self.key(nack.lease).await;
        }
        let answers = self.inner.nack(&asked).await?;
        for (nack, fenced) in back.iter().zip(&answers) {
            self.note(nack.lease, *fenced, "nack");
        }
        Ok(answers)
    }

    async fn answer(&self, job: JobId, answer: Answer) -> StoreResult<Answered> {
        self.inner.answer(job, answer).await
    }

    async fn redrive(&self, job: JobId) -> StoreResult<Redriven> {
        self.inner.redrive(job).await
    }

    async fn cancel(&self, job: JobId, reason: &str) -> StoreResult<Cancelled> {
        let cancelled = self.inner.cancel(job, reason).await?;
        if cancelled == Cancelled::Now {
            self.ledger.ended(job, JobState::Cancelled);
        }
        Ok(cancelled)
    }

    async fn get(&self, job: JobId) -> StoreResult<Option<Job>> {
        let job = self.inner.get(job).await?;
        let lost = |job: &Job| {
            // The row that was handed out is nowhere once its lease is over.
            let popped = self.popped.lock().unwrap().contains(&job.head.id) && job.head.state != JobState::Leased;
            popped || self.lost.lock().unwrap().contains(&job.head.id)
        };
        Ok(job.filter(|job| !lost(job)))
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
        let done = self.inner.maintain(budget).await?;
        for (id, state) in done.reclaimed.iter().filter(|(_, state)| state.is_final()) {
            self.ledger.ended(*id, *state);
        }
        for id in &done.expired {
            self.ledger.ended(*id, JobState::Dead);
        }
        Ok(done)
    }

    async fn wait_ready(&self, lanes: &[Lane], max_wait: Duration) {
        self.inner.wait_ready(lanes, max_wait).await;
    }

    async fn health(&self) -> StoreResult<StoreHealth> {
        self.inner.health().await
    }
}
