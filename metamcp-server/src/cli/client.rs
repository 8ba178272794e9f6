//! One client of the REST API for every command. It speaks to a server over HTTP, or to the very same router in this process without any
//! socket; what it sends and reads is the same either way.

use std::{fmt, time::Duration};

use axum::{Router, body::Body};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _, stream::BoxStream};
use http::{Method, StatusCode, header};
use reqwest::Url;
use serde::{Serialize, de::DeserializeOwned};
use sse_stream::SseStream;
use tower::ServiceExt as _;

use crate::api::doc::{
    AnswerDocument, BatchDocument, CancelDocument, EventDocument, JobDocument, LessonDocument, LessonPage,
    LessonsChanged, NeedDocument, NewBatchDocument, NewLessonsDocument, NewPlanDocument, PlanAnswer, ProblemDocument,
    QueueDocument, QueueList, RouteDocument, RunPlanDocument, ScheduleDocument, SchedulePage, ScheduleTerms,
    ServerList, TaskDocument, TaskPage, ToolDocument, ToolPage,
};

/// Longest wait for a connection, in seconds.
const CONNECT_S_MAX: u64 = 5;
/// Longest silence of a server before it is given up, in seconds: well above the heartbeat of its event stream and its slowest answer.
const SILENCE_S_MAX: u64 = 90;
/// Largest document or result that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 96 << 20;
/// Most pages that are read of one list.
const PAGES_MAX: usize = 1_000;
/// The largest page a server gives.
const PAGE_MAX: u32 = 200;

/// A client of a server, or of an engine in this process.
#[derive(Debug, Clone)]
pub(super) struct Client {
    base: Url,
    way: Way,
}

#[derive(Debug, Clone)]
enum Way {
    Http(reqwest::Client),
    InProcess(Router),
}

/// Why a request got no good answer.
#[derive(Debug)]
pub(super) enum ClientError {
    /// The server refused it, and says why.
    Problem(Box<ProblemDocument>),
    /// There is no server, or it went away.
    Unreachable(String),
    /// What came is no answer of a MetaMCP server.
    Strange(String),
}

