//! The embedded store: every behaviour of a durable queue, of a result store and of an event bus, and what only one data directory has, its
//! owner, its damage, its full disk. What happens when the power goes is in `power_cut.rs`.

#![cfg(feature = "embedded")]
#![expect(clippy::unwrap_used, reason = "a test stops where something is wrong")]

use std::{
    fs, io,
    num::NonZeroU16,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use metamcp_core::{
    auth::Principal,
    error::{StoreError, StoreErrorKind},
    event::{EventBus, EventKind, NewEvent},
    id::{JobId, Lane, TenantId, WorkerId},
    pointer::{Digest, ResultPointer},
    queue::{
        Cancelled, Durability, Enqueued, Fenced, Final, Finish, Heartbeat, JobQuery, JobState, JobStore, LeaseKey,
        LeaseRequest, NewJob, Progress,
    },
    result::{ByteRange, ResultMeta, ResultStore},
    testing::{
        ManualClock,
        event_bus::{EventBusFixture, SUITE_EVENTS_KEPT},
        job_store::{DurableJobStoreFixture, JobStoreFixture, Reopen, new_job, suite_limits},
        model::{Op, compare_with_model, ops},
        result_store::ResultStoreFixture,
    },
};
use metamcp_mcp_adapters::store::embedded::{EmbeddedOptions, EmbeddedStore};
use proptest::{prelude::*, test_runner::TestCaseError};
use tempfile::TempDir;

fn options() -> EmbeddedOptions {
    let mut options = EmbeddedOptions::default();
    options.limits = suite_limits();
    options.events_kept_max = SUITE_EVENTS_KEPT as u64;
    options
}

fn open(dir: &Path, clock: &Arc<ManualClock>) -> Result<EmbeddedStore, StoreError> {
    EmbeddedStore::open(dir, Arc::clone(clock) as _, &options())
}

fn fresh() -> (TempDir, Arc<ManualClock>, EmbeddedStore) {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::new());
    let store = open(dir.path(), &clock).unwrap();
    (dir, clock, store)
}

async fn job_store() -> JobStoreFixture {
    let (dir, clock, store) = fresh();
    JobStoreFixture::new(store.jobs(), clock, dir)
}

struct SameDir {
    dir: PathBuf,
    clock: Arc<ManualClock>,
}

#[async_trait]
impl Reopen for SameDir {
    async fn reopen(&mut self) -> Arc<dyn JobStore> {
        let store = open(&self.dir, &self.clock).unwrap();
        store.jobs().verify().await.unwrap();
        store.jobs()
    }
}

async fn durable_job_store() -> DurableJobStoreFixture {
    let (dir, clock, store) = fresh();
    let reopen = SameDir { dir: dir.path().to_owned(), clock: Arc::clone(&clock) };
    DurableJobStoreFixture::new(JobStoreFixture::new(store.jobs(), clock, dir), reopen)
}

async fn result_store() -> ResultStoreFixture {
    let (dir, _, store) = fresh();
    ResultStoreFixture::new(store.results(), dir)
}

async fn event_bus() -> EventBusFixture {
    let (dir, _, store) = fresh();
    EventBusFixture::new(store.events(), dir)
}

mod jobs {
    metamcp_core::job_store_suite!(super::job_store);
}
mod durable_jobs {
    metamcp_core::durable_job_store_suite!(super::durable_job_store);
}
mod results {
    metamcp_core::result_store_suite!(super::result_store);
}
mod events {
    metamcp_core::event_bus_suite!(super::event_bus);
}

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

fn key(job: JobId) -> LeaseKey {
    LeaseKey { job, epoch: 1, nonce: 1 }
}

fn meta(owner: &str) -> ResultMeta {
    ResultMeta { tenant: tenant(owner), media_type: "text/plain".to_owned(), expires_at: None }
}

fn event(job: JobId) -> NewEvent {
    NewEvent { job, owner: Principal::local(), kind: EventKind::Queued }
}

fn wish(request: u64) -> LeaseRequest {
    LeaseRequest {
        lanes: vec![Lane::light()],
        max: 100,
        visibility: Duration::from_secs(30),
        worker: WorkerId::new("w").unwrap(),
        request,
        nonce: request,
    }
}

async fn lease_all(store: &dyn JobStore, request: u64) -> Vec<LeaseKey> {
    store.lease(&wish(request)).await.unwrap().jobs.into_iter().map(|leased| leased.key).collect()
}

fn done(lease: LeaseKey) -> Finish {
    let pointer = ResultPointer { tenant: tenant("local"), job: lease.job, digest: Digest::of(b"x") };
    Finish { lease, end: Final::Done(pointer) }
}

