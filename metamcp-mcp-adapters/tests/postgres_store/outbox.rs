//! Jobs that are enqueued within a transaction of the caller's own.

use std::time::Duration;

use metamcp_core::{
    error::StoreErrorKind,
    id::{JobId, Lane},
    queue::{Enqueued, JobQuery, JobState, JobStore, NewJob},
    testing::job_store::new_job,
};
use metamcp_mcp_adapters::{store::postgres::PostgresJobStore, testing::PostgresServer};
use tokio_postgres::{Client, NoTls};

use crate::{
    check::check,
    fixture::{at, bounded, fresh_schema, open, shared_server, want},
};

/// A session of an application that has a table of its own in the same database.
async fn application(server: &PostgresServer, schema: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    let own =
        format!("create schema app_{schema}; set search_path to app_{schema}; create table orders (n int primary key)");
    client.batch_execute(&own).await.unwrap();
    client
}

async fn orders(client: &Client) -> i64 {
    client.query_one("select count(*) from orders", &[]).await.unwrap().get(0)
}

async fn ready(jobs: &PostgresJobStore) -> u64 {
    jobs.counts(&Lane::light()).await.unwrap().ready
}

fn ids(jobs: &[NewJob]) -> Vec<JobId> {
    jobs.iter().map(|job| job.id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_rolled_back_leaves_nothing_and_what_is_committed_is_there_as_a_whole() {
    let (server, schema) = (shared_server().await, fresh_schema());
    let jobs = open(&at(&server.url(), &schema)).await.jobs();
    let mut client = application(&server, &schema).await;
    let new = [new_job(), NewJob { idempotency_key: Some("k".to_owned()), ..new_job() }];
    for commit in [false, true] {
        let transaction = client.transaction().await.unwrap();
        transaction.execute("insert into orders values (1)", &[]).await.unwrap();
        let answers = jobs.enqueue_in(&transaction, &new).await.unwrap();
        assert!(answers.iter().all(|answer| matches!(answer, Enqueued::Ok { .. })), "{answers:?}");
        // The caller's own tables are where they were.
        transaction.execute("insert into orders values (2)", &[]).await.unwrap();
        assert_eq!(ready(&jobs).await, 0, "nobody sees them before the commit");
        assert!(jobs.lease(&want("w", 5)).await.unwrap().jobs.is_empty());
        if commit {
            transaction.commit().await.unwrap();
        } else {
            transaction.rollback().await.unwrap();
            assert_eq!((orders(&client).await, ready(&jobs).await), (0, 0));
            assert!(jobs.list(&JobQuery::default()).await.unwrap().jobs.is_empty());
            check(&server, &schema).await.unwrap();
        }
    }
    assert_eq!(orders(&client).await, 2);
    let leased = jobs.lease(&want("w", 5)).await.unwrap().jobs;
    assert_eq!(leased.iter().map(|leased| leased.key.job).collect::<Vec<_>>(), ids(&new));
    check(&server, &schema).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_waits_finds_them_when_it_is_told() {
    let (server, schema) = (shared_server().await, fresh_schema());
    let jobs = open(&at(&server.url(), &schema)).await.jobs();
    let mut client = application(&server, &schema).await;
    let waiting = open(&at(&server.url(), &schema)).await.jobs();
    let waits = tokio::spawn(async move { waiting.wait_ready(&[Lane::light()], Duration::from_secs(3_600)).await });
    let new = [new_job()];
    let transaction = client.transaction().await.unwrap();
    jobs.enqueue_in(&transaction, &new).await.unwrap();
    transaction.commit().await.unwrap();
    jobs.announce(&new);
    bounded("the wake-up", waits).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_another_call_takes_meanwhile_is_a_duplicate_and_the_transaction_goes_on() {
    let (server, schema) = (shared_server().await, fresh_schema());
    let jobs = open(&at(&server.url(), &schema)).await.jobs();
    let mut client = application(&server, &schema).await;
    let keyed = || NewJob { idempotency_key: Some("k".to_owned()), ..new_job() };

    let mut first_client = application(&server, &fresh_schema()).await;
    let first = first_client.transaction().await.unwrap();
    let winner = keyed();
    jobs.enqueue_in(&first, std::slice::from_ref(&winner)).await.unwrap();
    let transaction = client.transaction().await.unwrap();
    let loser = [keyed(), new_job()];
    // The second call waits for the first one's end, as it cannot know how that will be.
    let (answers, ()) = tokio::join!(jobs.enqueue_in(&transaction, &loser), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        first.commit().await.unwrap();
    });
    let answers = answers.unwrap();
    assert_eq!(answers[0], Enqueued::Duplicate { job: winner.id, state: JobState::Ready });
    assert!(matches!(answers[1], Enqueued::Ok { .. }));
    transaction.execute("insert into orders values (1)", &[]).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!((orders(&client).await, ready(&jobs).await), (1, 2));
    check(&server, &schema).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_transaction_holds_up_no_other_call() {
    let (server, schema) = (shared_server().await, fresh_schema());
    let jobs = open(&at(&server.url(), &schema)).await.jobs();
    let mut client = application(&server, &schema).await;
    let transaction = client.transaction().await.unwrap();
    jobs.enqueue_in(&transaction, &[new_job()]).await.unwrap();
    let other = new_job();
    bounded("an enqueue", jobs.enqueue(std::slice::from_ref(&other))).await.unwrap();
    let leased = bounded("a lease", jobs.lease(&want("w", 5))).await.unwrap().jobs;
    assert_eq!(leased.len(), 1);
    bounded("an end", jobs.finish(&[crate::fixture::done(leased[0].key)])).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(ready(&jobs).await, 1);
    check(&server, &schema).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_call_leaves_the_transaction_as_it_was() {
    let (server, schema) = (shared_server().await, fresh_schema());
    let jobs = open(&at(&server.url(), &schema)).await.jobs();
    let mut client = application(&server, &schema).await;
    let transaction = client.transaction().await.unwrap();
    transaction.execute("insert into orders values (1)", &[]).await.unwrap();
    let wrong = NewJob { attempts_max: 0, ..new_job() };
    let error = jobs.enqueue_in(&transaction, &[wrong]).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Invalid);
    transaction.commit().await.unwrap();
    assert_eq!(orders(&client).await, 1);
}