impl ClientError {
    /// Whether another request would be needed, rather than another try.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Problem(problem) if problem.status < 500)
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Problem(problem) => {
                f.write_str(&problem.detail)?;
                if let Some(mend) = problem.mend.as_ref().filter(|mend| !problem.detail.contains(mend.as_str())) {
                    write!(f, "; {mend}")?;
                }
                if let Some(incident) = &problem.incident {
                    write!(f, " (incident {incident} in the server's log)")?;
                }
                problem.rejected.iter().try_for_each(|r| write!(f, "\n  {} was rejected: {}", r.tool, r.reason))
            }
            Self::Unreachable(why) | Self::Strange(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for ClientError {}

type Result<T> = std::result::Result<T, ClientError>;
type BodyError = std::io::Error;

struct Answer {
    status: StatusCode,
    body: BoxStream<'static, std::result::Result<Bytes, BodyError>>,
}

/// Which tasks to list.
#[derive(Debug, Default)]
pub(super) struct ListQuery {
    pub(super) state: Option<String>,
    pub(super) lane: Option<String>,
    pub(super) label: Option<(String, String)>,
    pub(super) limit: u32,
}

impl Client {
    /// Of the server at this address.
    ///
    /// # Errors
    /// When it is no address of a server.
    pub(super) fn http(address: &str) -> Result<Self> {
        let strange =
            || ClientError::Strange(format!("`{address}` is no address of a server; write http://127.0.0.1:7300"));
        let mut base = Url::parse(address).map_err(|_| strange())?;
        if !matches!(base.scheme(), "http" | "https") || base.cannot_be_a_base() {
            return Err(strange());
        }
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let local =
            base.host_str().is_some_and(|host| host == "localhost" || host.starts_with("127.") || host == "[::1]");
        let builder = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(CONNECT_S_MAX))
            .read_timeout(Duration::from_secs(SILENCE_S_MAX));
        // A proxy that is configured for the internet does not know this machine's own servers.
        let builder = if local { builder.no_proxy() } else { builder };
        let client = builder.build().map_err(|e| ClientError::Unreachable(format!("no HTTP client: {e}")))?;
        Ok(Self { base, way: Way::Http(client) })
    }

    /// Of the router itself.
    pub(super) fn in_process(router: Router) -> Self {
        let base = Url::parse("http://localhost/").expect("it is an address");
        Self { base, way: Way::InProcess(router) }
    }

    /// Whether the server is there and well.
    pub(super) async fn is_alive(&self, wait: Duration) -> bool {
        let answer = tokio::time::timeout(wait, self.send(Method::GET, self.url(&["livez"]), None)).await;
        matches!(answer, Ok(Ok(answer)) if answer.status.is_success())
    }

    pub(super) async fn submit(&self, task: &TaskDocument) -> Result<JobDocument> {
        self.ask(Method::POST, self.url(&["api", "tasks"]), Some(task)).await
    }

    pub(super) async fn task(&self, id: &str) -> Result<JobDocument> {
        self.ask(Method::GET, self.url(&["api", "tasks", id]), None::<&()>).await
    }

    /// At most `limit` tasks, newest first.
    pub(super) async fn tasks(&self, query: &ListQuery) -> Result<Vec<JobDocument>> {
        let wanted = query.limit as usize;
        let mut tasks: Vec<JobDocument> = Vec::new();
        let mut cursor = None::<String>;
        for _ in 0..PAGES_MAX {
            let mut url = self.url(&["api", "tasks"]);
            {
                let mut pairs = url.query_pairs_mut();
                pairs.append_pair("limit", &query.limit.min(PAGE_MAX).to_string());
                let label = query.label.as_ref().map(|(name, value)| format!("{name}:{value}"));
                let optional = [("state", &query.state), ("lane", &query.lane), ("label", &label), ("cursor", &cursor)];
                for (name, value) in optional {
                    if let Some(value) = value {
                        pairs.append_pair(name, value);
                    }
                }
            }
            let page: TaskPage = self.ask(Method::GET, url, None::<&()>).await?;
            tasks.extend(page.tasks);
            cursor = page.next_cursor;
            if cursor.is_none() || tasks.len() >= wanted {
                break;
            }
        }
        tasks.truncate(wanted);
        Ok(tasks)
    }

    pub(super) async fn cancel(&self, id: &str, reason: &str) -> Result<JobDocument> {
        let body = CancelDocument { reason: reason.to_owned() };
        self.ask(Method::POST, self.url(&["api", "tasks", id, "cancel"]), Some(&body)).await
    }

    pub(super) async fn retry(&self, id: &str) -> Result<JobDocument> {
        self.ask(Method::POST, self.url(&["api", "tasks", id, "retry"]), None::<&()>).await
    }

    pub(super) async fn answer(&self, id: &str, answer: &AnswerDocument) -> Result<JobDocument> {
        self.ask(Method::POST, self.url(&["api", "tasks", id, "answer"]), Some(answer)).await
    }

    pub(super) async fn submit_batch(&self, batch: &NewBatchDocument) -> Result<BatchDocument> {
        self.ask(Method::POST, self.url(&["api", "batches", "create"]), Some(batch)).await
    }

    pub(super) async fn batch(&self, id: &str) -> Result<BatchDocument> {
        self.ask(Method::GET, self.url(&["api", "batches", id]), None::<&()>).await
    }

    pub(super) async fn cancel_batch(&self, id: &str, reason: &str) -> Result<BatchDocument> {
        let body = CancelDocument { reason: reason.to_owned() };
        self.ask(Method::POST, self.url(&["api", "batches", id, "cancel"]), Some(&body)).await
    }

    pub(super) async fn queues(&self) -> Result<QueueList> {
        self.ask(Method::GET, self.url(&["api", "queues"]), None::<&()>).await
    }

    pub(super) async fn pause_queue(&self, lane: &str, paused: bool) -> Result<QueueDocument> {
        self.ask(Method::POST, self.url(&["api", "queues", lane, pause_word(paused)]), None::<&()>).await
    }

    /// Every schedule, by name.
    pub(super) async fn schedules(&self) -> Result<Vec<ScheduleDocument>> {
        let mut schedules = Vec::new();
        let mut cursor = None::<String>;
        for _ in 0..PAGES_MAX {
            let mut url = self.url(&["api", "schedules"]);
            if let Some(cursor) = &cursor {
                url.query_pairs_mut().append_pair("cursor", cursor);
            }
            let page: SchedulePage = self.ask(Method::GET, url, None::<&()>).await?;
            schedules.extend(page.schedules);
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        Ok(schedules)
    }

    pub(super) async fn schedule(&self, name: &str) -> Result<ScheduleDocument> {
        self.ask(Method::GET, self.url(&["api", "schedules", name]), None::<&()>).await
    }

    pub(super) async fn put_schedule(&self, name: &str, terms: &ScheduleTerms) -> Result<ScheduleDocument> {
        self.ask(Method::PUT, self.url(&["api", "schedules", name]), Some(terms)).await
    }

    pub(super) async fn pause_schedule(&self, name: &str, paused: bool) -> Result<ScheduleDocument> {
        self.ask(Method::POST, self.url(&["api", "schedules", name, pause_word(paused)]), None::<&()>).await
    }

    pub(super) async fn fire_schedule(&self, name: &str) -> Result<JobDocument> {
        self.ask(Method::POST, self.url(&["api", "schedules", name, "fire"]), None::<&()>).await
    }

    pub(super) async fn delete_schedule(&self, name: &str) -> Result<()> {
        let answer = self.send(Method::DELETE, self.url(&["api", "schedules", name]), None).await?;
        let status = answer.status;
        let body = self.read(answer).await?;
        if status.is_success() { Ok(()) } else { Err(refusal(status, &body)) }
    }

    pub(super) async fn route(&self, need: &NeedDocument) -> Result<RouteDocument> {
        self.ask(Method::POST, self.url(&["api", "route"]), Some(need)).await
    }

    /// At most `wanted` of the lessons that `filter` means, the newest first.
    pub(super) async fn lessons(&self, filter: &[(&str, String)], wanted: usize) -> Result<Vec<LessonDocument>> {
        let mut lessons = Vec::new();
        let mut cursor = None::<String>;
        for _ in 0..PAGES_MAX {
            let mut url = self.url(&["api", "history"]);
            url.query_pairs_mut()
                .append_pair("limit", &PAGE_MAX.to_string())
                .extend_pairs(filter)
                .extend_pairs(cursor.iter().map(|cursor| ("cursor", cursor)));
            let page: LessonPage = self.ask(Method::GET, url, None::<&()>).await?;
            lessons.extend(page.lessons);
            cursor = page.next_cursor;
            if cursor.is_none() || lessons.len() >= wanted {
                break;
            }
        }
        lessons.truncate(wanted);
        Ok(lessons)
    }

    pub(super) async fn add_lessons(&self, new: &NewLessonsDocument) -> Result<LessonsChanged> {
        self.ask(Method::POST, self.url(&["api", "history"]), Some(new)).await
    }

    pub(super) async fn remove_lessons(&self, filter: &[(&str, String)]) -> Result<LessonsChanged> {
        let mut url = self.url(&["api", "history"]);
        url.query_pairs_mut().extend_pairs(filter);
        self.ask(Method::DELETE, url, None::<&()>).await
    }

    pub(super) async fn plan(&self, new: &NewPlanDocument) -> Result<PlanAnswer> {
        self.ask(Method::POST, self.url(&["api", "plans"]), Some(new)).await
    }

    pub(super) async fn run_plan(&self, wish: &RunPlanDocument) -> Result<BatchDocument> {
        self.ask(Method::POST, self.url(&["api", "plans", "run"]), Some(wish)).await
    }

    pub(super) async fn servers(&self) -> Result<ServerList> {
        self.ask(Method::GET, self.url(&["api", "servers"]), None::<&()>).await
    }

    /// Every tool; servers that were never used are started for it.
    pub(super) async fn tools(&self) -> Result<Vec<ToolDocument>> {
        let mut tools = Vec::new();
        let mut cursor = None::<String>;
        for _ in 0..PAGES_MAX {
            let mut url = self.url(&["api", "tools"]);
            if let Some(cursor) = &cursor {
                url.query_pairs_mut().append_pair("cursor", cursor);
            }
            let page: ToolPage = self.ask(Method::GET, url, None::<&()>).await?;
            tools.extend(page.tools);
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        Ok(tools)
    }

    /// The whole body of a result.
    pub(super) async fn result(&self, pointer: &str) -> Result<Bytes> {
        let answer = self.send(Method::GET, self.url(&["api", "results", pointer]), None).await?;
        let status = answer.status;
        let body = self.read(answer).await?;
        if status.is_success() { Ok(body) } else { Err(refusal(status, &body)) }
    }

    /// News of tasks from now on. Events of unknown kinds are skipped; the stream ends with the connection.
    pub(super) async fn events(&self) -> Result<impl Stream<Item = EventDocument> + Send + Unpin + use<>> {
        let answer = self.send(Method::GET, self.url(&["api", "events"]), None).await?;
        if !answer.status.is_success() {
            let status = answer.status;
            return Err(refusal(status, &self.read(answer).await?));
        }
        let events =
            SseStream::from_bytes_stream(answer.body).take_while(|event| std::future::ready(event.is_ok())).filter_map(
                |event| std::future::ready(event.ok().and_then(|event| serde_json::from_str(&event.data?).ok())),
            );
        Ok(events.boxed())
    }

    fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        url.path_segments_mut().expect("the base is an http address").pop_if_empty().extend(segments);
        url
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, url: Url, body: Option<&impl Serialize>) -> Result<T> {
        let body = body.map(|body| serde_json::to_vec(body).expect("documents are JSON").into());
        let answer = self.send(method, url, body).await?;
        let status = answer.status;
        let bytes = self.read(answer).await?;
        if !status.is_success() {
            return Err(refusal(status, &bytes));
        }
        serde_json::from_slice(&bytes).map_err(|error| {
            ClientError::Strange(format!("{} answered a document that is not understood: {error}", self.base))
        })
    }

    async fn send(&self, method: Method, url: Url, body: Option<Bytes>) -> Result<Answer> {
        match &self.way {
            Way::Http(client) => {
                let mut request = client.request(method, url);
                if let Some(body) = body {
                    request = request.header(header::CONTENT_TYPE, "application/json").body(body);
                }
                let answer = request.send().await.map_err(|error| self.unreachable(&error.without_url()))?;
                let status = answer.status();
                Ok(Answer {
                    status,
                    body: answer.bytes_stream().map(|chunk| chunk.map_err(std::io::Error::other)).boxed(),
                })
            }
            Way::InProcess(router) => {
                let mut request =
                    http::Request::builder().method(method).uri(url.as_str()).header(header::HOST, "localhost");
                if body.is_some() {
                    request = request.header(header::CONTENT_TYPE, "application/json");
                }
                let request = request
                    .body(body.map_or_else(Body::empty, Body::from))
                    .expect("an address and a media type make a request");
                let answer = match router.clone().oneshot(request).await {
                    Ok(answer) => answer,
                    Err(never) => match never {},
                };
                let status = answer.status();
                let body =
                    answer.into_body().into_data_stream().map(|chunk| chunk.map_err(std::io::Error::other)).boxed();
                Ok(Answer { status, body })
            }
        }
    }

    async fn read(&self, answer: Answer) -> Result<Bytes> {
        let mut body = answer.body;
        let mut bytes = BytesMut::new();
        while let Some(chunk) = body.next().await {
            bytes.extend_from_slice(&chunk.map_err(|error| self.unreachable(&error))?);
            if bytes.len() > ANSWER_BYTES_MAX {
                return Err(ClientError::Strange(format!("the answer has more than {ANSWER_BYTES_MAX} bytes")));
            }
        }
        Ok(bytes.freeze())
    }

    fn unreachable(&self, error: &(dyn std::error::Error + 'static)) -> ClientError {
        let mut why = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            why = error.to_string();
            cause = error.source();
        }
        ClientError::Unreachable(format!("no answer from {}: {why}; is `metamcp serve` running there?", self.base))
    }
}

/// The last part of a path that pauses, or resumes.
const fn pause_word(paused: bool) -> &'static str {
    if paused { "pause" } else { "resume" }
}

fn refusal(status: StatusCode, body: &[u8]) -> ClientError {
    serde_json::from_slice::<ProblemDocument>(body).map_or_else(
        |_| ClientError::Strange(format!("the server answered {status}, and not as a MetaMCP server would")),
        |problem| ClientError::Problem(Box::new(problem)),
    )
}
