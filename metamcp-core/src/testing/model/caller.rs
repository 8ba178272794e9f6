//! Makes concrete calls of what was drawn, with the keys, ids and nonces of this run.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    call::{Call, Reply},
    op::{Back, End, JOBS_MAX, LANES, Op, Pick, Terms, Which},
};
use crate::{
    auth::Principal,
    id::{JobId, Lane, TenantId, WorkerId},
    matching::Route,
    pointer::{Digest, ResultPointer},
    queue::{
        Answer, Checkpoint, ConcurrencyKey, Enqueued, Fenced, Final, Finish, Heartbeat, Held, InputRequest, JobBody,
        JobError, JobErrorCode, JobState, LeaseKey, LeaseRequest, Nack, NackHow, NewJob, Progress, RateKey, Redriven,
        Shares,
    },
    task::{Need, TaskRecord},
};

/// How long a lease of a run lasts.
const VISIBILITY: Duration = Duration::from_secs(30);

/// Makes concrete calls of drawn ones. Remembers which leases were given and what became of them, so that the calls meet jobs more often than
/// chance would.
#[derive(Debug, Default)]
pub struct Caller {
    keys: BTreeMap<JobId, Vec<LeaseKey>>,
    held: BTreeSet<JobId>,
    parked: BTreeSet<JobId>,
    dead: BTreeSet<JobId>,
    last: BTreeMap<WorkerId, LeaseRequest>,
    requests: u64,
    doing: Option<Call>,
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
        let call = self.concrete(op);
        self.doing = Some(call.clone());
        call
    }

    fn concrete(&mut self, op: &Op) -> Call {
        match op {
            Op::Enqueue(jobs) => Call::Enqueue(jobs.iter().map(|terms| self.new_job(terms)).collect()),
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
            Op::Answer(job, text) => {
                let parked = nth(&self.parked, *job).unwrap_or_else(|| Self::job(*job));
                Call::Answer(parked, Answer { responses: format!("{{\"q\":{text}}}") })
            }
            Op::Redrive(job) => Call::Redrive(nth(&self.dead, *job).unwrap_or_else(|| Self::job(*job))),
            Op::Cancel(job) => Call::Cancel(Self::job(*job), "enough".to_owned()),
            Op::Pause(lane, paused) => Call::Pause(Self::lane(*lane), *paused),
            Op::Maintain => Call::Maintain,
            Op::Advance(ms) => Call::Advance(Duration::from_millis(*ms)),
        }
    }

    /// Learns what became of the call that was made last.
    pub fn learn(&mut self, reply: &Reply) {
        match (self.doing.take(), reply) {
            (Some(Call::Enqueue(jobs)), Reply::Enqueued(answers)) => {
                let accepted = jobs.iter().zip(answers).filter(|(_, answer)| matches!(answer, Enqueued::Ok { .. }));
                accepted.filter_map(|(job, _)| job.held_key()).for_each(|key| self.given(key));
            }
            (_, Reply::Leased(batch)) => batch.jobs.iter().for_each(|leased| self.given(leased.key)),
            (Some(Call::Finish(done)), Reply::Fenced(answers)) => {
                done.iter().zip(answers).for_each(|(finish, answer)| self.ended(finish.lease, *answer));
            }
            (Some(Call::Nack(back)), Reply::Fenced(answers)) => {
                back.iter().zip(answers).for_each(|(nack, answer)| self.ended(nack.lease, *answer));
            }
            (Some(Call::Answer(job, _)), Reply::Answered(_)) => {
                self.parked.remove(&job);
            }
            (Some(Call::Redrive(job)), Reply::Redriven(Redriven::Ok | Redriven::Gone | Redriven::NotDead(_))) => {
                self.dead.remove(&job);
            }
            (_, Reply::Maintained(done)) => {
                self.held.retain(|held| done.reclaimed.iter().all(|(id, _)| id != held));
                let moved = done.reclaimed.iter().chain(&done.settled);
                let died = moved.filter(|(_, state)| *state == JobState::Dead).map(|(id, _)| *id);
                self.dead.extend(died.chain(done.expired.iter().copied()));
            }
            _ => {}
        }
    }

    fn given(&mut self, key: LeaseKey) {
        let keys = self.keys.entry(key.job).or_default();
        if keys.last() != Some(&key) {
            keys.push(key);
        }
        self.held.insert(key.job);
    }

    fn ended(&mut self, lease: LeaseKey, answer: Fenced) {
        let newest = self.keys.get(&lease.job).and_then(|keys| keys.last()) == Some(&lease);
        if newest {
            self.held.remove(&lease.job);
        }
        self.parked.extend((answer == Fenced::Ok(JobState::Input)).then_some(lease.job));
        self.dead.extend((answer == Fenced::Ok(JobState::Dead)).then_some(lease.job));
    }

    fn new_job(&mut self, terms: &Terms) -> NewJob {
        let held = terms.held.map(|by| Held { worker: worker(by), nonce: self.next_nonce(), visibility: VISIBILITY });
        NewJob { held, ..new_job(terms) }
    }

    /// A nonce for the next request, of which it is made.
    fn next_nonce(&mut self) -> u64 {
        self.requests += 1;
        self.requests.wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    fn want(&mut self, by: u8, heavy_first: bool, max: u16, again: bool) -> LeaseRequest {
        let worker = worker(by);
        if again && let Some(last) = self.last.get(&worker) {
            return last.clone();
        }
        let nonce = self.next_nonce();
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
            nonce,
            shares: Arc::new(shares()),
        };
        self.last.insert(worker, want.clone());
        want
    }

    fn key(&self, pick: Pick) -> LeaseKey {
        let held = nth(&self.held, pick.job).filter(|_| matches!(pick.which, Which::Held));
        let job = held.or_else(|| self.keys.keys().nth(usize::from(pick.job) % self.keys.len().max(1)).copied());
        let Some(keys) = job.and_then(|job| self.keys.get(&job)) else {
            return LeaseKey { job: Self::job(pick.job), epoch: 1, nonce: 1 };
        };
        let newest = *keys.last().expect("a job is remembered with its first lease");
        match pick.which {
            Which::Held | Which::Newest => newest,
            Which::Older => keys.iter().rev().nth(1).copied().unwrap_or(newest),
            Which::OtherNonce => LeaseKey { nonce: newest.nonce ^ 1, ..newest },
            Which::OtherEpoch => LeaseKey { epoch: newest.epoch + 1, ..newest },
        }
    }
}

/// One of these, if there are any.
fn nth(jobs: &BTreeSet<JobId>, n: u8) -> Option<JobId> {
    jobs.iter().nth(usize::from(n) % jobs.len().max(1)).copied()
}

/// One tenant weighs more than the others, and one lane is narrow.
fn shares() -> Shares {
    let weights = BTreeMap::from([(tenant(1), 3)]);
    Shares { weights, leased_max: BTreeMap::from([(Caller::lane(1), 2)]) }
}

fn checkpoint(text: u8) -> Checkpoint {
    Checkpoint { text: text.to_string(), replay_safe: text.is_multiple_of(2) }
}

fn tenant(n: u8) -> TenantId {
    TenantId::new(format!("tenant-{n}")).expect("a valid name")
}

fn worker(n: u8) -> WorkerId {
    WorkerId::new(format!("worker-{n}")).expect("a valid name")
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
        held: None,
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
        Back::Move(candidate) => NackHow::Move { candidate },
        Back::Park(ttl_s) => NackHow::Park {
            requests: vec![InputRequest { key: "q".to_owned(), request: "{}".to_owned() }],
            checkpoint: checkpoint(9),
            ttl: Duration::from_secs(ttl_s),
        },
    }
}
