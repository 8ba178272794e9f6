//! Batches: many tasks in one call, each by itself, followed as one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so at once")]

#[path = "batches/patchy.rs"]
mod patchy;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use metamcp_core::{
    auth::Principal,
    engine::{BATCH_TASKS_MAX, BatchTask, EngineError, Orchestrator, WorkerOptions},
    error::StoreErrorKind,
    id::{Lane, ServerName},
    json::RawJson,
    queue::{JobQuery, JobState, JobStore},
    record::RecordStore,
    task::Task,
    testing::scripted::{ScriptedTransport, Step},
};
use patchy::{Fault, FullRecords, PatchyJobs};
use serde_json::json;

const LONG: Duration = Duration::from_secs(3_600);

fn engine() -> (Orchestrator, ScriptedTransport) {
    let name = ServerName::new("scripted").unwrap();
    let server = ScriptedTransport::new(name.clone()).simple_tool("echo", "repeats what it is told", true);
    (Orchestrator::builder().server(name, Arc::new(server.clone())).build(), server)
}

/// An engine on stores that may fail.
fn engine_on(jobs: &Arc<PatchyJobs>, records: Option<Arc<dyn RecordStore>>) -> Orchestrator {
    let name = ServerName::new("scripted").unwrap();
    let server = ScriptedTransport::new(name.clone()).simple_tool("echo", "repeats what it is told", true);
    let builder = Orchestrator::builder().server(name, Arc::new(server)).jobs(Arc::<PatchyJobs>::clone(jobs));
    match records {
        Some(records) => builder.records(records).build(),
        None => builder.build(),
    }
}

async fn ready(jobs: &PatchyJobs) -> u64 {
    jobs.counts(&Lane::light()).await.unwrap().ready
}

fn echo(n: usize) -> Task {
    Task::new("").with_tool("scripted/echo".parse().unwrap()).with_input(RawJson::from(json!({ "n": n })))
}

#[tokio::test(start_paused = true)]
async fn every_task_is_accepted_or_refused_by_itself_and_the_batch_ends_with_the_last() {
    let (engine, server) = engine();
    let who = Principal::local();
    let mut tasks: Vec<Task> = (0..250).map(echo).collect();
    tasks[7] = Task::new("");
    let batch = engine.submit_batch(&who, tasks, None).await.unwrap();
    assert_eq!(batch.tasks.len(), 250);
    assert!(matches!(&batch.tasks[7], BatchTask::Refused(why) if why.contains("need")), "{:?}", batch.tasks[7]);
    let state = engine.batch_state(&who, &batch.id).await.unwrap();
    assert_eq!((state.states[&JobState::Ready], state.refused, state.ended), (249, 1, false));
    let _worker = engine.worker(WorkerOptions::default());
    let state = engine.wait_batch(&who, &batch.id, LONG).await.unwrap();
    assert_eq!((state.states[&JobState::Done], state.states.len(), state.ended), (249, 1, true));
    assert_eq!(server.calls("echo"), 249);
}

