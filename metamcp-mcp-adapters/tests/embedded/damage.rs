//! What is not a journal, not whole, or cannot be written: said, and never made worse.

use std::{
    fs,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use metamcp_core::{
    error::{StoreError, StoreErrorKind},
    event::EventBus,
    id::Lane,
    queue::{Enqueued, JobQuery, JobStore, NewJob},
    record::{Expect, RecordKind, RecordStore},
    testing::{ManualClock, job_store::new_job},
};
use metamcp_mcp_adapters::store::embedded::EmbeddedStore;

use crate::{disk::MoodyDisk, event, fresh, open, options};

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

#[tokio::test]
async fn a_full_disk_closes_the_store_and_what_was_acknowledged_is_there_after_a_reopen() {
    let disk = MoodyDisk::default();
    let clock = ManualClock::new();
    let open = || EmbeddedStore::open_backend(disk.clone(), Arc::clone(&clock) as _, &options());
    let views = open().unwrap();
    let (jobs, events, records) = (views.jobs, views.events, views.records);
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
    closed(records.get(RecordKind::Batch, "a").await.unwrap_err());
    closed(records.list(RecordKind::Batch, None, 1).await.unwrap_err());
    let put = records.put(RecordKind::Batch, "a", Bytes::new(), Expect::Anything, None);
    closed(put.await.unwrap_err());
    drop((jobs, events, records));

    let jobs = open().unwrap().jobs;
    jobs.verify().await.unwrap();
    assert!(jobs.get(kept.id).await.unwrap().is_some());
    assert!(matches!(jobs.enqueue(&[refused]).await.unwrap()[..], [Enqueued::Ok { .. } | Enqueued::Duplicate { .. }]));
}
