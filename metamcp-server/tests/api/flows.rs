//! Tasks that depend on others, and tasks that are held back: `after`, `$ref`, concurrency and rate keys, and results from cache.

use metamcp_core::{
    queue::JobErrorCode,
    testing::scripted::Step,
    transport::{Delivered, TransportErrorKind},
};
use metamcp_server::api::doc::{JobDocument, ProblemKind, QueueList, TaskPage, TaskState};
use serde_json::{Value, json};

use crate::house::{House, json_of, problem_of};

const WAIT_MS: u64 = 20_000;

#[tokio::test]
async fn a_task_that_waits_for_others_is_queued_and_names_them() {
    let house = House::with(|plan| plan.worker = false).await;
    let first = house.submit(json!({ "tool": "desk/say" })).await;
    let second = house.submit(json!({ "tool": "local/echo" })).await;
    let input = json!({ "x": { "$ref": format!("task://{}#/structuredContent/a", second.id) } });
    let last = house.submit(json!({ "tool": "local/echo", "after": [first.id], "input": input })).await;
    assert_eq!(last.state, TaskState::Queued);
    let mut both = vec![first.id, second.id];
    both.sort_unstable();
    assert_eq!((&last.after, &last.waits_on), (&both, &both));
    assert!(first.after.is_empty() && first.waits_on.is_empty() && !last.blocked && last.cached_from.is_none());
    let queued: TaskPage = json_of(house.get("/api/tasks?state=queued").send().await.unwrap()).await;
    assert_eq!(queued.tasks.len(), 3);
    let working: TaskPage = json_of(house.get("/api/tasks?state=working").send().await.unwrap()).await;
    assert_eq!(working.tasks, []);
}

#[tokio::test]
async fn a_result_is_handed_to_the_task_that_refers_to_it() {
    let house = House::open().await;
    let first = house.submit(json!({ "tool": "local/echo", "input": { "a": [7, 8] } })).await;
    let input = json!({ "x": { "$ref": format!("task://{}#/structuredContent/a/1", first.id) } });
    let last = house.submit(json!({ "tool": "local/echo", "input": input, "wait_ms": WAIT_MS })).await;
    assert_eq!((last.state, &last.after), (TaskState::Completed, &vec![first.id]), "{last:?}");
    assert!(last.waits_on.is_empty());
    let path = format!("/api/results/{}", last.result.unwrap());
    let body: Value = json_of(house.get(&path).send().await.unwrap()).await;
    assert_eq!(body["structuredContent"], json!({ "x": 8 }));
}

#[tokio::test]
async fn a_task_fails_with_the_one_it_waits_for_and_can_be_retried_after_it() {
    let house = House::open().await;
    house.desk.script("say", [Step::Fail(TransportErrorKind::Rejected { code: -32_603 }, Delivered::Yes)]);
    let first = house.submit(json!({ "tool": "desk/say" })).await;
    let after = json!({ "tool": "local/echo", "after": [first.id], "wait_ms": WAIT_MS });
    let last = house.submit(after).await;
    assert_eq!(last.state, TaskState::Failed, "{last:?}");
    assert_eq!(last.error.as_ref().unwrap().code, JobErrorCode::DependencyFailed);
    for job in [&first, &last] {
        let retry = house.post(&format!("/api/tasks/{}/retry", job.id), "");
        let _: JobDocument = json_of(retry.send().await.unwrap()).await;
        house.task_when(job, |now| now.state == TaskState::Completed).await;
    }
}

#[tokio::test]
async fn a_task_whose_concurrency_key_is_held_says_so() {
    let house = House::open().await;
    house.desk.standing(Step::Hang);
    let task = json!({ "tool": "desk/hold", "concurrency": { "key": "line", "max": 1 } });
    let first = house.submit(task.clone()).await;
    house.task_when(&first, |now| now.state == TaskState::Working).await;
    let second = house.submit(task).await;
    let second = house.task_when(&second, |now| now.blocked).await;
    assert_eq!(second.state, TaskState::Queued);
    let list: QueueList = json_of(house.get("/api/queues").send().await.unwrap()).await;
    let light = list.queues.iter().find(|queue| queue.lane.as_str() == "light").unwrap();
    assert_eq!((light.leased, light.ready, light.blocked), (1, 0, 1), "{light:?}");

    house.post(&format!("/api/tasks/{}/cancel", first.id), "").send().await.unwrap();
    let second = house.task_when(&second, |now| now.state == TaskState::Working).await;
    assert!(!second.blocked);
}

