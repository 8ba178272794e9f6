//! The engine from submission to result, over memory stores and a scripted server, on tokio's paused clock.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so at once")]

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use metamcp_core::{
    auth::Principal,
    engine::{EngineError, Orchestrator, Policy, Worker, WorkerOptions},
    event::EventKind,
    id::{JobId, ServerName, TenantId},
    json::RawJson,
    matching::{CapabilityMatcher, Catalog, LexicalMatcher, MatchError, Outcome, Route},
    queue::{Answer, InputRequest, Job, JobErrorCode, JobQuery, JobState, JobStore, MemoryJobStore, Progress},
    result::MemoryResultStore,
    task::{Need, Task},
    testing::scripted::{ScriptedTransport, Seen, Step},
    time::{Clock, Timestamp},
    transport::{Delivered, TransportErrorKind},
};
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
    orchestrator: Orchestrator,
    server: ScriptedTransport,
    worker: Option<Worker>,
    who: Principal,
}

impl World {
    fn idle() -> Self {
        let name = ServerName::new("scripted").unwrap();
        let server = ScriptedTransport::new(name.clone())
            .simple_tool("echo", "repeats what it is told, an echo", true)
            .simple_tool("pay", "transfers money once, a payment", false);
        let orchestrator = Orchestrator::builder()
            .clock(Arc::new(PausedClock(Instant::now())))
            .policy(Policy::default())
            .server(name, Arc::new(server.clone()))
            .build();
        Self { orchestrator, server, worker: None, who: Principal::local() }
    }

    fn working() -> Self {
        let mut world = Self::idle();
        world.start();
        world
    }

    fn start(&mut self) {
        self.worker = Some(self.orchestrator.worker(WorkerOptions::default()));
    }

    async fn submit(&self, tool: &str) -> JobId {
        self.submit_task(task(tool)).await
    }

    async fn submit_task(&self, task: Task) -> JobId {
        self.orchestrator.submit(&self.who, task).await.unwrap().job.head.id
    }

    async fn end(&self, id: JobId) -> Job {
        self.orchestrator.wait(&self.who, id, LONG).await.unwrap()
    }

