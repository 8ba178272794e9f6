//! Reads the answer to a POST: one JSON body, or a stream of events until the one that answers; or a status that says why there is none.
//!
//! Every body is bounded, and every silence.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http::{
    HeaderMap, StatusCode,
    header::{CONTENT_TYPE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE},
};
use metamcp_core::{
    json::RawJson,
    queue::Progress,
    transport::{Delivered, ProgressSink, TransportError, TransportErrorKind},
};
use reqwest::Response;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    http::{Link, innermost, not_taken},
    way::{Failure, error, violation},
};
use crate::wire::{
    FRAME_BYTES_MAX,
    frame::{self, Frame, Outcome},
    sse::{Events, EventsError},
};

/// Most of the body of a refusal that is read, in bytes.
const REFUSAL_BYTES_MAX: usize = 64 << 10;
/// Most of it that a message repeats, in bytes.
const EXCERPT_BYTES_MAX: usize = 200;
/// Longest pause a server may ask for, in seconds.
const RETRY_AFTER_S_MAX: u64 = 24 * 3_600;

/// The result of the request `id`.
pub(super) async fn read(
    link: &Arc<Link>,
    response: Response,
    id: u64,
    progress: &ProgressSink<'_>,
) -> Result<RawJson, Failure> {
    if !response.status().is_success() {
        return Err(refused(link, response).await);
    }
    let kind = media_type(response.headers());
    let status = response.status();
    let mut wanted = Wanted { link, id, progress, progressed_to: f64::NEG_INFINITY, outcome: None };
    match kind.as_deref() {
        Some("text/event-stream") => {
            let mut events = Events::new(response.bytes_stream(), FRAME_BYTES_MAX, |error| {
                if error.is_timeout() { EventsError::Silent } else { EventsError::Broken(innermost(error)) }
            });
            loop {
                let event = match events.next().await {
                    Ok(event) => event,
                    Err(EventsError::TooLarge(bytes)) => return Err(too_large(link, bytes).into()),
                    Err(EventsError::Silent) => return Err(link.silent().into()),
                    Err(EventsError::Broken(reason)) => return Err(broke_off(link, &reason).into()),
                };
                let Some(event) = event else {
                    return Err(broke_off(link, "the stream ended before the answer").into());
                };
                // What is no message is skipped: the answer may still come.
                if let Err(reason) = frame::each(&event, |frame| wanted.take(frame)) {
                    tracing::debug!(server = %link.server, %reason, "skipped an event that is not a message");
                }
                if let Some(outcome) = wanted.outcome.take() {
                    return wanted.judge(outcome, status);
                }
            }
        }
        Some("application/json") => {
            let body = match body(link, response, FRAME_BYTES_MAX).await? {
                Body::Whole(body) => body,
                Body::Cut(_) => return Err(too_large(link, FRAME_BYTES_MAX).into()),
            };
            let text =
                std::str::from_utf8(&body).map_err(|_| violation(&link.server, "an answer that is not UTF-8"))?;
            frame::each(text, |frame| wanted.take(frame))
                .map_err(|e| violation(&link.server, format_args!("an answer that is not JSON-RPC: {e}")))?;
            match wanted.outcome.take() {
                Some(outcome) => wanted.judge(outcome, status),
                None => Err(violation(&link.server, "an answer to something else").into()),
            }
        }
        other => {
            let what = format!("HTTP {status} with {} in place of an answer", other.unwrap_or("no content"));
            Err(violation(&link.server, what).into())
        }
    }
}

/// Why the server has not taken the request, as far as its status tells.
pub(super) async fn refused(link: &Link, response: Response) -> Failure {
    let (status, headers) = (response.status(), response.headers().clone());
    let kind = media_type(&headers);
    let body = match body(link, response, REFUSAL_BYTES_MAX).await {
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
            let shown = if kind.as_deref() == Some("text/html") { String::new() } else { excerpt(&text) };
            if status.is_server_error() {
                fail(TransportErrorKind::Closed, Delivered::Maybe, format!("failed (HTTP {status}) {shown}"))
            } else {
                let kind = TransportErrorKind::Rejected { code: status.as_u16().into() };
                fail(kind, Delivered::Yes, format!("refused (HTTP {status}) {shown}"))
            }
        }
    }
}

