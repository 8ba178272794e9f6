//! The queue in memory: the pure state machine behind a lock. Gone when the process ends; first class in everything else.

use std::{
    collections::HashMap,
    fmt,
    num::NonZeroU16,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::Notify;

use super::{
    bounds,
    core::{Core, CoreLimits},
    job::{Answer, Checkpoint, Job, JobBody, LeaseKey, NewJob},
    lease::{
        Answered, Beat, Cancelled, Durability, Enqueued, Fenced, Finish, Heartbeat, JobPage, JobQuery, LaneCounts,
        LeaseBatch, LeaseRequest, Leased, Maintained, Nack, Redriven, Restored, StoreHealth,
    },
    store::JobStore,
};
use crate::{
    error::{StoreError, StoreErrorKind, StoreResult},
    id::{JobId, Lane, TenantId},
    time::{Clock, Timestamp},
};

const STORE: &str = "memory job store";
/// Most heads one page of a list looks at; a page may be short and still go on.
const LIST_SCAN_MAX: usize = 10_000;

/// A [`JobStore`] in memory.
pub struct MemoryJobStore {
    // A std lock: every section is short and none awaits.
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
    ready: Notify,
}

#[derive(Debug)]
struct State {
    core: Core,
    bodies: HashMap<JobId, Arc<JobBody>>,
}

impl State {
    fn job(&self, id: JobId) -> Option<Job> {
        Some(Job { head: self.core.head(id)?.clone(), body: Arc::clone(self.bodies.get(&id)?) })
    }
}

impl MemoryJobStore {
    /// An empty store with the usual bounds.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::with_limits(clock, CoreLimits::default())
    }

    /// An empty store with these bounds.
    #[must_use]
    pub fn with_limits(clock: Arc<dyn Clock>, limits: CoreLimits) -> Self {
        let state = State { core: Core::new(limits), bodies: HashMap::new() };
        Self { state: Mutex::new(state), clock, ready: Notify::new() }
    }

    /// Compares every index and count with the heads: for tests of what drives the store.
    ///
    /// # Errors
    /// The first difference, in words.
    pub fn check(&self) -> Result<(), String> {
        let state = self.lock().map_err(|error| error.to_string())?;
        state.core.check()?;
        match state.bodies.keys().find(|id| !state.core.contains(**id)) {
            Some(id) => Err(format!("the body of job {id} has no head")),
            None if state.bodies.len() == state.core.heads().count() => Ok(()),
            None => Err("a head has no body".to_owned()),
        }
    }

    fn lock(&self) -> StoreResult<MutexGuard<'_, State>> {
        self.state.lock().map_err(|_| {
            StoreError::new(StoreErrorKind::Closed, STORE, "a call panicked half-way, open a new store".to_owned())
        })
    }

    /// One section: the clock is read inside, so that time never runs backwards from one section to the next.
    fn with<T>(&self, act: impl FnOnce(&mut State, Timestamp) -> T) -> StoreResult<T> {
        let mut state = self.lock()?;
        let now = self.clock.now();
        let answer = act(&mut state, now);
        state.core.drop_changes();
        Ok(answer)
    }

    /// One section that may make jobs ready.
    fn with_wake<T>(&self, act: impl FnOnce(&mut State, Timestamp) -> T) -> StoreResult<T> {
        let answer = self.with(act)?;
        self.ready.notify_waiters();
        Ok(answer)
    }
}

impl fmt::Debug for MemoryJobStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryJobStore").field("clock", &self.clock).finish_non_exhaustive()
    }
}

#[async_trait]
impl JobStore for MemoryJobStore {
    async fn enqueue(&self, jobs: &[NewJob]) -> StoreResult<Vec<Enqueued>> {
        bounds::check_new(STORE, jobs)?;
        self.with_wake(|state, now| {
            let accept = |job: &NewJob| {
                let answer = state.core.enqueue(now, job).kept(Durability::Memory);
                if matches!(answer, Enqueued::Ok { .. }) {
                    state.bodies.insert(job.id, Arc::clone(&job.body));
                }
                answer
            };
            jobs.iter().map(accept).collect()
        })
    }

    async fn lease(&self, want: &LeaseRequest) -> StoreResult<LeaseBatch> {
        bounds::check_lease(STORE, want)?;
        self.with(|state, now| {
            let granted = state.core.lease(now, want);
            let jobs = granted.jobs.into_iter().filter_map(|id| state.job(id));
            LeaseBatch {
                jobs: jobs.map(|job| Leased { key: job.head.lease_key(), job }).collect(),
                next_due: granted.next_due,
            }
        })
    }

