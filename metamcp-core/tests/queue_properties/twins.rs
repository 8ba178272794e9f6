//! Stores with one promise broken on purpose.

use std::{
    num::NonZeroU16,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use metamcp_core::{
    error::StoreResult,
    id::{JobId, Lane, TenantId},
    queue::{
        Answer, Answered, Beat, Cancelled, Checkpoint, Durability, Enqueued, Fenced, Finish, Heartbeat, Job, JobPage,
        JobQuery, JobState, JobStore, LaneCounts, LeaseBatch, LeaseKey, LeaseRequest, Maintained, MemoryJobStore, Nack,
        NewJob, Redriven, Restored, Shares, StoreHealth,
    },
    time::Timestamp,
};

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// An end is accepted for the job's id, whichever token it carries.
    AckById,
    /// The nonce is not looked at.
    EpochOnly,
    /// A repeated wish for work is taken for a new one.
    ForgetsRequests,
    /// Every third accepted job is not kept.
    DropsEveryThird,
    /// A worker never hears that it should stop.
    NoCancelWish,
    /// Concurrency keys are not looked at.
    IgnoresConcurrency,
    /// Bounds of lanes are not looked at.
    IgnoresLaneBounds,
    /// Rate keys are not looked at.
    IgnoresRates,
    /// All tenants weigh the same.
    IgnoresWeights,
    /// A job whose parents stand does not wait for them.
    ForgetsParents,
    /// A job that is done is not kept for the jobs that come to use it.
    RemovesUsedParents,
}

impl Fault {
    pub(crate) const ALL: [Self; 11] = [
        Self::AckById,
        Self::EpochOnly,
        Self::ForgetsRequests,
        Self::DropsEveryThird,
        Self::NoCancelWish,
        Self::IgnoresConcurrency,
        Self::IgnoresLaneBounds,
        Self::IgnoresRates,
        Self::IgnoresWeights,
        Self::ForgetsParents,
        Self::RemovesUsedParents,
    ];
}

/// The in-memory store with a fault.
#[derive(Debug)]
pub(crate) struct Twin {
    inner: MemoryJobStore,
    fault: Fault,
    count: AtomicU64,
}

impl Twin {
    pub(crate) fn new(inner: MemoryJobStore, fault: Fault) -> Self {
        Self { inner, fault, count: AtomicU64::new(0) }
    }

    /// The key that the faulty fence takes this one for.
    async fn taken_for(&self, key: LeaseKey) -> LeaseKey {
        let newest = self.inner.get(key.job).await.expect("memory answers").map_or(key, |job| job.head.lease_key());
        match self.fault {
            Fault::AckById => newest,
            Fault::EpochOnly if newest.epoch == key.epoch => newest,
            _ => key,
        }
    }

    /// The terms that the faulty way in takes these for.
    async fn taken_in_as(&self, job: &NewJob) -> StoreResult<NewJob> {
        let mut taken = job.clone();
        match self.fault {
            Fault::IgnoresConcurrency => taken.concurrency = None,
            Fault::IgnoresRates => taken.rate = None,
            Fault::ForgetsParents if self.parents_are(job, |_| true).await? => taken.after.clear(),
            Fault::RemovesUsedParents if self.parents_are(job, |state| state == JobState::Done).await? => {
                taken.after.clear();
            }
            _ => {}
        }
        Ok(taken)
    }

    /// Whether all parents of a job stand, each as wanted.
    async fn parents_are(&self, job: &NewJob, wanted: fn(JobState) -> bool) -> StoreResult<bool> {
        for parent in &job.after {
            let stands = self.inner.get(*parent).await?.map(|parent| parent.head);
            if !stands.is_some_and(|head| head.owner.tenant == job.owner.tenant && wanted(head.state)) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl JobStore for Twin {
    async fn enqueue(&self, jobs: &[NewJob]) -> StoreResult<Vec<Enqueued>> {
        let mut answers = Vec::new();
        for job in jobs {
            let third = self.count.fetch_add(1, Ordering::Relaxed) % 3 == 2;
            let known = self.inner.get(job.id).await?.is_some();
            if self.fault == Fault::DropsEveryThird && third && !known && job.idempotency_key.is_none() {
                answers.push(Enqueued::Ok { durability: Durability::Memory, at: Timestamp::from_millis(0) });
            } else {
                answers.extend(self.inner.enqueue(&[self.taken_in_as(job).await?]).await?);
            }
        }
        Ok(answers)
    }

    async fn lease(&self, want: &LeaseRequest) -> StoreResult<LeaseBatch> {
        let request = match self.fault {
            Fault::ForgetsRequests => u64::MAX - self.count.fetch_add(1, Ordering::Relaxed),
            _ => want.request,
        };
        let mut shares = Shares::clone(&want.shares);
        match self.fault {
            Fault::IgnoresLaneBounds => shares.leased_max.clear(),
            Fault::IgnoresWeights => shares.weights.clear(),
            _ => {}
        }
        self.inner.lease(&LeaseRequest { request, shares: Arc::new(shares), ..want.clone() }).await
    }

    async fn heartbeat(&self, beats: &[Heartbeat], extend: Duration) -> StoreResult<Vec<Beat>> {
        let mut answers = self.inner.heartbeat(beats, extend).await?;
        if self.fault == Fault::NoCancelWish {
            for answer in answers.iter_mut().filter(|answer| matches!(answer, Beat::CancelAsked { .. })) {
                *answer = Beat::Ok;
            }
        }
        Ok(answers)
    }

    async fn checkpoint(&self, lease: LeaseKey, at: Checkpoint) -> StoreResult<Fenced> {
        self.inner.checkpoint(lease, at).await
    }

    async fn finish(&self, done: &[Finish]) -> StoreResult<Vec<Fenced>> {
        let mut answers = Vec::new();
        for finish in done {
            let finish = Finish { lease: self.taken_for(finish.lease).await, ..finish.clone() };
            answers.extend(self.inner.finish(&[finish]).await?);
        }
        Ok(answers)
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
