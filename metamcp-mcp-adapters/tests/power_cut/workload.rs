//! One workload: rounds of random calls on a store, what the disk was told meanwhile, and how everything stood after each call.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::Pin,
    sync::Arc,
};

use bytes::Bytes;
use metamcp_core::{
    error::StoreError,
    event::NewEvent,
    id::JobId,
    queue::{JobHead, JobState, JobStore, NewJob},
    record::{RecordKind, RecordStore},
    testing::ManualClock,
    time::{Clock, Timestamp},
};
use metamcp_mcp_adapters::store::embedded::{EmbeddedOptions, EmbeddedStore, Views};

use crate::{
    disk::{Disk, Told},
    random::Random,
};

/// Rounds of calls in one workload.
const ROUNDS: usize = 60;
/// Jobs of one workload: fewer than a page of a list holds.
pub(crate) const JOBS_MAX: usize = 48;
/// The kind of the records of a workload.
pub(crate) const KIND: RecordKind = RecordKind::Batch;

/// When a store answers; the early one is a broken twin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Answers {
    AfterTheCommit,
    BeforeTheCommit,
}

/// One state of a thing: when it was asked for, when it was acknowledged (positions of the disk), and how the thing then stood.
#[derive(Debug)]
pub(crate) struct Known<T> {
    pub(crate) asked: usize,
    pub(crate) acked: usize,
    pub(crate) stood: Option<T>,
}

impl<T> Known<T> {
    /// Before anything was asked for.
    pub(crate) const fn nothing() -> Self {
        Self { asked: 0, acked: 0, stood: None }
    }
}

/// How a record stood.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct KnownRecord {
    pub(crate) version: u64,
    pub(crate) value: Bytes,
    pub(crate) until: Option<Timestamp>,
}

/// Everything a recorded workload knows.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) told: Vec<Told>,
    /// Where the store had come up: what is cut before that was never used.
    pub(crate) created: usize,
    pub(crate) jobs: BTreeMap<JobId, Vec<Known<JobHead>>>,
    pub(crate) new_jobs: BTreeMap<JobId, NewJob>,
    pub(crate) records: BTreeMap<String, Vec<Known<KnownRecord>>>,
    /// For each event, in order: when it was asked for, when it was acknowledged, what it is.
    pub(crate) events: Vec<(usize, usize, NewEvent)>,
    pub(crate) clock: Arc<ManualClock>,
}

impl Record {
    /// How the jobs that are kept stand.
    pub(crate) fn heads(&self) -> impl Iterator<Item = &JobHead> {
        self.jobs.values().filter_map(|known| known.last()?.stood.as_ref())
    }
}

/// What one call may move.
pub(crate) enum Moves {
    Jobs(BTreeSet<JobId>),
    Events,
    Record { name: String, until: Option<Timestamp> },
}

/// One call with what it may move. Its outcome is read back from the store.
pub(crate) struct Op {
    pub(crate) moves: Moves,
    pub(crate) call: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Op {
    pub(crate) fn new(moves: Moves, call: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { moves, call: Box::pin(call) }
    }
}

/// Drives a store and remembers what it said.
pub(crate) struct Driver {
    pub(crate) store: Views,
    pub(crate) disk: Disk,
    pub(crate) random: Random,
    pub(crate) request: u64,
    pub(crate) record: Record,
    answers: Answers,
}

impl Driver {
    /// Makes the calls of a round together, then reads back how things stand.
    async fn play(&mut self, ops: Vec<Op>) {
        let asked = self.disk.position();
        let mut running = tokio::task::JoinSet::new();
        for op in ops {
            let (disk, answers) = (self.disk.clone(), self.answers);
            running.spawn(async move {
                op.call.await;
                let acked = if answers == Answers::BeforeTheCommit { asked } else { disk.position() };
                (op.moves, acked)
            });
        }
        while let Some(done) = running.join_next().await {
            let (moves, acked) = done.unwrap();
            match moves {
                Moves::Jobs(jobs) => self.read_jobs(jobs, asked, acked).await,
                Moves::Events => {
                    self.record
                        .events
                        .iter_mut()
                        .filter(|event| event.1 == usize::MAX)
                        .for_each(|event| event.1 = acked);
                }
                Moves::Record { name, until } => {
                    let found = self.store.records.get(KIND, &name).await.unwrap();
                    let stood = found.map(|found| KnownRecord { version: found.version, value: found.value, until });
                    self.record.records.get_mut(&name).unwrap().push(Known { asked, acked, stood });
                }
            }
        }
    }

    async fn read_jobs(&mut self, jobs: BTreeSet<JobId>, asked: usize, acked: usize) {
        for id in jobs {
            let head = self.store.jobs.get(id).await.unwrap().map(|job| job.head);
            let known = self.record.jobs.get_mut(&id).expect("every job was enqueued");
            if known.last().is_none_or(|last| last.stood != head) {
                known.push(Known { asked, acked, stood: head });
            }
        }
    }

    /// Those in this state, as they are known.
    pub(crate) fn in_state(&self, state: JobState) -> Vec<JobHead> {
        self.record.heads().filter(|head| head.state == state).cloned().collect()
    }
}

/// Opens the store on a disk.
pub(crate) fn open(disk: Disk, clock: &Arc<ManualClock>) -> Result<Views, StoreError> {
    let clock: Arc<dyn Clock> = Arc::clone(clock) as _;
    EmbeddedStore::open_backend(disk, clock, &EmbeddedOptions::default())
}

/// Plays one workload.
pub(crate) async fn record(seed: u64, syncs: bool, answers: Answers) -> Record {
    let disk = Disk::new(Vec::new(), syncs);
    let clock = ManualClock::new();
    let store = open(disk.clone(), &clock).unwrap();
    let record = Record {
        told: Vec::new(),
        created: disk.position(),
        jobs: BTreeMap::new(),
        new_jobs: BTreeMap::new(),
        records: BTreeMap::new(),
        events: Vec::new(),
        clock,
    };
    let mut driver = Driver { store, disk, answers, random: Random(seed), request: 0, record };
    for _ in 0..ROUNDS {
        let ops = driver.round();
        driver.play(ops).await;
    }
    driver.store.jobs.verify().await.unwrap();
    driver.record.told = driver.disk.told();
    driver.record
}