    async fn heartbeat(&self, beats: &[Heartbeat], extend: Duration) -> StoreResult<Vec<Beat>> {
        bounds::check_batch(STORE, beats.len())?;
        self.with(|state, now| beats.iter().map(|beat| state.core.heartbeat(now, beat, extend)).collect())
    }

    async fn checkpoint(&self, lease: LeaseKey, at: Checkpoint) -> StoreResult<Fenced> {
        bounds::check_checkpoint(STORE, &at)?;
        self.with(|state, now| state.core.checkpoint(now, lease, at))
    }

    async fn finish(&self, done: &[Finish]) -> StoreResult<Vec<Fenced>> {
        bounds::check_batch(STORE, done.len())?;
        self.with_wake(|state, now| done.iter().map(|finish| state.core.finish(now, finish)).collect())
    }

    async fn nack(&self, back: &[Nack]) -> StoreResult<Vec<Fenced>> {
        bounds::check_nacks(STORE, back)?;
        self.with_wake(|state, now| back.iter().map(|nack| state.core.nack(now, nack)).collect())
    }

    async fn answer(&self, job: JobId, answer: Answer) -> StoreResult<Answered> {
        self.with_wake(|state, now| state.core.answer(now, job, &answer))
    }

    async fn redrive(&self, job: JobId) -> StoreResult<Redriven> {
        self.with_wake(|state, now| state.core.redrive(now, job))
    }

    async fn cancel(&self, job: JobId, reason: &str) -> StoreResult<Cancelled> {
        self.with_wake(|state, now| state.core.cancel(now, job, reason))
    }

    async fn get(&self, job: JobId) -> StoreResult<Option<Job>> {
        self.with(|state, _| state.job(job))
    }

    async fn keyed(&self, tenant: &TenantId, key: &str) -> StoreResult<Option<JobId>> {
        self.with(|state, _| state.core.idempotent(tenant, key))
    }

    async fn list(&self, query: &JobQuery) -> StoreResult<JobPage> {
        self.with(|state, _| {
            let mut page = JobPage::default();
            let before = query.before.unwrap_or(JobId::MAX);
            for (seen, head) in state.core.heads_before(before).enumerate() {
                if page.jobs.len() == query.page_size() || seen == LIST_SCAN_MAX {
                    return page;
                }
                page.next = Some(head.id);
                page.jobs.extend(state.job(head.id).filter(|job| query.matches(job)));
            }
            page.next = None;
            page
        })
    }

    async fn counts(&self, lane: &Lane) -> StoreResult<LaneCounts> {
        self.with(|state, now| state.core.counts(lane, now))
    }

    async fn lanes(&self) -> StoreResult<Vec<Lane>> {
        self.with(|state, _| state.core.lanes())
    }

    async fn restore(&self, jobs: &[Job]) -> StoreResult<Vec<Restored>> {
        bounds::check_batch(STORE, jobs.len())?;
        self.with_wake(|state, _| {
            let take_in = |job: &Job| {
                let answer = state.core.restore(job.head.clone());
                if answer == Restored::Ok {
                    state.bodies.insert(job.head.id, Arc::clone(&job.body));
                }
                answer
            };
            jobs.iter().map(take_in).collect()
        })
    }

    async fn pause(&self, lane: &Lane, paused: bool) -> StoreResult<()> {
        self.with_wake(|state, _| state.core.pause(lane, paused))
    }

    async fn maintain(&self, budget: NonZeroU16) -> StoreResult<Maintained> {
        let (done, wakes) = self.with(|state, now| {
            let done = state.core.maintain(now, budget.get());
            for (id, _) in &done.removed {
                state.bodies.remove(id);
            }
            let wakes =
                done.promoted > 0 || !done.reclaimed.is_empty() || !done.settled.is_empty() || !done.expired.is_empty();
            (done, wakes)
        })?;
        if wakes {
            self.ready.notify_waiters();
        }
        Ok(done)
    }

    async fn wait_ready(&self, lanes: &[Lane], max_wait: Duration) {
        let woken = async {
            loop {
                let mut notified = std::pin::pin!(self.ready.notified());
                // Listens before it looks: what becomes ready in between is not missed.
                notified.as_mut().enable();
                let Ok(next_due) = self.with(|state, now| state.core.next_due(lanes, now)) else { return };
                match next_due {
                    Some(Duration::ZERO) => return,
                    Some(wait) => match tokio::time::timeout(wait, notified).await {
                        Ok(()) => {}
                        Err(_) => return,
                    },
                    None => notified.await,
                }
            }
        };
        let _ended_by_time = tokio::time::timeout(max_wait, woken).await;
    }

    async fn health(&self) -> StoreResult<StoreHealth> {
        drop(self.lock()?);
        Ok(StoreHealth { durability: Durability::Memory, detail: "in memory, gone when the process ends".to_owned() })
    }
}
