//! Connections that are cut, sessions and servers that go: what was acknowledged is there, and nothing happens twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use metamcp_core::{
    error::StoreResult,
    id::{JobId, Lane},
    queue::{Enqueued, Fenced, Finish, JobState, JobStore, LeaseKey, NewJob},
    testing::job_store::new_job,
};
use metamcp_mcp_adapters::{
    store::postgres::PostgresJobStore,
    testing::{CutProxy, PostgresServer, PostgresSetup, ProxyMode},
};
use tokio::task::JoinSet;

use crate::{
    check::check,
    fixture::{at, bounded, done, fresh_schema, open, persist, restart, shared_server, want},
};

/// How long the proxy holds back each answer, in milliseconds: a call of several round trips then takes some time to be cut in.
const DELAY_MS: u64 = 2;
/// The latest moment after the begin of a call at which it is cut, in milliseconds; most calls have ended by then.
const CUT_MS_MAX: u64 = 16;
/// Jobs of one call.
const BATCH: usize = 3;

/// Makes a call, cuts it after `cut_ms`, and repeats it until it is answered.
async fn cut<T, F: Future<Output = StoreResult<T>>>(proxy: &CutProxy, cut_ms: u64, mut call: impl FnMut() -> F) -> T {
    proxy.set_mode(ProxyMode::Delay(Duration::from_millis(DELAY_MS)));
    let (first, ()) = tokio::join!(call(), async {
        tokio::time::sleep(Duration::from_millis(cut_ms)).await;
        proxy.cut_all();
    });
    proxy.set_mode(ProxyMode::Pass);
    match first {
        Ok(answer) => answer,
        Err(error) => {
            assert!(error.is_retryable(), "{error}");
            persist(call).await
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_cut_at_any_moment_and_repeated_is_done_once() {
    let (server, schema) = (shared_server().await, fresh_schema());
    let proxy = CutProxy::start(server.port()).await.unwrap();
    let url = format!("postgres://metamcp@127.0.0.1:{}/postgres", proxy.port());
    let jobs = open(&at(&url, &schema)).await.jobs();
    for cut_ms in 0..=CUT_MS_MAX {
        let new: Vec<NewJob> = (0..BATCH).map(|_| new_job()).collect();
        let answers = cut(&proxy, cut_ms, || jobs.enqueue(&new)).await;
        let stands = |answer: &Enqueued| {
            matches!(answer, Enqueued::Ok { .. } | Enqueued::Duplicate { state: JobState::Ready, .. })
        };
        assert!(answers.len() == BATCH && answers.iter().all(stands), "{answers:?}");

        let wish = want("cut", BATCH as u16);
        let leased = cut(&proxy, cut_ms, || jobs.lease(&wish)).await.jobs;
        let taken: BTreeSet<JobId> = leased.iter().map(|leased| leased.key.job).collect();
        assert_eq!(taken, new.iter().map(|job| job.id).collect(), "cut after {cut_ms} ms");
        assert!(leased.iter().all(|leased| leased.key.epoch == 1), "no job is leased twice");

        let ends: Vec<Finish> = leased.iter().map(|leased| done(leased.key)).collect();
        let answers = cut(&proxy, cut_ms, || jobs.finish(&ends)).await;
        let ended = |answer: &Fenced| matches!(answer, Fenced::Ok(JobState::Done) | Fenced::OkAgain(JobState::Done));
        assert!(answers.len() == BATCH && answers.iter().all(ended), "{answers:?}");
    }
    check(&server, &schema).await.unwrap();
}

/// What the workers of a run know together.
#[derive(Default)]
struct Run {
    accepted: Mutex<BTreeSet<JobId>>,
    ended: Mutex<BTreeMap<JobId, u32>>,
    over: AtomicBool,
}

/// Tasks that enqueue and work in a run.
const WORKERS: usize = 4;
/// Rounds of each.
const ROUNDS: usize = 25;

/// Enqueues, leases and ends jobs, repeating whatever fails.
async fn work(jobs: Arc<PostgresJobStore>, run: Arc<Run>, worker: String) {
    for _ in 0..ROUNDS {
        let new: Vec<NewJob> = (0..BATCH).map(|_| new_job()).collect();
        persist(|| jobs.enqueue(&new)).await;
        run.accepted.lock().unwrap().extend(new.iter().map(|job| job.id));
        serve(&jobs, &run, &worker).await;
    }
    while serve(&jobs, &run, &worker).await > 0 {}
}

async fn serve(jobs: &PostgresJobStore, run: &Run, worker: &str) -> usize {
    let wish = want(worker, 5);
    let leased = persist(|| jobs.lease(&wish)).await.jobs;
    let keys: Vec<LeaseKey> = leased.iter().map(|leased| leased.key).collect();
    let ends: Vec<Finish> = keys.iter().copied().map(done).collect();
    let answers = persist(|| jobs.finish(&ends)).await;
    for (key, answer) in keys.iter().zip(answers) {
        match answer {
            Fenced::Ok(JobState::Done) | Fenced::OkAgain(JobState::Done) => {
                *run.ended.lock().unwrap().entry(key.job).or_default() += 1;
            }
            other => panic!("{key:?}: {other:?}, and nobody else holds it"),
        }
    }
    keys.len()
}

/// Judges what the workers leave behind.
async fn judge(server: &PostgresServer, schema: &str, run: &Run) {
    let jobs = open(&at(&server.url(), schema)).await.jobs();
    while serve(&jobs, run, "last").await > 0 {}
    let (accepted, ended) = (run.accepted.lock().unwrap().clone(), run.ended.lock().unwrap().clone());
    assert_eq!(accepted.len(), WORKERS * ROUNDS * BATCH);
    assert_eq!(ended.keys().copied().collect::<BTreeSet<_>>(), accepted, "each accepted job ends");
    assert!(ended.values().all(|times| *times == 1), "and each once");
    let counts = jobs.counts(&Lane::light()).await.unwrap();
    assert_eq!((counts.ready, counts.leased, counts.dead), (0, 0, 0));
    check(server, schema).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_are_ended_in_the_middle_lose_nothing_and_do_nothing_twice() {
    // A server of its own: every session on it is ended.
    let server = Arc::new(PostgresServer::start(PostgresSetup::default()).await.unwrap());
    let schema = fresh_schema();
    let run = Arc::<Run>::default();
    let mut workers = JoinSet::new();
    for n in 0..WORKERS {
        let jobs = open(&at(&server.url(), &schema)).await.jobs();
        workers.spawn(work(jobs, Arc::clone(&run), format!("w{n}")));
    }
    let (cutter, cut) = (Arc::clone(&run), Arc::clone(&server));
    let trouble = tokio::spawn(async move {
        while !cutter.over.load(Ordering::SeqCst) {
            let terminate =
                "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'metamcp'";
            cut.psql(terminate).await.unwrap();
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    });
    bounded("the workers", workers.join_all()).await;
    run.over.store(true, Ordering::SeqCst);
    trouble.await.unwrap();
    judge(&server, &schema, &run).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_and_started_again_has_all_that_was_acknowledged() {
    let setup = PostgresSetup { fsync: true, ..PostgresSetup::default() };
    let mut server = PostgresServer::start(setup).await.unwrap();
    let run = Arc::<Run>::default();
    let mut workers = JoinSet::new();
    for n in 0..WORKERS {
        let jobs = open(&at(&server.url(), "metamcp")).await.jobs();
        workers.spawn(work(jobs, Arc::clone(&run), format!("w{n}")));
    }
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        server.kill().await.unwrap();
        restart(&mut server).await;
    }
    bounded("the workers", workers.join_all()).await;
    judge(&server, "metamcp", &run).await;
}
