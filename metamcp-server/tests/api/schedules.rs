//! Tasks that recur: made, changed, listed, paused, fired and deleted.

use metamcp_server::api::doc::{
    JobDocument, MissedInstants, OverlapDocument, ProblemKind, ScheduleDocument, SchedulePage, TaskState,
};
use serde_json::{Value, json};

use crate::house::{House, bounded, json_of, problem_of};

fn yearly() -> Value {
    json!({ "cron": "0 0 1 1 *", "task": { "tool": "local/echo", "input": { "b": 1.0, "a": 2 } } })
}

async fn put(house: &House, name: &str, terms: Value) -> ScheduleDocument {
    json_of(house.put(&format!("/api/schedules/{name}"), terms).send().await.unwrap()).await
}

#[tokio::test]
async fn a_schedule_is_made_read_changed_and_deleted() {
    let house = House::with(|plan| plan.worker = false).await;
    let made = put(&house, "new-year", yearly()).await;
    assert_eq!((made.name.as_str(), made.zone.as_str(), made.paused), ("new-year", "UTC", false));
    assert_eq!((made.missed, made.overlap), (MissedInstants::Last, OverlapDocument::Allow));
    assert!(made.next_at.is_some() && made.last_at.is_none() && made.last_job.is_none() && made.last_error.is_none());
    let read: ScheduleDocument = json_of(house.get("/api/schedules/new-year").send().await.unwrap()).await;
    assert_eq!(read, made);

    let terms = json!({
        "cron": "30 2 * * MON", "zone": "Europe/Berlin", "missed": "all", "overlap": "skip", "paused": true,
        "task": {
            "need": "a friendly greeting", "priority": 3, "deadline_ms": 60_000, "labels": { "team": "x" }, "lane": "light",
            "concurrency": { "key": "k", "max": 2 }, "rate": { "key": "r", "every_ms": 10, "burst": 3 }, "cache_ms": 5,
            "resources": { "local": true },
        },
    });
    let changed = put(&house, "new-year", terms.clone()).await;
    assert_eq!((changed.missed, changed.overlap), (MissedInstants::All, OverlapDocument::Skip));
    assert_eq!((changed.zone.as_str(), changed.paused, changed.next_at), ("Europe/Berlin", true, None));
    let told = serde_json::to_value(&changed.task).unwrap();
    for (field, value) in terms["task"].as_object().unwrap() {
        assert!(field == "resources" || told[field] == *value, "{field}: {told}");
    }
    assert!(changed.task.resources.local);

    assert_eq!(house.delete("/api/schedules/new-year").send().await.unwrap().status(), 204);
    problem_of(house.delete("/api/schedules/new-year"), ProblemKind::NotFound).await;
    problem_of(house.get("/api/schedules/new-year"), ProblemKind::NotFound).await;
}

