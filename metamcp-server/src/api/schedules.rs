//! Schedules: tasks that recur. Any worker on the same stores fires them.

use std::str::FromStr;

use axum::{
    Extension,
    extract::{RawQuery, State},
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use metamcp_core::{
    auth::Principal,
    engine::SCHEDULE_NAME_BYTES_MAX,
    id::{InvalidName, NAME_BYTES_MAX},
};

use super::{
    doc::{JobDocument, ProblemDocument, ProblemKind, ScheduleDocument, SchedulePage, ScheduleTerms},
    extract::{Document, Named},
    params::Params,
    problem::Problem,
    state::ApiState,
};

/// Schedules on a page, unless asked otherwise.
const PAGE_DEFAULT: u16 = 50;

type Who = Extension<Principal>;
type Answered<T> = Result<Document<T>, Problem>;

/// A name that a schedule may have.
#[derive(Debug, Clone)]
pub(super) struct ScheduleName(String);

impl FromStr for ScheduleName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if !text.is_empty() && text.len() <= SCHEDULE_NAME_BYTES_MAX && text.chars().all(fits) {
            return Ok(Self(text.to_owned()));
        }
        let value = text.chars().take(NAME_BYTES_MAX).collect();
        Err(InvalidName { what: "schedule name", value, rule: "1 to 64 of a-z A-Z 0-9 . _ -" })
    }
}

/// Make a schedule, or change the one of this name.
///
/// When it fires next is counted from now.
#[utoipa::path(
    put, path = "/api/schedules/{name}", tag = "schedules", operation_id = "putSchedule", request_body = ScheduleTerms,
    params(("name" = String, Path, description = "the schedule")),
    responses(
        (status = 200, description = "the schedule as it now stands", body = ScheduleDocument),
        (status = "4XX", description = "it is refused", body = ProblemDocument, content_type = "application/problem+json"),
        (status = "5XX", description = "the server cannot take it", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn put(
    State(state): State<ApiState>,
    Extension(who): Who,
    Named(name): Named<ScheduleName>,
    Document(terms): Document<ScheduleTerms>,
) -> Answered<ScheduleDocument> {
    let refuse = |field: &str, mend: &str| {
        Problem::new(ProblemKind::InvalidField, format!("{field}: {mend}")).with_field(field, mend)
    };
    if terms.task.not_before.is_some() {
        return Err(refuse("task.not_before", "leave it out; `cron` says when"));
    }
    if terms.task.wait_ms.is_some() {
        return Err(refuse("task.wait_ms", "leave it out; nobody waits for a task that recurs"));
    }
    let task = terms.task.clone().into_task(state.now());
    let schedule = state.engine().put_schedule(&who, terms.into_schedule(name.0, task)).await?;
    Ok(Document((&schedule).into()))
}

/// Read a schedule.
#[utoipa::path(
    get, path = "/api/schedules/{name}", tag = "schedules", operation_id = "getSchedule",
    params(("name" = String, Path, description = "the schedule")),
    responses(
        (status = 200, description = "the schedule as it stands", body = ScheduleDocument),
        (status = "4XX", description = "not there, or not the caller's", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn show(
    State(state): State<ApiState>,
    Extension(who): Who,
    Named(name): Named<ScheduleName>,
) -> Answered<ScheduleDocument> {
    let schedule = state.engine().schedule(&who, &name.0).await?;
    Ok(Document((&schedule).into()))
}

/// Delete a schedule; its tasks stay.
#[utoipa::path(
    delete, path = "/api/schedules/{name}", tag = "schedules", operation_id = "deleteSchedule",
    params(("name" = String, Path, description = "the schedule")),
    responses(
        (status = 204, description = "it is gone"),
        (status = "4XX", description = "not there, or not the caller's", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn delete(
    State(state): State<ApiState>,
    Extension(who): Who,
    Named(name): Named<ScheduleName>,
) -> Result<StatusCode, Problem> {
    state.engine().delete_schedule(&who, &name.0).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// List the caller's schedules, ordered by name.
#[utoipa::path(
    get, path = "/api/schedules", tag = "schedules", operation_id = "listSchedules",
    params(
        ("limit" = Option<u16>, Query, description = "most schedules on the page, 50 unless given", minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the last page"),
    ),
    responses(
        (status = 200, description = "one page", body = SchedulePage),
        (status = "4XX", description = "a parameter is not valid", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    Extension(who): Who,
    RawQuery(query): RawQuery,
) -> Answered<SchedulePage> {
    let params = Params::parse(query.as_deref(), &["limit", "cursor"])?;
    let after = params.value::<ScheduleName>("cursor")?;
    let limit = params.limit(PAGE_DEFAULT, state.options().page_max)?;
    let page = state.engine().schedules(&who, after.as_ref().map(|name| name.0.as_str()), limit).await?;
    let next = page.last().filter(|_| page.len() == usize::from(limit));
    let next_cursor = next.map(|last| last.terms.name.clone());
    Ok(Document(SchedulePage { schedules: page.iter().map(Into::into).collect(), next_cursor }))
}

/// Pause a schedule: it does not fire until it is resumed.
#[utoipa::path(
    post, path = "/api/schedules/{name}/pause", tag = "schedules", operation_id = "pauseSchedule",
    params(("name" = String, Path, description = "the schedule")),
    responses(
        (status = 200, description = "the schedule as it now stands", body = ScheduleDocument),
        (status = "4XX", description = "not there, or not the caller's", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn pause(
    State(state): State<ApiState>,
    Extension(who): Who,
    Named(name): Named<ScheduleName>,
) -> Answered<ScheduleDocument> {
    let schedule = state.engine().pause_schedule(&who, &name.0, true).await?;
    Ok(Document((&schedule).into()))
}

/// Resume a paused schedule. What would have been due in between is not made up for.
#[utoipa::path(
    post, path = "/api/schedules/{name}/resume", tag = "schedules", operation_id = "resumeSchedule",
    params(("name" = String, Path, description = "the schedule")),
    responses(
        (status = 200, description = "the schedule as it now stands", body = ScheduleDocument),
        (status = "4XX", description = "not there, or not the caller's", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn resume(
    State(state): State<ApiState>,
    Extension(who): Who,
    Named(name): Named<ScheduleName>,
) -> Answered<ScheduleDocument> {
    let schedule = state.engine().pause_schedule(&who, &name.0, false).await?;
    Ok(Document((&schedule).into()))
}

/// Submit the task of a schedule now.
///
/// When it fires next does not change; a paused one can be fired too.
#[utoipa::path(
    post, path = "/api/schedules/{name}/fire", tag = "schedules", operation_id = "fireSchedule",
    params(("name" = String, Path, description = "the schedule")),
    responses(
        (status = 202, description = "its task was accepted; `Location` says where to read it", body = JobDocument),
        (status = "4XX", description = "not there, or its task is refused", body = ProblemDocument, content_type = "application/problem+json"),
        (status = "5XX", description = "the server cannot take it", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn fire(
    State(state): State<ApiState>,
    Extension(who): Who,
    Named(name): Named<ScheduleName>,
) -> Result<Response, Problem> {
    let job = state.engine().fire_schedule(&who, &name.0).await?.job;
    let location = format!("/api/tasks/{}", job.head.id);
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Document(JobDocument::from(&job))).into_response())
}
