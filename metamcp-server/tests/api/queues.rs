//! Lanes as the API tells them, paused and resumed.

use std::time::Duration;

use metamcp_server::api::doc::{Moment, ProblemKind, QueueDocument, QueueList, TaskState};
use serde_json::json;

use crate::house::{House, json_of, problem_of};

const WAIT_MS: u64 = 20_000;

async fn lane(house: &House, name: &str) -> QueueDocument {
    let list: QueueList = json_of(house.get("/api/queues").send().await.unwrap()).await;
    list.queues.into_iter().find(|queue| queue.lane.as_str() == name).unwrap()
}

#[tokio::test]
async fn every_lane_tells_how_many_tasks_stand_where() {
    let house = House::with(|plan| plan.worker = false).await;
    let list: QueueList = json_of(house.get("/api/queues").send().await.unwrap()).await;
    assert_eq!(list.queues.iter().map(|queue| queue.lane.as_str()).collect::<Vec<_>>(), ["heavy", "light"]);
    let first = house.submit(json!({ "tool": "desk/say" })).await;
    house.submit(json!({ "tool": "desk/say" })).await;
    house.submit(json!({ "tool": "desk/say", "after": [first.id] })).await;
    let later = Moment(first.created_at.0 + Duration::from_secs(3_600));
    house.submit(json!({ "tool": "desk/say", "not_before": later })).await;
    let light = lane(&house, "light").await;
    assert_eq!((light.ready, light.waiting, light.delayed, light.leased, light.dead), (2, 1, 1, 0, 0), "{light:?}");
    let heavy = lane(&house, "heavy").await;
    assert_eq!((heavy.ready, heavy.oldest_ready_ms, heavy.paused), (0, 0, false), "{heavy:?}");
}

#[tokio::test]
async fn a_paused_lane_accepts_and_gives_nothing_out_until_it_is_resumed() {
    let house = House::open().await;
    for _ in 0..2 {
        let paused: QueueDocument = json_of(house.post("/api/queues/heavy/pause", "").send().await.unwrap()).await;
        assert!(paused.paused && paused.lane.as_str() == "heavy");
    }
    assert!(lane(&house, "heavy").await.paused && !lane(&house, "light").await.paused);
    let held = house.submit(json!({ "tool": "local/echo" })).await;
    // The worker takes what comes later in another lane.
    let other = house.submit(json!({ "tool": "desk/say", "wait_ms": WAIT_MS })).await;
    assert_eq!(other.state, TaskState::Completed);
    assert_eq!(house.task(&held).await.state, TaskState::Queued);
    let resumed: QueueDocument = json_of(house.post("/api/queues/heavy/resume", "").send().await.unwrap()).await;
    assert!(!resumed.paused);
    house.task_when(&held, |now| now.state == TaskState::Completed).await;
}

#[tokio::test]
async fn a_lane_that_nobody_knows_is_not_paused() {
    let house = House::open().await;
    for word in ["pause", "resume"] {
        let nobody = problem_of(house.post(&format!("/api/queues/nobody/{word}"), ""), ProblemKind::NotFound).await;
        assert_eq!(nobody.detail, "lane not found");
        problem_of(house.post(&format!("/api/queues/UPPER/{word}"), ""), ProblemKind::InvalidName).await;
    }
    let list: QueueList = json_of(house.get("/api/queues").send().await.unwrap()).await;
    assert_eq!(list.queues.len(), 2);
}
