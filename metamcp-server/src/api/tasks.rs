//! Tasks: submit, list, read, cancel, retry, answer, explain, and the dry run of a route.

use std::time::Duration;

use axum::{
    Extension,
    extract::{RawQuery, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use metamcp_core::{
    auth::Principal,
    id::JobId,
    queue::{Answer, Job, JobQuery},
    task::InvalidTask,
};

use super::{
    doc::{
        AnswerDocument, CancelDocument, ExplainDocument, JobDocument, NeedDocument, ProblemDocument, ProblemKind,
        RouteDocument, TaskDocument, TaskPage, TaskState,
    },
    extract::{Document, Named, OptionalDocument, idempotency_key},
    params::Params,
    problem::Problem,
    state::ApiState,
};

/// Tasks on a page, unless asked otherwise.
const PAGE_DEFAULT: u16 = 50;
/// Reason of a cancel that names none.
pub(super) const CANCELLED_BY_OWNER: &str = "cancelled by its owner";

type Who = Extension<Principal>;
type Answered<T> = Result<Document<T>, Problem>;

/// Submit a task.
///
/// The task is durable before this answers. 202 with the job, or 200 when it ended within `wait_ms` or, for a repeated idempotency key, before.
#[utoipa::path(
    post, path = "/api/tasks/create", tag = "tasks", operation_id = "createTask", request_body = TaskDocument,
    params(("Idempotency-Key" = Option<String>, Header, description = "the same as `idempotency_key`")),
    responses(
        (status = 200, description = "it has ended", body = JobDocument),
        (status = 202, description = "it was accepted; `Location` says where to read it", body = JobDocument),
        (status = "4XX", description = "it is refused", body = ProblemDocument, content_type = "application/problem+json"),
        (status = "5XX", description = "the server cannot take it", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn create(
    State(state): State<ApiState>,
    Extension(who): Who,
    headers: HeaderMap,
    Document(task): Document<TaskDocument>,
) -> Result<Response, Problem> {
    accept(&state, &who, &headers, task).await
}

/// Submit a task.
///
/// The same as `POST /api/tasks/create`.
#[utoipa::path(
    post, path = "/api/tasks", tag = "tasks", operation_id = "submitTask", request_body = TaskDocument,
    params(("Idempotency-Key" = Option<String>, Header, description = "the same as `idempotency_key`")),
    responses(
        (status = 200, description = "it has ended", body = JobDocument),
        (status = 202, description = "it was accepted; `Location` says where to read it", body = JobDocument),
        (status = "4XX", description = "it is refused", body = ProblemDocument, content_type = "application/problem+json"),
        (status = "5XX", description = "the server cannot take it", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn submit(
    State(state): State<ApiState>,
    Extension(who): Who,
    headers: HeaderMap,
    Document(task): Document<TaskDocument>,
) -> Result<Response, Problem> {
    accept(&state, &who, &headers, task).await
}

async fn accept(
    state: &ApiState,
    who: &Principal,
    headers: &HeaderMap,
    mut task: TaskDocument,
) -> Result<Response, Problem> {
    task.idempotency_key = idempotency_key(headers, task.idempotency_key)?;
    let wait = state.wait(task.wait_ms).map_err(|mend| InvalidTask::new("wait_ms", mend))?;
    let submitted = state.engine().submit(who, task.into_task(state.now())).await?;
    let id = submitted.job.head.id;
    let job = match wait_for(state, who, submitted.job.clone(), wait).await {
        Ok(job) => job,
        Err(problem) => {
            // The task is accepted whatever became of the wait: that is what the caller must hear.
            tracing::warn!(job = %id, problem = %problem.document().detail, "wait failed");
            submitted.job
        }
    };
    let status = if job.head.state.is_final() { StatusCode::OK } else { StatusCode::ACCEPTED };
    let document = JobDocument { duplicate: submitted.duplicate, ..JobDocument::from(&job) };
    Ok((status, [(header::LOCATION, format!("/api/tasks/{id}"))], Document(document)).into_response())
}

/// The job after the wait, or as it stood before when the process drains.
async fn wait_for(state: &ApiState, who: &Principal, job: Job, wait: Duration) -> Result<Job, Problem> {
    if wait.is_zero() || job.head.state.is_final() {
        return Ok(job);
    }
    let waiting = state.engine().wait(who, job.head.id, wait);
    match state.options().drain.run_until_cancelled(waiting).await {
        Some(waited) => Ok(waited?),
        None => Ok(job),
    }
}

/// List the caller's tasks, newest first.
#[utoipa::path(
    get, path = "/api/tasks", tag = "tasks", operation_id = "listTasks",
    params(
        ("state" = Option<Vec<TaskState>>, Query, description = "only in these states; repeat it or separate them by commas"),
        ("lane" = Option<String>, Query, description = "only in this lane"),
        ("label" = Option<String>, Query, description = "only with this label, `key:value`"),
        ("limit" = Option<u16>, Query, description = "most tasks on the page, 50 unless given", minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the last page"),
    ),
    responses(
        (status = 200, description = "one page", body = TaskPage),
        (status = "4XX", description = "a parameter is not valid", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    Extension(who): Who,
    RawQuery(query): RawQuery,
) -> Answered<TaskPage> {
    let params = Params::parse(query.as_deref(), &["state", "lane", "label", "limit", "cursor"])?;
    let (mut wanted, mut told) = (JobQuery::default(), Vec::new());
    for word in params.list("state") {
        let Some(known) = TaskState::ALL.into_iter().find(|known| known.as_str() == word) else {
            let words = TaskState::ALL.map(TaskState::as_str).join(", ");
            return Err(Problem::parameter("state", format!("`{word}` is no state; the states are {words}")));
        };
        wanted.states.extend_from_slice(known.of_queue());
        told.push(known);
    }
    wanted.lane = params.value("lane")?;
    wanted.label = match params.text("label")?.map(|label| label.split_once(':')) {
        Some(Some((key, value))) => Some((key.to_owned(), value.to_owned())),
        Some(None) => return Err(Problem::parameter("label", "must be written key:value")),
        None => None,
    };
    wanted.before = params.value("cursor")?;
    wanted.limit = params.limit(PAGE_DEFAULT, state.options().page_max)?;
    let page = state.engine().list(&who, wanted).await?;
    Ok(Document(TaskPage {
        // The queue knows no difference between a job that waits and one whose remote task does: such a page may be short.
        tasks: page
            .jobs
            .iter()
            .filter(|job| told.is_empty() || told.contains(&TaskState::of(&job.head)))
            .map(Into::into)
            .collect(),
        next_cursor: page.next.map(|id| id.to_string()),
    }))
}

/// Read a task, or wait for its end.
#[utoipa::path(
    get, path = "/api/tasks/{id}", tag = "tasks", operation_id = "getTask",
    params(
        ("id" = String, Path, description = "the task"),
        ("wait_ms" = Option<u64>, Query, description = "wait up to so long until it has ended or asks for input", maximum = 60_000),
    ),
    responses(
        (status = 200, description = "the task as it stands", body = JobDocument),
        (status = "4XX", description = "not there, or not the caller's", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn show(
    State(state): State<ApiState>,
    Extension(who): Who,
    Named(id): Named<JobId>,
    RawQuery(query): RawQuery,
) -> Answered<JobDocument> {
    let wait_ms = Params::parse(query.as_deref(), &["wait_ms"])?.value("wait_ms")?;
    let wait = state.wait(wait_ms).map_err(|mend| Problem::parameter("wait_ms", mend))?;
    let job = state.engine().get(&who, id).await?;
    let job = wait_for(&state, &who, job, wait).await?;
    Ok(Document((&job).into()))
}

/// Cancel a task.
///
/// One that nobody works on ends at once; a running one is asked to stop (`cancel_requested`) and may still complete.
#[utoipa::path(
    post, path = "/api/tasks/{id}/cancel", tag = "tasks", operation_id = "cancelTask",
    params(("id" = String, Path, description = "the task")),
    request_body(content = Option<CancelDocument>, description = "may be left out"),
    responses(
        (status = 200, description = "the task as it then stands", body = JobDocument),
        (status = "4XX", description = "not there, or it has ended", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn cancel(
    State(state): State<ApiState>,
    Extension(who): Who,
    Named(id): Named<JobId>,
    OptionalDocument(wish): OptionalDocument<CancelDocument>,
) -> Answered<JobDocument> {
    let reason = if wish.reason.is_empty() { CANCELLED_BY_OWNER } else { &wish.reason };
    let job = state.engine().cancel(&who, id, reason).await?;
    Ok(Document((&job).into()))
}

/// Queue a failed task again.
#[utoipa::path(
    post, path = "/api/tasks/{id}/retry", tag = "tasks", operation_id = "retryTask",
    params(("id" = String, Path, description = "the task")),
    responses(
        (status = 200, description = "the task as it then stands", body = JobDocument),
        (status = "4XX", description = "not there, or it has not failed", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn retry(
    State(state): State<ApiState>,
    Extension(who): Who,
    Named(id): Named<JobId>,
) -> Answered<JobDocument> {
    let job = state.engine().retry(&who, id).await?;
    Ok(Document((&job).into()))
}

/// Answer what a server asks.
#[utoipa::path(
    post, path = "/api/tasks/{id}/answer", tag = "tasks", operation_id = "answerTask", request_body = AnswerDocument,
    params(("id" = String, Path, description = "the task")),
    responses(
        (status = 200, description = "the task as it then stands", body = JobDocument),
        (status = "4XX", description = "not there, nothing is asked, or the answers do not fit", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn answer(
    State(state): State<ApiState>,
    Extension(who): Who,
    Named(id): Named<JobId>,
    Document(answers): Document<AnswerDocument>,
) -> Answered<JobDocument> {
    let answer = Answer { responses: answers.responses.get().to_owned() };
    let job = state.engine().answer(&who, id, answer).await?;
    Ok(Document((&job).into()))
}

/// Tell why a task went where it went.
#[utoipa::path(
    get, path = "/api/tasks/{id}/explain", tag = "tasks", operation_id = "explainTask",
    params(("id" = String, Path, description = "the task")),
    responses(
        (status = 200, description = "ranking, reasons, rejections, attempts", body = ExplainDocument),
        (status = "4XX", description = "not there, or not the caller's", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn explain(
    State(state): State<ApiState>,
    Extension(who): Who,
    Named(id): Named<JobId>,
) -> Answered<ExplainDocument> {
    let job = state.engine().get(&who, id).await?;
    Ok(Document((&job).into()))
}

/// Rank without submitting: the route a task with this need would take.
///
/// An empty list of candidates is an answer: nothing fits.
#[utoipa::path(
    post, path = "/api/route", tag = "tools", operation_id = "route", request_body = NeedDocument,
    responses(
        (status = 200, description = "the ranked route", body = RouteDocument),
        (status = "4XX", description = "the need is not valid", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn route(
    State(state): State<ApiState>,
    Extension(who): Who,
    Document(need): Document<NeedDocument>,
) -> Answered<RouteDocument> {
    let route = state.engine().route(&who, need.into()).await?;
    Ok(Document((&route).into()))
}

/// The problem of a path that knows other methods; the answer's `Allow` names them.
pub(super) async fn method_not_allowed() -> Problem {
    Problem::new(ProblemKind::MethodNotAllowed, "see the header Allow for the methods of this path")
}

/// The problem of a path that names nothing.
pub(super) async fn no_such_path(uri: http::Uri) -> Problem {
    Problem::new(ProblemKind::NoSuchPath, format!("there is nothing at {}; /openapi.json lists the paths", uri.path()))
}
