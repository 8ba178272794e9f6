//! A fresh store with its time, and the short words in which the behaviours speak to it.

use std::{
    any::Any,
    fmt,
    num::NonZeroU16,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;

use crate::{
    auth::Principal,
    id::{JobId, Lane, TenantId, WorkerId},
    matching::Route,
    pointer::{Digest, ResultPointer},
    queue::{
        Beat, Cancelled, Checkpoint, ConcurrencyKey, CoreLimits, Enqueued, Fenced, Final, Finish, Heartbeat, Job,
        JobBody, JobError, JobErrorCode, JobHead, JobState, JobStore, LEASE_BATCH_MAX, LaneCounts, LeaseBatch,
        LeaseKey, LeaseRequest, Leased, Maintained, Nack, NackHow, NewJob, Redriven,
    },
    task::{Need, TaskRecord},
    testing::clock::StoreTime,
    time::Timestamp,
};

/// The bound on a lane's jobs that a store under test is opened with.
pub const SUITE_LANE_JOBS_MAX: u64 = 300;
/// How long a lease of the suite lasts.
pub(super) const VISIBILITY: Duration = Duration::from_secs(30);
/// Longest real time that one step of a behaviour may take, in seconds.
pub(super) const STEP_S_MAX: u64 = 20;
/// Rounds of maintenance after which there must be nothing more to do.
const MAINTAIN_ROUNDS_MAX: usize = 64;

/// The limits that a store under test is opened with: the usual backoff, a lane of [`SUITE_LANE_JOBS_MAX`].
#[must_use]
pub fn suite_limits() -> CoreLimits {
    CoreLimits { lane_jobs_max: SUITE_LANE_JOBS_MAX, ..CoreLimits::default() }
}

/// A new job in lane `light` of tenant `local`: 3 attempts, 3 losses, kept for an hour. Ids grow from call to call.
#[must_use]
pub fn new_job() -> NewJob {
    static MADE: AtomicU64 = AtomicU64::new(1_767_225_600_000);
    let task =
        TaskRecord { need: Need::new("count the words"), labels: std::collections::BTreeMap::new(), cache: None };
    NewJob {
        id: JobId::new(Timestamp::from_millis(MADE.fetch_add(1, Ordering::Relaxed))),
        owner: Principal::local(),
        lane: Lane::light(),
        priority: 0,
        delay: Duration::ZERO,
        deadline: None,
        retain: Duration::from_secs(3_600),
        attempts_max: 3,
        lost_max: 3,
        idempotency_key: None,
        request_digest: Digest::of(b"count the words"),
        body: Arc::new(JobBody { task, route: Route::default() }),
        after: Vec::new(),
        concurrency: None,
        rate: None,
        held: None,
    }
}

/// A job of which no more than `max` may be leased at a time, counting all with this key.
pub(super) fn limited(key: &str, max: u32) -> NewJob {
    NewJob { concurrency: Some(ConcurrencyKey { key: key.to_owned(), max }), ..new_job() }
}

/// A principal of another tenant.
pub(super) fn of_tenant(tenant: &str) -> Principal {
    Principal::new(TenantId::new(tenant).expect("a valid name"), "somebody")
}

/// A lane of this name.
pub(super) fn lane(name: &str) -> Lane {
    Lane::new(name).expect("a valid name")
}

/// A worker of this name.
pub(super) fn worker(name: &str) -> WorkerId {
    WorkerId::new(name).expect("a valid name")
}

/// An end with a result.
pub(super) fn done(key: LeaseKey) -> Final {
    Final::Done(pointer(key.job))
}

/// The pointer that a job of the suite ends with.
pub(super) fn pointer(job: JobId) -> ResultPointer {
    ResultPointer { tenant: Principal::local().tenant, job, digest: Digest::of(b"3") }
}

/// A failure as a worker tells it.
pub(super) fn error(message: &str) -> JobError {
    JobError::new(JobErrorCode::ServerError, message)
}

/// A failed attempt, to be repeated after `delay`.
pub(super) fn fail_after(delay: Duration) -> NackHow {
    NackHow::Fail { delay, candidate: 0, error: error("the server said no") }
}

/// Given back without counting.
pub(super) const fn release_after(delay: Duration) -> NackHow {
    NackHow::Release { delay, maybe_called: false }
}

/// A checkpoint with this text.
pub(super) fn checkpoint(text: &str) -> Checkpoint {
    Checkpoint { text: format!("\"{text}\""), replay_safe: true }
}

/// The jobs that were leased, in order.
pub(super) fn ids(leased: &[Leased]) -> Vec<JobId> {
    leased.iter().map(|leased| leased.key.job).collect()
}

/// Sorted, for what is told in no order.
pub(super) fn sorted<T: Ord>(mut told: Vec<T>) -> Vec<T> {
    told.sort_unstable();
    told
}

/// Bounds one step in real time.
pub(super) async fn bounded<T>(what: &str, step: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(STEP_S_MAX), step).await {
        Ok(done) => done,
        Err(_) => panic!("{what} took longer than {STEP_S_MAX} s"),
    }
}

