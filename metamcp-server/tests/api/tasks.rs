//! Tasks from submission to their end, as a caller over HTTP sees them.

use std::{sync::Arc, time::Duration};

use metamcp_core::{
    queue::{CoreLimits, InputRequest, JobErrorCode, MemoryJobStore},
    testing::scripted::Step,
    time::{Clock, SystemClock},
    transport::{Delivered, TransportErrorKind},
};
use metamcp_server::api::doc::{
    ExplainDocument, JobDocument, Moment, ProblemKind, RouteDocument, TaskDocument, TaskPage, TaskState,
};
use serde_json::{Value, json};

use crate::house::{House, json_of, problem_of};

const WAIT_MS: u64 = 20_000;

#[tokio::test]
async fn a_task_that_ends_within_its_wait_is_answered_with_200_and_its_result() {
    let house = House::open().await;
    for path in ["/api/tasks/create", "/api/tasks"] {
        let task = json!({ "need": "echo my arguments back", "input": { "a": 1 }, "labels": { "team": "x" },
            "priority": 3, "lane": "heavy", "wait_ms": WAIT_MS });
        let response = house.post(path, task).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        let location = response.headers()["location"].to_str().unwrap().to_owned();
        let job: JobDocument = json_of(response).await;
        assert_eq!(location, format!("/api/tasks/{}", job.id));
        assert_eq!((job.state, job.need.as_str(), job.priority), (TaskState::Completed, "echo my arguments back", 3));
        assert_eq!((job.tool.as_ref().unwrap().to_string().as_str(), job.lane.as_str()), ("local/echo", "heavy"));
        assert_eq!(job.route.candidates[0].tool, *job.tool.as_ref().unwrap());
        assert_eq!(job.labels["team"], "x");
        assert!(job.started_at.unwrap() >= job.created_at && job.finished_at.unwrap() >= job.started_at.unwrap());
        assert!(job.deadline_at.unwrap() > job.created_at);
        assert!(!job.duplicate && job.error.is_none() && !job.cancel_requested);
        let body: Value =
            json_of(house.get(&format!("/api/results/{}", job.result.as_ref().unwrap())).send().await.unwrap()).await;
        assert_eq!(body["structuredContent"], json!({ "a": 1 }));
        let read: JobDocument = json_of(house.get(&location).send().await.unwrap()).await;
        assert_eq!(read, job);
    }
}

#[tokio::test]
async fn a_task_that_goes_on_is_answered_with_202() {
    let house = House::open().await;
    house.desk.standing(Step::Hang);
    for wait_ms in [None, Some(30)] {
        let task = json!({ "tool": "desk/hold", "wait_ms": wait_ms });
        let response = house.post("/api/tasks", task).send().await.unwrap();
        assert_eq!(response.status(), 202);
        let job: JobDocument = json_of(response).await;
        assert!(!job.state.is_final() && job.result.is_none());
    }
}

#[tokio::test]
async fn reading_a_task_can_wait_for_its_end() {
    let house = House::open().await;
    house.desk.script("hold", [Step::Delay(Duration::from_millis(80)), Step::Done("at last".to_owned())]);
    let job = house.submit(json!({ "tool": "desk/hold" })).await;
    let path = format!("/api/tasks/{}?wait_ms={WAIT_MS}", job.id);
    let ended: JobDocument = json_of(house.get(&path).send().await.unwrap()).await;
    assert_eq!(ended.state, TaskState::Completed);
}

