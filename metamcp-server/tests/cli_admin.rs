//! `metamcp admin` as operators use it: over a data folder, over a Redis, and from the one to the other.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test, like tests themselves")]

mod support;

use std::{fs, path::Path, sync::Arc};

use metamcp_core::{
    id::{JobId, Lane, WorkerId},
    queue::{Final, Finish, Job, JobError, JobErrorCode, JobQuery, JobStore as _, LeaseKey, LeaseRequest, NewJob},
    record::{Expect, RecordKind, RecordStore as _},
    result::{ResultMeta, ResultStore as _},
    testing::job_store::new_job,
    time::SystemClock,
};
use metamcp_mcp_adapters::{
    store::embedded::{EmbeddedOptions, EmbeddedStore},
    testing::{RedisServer, RedisSetup},
};
use support::{Done, Home, Serve};

fn open(dir: &Path) -> EmbeddedStore {
    EmbeddedStore::open(dir, Arc::new(SystemClock::default()), &EmbeddedOptions::default()).unwrap()
}

async fn add(store: &EmbeddedStore, job: NewJob) -> JobId {
    store.jobs().enqueue(std::slice::from_ref(&job)).await.unwrap();
    job.id
}

async fn take(store: &EmbeddedStore, lane: &str) -> LeaseKey {
    let want = LeaseRequest {
        lanes: vec![Lane::new(lane).unwrap()],
        max: 1,
        visibility: std::time::Duration::from_secs(30),
        worker: WorkerId::new("w").unwrap(),
        request: rand::random(),
        nonce: rand::random(),
        shares: Arc::default(),
    };
    store.jobs().lease(&want).await.unwrap().jobs[0].key
}

fn job_in(lane: &str) -> NewJob {
    NewJob { lane: Lane::new(lane).unwrap(), ..new_job() }
}

/// A data folder with 120 ready jobs, one that is done, one dead of each of two codes, a schedule and a paused lane.
async fn fill(dir: &Path) -> Vec<Job> {
    let store = open(dir);
    add(&store, NewJob { idempotency_key: Some("k".to_owned()), ..job_in("done") }).await;
    let key = take(&store, "done").await;
    let tenant = new_job().owner.tenant;
    let meta = ResultMeta { tenant, media_type: "application/json".to_owned(), expires_at: None };
    let pointer = store.results().put(key, b"[1, 2]".to_vec().into(), meta).await.unwrap();
    store.jobs().finish(&[Finish { lease: key, end: Final::Done(pointer) }]).await.unwrap();
    for code in [JobErrorCode::Lost, JobErrorCode::ServerError] {
        add(&store, job_in("dead")).await;
        let lease = take(&store, "dead").await;
        let end = Final::Dead(JobError::new(code, "it did not work"));
        store.jobs().finish(&[Finish { lease, end }]).await.unwrap();
    }
    for _ in 0..120 {
        add(&store, new_job()).await;
    }
    store.jobs().pause(&Lane::heavy(), true).await.unwrap();
    store.records().put(RecordKind::Schedule, "nightly", "{}".into(), Expect::Absent, None).await.unwrap();
    let jobs = all(&store).await;
    assert_eq!(jobs.len(), 123);
    jobs
}

async fn all(store: &EmbeddedStore) -> Vec<Job> {
    let mut query = JobQuery::default();
    let mut all = Vec::new();
    loop {
        let page = store.jobs().list(&query).await.unwrap();
        all.extend(page.jobs);
        query.before = page.next;
        if page.next.is_none() {
            return all;
        }
    }
}

