//! A job store over the true one that breaks one promise, as real queues have broken it.

use std::{
    collections::BTreeMap,
    num::NonZeroU16,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use metamcp_core::{
    error::StoreResult,
    id::{JobId, Lane, TenantId},
    queue::{
        Answer, Answered, Beat, Cancelled, Checkpoint, Durability, Enqueued, Fenced, Finish, Heartbeat, Job, JobPage,
        JobQuery, JobStore, LaneCounts, LeaseBatch, LeaseKey, LeaseRequest, Leased, Maintained, Nack, NewJob, Redriven,
        Restored, StoreHealth,
    },
    time::Timestamp,
};

use crate::plan::{LABEL, Tool};

/// Which promise is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    /// None: the store is as it should be.
    None,
    /// Acknowledges some jobs without writing them.
    AckBeforeWrite,
    /// A cancel is told, and not done.
    CancelForgotten,
    /// Ends a job for whoever names it, without looking at the lease.
    FinishById,
    /// The same lease is given to two workers.
    HandedOutTwice,
    /// Jobs do not wait for others.
    IgnoresAfter,
    /// Concurrency keys bound nothing.
    IgnoresConcurrency,
    /// The same idempotency key makes a job each time.
    KeyForgotten,
    /// A lost lease is not remembered as a call that may have happened.
    LossForgotten,
    /// Leases that ran out stay.
    NeverReclaims,
    /// A job may lose more leases than it was accepted with.
    PoisonTolerated,
}

/// The store with its bug.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) inner: Arc<dyn JobStore>,
    pub(super) bug: Bug,
    /// Leases that `HandedOutTwice` gives a second time, each once.
    again: Mutex<BTreeMap<JobId, Option<Leased>>>,
}

impl Broken {
    pub(super) fn new(inner: Arc<dyn JobStore>, bug: Bug) -> Self {
        Self { inner, bug, again: Mutex::default() }
    }

    /// The job as it is enqueued; `None`: it is not.
    fn spoilt(&self, job: &NewJob) -> Option<NewJob> {
        let mut job = job.clone();
        match self.bug {
            Bug::AckBeforeWrite if is(&job, "unlucky") => return None,
            Bug::IgnoresAfter => job.after.clear(),
            Bug::IgnoresConcurrency => job.concurrency = None,
            Bug::KeyForgotten => job.idempotency_key = None,
            Bug::PoisonTolerated => job.lost_max *= 2,
            _ => {}
        }
        Some(job)
    }

    /// The key that the store is asked with.
    async fn key(&self, key: LeaseKey) -> LeaseKey {
        match self.inner.get(key.job).await {
            Ok(Some(job)) if self.bug == Bug::FinishById => job.head.lease_key(),
            _ => key,
        }
    }
}

fn is(job: &NewJob, key: &str) -> bool {
    job.body.task.labels.get(LABEL).is_some_and(|label| label == key)
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl JobStore for Broken {
    async fn enqueue(&self, jobs: &[NewJob]) -> StoreResult<Vec<Enqueued>> {
        let mut told = Vec::new();
        for job in jobs {
            match self.spoilt(job) {
                Some(job) => told.extend(self.inner.enqueue(&[job]).await?),
                None => told.push(Enqueued::Ok { durability: Durability::OsBuffered, at: Timestamp::from_millis(0) }),
            }
        }
        Ok(told)
    }

    async fn lease(&self, want: &LeaseRequest) -> StoreResult<LeaseBatch> {
        let mut batch = self.inner.lease(want).await?;
        if self.bug == Bug::LossForgotten {
            batch.jobs.iter_mut().for_each(|leased| leased.job.head.maybe_called = false);
        }
        if self.bug == Bug::HandedOutTwice {
            let mut again = self.again.lock().expect("no panic");
            let before: Vec<Leased> = again.values_mut().filter_map(Option::take).collect();
            for leased in &batch.jobs {
                let key = leased.job.body.task.labels.get(LABEL);
                if key.is_some_and(|key| key.starts_with(Tool::Mark.name())) {
                    again.entry(leased.key.job).or_insert_with(|| Some(leased.clone()));
                }
            }
            batch.jobs.extend(before);
        }
        Ok(batch)
    }

    async fn heartbeat(&self, beats: &[Heartbeat], extend: Duration) -> StoreResult<Vec<Beat>> {
        self.inner.heartbeat(beats, extend).await
    }

    async fn checkpoint(&self, lease: LeaseKey, at: Checkpoint) -> StoreResult<Fenced> {
        self.inner.checkpoint(lease, at).await
    }

    async fn finish(&self, done: &[Finish]) -> StoreResult<Vec<Fenced>> {
        let mut asked = done.to_vec();
        for finish in &mut asked {
            finish.lease = self.key(finish.lease).await;
        }
        self.inner.finish(&asked).await
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
        if self.bug == Bug::CancelForgotten {
            return Ok(Cancelled::Now);
        }
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
        if self.bug == Bug::NeverReclaims {
            return Ok(Maintained::default());
        }
        self.inner.maintain(budget).await
    }

    async fn wait_ready(&self, lanes: &[Lane], max_wait: Duration) {
        self.inner.wait_ready(lanes, max_wait).await;
    }

    async fn health(&self) -> StoreResult<StoreHealth> {
        self.inner.health().await
    }
}
