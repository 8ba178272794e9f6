//! Every class of error is a problem document that says what to change.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use metamcp_server::api::doc::{Health, Index, ProblemKind};
use serde_json::{Value, json};

use crate::{
    house::{House, json_of, problem_of},
    moody::{Mood, MoodyStore},
};

#[tokio::test]
async fn a_field_that_is_wrong_is_named_with_its_mend() {
    let house = House::open().await;
    let long = "x".repeat(20_000);
    let cases = [
        (json!({ "need": "x", "priorty": 1 }), "priorty", "did you mean `priority`?"),
        (json!({ "need": "x", "resources": { "memory_mb": 1 } }), "resources.memory_mb", "did you mean `memory_mib`?"),
        (json!({ "need": "x", "priority": 10 }), "priority", "0 to 9"),
        (json!({ "need": "x", "priority": "high" }), "priority", "expected u8"),
        (json!({ "need": "x", "deadline_ms": 0 }), "deadline_ms", "must be"),
        (json!({ "need": "x", "not_before": "tomorrow" }), "not_before", "RFC 3339"),
        (json!({ "need": "x", "tool": "outline" }), "tool", "server/name"),
        (json!({ "need": "x", "tool": "nobody/x" }), "tool", "known servers: desk, local"),
        (json!({ "need": "x", "tool": "desk/none" }), "tool", "has no tool"),
        (json!({ "need": "x", "lane": "UPPER" }), "lane", "1 to 64"),
        (json!({ "need": "x", "input": [1] }), "input", "JSON object"),
        (json!({ "need": "x", "wait_ms": 60_001 }), "wait_ms", "0 to 60000"),
        (json!({ "need": "x", "labels": { "": "v" } }), "labels", "bytes"),
        (json!({ "need": "x", "idempotency_key": "" }), "idempotency_key", "bytes"),
        (json!({ "need": long }), "need", "move data into `input`"),
        (json!({ "need": " " }), "need", "say in words"),
        (json!([1]), "body", "JSON object"),
    ];
    for (task, field, mend) in cases {
        let problem = problem_of(house.post("/api/tasks", &task), ProblemKind::InvalidField).await;
        assert_eq!(problem.field.as_deref(), Some(field), "{problem:?}");
        assert!(problem.mend.as_ref().is_some_and(|told| told.contains(mend)), "{problem:?}");
    }
    let nothing = problem_of(house.post("/api/tasks", json!({ "need": "zzqx vvkw" })), ProblemKind::NoMatch).await;
    assert!(nothing.mend.is_some() && nothing.field.as_deref() == Some("need"));
}

#[tokio::test]
async fn broken_json_is_told_with_its_place() {
    let house = House::open().await;
    for path in ["/api/tasks", "/api/tasks/create", "/api/route"] {
        let problem = problem_of(house.post(path, "{\"need\": \"x\",\n  nope}"), ProblemKind::InvalidJson).await;
        assert_eq!((problem.line, problem.column), (Some(2), Some(3)), "{problem:?}");
        problem_of(house.post(path, ""), ProblemKind::InvalidJson).await;
        problem_of(house.post(path, "{} {}"), ProblemKind::InvalidJson).await;
    }
    let wait = "/api/tasks/01997f3e-5c1a-7d3e-9c55-0a1b2c3d4e5f?wait_ms=99999999";
    let problem = problem_of(house.get(wait), ProblemKind::InvalidParameter).await;
    assert_eq!(problem.field.as_deref(), Some("wait_ms"));
}

#[tokio::test]
async fn a_body_must_be_declared_as_json() {
    let house = House::open().await;
    let send = |media_type| house.post("/api/tasks", "{}").header("content-type", media_type);
    // The client appends: two declarations are one too many as well.
    problem_of(send("text/plain").header("content-type", "x"), ProblemKind::InvalidField).await;
    let plain = reqwest::Client::new().post(house.url("/api/tasks")).body("{\"need\":\"x\"}");
    let problem = problem_of(plain, ProblemKind::UnsupportedMediaType).await;
    assert_eq!(problem.field.as_deref(), Some("Content-Type"));
}

#[tokio::test]
async fn what_is_not_there_is_told() {
    let house = House::open().await;
    let id = "01997f3e-5c1a-7d3e-9c55-0a1b2c3d4e5f";
    for path in [format!("/api/tasks/{id}"), format!("/api/tasks/{id}/explain")] {
        problem_of(house.get(&path), ProblemKind::NotFound).await;
        let malformed = problem_of(house.get(&path.replace(id, "x")), ProblemKind::InvalidName).await;
        assert!(malformed.mend.unwrap().contains("UUID"));
    }
    for action in ["cancel", "retry"] {
        problem_of(house.post(&format!("/api/tasks/{id}/{action}"), ""), ProblemKind::NotFound).await;
    }
    let answer = house.post(&format!("/api/tasks/{id}/answer"), json!({ "responses": {} }));
    problem_of(answer, ProblemKind::NotFound).await;
    for path in ["/api/nothing", "/nothing", "/api/tasks/", "/api/tasks/a/b/c", "/api"] {
        assert!(problem_of(house.get(path), ProblemKind::NoSuchPath).await.detail.contains(path));
    }
}