/// All files below a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn everything_survives_a_restart_and_the_journal_is_whole() {
    let (dir, clock, store) = fresh();
    let job = new_job();
    store.jobs().enqueue(std::slice::from_ref(&job)).await.unwrap();
    let pointer = store.results().put(key(job.id), Bytes::from_static(b"3"), meta("local")).await.unwrap();
    assert_eq!(store.events().publish(&[event(job.id), event(job.id)]).await.unwrap(), 2);
    drop(store);

    let store = open(dir.path(), &clock).unwrap();
    store.jobs().verify().await.unwrap();
    assert_eq!(store.jobs().health().await.unwrap().durability, Durability::LocalFsync);
    assert_eq!(*store.jobs().get(job.id).await.unwrap().unwrap().body, *job.body);
    assert_eq!(store.results().get(&pointer, None).await.unwrap().bytes, "3");
    assert_eq!(store.events().latest().await.unwrap(), 2);
    assert_eq!(store.events().publish(&[event(job.id)]).await.unwrap(), 3, "a cursor is never given twice");
}

#[tokio::test]
async fn a_second_open_in_the_same_process_is_refused_and_names_the_owner() {
    let (dir, clock, store) = fresh();
    store.describe_owner("listening on 127.0.0.1:7777").unwrap();
    clock.advance(Duration::from_secs(75));
    let e = open(dir.path(), &clock).unwrap_err();
    assert_eq!(e.kind(), StoreErrorKind::Unavailable);
    let text = e.to_string();
    for part in [&format!("process {}", std::process::id()), "listening on 127.0.0.1:7777", "for 75 s", "--data-dir"] {
        assert!(text.contains(part), "{text} does not say {part}");
    }
    drop(store);
    open(dir.path(), &clock).unwrap();
}

const CHILD_DIR: &str = "METAMCP_TEST_CHILD_DIR";

/// Not a test of its own: what `a_second_process_is_refused…` runs in another process. Without the variable there is nothing to do.
#[test]
fn child_that_opens_a_directory() {
    let Ok(dir) = std::env::var(CHILD_DIR) else { return };
    match open(Path::new(&dir), &ManualClock::new()) {
        Ok(_) => println!("opened"),
        Err(e) => println!("refused: {e}"),
    }
}

fn open_in_another_process(dir: &Path) -> String {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_opens_a_directory", "--nocapture"])
        .env(CHILD_DIR, dir)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8(child.stdout).unwrap()
}

#[test]
fn a_second_process_is_refused_and_told_the_owner_until_the_first_one_ends() {
    let (dir, _, store) = fresh();
    let said = open_in_another_process(dir.path());
    assert!(
        said.contains("refused: ") && said.contains(&format!("in use by process {}", std::process::id())),
        "{said}"
    );
    drop(store);
    let said = open_in_another_process(dir.path());
    assert!(said.contains("opened"), "{said}");
}

#[test]
fn a_file_that_is_no_journal_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.redb");
    for garbage in [b"not a journal".to_vec(), vec![0; 100_000], (0..=255).cycle().take(80_000).collect()] {
        fs::write(&path, &garbage).unwrap();
        let e = open(dir.path(), &ManualClock::new()).unwrap_err();
        assert_eq!(e.kind(), StoreErrorKind::Corrupt, "{e:?}");
        assert!(e.to_string().contains("journal.redb"), "{e}");
        assert_eq!(fs::read(&path).unwrap(), garbage, "it was changed");
    }
}

#[tokio::test]
async fn a_journal_that_was_cut_short_or_damaged_is_refused_or_whole_and_never_taken_for_an_empty_one() {
    let (dir, clock, store) = fresh();
    let jobs: Vec<NewJob> = (0..50).map(|_| new_job()).collect();
    store.jobs().enqueue(&jobs).await.unwrap();
    drop(store);
    let path = dir.path().join("journal.redb");
    let whole = fs::read(&path).unwrap();
    for cut in [0, 1, 2, 3].map(|quarter| whole.len() * quarter / 4) {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("journal.redb"), &whole[..cut]).unwrap();
        let e = open(home.path(), &clock).unwrap_err();
        assert!(matches!(e.kind(), StoreErrorKind::Corrupt | StoreErrorKind::Unavailable), "cut at {cut}: {e:?}");
        assert_eq!(fs::read(home.path().join("journal.redb")).unwrap(), &whole[..cut], "it was changed");
    }
    // One page of zeros at a time: either it holds nothing any more, or somebody says so.
    for page in 0..whole.len() / 4_096 {
        let mut damaged = whole.clone();
        damaged[page * 4_096..(page + 1) * 4_096].fill(0);
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("journal.redb"), &damaged).unwrap();
        let Ok(store) = open(home.path(), &clock) else { continue };
        if store.jobs().verify().await.is_ok() {
            let found = store.jobs().list(&JobQuery::default()).await.unwrap().jobs.len();
            assert_eq!(found, jobs.len(), "page {page}");
        }
    }
}

