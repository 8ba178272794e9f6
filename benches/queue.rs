//! A job's three durable moves (enqueue, lease, finish) on the memory store and on the embedded store, in groups, against the floor: a bare
//! redb loop with two-phase commit that writes records of the same keys and sizes. And opening a directory with 100,000 live jobs.
//!
//! `batch` hands a group over in one call; `callers` is a group of concurrent callers with one job each. Temporary directories are made
//! below `TMPDIR`: set it to the disk that is to be measured.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use metamcp_core::{
    auth::Principal,
    id::{Lane, WorkerId},
    pointer::{Digest, ResultPointer},
    queue::{Enqueued, Final, Finish, JobStore, LeaseKey, LeaseRequest, MemoryJobStore, NewJob},
    testing::job_store::new_job,
    time::SystemClock,
};
use metamcp_mcp_adapters::store::embedded::{EmbeddedOptions, EmbeddedStore};
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::{runtime::Runtime, task::JoinSet};

/// Moves of one job from enqueue to its end.
const MOVES: u64 = 3;
const BATCHES: [usize; 3] = [1, 16, 100];
const CALLERS: [usize; 3] = [1, 16, 128];
const LIVE_JOBS: usize = 100_000;
const BATCH_JOBS_MAX: usize = 100;
const VISIBILITY: Duration = Duration::from_secs(600);

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("threads can be started")
}

fn clock() -> Arc<SystemClock> {
    Arc::new(SystemClock::default())
}

fn open(dir: &Path) -> EmbeddedStore {
    EmbeddedStore::open(dir, clock(), &EmbeddedOptions::default()).expect("a directory of our own opens")
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("TMPDIR can be written")
}

fn jobs(count: usize) -> Vec<NewJob> {
    (0..count).map(|_| new_job()).collect()
}

async fn enqueue(store: &dyn JobStore, jobs: &[NewJob]) {
    let answers = store.enqueue(jobs).await.expect("the store works");
    assert!(answers.iter().all(|answer| matches!(answer, Enqueued::Ok { .. })), "{answers:?}");
}

async fn lease(store: &dyn JobStore, worker: &WorkerId, max: usize) -> Vec<LeaseKey> {
    let want = LeaseRequest {
        lanes: vec![Lane::light()],
        max: u16::try_from(max).expect("a batch is small"),
        visibility: VISIBILITY,
        worker: worker.clone(),
        request: next_request(),
        nonce: 7,
        shares: Arc::default(),
    };
    store.lease(&want).await.expect("the store works").jobs.iter().map(|leased| leased.key).collect()
}

/// A request that is never asked again.
fn next_request() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn end(key: LeaseKey) -> Finish {
    let result = ResultPointer { tenant: Principal::local().tenant, job: key.job, digest: Digest::of(b"3") };
    Finish { lease: key, end: Final::Done(result) }
}

/// One group through its three moves, handed over in one call each.
async fn batch(store: &dyn JobStore, worker: &WorkerId, jobs: &[NewJob]) {
    enqueue(store, jobs).await;
    let keys = lease(store, worker, jobs.len()).await;
    assert_eq!(keys.len(), jobs.len());
    let ends: Vec<Finish> = keys.into_iter().map(end).collect();
    store.finish(&ends).await.expect("the store works");
}

/// One group through its three moves, by concurrent callers with one job each.
async fn callers(store: &Arc<dyn JobStore>, worker: &WorkerId, jobs: Vec<NewJob>) {
    let mut at_work = JoinSet::new();
    for job in jobs {
        let (store, worker) = (Arc::clone(store), worker.clone());
        at_work.spawn(async move { batch(&*store, &worker, &[job]).await });
    }
    while let Some(done) = at_work.join_next().await {
        done.expect("no caller panics");
    }
}

