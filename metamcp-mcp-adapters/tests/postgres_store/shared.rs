//! Several stores on one schema, as several processes have them.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use metamcp_core::{
    auth::Principal,
    event::{EventBus, EventKind, NewEvent},
    id::{JobId, Lane, TenantId},
    queue::{ConcurrencyKey, Enqueued, Fenced, JobState, JobStore, NewJob},
    record::RecordStore,
    testing::job_store::new_job,
};
use metamcp_mcp_adapters::store::postgres::{PostgresStore, PostgresTerms};
use tokio::task::JoinSet;

use crate::{
    check::check,
    fixture::{at, bounded, done, fresh_schema, open, shared_server, want},
};

/// Processes of one test.
const PROCESSES: usize = 3;
/// Workers of each.
const WORKERS: usize = 3;

async fn processes(url: &str, schema: &str) -> Vec<PostgresStore> {
    let mut stores = Vec::new();
    for _ in 0..PROCESSES {
        stores.push(open(&at(url, schema)).await);
    }
    stores
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_of_many_processes_serve_each_job_once_and_keep_to_keys_and_families() {
    let (server, schema) = (shared_server().await, fresh_schema());
    let stores = processes(&server.url(), &schema).await;
    let mut all = Vec::new();
    for family in 0..40 {
        let owner = Principal::new(TenantId::new(format!("t{}", family % 4)).unwrap(), "somebody");
        let job = || NewJob { owner: owner.clone(), ..new_job() };
        let key = ConcurrencyKey { key: format!("k{}", family % 3), max: 2 };
        let limited = NewJob { concurrency: Some(key), ..job() };
        let parent = job();
        let child = NewJob { after: vec![parent.id, limited.id], ..job() };
        let jobs = [parent, limited, child];
        all.extend(jobs.iter().map(|job| job.id));
        stores[family % PROCESSES].jobs().enqueue(&jobs).await.unwrap();
    }
    let mut workers = JoinSet::new();
    for (n, store) in stores.iter().enumerate() {
        for w in 0..WORKERS {
            let jobs = store.jobs();
            workers.spawn(async move {
                let (mut served, mut idle) = (Vec::new(), 0);
                while idle < 20 {
                    let leased = jobs.lease(&want(&format!("w{n}-{w}"), 4)).await.unwrap().jobs;
                    idle = if leased.is_empty() { idle + 1 } else { 0 };
                    tokio::time::sleep(Duration::from_millis(3)).await;
                    let ends: Vec<_> = leased.iter().map(|leased| done(leased.key)).collect();
                    let answers = jobs.finish(&ends).await.unwrap();
                    assert!(answers.iter().all(|answer| *answer == Fenced::Ok(JobState::Done)));
                    served.extend(leased.into_iter().map(|leased| leased.key.job));
                }
                served
            });
        }
    }
    let mut watch = tokio::time::interval(Duration::from_millis(20));
    while !workers.is_empty() {
        tokio::select! {
            Some(served) = workers.join_next() => {
                let served: Vec<JobId> = served.unwrap();
                all.retain(|id| !served.contains(id));
            }
            _ = watch.tick() => check(&server, &schema).await.unwrap(),
        }
    }
    assert!(all.is_empty(), "{} jobs were not served", all.len());
    check(&server, &schema).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_tenants_than_one_call_looks_at_are_all_served() {
    let (server, schema) = (shared_server().await, fresh_schema());
    let jobs = open(&at(&server.url(), &schema)).await.jobs();
    let mut waiting = BTreeSet::new();
    for batch in 0..12 {
        let of = |n: usize| Principal::new(TenantId::new(format!("t{:04}", batch * 100 + n)).unwrap(), "somebody");
        let new: Vec<NewJob> = (0..100).map(|n| NewJob { owner: of(n), ..new_job() }).collect();
        waiting.extend(new.iter().map(|job| job.id));
        jobs.enqueue(&new).await.unwrap();
    }
    while !waiting.is_empty() {
        let leased = jobs.lease(&want("w", 100)).await.unwrap().jobs;
        assert!(!leased.is_empty(), "{} jobs are left", waiting.len());
        assert!(leased.iter().all(|leased| waiting.remove(&leased.key.job)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_of_another_process_is_woken() {
    let (server, schema) = (shared_server().await, fresh_schema());
    let (one, two) = (open(&at(&server.url(), &schema)).await, open(&at(&server.url(), &schema)).await);
    let jobs = two.jobs();
    let waits = tokio::spawn(async move { jobs.wait_ready(&[Lane::light()], Duration::from_secs(3_600)).await });
    one.jobs().enqueue(&[new_job()]).await.unwrap();
    bounded("the wake-up", waits).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_of_more_bytes_than_one_transaction_takes_is_still_one_call() {
    let (server, schema) = (shared_server().await, fresh_schema());
    let jobs = open(&at(&server.url(), &schema)).await.jobs();
    let mut body = (*new_job().body).clone();
    body.task.need.text = "x".repeat(100_000);
    let body = Arc::new(body);
    // 100 bodies of 100 kB; the child stands in another transaction than its parent.
    let mut batch: Vec<NewJob> = (0..99).map(|_| NewJob { body: Arc::clone(&body), ..new_job() }).collect();
    batch.push(NewJob { after: vec![batch[0].id], ..new_job() });
    let answers = jobs.enqueue(&batch).await.unwrap();
    assert!(answers.len() == 100 && answers.iter().all(|answer| matches!(answer, Enqueued::Ok { .. })), "{answers:?}");
    let counts = jobs.counts(&Lane::light()).await.unwrap();
    assert_eq!((counts.ready, counts.waiting), (99, 1));
    check(&server, &schema).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_calls_with_one_key_from_many_processes_one_is_accepted() {
    let (server, schema) = (shared_server().await, fresh_schema());
    let stores = processes(&server.url(), &schema).await;
    for round in 0..10 {
        let mut calls = JoinSet::new();
        for n in 0..9 {
            let jobs = stores[n % PROCESSES].jobs();
            let keyed = |key: &str| NewJob { idempotency_key: Some(format!("{key}{round}")), ..new_job() };
            // The same two keys in either order: neither call may wait for the other for ever.
            let new = if n % 2 == 0 { [keyed("a"), keyed("b")] } else { [keyed("b"), keyed("a")] };
            calls.spawn(async move { jobs.enqueue(&new).await.unwrap() });
        }
        let answers: Vec<Enqueued> = bounded("the calls", calls.join_all()).await.into_iter().flatten().collect();
        let accepted = answers.iter().filter(|answer| matches!(answer, Enqueued::Ok { .. })).count();
        assert_eq!((accepted, answers.len()), (2, 18), "{answers:?}");
    }
    check(&server, &schema).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_events_misses_none_however_many_processes_publish() {
    const EACH: u64 = 60;
    let (server, schema) = (shared_server().await, fresh_schema());
    let stores = processes(&server.url(), &schema).await;
    let reader = stores[0].events();
    let reads = tokio::spawn(async move {
        let (mut next, total) = (0, EACH * 2 * PROCESSES as u64);
        while next < total {
            let page = reader.read(next, 50, Duration::from_secs(30)).await.unwrap();
            assert!(!page.missed);
            for event in page.events {
                assert_eq!(event.cursor, next + 1, "a cursor came after one that was read already");
                next = event.cursor;
            }
        }
    });
    let mut publishers = JoinSet::new();
    for store in &stores {
        let bus = store.events();
        publishers.spawn(async move {
            let event = NewEvent { job: new_job().id, owner: Principal::local(), kind: EventKind::Queued };
            for _ in 0..EACH {
                bus.publish(&[event.clone(), event.clone()]).await.unwrap();
            }
        });
    }
    bounded("the publishers", publishers.join_all()).await;
    bounded("the reader", reads).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_many_enqueue_at_once_stays_near_the_bound_of_a_lane() {
    let (server, schema) = (shared_server().await, fresh_schema());
    let mut terms = PostgresTerms::default();
    terms.limits.lane_jobs_max = 50;
    let mut calls = JoinSet::new();
    for _ in 0..PROCESSES {
        let jobs = PostgresStore::open_with(&at(&server.url(), &schema), terms.clone()).await.unwrap().jobs();
        calls.spawn(async move {
            for _ in 0..100 {
                jobs.enqueue(&[new_job()]).await.unwrap();
            }
        });
    }
    calls.join_all().await;
    let jobs = open(&at(&server.url(), &schema)).await.jobs();
    let ready = jobs.counts(&Lane::light()).await.unwrap().ready;
    assert!((50..50 + PROCESSES as u64).contains(&ready), "{ready}");
    assert_eq!(jobs.lease(&want("w", 100)).await.unwrap().jobs.len() as u64, ready);
    check(&server, &schema).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_databases_clock_is_told() {
    let (server, schema) = (shared_server().await, fresh_schema());
    let store = open(&at(&server.url(), &schema)).await;
    let job = new_job();
    store.jobs().enqueue(std::slice::from_ref(&job)).await.unwrap();
    let created = store.jobs().get(job.id).await.unwrap().unwrap().head.created_at;
    let told = store.records().now().await.unwrap();
    assert!(created <= told && told.since(created) < Duration::from_secs(60), "{created:?}, {told:?}");
}