#[tokio::test]
async fn numbers_of_the_input_reach_the_tool_as_they_are_spelled() {
    let house = House::open().await;
    let input = r#"{"z":1.0,"a":1E5,"big":12345678901234567890123,"tiny":0.10}"#;
    let task =
        format!(r#"{{"need":"echo my arguments back","tool":"local/echo","input":{input},"wait_ms":{WAIT_MS}}}"#);
    let job: JobDocument = json_of(house.post("/api/tasks", task).send().await.unwrap()).await;
    let body = house.get(&format!("/api/results/{}", job.result.unwrap())).send().await.unwrap().text().await.unwrap();
    assert!(body.contains(&format!("\"structuredContent\":{input}")), "{body}");
}

#[tokio::test]
async fn a_repeated_idempotency_key_answers_with_the_first_job() {
    let house = House::open().await;
    let task = json!({ "tool": "desk/say", "wait_ms": WAIT_MS });
    let first = house.post("/api/tasks", &task).header("Idempotency-Key", "k-1").send().await.unwrap();
    let first: JobDocument = json_of(first).await;
    let in_body = json!({ "tool": "desk/say", "idempotency_key": "k-1" });
    let quoted = house.post("/api/tasks", &in_body).header("Idempotency-Key", "\"k-1\"").send().await.unwrap();
    assert_eq!(quoted.status(), 200, "it has ended");
    let again: JobDocument = json_of(quoted).await;
    assert_eq!((again.id, again.duplicate, first.duplicate), (first.id, true, false));
    assert_eq!(house.desk.calls("say"), 1);

    let differing = house.post("/api/tasks", &in_body).header("Idempotency-Key", "k-2");
    assert_eq!(problem_of(differing, ProblemKind::InvalidField).await.field.as_deref(), Some("idempotency_key"));
    let other = json!({ "tool": "desk/hold", "idempotency_key": "k-1" });
    let conflict = problem_of(house.post("/api/tasks", other), ProblemKind::IdempotencyConflict).await;
    assert_eq!(conflict.job, Some(first.id));
}

#[tokio::test]
async fn a_start_in_the_future_is_kept_and_a_past_one_means_now() {
    let house = House::open().await;
    let wanted = Moment(SystemClock::default().now() + Duration::from_secs(3_600));
    let later = house.submit(json!({ "tool": "desk/say", "not_before": wanted })).await;
    // The delay is counted from acceptance: the start may be late by the time the request took, never early.
    let late = later.due_at.0.since(wanted.0);
    assert!(later.due_at >= wanted && late < Duration::from_secs(60), "{}", later.due_at);
    assert_eq!((later.state, later.started_at), (TaskState::Queued, None));
    let offset = json!({ "tool": "desk/say", "not_before": "2099-01-01T00:00:00+02:00" });
    let far = problem_of(house.post("/api/tasks", offset), ProblemKind::InvalidField).await;
    assert_eq!(far.field.as_deref(), Some("not_before"), "it was understood, and is too far ahead");
    let past = json!({ "tool": "desk/say", "not_before": "2001-01-01T00:00:00Z", "wait_ms": WAIT_MS });
    assert_eq!(house.submit(past).await.state, TaskState::Completed);
}

#[tokio::test]
async fn tasks_are_listed_newest_first_in_pages_and_by_filters() {
    let house = House::with(|plan| plan.worker = false).await;
    let mut ids = Vec::new();
    for n in 0..5 {
        let tool = if n == 4 { "local/echo" } else { "desk/say" };
        let labels = json!({ "n": n.to_string(), "url": "a:b" });
        ids.push(house.submit(json!({ "tool": tool, "labels": labels })).await.id);
        // Ids sort by the millisecond.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    ids.reverse();
    let page = |query: String| {
        let request = house.get(&format!("/api/tasks{query}"));
        async move { json_of::<TaskPage>(request.send().await.unwrap()).await }
    };
    let listed = |page: &TaskPage| page.tasks.iter().map(|task| task.id).collect::<Vec<_>>();

    let mut cursor = String::new();
    let mut seen = Vec::new();
    for _ in 0..10 {
        let next = page(format!("?limit=2{cursor}")).await;
        assert!(next.tasks.len() <= 2);
        seen.extend(listed(&next));
        match next.next_cursor {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, ids);

    house.post(&format!("/api/tasks/{}/cancel", ids[1]), "").send().await.unwrap();
    assert_eq!(listed(&page("?state=cancelled".to_owned()).await), ids[1..2]);
    assert_eq!(listed(&page("?state=cancelled&state=queued".to_owned()).await), ids);
    assert_eq!(listed(&page("?state=completed,working,failed,input_required".to_owned()).await), []);
    assert_eq!(listed(&page("?lane=heavy".to_owned()).await), ids[..1]);
    assert_eq!(listed(&page("?label=n:2".to_owned()).await), ids[2..3]);
    assert_eq!(listed(&page("?label=url:a%3Ab&limit=200".to_owned()).await), ids);

    for (query, field) in [
        ("?state=done", "state"),
        ("?limit=0", "limit"),
        ("?cursor=x", "cursor"),
        ("?label=x", "label"),
        ("?lane=UPPER", "lane"),
        ("?stat=queued", "stat"),
        ("?lane=a&lane=b", "lane"),
    ] {
        let problem = problem_of(house.get(&format!("/api/tasks{query}")), ProblemKind::InvalidParameter).await;
        assert_eq!(problem.field.as_deref(), Some(field), "{problem:?}");
    }
}

#[tokio::test]
async fn a_queued_task_is_cancelled_at_once_and_only_once() {
    let house = House::with(|plan| plan.worker = false).await;
    let job = house.submit(json!({ "tool": "desk/say" })).await;
    let path = format!("/api/tasks/{}/cancel", job.id);
    let cancelled: JobDocument =
        json_of(house.post(&path, json!({ "reason": "no longer needed" })).send().await.unwrap()).await;
    assert_eq!(cancelled.state, TaskState::Cancelled);
    assert!(cancelled.finished_at.is_some() && !cancelled.cancel_requested);
    // Asking for what is so already is no error.
    for none in ["", "null", "{}"] {
        let again: JobDocument = json_of(house.post(&path, none).send().await.unwrap()).await;
        assert_eq!(again.state, TaskState::Cancelled);
    }
    let unknown = problem_of(house.post(&path, json!({ "reasons": "x" })), ProblemKind::InvalidField).await;
    assert!(unknown.mend.unwrap().contains("did you mean `reason`?"));
}

#[tokio::test]
async fn a_running_task_is_asked_to_stop() {
    let house = House::open().await;
    house.desk.standing(Step::Hang);
    let job = house.submit(json!({ "tool": "desk/hold" })).await;
    house.task_when(&job, |now| now.state == TaskState::Working).await;
    let response = house.post(&format!("/api/tasks/{}/cancel", job.id), "").send().await.unwrap();
    let asked: JobDocument = json_of(response).await;
    assert!(asked.cancel_requested || asked.state == TaskState::Cancelled, "{asked:?}");
    house.task_when(&job, |now| now.state == TaskState::Cancelled).await;
}

#[tokio::test]
async fn a_failed_task_tells_why_and_can_be_retried() {
    let house = House::open().await;
    house.desk.script("say", [Step::Fail(TransportErrorKind::Rejected { code: -32_603 }, Delivered::Yes)]);
    let failed = house.submit(json!({ "tool": "desk/say", "wait_ms": WAIT_MS })).await;
    assert_eq!(failed.state, TaskState::Failed);
    assert_eq!(failed.error.as_ref().unwrap().code, JobErrorCode::ServerError);
    let ended =
        problem_of(house.post(&format!("/api/tasks/{}/cancel", failed.id), ""), ProblemKind::StateConflict).await;
    assert_eq!(ended.state, Some(TaskState::Failed));

    let retried: JobDocument =
        json_of(house.post(&format!("/api/tasks/{}/retry", failed.id), "").send().await.unwrap()).await;
    assert_eq!(retried.id, failed.id);
    house.task_when(&failed, |now| now.state == TaskState::Completed).await;
    let done = problem_of(house.post(&format!("/api/tasks/{}/retry", failed.id), ""), ProblemKind::StateConflict).await;
    assert_eq!(done.state, Some(TaskState::Completed));
}

#[tokio::test]
async fn a_question_is_told_and_its_answer_goes_on() {
    let house = House::open().await;
    let request = r#"{"method":"elicitation/create","params":{"message":"sure?","scale":1.0}}"#;
    let ask = InputRequest { key: "sure".to_owned(), request: request.to_owned() };
    house.desk.script("ask", [Step::NeedsInput(vec![ask]), Step::Done("thanks".to_owned())]);
    let response = house.post("/api/tasks", json!({ "tool": "desk/ask", "wait_ms": WAIT_MS })).send().await.unwrap();
    assert_eq!(response.status(), 202, "it has not ended");
    let job: JobDocument = json_of(response).await;
    assert_eq!((job.state, job.requests.len()), (TaskState::InputRequired, 1));
    assert_eq!((job.requests[0].key.as_str(), job.requests[0].request.get()), ("sure", request));

    let path = format!("/api/tasks/{}/answer", job.id);
    for wrong in [json!({ "responses": { "other": 1 } }), json!({ "responses": {} }), json!({ "responses": [] })] {
        let problem = problem_of(house.post(&path, wrong), ProblemKind::InvalidField).await;
        assert_eq!(problem.field.as_deref(), Some("responses"));
    }
    let missing = problem_of(house.post(&path, "{}"), ProblemKind::InvalidField).await;
    assert!(missing.detail.contains("responses"), "{missing:?}");

    let answer = json!({ "responses": { "sure": { "action": "accept" } } });
    let answered: JobDocument = json_of(house.post(&path, &answer).send().await.unwrap()).await;
    assert!(answered.requests.is_empty());
    house.task_when(&job, |now| now.state == TaskState::Completed).await;
    problem_of(house.post(&path, answer), ProblemKind::StateConflict).await;
}

#[tokio::test]
async fn progress_of_a_running_task_is_told() {
    let house = House::open().await;
    let progress = metamcp_core::queue::Progress { value: 3.0, total: Some(10.0), message: Some("third".to_owned()) };
    house.desk.script("hold", [Step::Progress(progress), Step::Hang]);
    let job = house.submit(json!({ "tool": "desk/hold" })).await;
    let now = house.task_when(&job, |now| now.progress.is_some()).await;
    let progress = now.progress.unwrap();
    assert_eq!((progress.value, progress.total, progress.message.as_deref()), (3.0, Some(10.0), Some("third")));
}

#[tokio::test]
async fn a_task_explains_its_route() {
    let house = House::open().await;
    let job = house.submit(json!({ "need": "a friendly greeting please", "wait_ms": WAIT_MS })).await;
    let response = house.get(&format!("/api/tasks/{}/explain", job.id)).send().await.unwrap();
    let explained: ExplainDocument = json_of(response).await;
    assert_eq!((explained.id, explained.tool.clone(), explained.candidate), (job.id, job.tool, 0));
    assert_eq!(explained.candidates[0].tool.to_string(), "desk/say");
    let reason = &explained.candidates[0].reasons[0];
    assert!(reason.kind == "term" && reason.score.unwrap() > 0.0 && !reason.text.is_empty(), "{reason:?}");
    assert!(explained.attempts_max > 0 && explained.lost_max > 0);
}

#[tokio::test]
async fn a_dry_run_tells_the_route_and_the_rejections_and_makes_no_task() {
    let house = House::open().await;
    let need = json!({ "need": "measure the length of my rope", "input": { "rope": 5 } });
    let route: RouteDocument = json_of(house.post("/api/route", &need).send().await.unwrap()).await;
    assert!(route.candidates.iter().all(|candidate| candidate.tool.to_string() != "desk/measure"));
    assert!(
        route.rejected.iter().any(|r| r.tool.to_string() == "desk/measure" && r.reason.contains("rope")),
        "{route:?}"
    );
    let fitting = json!({ "need": "measure the length of my rope", "input": { "rope": "long" } });
    let route: RouteDocument = json_of(house.post("/api/route", fitting).send().await.unwrap()).await;
    assert_eq!(route.candidates[0].tool.to_string(), "desk/measure");
    let nothing: RouteDocument =
        json_of(house.post("/api/route", json!({ "need": "zzqx" })).send().await.unwrap()).await;
    assert_eq!(nothing.candidates, []);
    let page: TaskPage = json_of(house.get("/api/tasks").send().await.unwrap()).await;
    assert_eq!(page.tasks, []);

    let refused = problem_of(house.post("/api/tasks", need), ProblemKind::NoMatch).await;
    assert_eq!(refused.rejected[0].tool.to_string(), "desk/measure");
}

#[tokio::test]
async fn a_full_lane_asks_to_come_back() {
    let mut limits = CoreLimits::default();
    limits.lane_jobs_max = 1;
    let store = MemoryJobStore::with_limits(Arc::new(SystemClock::default()), limits);
    let house = House::with(|plan| {
        plan.worker = false;
        plan.jobs = Some(Arc::new(store));
    })
    .await;
    house.submit(json!({ "tool": "desk/say" })).await;
    problem_of(house.post("/api/tasks", json!({ "tool": "desk/say" })), ProblemKind::LaneFull).await;
}

#[tokio::test]
async fn the_documents_are_the_ones_clients_send() {
    let house = House::open().await;
    let task = TaskDocument {
        need: "a friendly greeting".to_owned(),
        labels: [("k".to_owned(), "v".to_owned())].into(),
        wait_ms: Some(WAIT_MS),
        not_before: Some("2020-01-01T00:00:00Z".parse().unwrap()),
        ..TaskDocument::default()
    };
    let job = house.submit(serde_json::to_value(&task).unwrap()).await;
    assert_eq!((job.state, job.labels), (TaskState::Completed, task.labels));
}