#[tokio::test]
async fn a_directory_where_the_power_went_while_its_journal_was_made_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("journal.redb.new"), vec![0; 70_000]).unwrap();
    let store = open(dir.path(), &ManualClock::new()).unwrap();
    store.jobs().verify().await.unwrap();
}

/// A disk in memory that is full, or keeps its writers waiting, when it is told to.
#[derive(Debug, Clone, Default)]
struct MoodyDisk {
    memory: Arc<redb::backends::InMemoryBackend>,
    full: Arc<AtomicBool>,
    waits: Arc<(Mutex<bool>, Condvar)>,
}

impl MoodyDisk {
    fn room(&self) -> io::Result<()> {
        drop(self.waits.1.wait_while(self.waits.0.lock().unwrap(), |waits| *waits).unwrap());
        if self.full.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn keep_waiting(&self, waits: bool) {
        *self.waits.0.lock().unwrap() = waits;
        self.waits.1.notify_all();
    }
}

impl redb::StorageBackend for MoodyDisk {
    fn len(&self) -> io::Result<u64> {
        self.memory.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.memory.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.room()?;
        self.memory.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.room()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.room()?;
        self.memory.write(offset, data)
    }
}

#[tokio::test]
async fn a_full_disk_closes_the_store_and_what_was_acknowledged_is_there_after_a_reopen() {
    let disk = MoodyDisk::default();
    let clock = ManualClock::new();
    let open = || EmbeddedStore::open_backend(disk.clone(), Arc::clone(&clock) as _, &options());
    let (jobs, events) = open().unwrap();
    let (kept, refused) = (new_job(), new_job());
    jobs.enqueue(std::slice::from_ref(&kept)).await.unwrap();
    disk.full.store(true, Ordering::SeqCst);
    let e = jobs.enqueue(std::slice::from_ref(&refused)).await.unwrap_err();
    assert_eq!(e.kind(), StoreErrorKind::Closed, "{e:?}");
    assert!(e.to_string().contains("check the disk for space"), "{e}");

    disk.full.store(false, Ordering::SeqCst);
    let closed = |e: StoreError| assert_eq!(e.kind(), StoreErrorKind::Closed, "{e:?}");
    closed(jobs.enqueue(&[new_job()]).await.unwrap_err());
    closed(jobs.get(kept.id).await.unwrap_err());
    closed(jobs.list(&JobQuery::default()).await.unwrap_err());
    closed(jobs.counts(&Lane::light()).await.unwrap_err());
    closed(jobs.health().await.unwrap_err());
    closed(events.publish(&[event(kept.id)]).await.unwrap_err());
    closed(events.read(0, 1, Duration::ZERO).await.unwrap_err());
    closed(events.latest().await.unwrap_err());
    drop((jobs, events));

    let (jobs, _) = open().unwrap();
    jobs.verify().await.unwrap();
    assert!(jobs.get(kept.id).await.unwrap().is_some());
    assert!(matches!(jobs.enqueue(&[refused]).await.unwrap()[..], [Enqueued::Ok { .. } | Enqueued::Duplicate { .. }]));
}

#[tokio::test]
async fn a_heartbeat_shows_in_get_and_list_without_a_commit() {
    let (_dir, _clock, store) = fresh();
    let (jobs, job) = (store.jobs(), new_job());
    jobs.enqueue(std::slice::from_ref(&job)).await.unwrap();
    let lease = lease_all(&*jobs, 1).await[0];
    let progress = Some(Progress { value: 2.0, total: Some(4.0), message: None });
    jobs.heartbeat(&[Heartbeat { lease, progress: progress.clone() }], Duration::from_secs(99)).await.unwrap();
    let got = jobs.get(job.id).await.unwrap().unwrap().head;
    assert_eq!(got.progress, progress);
    assert_eq!(jobs.list(&JobQuery::default()).await.unwrap().jobs[0].head, got);
    jobs.verify().await.unwrap();
}

#[tokio::test]
async fn ended_jobs_leave_memory_and_are_still_found_repeated_and_removed() {
    let (dir, clock, store) = fresh();
    let jobs = store.jobs();
    let new: Vec<NewJob> = (0..60).map(|n| NewJob { idempotency_key: Some(format!("k{n}")), ..new_job() }).collect();
    jobs.enqueue(&new).await.unwrap();
    let leases = lease_all(&*jobs, 1).await;
    let ends: Vec<Finish> = leases.into_iter().map(done).collect();
    jobs.finish(&ends).await.unwrap();
    let again = jobs.finish(&ends).await.unwrap();
    assert!(again.iter().all(|answer| *answer == Fenced::OkAgain(JobState::Done)), "{again:?}");
    assert_eq!(jobs.cancel(new[0].id, "late").await.unwrap(), Cancelled::Already(JobState::Done));
    let mut other = new[1].clone();
    other.id = new_job().id;
    let answer = jobs.enqueue(&[other]).await.unwrap();
    assert_eq!(answer, [Enqueued::Duplicate { job: new[1].id, state: JobState::Done }]);
    jobs.verify().await.unwrap();
    drop((store, jobs));

    let store = open(dir.path(), &clock).unwrap();
    let jobs = store.jobs();
    clock.advance(Duration::from_secs(3_600));
    let first = jobs.maintain(NonZeroU16::new(45).unwrap()).await.unwrap();
    let rest = jobs.maintain(NonZeroU16::new(45).unwrap()).await.unwrap();
    assert_eq!((first.removed.len(), rest.removed.len()), (45, 15));
    assert!(first.removed.iter().all(|(id, pointer)| pointer.as_ref().is_some_and(|pointer| pointer.job == *id)));
    jobs.verify().await.unwrap();
    assert!(jobs.list(&JobQuery::default()).await.unwrap().jobs.is_empty());
    assert!(matches!(jobs.enqueue(&new[..1]).await.unwrap()[..], [Enqueued::Ok { .. }]), "its key is free");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_come_together_are_all_answered_and_all_durable() {
    let (dir, clock, store) = fresh();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let jobs = store.jobs();
        calls.spawn(async move { jobs.enqueue(&[new_job()]).await.unwrap() });
    }
    while let Some(answer) = calls.join_next().await {
        assert!(matches!(answer.unwrap()[..], [Enqueued::Ok { durability: Durability::LocalFsync }]));
    }
    drop(store);
    let store = open(dir.path(), &clock).unwrap();
    assert_eq!(store.jobs().counts(&Lane::light()).await.unwrap().ready, 200);
}

/// A job's whole life, and its next one under the same name, within one commit.
#[tokio::test]
async fn calls_that_share_a_commit_see_what_those_before_them_did() {
    let (disk, clock) = (MoodyDisk::default(), ManualClock::new());
    let (jobs, _) = EmbeddedStore::open_backend(disk.clone(), Arc::clone(&clock) as _, &options()).unwrap();
    let job = NewJob { retain: Duration::ZERO, idempotency_key: Some("k".to_owned()), ..new_job() };
    let lease = LeaseKey { job: job.id, epoch: 1, nonce: 7 };
    disk.keep_waiting(true);
    // The writer is at the commit of the first call while the others come.
    let heavy = Lane::heavy();
    let pause = jobs.pause(&heavy, true);
    let life = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let want = wish(7);
        let (once, again) = ([job.clone()], [job.clone()]);
        let (finish, finish_again) = ([done(lease)], [done(lease)]);
        let calls = async {
            tokio::join!(
                jobs.enqueue(&once),
                jobs.lease(&want),
                jobs.finish(&finish),
                jobs.finish(&finish_again),
                jobs.maintain(NonZeroU16::MAX),
                jobs.enqueue(&again),
            )
        };
        let open = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            disk.keep_waiting(false);
        };
        tokio::join!(calls, open).0
    };
    let (paused, (enqueued, leased, finished, repeated, maintained, anew)) = tokio::join!(pause, life);
    paused.unwrap();
    assert!(matches!(enqueued.unwrap()[..], [Enqueued::Ok { .. }]));
    assert_eq!(leased.unwrap().jobs[0].key, lease);
    assert_eq!(finished.unwrap(), [Fenced::Ok(JobState::Done)]);
    assert_eq!(repeated.unwrap(), [Fenced::OkAgain(JobState::Done)]);
    assert_eq!(maintained.unwrap().removed.len(), 1);
    assert!(matches!(anew.unwrap()[..], [Enqueued::Ok { .. }]), "the name and the key were free again");
    assert_eq!(jobs.get(job.id).await.unwrap().unwrap().head.epoch, 0);
    jobs.verify().await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_store_answers_and_stands_as_the_model_does(ops in ops(120)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(as_the_model(&ops)).map_err(TestCaseError::fail)?;
    }
}

