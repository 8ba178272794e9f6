//! Concrete calls: what was drawn, with the keys, ids and nonces of this run; and the answers in a form that can be compared.

use std::{collections::BTreeMap, num::NonZeroU16, sync::Arc, time::Duration};

use super::op::{Back, End, JOBS_MAX, LANES, Op, Pick, Terms, Which};
use crate::{
    auth::Principal,
    error::StoreResult,
    id::{JobId, Lane, TenantId, WorkerId},
    matching::Route,
    pointer::{Digest, ResultPointer},
    queue::{
        Answer, Answered, Beat, Cancelled, Checkpoint, ConcurrencyKey, Durability, Enqueued, Fenced, Final, Finish,
        Heartbeat, InputRequest, JobBody, JobError, JobErrorCode, JobStore, LeaseBatch, LeaseKey, LeaseRequest,
        Maintained, Nack, NackHow, NewJob, Progress, RateKey, Redriven, Shares,
    },
    task::{Need, TaskRecord},
    testing::ManualClock,
};

/// How long a lease of a run lasts.
const VISIBILITY: Duration = Duration::from_secs(30);
/// Rounds of maintenance after which there must be nothing more to do.
const MAINTAIN_ROUNDS_MAX: usize = 100;

/// A call as it is made.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// [`JobStore::enqueue`].
    Enqueue(Vec<NewJob>),
    /// [`JobStore::lease`].
    Lease(LeaseRequest),
    /// [`JobStore::heartbeat`].
    Heartbeat(Vec<Heartbeat>, Duration),
    /// [`JobStore::checkpoint`].
    Checkpoint(LeaseKey, Checkpoint),
    /// [`JobStore::finish`].
    Finish(Vec<Finish>),
    /// [`JobStore::nack`].
    Nack(Vec<Nack>),
    /// [`JobStore::answer`].
    Answer(JobId, Answer),
    /// [`JobStore::redrive`].
    Redrive(JobId),
    /// [`JobStore::cancel`].
    Cancel(JobId, String),
    /// [`JobStore::pause`].
    Pause(Lane, bool),
    /// [`JobStore::maintain`] until there is nothing more to do.
    Maintain,
    /// Time passes.
    Advance(Duration),
}

/// The answer to a [`Call`]. Durability is left out: it is the one thing in which stores may differ.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// To [`Call::Enqueue`].
    Enqueued(Vec<Enqueued>),
    /// To [`Call::Lease`].
    Leased(LeaseBatch),
    /// To [`Call::Heartbeat`].
    Beats(Vec<Beat>),
    /// To [`Call::Checkpoint`], [`Call::Finish`] and [`Call::Nack`].
    Fenced(Vec<Fenced>),
    /// To [`Call::Answer`].
    Answered(Answered),
    /// To [`Call::Redrive`].
    Redriven(Redriven),
    /// To [`Call::Cancel`].
    Cancelled(Cancelled),
    /// To [`Call::Maintain`]: all rounds together, sorted by id.
    Maintained(Box<Maintained>),
    /// To what answers nothing.
    Nothing,
}

/// Makes one call. Time passes on `clock`, which must be the store's.
///
/// # Errors
/// What the store answers.
pub async fn act(call: &Call, store: &dyn JobStore, clock: &ManualClock) -> StoreResult<Reply> {
    Ok(match call {
        Call::Enqueue(jobs) => {
            let mut answers = store.enqueue(jobs).await?;
            for answer in &mut answers {
                if let Enqueued::Ok { durability } = answer {
                    *durability = Durability::Memory;
                }
            }
            Reply::Enqueued(answers)
        }
        Call::Lease(want) => Reply::Leased(store.lease(want).await?),
        Call::Heartbeat(beats, extend) => Reply::Beats(store.heartbeat(beats, *extend).await?),
        Call::Checkpoint(key, at) => Reply::Fenced(vec![store.checkpoint(*key, at.clone()).await?]),
        Call::Finish(done) => Reply::Fenced(store.finish(done).await?),
        Call::Nack(back) => Reply::Fenced(store.nack(back).await?),
        Call::Answer(job, answer) => Reply::Answered(store.answer(*job, answer.clone()).await?),
        Call::Redrive(job) => Reply::Redriven(store.redrive(*job).await?),
        Call::Cancel(job, reason) => Reply::Cancelled(store.cancel(*job, reason).await?),
        Call::Pause(lane, paused) => {
            store.pause(lane, *paused).await?;
            Reply::Nothing
        }
        Call::Maintain => Reply::Maintained(Box::new(maintain(store).await?)),
        Call::Advance(by) => {
            clock.advance(*by);
            Reply::Nothing
        }
    })
}

