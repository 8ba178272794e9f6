//! A server on a free loopback port with an engine behind it, and the few ways tests speak with it.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use metamcp_core::{
    engine::{Orchestrator, Policy, ServerEntry, Worker, WorkerOptions},
    event::EventBus,
    id::{Lane, ServerName},
    matching::{Annotations, History, HistoryKeeper, LearningMatcher, LexicalMatcher, ServerTerms},
    queue::JobStore,
    record::{MemoryRecordStore, RecordStore},
    testing::scripted::ScriptedTransport,
    time::SystemClock,
    transport::LocalTools,
};
use metamcp_server::{
    api::{
        self, ApiOptions, ApiState,
        doc::{JobDocument, ProblemDocument, ProblemKind},
    },
    serve::{self, Drained, ServeOptions},
};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// Nothing a test waits for may take longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What a test may change before the server starts.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) api: ApiOptions,
    pub(crate) serve: ServeOptions,
    pub(crate) policy: Policy,
    pub(crate) worker: bool,
    pub(crate) jobs: Option<Arc<dyn JobStore>>,
    pub(crate) events: Option<Arc<dyn EventBus>>,
}

/// A running server.
#[derive(Debug)]
pub(crate) struct House {
    pub(crate) address: SocketAddr,
    /// The server `desk`, whose tools do what the test says: `say`, `ask`, `hold`.
    pub(crate) desk: ScriptedTransport,
    pub(crate) drain: CancellationToken,
    stop: CancellationToken,
    serving: JoinHandle<io::Result<Drained>>,
    _worker: Option<Worker>,
    http: Client,
}

impl House {
    /// With everything at its default.
    pub(crate) async fn open() -> Self {
        Self::with(|_| ()).await
    }

