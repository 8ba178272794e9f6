//! The loop that serves jobs: lease what there are free slots for, keep the leases alive, maintain the store, and drain.
//!
//! A worker that cannot show that it still holds a lease stops that job by itself. Any number of workers may share one store.

use std::{
    collections::BTreeMap,
    num::NonZeroU16,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    task::{JoinHandle, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    dispatch::Dispatch,
    fire::Firing,
    hold::Hold,
    ports::Ports,
    servers::Servers,
    slots::{Seats, Slots, Wish},
    store_clock::StoreClock,
};
use crate::{
    event::EventKind,
    id::{JobId, Lane, WorkerId},
    queue::{
        Heartbeat, JobError, JobErrorCode, JobState, LEASE_BATCH_MAX, LeaseBatch, LeaseRequest, Leased, Maintained,
    },
};

/// Longest sleep of an idle worker, in seconds: a missed wake-up costs no more than this.
const IDLE_S_MAX: u64 = 5;
/// Pause when jobs are ready that the store holds back, in milliseconds.
const HELD_BACK_MS: u64 = 100;
/// Pause after a store failed, in milliseconds.
const STORE_PAUSE_MS: u64 = 500;
/// Most moves of one maintenance round.
const MAINTAIN_BUDGET: NonZeroU16 = NonZeroU16::new(100).expect("not zero");
/// Most rounds of maintenance that follow one another without a pause.
const ROUNDS_AT_ONCE_MAX: u32 = 100;
/// Average pause between two maintenance rounds, in milliseconds: with it, a lost lease is noticed well within a second.
const MAINTAIN_EVERY_MS: u64 = 500;
/// Maintenance rounds between two removals of expired results.
const PRUNE_EVERY_ROUNDS: u32 = 120;
/// How long a drain waits, after calls were cut off, for their jobs to be given back, in seconds.
const GIVE_BACK_S_MAX: u64 = 10;

/// How a worker works.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WorkerOptions {
    /// Lanes to serve; they take turns at being the first.
    pub lanes: Vec<Lane>,
    /// Most jobs at a time.
    pub concurrency: u16,
    /// Most jobs of a lane at a time; up to `concurrency` for those not named.
    pub lane_concurrency: BTreeMap<Lane, u16>,
    /// Most jobs at a time that one server takes up; `None`: three quarters of `concurrency` when there are several, so that
    /// one that hangs leaves room for the others.
    pub server_concurrency: Option<u16>,
    /// Pause between maintenance rounds, give or take a quarter.
    pub maintain_every: Duration,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            lanes: vec![Lane::light(), Lane::heavy()],
            concurrency: 16,
            lane_concurrency: BTreeMap::new(),
            server_concurrency: None,
            maintain_every: Duration::from_millis(MAINTAIN_EVERY_MS),
        }
    }
}

impl WorkerOptions {
    /// Serving these lanes.
    #[must_use]
    pub fn with_lanes(mut self, lanes: Vec<Lane>) -> Self {
        self.lanes = lanes;
        self
    }

    /// Serving this many jobs at a time.
    #[must_use]
    pub const fn with_concurrency(mut self, concurrency: u16) -> Self {
        self.concurrency = concurrency;
        self
    }

    /// Serving at most so many jobs of a lane at a time.
    #[must_use]
    pub fn with_lane_concurrency(mut self, lane: Lane, jobs: u16) -> Self {
        self.lane_concurrency.insert(lane, jobs);
        self
    }

    /// Letting one server take up at most so many jobs at a time.
    #[must_use]
    pub const fn with_server_concurrency(mut self, jobs: u16) -> Self {
        self.server_concurrency = Some(jobs);
        self
    }

    fn seats(&self, servers: usize) -> usize {
        let concurrency = usize::from(self.concurrency.max(1));
        let shared = if servers > 1 { concurrency - concurrency / 4 } else { concurrency };
        self.server_concurrency.map_or(shared, usize::from)
    }
}