async fn maintain(store: &dyn JobStore) -> StoreResult<Maintained> {
    let mut all = Maintained::default();
    for _ in 0..MAINTAIN_ROUNDS_MAX {
        let round = store.maintain(NonZeroU16::MAX).await?;
        if round == Maintained::default() {
            all.reclaimed.sort_unstable();
            all.expired.sort_unstable();
            all.settled.sort_unstable();
            all.removed.sort_unstable();
            return Ok(all);
        }
        all.promoted += round.promoted;
        all.reclaimed.extend(round.reclaimed);
        all.expired.extend(round.expired);
        all.settled.extend(round.settled);
        all.removed.extend(round.removed);
    }
    panic!("there was still something to do after {MAINTAIN_ROUNDS_MAX} rounds of maintenance");
}

/// Makes concrete calls of drawn ones, and remembers which leases were given.
#[derive(Debug, Default)]
pub struct Caller {
    keys: BTreeMap<JobId, Vec<LeaseKey>>,
    last: BTreeMap<WorkerId, LeaseRequest>,
    requests: u64,
}

impl Caller {
    /// A caller that knows no lease.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The id of a job of a run.
    #[must_use]
    pub fn job(n: u8) -> JobId {
        let mut bytes = [0x70; 16];
        bytes[15] = n;
        JobId::from_bytes(bytes)
    }

    /// All ids of a run.
    pub fn jobs() -> impl Iterator<Item = JobId> {
        (0..JOBS_MAX).map(Self::job)
    }

    /// A lane of a run.
    #[must_use]
    pub fn lane(n: u8) -> Lane {
        Lane::new(LANES[usize::from(n) % LANES.len()]).expect("a valid name")
    }

    /// All lanes of a run.
    pub fn lanes() -> impl Iterator<Item = Lane> {
        (0..2).map(Self::lane)
    }

    /// The call that was drawn.
    pub fn call(&mut self, op: &Op) -> Call {
        match op {
            Op::Enqueue(jobs) => Call::Enqueue(jobs.iter().map(new_job).collect()),
            Op::Lease { worker, heavy_first, max, again } => {
                Call::Lease(self.want(*worker, *heavy_first, *max, *again))
            }
            Op::Heartbeat(beats) => {
                let beat = |(pick, news): &(Pick, bool)| {
                    let progress = news.then(|| Progress { value: 1.0, total: None, message: None });
                    Heartbeat { lease: self.key(*pick), progress }
                };
                Call::Heartbeat(beats.iter().map(beat).collect(), VISIBILITY)
            }
            Op::Checkpoint(pick, text) => Call::Checkpoint(self.key(*pick), checkpoint(*text)),
            Op::Finish(ends) => {
                let finish = |(pick, end): &(Pick, End)| {
                    let lease = self.key(*pick);
                    Finish { lease, end: ending(lease.job, *end) }
                };
                Call::Finish(ends.iter().map(finish).collect())
            }
            Op::Nack(backs) => {
                let nack = |(pick, back): &(Pick, Back)| Nack { lease: self.key(*pick), how: how(*back) };
                Call::Nack(backs.iter().map(nack).collect())
            }
            Op::Answer(job, text) => Call::Answer(Self::job(*job), Answer { responses: format!("{{\"q\":{text}}}") }),
            Op::Redrive(job) => Call::Redrive(Self::job(*job)),
            Op::Cancel(job) => Call::Cancel(Self::job(*job), "enough".to_owned()),
            Op::Pause(lane, paused) => Call::Pause(Self::lane(*lane), *paused),
            Op::Maintain => Call::Maintain,
            Op::Advance(ms) => Call::Advance(Duration::from_millis(*ms)),
        }
    }

    /// Learns the leases of an answer.
    pub fn learn(&mut self, reply: &Reply) {
        let Reply::Leased(batch) = reply else { return };
        for leased in &batch.jobs {
            let keys = self.keys.entry(leased.key.job).or_default();
            if keys.last() != Some(&leased.key) {
                keys.push(leased.key);
            }
        }
    }