/// A fresh, empty store for one behaviour.
pub struct JobStoreFixture {
    /// The store, opened with [`suite_limits`].
    pub store: Arc<dyn JobStore>,
    /// Moves the store's time, and nothing else.
    pub time: Arc<dyn StoreTime>,
    /// Dropped last: a directory, a connection, a process.
    pub guard: Box<dyn Any + Send + Sync>,
    requests: AtomicU64,
}

impl fmt::Debug for JobStoreFixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobStoreFixture").field("store", &self.store).finish_non_exhaustive()
    }
}

impl JobStoreFixture {
    /// A store, what moves its time, and what is to be dropped after it.
    pub fn new(store: Arc<dyn JobStore>, time: Arc<dyn StoreTime>, guard: impl Any + Send + Sync) -> Self {
        Self { store, time, guard: Box::new(guard), requests: AtomicU64::new(1) }
    }

    /// Moves the store's time on.
    pub(super) async fn advance(&self, by: Duration) {
        self.time.advance(by).await;
    }

    /// Enqueues one job and answers what became of it.
    pub(super) async fn enqueue(&self, job: &NewJob) -> Enqueued {
        let answers = self.store.enqueue(std::slice::from_ref(job)).await.expect("the store answers");
        assert_eq!(answers.len(), 1, "one entry, one answer");
        answers.into_iter().next().expect("one answer")
    }

    /// Enqueues one job that must be accepted.
    pub(super) async fn add(&self, job: NewJob) -> JobId {
        let answer = self.enqueue(&job).await;
        assert!(matches!(answer, Enqueued::Ok { .. }), "the job is accepted, not {answer:?}");
        job.id
    }

    /// Enqueues a plain job.
    pub(super) async fn add_plain(&self) -> JobId {
        self.add(new_job()).await
    }

    /// Enqueues plain jobs, in order of id.
    pub(super) async fn add_many(&self, count: usize) -> Vec<JobId> {
        let jobs: Vec<NewJob> = (0..count).map(|_| new_job()).collect();
        self.add_all(&jobs).await
    }

    /// Enqueues jobs that must all be accepted, in as few calls as may be.
    pub(super) async fn add_all(&self, jobs: &[NewJob]) -> Vec<JobId> {
        for batch in jobs.chunks(usize::from(LEASE_BATCH_MAX)) {
            let answers = self.store.enqueue(batch).await.expect("the store answers");
            assert!(
                answers.iter().all(|answer| matches!(answer, Enqueued::Ok { .. })),
                "all are accepted: {answers:?}"
            );
        }
        jobs.iter().map(|job| job.id).collect()
    }

    /// A wish of worker `w` for jobs of lane `light`, with a request id and a nonce of its own.
    pub(super) fn want(&self, max: u16) -> LeaseRequest {
        let request = self.requests.fetch_add(1, Ordering::Relaxed);
        LeaseRequest {
            lanes: vec![Lane::light()],
            max,
            visibility: VISIBILITY,
            worker: worker("w"),
            request,
            nonce: request.wrapping_mul(0x9E37_79B9_7F4A_7C15),
            shares: Arc::default(),
        }
    }

    /// Leases as wished.
    pub(super) async fn lease(&self, want: &LeaseRequest) -> LeaseBatch {
        bounded("a lease", self.store.lease(want)).await.expect("the store answers")
    }

    /// Leases up to `max` jobs of lane `light`.
    pub(super) async fn take_up_to(&self, max: u16) -> Vec<Leased> {
        self.lease(&self.want(max)).await.jobs
    }

    /// Leases one job of lane `light`, if there is one.
    pub(super) async fn try_take(&self) -> Option<Leased> {
        self.take_up_to(1).await.pop()
    }

    /// Leases one job of lane `light`, which must be there.
    pub(super) async fn take(&self) -> Leased {
        self.try_take().await.expect("a job is ready")
    }

    /// Enqueues a job and leases it.
    pub(super) async fn add_and_take(&self, job: NewJob) -> LeaseKey {
        let id = self.add(job).await;
        let leased = self.take().await;
        assert_eq!(leased.key.job, id, "the one job there is comes");
        leased.key
    }

    /// Ends one lease.
    pub(super) async fn finish(&self, lease: LeaseKey, end: Final) -> Fenced {
        let answers = self.store.finish(&[Finish { lease, end }]).await.expect("the store answers");
        assert_eq!(answers.len(), 1, "one entry, one answer");
        answers[0]
    }

    /// Gives one lease back.
    pub(super) async fn nack(&self, lease: LeaseKey, how: NackHow) -> Fenced {
        let answers = self.store.nack(&[Nack { lease, how }]).await.expect("the store answers");
        assert_eq!(answers.len(), 1, "one entry, one answer");
        answers[0]
    }