async fn as_the_model(ops: &[Op]) -> Result<(), String> {
    let (disk, clock) = (MoodyDisk::default(), ManualClock::new());
    let open = || EmbeddedStore::open_backend(disk.clone(), Arc::clone(&clock) as _, &EmbeddedOptions::default());
    let (jobs, _) = open().map_err(|e| e.to_string())?;
    compare_with_model(&*jobs, &clock, ops).await?;
    jobs.verify().await.map_err(|e| e.to_string())
}

#[tokio::test]
async fn equal_bodies_of_a_tenant_share_a_file_that_goes_with_the_last_pointer() {
    let (dir, _, store) = fresh();
    let results = store.results();
    let body = Bytes::from_static(b"the same");
    let one = results.put(key(new_job().id), body.clone(), meta("a")).await.unwrap();
    let two = results.put(key(new_job().id), body.clone(), meta("a")).await.unwrap();
    let other = results.put(key(new_job().id), body, meta("..")).await.unwrap();
    let tree = dir.path().join("results");
    assert_eq!(files(&tree).len(), 2, "one file for each tenant");
    results.delete(&one).await.unwrap();
    assert_eq!(results.get(&two, None).await.unwrap().bytes, "the same");
    results.delete(&two).await.unwrap();
    assert_eq!(files(&tree).len(), 1);
    assert_eq!(results.get(&other, None).await.unwrap().bytes, "the same");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_beside_deletes_of_the_same_body_keeps_its_file() {
    let (dir, _, store) = fresh();
    let mut rounds = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let results = store.results();
        rounds.spawn(async move {
            for _ in 0..25 {
                let body = Bytes::from_static(b"fought over");
                let pointer = results.put(key(new_job().id), body.clone(), meta("a")).await.unwrap();
                assert_eq!(results.get(&pointer, None).await.unwrap().bytes, body);
                results.delete(&pointer).await.unwrap();
            }
        });
    }
    while let Some(round) = rounds.join_next().await {
        round.unwrap();
    }
    assert!(files(&dir.path().join("results")).is_empty(), "the last delete takes the file along");
}