/// What [`fill`] made stands in this folder, result and record included.
async fn assert_holds(dir: &Path, jobs: &[Job]) {
    let store = open(dir);
    assert_eq!(all(&store).await, jobs);
    let pointer = jobs.iter().find_map(|job| job.head.result.clone()).unwrap();
    assert_eq!(&store.results().get(&pointer, None).await.unwrap().bytes[..], b"[1, 2]");
    let record = store.records().get(RecordKind::Schedule, "nightly").await.unwrap().unwrap();
    assert_eq!(&record.value[..], b"{}");
    assert!(store.jobs().counts(&Lane::heavy()).await.unwrap().paused);
    let tenant = new_job().owner.tenant;
    assert!(store.jobs().keyed(&tenant, "k").await.unwrap().is_some());
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn admin(home: &Home, args: &[&str]) -> Done {
    home.run(["admin"].iter().chain(args))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_looked_at_and_steered() {
    let home = Home::new();
    let dir = text(&home.data_dir());
    let jobs = fill(&home.data_dir()).await;
    let queues = admin(&home, &["queues", "--json", "--store", &dir]).exits(0).json();
    let lane = |name: &str| queues.as_array().unwrap().iter().find(|lane| lane["lane"] == name).unwrap().clone();
    assert_eq!((&lane("light")["ready"], &lane("dead")["dead"]), (&120.into(), &2.into()));
    assert_eq!(lane("heavy")["paused"], true);
    let shown = admin(&home, &["queues", "--store", &dir]).exits(0);
    assert!(shown.stdout.starts_with("LANE") && shown.stdout.contains("heavy"), "{shown:?}");

    let dead = admin(&home, &["dead", "--json", "--code", "lost", "--store", &dir]).exits(0).json();
    assert_eq!((dead.as_array().unwrap().len(), &dead[0]["error"]["code"]), (1, &"lost".into()));
    let shown = admin(&home, &["dead", "--limit", "1", "--store", &dir]).exits(0);
    assert!(shown.stdout.contains("server_error") && !shown.stdout.contains("lost"), "{shown:?}");
    assert!(admin(&home, &["dead", "--code", "Lost", "--store", &dir]).exits(2).stderr.contains("server_error"));
    assert_eq!(admin(&home, &["stalled", "--json", "--store", &dir]).exits(0).json(), serde_json::json!([]));

    for asked in [&["redrive", "--store", &dir][..], &["drain", "light", "--store", &dir]] {
        assert!(admin(&home, asked).exits(2).stderr.contains("add --yes"));
    }
    let args = ["redrive", "--code", "lost", "--since", "1h", "--yes", "--json", "--store", &dir];
    let report = admin(&home, &args).exits(0).json();
    assert_eq!((&report["found"], &report["redriven"]), (&1.into(), &1.into()));
    admin(&home, &["pause", "light", "--store", &dir]).exits(0);
    let drained = admin(&home, &["drain", "light", "--yes", "--json", "--store", &dir]).exits(0).json();
    assert_eq!(drained["cancelled"], 120);
    admin(&home, &["resume", "heavy", "--store", &dir]).exits(0);
    let queues = admin(&home, &["queues", "--json", "--store", &dir]).exits(0).json();
    let lanes: Vec<_> = queues.as_array().unwrap().iter().map(|lane| lane["lane"].as_str().unwrap()).collect();
    assert_eq!(lanes, ["dead", "light"], "{queues}");
    assert_eq!((&queues[0]["ready"], &queues[0]["dead"], &queues[1]["paused"]), (&1.into(), &1.into(), &true.into()));
    assert_eq!(all(&open(&home.data_dir())).await.len(), jobs.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_comes_back_and_a_damaged_one_changes_nothing() {
    let home = Home::new();
    let (dir, file) = (text(&home.data_dir()), text(&home.path().join("backup.jsonl")));
    let jobs = fill(&home.data_dir()).await;
    let done = admin(&home, &["export", &file, "--store", &dir]).exits(0);
    assert!(done.stdout.contains("wrote 123 jobs, 1 results of 6 bytes, 1 records, 1 paused lanes"), "{done:?}");
    assert!(admin(&home, &["export", &file, "--store", &dir]).exits(2).stderr.contains("exists already"));

    let new = home.path().join("new");
    let backup = fs::read_to_string(&file).unwrap();
    let cut = text(&home.file("cut.jsonl", &backup[..backup.len() / 2]));
    let done = admin(&home, &["import", &cut, "--store", &text(&new)]).exits(2);
    assert!(done.stderr.contains("the file ends here") && !new.exists(), "{done:?}");

    let taken = admin(&home, &["import", &file, "--json", "--store", &text(&new)]).exits(0).json();
    assert_eq!(taken["taken"]["jobs"], 123);
    let again = admin(&home, &["import", &file, "--json", "--store", &text(&new)]).exits(0).json();
    assert_eq!((&again["taken"]["jobs"], &again["same"]), (&0.into(), &124.into()));
    assert_holds(&new, &jobs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_moves_to_redis_and_back_without_loss() {
    let redis = RedisServer::start(RedisSetup::default()).await.unwrap();
    let home = Home::new();
    let (dir, url) = (text(&home.data_dir()), redis.url());
    let jobs = fill(&home.data_dir()).await;
    let there = admin(&home, &["migrate", &dir, &url, "--json"]).exits(0).json();
    assert_eq!((&there["moved"]["taken"]["jobs"], &there["verified"]["same"]["jobs"]), (&123.into(), &123.into()));
    assert_eq!(there["verified"]["same"]["result_bytes"], 6);
    let queues = admin(&home, &["queues", "--json", "--store", &url]).exits(0).json();
    assert!(queues.as_array().unwrap().iter().any(|lane| lane["lane"] == "light" && lane["ready"] == 120), "{queues}");
    assert_eq!(admin(&home, &["dead", "--json", "--store", &url]).exits(0).json().as_array().unwrap().len(), 2);

    let again = admin(&home, &["migrate", &dir, &url]).exits(0);
    assert!(again.stdout.contains("124 jobs and records stood there already"), "{again:?}");
    let back = home.path().join("back");
    let done = admin(&home, &["migrate", &url, &text(&back)]).exits(0);
    assert!(done.stdout.contains("checked, the same on both sides: 123 jobs, 1 results of 6 bytes"), "{done:?}");
    assert_holds(&back, &jobs).await;

    // What differs is told, and is no success.
    let other = &jobs[0].head.id.to_string();
    open(&back).jobs().cancel(jobs[0].head.id, "tampered").await.unwrap();
    let done = admin(&home, &["migrate", &url, &text(&back)]).exits(1);
    assert!(
        done.stderr.contains(other) && done.stderr.contains("its head differs in") && done.stderr.contains("`state`"),
        "{done:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_meant_is_refused_with_a_mend() {
    let home = Home::new();
    let nowhere = home.path().join("nowhere");
    let (dir, missing) = (text(&home.data_dir()), text(&nowhere));
    for (args, word) in [
        (vec!["queues", "--store", &missing], "there is no store in"),
        (vec!["migrate", &missing, &dir], "there is no store in"),
        (vec!["migrate", &dir, &dir], "the same store"),
        (vec!["migrate", &dir, &missing, "--store", &dir], "leave out --store"),
        (vec!["queues", "--memory"], "ends with this command"),
        (vec!["queues", "--store", "mysql://h"], "is no store"),
    ] {
        assert!(admin(&home, &args).exits(2).stderr.contains(word), "{word}");
    }
    assert!(!nowhere.exists() && !home.data_dir().exists());

    let serve = Serve::start(&home, &[]);
    let done = admin(&home, &["queues", "--store", &dir]).exits(1);
    assert!(done.stderr.contains(&serve.pid().to_string()) && done.stderr.contains("stop it first"), "{done:?}");
}
