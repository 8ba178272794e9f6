//! The random calls of a workload, made for where its jobs stand. The calls of one round come together, and no two may move the same thing: how
//! each left it could not be told apart.

use std::{collections::BTreeSet, num::NonZeroU16, sync::Arc, time::Duration};

use bytes::Bytes;
use metamcp_core::{
    auth::Principal,
    event::{EventBus, EventKind, NewEvent},
    id::{JobId, TenantId, WorkerId},
    pointer::{Digest, ResultPointer},
    queue::{
        Answer, Checkpoint, Enqueued, Final, Finish, Heartbeat, InputRequest, Job, JobError, JobErrorCode, JobHead,
        JobState, JobStore, LeaseKey, LeaseRequest, Nack, NackHow, NewJob, Progress, Restored,
    },
    record::{Expect, RecordStore},
    time::Clock,
};

use crate::{
    jobs::{lane, new_family, new_job},
    workload::{Driver, JOBS_MAX, KIND, Known, Moves, Op},
};

/// Records of one workload.
const RECORDS: usize = 3;
/// Largest value of a record, in bytes: more than a page of the journal holds.
const VALUE_BYTES_MAX: usize = 6_000;

impl Driver {
    /// The calls of one round.
    pub(crate) fn round(&mut self) -> Vec<Op> {
        let width = [1, 1, 4, 16][self.random.below(4)];
        match self.random.below(12) {
            0 | 1 => self.enqueues(width),
            2 => self.restore(),
            3 | 4 => vec![self.lease()],
            5..=7 => self.leased_moves(width),
            8 => self.owner_moves(width),
            9 => vec![self.maintain()],
            10 => self.write_records(),
            _ => vec![self.publish()],
        }
    }

    fn room(&self) -> usize {
        JOBS_MAX - self.record.jobs.len()
    }

    /// Remembers jobs that are about to be asked for.
    fn expect(&mut self, new: &[NewJob]) {
        self.record.jobs.extend(new.iter().map(|job| (job.id, vec![Known::nothing()])));
        self.record.new_jobs.extend(new.iter().map(|job| (job.id, job.clone())));
    }

    fn enqueues(&mut self, width: usize) -> Vec<Op> {
        // One call of many, or many of one.
        let together = self.random.chance(30);
        let mut new: Vec<NewJob> = Vec::new();
        for _ in 0..width.min(self.room()) {
            let mut job = new_job(self.random.job_id(&self.record.clock), &mut self.random);
            job.after = self.parents(&job, &new, together);
            new.push(job);
        }
        self.expect(&new);
        let calls: Vec<Vec<NewJob>> = if together { vec![new] } else { new.into_iter().map(|job| vec![job]).collect() };
        let calls = calls.into_iter().filter(|call| !call.is_empty());
        calls
            .map(|call| {
                let jobs = Arc::clone(&self.store.jobs);
                let moved = call.iter().flat_map(|job| job.after.iter().copied().chain([job.id])).collect();
                Op::new(Moves::Jobs(moved), async move {
                    let answers = jobs.enqueue(&call).await.unwrap();
                    assert!(answers.iter().all(|answer| matches!(answer, Enqueued::Ok { .. })), "{answers:?}");
                })
            })
            .collect()
    }

    /// Jobs for one more to wait for: those that stand, and what is enqueued before it in the same call.
    fn parents(&mut self, job: &NewJob, before: &[NewJob], together: bool) -> Vec<JobId> {
        if self.random.chance(60) {
            return Vec::new();
        }
        let used: BTreeSet<JobId> = before.iter().flat_map(|job| job.after.iter().copied()).collect();
        let standing = self.record.heads().filter(|head| head.owner == job.owner).map(|head| head.id);
        let mut parents: Vec<JobId> = standing.filter(|id| together || !used.contains(id)).collect();
        if together {
            parents.extend(before.iter().filter(|other| other.owner == job.owner).map(|other| other.id));
        }
        let max = self.random.below(2) + 1;
        self.some(parents, max)
    }