    fn want(&mut self, worker: u8, heavy_first: bool, max: u16, again: bool) -> LeaseRequest {
        let worker = WorkerId::new(format!("worker-{worker}")).expect("a valid name");
        if again && let Some(last) = self.last.get(&worker) {
            return last.clone();
        }
        self.requests += 1;
        let mut lanes: Vec<Lane> = Self::lanes().collect();
        if heavy_first {
            lanes.reverse();
        }
        let want = LeaseRequest {
            lanes,
            max,
            visibility: VISIBILITY,
            worker: worker.clone(),
            request: self.requests,
            nonce: self.requests.wrapping_mul(0x9E37_79B9_7F4A_7C15),
            shares: Arc::new(shares()),
        };
        self.last.insert(worker, want.clone());
        want
    }

    fn key(&self, pick: Pick) -> LeaseKey {
        let leased = usize::from(pick.job) % self.keys.len().max(1);
        let Some((_, keys)) = self.keys.iter().nth(leased) else {
            return LeaseKey { job: Self::job(pick.job), epoch: 1, nonce: 1 };
        };
        let newest = *keys.last().expect("a job is remembered with its first lease");
        match pick.which {
            Which::Newest => newest,
            Which::Older => keys.iter().rev().nth(1).copied().unwrap_or(newest),
            Which::OtherNonce => LeaseKey { nonce: newest.nonce ^ 1, ..newest },
            Which::OtherEpoch => LeaseKey { epoch: newest.epoch + 1, ..newest },
        }
    }
}

/// One tenant weighs more than the others, and one lane is narrow.
fn shares() -> Shares {
    let weights = BTreeMap::from([(tenant(1), 3)]);
    Shares { weights, leased_max: BTreeMap::from([(Caller::lane(1), 3)]) }
}

fn checkpoint(text: u8) -> Checkpoint {
    Checkpoint { text: text.to_string(), replay_safe: text.is_multiple_of(2) }
}

fn tenant(n: u8) -> TenantId {
    TenantId::new(format!("tenant-{n}")).expect("a valid name")
}

fn new_job(terms: &Terms) -> NewJob {
    let request = format!("request {}", terms.request);
    let task = TaskRecord { need: Need::new(&request), labels: BTreeMap::new(), cache: None };
    NewJob {
        id: Caller::job(terms.job),
        owner: Principal::new(tenant(terms.tenant), "somebody"),
        lane: Caller::lane(terms.lane),
        priority: terms.priority,
        delay: Duration::from_secs(terms.delay_s),
        deadline: terms.deadline_s.map(Duration::from_secs),
        retain: Duration::from_secs(terms.retain_s),
        attempts_max: terms.attempts_max,
        lost_max: terms.lost_max,
        idempotency_key: terms.key.map(|key| format!("key-{key}")),
        request_digest: Digest::of(request.as_bytes()),
        body: Arc::new(JobBody { task, route: Route::default() }),
        after: terms.after.iter().map(|job| Caller::job(*job)).collect(),
        concurrency: terms.concurrency.map(|max| ConcurrencyKey { key: "limited".to_owned(), max }),
        rate: terms.rate.map(|burst| RateKey { key: "rated".to_owned(), every: Duration::from_secs(7), burst }),
    }
}

fn ending(job: JobId, end: End) -> Final {
    match end {
        End::Done(n) => Final::Done(ResultPointer { tenant: tenant(0), job, digest: Digest::of(&[n]) }),
        End::Cached(n) => {
            let result = ResultPointer { tenant: tenant(0), job, digest: Digest::of(&[n]) };
            Final::Cached { result, from: Caller::job(0) }
        }
        End::Dead(n) => Final::Dead(JobError::new(JobErrorCode::ServerError, format!("error {n}"))),
        End::Cancelled => Final::Cancelled { reason: "enough".to_owned() },
    }
}

fn how(back: Back) -> NackHow {
    match back {
        Back::Fail { delay_s, candidate } => NackHow::Fail {
            delay: Duration::from_secs(delay_s),
            candidate,
            error: JobError::new(JobErrorCode::ServerUnavailable, "busy"),
        },
        Back::Release { delay_s, maybe_called } => {
            NackHow::Release { delay: Duration::from_secs(delay_s), maybe_called }
        }
        Back::Park(ttl_s) => NackHow::Park {
            requests: vec![InputRequest { key: "q".to_owned(), request: "{}".to_owned() }],
            checkpoint: checkpoint(9),
            ttl: Duration::from_secs(ttl_s),
        },
    }
}