#[tokio::test]
async fn a_wrong_method_is_told_with_the_right_ones() {
    let house = House::open().await;
    for (path, allowed) in [("/api/route", "POST"), ("/api/tasks", "GET"), ("/livez", "GET"), ("/api/events", "GET")] {
        let delete = || reqwest::Client::new().delete(house.url(path));
        problem_of(delete(), ProblemKind::MethodNotAllowed).await;
        let response = delete().send().await.unwrap();
        assert!(response.headers()["allow"].to_str().unwrap().contains(allowed), "{path}");
    }
}

#[tokio::test]
async fn hosts_and_origins_of_others_are_refused_everywhere() {
    let house = House::with(|plan| plan.api.allowed_hosts = vec!["meta.example".to_owned()]).await;
    for path in ["/", "/livez", "/api/tasks", "/nothing"] {
        problem_of(house.get(path).header("host", "evil.example"), ProblemKind::ForbiddenHost).await;
        problem_of(house.get(path).header("origin", "https://evil.example"), ProblemKind::ForbiddenOrigin).await;
    }
    for host in ["localhost:1", "meta.example", "[::1]"] {
        assert_eq!(house.get("/livez").header("host", host).send().await.unwrap().status(), 200, "{host}");
    }
    let origin = house.get("/livez").header("origin", house.url("")).send().await.unwrap();
    assert_eq!(origin.status(), 200);
}

#[tokio::test]
async fn a_failing_store_is_told_without_its_insides() {
    let store = MoodyStore::new();
    let jobs = Arc::clone(&store);
    let house = House::with(|plan| {
        plan.worker = false;
        plan.jobs = Some(jobs);
        plan.api.answer = Duration::from_millis(200);
    })
    .await;
    let task = format!("/api/tasks/{}/explain", house.submit(json!({ "tool": "desk/say" })).await.id);
    let told = |problem: metamcp_server::api::doc::ProblemDocument| {
        let text = serde_json::to_string(&problem).unwrap();
        assert!(!text.contains("secret") && !text.contains("bug"), "{text}");
        problem
    };

    store.set(Mood::Unavailable);
    told(problem_of(house.get(&task), ProblemKind::StoreUnavailable).await);
    told(problem_of(house.get("/readyz"), ProblemKind::NotReady).await);
    store.set(Mood::Corrupt);
    assert!(told(problem_of(house.get(&task), ProblemKind::Internal).await).incident.is_some());
    store.set(Mood::Panic);
    assert!(told(problem_of(house.get(&task), ProblemKind::Internal).await).incident.is_some());
    store.set(Mood::Hang);
    told(problem_of(house.get(&task), ProblemKind::Timeout).await);
    assert_eq!(house.get("/livez").send().await.unwrap().status(), 200, "it lives all the same");
    store.set(Mood::Fine);
    assert_eq!(house.get(&task).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn readiness_tells_what_is_missing() {
    let warm = Arc::new(AtomicBool::new(false));
    let check = Arc::clone(&warm);
    let house = House::with(|plan| {
        plan.api.ready =
            Some(Arc::new(move || check.load(Ordering::SeqCst).then_some(()).ok_or_else(|| "warming up".to_owned())));
    })
    .await;
    assert_eq!(problem_of(house.get("/readyz"), ProblemKind::NotReady).await.detail, "warming up");
    warm.store(true, Ordering::SeqCst);
    let health: Health = json_of(house.get("/readyz").send().await.unwrap()).await;
    assert!(health.status == "ready" && health.store.is_some());
    house.drain.cancel();
    problem_of(house.get("/readyz"), ProblemKind::NotReady).await;
    problem_of(house.get("/api/events"), ProblemKind::Stopping).await;
    let alive: Health = json_of(house.get("/livez").send().await.unwrap()).await;
    assert_eq!(alive.status, "ok");
}

#[tokio::test]
async fn the_index_leads_to_the_description() {
    let house = House::open().await;
    let index: Index = json_of(house.get("/").send().await.unwrap()).await;
    assert_eq!(index.name, "metamcp");
    let description: Value = json_of(house.get(&index.openapi).send().await.unwrap()).await;
    assert_eq!(description, serde_json::from_str::<Value>(&metamcp_server::api::openapi_json()).unwrap());
}
