//! The queue on Redis: each call is one script, which does the whole move or nothing of it.

use std::{fmt, num::NonZeroU16, sync::Arc, time::Duration};

use async_trait::async_trait;
use metamcp_core::{
    error::StoreResult,
    id::{JobId, Lane, TenantId},
    queue::{
        Answer, Answered, Beat, Cancelled, Checkpoint, Enqueued, Fenced, Final, Finish, Heartbeat, Job, JobError,
        JobErrorCode, JobPage, JobQuery, JobStore, LANES_TOLD_MAX, LaneCounts, LeaseBatch, LeaseKey, LeaseRequest,
        Leased, Maintained, Nack, NewJob, Redriven, Restored, StoreHealth, bounds,
    },
};

use super::{
    bodies, calls,
    error::STORE,
    head::{self, ToldJobs},
    list,
    namespace::Namespace,
    script::{Script, ScriptCall},
    scripts,
    wake::RedisWake,
    words::{NONE, checkpoint_part, json, progress_part, span_ms, word},
};

/// Most moves of one maintenance script: what it does holds up everybody else.
const MAINTAIN_MOVES_MAX: u16 = 100;
/// Most maintenance scripts of one call; those that only clear up come on top of those that move.
const MAINTAIN_CALLS_MAX: usize = 1_000;
/// Bodies of one enqueue script, in bytes, that let no further job in.
const ENQUEUE_BYTES_MAX: usize = 4 << 20;
/// How long a lease call is remembered after its leases would have run out, in milliseconds: until then its lost reply can be asked for again.
const REQUEST_KEPT_MS: u64 = 3_600_000;
/// How long one who waits sleeps when the queue cannot be looked at.
const BLIND_WAIT: Duration = Duration::from_secs(1);

/// A [`JobStore`] on Redis.
pub struct RedisJobStore {
    namespace: Arc<Namespace>,
    wake: RedisWake,
}

impl fmt::Debug for RedisJobStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisJobStore").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl RedisJobStore {
    pub(super) fn new(namespace: Arc<Namespace>) -> Self {
        let wake = RedisWake::start(&namespace.pool);
        Self { namespace, wake }
    }

    fn call(&self, script: &'static Script) -> ScriptCall<'static> {
        self.namespace.call(script)
    }

    /// One script for a part of a batch.
    async fn enqueue_part(&self, jobs: &[NewJob], bodies: &[String]) -> StoreResult<Vec<Enqueued>> {
        bodies::send_large(&self.namespace, jobs.iter().map(|job| job.id).zip(bodies)).await?;
        let mut call = self.call(&scripts::ENQUEUE).arg(self.namespace.options.limits.lane_jobs_max);
        for (job, body) in jobs.iter().zip(bodies) {
            call = head::enqueue_args(call, job, bodies::small(body));
        }
        let answers: Vec<String> = self.namespace.acknowledge(&call).await?;
        calls::each(&answers, jobs.len(), |answer| calls::enqueued(answer, &self.namespace))
    }

    /// Ends leased jobs of which something stored is damaged: they could only be leased and lost again, and must not take others with them.
    async fn end_unreadable(&self, damaged: &[Finish]) -> StoreResult<()> {
        if damaged.is_empty() {
            return Ok(());
        }
        self.finish(damaged).await.map(drop)
    }

    async fn next_due(&self, lanes: &[Lane]) -> StoreResult<Option<Duration>> {
        let mut call = self.call(&scripts::NEXT_DUE);
        for lane in lanes {
            call = call.arg(lane.as_str());
        }
        Ok(calls::wait_of(self.namespace.run(&call).await?))
    }

    async fn maintain_part(&self, moves: u16, done: &mut Maintained) -> StoreResult<bool> {
        let limits = &self.namespace.options.limits;
        let backoffs = [limits.lost_backoff_base, limits.lost_backoff_max].map(span_ms);
        let call = self.call(&scripts::MAINTAIN).arg(moves).arg(&backoffs);
        let (more, told): (u8, Vec<String>) = self.namespace.run(&call).await?;
        for one in &told {
            calls::maintained(done, one)?;
        }
        Ok(more == 1)
    }
}

#[async_trait]
impl JobStore for RedisJobStore {
    async fn enqueue(&self, jobs: &[NewJob]) -> StoreResult<Vec<Enqueued>> {
        bounds::check_new(STORE, jobs)?;
        let bodies = jobs.iter().map(|job| json(job.body.as_ref())).collect::<StoreResult<Vec<_>>>()?;
        let mut answers = Vec::with_capacity(jobs.len());
        let (mut first, mut bytes) = (0, 0);
        for (n, body) in bodies.iter().enumerate() {
            bytes += body.len();
            if bytes >= ENQUEUE_BYTES_MAX || n + 1 == jobs.len() {
                answers.extend(self.enqueue_part(&jobs[first..=n], &bodies[first..=n]).await?);
                (first, bytes) = (n + 1, 0);
            }
        }
        Ok(answers)
    }

