//! The embedded store: every behaviour of a durable queue, of a result store, of an event bus and of a record store; and in the files beside this
//! one what only one data directory has, its owner, its damage, its full disk. What happens when the power goes is in `power_cut`.

#![cfg(feature = "embedded")]
#![expect(clippy::unwrap_used, reason = "a test stops where something is wrong")]

mod bodies;
mod damage;
mod disk;
mod owner;
mod parents;
mod queue;
mod stored_records;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use metamcp_core::{
    auth::Principal,
    error::StoreError,
    event::{EventBus, EventKind, NewEvent},
    id::{JobId, Lane, TenantId, WorkerId},
    pointer::{Digest, ResultPointer},
    queue::{Durability, Final, Finish, JobError, JobErrorCode, JobStore, LeaseKey, LeaseRequest},
    result::{ResultMeta, ResultStore},
    testing::{
        ManualClock,
        event_bus::{EventBusFixture, SUITE_EVENTS_KEPT},
        job_store::{DurableJobStoreFixture, JobStoreFixture, Reopen, new_job, suite_limits},
        record_store::RecordStoreFixture,
        result_store::ResultStoreFixture,
    },
};
use metamcp_mcp_adapters::store::embedded::{EmbeddedOptions, EmbeddedStore};
use tempfile::TempDir;

pub(crate) fn options() -> EmbeddedOptions {
    let mut options = EmbeddedOptions::default();
    options.limits = suite_limits();
    options.events_kept_max = SUITE_EVENTS_KEPT as u64;
    options
}

pub(crate) fn open(dir: &Path, clock: &Arc<ManualClock>) -> Result<EmbeddedStore, StoreError> {
    EmbeddedStore::open(dir, Arc::clone(clock) as _, &options())
}

pub(crate) fn fresh() -> (TempDir, Arc<ManualClock>, EmbeddedStore) {
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

async fn record_store() -> RecordStoreFixture {
    let (dir, clock, store) = fresh();
    RecordStoreFixture::new(store.records(), clock, dir)
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
mod records {
    metamcp_core::record_store_suite!(super::record_store);
    metamcp_core::history_suite!(super::record_store);
}

pub(crate) fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

pub(crate) fn key(job: JobId) -> LeaseKey {
    LeaseKey { job, epoch: 1, nonce: 1 }
}

pub(crate) fn meta(owner: &str) -> ResultMeta {
    ResultMeta { tenant: tenant(owner), media_type: "text/plain".to_owned(), expires_at: None }
}

pub(crate) fn event(job: JobId) -> NewEvent {
    NewEvent { job, owner: Principal::local(), kind: EventKind::Queued }
}

pub(crate) fn wish(request: u64) -> LeaseRequest {
    LeaseRequest {
        lanes: vec![Lane::light()],
        max: 100,
        visibility: Duration::from_secs(30),
        worker: WorkerId::new("w").unwrap(),
        request,
        nonce: request,
        shares: Arc::default(),
    }
}

pub(crate) async fn lease_all(store: &dyn JobStore, request: u64) -> Vec<LeaseKey> {
    store.lease(&wish(request)).await.unwrap().jobs.into_iter().map(|leased| leased.key).collect()
}

pub(crate) fn done(lease: LeaseKey) -> Finish {
    let pointer = ResultPointer { tenant: tenant("local"), job: lease.job, digest: Digest::of(b"x") };
    Finish { lease, end: Final::Done(pointer) }
}

pub(crate) fn failed(lease: LeaseKey) -> Finish {
    Finish { lease, end: Final::Dead(JobError::new(JobErrorCode::ServerError, "no")) }
}

/// All files below a directory.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
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
