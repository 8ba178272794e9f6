//! The stores in memory pass the behaviour suites, and every behaviour that is written is in its suite.

use std::{num::NonZeroUsize, sync::Arc};

use metamcp_core::{
    auth::Principal,
    engine::HistoryKeeper,
    event::MemoryEventBus,
    id::{JobId, Lane, TenantId},
    matching::{Lesson, Verdict},
    queue::{JobQuery, JobStore, LeaseKey, MemoryJobStore, NewJob},
    record::MemoryRecordStore,
    result::{MemoryResultStore, ResultMeta, ResultStore},
    testing::{
        ManualClock,
        event_bus::{EventBusFixture, SUITE_EVENTS_KEPT},
        job_store::{JobStoreFixture, new_job, suite_limits},
        record_store::RecordStoreFixture,
        result_store::ResultStoreFixture,
    },
    time::Timestamp,
};

mod jobs {
    use super::*;

    async fn make() -> JobStoreFixture {
        let clock = ManualClock::new();
        JobStoreFixture::new(Arc::new(MemoryJobStore::with_limits(clock.clone(), suite_limits())), clock, ())
    }

    metamcp_core::job_store_suite!(make);
}

mod records {
    use super::*;

    async fn make() -> RecordStoreFixture {
        let clock = ManualClock::new();
        RecordStoreFixture::new(Arc::new(MemoryRecordStore::new(clock.clone())), clock, ())
    }

    metamcp_core::record_store_suite!(make);
    metamcp_core::history_suite!(make);

    #[tokio::test]
    async fn what_the_store_holds_of_a_tenant_is_bounded_and_the_oldest_goes_first() {
        let records = Arc::new(MemoryRecordStore::new(ManualClock::new()));
        let keeper = HistoryKeeper::new(Arc::clone(&records) as _);
        let who = TenantId::new("acme").unwrap();
        let count = 12_000;
        for n in 0..count {
            let need = format!("word{n} {}", "x".repeat(60).repeat(8));
            let at = Timestamp::from_millis(n);
            let (capability, subject) = ("s/t".parse().unwrap(), "a".to_owned());
            keeper
                .history()
                .learn(&who, Lesson { need, capability, verdict: Verdict::Served, at, job: JobId::new(at), subject });
            if n % 2_000 == 0 {
                keeper.flush().await.unwrap();
            }
        }
        keeper.flush().await.unwrap();
        let reader = HistoryKeeper::new(records);
        reader.refresh().await.unwrap();
        let lessons = reader.history().lessons(&who);
        assert!(lessons[0].need.starts_with(&format!("word{} ", count - 1)));
        assert!(lessons.len() > 5_000 && lessons.len() < 11_000, "{}", lessons.len());
    }
}

mod results {
    use super::*;

    async fn make() -> ResultStoreFixture {
        ResultStoreFixture::new(Arc::new(MemoryResultStore::new()), ())
    }

    metamcp_core::result_store_suite!(make);
}

mod events {
    use super::*;

    async fn make() -> EventBusFixture {
        let kept = NonZeroUsize::new(SUITE_EVENTS_KEPT).expect("not zero");
        EventBusFixture::new(Arc::new(MemoryEventBus::with_capacity(ManualClock::new(), kept)), ())
    }

    metamcp_core::event_bus_suite!(make);
}

#[tokio::test]
async fn results_in_memory_are_bounded_in_bytes_and_one_body_counts_once() {
    let store = MemoryResultStore::with_bytes_max(1_000);
    let put = |job: u64, body: Vec<u8>| {
        let key = LeaseKey { job: JobId::new(Timestamp::from_millis(job)), epoch: 1, nonce: 1 };
        let tenant = Principal::local().tenant;
        store.put(key, body.into(), ResultMeta { tenant, media_type: "text/plain".to_owned(), expires_at: None })
    };
    let first = put(1, vec![1; 600]).await.unwrap();
    let second = put(2, vec![1; 600]).await.unwrap();
    assert_eq!(store.bytes_kept().unwrap(), 600, "two pointers, one body");
    assert!(put(3, vec![2; 600]).await.unwrap_err().is_retryable(), "there may be room later");
    store.delete(&first).await.unwrap();
    assert_eq!(store.bytes_kept().unwrap(), 600, "one pointer is left");
    store.delete(&second).await.unwrap();
    assert_eq!(store.bytes_kept().unwrap(), 0);
    put(3, vec![2; 600]).await.unwrap();
}

#[tokio::test]
async fn a_list_that_looks_at_many_jobs_for_few_comes_in_short_pages() {
    let store = MemoryJobStore::new(ManualClock::new());
    let wanted = NewJob { lane: Lane::heavy(), ..new_job() };
    store.enqueue(std::slice::from_ref(&wanted)).await.unwrap();
    for _ in 0..120 {
        let batch: Vec<NewJob> = (0..100).map(|_| new_job()).collect();
        store.enqueue(&batch).await.unwrap();
    }
    let mut query = JobQuery::default();
    query.lane = Some(Lane::heavy());
    let first = store.list(&query).await.unwrap();
    assert!(first.jobs.is_empty() && first.next.is_some(), "one call looks at a bounded number of jobs");
    query.before = first.next;
    let second = store.list(&query).await.unwrap();
    assert_eq!(second.jobs.iter().map(|job| job.head.id).collect::<Vec<_>>(), [wanted.id]);
    assert_eq!(second.next, None);
}

/// The names of the behaviours written in a file.
fn written(source: &str) -> impl Iterator<Item = &str> {
    source.lines().filter_map(|line| line.trim_start().strip_prefix("pub async fn ")?.split('(').next())
}

/// Whether a macro's list has the name on a line of its own.
fn listed(source: &str, name: &str) -> bool {
    source.lines().any(|line| line.trim() == name)
}

#[test]
fn every_behaviour_that_is_written_is_in_its_suite() {
    let list = include_str!("../src/testing/job_store/mod.rs");
    let rooms = [
        include_str!("../src/testing/job_store/concurrent.rs"),
        include_str!("../src/testing/job_store/depend.rs"),
        include_str!("../src/testing/job_store/durable.rs"),
        include_str!("../src/testing/job_store/enqueue.rs"),
        include_str!("../src/testing/job_store/fence.rs"),
        include_str!("../src/testing/job_store/give_back.rs"),
        include_str!("../src/testing/job_store/keep.rs"),
        include_str!("../src/testing/job_store/lease.rs"),
        include_str!("../src/testing/job_store/limits.rs"),
        include_str!("../src/testing/job_store/race.rs"),
        include_str!("../src/testing/job_store/rate.rs"),
        include_str!("../src/testing/job_store/read.rs"),
        include_str!("../src/testing/job_store/reopen.rs"),
        include_str!("../src/testing/job_store/restore.rs"),
        include_str!("../src/testing/job_store/shares.rs"),
        include_str!("../src/testing/job_store/steer.rs"),
        include_str!("../src/testing/job_store/time.rs"),
    ];
    let records = include_str!("../src/testing/record_store.rs");
    let results = include_str!("../src/testing/result_store.rs");
    let events = include_str!("../src/testing/event_bus.rs");
    let all =
        rooms.into_iter().map(|room| (room, list)).chain([(records, records), (results, results), (events, events)]);
    let mut count = 0;
    for (source, list) in all {
        for name in written(source) {
            assert!(listed(list, name), "`{name}` is in no suite");
            count += 1;
        }
    }
    assert!(count > 250, "only {count} behaviours were found");
}
