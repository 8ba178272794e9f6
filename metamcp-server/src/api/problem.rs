//! How every failure is answered: a [`Problem`] carries the document, and knows which of the engine's errors is which problem.
//!
//! Failures of the server itself are logged in full and told only by an incident name.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use metamcp_core::{engine::EngineError, error::StoreErrorKind, id::InvalidName, task::InvalidTask};

use super::doc::{ProblemDocument, ProblemKind};

/// Media type of problem documents.
pub const PROBLEM_JSON: &str = "application/problem+json";
/// Pause asked of callers when a lane is full, in seconds.
const FULL_RETRY_S: u32 = 5;
/// Pause asked of callers when the process, or its store, cannot answer now, in seconds.
const UNAVAILABLE_RETRY_S: u32 = 2;

/// A refused or failed request.
#[derive(Debug)]
pub struct Problem {
    document: Box<ProblemDocument>,
    retry_after_s: Option<u32>,
}

impl Problem {
    /// A problem of this kind; `detail` says what is wrong this time.
    #[must_use]
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        let retry_after_s = match kind {
            ProblemKind::LaneFull => Some(FULL_RETRY_S),
            _ if kind.status() == 503 => Some(UNAVAILABLE_RETRY_S),
            _ => None,
        };
        let document = ProblemDocument {
            kind,
            title: kind.title().to_owned(),
            status: kind.status(),
            detail: detail.into(),
            field: None,
            mend: None,
            line: None,
            column: None,
            rejected: Vec::new(),
            job: None,
            state: None,
            incident: None,
        };
        Self { document: Box::new(document), retry_after_s }
    }

    /// A query parameter that is wrong.
    #[must_use]
    pub fn parameter(name: &str, mend: impl Into<String>) -> Self {
        let mend = mend.into();
        Self::new(ProblemKind::InvalidParameter, format!("{name}: {mend}")).with_field(name, mend)
    }

    /// A failure of the server itself: logged with an incident name, which is all that is told.
    #[must_use]
    pub fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        let incident = incident();
        tracing::error!(%incident, error = &error, "request failed");
        Self::new(ProblemKind::Internal, "the server failed; its log tells more under this instance")
            .with(|document| document.incident = Some(incident))
    }

    /// With the wrong field and what to change.
    #[must_use]
    pub fn with_field(self, field: impl Into<String>, mend: impl Into<String>) -> Self {
        self.with(|document| {
            document.field = Some(field.into());
            document.mend = Some(mend.into());
        })
    }

    /// With further members.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut ProblemDocument)) -> Self {
        change(&mut self.document);
        self
    }

    /// The document.
    #[must_use]
    pub const fn document(&self) -> &ProblemDocument {
        &self.document
    }
}

/// A name for one failure, unique among the processes of this machine.
fn incident() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("urn:metamcp:incident:{:x}-{:x}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.document.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.document).expect("a problem has string keys only");
        let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<InvalidTask> for Problem {
    fn from(invalid: InvalidTask) -> Self {
        Self::new(ProblemKind::InvalidField, invalid.to_string()).with_field(invalid.field, invalid.mend)
    }
}

impl From<InvalidName> for Problem {
    fn from(invalid: InvalidName) -> Self {
        let mend = format!("use {}", invalid.rule);
        Self::new(ProblemKind::InvalidName, invalid.to_string()).with_field(invalid.what, mend)
    }
}

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Self {
        let text = error.to_string();
        match error {
            EngineError::Invalid(invalid) => invalid.into(),
            EngineError::Name(invalid) => invalid.into(),
            EngineError::NoMatch(route) => Self::new(ProblemKind::NoMatch, text)
                .with_field("need", "say it in other words, name a `tool`, or configure a server that can do it")
                .with(|document| document.rejected = route.rejected.iter().map(Into::into).collect()),
            EngineError::Conflict { job } => Self::new(ProblemKind::IdempotencyConflict, text)
                .with_field("idempotency_key", "use a new key for a new request")
                .with(|document| document.job = Some(job)),
            EngineError::BatchConflict { .. } => Self::new(ProblemKind::IdempotencyConflict, text)
                .with_field("idempotency_key", "use a new key for a new batch"),
            EngineError::Full { .. } => Self::new(ProblemKind::LaneFull, text),
            EngineError::NotFound { .. } => Self::new(ProblemKind::NotFound, text),
            EngineError::State { state, mend } => {
                let state = super::doc::TaskState::from(state);
                Self::new(ProblemKind::StateConflict, format!("the task is {}; {mend}", state.as_str()))
                    .with(|document| document.state = Some(state))
            }
            EngineError::Stopping => Self::new(ProblemKind::Stopping, text),
            EngineError::Store(error) if error.kind() == StoreErrorKind::Full => {
                tracing::warn!(error = &error as &dyn std::error::Error, "store is full");
                Self::new(ProblemKind::StoreUnavailable, text)
            }
            EngineError::Store(error) if error.is_retryable() => {
                tracing::warn!(error = &error as &dyn std::error::Error, "store is unavailable");
                Self::new(ProblemKind::StoreUnavailable, "the store cannot be reached or is busy; try again shortly")
            }
            other => Self::internal(&other),
        }
    }
}

