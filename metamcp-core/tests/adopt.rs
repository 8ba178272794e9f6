//! A call that runs already becomes a job: readable at once, kept alive, ended with what comes of it, and given back when it is cut off.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so at once")]

use std::{sync::Arc, time::Duration};

use metamcp_core::{
    auth::Principal,
    engine::{EngineError, Orchestrator, Policy, WorkerOptions},
    id::{CapabilityId, ServerName, TenantId},
    json::RawJson,
    queue::{InputRequest, Job, JobErrorCode, JobState, JobStore, MemoryJobStore, Progress},
    testing::scripted::ScriptedTransport,
    time::SystemClock,
    transport::{Delivered, ToolOutput, ToolReply, TransportError, TransportErrorKind},
};
use tokio::sync::oneshot;

/// Longest anything here may take.
const PATIENCE: Duration = Duration::from_secs(30);

struct World {
    engine: Orchestrator,
    jobs: Arc<MemoryJobStore>,
    who: Principal,
}

type Answer = oneshot::Sender<Result<ToolReply, TransportError>>;

impl World {
    async fn new(policy: Policy) -> Self {
        let name = ServerName::new("scripted").unwrap();
        let server = ScriptedTransport::new(name.clone())
            .simple_tool("echo", "repeats what it is told, an echo", true)
            .simple_tool("pay", "transfers money once, a payment", false);
        let jobs = Arc::new(MemoryJobStore::new(Arc::new(SystemClock::default())));
        let engine =
            Orchestrator::builder().jobs(Arc::clone(&jobs) as _).policy(policy).server(name, Arc::new(server)).build();
        engine.tools().await;
        Self { engine, jobs, who: Principal::local() }
    }

    /// A job for a call that runs, and what lets the call answer.
    async fn adopt(&self, tool: &str) -> (Job, Answer) {
        let adopted = self.engine.adopt(&self.who, &capability(tool), RawJson::empty_object()).await.unwrap();
        let (answer, answered) = oneshot::channel();
        let job = adopted.job().clone();
        let report = adopted.reporter();
        adopted.run(async move {
            report(Progress { value: 1.0, total: None, message: Some("half way".to_owned()) });
            answered.await.unwrap_or_else(|_| std::process::abort())
        });
        (job, answer)
    }

    async fn end(&self, job: &Job) -> Job {
        self.engine.wait(&self.who, job.head.id, PATIENCE).await.unwrap()
    }

    async fn until(&self, job: &Job, what: impl Fn(&Job) -> bool) -> Job {
        let look = async {
            loop {
                let job = self.jobs.get(job.head.id).await.unwrap().unwrap();
                if what(&job) {
                    return job;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, look).await.unwrap()
    }
}

fn capability(tool: &str) -> CapabilityId {
    format!("scripted/{tool}").parse().unwrap()
}

fn done() -> ToolReply {
    ToolReply::Done(ToolOutput::new(RawJson::parse(r#"{"content":[],"n":1.0}"#).unwrap(), false))
}

fn cut() -> TransportError {
    TransportError::new(TransportErrorKind::Closed, Delivered::Maybe, "the connection broke")
}

#[tokio::test]
async fn the_job_is_there_before_its_id_is_told_and_ends_with_the_answer() {
    let world = World::new(Policy::default()).await;
    let (job, answer) = world.adopt("pay").await;
    let held = world.engine.get(&world.who, job.head.id).await.unwrap();
    assert_eq!((held.head.state, held.head.epoch), (JobState::Leased, 1));
    world.until(&job, |job| job.head.progress.is_some()).await;
    answer.send(Ok(done())).unwrap();
    let ended = world.end(&job).await;
    assert_eq!((ended.head.state, ended.head.attempts, ended.head.lost), (JobState::Done, 0, 0));
    let body = world.engine.result(&world.who, &ended.head.result.unwrap(), None).await.unwrap();
    assert_eq!(&*body.bytes, br#"{"content":[],"n":1.0}"#);
}

#[tokio::test]
async fn it_is_its_owners_alone() {
    let world = World::new(Policy::default()).await;
    let (job, _answer) = world.adopt("pay").await;
    let other = Principal::new(TenantId::new("other").unwrap(), "local");
    let refused = world.engine.get(&other, job.head.id).await.unwrap_err();
    assert!(matches!(refused, EngineError::NotFound { .. }));
}

#[tokio::test]
async fn its_lease_is_kept_alive_for_as_long_as_the_call_runs() {
    let policy = |visibility, heartbeat| {
        let mut policy = Policy::default();
        (policy.visibility, policy.heartbeat) = (Duration::from_millis(visibility), Duration::from_millis(heartbeat));
        policy
    };
    let world = World::new(policy(2_000, 200)).await;
    let _worker = world.engine.worker(WorkerOptions::default());
    let (job, answer) = world.adopt("pay").await;
    let first = world.until(&job, |job| job.head.lease_until.is_some()).await.head.lease_until;
    // Well past what the first lease gave it.
    world.until(&job, |job| job.head.lease_until.unwrap().since(first.unwrap()) > Duration::from_secs(3)).await;
    answer.send(Ok(done())).unwrap();
    assert_eq!(world.end(&job).await.head.lost, 0);
}

#[tokio::test]
async fn a_cancel_drops_the_call() {
    let world = World::new(Policy::default()).await;
    let (job, mut answer) = world.adopt("pay").await;
    world.engine.cancel(&world.who, job.head.id, "no longer wanted").await.unwrap();
    tokio::time::timeout(PATIENCE, answer.closed()).await.unwrap();
    assert_eq!(world.end(&job).await.head.state, JobState::Cancelled);
}

#[tokio::test]
async fn a_call_that_may_have_happened_is_not_made_again() {
    let world = World::new(Policy::default()).await;
    let _worker = world.engine.worker(WorkerOptions::default());
    let (job, answer) = world.adopt("pay").await;
    answer.send(Err(cut())).unwrap();
    let ended = world.end(&job).await;
    assert_eq!(ended.head.state, JobState::Dead);
    assert_eq!(ended.head.error.unwrap().code, JobErrorCode::OutcomeUnknown);
}

#[tokio::test]
async fn a_question_parks_the_job() {
    let world = World::new(Policy::default()).await;
    let (job, answer) = world.adopt("pay").await;
    let checkpoint = metamcp_core::queue::Checkpoint { text: "{}".to_owned(), replay_safe: false };
    let request = InputRequest { key: "a".to_owned(), request: r#"{"method":"elicitation/create"}"#.to_owned() };
    answer.send(Ok(ToolReply::NeedsInput { checkpoint, requests: vec![request.clone()] })).unwrap();
    let asked = world.end(&job).await;
    assert_eq!((asked.head.state, asked.head.requests), (JobState::Input, vec![request]));
}

#[tokio::test]
async fn closing_gives_the_job_back() {
    let world = World::new(Policy::default()).await;
    let (job, mut answer) = world.adopt("pay").await;
    world.engine.close().await;
    answer.closed().await;
    let head = world.jobs.get(job.head.id).await.unwrap().unwrap().head;
    assert_eq!((head.state, head.maybe_called, head.lost), (JobState::Ready, true, 0));
}

#[tokio::test]
async fn what_is_not_known_is_not_adopted() {
    let world = World::new(Policy::default()).await;
    let refused = world.engine.adopt(&world.who, &capability("missing"), RawJson::empty_object()).await.unwrap_err();
    assert!(matches!(refused, EngineError::NotFound { what: "tool" }));
}
