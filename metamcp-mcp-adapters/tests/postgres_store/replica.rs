//! Reads that may be stale go to a replica, and no others.

use metamcp_core::{
    id::Lane,
    queue::{JobQuery, JobStore, NewJob},
    record::{Expect, RecordKind, RecordStore},
    testing::job_store::new_job,
};
use metamcp_mcp_adapters::testing::{PostgresPair, PostgresSetup};

use crate::fixture::{at, done, open, want};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_and_counts_are_served_by_the_replica_and_leases_are_not() {
    let pair = PostgresPair::start(PostgresSetup::default()).await.unwrap();
    let options = at(&pair.url(), "metamcp").with_read_url(&pair.read_url()).unwrap();
    let store = open(&options).await;
    let (jobs, records) = (store.jobs(), store.records());
    jobs.enqueue(&[new_job()]).await.unwrap();
    pair.caught_up().await.unwrap();
    assert_eq!(jobs.list(&JobQuery::default()).await.unwrap().jobs.len(), 1);

    // From here on the replica shows what was.
    pair.replica.psql("select pg_wal_replay_pause()").await.unwrap();
    let late = NewJob { idempotency_key: Some("k".to_owned()), lane: Lane::heavy(), ..new_job() };
    jobs.enqueue(std::slice::from_ref(&late)).await.unwrap();
    records.put(RecordKind::Schedule, "late", "x".into(), Expect::Absent, None).await.unwrap();
    assert_eq!(jobs.list(&JobQuery::default()).await.unwrap().jobs.len(), 1);
    assert_eq!(jobs.counts(&Lane::heavy()).await.unwrap().ready, 0);
    assert_eq!(jobs.lanes().await.unwrap(), [Lane::light()]);
    assert!(records.list(RecordKind::Schedule, None, 10).await.unwrap().is_empty());

    assert!(jobs.get(late.id).await.unwrap().is_some());
    assert_eq!(jobs.keyed(&late.owner.tenant, "k").await.unwrap(), Some(late.id));
    assert!(records.get(RecordKind::Schedule, "late").await.unwrap().is_some());
    let mut wish = want("w", 10);
    wish.lanes.push(Lane::heavy());
    let leased = jobs.lease(&wish).await.unwrap().jobs;
    assert_eq!(leased.len(), 2);
    jobs.finish(&leased.iter().map(|leased| done(leased.key)).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(jobs.counts(&Lane::light()).await.unwrap().ready, 1, "as it was");

    pair.replica.psql("select pg_wal_replay_resume()").await.unwrap();
    pair.caught_up().await.unwrap();
    assert_eq!(jobs.counts(&Lane::light()).await.unwrap().ready, 0);
    assert_eq!(jobs.list(&JobQuery::default()).await.unwrap().jobs.len(), 2);
}
