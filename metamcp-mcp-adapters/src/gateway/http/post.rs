//! A POST: what came is told apart by era and kind, and goes on to whoever answers it.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use metamcp_core::{auth::Principal, json::RawJson};

use super::{
    Front,
    call::Answer,
    headers::{self, Accepts},
    legacy, modern,
    outbox::Outbox,
};
use crate::{
    gateway::{
        Request, RpcFault, front,
        incoming::{self, INVALID_REQUEST, Incoming, Message, PARSE_ERROR, Refusal},
        lifecycle,
    },
    wire::{era::LEGACY, header::SESSION_ID},
};

/// What is known of a request besides its body.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) principal: Principal,
    pub(super) endpoint: Option<Arc<str>>,
    pub(super) headers: HeaderMap,
    pub(super) accepts: Accepts,
}

impl Head {
    /// Whether the headers name a revision without sessions.
    pub(super) fn is_modern(&self) -> bool {
        headers::revision(&self.headers).is_some_and(|revision| !LEGACY.contains(&revision))
    }
}

/// Answers a POST.
pub(super) async fn answer(front: Arc<Front>, head: Head, body: Bytes, outbox: Arc<Outbox>) -> Answer {
    let Ok(text) = std::str::from_utf8(&body) else {
        return refused(StatusCode::BAD_REQUEST, &RpcFault::new(PARSE_ERROR, "not JSON: the body is not UTF-8"));
    };
    match incoming::read(text) {
        Ok(Incoming::One(Message::Request(request))) if is_modern(&head, &request) => {
            modern::answer(&front, head, &request, &outbox).await
        }
        Ok(Incoming::One(message)) => legacy::answer(&front, &head, message, &outbox).await,
        Ok(Incoming::Batch(batch)) => legacy::answer_batch(&front, &head, batch, &outbox).await,
        Err(Refusal { id, fault }) => {
            let frame = front::fault(id.as_ref().map(RawJson::raw), &fault);
            Answer::whole(StatusCode::BAD_REQUEST, frame)
        }
    }
}

/// Modern requests say so in their body; those that forgot to are told apart by the header.
fn is_modern(head: &Head, request: &Request<'_>) -> bool {
    let in_session = || head.headers.contains_key(SESSION_ID);
    lifecycle::revision(request).is_some()
        || (request.method != "initialize" && head.is_modern())
        || (request.method == "server/discover" && !in_session())
}

/// An error that belongs to no request.
pub(super) fn refused(status: StatusCode, fault: &RpcFault) -> Answer {
    Answer::whole(status, front::fault(None, fault))
}

/// An error of a request that is not served at all.
pub(super) fn invalid(status: StatusCode, why: impl Into<String>) -> Answer {
    refused(status, &RpcFault::new(INVALID_REQUEST, why))
}
