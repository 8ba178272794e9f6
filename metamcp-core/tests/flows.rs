//! Tasks that take from one another, share results, and share a worker: over memory stores, on tokio's paused clock.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so at once")]

use std::{sync::Arc, time::Duration};

use metamcp_core::{
    auth::Principal,
    engine::{EngineError, Orchestrator, Worker, WorkerOptions},
    id::{JobId, ServerName},
    json::RawJson,
    queue::{Job, JobErrorCode, JobQuery, JobState},
    task::Task,
    testing::scripted::{ScriptedTransport, Seen, Step},
    time::{Clock, Timestamp},
    transport::{Delivered, TransportErrorKind},
};
use serde_json::{Value, json};
use tokio::time::Instant;

const LONG: Duration = Duration::from_secs(3_600);

#[derive(Debug)]
struct PausedClock(Instant);

impl Clock for PausedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_790_000_000_000) + self.0.elapsed()
    }
}

struct World {
    engine: Orchestrator,
    server: ScriptedTransport,
    other: ScriptedTransport,
    worker: Option<Worker>,
    who: Principal,
}

impl World {
    fn idle() -> Self {
        let (one, two) = (ServerName::new("scripted").unwrap(), ServerName::new("other").unwrap());
        let sum = json!({
            "name": "sum", "description": "adds", "annotations": { "readOnlyHint": true },
            "inputSchema": { "type": "object", "properties": { "a": { "type": "number" }, "b": { "type": "number" } }, "required": ["a"] }
        });
        let server = ScriptedTransport::new(one.clone())
            .simple_tool("echo", "repeats what it is told", true)
            .simple_tool("pay", "transfers money once", false)
            .tool(sum);
        let other = ScriptedTransport::new(two.clone()).simple_tool("ping", "answers", true);
        let engine = Orchestrator::builder()
            .clock(Arc::new(PausedClock(Instant::now())))
            .server(one, Arc::new(server.clone()))
            .server(two, Arc::new(other.clone()))
            .build();
        Self { engine, server, other, worker: None, who: Principal::local() }
    }

    fn working() -> Self {
        let mut world = Self::idle();
        world.worker = Some(world.engine.worker(WorkerOptions::default()));
        world
    }

    async fn submit(&self, task: Task) -> JobId {
        self.engine.submit(&self.who, task).await.unwrap().job.head.id
    }

    async fn refused(&self, task: Task) -> String {
        match self.engine.submit(&self.who, task).await.unwrap_err() {
            EngineError::Invalid(why) => why.to_string(),
            other => panic!("{other:?}"),
        }
    }

    async fn end(&self, id: JobId) -> Job {
        self.engine.wait(&self.who, id, LONG).await.unwrap()
    }

    /// What the tool was called with, call by call.
    fn inputs(&self, tool: &str) -> Vec<Value> {
        let of_tool = |seen: Seen| match seen {
            Seen::Call(call) if call.tool == tool => Some(call.arguments.view().unwrap()),
            _ => None,
        };
        self.server.seen().into_iter().filter_map(of_tool).collect()
    }
}

fn task(tool: &str, input: Value) -> Task {
    Task::new("").with_tool(tool.parse().unwrap()).with_input(RawJson::from(input))
}

fn code(job: &Job) -> Option<JobErrorCode> {
    job.head.error.as_ref().map(|error| error.code)
}