    /// A parent and its child, as another store held them.
    fn restore(&mut self) -> Vec<Op> {
        if self.room() < 2 {
            return Vec::new();
        }
        let ids = [(); 2].map(|()| self.random.job_id(&self.record.clock));
        let (new, family): (Vec<NewJob>, Vec<Job>) =
            new_family(ids, self.record.clock.now(), &mut self.random).into_iter().unzip();
        self.expect(&new);
        let jobs = Arc::clone(&self.store.jobs);
        vec![Op::new(Moves::Jobs(ids.into()), async move {
            assert_eq!(jobs.restore(&family).await.unwrap(), [Restored::Ok; 2]);
        })]
    }

    fn lease(&mut self) -> Op {
        self.request += 1;
        let want = LeaseRequest {
            lanes: vec![lane()],
            max: u16::try_from(self.random.below(8) + 1).unwrap(),
            visibility: Duration::from_secs(3),
            worker: WorkerId::new("w").unwrap(),
            request: self.request,
            nonce: self.random.next(),
            shares: Arc::default(),
        };
        let jobs = Arc::clone(&self.store.jobs);
        Op::new(self.all_jobs(), async move {
            jobs.lease(&want).await.unwrap();
        })
    }

    fn leased_moves(&mut self, width: usize) -> Vec<Op> {
        let leased = self.in_state(JobState::Leased);
        let picked = self.some(leased, width);
        apart(picked.into_iter().map(|head| self.leased_move(&head)).collect())
    }

    fn leased_move(&mut self, head: &JobHead) -> Op {
        let lease = head.lease_key();
        let error = || JobError::new(JobErrorCode::ServerError, "no luck");
        let checkpoint = Checkpoint { text: format!("{{\"epoch\":{}}}", lease.epoch), replay_safe: true };
        let delay = Duration::from_millis(if self.random.chance(50) { 300 } else { 0 });
        let finish = move |end| Finish { lease, end };
        let nack = move |how| Nack { lease, how };
        let jobs = Arc::clone(&self.store.jobs);
        let kind = self.random.below(10);
        Op::new(self.kin(head), async move {
            match kind {
                0..=2 => drop(jobs.finish(&[finish(Final::Done(pointer_of(lease)))]).await.unwrap()),
                3 => {
                    let end = Final::Cached { result: pointer_of(lease), from: JobId::MIN };
                    drop(jobs.finish(&[finish(end)]).await.unwrap());
                }
                4 => drop(jobs.finish(&[finish(Final::Dead(error()))]).await.unwrap()),
                5 => {
                    let end = Final::Cancelled { reason: "asked".to_owned() };
                    drop(jobs.finish(&[finish(end)]).await.unwrap());
                }
                6 => {
                    let how = NackHow::Fail { delay, candidate: 1, error: error() };
                    drop(jobs.nack(&[nack(how)]).await.unwrap());
                }
                7 => drop(jobs.nack(&[nack(NackHow::Release { delay, maybe_called: true })]).await.unwrap()),
                8 => {
                    let requests = vec![InputRequest { key: "q".to_owned(), request: "{}".to_owned() }];
                    let how = NackHow::Park { requests, checkpoint, ttl: Duration::from_secs(9) };
                    drop(jobs.nack(&[nack(how)]).await.unwrap());
                }
                _ => {
                    let progress = Some(Progress { value: 1.0, total: None, message: None });
                    jobs.heartbeat(&[Heartbeat { lease, progress }], Duration::from_secs(4)).await.unwrap();
                    jobs.checkpoint(lease, checkpoint).await.unwrap();
                }
            }
        })
    }

    fn owner_moves(&mut self, width: usize) -> Vec<Op> {
        let jobs = || Arc::clone(&self.store.jobs);
        let mut ops = Vec::new();
        for head in self.in_state(JobState::Input) {
            let (jobs, answer) = (jobs(), Answer { responses: "{\"q\":1}".to_owned() });
            ops.push(Op::new(self.kin(&head), async move {
                jobs.answer(head.id, answer).await.unwrap();
            }));
        }
        for head in self.in_state(JobState::Dead) {
            let jobs = jobs();
            ops.push(Op::new(self.kin(&head), async move {
                jobs.redrive(head.id).await.unwrap();
            }));
        }
        use JobState::{Delayed, Leased, Ready, Waiting};
        for head in [Waiting, Delayed, Ready, Leased].into_iter().flat_map(|state| self.in_state(state)) {
            let jobs = jobs();
            ops.push(Op::new(self.kin(&head), async move {
                jobs.cancel(head.id, "unwanted").await.unwrap();
            }));
        }
        apart(self.some(ops, width))
    }

