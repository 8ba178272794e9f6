//! The job store. What a head may do is said by `metamcp_core::queue::moves`, and what follows from that by its `Core`; here is how it is done
//! by many processes on one database.
//!
//! ```text
//! codec, columns       a head as a row, and many as parameters
//! heads                the heads of one transaction and what follows from their moves: no database
//! hold, save           locks and reads them; writes back and commits
//! admit, restore       the way in
//! grant, lane, turns, limits     leasing
//! fenced, steer, upkeep          what holders, owners and time do
//! read                 looking
//! ```
//! Every write is one transaction of a constant number of round trips, however many entries it has. See [`hold`] for the order of locks.

mod admit;
mod codec;
mod columns;
mod fenced;
mod grant;
mod heads;
mod hold;
mod lane;
mod limits;
mod read;
mod restore;
mod save;
mod steer;
mod turns;
mod upkeep;

use std::{
    collections::VecDeque,
    num::NonZeroU16,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use metamcp_core::{
    error::StoreResult,
    id::{JobId, Lane, TenantId},
    queue::{
        Answer, Answered, Beat, Cancelled, Checkpoint, Enqueued, Fenced, Final, Finish, Heartbeat, Job, JobError,
        JobErrorCode, JobPage, JobQuery, JobState, JobStore, LaneCounts, LeaseBatch, LeaseKey, LeaseRequest, Leased,
        Maintained, Nack, NewJob, Redriven, Restored, StoreHealth, bounds,
    },
};
use tokio_postgres::Transaction;

use self::grant::{Given, Lease, next_due};
use super::{Engine, STORE, time::to_instant};

/// Who waits for work asks the tables at least this often, in milliseconds, less a quarter at random: hints may be lost.
const POLL_MS_MAX: u64 = 2_000;
/// Bytes of inputs of one transaction of an enqueue call, that let no further job in: a call must be written within the time of a statement.
const ENQUEUE_BYTES_MAX: usize = 4 << 20;

/// Whether and when jobs can be leased, and whether a lease call is one that was answered before. The answer costs no lock.
const PROBE: &str = concat!(
    grant::due!(),
    ", coalesce($2::bigint, floor(extract(epoch from clock_timestamp()) * 1000)::bigint),
    exists (select from lease_request where worker = $3 and request = $4)"
);

/// The durable queue of one schema, shared by any number of processes.
#[derive(Debug)]
pub struct PostgresJobStore {
    engine: Arc<Engine>,
    /// Jobs that were ended here without a caller to tell; maintenance tells of them. As many as leases of damaged jobs.
    untold: Mutex<VecDeque<(JobId, JobState)>>,
}

impl PostgresJobStore {
    pub(super) const fn new(engine: Arc<Engine>) -> Self {
        Self { engine, untold: Mutex::new(VecDeque::new()) }
    }

    /// Accepts jobs within a transaction of the caller's own: they are enqueued if and when it commits, together with whatever else it
    /// does. The transaction must be on the database of this store; its isolation level should be read committed, at stricter ones it may
    /// fail to serialize. Workers find the jobs with their next poll, or at once when [`announce`](Self::announce) is called after the
    /// commit.
    ///
    /// Keep the transaction short: the jobs' parents, ids and keys are locked until its end.
    ///
    /// # Errors
    /// As [`JobStore::enqueue`]. The transaction can go on after an error unless its connection is lost; nothing of the call is in it then.
    ///
    /// # Cancel safety
    /// A dropped call may be part of the transaction or not: roll it back.
    pub async fn enqueue_in(&self, transaction: &Transaction<'_>, jobs: &[NewJob]) -> StoreResult<Vec<Enqueued>> {
        bounds::check_new(STORE, jobs)?;
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        admit::enqueue_in(&self.engine, transaction, jobs).await
    }

    /// Tells workers of jobs that were enqueued by [`enqueue_in`](Self::enqueue_in), once that is committed. Returns at once; to call it in
    /// vain, or not to call it, does no harm.
    pub fn announce(&self, jobs: &[NewJob]) {
        self.engine.notifier.ready(jobs.iter().map(|job| &job.lane));
    }

    /// Whether a job of these lanes can be leased now, or how long until one may be; and whether this is a wish that was answered before.
    async fn due(&self, lanes: &[Lane], again: Option<&LeaseRequest>) -> StoreResult<(Option<Duration>, bool)> {
        let engine = &self.engine;
        let names: Vec<&str> = lanes.iter().map(Lane::as_str).collect();
        let (worker, request) = again.map_or(("", 0), |want| (want.worker.as_str(), want.request.cast_signed()));
        let rows = engine.pools.write().query(PROBE, &[&names, &engine.time.now(), &worker, &request]).await?;
        let read = || {
            let Some(row) = rows.first() else { return Ok((None, false)) };
            Ok((next_due(Some(row), to_instant(row.try_get(2)?))?, row.try_get(3)?))
        };
        read().map_err(|e| engine.failed(e))
    }

    /// Ends leased jobs whose stored body is damaged: they could only be leased and lost again, and must not take others with them.
    async fn end_unreadable(&self, damaged: Vec<(LeaseKey, String)>) -> StoreResult<()> {
        let ends = damaged.into_iter().map(|(lease, error)| {
            tracing::error!(job = %lease.job, error, "a stored body cannot be read, its job ends dead");
            let error = JobError::new(JobErrorCode::Internal, format!("stored body cannot be read: {error}"));
            Finish { lease, end: Final::Dead(error) }
        });
        let ends: Vec<Finish> = ends.collect();
        let answers = fenced::finish_all(&self.engine, &ends).await?;
        let ended = ends.iter().zip(answers).filter_map(|(end, answer)| match answer {
            Fenced::Ok(state) => Some((end.lease.job, state)),
            _ => None,
        });
        self.untold.lock().unwrap_or_else(PoisonError::into_inner).extend(ended);
        Ok(())
    }
}

#[async_trait]
impl JobStore for PostgresJobStore {
    async fn enqueue(&self, jobs: &[NewJob]) -> StoreResult<Vec<Enqueued>> {
        bounds::check_new(STORE, jobs)?;
        let mut answers = Vec::with_capacity(jobs.len());
        let (mut first, mut bytes) = (0, 0);
        for (n, job) in jobs.iter().enumerate() {
            bytes += job.body.input().get().len() + job.body.task.need.text.len();
            if bytes >= ENQUEUE_BYTES_MAX || n + 1 == jobs.len() {
                answers.extend(admit::enqueue(&self.engine, &jobs[first..=n]).await?);
                (first, bytes) = (n + 1, 0);
            }
        }
        Ok(answers)
    }

    async fn lease(&self, want: &LeaseRequest) -> StoreResult<LeaseBatch> {
        bounds::check_lease(STORE, want)?;
        let (next_due, again) = self.due(&want.lanes, Some(want)).await?;
        if next_due != Some(Duration::ZERO) && !again {
            return Ok(LeaseBatch { jobs: Vec::new(), next_due });
        }
        let given = self.engine.transact(Lease { engine: &self.engine, want }).await?;
        self.engine.wake(&given.woken);
        let Given { heads, mut bodies, next_due, .. } = given;
        let mut jobs = Vec::with_capacity(heads.len());
        let mut damaged = Vec::new();
        for head in heads {
            let key = head.lease_key();
            match bodies.remove(&head.id).map(|body| read::read_body(&body)) {
                Some(Ok(body)) => jobs.push(Leased { key, job: Job { head, body: Arc::new(body) } }),
                Some(Err(error)) => damaged.push((key, error.to_string())),
                None => damaged.push((key, "it is gone".to_owned())),
            }
        }
        if !damaged.is_empty() {
            self.end_unreadable(damaged).await?;
        }
        Ok(LeaseBatch { jobs, next_due })
    }

    async fn heartbeat(&self, beats: &[Heartbeat], extend: Duration) -> StoreResult<Vec<Beat>> {
        bounds::check_batch(STORE, beats.len())?;
        if beats.is_empty() {
            return Ok(Vec::new());
        }
        fenced::heartbeat(&self.engine, beats, extend).await
    }

    async fn checkpoint(&self, lease: LeaseKey, at: Checkpoint) -> StoreResult<Fenced> {
        bounds::check_checkpoint(STORE, &at)?;
        Ok(fenced::save_checkpoint(&self.engine, lease, &at).await?.unwrap_or(Fenced::Gone))
    }

    async fn finish(&self, done: &[Finish]) -> StoreResult<Vec<Fenced>> {
        bounds::check_batch(STORE, done.len())?;
        if done.is_empty() {
            return Ok(Vec::new());
        }
        fenced::finish_all(&self.engine, done).await
    }

    async fn nack(&self, back: &[Nack]) -> StoreResult<Vec<Fenced>> {
        bounds::check_nacks(STORE, back)?;
        if back.is_empty() {
            return Ok(Vec::new());
        }
        fenced::nack_all(&self.engine, back).await
    }

    async fn answer(&self, job: JobId, answer: Answer) -> StoreResult<Answered> {
        steer::answer(&self.engine, job, &answer).await
    }

    async fn redrive(&self, job: JobId) -> StoreResult<Redriven> {
        steer::redrive(&self.engine, job).await
    }

    async fn cancel(&self, job: JobId, reason: &str) -> StoreResult<Cancelled> {
        steer::cancel(&self.engine, job, reason).await
    }

    async fn get(&self, job: JobId) -> StoreResult<Option<Job>> {
        read::get(&self.engine, job).await
    }

    async fn keyed(&self, tenant: &TenantId, key: &str) -> StoreResult<Option<JobId>> {
        read::keyed(&self.engine, tenant, key).await
    }

    async fn list(&self, query: &JobQuery) -> StoreResult<JobPage> {
        read::list(&self.engine, query).await
    }

    async fn counts(&self, lane: &Lane) -> StoreResult<LaneCounts> {
        read::counts(&self.engine, lane).await
    }

    async fn lanes(&self) -> StoreResult<Vec<Lane>> {
        read::lanes(&self.engine).await
    }

    async fn restore(&self, jobs: &[Job]) -> StoreResult<Vec<Restored>> {
        bounds::check_batch(STORE, jobs.len())?;
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        restore::restore(&self.engine, jobs).await
    }

    async fn pause(&self, lane: &Lane, paused: bool) -> StoreResult<()> {
        steer::pause(&self.engine, lane, paused).await
    }

    async fn maintain(&self, budget: NonZeroU16) -> StoreResult<Maintained> {
        let told: Vec<(JobId, JobState)> = {
            let mut untold = self.untold.lock().unwrap_or_else(PoisonError::into_inner);
            let count = untold.len().min(usize::from(budget.get()));
            untold.drain(..count).collect()
        };
        let used = u16::try_from(told.len()).unwrap_or(u16::MAX);
        let mut done = match NonZeroU16::new(budget.get() - used) {
            Some(left) => upkeep::maintain(&self.engine, left).await,
            None => Ok(Maintained::default()),
        };
        match &mut done {
            Ok(done) => drop(done.reclaimed.splice(0..0, told)),
            // Told by the next call.
            Err(_) => self.untold.lock().unwrap_or_else(PoisonError::into_inner).extend(told),
        }
        done
    }

    async fn wait_ready(&self, lanes: &[Lane], max_wait: Duration) {
        let ready = async {
            // Made before the tables are asked: what becomes ready in between is not missed.
            let mut waiter = self.engine.notifier.waiter(lanes);
            loop {
                let poll = Duration::from_millis(rand::random_range(POLL_MS_MAX / 4 * 3..=POLL_MS_MAX));
                let wait = match self.due(lanes, None).await {
                    Ok((Some(Duration::ZERO), _)) => return,
                    Ok((due, _)) => due.unwrap_or(poll).min(poll),
                    // A server that cannot be asked must not make its callers spin.
                    Err(_) => poll,
                };
                let _woken_or_time_to_ask = tokio::time::timeout(wait, waiter.woken()).await;
            }
        };
        let _ended_by_time = tokio::time::timeout(max_wait, ready).await;
    }

    async fn health(&self) -> StoreResult<StoreHealth> {
        self.engine.health().await
    }
}