#[tokio::test(start_paused = true)]
async fn a_task_waits_for_the_task_it_refers_to_and_gets_its_result() {
    let world = World::idle();
    let body = json!({ "content": [{ "type": "text", "text": "four" }], "structuredContent": { "n": 4.50 } });
    world.server.script("echo", [Step::Raw(RawJson::from(body))]);
    let first = world.submit(task("scripted/echo", json!({}))).await;
    let second = world
        .submit(task(
            "scripted/sum",
            json!({ "a": { "$ref": format!("task://{first}#/structuredContent/n") }, "b": 1 }),
        ))
        .await;
    assert_eq!(world.engine.get(&world.who, second).await.unwrap().head.state, JobState::Waiting);
    let _worker = world.engine.worker(WorkerOptions::default());
    assert_eq!(world.end(second).await.head.state, JobState::Done);
    assert_eq!(world.inputs("sum"), [json!({ "a": 4.5, "b": 1 })]);
    // A result that is there already is referred to by its pointer, and the task does not wait.
    let pointer = world.end(first).await.head.result.unwrap();
    let third = world.submit(task("scripted/echo", json!({ "all": { "$ref": pointer.to_string() } }))).await;
    assert_eq!(world.end(third).await.head.state, JobState::Done);
    assert_eq!(world.inputs("echo")[1]["all"]["content"][0]["text"], "four");
}

#[tokio::test(start_paused = true)]
async fn what_is_referred_to_must_fit_the_tool_once_it_is_there() {
    let world = World::working();
    let first = world.submit(task("scripted/echo", json!({}))).await;
    let whole = world.submit(task("scripted/sum", json!({ "a": { "$ref": format!("task://{first}") } }))).await;
    let job = world.end(whole).await;
    assert_eq!(code(&job), Some(JobErrorCode::InvalidInput), "{job:?}");
    let nothing = format!("task://{first}#/structuredContent/none");
    let job = world.end(world.submit(task("scripted/sum", json!({ "a": { "$ref": nothing } }))).await).await;
    assert_eq!(code(&job), Some(JobErrorCode::DependencyFailed));
    assert_eq!(world.server.calls("sum"), 0);
    // What surely does not fit is refused at once, whatever the reference brings.
    let misfit = json!({ "a": { "$ref": format!("task://{first}") }, "b": "one" });
    assert!(matches!(
        world.engine.submit(&world.who, task("scripted/sum", misfit)).await,
        Err(EngineError::NoMatch(_))
    ));
}

#[tokio::test(start_paused = true)]
async fn a_task_fails_with_the_task_it_waits_for_and_both_can_be_retried() {
    let world = World::working();
    world.server.script("pay", [Step::Fail(TransportErrorKind::Rejected { code: -32_000 }, Delivered::Yes)]);
    let first = world.submit(task("scripted/pay", json!({}))).await;
    let second = world.submit(task("scripted/echo", json!({})).with_after(first)).await;
    let job = world.end(second).await;
    assert_eq!((job.head.state, code(&job)), (JobState::Dead, Some(JobErrorCode::DependencyFailed)));
    assert_eq!(world.server.calls("echo"), 0);
    world.engine.retry(&world.who, first).await.unwrap();
    assert_eq!(world.end(first).await.head.state, JobState::Done);
    world.engine.retry(&world.who, second).await.unwrap();
    assert_eq!(world.end(second).await.head.state, JobState::Done);
}