/// Fresh for each size, as the floor is: a journal that has grown is slower.
fn stores(dir: &Path) -> [(&'static str, Arc<dyn JobStore>); 2] {
    [("memory", Arc::new(MemoryJobStore::new(clock()))), ("embedded", open(dir).jobs())]
}

fn moves(c: &mut Criterion) {
    let mut group = c.benchmark_group("queue");
    group.sample_size(20).measurement_time(Duration::from_secs(6));
    let runtime = runtime();
    let worker: WorkerId = "bench".parse().expect("a valid name");
    for size in BATCHES {
        let dir = directory();
        let stores = stores(dir.path());
        group.throughput(Throughput::Elements(MOVES * size as u64));
        for (name, store) in &stores {
            group.bench_function(BenchmarkId::new(format!("{name} batch"), size), |b| {
                b.iter_custom(|rounds| {
                    let mut took = Duration::ZERO;
                    for _ in 0..rounds {
                        let jobs = jobs(size);
                        let began = Instant::now();
                        runtime.block_on(batch(&**store, &worker, &jobs));
                        took += began.elapsed();
                    }
                    took
                });
            });
        }
        let floor = Floor::new();
        group.bench_function(BenchmarkId::new("bare redb", size), |b| b.iter(|| floor.round(size)));
    }
    for size in CALLERS {
        let dir = directory();
        let stores = stores(dir.path());
        group.throughput(Throughput::Elements(MOVES * size as u64));
        for (name, store) in &stores {
            group.bench_function(BenchmarkId::new(format!("{name} callers"), size), |b| {
                b.iter_custom(|rounds| {
                    let mut took = Duration::ZERO;
                    for _ in 0..rounds {
                        let jobs = jobs(size);
                        let began = Instant::now();
                        runtime.block_on(callers(store, &worker, jobs));
                        took += began.elapsed();
                    }
                    took
                });
            });
        }
    }
    group.finish();
}

fn reopen(c: &mut Criterion) {
    let mut group = c.benchmark_group("reopen");
    group.sample_size(10);
    let runtime = runtime();
    let dir = directory();
    {
        let store = open(dir.path()).jobs();
        for _ in 0..LIVE_JOBS / BATCH_JOBS_MAX {
            runtime.block_on(enqueue(&*store, &jobs(BATCH_JOBS_MAX)));
        }
    }
    group.bench_function(BenchmarkId::new("embedded", LIVE_JOBS), |b| {
        b.iter_custom(|rounds| {
            let mut took = Duration::ZERO;
            for _ in 0..rounds {
                let began = Instant::now();
                let store = open(dir.path());
                took += began.elapsed();
                // A directory has one owner: closed before it is opened again.
                drop(store);
            }
            took
        });
    });
    group.finish();
}

/// Records by kind: how many a job has, and their keys' and values' sizes.
type Sizes = BTreeMap<u8, (usize, usize)>;

/// The least that must be done: the same records, written by nothing but redb.
struct Floor {
    database: Database,
    dir: tempfile::TempDir,
    after_enqueue: Sizes,
    after_lease: Sizes,
    after_finish: Sizes,
    next: std::cell::Cell<u64>,
}

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("journal");
/// Key byte of a live job's head.
const LIVE: u8 = b'L';

impl Floor {
    fn new() -> Self {
        let dir = directory();
        let database = Database::create(dir.path().join("floor.redb")).expect("a new file");
        let sizes = |moves: u64| Self::sizes_after(moves);
        Self {
            database,
            dir,
            after_enqueue: sizes(1),
            after_lease: sizes(2),
            after_finish: sizes(3),
            next: std::cell::Cell::default(),
        }
    }

    /// What the embedded store keeps of one job after so many moves, read from its journal.
    fn sizes_after(moves: u64) -> Sizes {
        let (dir, runtime) = (directory(), runtime());
        let worker: WorkerId = "bench".parse().expect("a valid name");
        {
            let store = open(dir.path()).jobs();
            runtime.block_on(async {
                enqueue(&*store, &jobs(1)).await;
                if moves > 1 {
                    let keys = lease(&*store, &worker, 1).await;
                    if moves > 2 {
                        store.finish(&[end(keys[0])]).await.expect("the store works");
                    }
                }
            });
        }
        let database = Database::open(dir.path().join("journal.redb")).expect("the store is closed");
        let table = database.begin_read().expect("readable").open_table(TABLE).expect("there is a table");
        let records = table.iter().expect("readable").map(|record| record.expect("readable"));
        // The journal's own mark is no job's.
        let of_job = records.filter(|(key, _)| key.value()[0] != b'M');
        of_job.map(|(key, value)| (key.value()[0], (key.value().len(), value.value().len()))).collect()
    }

    fn round(&self, size: usize) {
        let first = self.next.get();
        self.next.set(first + size as u64);
        let ids = first..first + size as u64;
        let head = |sizes: &Sizes| Sizes::from([(LIVE, sizes[&LIVE])]);
        let ended: Sizes = self
            .after_finish
            .iter()
            .filter(|(kind, _)| !self.after_lease.contains_key(kind))
            .map(|(k, v)| (*k, *v))
            .collect();
        self.commit(ids.clone(), &self.after_enqueue, None);
        self.commit(ids.clone(), &head(&self.after_lease), None);
        self.commit(ids, &ended, Some(self.after_lease[&LIVE]));
    }

    fn commit(&self, ids: std::ops::Range<u64>, put: &Sizes, removed: Option<(usize, usize)>) {
        let mut transaction = self.database.begin_write().expect("one writer");
        transaction.set_durability(Durability::Immediate).expect("no savepoint is held");
        transaction.set_two_phase_commit(true);
        {
            let mut table = transaction.open_table(TABLE).expect("one table");
            for (kind, (key_bytes, value_bytes)) in put {
                for id in ids.clone() {
                    let value = vec![b'x'; *value_bytes];
                    table.insert(key(*kind, *key_bytes, id).as_slice(), value.as_slice()).expect("it fits");
                }
            }
            if let Some((key_bytes, _)) = removed {
                for id in ids {
                    table.remove(key(LIVE, key_bytes, id).as_slice()).expect("it is there");
                }
            }
        }
        transaction.commit().expect("the disk works");
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let bytes = std::fs::metadata(self.dir.path().join("floor.redb")).map_or(0, |m| m.len());
        eprintln!(
            "bare redb: records {:?} → {:?} → {:?}; file {bytes} bytes",
            self.after_enqueue, self.after_lease, self.after_finish
        );
    }
}

fn key(kind: u8, bytes: usize, id: u64) -> Vec<u8> {
    let mut key = vec![0; bytes];
    key[0] = kind;
    // Ids grow with time, as job ids do.
    key[1..9].copy_from_slice(&id.to_be_bytes());
    key
}

criterion_group!(benches, moves, reopen);
criterion_main!(benches);