#[tokio::test]
async fn a_damaged_or_missing_body_is_corrupt_and_never_handed_out() {
    let (dir, _, store) = fresh();
    let results = store.results();
    let pointer = results.put(key(new_job().id), Bytes::from_static(b"important"), meta("a")).await.unwrap();
    let file = files(&dir.path().join("results")).remove(0);
    for damaged in [&b"imp0rtant"[..], b"important!", b""] {
        fs::write(&file, damaged).unwrap();
        let e = results.get(&pointer, None).await.unwrap_err();
        assert_eq!(e.kind(), StoreErrorKind::Corrupt, "{e:?}");
    }
    fs::remove_file(&file).unwrap();
    let e = results.get(&pointer, Some(ByteRange { start: 0, len: 1 })).await.unwrap_err();
    assert_eq!(e.kind(), StoreErrorKind::Corrupt, "{e:?}");
    results.put(key(pointer.job), Bytes::from_static(b"important"), meta("a")).await.unwrap();
    assert_eq!(results.get(&pointer, None).await.unwrap().bytes, "important", "putting it again mends it");
}

#[tokio::test]
async fn bodies_that_a_crash_left_behind_are_swept_and_others_are_not() {
    let (dir, clock, store) = fresh();
    let pointer = store.results().put(key(new_job().id), Bytes::from_static(b"kept"), meta("a")).await.unwrap();
    drop(store);
    let tree = dir.path().join("results");
    for n in 0..40_u8 {
        let digest = Digest::of(&[n]).to_string();
        let home = tree.join(["t-a", "t-b"][usize::from(n % 2)]).join(&digest[..2]);
        fs::create_dir_all(&home).unwrap();
        fs::write(home.join(digest), [n]).unwrap();
    }
    fs::write(tree.join("tmp/half-written"), "h").unwrap();
    let store = open(dir.path(), &clock).unwrap();
    for _ in 0..4 {
        store.results().prune(metamcp_core::time::Clock::now(&*clock), NonZeroU16::new(1).unwrap()).await.unwrap();
    }
    assert_eq!(files(&tree).len(), 1);
    assert_eq!(store.results().get(&pointer, None).await.unwrap().bytes, "kept");
}

#[cfg(unix)]
#[tokio::test]
async fn a_new_data_directory_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data");
    let _store = EmbeddedStore::open(&dir, ManualClock::new(), &EmbeddedOptions::default()).unwrap();
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
}