#[tokio::test]
async fn a_task_that_comes_too_early_for_its_rate_is_given_a_later_slot() {
    let house = House::open().await;
    // Without `burst` one may go at once.
    let task = json!({ "tool": "local/echo", "rate": { "key": "api", "every_ms": 3_600_000 }, "wait_ms": WAIT_MS });
    assert_eq!(house.submit(task).await.state, TaskState::Completed);
    let second = house.submit(json!({ "tool": "local/echo", "rate": { "key": "api", "every_ms": 3_600_000 } })).await;
    house.task_when(&second, |now| now.state == TaskState::Queued && now.due_at > now.created_at).await;
    let other = json!({ "tool": "local/echo", "rate": { "key": "other", "every_ms": 1 }, "wait_ms": WAIT_MS });
    assert_eq!(house.submit(other).await.state, TaskState::Completed);
}

#[tokio::test]
async fn an_identical_call_may_be_served_from_cache_and_says_so() {
    let house = House::open().await;
    let task = |a: u32| json!({ "tool": "local/echo", "input": { "a": a }, "cache_ms": 3_600_000, "wait_ms": WAIT_MS });
    let first = house.submit(task(1)).await;
    assert_eq!((first.state, first.cached_from), (TaskState::Completed, None));
    let again = house.submit(task(1)).await;
    assert_eq!((again.state, again.cached_from), (TaskState::Completed, Some(first.id)));
    assert_ne!(again.id, first.id);
    assert_eq!(house.submit(task(2)).await.cached_from, None);
    let wants_its_own = json!({ "tool": "local/echo", "input": { "a": 1 }, "wait_ms": WAIT_MS });
    assert_eq!(house.submit(wants_its_own).await.cached_from, None);
}

#[tokio::test]
async fn terms_out_of_bounds_are_told_by_their_field() {
    let house = House::open().await;
    let nobody = "01997f3e-5c1a-7d3e-9c55-0a1b2c3d4e5f";
    let malformed = json!({ "x": { "$ref": "task://nobody" } });
    let missing = json!({ "x": { "$ref": format!("task://{nobody}") } });
    let cases = [
        (json!({ "after": [nobody] }), "after", "is not there"),
        (json!({ "after": vec![nobody; 33] }), "after", "bound of 32"),
        (json!({ "after": ["x"] }), "after[0]", ""),
        (json!({ "input": malformed }), "input", "nobody"),
        (json!({ "input": missing }), "input", "is not there"),
        (json!({ "concurrency": { "key": "k", "max": 0 } }), "concurrency", "at least 1"),
        (json!({ "concurrency": { "key": "", "max": 1 } }), "concurrency", "1 to 128 bytes"),
        (json!({ "concurrency": { "key": "k", "max": 1, "maxi": 1 } }), "concurrency.maxi", "did you mean `max`?"),
        (json!({ "concurrency": { "key": "k" } }), "concurrency", "missing field `max`"),
        (json!({ "rate": { "key": "k", "every_ms": 0 } }), "rate", "at least 1"),
        (json!({ "rate": { "key": "k", "every_ms": 1, "burst": 0 } }), "rate", "at least 1"),
        (json!({ "cache_ms": -1 }), "cache_ms", "expected u64"),
    ];
    for (mut task, field, mend) in cases {
        task["tool"] = json!("local/echo");
        let problem = problem_of(house.post("/api/tasks/create", &task), ProblemKind::InvalidField).await;
        assert_eq!(problem.field.as_deref(), Some(field), "{task}: {problem:?}");
        assert!(problem.mend.as_ref().is_some_and(|told| told.contains(mend)), "{task}: {problem:?}");
    }
}
