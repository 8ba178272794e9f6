//! Batches: many tasks in one call, each by itself, followed as one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so at once")]

use std::{sync::Arc, time::Duration};

use metamcp_core::{
    auth::Principal,
    engine::{BATCH_TASKS_MAX, BatchTask, EngineError, Orchestrator, WorkerOptions},
    id::ServerName,
    json::RawJson,
    queue::{JobQuery, JobState},
    task::Task,
    testing::scripted::{ScriptedTransport, Step},
};
use serde_json::json;

const LONG: Duration = Duration::from_secs(3_600);

fn engine() -> (Orchestrator, ScriptedTransport) {
    let name = ServerName::new("scripted").unwrap();
    let server = ScriptedTransport::new(name.clone()).simple_tool("echo", "repeats what it is told", true);
    (Orchestrator::builder().server(name, Arc::new(server.clone())).build(), server)
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