    fn maintain(&mut self) -> Op {
        self.record.clock.advance(Duration::from_millis(self.random.next() % 2_500));
        let jobs = Arc::clone(&self.store.jobs);
        let budget = NonZeroU16::new(u16::try_from(self.random.below(20) + 1).unwrap()).unwrap();
        Op::new(self.all_jobs(), async move {
            jobs.maintain(budget).await.unwrap();
        })
    }

    fn write_records(&mut self) -> Vec<Op> {
        let mut ops = Vec::new();
        for n in 0..RECORDS {
            let name = format!("record-{n}");
            let records = Arc::clone(&self.store.records);
            self.record.records.entry(name.clone()).or_insert_with(|| vec![Known::nothing()]);
            match self.random.below(4) {
                0 => {}
                1 => ops.push(Op::new(Moves::Record { name: name.clone(), until: None }, async move {
                    records.delete(KIND, &name).await.unwrap();
                })),
                _ => {
                    let value = vec![self.random.next().to_le_bytes()[0]; self.random.below(VALUE_BYTES_MAX)];
                    let ttl = self.random.chance(50).then(|| Duration::from_millis(1 + self.random.next() % 9_000));
                    let until = ttl.map(|ttl| self.record.clock.now() + ttl);
                    ops.push(Op::new(Moves::Record { name: name.clone(), until }, async move {
                        records.put(KIND, &name, Bytes::from(value), Expect::Anything, ttl).await.unwrap();
                    }));
                }
            }
        }
        ops
    }

    fn publish(&mut self) -> Op {
        let count = self.random.below(5) + 1;
        let new: Vec<NewEvent> = (0..count)
            .map(|_| NewEvent {
                job: self.random.job_id(&self.record.clock),
                owner: Principal::local(),
                kind: EventKind::Queued,
            })
            .collect();
        let asked = self.disk.position();
        self.record.events.extend(new.iter().map(|event| (asked, usize::MAX, event.clone())));
        let events = Arc::clone(&self.store.events);
        Op::new(Moves::Events, async move {
            events.publish(&new).await.unwrap();
        })
    }

    /// Up to `max` of them, in random order.
    fn some<T>(&mut self, mut from: Vec<T>, max: usize) -> Vec<T> {
        let mut picked = Vec::new();
        while picked.len() < max && !from.is_empty() {
            picked.push(from.swap_remove(self.random.below(from.len())));
        }
        picked
    }

    fn all_jobs(&self) -> Moves {
        Moves::Jobs(self.record.jobs.keys().copied().collect())
    }

    /// The job, and those that a move of it may move: its parents, its children, and whoever shares its concurrency key.
    fn kin(&self, head: &JobHead) -> Moves {
        let key = |head: &JobHead| head.concurrency.as_ref().map(|limit| limit.key.clone());
        let shares = |other: &&JobHead| {
            other.after.contains(&head.id) || key(head).is_some() && key(head) == key(other) || other.id == head.id
        };
        let kept = |id: &JobId| self.record.jobs.contains_key(id);
        let parents = head.after.iter().copied().filter(kept);
        Moves::Jobs(self.record.heads().filter(shares).map(|other| other.id).chain(parents).collect())
    }
}

/// Those that move nothing that another one before them moves.
fn apart(ops: Vec<Op>) -> Vec<Op> {
    let mut moved = BTreeSet::new();
    let mut is_apart = |op: &Op| match &op.moves {
        Moves::Jobs(jobs) => {
            let free = moved.is_disjoint(jobs);
            if free {
                moved.extend(jobs.iter().copied());
            }
            free
        }
        Moves::Events | Moves::Record { .. } => true,
    };
    ops.into_iter().filter(|op| is_apart(op)).collect()
}

/// The result that the holder of this lease ends the job with.
pub(crate) fn pointer_of(lease: LeaseKey) -> ResultPointer {
    let digest = Digest::of(&lease.epoch.to_be_bytes());
    ResultPointer { tenant: TenantId::new("a").unwrap(), job: lease.job, digest }
}
