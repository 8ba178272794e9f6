//! From a request to typed parts, or to a problem that says which part is wrong: JSON bodies, names in paths, the idempotency key.

use std::str::FromStr;

use axum::{
    extract::{FromRequest, FromRequestParts, Path, Request},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use metamcp_core::{id::InvalidName, task::InvalidTask};
use serde::{
    Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::error::Category;

use super::{doc::ProblemKind, problem::Problem, state::ApiState};

/// Nearness from which on a known name is offered for an unknown one, 0 to 1.
const NEAR_MIN: f64 = 0.7;
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// A JSON body.
#[derive(Debug)]
pub(super) struct Document<T>(pub(super) T);

/// A JSON body that may be left out, or be null.
#[derive(Debug)]
pub(super) struct OptionalDocument<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<ApiState> for Document<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, Problem> {
        let (parts, body) = read(request, state).await?;
        check_media_type(&parts.headers)?;
        parse(&body).map(Self)
    }
}

impl<T: DeserializeOwned + Default> FromRequest<ApiState> for OptionalDocument<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, Problem> {
        let (parts, body) = read(request, state).await?;
        if body.is_empty() || body.trim_ascii() == b"null" {
            return Ok(Self(T::default()));
        }
        check_media_type(&parts.headers)?;
        parse(&body).map(Self)
    }
}

impl<T: Serialize> IntoResponse for Document<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
            Err(error) => Problem::internal(&error).into_response(),
        }
    }
}

async fn read(request: Request, state: &ApiState) -> Result<(Parts, Bytes), Problem> {
    let (parts, body) = request.into_parts();
    let (max, wait) = (state.options().body_bytes_max, state.options().body_read);
    let too_large = || {
        Problem::new(ProblemKind::TooLarge, format!("the body may have {max} bytes"))
            .with(|document| document.mend = Some("send less; large data belongs where a tool can read it".to_owned()))
    };
    let declared =
        parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > max as u64) {
        return Err(too_large());
    }
    match tokio::time::timeout(wait, Limited::new(body, max).collect()).await {
        Ok(Ok(body)) => Ok((parts, body.to_bytes())),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(Problem::new(ProblemKind::BadRequest, format!("the body broke off: {error}"))),
        Err(_) => {
            let detail = format!("the body did not come within {} ms", wait.as_millis());
            Err(Problem::new(ProblemKind::RequestTimeout, detail))
        }
    }
}

fn check_media_type(headers: &HeaderMap) -> Result<(), Problem> {
    let declared = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = declared.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence == "application/json" || essence.starts_with("application/") && essence.ends_with("+json") {
        return Ok(());
    }
    let said = if declared.is_empty() { "nothing" } else { declared };
    Err(Problem::new(ProblemKind::UnsupportedMediaType, format!("the body is declared as `{}`", said.escape_debug()))
        .with_field("Content-Type", "send JSON and declare it as application/json"))
}

/// Reads one JSON value of a known shape; what is wrong is told with its path and place.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // Positional arrays would pass for objects otherwise: derived types take both.
    if !body.trim_ascii_start().starts_with(b"{") {
        serde_json::from_slice::<IgnoredAny>(body).map_err(|error| shape("", &error))?;
        let mend = "must be a JSON object";
        return Err(Problem::new(ProblemKind::InvalidField, format!("body: {mend}")).with_field("body", mend));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = match serde_path_to_error::deserialize(&mut deserializer) {
        Ok(value) => value,
        Err(error) => {
            let path = error.path().to_string();
            return Err(shape(&path, error.inner()));
        }
    };
    deserializer.end().map_err(|error| shape("", &error))?;
    Ok(value)
}