    async fn lease(&self, want: &LeaseRequest) -> StoreResult<LeaseBatch> {
        bounds::check_lease(STORE, want)?;
        let visibility_ms = span_ms(want.visibility);
        let mut call = self
            .call(&scripts::LEASE)
            .arg(want.worker.as_str())
            .arg(want.request.to_string())
            .arg(want.nonce.to_string())
            .arg(want.max)
            .arg(visibility_ms)
            .arg(calls::weights_word(&want.shares))
            .arg(visibility_ms + REQUEST_KEPT_MS);
        for lane in &want.lanes {
            let leased_max = want.shares.leased_max.get(lane);
            call = call.arg(lane.as_str()).arg(leased_max.map_or_else(|| NONE.to_owned(), ToString::to_string));
        }
        // As safe as an enqueue: a lease that a failover forgets would let a call be made again that must not be.
        let (next_due, ToldJobs(mut told)): (i64, ToldJobs) = self.namespace.acknowledge(&call).await?;
        bodies::bring_large(&self.namespace, &mut told).await?;
        let (mut jobs, mut damaged) = (Vec::with_capacity(told.len()), Vec::new());
        for one in told {
            let key = head::lease_key(&one);
            let (key, why) = match (head::job(one), key) {
                (Ok((job, None)), _) => {
                    jobs.push(Leased { key: job.head.lease_key(), job });
                    continue;
                }
                (Ok((job, Some(error))), _) => (job.head.lease_key(), format!("stored body cannot be read: {error}")),
                (Err(error), Some(key)) => (key, format!("stored head cannot be read: {error}")),
                (Err(error), None) => {
                    tracing::error!(%error, "a leased job is left until its lease runs out");
                    continue;
                }
            };
            tracing::error!(job = %key.job, why, "a leased job ends dead");
            let end = Final::Dead(JobError::new(JobErrorCode::Internal, why));
            damaged.push(Finish { lease: key, end });
        }
        self.end_unreadable(&damaged).await?;
        Ok(LeaseBatch { jobs, next_due: calls::wait_of(next_due) })
    }

    async fn heartbeat(&self, beats: &[Heartbeat], extend: Duration) -> StoreResult<Vec<Beat>> {
        bounds::check_batch(STORE, beats.len())?;
        let mut call = self.call(&scripts::HEARTBEAT).arg(span_ms(extend));
        for beat in beats {
            let progress = beat.progress.as_ref().map(progress_part).transpose()?;
            call = call.arg(format!("{} {}", calls::lease_words(beat.lease), progress.unwrap_or_default()));
        }
        let answers: Vec<String> = self.namespace.run(&call).await?;
        calls::each(&answers, beats.len(), calls::beat)
    }

    async fn checkpoint(&self, lease: LeaseKey, at: Checkpoint) -> StoreResult<Fenced> {
        bounds::check_checkpoint(STORE, &at)?;
        let call = self.call(&scripts::CHECKPOINT).arg(calls::lease_words(lease)).arg(checkpoint_part(&at));
        calls::fenced(&self.namespace.acknowledge::<String>(&call).await?)
    }

    async fn finish(&self, done: &[Finish]) -> StoreResult<Vec<Fenced>> {
        bounds::check_batch(STORE, done.len())?;
        let call = done.iter().try_fold(self.call(&scripts::FINISH), calls::finish_args)?;
        let answers: Vec<String> = self.namespace.acknowledge(&call).await?;
        calls::each(&answers, done.len(), calls::fenced)
    }

    async fn nack(&self, back: &[Nack]) -> StoreResult<Vec<Fenced>> {
        bounds::check_nacks(STORE, back)?;
        let call = back.iter().try_fold(self.call(&scripts::NACK), calls::nack_args)?;
        let answers: Vec<String> = self.namespace.acknowledge(&call).await?;
        calls::each(&answers, back.len(), calls::fenced)
    }

    async fn answer(&self, job: JobId, answer: Answer) -> StoreResult<Answered> {
        let call = self.call(&scripts::ANSWER).arg(job.to_string()).arg(answer.responses);
        let told: String = self.namespace.acknowledge(&call).await?;
        calls::answered(&told)
    }

