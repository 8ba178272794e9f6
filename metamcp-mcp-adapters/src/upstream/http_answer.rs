//! The answer to a POST that is one JSON body, bounded as every silence in it is; and what answers of either kind are judged by.

use http::{Response, StatusCode};
use metamcp_core::{
    json::RawJson,
    transport::{Delivered, TransportError, TransportErrorKind},
};
use serde_json::value::RawValue;

use super::{
    http_body::{self, Body, BodyError, JSON, is_media},
    http_client::AnswerBody,
    http_link::{Guard, Link},
    way::{Failure, Step, error, violation},
};
use crate::wire::{
    FRAME_BYTES_MAX,
    frame::{self, Frame, Outcome},
};

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

pub(super) fn broke_off(link: &Link, reason: &str) -> TransportError {
    error(&link.server, TransportErrorKind::Closed, Delivered::Maybe, format_args!("broke off its answer: {reason}"))
}

/// The far side has answered, but nobody can hold the answer.
pub(super) fn too_large(link: &Link, bytes_max: usize) -> TransportError {
    let what = format!("its answer is over the bound of {bytes_max} bytes");
    error(&link.server, TransportErrorKind::TooLarge, Delivered::Yes, what)
}