    /// Saves a checkpoint.
    pub(super) async fn save(&self, lease: LeaseKey, text: &str) -> Fenced {
        self.store.checkpoint(lease, checkpoint(text)).await.expect("the store answers")
    }

    /// One heartbeat without progress that extends by the suite's visibility.
    pub(super) async fn beat(&self, lease: LeaseKey) -> Beat {
        let beats = [Heartbeat { lease, progress: None }];
        let answers = self.store.heartbeat(&beats, VISIBILITY).await.expect("the store answers");
        assert_eq!(answers.len(), 1, "one entry, one answer");
        answers.into_iter().next().expect("one answer")
    }

    /// Asks for a cancel.
    pub(super) async fn cancel(&self, id: JobId) -> Cancelled {
        self.store.cancel(id, "no longer needed").await.expect("the store answers")
    }

    /// Redrives one job.
    pub(super) async fn redrive(&self, id: JobId) -> Redriven {
        self.store.redrive(id).await.expect("the store answers")
    }

    /// One job that must be there.
    pub(super) async fn job(&self, id: JobId) -> Job {
        self.try_job(id).await.expect("the job is kept")
    }

    /// One job.
    pub(super) async fn try_job(&self, id: JobId) -> Option<Job> {
        self.store.get(id).await.expect("the store answers")
    }

    /// The head of one job that must be there.
    pub(super) async fn head(&self, id: JobId) -> JobHead {
        self.job(id).await.head
    }

    /// Where one job stands that must be there.
    pub(super) async fn state(&self, id: JobId) -> JobState {
        self.head(id).await.state
    }

    /// The counts of lane `light`.
    pub(super) async fn counts(&self) -> LaneCounts {
        self.store.counts(&Lane::light()).await.expect("the store answers")
    }

    /// Maintains until there is nothing more to do; answers all that was done.
    pub(super) async fn maintain(&self) -> Maintained {
        let mut all = Maintained::default();
        for _ in 0..MAINTAIN_ROUNDS_MAX {
            let done = self.store.maintain(NonZeroU16::MAX).await.expect("the store answers");
            if done == Maintained::default() {
                return all;
            }
            all.promoted += done.promoted;
            all.reclaimed.extend(done.reclaimed);
            all.expired.extend(done.expired);
            all.settled.extend(done.settled);
            all.removed.extend(done.removed);
        }
        panic!("there was still something to do after {MAINTAIN_ROUNDS_MAX} rounds of maintenance");
    }

    /// Lets the held leases run out and reclaims them.
    pub(super) async fn lose(&self) -> Maintained {
        self.advance(VISIBILITY + Duration::from_secs(1)).await;
        self.maintain().await
    }

    /// A job that ended dead by its one failed attempt.
    pub(super) async fn add_dead(&self) -> LeaseKey {
        let key = self.add_and_take(NewJob { attempts_max: 1, ..new_job() }).await;
        assert_eq!(self.nack(key, fail_after(Duration::ZERO)).await, Fenced::Ok(JobState::Dead));
        key
    }

    /// A job that waits for an answer for a minute.
    pub(super) async fn add_parked(&self) -> LeaseKey {
        let key = self.add_and_take(new_job()).await;
        assert_eq!(self.nack(key, park()).await, Fenced::Ok(JobState::Input));
        key
    }
}

/// Parked for a minute with one question.
pub(super) fn park() -> NackHow {
    let request =
        crate::queue::InputRequest { key: "q1".to_owned(), request: r#"{"method":"elicitation/create"}"#.to_owned() };
    NackHow::Park { requests: vec![request], checkpoint: checkpoint("parked"), ttl: Duration::from_secs(60) }
}

/// Opens a closed store again.
#[async_trait]
pub trait Reopen: Send + Sync {
    /// Opens the same state again after the store was dropped without grace, as after a crash.
    async fn reopen(&mut self) -> Arc<dyn JobStore>;
}

/// A fresh store that can be closed and opened again. Neither its guard nor what reopens it may keep the store open.
pub struct DurableJobStoreFixture {
    /// The store.
    pub open: JobStoreFixture,
    /// Opens it again.
    pub reopen: Box<dyn Reopen>,
}

impl fmt::Debug for DurableJobStoreFixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DurableJobStoreFixture").field("open", &self.open).finish_non_exhaustive()
    }
}

impl DurableJobStoreFixture {
    /// A fresh store and what opens it again.
    pub fn new(open: JobStoreFixture, reopen: impl Reopen + 'static) -> Self {
        Self { open, reopen: Box::new(reopen) }
    }

    /// Drops the store without grace and opens it again.
    pub(super) async fn crash(self) -> Self {
        let Self { open, mut reopen } = self;
        let JobStoreFixture { store, time, guard, requests } = open;
        drop(store);
        let store = bounded("opening the store again", reopen.reopen()).await;
        Self { open: JobStoreFixture { store, time, guard, requests }, reopen }
    }
}