    async fn redrive(&self, job: JobId) -> StoreResult<Redriven> {
        let told: String = self.namespace.acknowledge(&self.call(&scripts::REDRIVE).arg(job.to_string())).await?;
        calls::redriven(&told)
    }

    async fn cancel(&self, job: JobId, reason: &str) -> StoreResult<Cancelled> {
        let call = self.call(&scripts::CANCEL).arg(job.to_string()).arg(reason);
        let told: String = self.namespace.acknowledge(&call).await?;
        calls::cancelled(&told)
    }

    async fn get(&self, job: JobId) -> StoreResult<Option<Job>> {
        let ToldJobs(mut told) = self.namespace.run(&self.call(&scripts::GET).arg(job.to_string())).await?;
        bodies::bring_large(&self.namespace, &mut told).await?;
        told.into_iter().next().map_or(Ok(None), list::shown)
    }

    async fn keyed(&self, tenant: &TenantId, key: &str) -> StoreResult<Option<JobId>> {
        let key = self.namespace.key(&format!("i:{tenant}:{}", word(key)));
        let told: Option<String> = self.namespace.pool.query(redis::cmd("GET").arg(key)).await?;
        told.as_deref().map(calls::id).transpose()
    }

    async fn list(&self, query: &JobQuery) -> StoreResult<JobPage> {
        list::page(&self.namespace, query).await
    }

    async fn counts(&self, lane: &Lane) -> StoreResult<LaneCounts> {
        let told: [u64; 9] = self.namespace.run(&self.call(&scripts::COUNTS).arg(lane.as_str())).await?;
        Ok(calls::counts(told))
    }

    async fn lanes(&self) -> StoreResult<Vec<Lane>> {
        let mut command = redis::cmd("ZRANGE");
        command.arg(self.namespace.key("lanes")).arg(0).arg(LANES_TOLD_MAX - 1);
        let told: Vec<String> = self.namespace.pool.query(&command).await?;
        told.iter().map(|lane| lane.parse().or_else(|_| calls::not_understood(lane))).collect()
    }

    async fn restore(&self, jobs: &[Job]) -> StoreResult<Vec<Restored>> {
        bounds::check_batch(STORE, jobs.len())?;
        let bodies = jobs.iter().map(|job| json(job.body.as_ref())).collect::<StoreResult<Vec<_>>>()?;
        bodies::send_large(&self.namespace, jobs.iter().map(|job| job.head.id).zip(&bodies)).await?;
        let mut call = self.call(&scripts::RESTORE);
        for (job, body) in jobs.iter().zip(&bodies) {
            let small = bodies::small(body);
            let (words, parts) = head::encode(&job.head, small.is_none())?;
            call = call.arg(job.head.id.to_string()).arg(words).arg(small.unwrap_or_default()).arg(parts.len() * 2);
            for (name, part) in parts {
                call = call.arg(name).arg(part);
            }
        }
        let answers: Vec<String> = self.namespace.acknowledge(&call).await?;
        calls::each(&answers, jobs.len(), calls::restored)
    }

    async fn pause(&self, lane: &Lane, paused: bool) -> StoreResult<()> {
        let call = self.call(&scripts::PAUSE).arg(lane.as_str()).arg(u8::from(paused));
        self.namespace.acknowledge(&call).await
    }

    async fn maintain(&self, budget: NonZeroU16) -> StoreResult<Maintained> {
        let mut done = Maintained::default();
        for _ in 0..MAINTAIN_CALLS_MAX {
            let left = budget.get().saturating_sub(u16::try_from(done.moves()).unwrap_or(u16::MAX));
            if left == 0 {
                break;
            }
            match self.maintain_part(left.min(MAINTAIN_MOVES_MAX), &mut done).await {
                Ok(true) => {}
                Ok(false) => break,
                // What was done must be told: nothing tells it again.
                Err(error) if done.moves() > 0 => {
                    tracing::warn!(%error, "maintenance broke off");
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    async fn wait_ready(&self, lanes: &[Lane], max_wait: Duration) {
        let waiting = async {
            let wait = match self.next_due(lanes).await {
                Ok(wait) => wait.unwrap_or(max_wait),
                Err(error) => {
                    tracing::debug!(%error, "the queue cannot be looked at");
                    BLIND_WAIT
                }
            };
            if !wait.is_zero() {
                self.wake.wait(lanes, wait.min(max_wait)).await;
            }
        };
        let _ended_by_time = tokio::time::timeout(max_wait, waiting).await;
    }

    async fn health(&self) -> StoreResult<StoreHealth> {
        let report = self.namespace.look().await?;
        let detail = [vec![report.detail], report.warnings].concat().join("; ");
        Ok(StoreHealth { durability: report.durability, detail })
    }
}