#[tokio::test]
async fn the_input_of_a_schedule_stays_as_it_was_written() {
    let house = House::with(|plan| plan.worker = false).await;
    let terms = r#"{"cron":"0 0 1 1 *","task":{"tool":"local/echo","input":{ "b":1.0,"a":12345678901234567890 }}}"#;
    let made: ScheduleDocument = json_of(house.put("/api/schedules/x", terms).send().await.unwrap()).await;
    assert_eq!(made.task.input.get(), r#"{ "b":1.0,"a":12345678901234567890 }"#);
    let read: ScheduleDocument = json_of(house.get("/api/schedules/x").send().await.unwrap()).await;
    assert_eq!(read.task.input.get(), made.task.input.get());
}

#[tokio::test]
async fn schedules_come_in_pages_by_name() {
    let house = House::with(|plan| plan.worker = false).await;
    for name in ["c", "a", "B", "a.1"] {
        put(&house, name, yearly()).await;
    }
    let mut names = Vec::new();
    let mut path = "/api/schedules?limit=2".to_owned();
    for _ in 0..10 {
        let page: SchedulePage = json_of(house.get(&path).send().await.unwrap()).await;
        assert!(page.schedules.len() <= 2);
        names.extend(page.schedules.into_iter().map(|schedule| schedule.name));
        let Some(cursor) = page.next_cursor else { break };
        path = format!("/api/schedules?limit=2&cursor={cursor}");
    }
    assert_eq!(names, ["B", "a", "a.1", "c"]);
    for (query, field) in [("limit=0", "limit"), ("cursor=a%2Fb", "cursor"), ("name=a", "name")] {
        let problem = problem_of(house.get(&format!("/api/schedules?{query}")), ProblemKind::InvalidParameter).await;
        assert_eq!(problem.field.as_deref(), Some(field));
    }
}

#[tokio::test]
async fn a_paused_schedule_is_never_due_and_can_still_be_fired() {
    let house = House::open().await;
    let made = put(&house, "x", yearly()).await;
    let paused: ScheduleDocument = json_of(house.post("/api/schedules/x/pause", "").send().await.unwrap()).await;
    assert!(paused.paused && paused.next_at.is_none());
    let response = house.post("/api/schedules/x/fire", "").send().await.unwrap();
    assert_eq!(response.status(), 202);
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let job: JobDocument = json_of(response).await;
    assert_eq!(location, format!("/api/tasks/{}", job.id));
    house.task_when(&job, |now| now.state == TaskState::Completed).await;
    let resumed: ScheduleDocument = json_of(house.post("/api/schedules/x/resume", "").send().await.unwrap()).await;
    assert_eq!((resumed.paused, resumed.next_at), (false, made.next_at));
    for word in ["pause", "resume", "fire"] {
        problem_of(house.post(&format!("/api/schedules/nobody/{word}"), ""), ProblemKind::NotFound).await;
    }
}

#[tokio::test]
async fn a_schedule_that_is_due_becomes_a_task() {
    let house = House::open().await;
    put(&house, "often", json!({ "cron": "* * * * * *", "task": { "tool": "local/echo" } })).await;
    let id = bounded("the first time", async {
        loop {
            let now: ScheduleDocument = json_of(house.get("/api/schedules/often").send().await.unwrap()).await;
            assert_eq!(now.last_error, None);
            if let Some(job) = now.last_job {
                assert!(now.last_at.is_some() && now.next_at > now.last_at);
                return job;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    let path = format!("/api/tasks/{id}?wait_ms=20000");
    let job: JobDocument = json_of(house.get(&path).send().await.unwrap()).await;
    assert_eq!(job.state, TaskState::Completed);
}

#[tokio::test]
async fn what_is_wrong_with_a_schedule_is_told_by_its_field() {
    let house = House::open().await;
    let with = |name: &str, value: Value| {
        let mut terms = yearly();
        terms[name] = value;
        terms
    };
    let task = |task: Value| with("task", task);
    let large = "x".repeat(300_000);
    for (terms, field, mend) in [
        (with("cron", json!("often")), "cron", "minute hour day month weekday"),
        (with("cron", json!("0 0 31 2 *")), "cron", "never comes due"),
        (with("zone", json!("Mars/North")), "zone", "no time zone"),
        (with("missed", json!("some")), "missed", "unknown variant"),
        (with("crom", json!("x")), "crom", "did you mean `cron`?"),
        (json!({ "task": { "tool": "local/echo" } }), "body", "missing field `cron`"),
        (task(json!({ "need": "x", "priority": 10 })), "priority", "0 to 9"),
        (task(json!({ "need": "x", "priorty": 1 })), "task.priorty", "did you mean `priority`?"),
        (task(json!({ "need": "x", "wait_ms": 1 })), "task.wait_ms", "leave it out"),
        (task(json!({ "need": "x", "not_before": "2030-01-01T00:00:00Z" })), "task.not_before", "leave it out"),
        (task(json!({ "need": "x", "idempotency_key": "k" })), "idempotency_key", "leave it out"),
        (task(json!({ "need": "x", "input": { "x": large } })), "task", "over the bound of 253952; give it less input"),
    ] {
        let problem = problem_of(house.put("/api/schedules/x", terms), ProblemKind::InvalidField).await;
        assert_eq!(problem.field.as_deref(), Some(field), "{problem:?}");
        assert!(problem.mend.as_ref().is_some_and(|told| told.contains(mend)), "{problem:?}");
    }
    for name in ["a%2Fb", "%20", &"x".repeat(65)] {
        problem_of(house.put(&format!("/api/schedules/{name}"), yearly()), ProblemKind::InvalidName).await;
        problem_of(house.get(&format!("/api/schedules/{name}")), ProblemKind::InvalidName).await;
    }
}