#[tokio::test(start_paused = true)]
async fn nobody_takes_from_a_task_that_is_not_his() {
    let world = World::working();
    let stranger = Principal::new(world.who.tenant.clone(), "stranger");
    let theirs = world.engine.submit(&stranger, task("scripted/echo", json!({}))).await.unwrap().job.head.id;
    world.engine.wait(&stranger, theirs, LONG).await.unwrap();
    let refused = world.refused(task("scripted/echo", json!({ "x": { "$ref": format!("task://{theirs}") } }))).await;
    assert!(refused.starts_with("input:") && refused.contains("not there"), "{refused}");
    let refused = world.refused(task("scripted/echo", json!({})).with_after(theirs)).await;
    assert!(refused.starts_with("after:"), "{refused}");
    let pointer = world.engine.get(&stranger, theirs).await.unwrap().head.result.unwrap();
    let refused = world.refused(task("scripted/echo", json!({ "x": { "$ref": pointer.to_string() } }))).await;
    assert!(refused.contains("not there"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn an_identical_call_is_served_from_cache_only_when_the_caller_allows_it() {
    let world = World::working();
    let minute = Duration::from_secs(60);
    let call = |n: u8| task("scripted/echo", json!({ "n": n }));
    let first = world.end(world.submit(call(1).with_cache(minute)).await).await;
    assert_eq!(first.head.cached_from, None);
    let again = world.end(world.submit(call(1).with_cache(minute)).await).await;
    assert_eq!(again.head.cached_from, Some(first.head.id), "it says so");
    assert_eq!(world.server.calls("echo"), 1);
    let (a, b) = (first.head.result.unwrap(), again.head.result.unwrap());
    assert_eq!((a.digest, b.job), (b.digest, again.head.id), "the body is the later task's own");
    assert!(world.engine.result(&world.who, &b, None).await.is_ok());

    world.end(world.submit(call(1)).await).await;
    assert_eq!(world.server.calls("echo"), 2, "not allowed");
    world.end(world.submit(call(2).with_cache(minute)).await).await;
    assert_eq!(world.server.calls("echo"), 3, "another input");
    let stranger = Principal::new(world.who.tenant.clone(), "stranger");
    let theirs = world.engine.submit(&stranger, call(1).with_cache(minute)).await.unwrap().job.head.id;
    assert_eq!(world.engine.wait(&stranger, theirs, LONG).await.unwrap().head.cached_from, None);
    assert_eq!(world.server.calls("echo"), 4, "another principal");
    tokio::time::sleep(minute * 2).await;
    world.end(world.submit(call(1).with_cache(minute)).await).await;
    assert_eq!(world.server.calls("echo"), 5, "too old");

    let pay = || task("scripted/pay", json!({})).with_cache(minute);
    world.end(world.submit(pay()).await).await;
    world.end(world.submit(pay()).await).await;
    assert_eq!(world.server.calls("pay"), 2, "a tool that acts is called each time");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_leaves_slots_for_the_others() {
    let world = World::idle();
    world.server.standing(Step::Hang);
    for _ in 0..40 {
        world.submit(task("scripted/echo", json!({}))).await;
    }
    let ping = world.submit(task("other/ping", json!({}))).await;
    let _worker = world.engine.worker(WorkerOptions::default());
    let began = Instant::now();
    assert_eq!(world.end(ping).await.head.state, JobState::Done);
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert_eq!((world.server.calls("echo"), world.other.calls("ping")), (12, 1), "three quarters of 16 slots");
}

#[tokio::test(start_paused = true)]
async fn tasks_with_one_concurrency_key_run_one_after_the_other() {
    let world = World::idle();
    let ids = [1, 2, 3].map(|n| task("scripted/echo", json!({ "n": n })).with_concurrency("one", 1));
    world.server.standing(Step::Hang);
    for task in ids {
        world.submit(task).await;
    }
    let _worker = world.engine.worker(WorkerOptions::default());
    for called in 1..=3 {
        while world.server.calls("echo") < called {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(world.server.calls("echo"), called, "the next one waits");
        let jobs = world.engine.list(&world.who, JobQuery::default()).await.unwrap().jobs;
        let running: Vec<&Job> = jobs.iter().filter(|job| job.head.state == JobState::Leased).collect();
        assert_eq!(running.len(), 1);
        world.engine.cancel(&world.who, running[0].head.id, "enough").await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn tasks_with_one_rate_key_start_no_more_often_than_allowed() {
    let world = World::working();
    let began = Instant::now();
    let mut jobs = Vec::new();
    for n in 0..4 {
        let rated = task("scripted/echo", json!({ "n": n })).with_rate("slow", Duration::from_secs(10), 2);
        jobs.push(world.submit(rated).await);
    }
    for id in jobs {
        assert_eq!(world.end(id).await.head.state, JobState::Done);
    }
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(20), "two at once, then one in ten seconds: {took:?}");
}