/// Looks through frames for the answer.
struct Wanted<'a, 'p> {
    link: &'a Arc<Link>,
    id: u64,
    progress: &'a ProgressSink<'p>,
    progressed_to: f64,
    outcome: Option<Outcome>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    progress_token: u64,
    progress: f64,
    total: Option<f64>,
    message: Option<String>,
}

impl Wanted<'_, '_> {
    fn take(&mut self, frame: Frame<'_>) {
        match frame {
            Frame::Response { id, outcome } if self.outcome.is_none() && self.is_ours(id, &outcome) => {
                self.outcome = Some(outcome);
            }
            Frame::Response { .. } => {
                tracing::debug!(server = %self.link.server, "dropped an answer that nobody waits for");
            }
            Frame::Request { id, method } => self.link.answer_later(id, &method),
            Frame::Notification { method, params } if method == "notifications/progress" => {
                let report = params.and_then(|params| serde_json::from_str::<Report>(params.get()).ok());
                if let Some(report) = report.filter(|r| r.progress_token == self.id && r.progress > self.progressed_to)
                {
                    self.progressed_to = report.progress;
                    let Report { progress: value, total, message, .. } = report;
                    (self.progress)(Progress { value, total, message });
                }
            }
            Frame::Notification { .. } => {}
        }
    }

    /// An error without an id can only be about the one request of this POST.
    fn is_ours(&self, id: Option<&RawValue>, outcome: &Outcome) -> bool {
        match id {
            Some(id) => id.get() == self.id.to_string(),
            None => matches!(outcome, Outcome::Error(_)),
        }
    }

    fn judge(&self, outcome: Outcome, status: StatusCode) -> Result<RawJson, Failure> {
        match outcome {
            Outcome::Result(result) => Ok(result),
            Outcome::Error(rpc) => Err(Failure::Rpc(rpc, Some(status.as_u16()))),
            Outcome::Malformed(what) => Err(violation(&self.link.server, format_args!("an answer with {what}")).into()),
        }
    }
}

enum Body {
    Whole(Bytes),
    /// Its first part, as large as the bound.
    Cut(Bytes),
}

async fn body(link: &Link, response: Response, bytes_max: usize) -> Result<Body, TransportError> {
    let mut chunks = response.bytes_stream();
    let Some(first) = chunk(link, &mut chunks).await? else { return Ok(Body::Whole(Bytes::new())) };
    let mut body = BytesMut::from(first);
    while let Some(chunk) = chunk(link, &mut chunks).await? {
        body.extend_from_slice(&chunk);
        if body.len() > bytes_max {
            body.truncate(bytes_max);
            return Ok(Body::Cut(body.freeze()));
        }
    }
    Ok(if body.len() > bytes_max { Body::Cut(body.split_to(bytes_max).freeze()) } else { Body::Whole(body.freeze()) })
}

async fn chunk(
    link: &Link,
    chunks: &mut (impl Stream<Item = Result<Bytes, reqwest::Error>> + Unpin),
) -> Result<Option<Bytes>, TransportError> {
    chunks
        .next()
        .await
        .transpose()
        .map_err(|source| if source.is_timeout() { link.silent() } else { broke_off(link, &innermost(&source)) })
}

fn broke_off(link: &Link, reason: &str) -> TransportError {
    error(&link.server, TransportErrorKind::Closed, Delivered::Maybe, format_args!("broke off its answer: {reason}"))
}

/// The far side has answered, but nobody can hold the answer.
fn too_large(link: &Link, bytes_max: usize) -> TransportError {
    let what = format!("its answer is over the bound of {bytes_max} bytes");
    error(&link.server, TransportErrorKind::TooLarge, Delivered::Yes, what)
}

fn media_type(headers: &HeaderMap) -> Option<String> {
    let kind = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

fn excerpt(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words[..words.floor_char_boundary(EXCERPT_BYTES_MAX)].to_owned()
}
