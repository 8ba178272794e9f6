//! Reads the answer to a POST: one JSON body, or a stream of events until the one that answers; or a status that says why there is none.
//!
//! Every body is bounded, and every silence.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderMap, Response, StatusCode,
    header::{CONTENT_TYPE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE},
};
use metamcp_core::{
    json::RawJson,
    transport::{Delivered, RelaySide, TransportError, TransportErrorKind},
};
use serde_json::value::RawValue;

use super::{
    http::{Guard, Link, not_taken},
    http_body::{self, Body, BodyError},
    http_client::AnswerBody,
    http_events,
    way::{Ask, Failure, Step, error, violation},
};
use crate::wire::{
    FRAME_BYTES_MAX,
    frame::{self, Frame, Outcome},
};

/// Most of the body of a refusal that is read, in bytes.
const REFUSAL_BYTES_MAX: usize = 64 << 10;
/// Most of it that a message repeats, in bytes.
const EXCERPT_BYTES_MAX: usize = 200;
/// Longest pause a server may ask for, in seconds.
const RETRY_AFTER_S_MAX: u64 = 24 * 3_600;

/// The result of a request, or the question on the way there.
pub(super) async fn read(
    guard: Guard,
    response: Response<AnswerBody>,
    ask: &Ask<'_>,
    side: &dyn RelaySide,
) -> Result<Step, Failure> {
    let status = response.status();
    if !status.is_success() {
        let refused = refused(&guard.link, response).await;
        return guard.over(Err(refused));
    }
    if is_media(response.headers(), EVENTS) {
        return http_events::read(guard, response, ask, side).await;
    }
    if is_json(&response) {
        return read_json(guard, status, response.into_body(), ask.id).await;
    }
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("no content");
    let what = format!("HTTP {status} with {} in place of an answer", excerpt(kind));
    let error = violation(&guard.link.server, what);
    guard.over(Err(error.into()))
}

/// Whether an answer is one JSON text, as most are.
pub(super) fn is_json(response: &Response<AnswerBody>) -> bool {
    response.status().is_success() && is_media(response.headers(), JSON)
}

/// The result of a request that is answered by one JSON text.
pub(super) async fn read_json(guard: Guard, status: StatusCode, body: AnswerBody, id: u64) -> Result<Step, Failure> {
    // It is no stream on which to go on with an answer.
    guard.asks_nobody();
    let read = json(&guard.link, status, body, id).await;
    guard.over(read.map(Step::Done))
}

/// An answer that is one JSON text.
async fn json(link: &Link, status: StatusCode, body: AnswerBody, id: u64) -> Result<RawJson, Failure> {
    let body = match http_body::whole(body, FRAME_BYTES_MAX, link.idle).await {
        Ok(Body::Whole(body)) => body,
        Ok(Body::Cut(_)) => return Err(too_large(link, FRAME_BYTES_MAX).into()),
        Err(BodyError::Silent) => return Err(link.silent().into()),
        Err(BodyError::Broken(reason)) => return Err(broke_off(link, &reason).into()),
    };
    let text = std::str::from_utf8(&body).map_err(|_| violation(&link.server, "an answer that is not UTF-8"))?;
    let mut found = None;
    let read = frame::each(text, |frame| {
        if let Frame::Response { id: of, outcome } = frame
            && found.is_none()
            && is_answer_to(id, of, &outcome)
        {
            found = Some(outcome);
        }
    });
    read.map_err(|e| violation(&link.server, format_args!("an answer that is not JSON-RPC: {e}")))?;
    match found {
        Some(outcome) => judge(link, outcome, status),
        None => Err(violation(&link.server, "an answer to something else").into()),
    }
}

/// An error without an id can only be about the one request of this POST.
pub(super) fn is_answer_to(wanted: u64, id: Option<&RawValue>, outcome: &Outcome) -> bool {
    match id {
        Some(id) => id.get().parse() == Ok(wanted),
        None => matches!(outcome, Outcome::Error(_)),
    }
}