fn shape(path: &str, error: &serde_json::Error) -> Problem {
    let full = error.to_string();
    let (line, column) = (error.line(), error.column());
    let message = full.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&full);
    let problem = match error.classify() {
        Category::Data => {
            let field = if path.is_empty() || path == "." { "body" } else { path };
            let mend = match nearest_known(message) {
                Some(known) => format!("{message}; did you mean `{known}`?"),
                None => message.to_owned(),
            };
            Problem::new(ProblemKind::InvalidField, format!("{field}: {mend}")).with_field(field, mend)
        }
        Category::Syntax | Category::Eof | Category::Io => Problem::new(ProblemKind::InvalidJson, &*full)
            .with(|document| document.mend = Some("send one JSON object".to_owned())),
    };
    // Line 0 means that the value was not read from text.
    if line == 0 {
        problem
    } else {
        problem.with(|document| (document.line, document.column) = (Some(line), Some(column)))
    }
}

/// The known name that is nearest to the unknown one, out of serde's own message: `unknown field `a`, expected one of `b`, `c``.
fn nearest_known(message: &str) -> Option<&str> {
    let mut quoted = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    let unknown = quoted.next()?;
    nearest(unknown, quoted)
}

/// The candidate that is nearest to `name`, if any is near.
pub(super) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(near, _)| *near >= NEAR_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, known)| known)
}

/// What a path names: an id or a name of the required form.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named<T>(pub(super) T);

impl<T: FromStr<Err = InvalidName>> FromRequestParts<ApiState> for Named<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(name)) => Ok(Self(name.parse()?)),
            Err(error) => Err(Problem::new(ProblemKind::InvalidName, error.body_text())),
        }
    }
}

/// The one key that was given; in the header it may be quoted, as structured fields are.
pub(super) fn idempotency_key(headers: &HeaderMap, in_body: Option<String>) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(in_body) };
    let text = value.to_str().map_err(|_| InvalidTask::new("idempotency_key", "the header must be visible ASCII"))?;
    let text = text.trim();
    let key = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    match in_body {
        Some(other) if other != key => {
            let mend = "the header Idempotency-Key says another key; give one of them, or both alike";
            Err(InvalidTask::new("idempotency_key", mend).into())
        }
        _ => Ok(Some(key.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::doc::TaskDocument;

    fn wrong(body: &str) -> Problem {
        parse::<TaskDocument>(body.as_bytes()).unwrap_err()
    }

    #[test]
    fn an_unknown_field_names_its_place_and_the_nearest_known_one() {
        let problem = wrong("{\"need\":\"x\",\n \"priorty\": 3}");
        let document = problem.document();
        assert_eq!((document.kind, document.field.as_deref()), (ProblemKind::InvalidField, Some("priorty")));
        assert!(document.mend.as_ref().unwrap().ends_with("did you mean `priority`?"), "{document:?}");
        assert_eq!(document.line, Some(2));
        let nested = wrong(r#"{"resources":{"gppu":true}}"#);
        assert_eq!(nested.document().field.as_deref(), Some("resources.gppu"));
        assert!(nested.document().mend.as_ref().unwrap().contains("did you mean `gpu`?"));
    }

    #[test]
    fn broken_json_and_wrong_types_are_told_apart() {
        let broken = wrong("{\"need\": ");
        assert_eq!((broken.document().kind, broken.document().line), (ProblemKind::InvalidJson, Some(1)));
        assert_eq!(wrong(r#"{"need":"x"} trailing"#).document().kind, ProblemKind::InvalidJson);
        let typed = wrong(r#"{"need":"x","labels":{"a":1}}"#);
        assert_eq!(typed.document().kind, ProblemKind::InvalidField);
        assert_eq!(typed.document().field.as_deref(), Some("labels.a"));
        assert_eq!(wrong(r#"{"tool":"outline"}"#).document().field.as_deref(), Some("tool"));
        assert_eq!(wrong("[").document().kind, ProblemKind::InvalidJson);
        assert_eq!(wrong("").document().kind, ProblemKind::InvalidJson);
        assert_eq!(wrong("[]").document().field.as_deref(), Some("body"));
    }

    #[test]
    fn input_keeps_its_spelling() {
        let input = r#"{"z": 1.0, "a":1e400,"big":12345678901234567890123 }"#;
        let task: TaskDocument = parse(format!(r#"{{"need":"x","input":{input}}}"#).as_bytes()).unwrap();
        assert_eq!(task.input.get(), input);
    }
}
