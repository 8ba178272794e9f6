//! What the matcher learned from the outcomes of a tenant's tasks: shown, taken in, and removed again when it is mistaken.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{RawQuery, State},
};
use metamcp_core::{
    auth::Principal,
    engine::EngineError,
    id::{CapabilityId, JobId},
    matching::{HistoryKeeper, Lesson, LessonFilter},
};

use super::{
    doc::{LessonPage, LessonsChanged, Moment, NewLessonsDocument, ProblemDocument, ProblemKind},
    extract::Document,
    params::Params,
    problem::Problem,
    state::ApiState,
};

/// Lessons on a page, unless asked otherwise.
const PAGE_DEFAULT: u16 = 100;
/// The parameters that say which lessons are meant.
const FILTER: [&str; 5] = ["tool", "job", "subject", "since", "before"];

type Who = Extension<Principal>;
type Answered<T> = Result<Document<T>, Problem>;

/// List what was learned, the newest first.
#[utoipa::path(
    get, path = "/api/history", tag = "history", operation_id = "listLessons",
    params(
        ("tool" = Option<String>, Query, description = "only of this tool, as `server/name`"),
        ("job" = Option<String>, Query, description = "only of this task"),
        ("subject" = Option<String>, Query, description = "only of this subject"),
        ("since" = Option<String>, Query, description = "only at this instant or later"),
        ("before" = Option<String>, Query, description = "only before this instant"),
        ("limit" = Option<u16>, Query, description = "most lessons on the page, 100 unless given", minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the last page"),
    ),
    responses(
        (status = 200, description = "one page", body = LessonPage),
        (status = "4XX", description = "a parameter is not valid", body = ProblemDocument, content_type = "application/problem+json"),
        (status = "5XX", description = "the store cannot be read", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    Extension(who): Who,
    RawQuery(query): RawQuery,
) -> Answered<LessonPage> {
    let params = Params::parse(query.as_deref(), &[&FILTER[..], &["limit", "cursor"]].concat())?;
    let filter = filter(&params)?;
    let limit = usize::from(params.limit(PAGE_DEFAULT, state.options().page_max)?);
    let after = params.text("cursor")?.map(place).transpose()?;
    let keeper = keeper(&state)?;
    keeper.refresh().await.map_err(EngineError::from)?;
    let lessons = keeper.history().lessons(&who.tenant);
    let left = lessons.iter().filter(|lesson| after.as_ref().is_none_or(|after| key(lesson) < *after));
    let mut wanted = left.filter(|lesson| filter.admits(lesson));
    let page: Vec<&Lesson> = wanted.by_ref().take(limit).collect();
    let next_cursor = wanted.next().and(page.last()).map(|last| cursor(last));
    Ok(Document(LessonPage { lessons: page.into_iter().cloned().map(Into::into).collect(), next_cursor }))
}

/// Take in lessons, such as those of another server.
#[utoipa::path(
    post, path = "/api/history", tag = "history", operation_id = "addLessons", request_body = NewLessonsDocument,
    responses(
        (status = 200, description = "how many of them were new", body = LessonsChanged),
        (status = "4XX", description = "they are refused", body = ProblemDocument, content_type = "application/problem+json"),
        (status = "5XX", description = "the store cannot take them", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn add(
    State(state): State<ApiState>,
    Extension(who): Who,
    Document(new): Document<NewLessonsDocument>,
) -> Answered<LessonsChanged> {
    let keeper = keeper(&state)?;
    let now = state.now();
    // All others would fade against a lesson from the future.
    if let Some(at) = new.lessons.iter().position(|lesson| lesson.at > now) {
        let (field, mend) = (format!("lessons[{at}].at"), "must not lie in the future");
        return Err(Problem::new(ProblemKind::InvalidField, format!("{field}: {mend}")).with_field(field, mend));
    }
    keeper.refresh().await.map_err(EngineError::from)?;
    let learned = new.lessons.into_iter().filter(|lesson| keeper.learn(&who.tenant, lesson.clone().into())).count();
    keeper.flush().await.map_err(EngineError::from)?;
    Ok(Document(LessonsChanged { lessons: learned }))
}

/// Remove lessons: needs are routed as if they had never been learned.
#[utoipa::path(
    delete, path = "/api/history", tag = "history", operation_id = "removeLessons",
    params(
        ("tool" = Option<String>, Query, description = "those of this tool, as `server/name`"),
        ("job" = Option<String>, Query, description = "those of this task"),
        ("subject" = Option<String>, Query, description = "those of this subject"),
        ("since" = Option<String>, Query, description = "those at this instant or later"),
        ("before" = Option<String>, Query, description = "those before this instant"),
        ("all" = Option<bool>, Query, description = "`true` to remove everything"),
    ),
    responses(
        (status = 200, description = "how many were removed", body = LessonsChanged),
        (status = "4XX", description = "a parameter is not valid, or nothing says which are meant", body = ProblemDocument, content_type = "application/problem+json"),
        (status = "5XX", description = "the store cannot be written", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn remove(
    State(state): State<ApiState>,
    Extension(who): Who,
    RawQuery(query): RawQuery,
) -> Answered<LessonsChanged> {
    let params = Params::parse(query.as_deref(), &[&FILTER[..], &["all"]].concat())?;
    let filter = filter(&params)?;
    let all = params.value::<bool>("all")?.unwrap_or(false);
    if all == (filter != LessonFilter::default()) {
        return Err(Problem::parameter("all", format!("say which are meant by {}, or `all=true`", FILTER.join(", "))));
    }
    let removed = keeper(&state)?.remove(&who.tenant, &filter).await.map_err(EngineError::from)?;
    Ok(Document(LessonsChanged { lessons: removed }))
}

fn keeper(state: &ApiState) -> Result<&Arc<HistoryKeeper>, Problem> {
    state.history().ok_or_else(|| Problem::new(ProblemKind::NotFound, "this server keeps no history"))
}

fn filter(params: &Params) -> Result<LessonFilter, Problem> {
    Ok(LessonFilter {
        capability: params.value::<CapabilityId>("tool")?,
        job: params.value::<JobId>("job")?,
        subject: params.text("subject")?.map(str::to_owned),
        since: params.value::<Moment>("since")?.map(|at| at.0),
        before: params.value::<Moment>("before")?.map(|at| at.0),
    })
}

/// What lessons are ordered by.
fn key(lesson: &Lesson) -> (u64, JobId, CapabilityId) {
    (lesson.at.as_millis(), lesson.job, lesson.capability.clone())
}

fn cursor(lesson: &Lesson) -> String {
    format!("{}.{}.{}", lesson.at.as_millis(), lesson.job, lesson.capability)
}

fn place(cursor: &str) -> Result<(u64, JobId, CapabilityId), Problem> {
    let parts = || {
        let mut parts = cursor.splitn(3, '.');
        let at = parts.next()?.parse().ok()?;
        Some((at, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    parts().ok_or_else(|| Problem::parameter("cursor", "must be `next_cursor` of the last page"))
}
