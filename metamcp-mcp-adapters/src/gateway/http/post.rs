//! A POST: what came is told apart by era and kind, and goes on to whoever answers it.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use http_body::Body;
use metamcp_core::json::RawJson;

use super::{
    Front,
    body::{self, Unread},
    call::Answer,
    head::{Head, invalid, refused},
    legacy, modern,
    outbox::Outbox,
};
use crate::{
    gateway::{
        Request, RpcFault, front,
        incoming::{self, Incoming, Message, PARSE_ERROR, Refusal},
        lifecycle,
    },
    wire::header::SESSION_ID,
};

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