    /// With a plan of the test's own.
    pub(crate) async fn with(change: impl FnOnce(&mut Plan)) -> Self {
        let mut policy = Policy::default();
        policy.heartbeat = Duration::from_millis(20);
        policy.backoff_base = Duration::from_millis(5);
        let mut plan = Plan {
            api: ApiOptions::default(),
            serve: ServeOptions::default(),
            policy,
            worker: true,
            jobs: None,
            events: None,
        };
        change(&mut plan);
        let drain = plan.serve.drain.clone();
        plan.api.drain = drain.clone();

        let desk = desk();
        let mut builder = Orchestrator::builder()
            .policy(plan.policy)
            .server(ServerName::new("desk").unwrap(), Arc::new(desk.clone()))
            .servers([local()]);
        if let Some(jobs) = plan.jobs {
            builder = builder.jobs(jobs);
        }
        if let Some(events) = plan.events {
            builder = builder.events(events);
        }
        let records: Arc<dyn RecordStore> = Arc::new(MemoryRecordStore::new(Arc::new(SystemClock::default())));
        let keeper = Arc::new(HistoryKeeper::new(Arc::new(History::new()), Arc::clone(&records)));
        let matcher = LearningMatcher::kept(Arc::new(LexicalMatcher::new()), Arc::clone(&keeper));
        let engine = builder.records(records).matcher(Arc::new(matcher)).build();
        let worker = plan.worker.then(|| engine.worker(WorkerOptions::default()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let app = api::router(ApiState::new(engine, plan.api).with_history(keeper));
        let serving = tokio::spawn(serve::run(listener, app, plan.serve, stop.clone().cancelled_owned()));
        let http = Client::builder().timeout(PATIENCE).no_proxy().build().unwrap();
        Self { address, desk, drain, stop, serving, _worker: worker, http }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.http.get(self.url(path))
    }

    pub(crate) fn head(&self, path: &str) -> RequestBuilder {
        self.http.head(self.url(path))
    }

    pub(crate) fn delete(&self, path: &str) -> RequestBuilder {
        self.http.delete(self.url(path))
    }

    /// A PUT with this JSON text as it is.
    #[expect(clippy::needless_pass_by_value, reason = "a body made in place reads better")]
    pub(crate) fn put(&self, path: &str, body: impl ToString) -> RequestBuilder {
        self.http.put(self.url(path)).header("content-type", "application/json").body(body.to_string())
    }

    /// A POST with this JSON text as it is.
    #[expect(clippy::needless_pass_by_value, reason = "a body made in place reads better")]
    pub(crate) fn post(&self, path: &str, body: impl ToString) -> RequestBuilder {
        self.http.post(self.url(path)).header("content-type", "application/json").body(body.to_string())
    }

    /// Submits a task and reads the job, whatever the status of success.
    pub(crate) async fn submit(&self, task: Value) -> JobDocument {
        json_of(self.post("/api/tasks/create", task).send().await.unwrap()).await
    }

    /// The job as it stands.
    pub(crate) async fn task(&self, job: &JobDocument) -> JobDocument {
        json_of(self.get(&format!("/api/tasks/{}", job.id)).send().await.unwrap()).await
    }

    /// The job once it has come this far.
    pub(crate) async fn task_when(&self, job: &JobDocument, far: impl Fn(&JobDocument) -> bool) -> JobDocument {
        bounded("the task", async {
            loop {
                let now = self.task(job).await;
                if far(&now) {
                    return now;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }

    /// Sends bytes as they are and reads until the server closes.
    pub(crate) async fn raw(&self, request: &str) -> String {
        bounded("the answer", async {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            String::from_utf8(answer).unwrap()
        })
        .await
    }

    /// Begins to stop; the drain goes on in the background.
    pub(crate) fn begin_stop(&self) {
        self.stop.cancel();
    }

    /// Stops and waits for the end of the drain.
    pub(crate) async fn stop(self) -> Drained {
        self.stop.cancel();
        bounded("the drain", self.serving).await.unwrap().unwrap()
    }
}

fn desk() -> ScriptedTransport {
    let strict = json!({
        "name": "measure", "description": "measures the length of a rope in metres",
        "inputSchema": { "type": "object", "required": ["rope"], "properties": { "rope": { "type": "string" } } },
    });
    ScriptedTransport::new(ServerName::new("desk").unwrap())
        .simple_tool("say", "says a friendly greeting", true)
        .simple_tool("ask", "asks the owner for permission", true)
        .simple_tool("hold", "holds the line for a long while", true)
        .tool(strict)
}

/// The server `local`, in the lane of heavy tools.
fn local() -> ServerEntry {
    let name = ServerName::new("local").unwrap();
    let hints = Annotations { read_only_hint: Some(true), ..Annotations::default() };
    let echo = LocalTools::new(name.clone()).tool(
        "echo",
        "echoes its arguments back",
        json!({ "type": "object" }),
        hints,
        async |arguments, _| Ok(arguments),
    );
    let terms = ServerTerms { lane: Some(Lane::heavy()), ..ServerTerms::default() };
    ServerEntry { name, terms, connector: Arc::new(echo) }
}

/// Waits for what must come.
pub(crate) async fn bounded<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not come"),
    }
}

/// The document of a successful answer.
pub(crate) async fn json_of<T: serde::de::DeserializeOwned>(response: Response) -> T {
    let (status, text) = (response.status(), response.text().await.unwrap());
    assert!(status.is_success(), "{status}: {text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The problem of a refused request; every member that repeats the status must agree.
pub(crate) async fn problem_of(request: RequestBuilder, kind: ProblemKind) -> ProblemDocument {
    let response = request.send().await.unwrap();
    let status = response.status();
    assert_eq!(response.headers()["content-type"], "application/problem+json", "{status}");
    let retry_after = response.headers().contains_key("retry-after");
    let text = response.text().await.unwrap();
    let problem: ProblemDocument = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(problem.kind, kind, "{text}");
    assert_eq!((problem.status, problem.title.as_str()), (kind.status(), kind.title()));
    assert_eq!(StatusCode::from_u16(problem.status).unwrap(), status);
    assert_eq!(retry_after, matches!(status.as_u16(), 429 | 503), "{text}");
    problem
}