pub(super) fn judge(link: &Link, outcome: Outcome, status: StatusCode) -> Result<RawJson, Failure> {
    match outcome {
        Outcome::Result(result) => Ok(result),
        Outcome::Error(rpc) => Err(Failure::Rpc(rpc, Some(status.as_u16()))),
        Outcome::Malformed(what) => Err(violation(&link.server, format_args!("an answer with {what}")).into()),
    }
}

/// Why the server has not taken the request, as far as its status tells.
pub(super) async fn refused(link: &Link, response: Response<AnswerBody>) -> Failure {
    let status = response.status();
    let (head, body) = response.into_parts();
    let headers = head.headers;
    let body = match http_body::whole(body, REFUSAL_BYTES_MAX, link.idle).await {
        Ok(Body::Whole(body) | Body::Cut(body)) => body,
        // The status alone says enough.
        Err(_) => Bytes::new(),
    };
    let text = String::from_utf8_lossy(&body);
    let mut rpc = None;
    let read = frame::each(&text, |frame| {
        if let Frame::Response { outcome: Outcome::Error(error), .. } = frame {
            rpc = Some(error);
        }
    });
    let wait = headers.get(RETRY_AFTER).and_then(|wait| wait.to_str().ok()?.trim().parse().ok());
    let wait = wait.map(|seconds: u64| Duration::from_secs(seconds.min(RETRY_AFTER_S_MAX)));
    let delivered = if not_taken(status, wait.is_some()) { Delivered::No } else { Delivered::Maybe };
    let fail = |kind, delivered, what: String| {
        let error = error(&link.server, kind, delivered, what).with_retry_after(wait);
        Failure::Status(status.as_u16(), error)
    };
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            let challenge =
                headers.get(WWW_AUTHENTICATE).and_then(|challenge| challenge.to_str().ok()).unwrap_or_default();
            let challenge = excerpt(challenge);
            let what = format!("wants authorization (HTTP {status}) {challenge}: set an `Authorization` header for it");
            fail(TransportErrorKind::Rejected { code: status.as_u16().into() }, Delivered::Yes, what)
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            fail(TransportErrorKind::Busy, delivered, format!("is busy (HTTP {status})"))
        }
        status if status.is_redirection() => {
            let to = headers.get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or_default();
            let to = excerpt(to.split('?').next().unwrap_or_default());
            let what = format!("redirects to {to} (HTTP {status}); configure the address it is really at");
            // Only these two say that the request is to be made again elsewhere; after others it may have been taken here.
            let untouched = matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
            fail(TransportErrorKind::Connect, if untouched { Delivered::No } else { Delivered::Maybe }, what)
        }
        status => {
            if let (Ok(()), Some(rpc)) = (read, rpc) {
                return Failure::Rpc(rpc, Some(status.as_u16()));
            }
            let shown = if is_media(&headers, "text/html") { String::new() } else { excerpt(&text) };
            if status.is_server_error() {
                fail(TransportErrorKind::Closed, Delivered::Maybe, format!("failed (HTTP {status}) {shown}"))
            } else {
                let kind = TransportErrorKind::Rejected { code: status.as_u16().into() };
                fail(kind, Delivered::Yes, format!("refused (HTTP {status}) {shown}"))
            }
        }
    }
}

pub(super) fn broke_off(link: &Link, reason: &str) -> TransportError {
    error(&link.server, TransportErrorKind::Closed, Delivered::Maybe, format_args!("broke off its answer: {reason}"))
}

/// The far side has answered, but nobody can hold the answer.
pub(super) fn too_large(link: &Link, bytes_max: usize) -> TransportError {
    let what = format!("its answer is over the bound of {bytes_max} bytes");
    error(&link.server, TransportErrorKind::TooLarge, Delivered::Yes, what)
}

/// The media type of one JSON text.
const JSON: &str = "application/json";
/// The media type of a stream of events.
pub(super) const EVENTS: &str = "text/event-stream";

pub(super) fn is_media(headers: &HeaderMap, media: &str) -> bool {
    let Some(kind) = headers.get(CONTENT_TYPE) else { return false };
    let is = |kind: &str| kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(media));
    kind == media || kind.to_str().is_ok_and(is)
}

fn excerpt(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words[..words.floor_char_boundary(EXCERPT_BYTES_MAX)].to_owned()
}
