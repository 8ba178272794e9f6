//! Result bodies behind their pointers: whole, in parts, or only a word that the caller's copy is good.
//!
//! A body comes from a server that may be hostile, so it is never rendered as a page of this origin.

use axum::{
    Extension,
    body::Body,
    extract::{Path, State, rejection::PathRejection},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use metamcp_core::{
    auth::Principal,
    engine::EngineError,
    id::InvalidName,
    pointer::ResultPointer,
    result::{ByteRange, ResultBody},
};
use utoipa::ToSchema;

use super::{
    doc::{ProblemDocument, ProblemKind},
    problem::Problem,
    range::{Wanted, has_copy, wanted},
    state::ApiState,
};

/// Types a browser shows without running anything.
const SHOWN: [&str; 8] =
    ["application/json", "text/plain", "image/png", "image/jpeg", "image/gif", "image/webp", "audio/mpeg", "audio/wav"];

/// A body as it came from the tool.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "stands for raw bytes in the description of the API")]
struct ResultBytes(Vec<u8>);

/// Read a result.
///
/// The body is what the tool answered, with its own media type. One range may be asked for; the entity tag is the body's SHA-256.
#[utoipa::path(
    get, path = "/api/results/{*pointer}", tag = "results", operation_id = "getResult",
    params(
        ("pointer" = String, Path, description = "the task's `result`, as it is, percent-encoded, or without `res://`"),
        ("Range" = Option<String>, Header, description = "one range of bytes, such as `bytes=0-1023`, `bytes=1024-` or `bytes=-512`"),
        ("If-None-Match" = Option<String>, Header, description = "the entity tag of the caller's copy"),
    ),
    responses(
        (status = 200, description = "the body", content_type = "*/*", body = ResultBytes),
        (status = 206, description = "the part that was asked for", content_type = "*/*", body = ResultBytes),
        (status = 304, description = "the caller's copy is good"),
        (status = 416, description = "the range lies behind the end", body = ProblemDocument, content_type = "application/problem+json"),
        (status = "4XX", description = "not there, or not the caller's", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn read(
    State(state): State<ApiState>,
    Extension(who): Extension<Principal>,
    method: Method,
    headers: HeaderMap,
    pointer: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let Path(pointer) = pointer.map_err(|error| Problem::new(ProblemKind::InvalidName, error.body_text()))?;
    let pointer = parse(&pointer)?;
    let etag = format!("\"{}\"", pointer.digest);
    let is_head = method == Method::HEAD;
    let mut response = if is_head || headers.contains_key(header::RANGE) || headers.contains_key(header::IF_NONE_MATCH)
    {
        let known = probe(&state, &who, &pointer).await?;
        if has_copy(&headers, &etag) {
            let mut response = StatusCode::NOT_MODIFIED.into_response();
            tag(&mut response, &etag);
            return Ok(response);
        }
        match wanted(&headers, &etag, known.total) {
            // A range asks for a part of a body, and HEAD has none.
            _ if is_head => answer(StatusCode::OK, known.total, &known.media_type, &pointer, Body::empty()),
            Wanted::Whole => whole(&state, &who, &pointer).await?,
            Wanted::Part { start, len } => part(&state, &who, &pointer, ByteRange { start, len }).await?,
            Wanted::Unsatisfiable => return Ok(unsatisfiable(known.total)),
        }
    } else {
        whole(&state, &who, &pointer).await?
    };
    tag(&mut response, &etag);
    Ok(response)
}

/// The pointer as it is written in the path. Proxies merge slashes, so the scheme may have lost one.
fn parse(path: &str) -> Result<ResultPointer, InvalidName> {
    let rest = path.strip_prefix("res://").or_else(|| path.strip_prefix("res:/")).unwrap_or(path);
    format!("res://{rest}").parse()
}

/// What is known of a body, without reading all of it.
async fn probe(state: &ApiState, who: &Principal, pointer: &ResultPointer) -> Result<ResultBody, Problem> {
    let first = ByteRange { start: 0, len: 1 };
    match state.engine().result(who, pointer, Some(first)).await {
        // An empty body has no first byte.
        Err(EngineError::Invalid(_)) => Ok(state.engine().result(who, pointer, None).await?),
        other => Ok(other?),
    }
}

async fn whole(state: &ApiState, who: &Principal, pointer: &ResultPointer) -> Result<Response, Problem> {
    let body = state.engine().result(who, pointer, None).await?;
    let len = body.bytes.len() as u64;
    Ok(answer(StatusCode::OK, len, &body.media_type, pointer, body.bytes.into()))
}

async fn part(
    state: &ApiState,
    who: &Principal,
    pointer: &ResultPointer,
    range: ByteRange,
) -> Result<Response, Problem> {
    let ResultBody { bytes, total, media_type } = state.engine().result(who, pointer, Some(range)).await?;
    // The engine may cut a range that is too long.
    let len = bytes.len() as u64;
    let Some(last) = (range.start + len).checked_sub(1) else { return Ok(unsatisfiable(total)) };
    let mut response = answer(StatusCode::PARTIAL_CONTENT, len, &media_type, pointer, bytes.into());
    set(&mut response, header::CONTENT_RANGE, &format!("bytes {}-{last}/{total}", range.start));
    Ok(response)
}

fn unsatisfiable(total: u64) -> Response {
    let detail = format!("the body has {total} bytes");
    let problem = Problem::new(ProblemKind::RangeNotSatisfiable, detail)
        .with_field("Range", format!("ask for bytes below {total}, or for the last ones with bytes=-N"));
    let mut response = problem.into_response();
    set(&mut response, header::CONTENT_RANGE, &format!("bytes */{total}"));
    response
}

fn answer(status: StatusCode, len: u64, media_type: &str, pointer: &ResultPointer, body: Body) -> Response {
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let place = if SHOWN.contains(&essence.as_str()) { "inline" } else { "attachment" };
    let media_type = HeaderValue::from_str(media_type).unwrap_or(HeaderValue::from_static("application/octet-stream"));
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, media_type);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(len));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    set(&mut response, header::CONTENT_DISPOSITION, &format!("{place}; filename=\"result-{}\"", pointer.job));
    response
}

/// A body never changes behind its pointer, but the right to it may: ask again, with the tag.
fn tag(response: &mut Response, etag: &str) {
    set(response, header::ETAG, etag);
    set(response, header::CACHE_CONTROL, "private, no-cache");
}

fn set(response: &mut Response, name: header::HeaderName, value: &str) {
    let value = HeaderValue::from_maybe_shared(Bytes::copy_from_slice(value.as_bytes()));
    response.headers_mut().insert(name, value.expect("digits, hexadecimals and words are valid in a header"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_is_read_with_and_without_its_scheme() {
        let text = format!("res://local/01997f3e-5c1a-7d3e-9c55-0a1b2c3d4e5f/{}", "ab".repeat(32));
        let pointer: ResultPointer = text.parse().unwrap();
        for path in [&*text, &text.replacen("//", "/", 1), &text["res://".len()..]] {
            assert_eq!(parse(path).unwrap(), pointer, "{path}");
        }
        assert!(parse("res://local/x/y").is_err());
    }

    #[test]
    fn only_harmless_types_are_shown() {
        let pointer = parse(&format!("local/01997f3e-5c1a-7d3e-9c55-0a1b2c3d4e5f/{}", "ab".repeat(32))).unwrap();
        let place = |media_type| {
            let response = answer(StatusCode::OK, 0, media_type, &pointer, Body::empty());
            response.headers()[header::CONTENT_DISPOSITION].to_str().unwrap().split(';').next().unwrap().to_owned()
        };
        assert_eq!(place("application/json; charset=utf-8"), "inline");
        assert_eq!(place("text/html"), "attachment");
        assert_eq!(place("image/svg+xml"), "attachment");
        let broken = answer(StatusCode::OK, 0, "text/\nplain", &pointer, Body::empty());
        assert_eq!(broken.headers()[header::CONTENT_TYPE], "application/octet-stream");
    }
}
