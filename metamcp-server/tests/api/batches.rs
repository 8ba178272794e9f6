//! Many tasks in one call.

use metamcp_server::api::doc::{BatchDocument, JobDocument, ProblemKind, TaskState};
use serde_json::{Value, json};

use crate::house::{House, json_of, problem_of};

const CREATE: &str = "/api/batches/create";

async fn created(house: &House, batch: Value) -> BatchDocument {
    let response = house.post(CREATE, batch).send().await.unwrap();
    assert_eq!(response.status(), 202);
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let batch: BatchDocument = json_of(response).await;
    assert_eq!(location, format!("/api/batches/{}", batch.id));
    batch
}

#[tokio::test]
async fn each_task_of_a_batch_is_accepted_or_refused_by_itself() {
    let house = House::open().await;
    let tasks = json!([
        { "tool": "local/echo", "input": { "n": 0 } },
        { "tool": "local/none" },
        { "tool": "local/echo", "deadline_ms": u64::MAX },
        { "need": "a friendly greeting please", "labels": { "n": "3" } },
    ]);
    let batch = created(&house, json!({ "tasks": tasks })).await;
    let refused: Vec<_> = batch.tasks.iter().map(|task| task.refused.as_deref().unwrap_or_default()).collect();
    assert!(refused[1].contains("has no tool") && refused[2].contains("deadline_ms"), "{refused:?}");
    assert!(refused[0].is_empty() && refused[3].is_empty(), "{refused:?}");
    assert_eq!(batch.standing.as_ref().unwrap().refused, 2);

    let path = format!("/api/batches/{}", batch.id);
    let ended: BatchDocument = json_of(house.get(&format!("{path}?wait_ms=20000")).send().await.unwrap()).await;
    assert_eq!((&ended.id, &ended.tasks, ended.created_at), (&batch.id, &batch.tasks, batch.created_at));
    let standing = ended.standing.unwrap();
    assert!(standing.ended && standing.removed == 0, "{standing:?}");
    assert_eq!(standing.states, [(TaskState::Completed, 2)].into());
    let last = format!("/api/tasks/{}", batch.tasks[3].job.unwrap());
    let job: JobDocument = json_of(house.get(&last).send().await.unwrap()).await;
    assert_eq!((job.state, job.labels["n"].as_str()), (TaskState::Completed, "3"));
}

#[tokio::test]
async fn the_same_key_means_the_same_batch() {
    let house = House::with(|plan| plan.worker = false).await;
    let tasks = json!([{ "tool": "local/echo" }, { "tool": "desk/say" }]);
    let first = created(&house, json!({ "tasks": tasks, "idempotency_key": "k" })).await;
    assert_eq!(first.standing.as_ref().unwrap().states, [(TaskState::Queued, 2)].into());
    let again = house.post(CREATE, json!({ "tasks": tasks })).header("idempotency-key", "\"k\"");
    assert_eq!(json_of::<BatchDocument>(again.send().await.unwrap()).await, first);
    let without = created(&house, json!({ "tasks": tasks })).await;
    assert_ne!(without.tasks, first.tasks);

    let other = json!({ "tasks": [{ "tool": "desk/say" }], "idempotency_key": "k" });
    let problem = problem_of(house.post(CREATE, other), ProblemKind::IdempotencyConflict).await;
    assert_eq!(problem.field.as_deref(), Some("idempotency_key"));
}

#[tokio::test]
async fn a_batch_is_cancelled_as_one() {
    let house = House::with(|plan| plan.worker = false).await;
    let tasks = json!([{ "tool": "local/echo" }, { "tool": "desk/say" }, { "tool": "desk/none" }]);
    let batch = created(&house, json!({ "tasks": tasks })).await;
    let path = format!("/api/batches/{}/cancel", batch.id);
    for wish in ["", r#"{"reason":"no longer needed"}"#] {
        let cancelled: BatchDocument = json_of(house.post(&path, wish).send().await.unwrap()).await;
        let standing = cancelled.standing.unwrap();
        assert!(standing.ended && standing.refused == 1, "{standing:?}");
        assert_eq!(standing.states, [(TaskState::Cancelled, 2)].into());
    }
    problem_of(house.post(&path, json!({ "reasons": "x" })), ProblemKind::InvalidField).await;
}

#[tokio::test]
async fn what_is_wrong_with_a_batch_is_told_with_its_place() {
    let house = House::open().await;
    let many: Vec<_> = (0..1_001).map(|_| json!({ "tool": "local/echo" })).collect();
    let task = json!({ "tool": "local/echo" });
    for (batch, field, mend) in [
        (json!({}), "tasks", "1 to 1000"),
        (json!({ "tasks": [] }), "tasks", "1 to 1000"),
        (json!({ "tasks": many }), "tasks", "1 to 1000"),
        (json!({ "tasks": [task, { "tool": "local/echo", "priorty": 1 }] }), "tasks[1].priorty", "`priority`"),
        (json!({ "tasks": [task, { "tool": "local/echo", "wait_ms": 1 }] }), "tasks[1].wait_ms", "leave it out"),
        (json!({ "tasks": [task], "idempotency_key": "" }), "idempotency_key", "1 to 256 bytes"),
        (json!({ "task": [task] }), "task", "did you mean `tasks`?"),
    ] {
        let problem = problem_of(house.post(CREATE, batch), ProblemKind::InvalidField).await;
        assert_eq!(problem.field.as_deref(), Some(field), "{problem:?}");
        assert!(problem.mend.as_ref().is_some_and(|told| told.contains(mend)), "{problem:?}");
    }
    let nobody = "/api/batches/01997f3e-5c1a-7d3e-9c55-0a1b2c3d4e5f";
    problem_of(house.get(nobody), ProblemKind::NotFound).await;
    problem_of(house.post(&format!("{nobody}/cancel"), ""), ProblemKind::NotFound).await;
    problem_of(house.get("/api/batches/x"), ProblemKind::InvalidName).await;
    let wait = problem_of(house.get(&format!("{nobody}?wait_ms=60001")), ProblemKind::InvalidParameter).await;
    assert_eq!(wait.field.as_deref(), Some("wait_ms"));
}
