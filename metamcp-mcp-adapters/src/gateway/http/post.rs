//! A POST: what came is told apart by era and kind, and goes on to whoever answers it.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::Body;
use metamcp_core::{auth::Principal, json::RawJson};

use super::{
    Front,
    body::{self, Unread},
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
    /// Who a layer before this one says it is.
    pub(super) principal: Option<Principal>,
    pub(super) endpoint: Option<Arc<str>>,
    pub(super) headers: HeaderMap,
    pub(super) accepts: Accepts,
}

impl Head {
    /// Who asks.
    pub(super) fn principal(&self) -> &Principal {
        static LOCAL: LazyLock<Principal> = LazyLock::new(Principal::local);
        self.principal.as_ref().unwrap_or_else(|| &LOCAL)
    }

    /// Whether the headers name a revision without sessions.
    pub(super) fn is_modern(&self) -> bool {
        headers::revision(&self.headers).is_some_and(|revision| !LEGACY.contains(&revision))
    }
}

/// Reads a POST and answers it.
#[expect(clippy::manual_async_fn, reason = "the future of one that is async would hold its arguments twice")]
pub(super) fn answer<B: Body<Data = Bytes>>(
    front: Arc<Front>,
    head: Head,
    body: B,
    outbox: Arc<Outbox>,
) -> impl Future<Output = Answer> {
    async move {
        let bytes_max = front.options.body_bytes_max;
        match body::read_in_time(body, bytes_max, front.options.body_read).await {
            Ok(body) => read(&front, &head, &body, &outbox).await,
            Err(Unread::TooLarge) => {
                let why = format!("a request has at most {bytes_max} bytes; send less");
                invalid(StatusCode::PAYLOAD_TOO_LARGE, why)
            }
            Err(Unread::Broken) => invalid(StatusCode::BAD_REQUEST, "the body broke off; send it again"),
            Err(Unread::Late) => invalid(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"),
        }
    }
}

async fn read(front: &Arc<Front>, head: &Head, body: &Bytes, outbox: &Arc<Outbox>) -> Answer {
    let Ok(text) = std::str::from_utf8(body) else {
        return refused(StatusCode::BAD_REQUEST, &RpcFault::new(PARSE_ERROR, "not JSON: the body is not UTF-8"));
    };
    match &incoming::read(text) {
        Ok(Incoming::One(Message::Request(request))) if is_modern(head, request) => {
            modern::answer(front, head, request, outbox).await
        }
        Ok(Incoming::One(message)) => legacy::answer(front, head, message, outbox).await,
        // Boxed, like all the rare ways: the future of every call would carry them.
        Ok(Incoming::Batch(batch)) => Box::pin(legacy::answer_batch(front, head, batch, outbox)).await,
        Err(Refusal { id, fault }) => {
            let frame = front::fault(id.as_ref().map(RawJson::raw), fault);
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
