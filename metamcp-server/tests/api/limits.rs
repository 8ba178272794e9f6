//! Bounds on bodies: too large, declared or not, and too slow.

use std::time::Duration;

use futures_util::stream;
use metamcp_server::api::doc::ProblemKind;
use serde_json::json;

use crate::house::{House, problem_of};

#[tokio::test]
async fn a_body_over_the_bound_is_refused_declared_or_not() {
    let house = House::with(|plan| plan.api.body_bytes_max = 1_000).await;
    let task = |bytes: usize| json!({ "tool": "local/echo", "input": { "text": "x".repeat(bytes) } }).to_string();
    assert_eq!(house.post("/api/tasks", task(900)).send().await.unwrap().status(), 202);
    let declared = problem_of(house.post("/api/tasks", task(1_000)), ProblemKind::TooLarge).await;
    assert!(declared.detail.contains("1000 bytes"));
    let chunks = stream::iter((0..3).map(|_| Ok::<_, std::io::Error>("x".repeat(500))));
    let chunked = house.post("/api/tasks", "").body(reqwest::Body::wrap_stream(chunks));
    problem_of(chunked, ProblemKind::TooLarge).await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up() {
    let house = House::with(|plan| plan.api.body_read = Duration::from_millis(50)).await;
    let head = format!(
        "POST /api/tasks HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n{{",
        house.address
    );
    let answer = house.raw(&head).await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("urn:metamcp:problem:request-timeout"), "{answer}");
}