#[tokio::test(start_paused = true)]
async fn the_same_call_with_a_key_finds_the_same_batch_and_another_one_is_told() {
    let (engine, _) = engine();
    let who = Principal::local();
    let first = engine.submit_batch(&who, (0..3).map(echo).collect(), Some("k")).await.unwrap();
    let again = engine.submit_batch(&who, (0..3).map(echo).collect(), Some("k")).await.unwrap();
    assert_eq!(first, again);
    assert_eq!(engine.list(&who, JobQuery::default()).await.unwrap().jobs.len(), 3);
    let other = engine.submit_batch(&who, (1..4).map(echo).collect(), Some("k")).await.unwrap_err();
    assert!(matches!(&other, EngineError::BatchConflict { batch } if *batch == first.id), "{other}");
    let stranger = Principal::new(who.tenant.clone(), "stranger");
    let theirs = engine.submit_batch(&stranger, (0..3).map(echo).collect(), Some("k")).await.unwrap();
    assert_ne!(theirs.id, first.id, "keys of different callers do not meet");
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_cancelled_as_one_and_is_its_owners_alone() {
    let (engine, server) = engine();
    let who = Principal::local();
    server.standing(Step::Hang);
    let batch = engine.submit_batch(&who, (0..20).map(echo).collect(), None).await.unwrap();
    let _worker = engine.worker(WorkerOptions::default());
    while server.calls("echo") < 16 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let stranger = Principal::new(who.tenant.clone(), "stranger");
    for refused in [
        engine.batch_state(&stranger, &batch.id).await.unwrap_err(),
        engine.cancel_batch(&stranger, &batch.id, "mine").await.unwrap_err(),
    ] {
        assert!(matches!(refused, EngineError::NotFound { what: "batch" }));
    }
    engine.cancel_batch(&who, &batch.id, "enough").await.unwrap();
    let state = engine.wait_batch(&who, &batch.id, LONG).await.unwrap();
    assert_eq!((state.states[&JobState::Cancelled], state.ended), (20, true));
}

#[tokio::test(start_paused = true)]
async fn the_largest_batch_is_kept_whatever_its_refusals_say() {
    let (engine, _) = engine();
    let who = Principal::local();
    // What JSON must escape, in the error that repeats it.
    let awkward = |n: usize| {
        let mut task = echo(n);
        task.labels.insert("\u{1}\"\\\n".repeat(90), String::new());
        task
    };
    let batch = engine.submit_batch(&who, (0..BATCH_TASKS_MAX).map(awkward).collect(), Some("k")).await.unwrap();
    assert!(batch.tasks.iter().all(|task| matches!(task, BatchTask::Refused(why) if why.starts_with("labels: "))));
    assert_eq!(engine.batch(&who, &batch.id).await.unwrap(), batch);
}

#[tokio::test(start_paused = true)]
async fn a_batch_has_bounds() {
    let (engine, _) = engine();
    let who = Principal::local();
    for tasks in [Vec::new(), (0..=BATCH_TASKS_MAX).map(echo).collect()] {
        let refused = engine.submit_batch(&who, tasks, None).await.unwrap_err();
        assert!(matches!(&refused, EngineError::Invalid(why) if why.field == "tasks"), "{refused}");
    }
    let none = engine.batch(&who, &"0".repeat(64).parse().unwrap()).await;
    assert!(matches!(none, Err(EngineError::NotFound { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_half_way_has_the_rest_of_the_batch_refused_and_its_jobs_told() {
    let jobs = PatchyJobs::new();
    let engine = engine_on(&jobs, None);
    let who = Principal::local();
    for (kind, told) in [(StoreErrorKind::Unavailable, "submit it again"), (StoreErrorKind::Full, "told to fail")] {
        jobs.set(Some(Fault { after: 1, kind }));
        let batch = engine.submit_batch(&who, (0..250).map(echo).collect(), None).await.unwrap();
        assert_eq!(batch.jobs().count(), 100, "those of the call that went well");
        let refused = |task: &BatchTask| matches!(task, BatchTask::Refused(why) if why.contains(told));
        assert!(batch.tasks[100..].iter().all(refused), "{:?}", batch.tasks[100]);
        assert_eq!(engine.batch(&who, &batch.id).await.unwrap(), batch, "it is kept");
        assert_eq!(ready(&jobs).await, 100, "what the failed call did all the same is cancelled");
        engine.cancel_batch(&who, &batch.id, "enough").await.unwrap();
        assert_eq!(ready(&jobs).await, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_the_store_never_took_runs_nothing() {
    let jobs = PatchyJobs::new();
    let engine = engine_on(&jobs, None);
    jobs.set(Some(Fault { after: 0, kind: StoreErrorKind::Unavailable }));
    let failed = engine.submit_batch(&Principal::local(), (0..250).map(echo).collect(), None).await.unwrap_err();
    assert!(matches!(&failed, EngineError::Store(_)), "{failed}");
    assert_eq!(ready(&jobs).await, 0, "nobody knows of these jobs");
}

#[tokio::test(start_paused = true)]
async fn a_batch_with_a_key_that_failed_half_way_is_whole_when_it_is_repeated() {
    let jobs = PatchyJobs::new();
    let engine = engine_on(&jobs, None);
    let who = Principal::local();
    jobs.set(Some(Fault { after: 1, kind: StoreErrorKind::Unavailable }));
    let failed = engine.submit_batch(&who, (0..250).map(echo).collect(), Some("k")).await.unwrap_err();
    assert!(matches!(&failed, EngineError::Store(_)), "{failed}");
    jobs.set(None);
    let batch = engine.submit_batch(&who, (0..250).map(echo).collect(), Some("k")).await.unwrap();
    assert_eq!(batch.jobs().count(), 250);
    assert_eq!(ready(&jobs).await, 250, "each once");
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_cannot_be_kept_leaves_only_what_a_repetition_finds() {
    let jobs = PatchyJobs::new();
    let engine = engine_on(&jobs, Some(FullRecords::new()));
    let who = Principal::local();
    let mut tasks: Vec<Task> = (0..150).map(echo).collect();
    tasks[7].idempotency_key = Some("mine".to_owned());
    let failed = engine.submit_batch(&who, tasks, None).await.unwrap_err();
    assert!(matches!(&failed, EngineError::Store(error) if error.kind() == StoreErrorKind::Full), "{failed}");
    assert_eq!(ready(&jobs).await, 1, "the task with a key of its own");
    engine.submit_batch(&who, (0..150).map(echo).collect(), Some("k")).await.unwrap_err();
    assert_eq!(ready(&jobs).await, 151, "the same batch again finds its jobs");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_full_is_asked_once_and_one_that_is_busy_again() {
    let jobs = PatchyJobs::new();
    let engine = engine_on(&jobs, None);
    for (kind, asked) in [(StoreErrorKind::Full, 1), (StoreErrorKind::Unavailable, 6)] {
        jobs.set(Some(Fault { after: 0, kind }));
        let refused = engine.submit(&Principal::local(), echo(1)).await.unwrap_err();
        assert!(matches!(&refused, EngineError::Store(error) if error.kind() == kind), "{refused}");
        assert_eq!(jobs.enqueues.load(Ordering::SeqCst), asked);
    }
}