#[cfg(test)]
mod tests {
    use metamcp_core::{
        error::StoreError,
        id::{JobId, Lane},
        matching::{MatchError, Route},
        queue::JobState,
    };

    use super::*;

    fn told(error: EngineError) -> (ProblemKind, u16, bool) {
        let problem = Problem::from(error);
        let response = problem.document().clone();
        let headers = problem.into_response();
        assert_eq!(headers.status().as_u16(), response.status);
        assert_eq!(headers.headers()[header::CONTENT_TYPE], PROBLEM_JSON);
        (response.kind, response.status, headers.headers().contains_key(header::RETRY_AFTER))
    }

    #[test]
    fn every_error_of_the_engine_has_its_problem() {
        let store = |kind| EngineError::Store(StoreError::new(kind, "store", "secret path"));
        let name = "UPPER".parse::<Lane>().unwrap_err();
        let cases = [
            (EngineError::Invalid(InvalidTask::new("need", "say it")), ProblemKind::InvalidField, 422, false),
            (EngineError::Name(name), ProblemKind::InvalidName, 400, false),
            (EngineError::NoMatch(Box::<Route>::default()), ProblemKind::NoMatch, 422, false),
            (EngineError::Conflict { job: JobId::MIN }, ProblemKind::IdempotencyConflict, 409, false),
            (
                EngineError::BatchConflict { batch: JobId::MIN.to_string().parse().unwrap() },
                ProblemKind::IdempotencyConflict,
                409,
                false,
            ),
            (EngineError::Full { lane: Lane::light(), limit: 1 }, ProblemKind::LaneFull, 429, true),
            (EngineError::NotFound { what: "task" }, ProblemKind::NotFound, 404, false),
            (EngineError::State { state: JobState::Done, mend: "no" }, ProblemKind::StateConflict, 409, false),
            (EngineError::Stopping, ProblemKind::Stopping, 503, true),
            (EngineError::Match(MatchError { message: "x".to_owned() }), ProblemKind::Internal, 500, false),
            (store(StoreErrorKind::Unavailable), ProblemKind::StoreUnavailable, 503, true),
            (store(StoreErrorKind::Full), ProblemKind::StoreUnavailable, 503, true),
            (store(StoreErrorKind::Corrupt), ProblemKind::Internal, 500, false),
        ];
        for (error, kind, status, retry) in cases {
            let text = error.to_string();
            assert_eq!(told(error), (kind, status, retry), "{text}");
        }
    }

    #[test]
    fn a_full_store_is_told_in_its_own_words_and_one_that_is_busy_is_not() {
        let told = |kind| Problem::from(EngineError::Store(StoreError::new(kind, "store", "raise maxmemory")));
        assert_eq!(told(StoreErrorKind::Full).document().detail, "store: raise maxmemory");
        assert!(!told(StoreErrorKind::Unavailable).document().detail.contains("maxmemory"));
    }

    #[test]
    fn a_failure_of_the_server_is_told_without_its_insides() {
        let problem =
            Problem::from(EngineError::Store(StoreError::new(StoreErrorKind::Corrupt, "store", "secret path")));
        let text = serde_json::to_string(problem.document()).unwrap();
        assert!(!text.contains("secret") && problem.document().incident.is_some(), "{text}");
    }
}
