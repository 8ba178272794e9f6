//! Records outlive the process, and what is past its time leaves the disk, with writes and without.

use std::{num::NonZeroU16, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use metamcp_core::{
    queue::JobStore,
    record::{Expect, RECORD_BYTES_MAX, RecordKind, RecordStore, Written},
    testing::ManualClock,
};
use metamcp_mcp_adapters::store::embedded::{EmbeddedRecordStore, EmbeddedStore};
use redb::{ReadableDatabase, ReadableTable, TableDefinition};

use crate::{disk::MoodyDisk, fresh, open, options};

const TTL: Duration = Duration::from_secs(60);

async fn put(records: &EmbeddedRecordStore, name: &str, ttl: Option<Duration>) {
    let written = records.put(RecordKind::Call, name, Bytes::from_static(b"{}"), Expect::Absent, ttl).await.unwrap();
    assert_eq!(written, Written::Ok { version: 1 });
}

/// How many records, and entries of their expiry, a closed journal holds.
fn stored(dir: &Path) -> (usize, usize) {
    let database = redb::Database::open(dir.join("journal.redb")).unwrap();
    let table: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("journal");
    let table = database.begin_read().unwrap().open_table(table).unwrap();
    let of = |kind: u8| table.iter().unwrap().filter(|entry| entry.as_ref().unwrap().0.value()[0] == kind).count();
    (of(b'D'), of(b'Z'))
}

#[tokio::test]
async fn records_stand_after_a_restart_in_their_version_and_for_their_time() {
    let (dir, clock, store) = fresh();
    let large = Bytes::from(vec![7; RECORD_BYTES_MAX]);
    put(&store.records(), "timed", Some(TTL)).await;
    put(&store.records(), "kept", None).await;
    let again = store.records().put(RecordKind::Call, "kept", large.clone(), Expect::Version(1), None).await.unwrap();
    assert_eq!(again, Written::Ok { version: 2 });
    store.jobs().verify().await.unwrap();
    drop(store);

    let store = open(dir.path(), &clock).unwrap();
    store.jobs().verify().await.unwrap();
    let kept = store.records().get(RecordKind::Call, "kept").await.unwrap().unwrap();
    assert_eq!((kept.version, kept.value), (2, large));
    assert!(store.records().get(RecordKind::Call, "timed").await.unwrap().is_some());
    clock.advance(TTL);
    assert!(store.records().get(RecordKind::Call, "timed").await.unwrap().is_none());
    let written = store.records().put(RecordKind::Call, "kept", Bytes::new(), Expect::Version(1), None).await.unwrap();
    assert_eq!(written, Written::Conflict { version: Some(2) });
}

#[tokio::test]
async fn records_past_their_time_leave_the_disk_with_later_writes() {
    let (dir, clock, store) = fresh();
    for n in 0..20 {
        put(&store.records(), &format!("timed-{n}"), Some(TTL)).await;
    }
    clock.advance(TTL);
    for n in 0..10 {
        put(&store.records(), &format!("kept-{n}"), None).await;
    }
    store.jobs().verify().await.unwrap();
    drop(store);
    assert_eq!(stored(dir.path()), (10, 0));
}

#[tokio::test]
async fn records_past_their_time_leave_the_disk_with_maintenance_bit_by_bit() {
    let (dir, clock, store) = fresh();
    for n in 0..100 {
        put(&store.records(), &format!("timed-{n}"), Some(TTL)).await;
    }
    put(&store.records(), "renewed", Some(TTL)).await;
    clock.advance(TTL / 2);
    let records = store.records();
    records.put(RecordKind::Call, "renewed", Bytes::new(), Expect::Anything, Some(TTL)).await.unwrap();
    clock.advance(TTL / 2);
    assert_eq!(records.list(RecordKind::Call, None, 200).await.unwrap().len(), 1, "only one is there");
    let one = NonZeroU16::MIN;
    store.jobs().maintain(one).await.unwrap();
    drop((store, records));
    let (left, marks) = stored(dir.path());
    assert!(left > 1 && left < 101, "a round is bounded: {left}");
    assert_eq!(left, marks);

    let store = open(dir.path(), &clock).unwrap();
    store.jobs().maintain(one).await.unwrap();
    store.jobs().verify().await.unwrap();
    assert_eq!(store.records().get(RecordKind::Call, "renewed").await.unwrap().unwrap().version, 2);
    drop(store);
    assert_eq!(stored(dir.path()), (1, 1));
}

#[tokio::test]
async fn a_record_that_is_written_anew_in_one_commit_with_maintenance_stays() {
    let (disk, clock) = (MoodyDisk::default(), ManualClock::new());
    let store = EmbeddedStore::open_backend(disk.clone(), Arc::clone(&clock) as _, &options()).unwrap();
    put(&store.records, "again", Some(TTL)).await;
    clock.advance(TTL);
    let renew = store.records.put(RecordKind::Call, "again", Bytes::from_static(b"new"), Expect::Absent, None);
    let both = async { tokio::join!(renew, store.jobs.maintain(NonZeroU16::MIN)) };
    let (written, maintained) = disk.in_one_commit(&*store.jobs, both).await;
    assert_eq!(written.unwrap(), Written::Ok { version: 1 });
    maintained.unwrap();
    assert_eq!(store.records.get(RecordKind::Call, "again").await.unwrap().unwrap().value, "new");
    store.jobs.verify().await.unwrap();
}