    async fn until_called(&self, tool: &str) {
        while self.server.calls(tool) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn kinds(&self, id: JobId) -> Vec<EventKind> {
        let page = self.orchestrator.events(&self.who, 0, 500, Duration::ZERO).await.unwrap();
        page.events.into_iter().filter(|e| e.event.job == id).map(|e| e.event.kind).collect()
    }
}

fn task(tool: &str) -> Task {
    Task::new("").with_tool(format!("scripted/{tool}").parse().unwrap())
}

fn code(job: &Job) -> Option<JobErrorCode> {
    job.head.error.as_ref().map(|error| error.code)
}

#[tokio::test(start_paused = true)]
async fn a_need_in_words_is_matched_called_and_pointed_to() {
    let world = World::working();
    let id = world.submit_task(Task::new("echo what I am told")).await;
    let job = world.end(id).await;
    assert_eq!(job.head.state, JobState::Done);
    assert_eq!(job.body.route.candidates[0].capability.to_string(), "scripted/echo");
    let pointer = job.head.result.unwrap();
    let body = world.orchestrator.result(&world.who, &pointer, None).await.unwrap();
    assert!(String::from_utf8_lossy(&body.bytes).contains("ok"));
    let kinds = world.kinds(id).await;
    assert!(
        matches!(kinds.as_slice(), [EventKind::Queued, EventKind::Started { .. }, EventKind::Completed { .. }]),
        "{kinds:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn nobody_else_sees_a_job_its_events_or_its_result() {
    let world = World::working();
    let id = world.submit("echo").await;
    let pointer = world.end(id).await.head.result.unwrap();
    for other in [
        Principal::new(TenantId::new("local").unwrap(), "somebody"),
        Principal::new(TenantId::new("other").unwrap(), "local"),
    ] {
        let o = &world.orchestrator;
        assert!(matches!(o.get(&other, id).await, Err(EngineError::NotFound { .. })));
        assert!(matches!(o.cancel(&other, id, "").await, Err(EngineError::NotFound { .. })));
        assert!(matches!(o.retry(&other, id).await, Err(EngineError::NotFound { .. })));
        assert!(matches!(o.result(&other, &pointer, None).await, Err(EngineError::NotFound { .. })));
        assert!(o.events(&other, 0, 500, Duration::ZERO).await.unwrap().events.is_empty());
        assert!(o.list(&other, JobQuery::default()).await.unwrap().jobs.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_fits_is_told_with_the_mend_and_leaves_no_job() {
    let world = World::working();
    let refused = world.orchestrator.submit(&world.who, Task::new("quantum chromodynamics")).await.unwrap_err();
    assert!(matches!(refused, EngineError::NoMatch(_)));
    assert!(refused.to_string().contains("configure a server"), "{refused}");
    let unknown = world.orchestrator.submit(&world.who, task("nothing")).await.unwrap_err();
    assert!(unknown.to_string().contains("has no tool `nothing`"), "{unknown}");
    let elsewhere = Task::new("").with_tool("absent/echo".parse().unwrap());
    let elsewhere = world.orchestrator.submit(&world.who, elsewhere).await.unwrap_err();
    assert!(elsewhere.to_string().contains("known servers: scripted"), "{elsewhere}");
    let mut nowhere = task("echo");
    nowhere.need.lane = Some("gpu".parse().unwrap());
    let nowhere = world.orchestrator.submit(&world.who, nowhere).await.unwrap_err();
    assert!(nowhere.to_string().contains("no worker serves `gpu`; the lanes are light, heavy"), "{nowhere}");
    assert!(world.orchestrator.list(&world.who, JobQuery::default()).await.unwrap().jobs.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_unsent_call_is_retried_with_backoff_until_it_succeeds() {
    let world = World::working();
    world.server.script(
        "pay",
        [
            Step::Fail(TransportErrorKind::Connect, Delivered::No),
            Step::Busy(Duration::from_secs(20)),
            Step::Done("paid".to_owned()),
        ],
    );
    let began = Instant::now();
    let id = world.submit("pay").await;
    let job = world.end(id).await;
    assert_eq!((job.head.state, job.head.attempts), (JobState::Done, 2));
    assert!(began.elapsed() >= Duration::from_secs(20), "the server's wish for a pause is kept");
    assert_eq!(world.server.calls("pay"), 3);
    assert_eq!(world.kinds(id).await.iter().filter(|k| matches!(k, EventKind::Retrying { .. })).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn attempts_are_limited_and_a_dead_job_can_be_redriven() {
    let world = World::working();
    world.server.standing(Step::Fail(TransportErrorKind::Connect, Delivered::No));
    let id = world.submit("echo").await;
    let job = world.end(id).await;
    assert_eq!((job.head.state, job.head.attempts), (JobState::Dead, 4));
    assert_eq!(code(&job), Some(JobErrorCode::ServerUnavailable));
    assert!(matches!(world.kinds(id).await.last(), Some(EventKind::Failed { .. })));
    world.server.standing(Step::Done("ok".to_owned()));
    world.orchestrator.retry(&world.who, id).await.unwrap();
    assert_eq!(world.end(id).await.head.state, JobState::Done);
    assert!(matches!(world.orchestrator.retry(&world.who, id).await, Err(EngineError::State { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_may_have_happened_is_unknown_unless_repeating_is_safe() {
    let world = World::working();
    for tool in ["pay", "echo"] {
        world.server.script(tool, [Step::Fail(TransportErrorKind::Closed, Delivered::Maybe)]);
    }
    let (pay, echo) = (world.submit("pay").await, world.submit("echo").await);
    let job = world.end(pay).await;
    assert_eq!((job.head.state, code(&job)), (JobState::Dead, Some(JobErrorCode::OutcomeUnknown)));
    assert_eq!(world.server.calls("pay"), 1);
    assert_eq!(world.end(echo).await.head.state, JobState::Done);
    assert_eq!(world.server.calls("echo"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_tools_own_failure_is_a_completed_job() {
    let world = World::working();
    world.server.script("echo", [Step::ToolFails("no such file".to_owned())]);
    let id = world.submit("echo").await;
    let job = world.end(id).await;
    assert_eq!(job.head.state, JobState::Done);
    let body = world.orchestrator.result(&world.who, &job.head.result.unwrap(), None).await.unwrap();
    assert!(String::from_utf8_lossy(&body.bytes).contains(r#""isError":true"#));
}

#[tokio::test(start_paused = true)]
async fn a_queued_job_is_cancelled_at_once_and_never_called() {
    let mut world = World::idle();
    let id = world.submit("echo").await;
    let job = world.orchestrator.cancel(&world.who, id, "changed my mind").await.unwrap();
    assert_eq!(job.head.state, JobState::Cancelled);
    world.start();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.server.calls("echo"), 0);
    assert!(world.orchestrator.cancel(&world.who, id, "again").await.is_ok(), "cancelling twice is fine");
}

#[tokio::test(start_paused = true)]
async fn a_running_job_that_is_cancelled_is_stopped_at_once() {
    let world = World::working();
    world.server.script("pay", [Step::Hang]);
    let id = world.submit("pay").await;
    world.until_called("pay").await;
    let asked = world.orchestrator.cancel(&world.who, id, "enough").await.unwrap();
    assert_eq!(asked.head.state, JobState::Leased);
    let began = Instant::now();
    assert_eq!(world.end(id).await.head.state, JobState::Cancelled);
    assert!(began.elapsed() < Policy::default().heartbeat, "it does not wait for the next heartbeat");
    assert!(world.server.seen().iter().any(|seen| matches!(seen, Seen::Dropped(_))), "the server is told");
    let kinds = world.kinds(id).await;
    assert!(matches!(kinds.last(), Some(EventKind::Cancelled { reason }) if reason == "enough"), "{kinds:?}");
}

/// A clock of a machine that is wrong by so many seconds.
#[derive(Debug)]
struct WrongClock(PausedClock, i64);

impl Clock for WrongClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.now().as_millis().saturating_add_signed(self.1 * 1_000))
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_goes_by_the_clock_of_the_store_whatever_the_worker_takes_for_the_time() {
    for wrong_by_s in [-3_600, 0, 3_600] {
        let began = Instant::now();
        let clock = Arc::new(WrongClock(PausedClock(began), wrong_by_s));
        let mut world = World::idle();
        world.orchestrator = Orchestrator::builder()
            .clock(clock)
            .jobs(Arc::new(MemoryJobStore::new(Arc::new(PausedClock(began)))))
            .server(ServerName::new("scripted").unwrap(), Arc::new(world.server.clone()))
            .build();
        world.start();
        let quick = world.submit_task(task("echo").with_deadline(Duration::from_secs(90))).await;
        assert_eq!(world.end(quick).await.head.state, JobState::Done, "wrong by {wrong_by_s} s");
        world.server.standing(Step::Hang);
        let hanging = world.submit_task(task("echo").with_deadline(Duration::from_secs(90))).await;
        let before = Instant::now();
        let job = world.end(hanging).await;
        assert_eq!(code(&job), Some(JobErrorCode::DeadlineExceeded), "wrong by {wrong_by_s} s");
        let took = before.elapsed().as_secs();
        assert!((89..=91).contains(&took), "wrong by {wrong_by_s} s: ended after {took} s");
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_ends_a_hanging_call_and_a_waiting_job() {
    let mut world = World::idle();
    let waiting = world.submit_task(task("echo").with_deadline(Duration::from_secs(5)).with_delay(LONG)).await;
    world.start();
    world.server.script("echo", [Step::Hang]);
    let hanging = world.submit_task(task("echo").with_deadline(Duration::from_secs(90))).await;
    for id in [waiting, hanging] {
        let job = world.end(id).await;
        assert_eq!((job.head.state, code(&job)), (JobState::Dead, Some(JobErrorCode::DeadlineExceeded)));
    }
    assert_eq!(world.server.calls("echo"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_delayed_task_starts_no_sooner() {
    let world = World::working();
    let began = Instant::now();
    let id = world.submit_task(task("echo").with_delay(Duration::from_secs(120))).await;
    assert_eq!(world.end(id).await.head.state, JobState::Done);
    assert!(began.elapsed() >= Duration::from_secs(120));
    assert!(began.elapsed() < Duration::from_secs(130), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_idempotency_key_names_one_job_and_refuses_another_request() {
    let world = World::working();
    let keyed = || task("echo").with_idempotency_key("k");
    let first = world.orchestrator.submit(&world.who, keyed()).await.unwrap();
    let again = world.orchestrator.submit(&world.who, keyed()).await.unwrap();
    assert_eq!((first.duplicate, again.duplicate), (false, true));
    assert_eq!(first.job.head.id, again.job.head.id);
    let other = keyed().with_input(RawJson::parse(r#"{"x":1}"#).unwrap());
    assert!(matches!(world.orchestrator.submit(&world.who, other).await, Err(EngineError::Conflict { .. })));
    world.end(first.job.head.id).await;
    assert_eq!(world.server.calls("echo"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_repeated_submission_finds_its_job_also_when_nothing_fits_any_more() {
    let clock: Arc<dyn Clock> = Arc::new(PausedClock(Instant::now()));
    let jobs: Arc<dyn JobStore> = Arc::new(MemoryJobStore::new(Arc::clone(&clock)));
    let name = ServerName::new("scripted").unwrap();
    let server = ScriptedTransport::new(name.clone()).simple_tool("echo", "an echo", true);
    let before = Orchestrator::builder()
        .clock(Arc::clone(&clock))
        .jobs(Arc::clone(&jobs))
        .server(name, Arc::new(server))
        .build();
    let keyed = || Task::new("an echo").with_idempotency_key("k");
    let who = Principal::local();
    let first = before.submit(&who, keyed()).await.unwrap();
    let after = Orchestrator::builder().clock(clock).jobs(jobs).build();
    let again = after.submit(&who, keyed()).await.unwrap();
    assert_eq!((again.job.head.id, again.duplicate), (first.job.head.id, true));
    assert!(matches!(after.submit(&who, keyed().with_priority(1)).await, Err(EngineError::Conflict { .. })));
    let stranger = Principal::new(who.tenant.clone(), "somebody");
    assert!(matches!(after.submit(&stranger, keyed()).await, Err(EngineError::Conflict { .. })));
}

#[derive(Debug)]
struct Panics(LexicalMatcher);

#[async_trait]
impl CapabilityMatcher for Panics {
    async fn rank(&self, who: &Principal, need: &Need, catalog: &Catalog) -> Result<Route, MatchError> {
        self.0.rank(who, need, catalog).await
    }

    async fn observe(&self, _: &Outcome) -> Result<(), MatchError> {
        panic!("simulated");
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_work_panics_is_lost_and_ends() {
    let name = ServerName::new("scripted").unwrap();
    let server = ScriptedTransport::new(name.clone()).simple_tool("echo", "an echo", true);
    let orchestrator = Orchestrator::builder()
        .clock(Arc::new(PausedClock(Instant::now())))
        .matcher(Arc::new(Panics(LexicalMatcher::new())))
        .server(name, Arc::new(server))
        .build();
    let _worker = orchestrator.worker(WorkerOptions::default());
    let who = Principal::local();
    let id = orchestrator.submit(&who, Task::new("an echo")).await.unwrap().job.head.id;
    let job = orchestrator.wait(&who, id, LONG).await.unwrap();
    assert_eq!((job.head.state, code(&job)), (JobState::Dead, Some(JobErrorCode::Lost)));
}

#[tokio::test(start_paused = true)]
async fn a_result_that_cannot_be_kept_is_told_and_the_tool_is_not_called_again() {
    let clock: Arc<dyn Clock> = Arc::new(PausedClock(Instant::now()));
    let name = ServerName::new("scripted").unwrap();
    let server = ScriptedTransport::new(name.clone()).simple_tool("echo", "an echo", true);
    let orchestrator = Orchestrator::builder()
        .clock(clock)
        .results(Arc::new(MemoryResultStore::with_bytes_max(8)))
        .server(name, Arc::new(server.clone()))
        .build();
    let _worker = orchestrator.worker(WorkerOptions::default());
    let who = Principal::local();
    let id = orchestrator.submit(&who, Task::new("an echo")).await.unwrap().job.head.id;
    let job = orchestrator.wait(&who, id, LONG).await.unwrap();
    assert_eq!((job.head.state, code(&job)), (JobState::Dead, Some(JobErrorCode::Internal)));
    assert!(job.head.error.unwrap().message.contains("cannot be kept"));
    assert_eq!(server.calls("echo"), 1);
}

#[tokio::test(start_paused = true)]
async fn progress_is_seen_in_the_job_and_in_events() {
    let world = World::working();
    let half = Progress { value: 1.0, total: Some(2.0), message: Some("half".to_owned()) };
    world.server.script("echo", [Step::Progress(half.clone()), Step::Delay(Duration::from_secs(5))]);
    let id = world.submit("echo").await;
    world.until_called("echo").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let job = world.orchestrator.get(&world.who, id).await.unwrap();
    assert_eq!(job.head.progress, Some(half.clone()));
    assert!(world.kinds(id).await.contains(&EventKind::Progress(half)));
    assert_eq!(world.end(id).await.head.state, JobState::Done);
}

#[tokio::test(start_paused = true)]
async fn a_question_parks_the_job_until_the_right_answer_comes() {
    let world = World::working();
    let ask = InputRequest { key: "name".to_owned(), request: r#"{"method":"elicitation/create"}"#.to_owned() };
    world.server.script("pay", [Step::NeedsInput(vec![ask]), Step::Done("paid".to_owned())]);
    let id = world.submit("pay").await;
    let parked = world.end(id).await;
    assert_eq!(parked.head.state, JobState::Input);
    assert!(matches!(world.kinds(id).await.last(), Some(EventKind::InputRequired { keys }) if keys == &["name"]));
    let answer = |text: &str| Answer { responses: text.to_owned() };
    for wrong in ["[]", "{}", r#"{"nome":1}"#] {
        let refused = world.orchestrator.answer(&world.who, id, answer(wrong)).await.unwrap_err();
        assert!(refused.to_string().contains("name"), "{refused}");
    }
    world.orchestrator.answer(&world.who, id, answer(r#"{"name":"Ada"}"#)).await.unwrap();
    assert_eq!(world.end(id).await.head.state, JobState::Done);
    assert_eq!(world.server.calls("pay"), 1, "the call is gone on with, not made again");
    let late = world.orchestrator.answer(&world.who, id, answer(r#"{"name":"Ada"}"#)).await;
    assert!(matches!(late, Err(EngineError::State { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_remote_task_is_polled_and_holds_no_worker_meanwhile() {
    let mut world = World::idle();
    world.worker = Some(world.orchestrator.worker(WorkerOptions::default().with_concurrency(1)));
    let working = || Step::Working { task: "t1".to_owned(), poll_after: Duration::from_secs(10) };
    world.server.script("pay", [working(), working(), Step::Done("paid".to_owned())]);
    let slow = world.submit("pay").await;
    world.until_called("pay").await;
    let quick = world.submit("echo").await;
    assert_eq!(world.end(quick).await.head.state, JobState::Done);
    assert!(!world.orchestrator.get(&world.who, slow).await.unwrap().head.state.is_final());
    assert_eq!(world.end(slow).await.head.state, JobState::Done);
    assert_eq!(world.server.calls("pay"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failing_poll_asks_again_and_never_calls_again() {
    let world = World::working();
    let working = Step::Working { task: "t1".to_owned(), poll_after: Duration::from_secs(1) };
    let broken = Step::Fail(TransportErrorKind::Closed, Delivered::Maybe);
    world.server.script("pay", [working, Step::Fail(TransportErrorKind::Timeout, Delivered::No), broken]);
    let id = world.submit("pay").await;
    let job = world.end(id).await;
    assert_eq!(job.head.state, JobState::Done, "{:?}", job.head.error);
    assert_eq!(world.server.calls("pay"), 1);
}

#[tokio::test(start_paused = true)]
async fn remote_work_is_stopped_when_its_job_ends_without_it() {
    let world = World::working();
    let working = Step::Working { task: "t1".to_owned(), poll_after: Duration::from_secs(1) };
    let broken = std::iter::repeat_n(Step::Fail(TransportErrorKind::Timeout, Delivered::No), 8);
    world.server.script("pay", std::iter::once(working).chain(broken));
    let id = world.submit("pay").await;
    let job = world.end(id).await;
    assert_eq!(job.head.state, JobState::Dead, "{:?}", job.head.error);
    let stopped = async {
        while !world.server.seen().iter().any(|seen| matches!(seen, Seen::Cancel(_))) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LONG, stopped).await.expect("the server is told");
}

#[tokio::test(start_paused = true)]
async fn a_drain_gives_the_attempt_back_and_another_worker_finishes() {
    let mut world = World::working();
    world.server.script("echo", [Step::Hang]);
    let id = world.submit("echo").await;
    world.until_called("echo").await;
    world.worker.take().unwrap().drain(Duration::from_secs(5)).await;
    let job = world.orchestrator.get(&world.who, id).await.unwrap();
    assert_eq!((job.head.state, job.head.attempts, job.head.lost), (JobState::Ready, 0, 0));
    assert!(job.head.maybe_called);
    world.start();
    let job = world.end(id).await;
    assert_eq!((job.head.state, job.head.attempts), (JobState::Done, 0));
}

#[tokio::test(start_paused = true)]
async fn a_drain_never_repeats_a_call_that_is_not_safe_to_repeat() {
    let mut world = World::working();
    world.server.script("pay", [Step::Hang]);
    let id = world.submit("pay").await;
    world.until_called("pay").await;
    world.worker.take().unwrap().drain(Duration::ZERO).await;
    world.start();
    let job = world.end(id).await;
    assert_eq!((job.head.state, code(&job)), (JobState::Dead, Some(JobErrorCode::OutcomeUnknown)));
    assert_eq!(world.server.calls("pay"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_cannot_be_reached_is_told_and_tried_again_later() {
    let world = World::working();
    world.server.refuse_connects(1);
    let refused = world.orchestrator.submit(&world.who, task("echo")).await.unwrap_err();
    assert!(refused.to_string().contains("is down"), "{refused}");
    assert!(world.orchestrator.servers()[0].last_failure.is_some());
    // Matching does not wait for a server that failed; a call, or somebody who asks for it again, connects after the pause.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let id = world.submit("echo").await;
    assert_eq!(world.end(id).await.head.state, JobState::Done);
    assert!(world.orchestrator.servers()[0].last_failure.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_closes_is_made_anew() {
    let world = World::working();
    world.server.script("echo", [Step::Close(Delivered::No)]);
    let id = world.submit("echo").await;
    assert_eq!(world.end(id).await.head.state, JobState::Done);
    assert_eq!(world.server.seen().iter().filter(|seen| **seen == Seen::Connect).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_a_server_adds_is_found_without_a_restart() {
    let world = World::working();
    let before = world.submit("echo").await;
    world.end(before).await;
    world.server.add_tool(serde_json::json!({ "name": "sing", "description": "sings a song" }));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let id = world.submit_task(Task::new("sing a song")).await;
    assert_eq!(world.end(id).await.body.route.candidates[0].capability.to_string(), "scripted/sing");
}

#[tokio::test(start_paused = true)]
async fn long_calls_keep_their_lease() {
    let world = World::working();
    world.server.script("pay", [Step::Delay(Duration::from_secs(600))]);
    let id = world.submit("pay").await;
    let job = world.end(id).await;
    assert_eq!((job.head.state, job.head.lost, job.head.epoch), (JobState::Done, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_bad_range_is_refused_and_a_good_one_answers_its_part() {
    use metamcp_core::result::ByteRange;
    let world = World::working();
    let id = world.submit("echo").await;
    let pointer = world.end(id).await.head.result.unwrap();
    let read = |start, len| world.orchestrator.result(&world.who, &pointer, Some(ByteRange { start, len }));
    let part = read(1, 4).await.unwrap();
    assert_eq!(part.bytes.len(), 4);
    assert!(matches!(read(part.total + 1, 4).await, Err(EngineError::Invalid(_))));
    let mut forged = pointer.clone();
    forged.digest = metamcp_core::pointer::Digest::of(b"another body");
    assert!(matches!(world.orchestrator.result(&world.who, &forged, None).await, Err(EngineError::NotFound { .. })));
}

#[tokio::test(start_paused = true)]
async fn an_input_that_is_json_and_cannot_be_read_is_refused_with_what_is_wrong() {
    let world = World::idle();
    let deep = format!(r#"{{"n":{}{}}}"#, "[".repeat(130), "]".repeat(130));
    for (input, why) in [
        (r#"{"n":1e400}"#, "number out of range"),
        (r#"{"n":"\ud800"}"#, "surrogate"),
        (deep.as_str(), "recursion limit"),
    ] {
        let by_name = Task::new("").with_tool("scripted/echo".parse().unwrap());
        for task in [Task::new("an echo"), by_name] {
            let task = task.with_input(RawJson::parse(input).unwrap());
            let refused = world.orchestrator.submit(&world.who, task).await.unwrap_err();
            let told = matches!(&refused, EngineError::Invalid(e) if e.field == "input" && e.mend.contains(why));
            assert!(told, "{refused}");
        }
    }
}