/// A running worker. Dropping it cuts its calls off and gives their jobs back in the background; [`drain`](Self::drain) waits for them.
#[derive(Debug)]
pub struct Worker {
    stop: CancellationToken,
    cut: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Worker {
    pub(super) fn start(ports: Arc<Ports>, servers: Arc<Servers>, options: WorkerOptions) -> Self {
        let (stop, cut) = (CancellationToken::new(), CancellationToken::new());
        let crew = Arc::new(Crew {
            id: WorkerId::fresh(&*ports.entropy),
            ports,
            seats: Arc::new(Seats::new(options.seats(servers.count()))),
            servers,
            options,
            holds: Mutex::default(),
            clock: Mutex::default(),
            stop: stop.clone(),
            cut: cut.clone(),
        });
        let task = tokio::spawn(async move { crew.run().await });
        Self { stop, cut, task: Some(task) }
    }

    /// Takes no more jobs, waits up to `grace` for those at hand, then cuts the rest off and gives them back: that costs no attempt.
    pub async fn drain(mut self, grace: Duration) {
        self.stop.cancel();
        let Some(mut task) = self.task.take() else { return };
        if tokio::time::timeout(grace, &mut task).await.is_ok() {
            return;
        }
        self.cut.cancel();
        if tokio::time::timeout(Duration::from_secs(GIVE_BACK_S_MAX), &mut task).await.is_err() {
            tracing::error!("jobs were not given back in time; their leases will run out");
            task.abort();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.cancel();
        self.cut.cancel();
    }
}

/// What the loops of one worker share.
struct Crew {
    ports: Arc<Ports>,
    servers: Arc<Servers>,
    id: WorkerId,
    options: WorkerOptions,
    seats: Arc<Seats>,
    /// Short sections, never held over an await.
    holds: Mutex<BTreeMap<JobId, Arc<Hold>>>,
    /// The store's time, once a lease has told it. Short sections, never held over an await.
    clock: Mutex<Option<StoreClock>>,
    stop: CancellationToken,
    cut: CancellationToken,
}

impl Crew {
    async fn run(self: Arc<Self>) {
        let background = CancellationToken::new();
        let _ends_background = background.clone().drop_guard();
        for part in [
            tokio::spawn(Self::beat(Arc::clone(&self), background.clone())),
            tokio::spawn(Self::maintain(Arc::clone(&self), background.clone())),
            tokio::spawn(Self::fire(Arc::clone(&self), background.clone())),
        ] {
            // They end with `background`; nothing is to be joined.
            drop(part);
        }
        let mut jobs = JoinSet::new();
        let options = &self.options;
        let mut slots = Slots::new(usize::from(options.concurrency.max(1)), &options.lanes, &options.lane_concurrency);
        let (mut request, mut asked, mut empty) = (1, None, 0);
        let mut next_due = None::<Duration>;
        while !self.stop.is_cancelled() {
            while jobs.try_join_next().is_some() {}
            // A wish whose answer was lost is made again as it was.
            let Some(wish) = asked.take().map_or_else(|| slots.wish().map(|wish| (wish, Instant::now())), Some) else {
                tokio::select! {
                    biased;
                    () = self.stop.cancelled() => {},
                    _ = jobs.join_next(), if !jobs.is_empty() => {},
                }
                continue;
            };
            // A request whose answer was lost is asked again under its number: the same grants come back, counted from the first time.
            let (wish, first_asked) = wish;
            let batch = self.lease(request, &wish).await;
            let all = wish.all;
            let asked_for = wish.max.min(usize::from(LEASE_BATCH_MAX));
            if batch.is_ok() {
                request += 1;
            } else if first_asked.elapsed() < self.ports.policy.visibility {
                asked = Some((wish, first_asked));
            } else {
                // Whatever that request was granted has run out by now.
                request += 1;
            }
            let wait = match batch {
                Ok(batch) if !batch.jobs.is_empty() => {
                    let left = asked_for.saturating_sub(batch.jobs.len());
                    for leased in batch.jobs {
                        let hold = Arc::new(Hold::new(leased.key, first_asked + self.ports.policy.visibility));
                        let (crew, slot) = (Arc::clone(&self), slots.take(&leased.job.head.lane));
                        // On the heap from the start: a task that is spawned is moved about a dozen times.
                        jobs.spawn(Box::pin(async move {
                            crew.serve(hold, leased).await;
                            drop(slot);
                        }));
                    }
                    (empty, next_due) = (0, None);
                    // That nothing more is ready was told with the jobs: it need not be asked for.
                    if !all || left == 0 || batch.next_due.is_some_and(|due| due.is_zero()) {
                        continue;
                    }
                    batch.next_due.unwrap_or(Duration::MAX).min(Duration::from_secs(IDLE_S_MAX))
                }
                Ok(batch) => {
                    next_due = next_due.into_iter().chain(batch.next_due).min();
                    empty += 1;
                    // Lanes with fewer slots were not asked for: their turn comes first.
                    if !all && empty < self.options.lanes.len() {
                        continue;
                    }
                    empty = 0;
                    let wait = next_due.take().unwrap_or(Duration::MAX).min(Duration::from_secs(IDLE_S_MAX));
                    if wait.is_zero() {
                        // Something is ready and not given out, as when its lane has as many leases as it may: a wait for ready jobs would end
                        // at once.
                        self.stop.run_until_cancelled(tokio::time::sleep(Duration::from_millis(HELD_BACK_MS))).await;
                        continue;
                    }
                    wait
                }
                Err(pause) => {
                    tokio::select! {
                        biased;
                        () = tokio::time::sleep(pause) => {},
                        () = self.stop.cancelled() => {},
                    }
                    continue;
                }
            };
            // Lanes without a free slot are not waited for, but for a slot of theirs.
            let open = slots.open();
            let mut ready = self.ports.jobs.wait_ready(&open, wait);
            loop {
                tokio::select! {
                    biased;
                    () = self.stop.cancelled() => break,
                    () = &mut ready => break,
                    _ = jobs.join_next(), if !jobs.is_empty() => {
                        // One more slot in a lane that is waited for already brings nothing.
                        if slots.open() != open {
                            break;
                        }
                    },
                }
            }
        }
        while jobs.join_next().await.is_some() {}
    }

    /// Leases; an error is the pause before the next try.
    async fn lease(&self, request: u64, wish: &Wish) -> Result<LeaseBatch, Duration> {
        let want = LeaseRequest {
            lanes: wish.lanes.clone(),
            max: u16::try_from(wish.max).unwrap_or(u16::MAX).min(LEASE_BATCH_MAX),
            visibility: self.ports.policy.visibility,
            worker: self.id.clone(),
            request,
            nonce: self.ports.entropy.next_u64(),
            shares: Arc::clone(&self.ports.policy.shares),
        };
        self.ports.jobs.lease(&want).await.map_err(|error| {
            tracing::warn!(%error, "no lease");
            Duration::from_millis(STORE_PAUSE_MS).mul_f64(0.5 + self.ports.entropy.unit())
        })
    }

    async fn serve(&self, hold: Arc<Hold>, leased: Leased) {
        let id = leased.key.job;
        self.with_holds(|holds| holds.insert(id, Arc::clone(&hold)));
        let _held = Held { crew: self, hold: Arc::clone(&hold) };
        let (ports, servers) = (Arc::clone(&self.ports), Arc::clone(&self.servers));
        let seats = Arc::clone(&self.seats);
        let clock = StoreClock::read(&leased.job.head);
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = Some(clock);
        let dispatch = Dispatch::new(ports, servers, seats, Arc::clone(&hold), leased, clock, self.cut.clone());
        dispatch.run().await;
    }

    /// Keeps the leases alive.
    async fn beat(self: Arc<Self>, end: CancellationToken) {
        let visibility = self.ports.policy.visibility;
        let mut nudge = self.ports.nudge.subscribe();
        loop {
            let pause = tokio::time::timeout(self.ports.policy.heartbeat, nudge.changed());
            // Over in time or nudged: both mean a heartbeat now.
            if end.run_until_cancelled(pause).await.is_none() {
                return;
            }
            let holds: Vec<Arc<Hold>> = self.with_holds(|holds| holds.values().map(Arc::clone).collect());
            for batch in holds.chunks(usize::from(LEASE_BATCH_MAX)) {
                let asked = Instant::now();
                let beats: Vec<_> = batch.iter().map(|hold| Heartbeat { lease: hold.key, progress: None }).collect();
                match self.ports.jobs.heartbeat(&beats, visibility).await {
                    Ok(answers) => {
                        batch.iter().zip(&answers).for_each(|(hold, beat)| hold.beat(beat, asked, visibility))
                    }
                    // Each job stops by itself when its lease can no longer be shown to be held.
                    Err(error) => tracing::warn!(%error, "no heartbeat"),
                }
            }
        }
    }

    /// Promotes, reclaims, ends and removes; tells of it.
    async fn maintain(self: Arc<Self>, end: CancellationToken) {
        let mut rounds = 0_u32;
        loop {
            let pause = self.options.maintain_every.mul_f64(0.75 + 0.5 * self.ports.entropy.unit());
            if end.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
            // A round that used up its budget left work behind.
            for _ in 0..ROUNDS_AT_ONCE_MAX {
                match self.ports.jobs.maintain(MAINTAIN_BUDGET).await {
                    Ok(done) => {
                        let more = done.moves() >= usize::from(MAINTAIN_BUDGET.get());
                        self.tell(done).await;
                        if !more {
                            break;
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "no maintenance");
                        break;
                    }
                }
            }
            rounds = rounds.wrapping_add(1);
            // A worker that was never given a job does not know what time it is for the store; others prune.
            let clock = *self.clock.lock().unwrap_or_else(PoisonError::into_inner);
            if rounds.is_multiple_of(PRUNE_EVERY_ROUNDS)
                && let Some(clock) = clock
                && let Err(error) = self.ports.results.prune(clock.now(), MAINTAIN_BUDGET).await
            {
                tracing::warn!(%error, "expired results not removed");
            }
        }
    }

    /// Fires schedules. Apart from maintenance: a submission may wait for its server.
    async fn fire(self: Arc<Self>, end: CancellationToken) {
        let mut firing = Firing::default();
        loop {
            let pause = self.options.maintain_every.mul_f64(0.75 + 0.5 * self.ports.entropy.unit());
            let round = async {
                tokio::time::sleep(pause).await;
                firing.round(&self.ports, &self.servers).await;
            };
            if end.run_until_cancelled(round).await.is_none() {
                return;
            }
        }
    }

    async fn tell(&self, done: Maintained) {
        for (id, state) in done.reclaimed {
            self.tell_ended(id, state).await;
        }
        for id in done.expired {
            self.tell_ended(id, JobState::Dead).await;
        }
        for (id, state) in done.settled {
            if state.is_final() {
                self.tell_ended(id, state).await;
            }
        }
        for (id, pointer) in done.removed {
            if let Some(pointer) = pointer
                && let Err(error) = self.ports.results.delete(&pointer).await
            {
                tracing::warn!(job = %id, %error, "result of a removed job stays");
            }
        }
    }

    async fn tell_ended(&self, id: JobId, state: JobState) {
        let Ok(Some(job)) = self.ports.jobs.get(id).await else { return };
        if let (true, Some(checkpoint)) = (state.is_final(), &job.head.checkpoint) {
            self.servers.stop_remote(&job, checkpoint);
        }
        let lost = || JobError::new(JobErrorCode::Lost, "the worker was lost");
        let kind = match state {
            JobState::Dead => EventKind::Failed { error: job.head.error.clone().unwrap_or_else(lost) },
            JobState::Cancelled => EventKind::Cancelled { reason: job.head.cancel_reason.clone().unwrap_or_default() },
            _ => EventKind::Retrying { error: lost(), delay_ms: 0 },
        };
        self.ports.tell_of(&job.head, kind).await;
    }

    fn with_holds<T>(&self, f: impl FnOnce(&mut BTreeMap<JobId, Arc<Hold>>) -> T) -> T {
        f(&mut self.holds.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Takes a hold out when its work is over, however it ends: a job whose work panicked must not be kept alive by heartbeats.
struct Held<'a> {
    crew: &'a Crew,
    hold: Arc<Hold>,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let key = self.hold.key;
        self.crew.with_holds(|holds| {
            // A lost job may have been leased again by this very worker: only the own hold is taken out.
            if holds.get(&key.job).is_some_and(|held| held.key == key) {
                holds.remove(&key.job);
            }
        });
    }
}
