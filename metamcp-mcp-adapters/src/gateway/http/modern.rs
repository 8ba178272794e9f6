//! Requests of the modern era: each says all, and is answered by itself.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use metamcp_core::json::RawJson;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep_until};

use super::{
    Front,
    call::{ALIVE, Answer},
    head::Head,
    headers,
    outbox::{Outbox, event},
};
use crate::{
    gateway::{
        Caller, ClientSide, Gateway, Reply, Request, RpcFault, front,
        lifecycle::{self, text},
        subscribe::{Filter, Subscription},
    },
    wire::era::{
        Era, HEADER_MISMATCH, INTERNAL_ERROR, INVALID_PARAMS, META_SUBSCRIPTION, METHOD_NOT_FOUND, MISSING_CAPABILITY,
        UNSUPPORTED_REVISION,
    },
};

/// Answers a modern request.
pub(super) async fn answer(front: &Front, head: &Head, request: &Request<'_>, outbox: &Arc<Outbox>) -> Answer {
    let caller = match checked(front, head, request).await {
        Ok(caller) => caller,
        Err(fault) => {
            let status = if fault.code == METHOD_NOT_FOUND { StatusCode::NOT_FOUND } else { StatusCode::BAD_REQUEST };
            return Answer::whole(status, front::fault(Some(request.id), &fault));
        }
    };
    if request.method == "subscriptions/listen" {
        return Box::pin(listen(front, &caller, request, outbox)).await;
    }
    let reply = front.gateway.handle(&caller, request, &ModernSide(Arc::clone(outbox))).await;
    let status = match &reply {
        Reply::Fault(fault) => status_of(fault),
        Reply::Result(_) | Reply::Kept(_) => StatusCode::OK,
    };
    Answer::whole(status, front::answer(Era::Modern, request, reply))
}

/// The client, when all that the request must say is there and fits together.
async fn checked(front: &Front, head: &Head, request: &Request<'_>) -> Result<Caller, RpcFault> {
    let revision = lifecycle::revision(request);
    let told = headers::revision(&head.headers);
    if let Some(revision) = &revision
        && told != Some(&**revision)
    {
        headers::check(&head.headers, request, Some(revision))?;
    }
    let caller = lifecycle::modern_caller(request, head.principal().clone(), head.endpoint.clone())?;
    headers::check(&head.headers, request, None)?;
    if lifecycle::is_removed(&request.method) {
        let why = format!("revision {} has no `{}`", caller.revision, request.method);
        return Err(RpcFault::new(METHOD_NOT_FOUND, why));
    }
    if request.method == "tools/call" {
        check_arguments(&front.gateway, &caller, request, &head.headers).await?;
    }
    Ok(caller)
}

async fn check_arguments(
    gateway: &Gateway,
    caller: &Caller,
    request: &Request<'_>,
    headers: &http::HeaderMap,
) -> Result<(), RpcFault> {
    let Some(name) = request.param("name").and_then(text) else { return Ok(()) };
    let Some(tool) = gateway.awaited_tool(caller, &name).await else { return Ok(()) };
    headers::check_params(headers, tool.headers(), request.param("arguments"))
}

/// Errors of the protocol itself have a status of their own.
fn status_of(fault: &RpcFault) -> StatusCode {
    match fault.code {
        METHOD_NOT_FOUND => StatusCode::NOT_FOUND,
        HEADER_MISMATCH | MISSING_CAPABILITY | UNSUPPORTED_REVISION => StatusCode::BAD_REQUEST,
        _ => StatusCode::OK,
    }
}

/// A modern client: it is told, and never asked.
struct ModernSide(Arc<Outbox>);

#[async_trait]
impl ClientSide for ModernSide {
    fn notify(&self, method: &str, params: Option<&RawValue>) {
        if self.0.takes_events() {
            // What is not taken is counted there.
            let _ = self.0.send(front::message(None, method, params));
        }
    }

    async fn ask(&self, method: &str, _params: &RawJson) -> Result<RawJson, RpcFault> {
        Err(RpcFault::new(
            INTERNAL_ERROR,
            format!("a modern client is not asked `{method}`, it is told `input_required`"),
        ))
    }
}

/// Answers `subscriptions/listen`: a stream that ends when the client goes or the process drains.
async fn listen(front: &Front, caller: &Caller, request: &Request<'_>, outbox: &Outbox) -> Answer {
    let filter = request.param("notifications").map(|raw| serde_json::from_str::<Filter>(raw.get()));
    let Some(Ok(filter)) = filter else {
        let fault = RpcFault::new(INVALID_PARAMS, "`notifications` must be an object that says what to tell");
        return Answer::whole(StatusCode::OK, front::fault(Some(request.id), &fault));
    };
    if !outbox.takes_events() {
        let fault = RpcFault::new(INVALID_PARAMS, "the answer is a stream; accept `text/event-stream`");
        return Answer::whole(StatusCode::NOT_ACCEPTABLE, front::fault(Some(request.id), &fault));
    }
    // Which resources there are must be known, or one that is asked for is not granted.
    front.gateway.settled().await;
    let subscription = front.gateway.listen(caller, &filter).await;
    let listening = Listening {
        id: request.id.to_owned(),
        first: Some(acknowledged(request.id, subscription.granted())),
        subscription: Some(subscription),
        drain: front.options.drain.clone(),
        keep_alive: front.options.keep_alive,
    };
    Answer::Events(Box::pin(stream::unfold(listening, Listening::next)))
}

/// What is told first.
pub(in crate::gateway) fn acknowledged(id: &RawValue, granted: &Filter) -> String {
    let granted = serde_json::to_string(granted).expect("a filter is JSON");
    let params = format!(r#"{{"_meta":{{"{META_SUBSCRIPTION}":{}}},"notifications":{granted}}}"#, id.get());
    let params: &RawValue = serde_json::from_str(&params).expect("made of JSON");
    front::message(None, "notifications/subscriptions/acknowledged", Some(params))
}

/// The result that ends a listening.
pub(in crate::gateway) fn listened(id: &RawValue) -> String {
    let id = id.get();
    let result = front::result(&format!(r#""_meta":{{"{META_SUBSCRIPTION}":{id}}}"#));
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}

/// One client that listens.
struct Listening {
    id: Box<RawValue>,
    first: Option<String>,
    /// `None` once it has ended.
    subscription: Option<Subscription>,
    drain: tokio_util::sync::CancellationToken,
    keep_alive: std::time::Duration,
}

impl Listening {
    async fn next(mut self) -> Option<(Bytes, Self)> {
        let told = |text: String| event(None, &[text.into()]);
        if let Some(first) = self.first.take() {
            return Some((told(first), self));
        }
        let subscription = self.subscription.as_ref()?;
        let event = tokio::select! {
            biased;
            () = self.drain.cancelled() => None,
            news = subscription.recv() => {
                let params = lifecycle::tagged(news.params.as_ref().map(RawJson::raw), &self.id);
                let params: &RawValue = serde_json::from_str(&params).expect("made of JSON");
                Some(told(front::message(None, news.method, Some(params))))
            }
            () = sleep_until(Instant::now() + self.keep_alive) => Some(ALIVE),
        };
        let event = event.unwrap_or_else(|| {
            self.subscription = None;
            told(listened(&self.id))
        });
        Some((event, self))
    }
}
