//! Messages of the legacy eras: a handshake that begins a session, and everything that belongs to one.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Arc, Weak},
    task::Poll,
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::join_all;
use http::{HeaderMap, HeaderValue, StatusCode};
use metamcp_core::json::RawJson;
use serde_json::value::RawValue;
use tokio::time::{Instant, interval, timeout_at};

use super::{
    Front,
    call::Answer,
    head::{Head, invalid},
    headers,
    outbox::Outbox,
};
use crate::{
    gateway::{
        ClientSide, Reply, Request, RpcFault,
        elicitations::{Address, COMPLETE},
        front::{self, Frame},
        incoming::{self, Message, Notification},
        lifecycle::{self, Hello, text},
        session::{Session, Sessions, Shared, Stop},
        subscribe::WATCHED_URIS_MAX,
    },
    wire::{
        era::{Era, INTERNAL_ERROR, INVALID_PARAMS, LEGACY},
        header::SESSION_ID,
    },
};

/// Pause between two looks for an answer that came to another replica, in milliseconds.
const LOOK_MS: u64 = 250;
/// What is told of a request that its client took back.
const TAKEN_BACK: i64 = -32800;

/// Answers one message.
pub(super) async fn answer(front: &Front, head: &Head, message: &Message<'_>, outbox: &Arc<Outbox>) -> Answer {
    if let Message::Request(request) = message
        && request.method == "initialize"
    {
        // Boxed, like all the rare ways: the future of every call would carry them.
        return Box::pin(initialize(front, head, request)).await;
    }
    let session = match session(front, head).await {
        Ok(session) => session,
        Err(refused) => return refused,
    };
    match one(front, &session, message, outbox).await {
        Ok(Some(frame)) => Answer::whole(StatusCode::OK, frame),
        Ok(None) => Answer::Accepted,
        Err(fault) => Answer::whole(StatusCode::SERVICE_UNAVAILABLE, front::fault(None, &fault)),
    }
}

/// Answers a batch (revision 2025-03-26): all answers together, when the last is there.
pub(super) async fn answer_batch(front: &Front, head: &Head, batch: &[&RawValue], outbox: &Arc<Outbox>) -> Answer {
    let session = match session(front, head).await {
        Ok(session) => session,
        Err(refused) => return refused,
    };
    let each = batch.iter().map(async |text| match incoming::message(text.get()) {
        Ok(Message::Request(request)) if request.method == "initialize" => {
            let fault = RpcFault::new(INVALID_PARAMS, "`initialize` must not be part of a batch");
            Some(front::fault(Some(request.id), &fault))
        }
        Ok(message) => {
            one(front, &session, &message, outbox).await.unwrap_or_else(|fault| Some(front::fault(None, &fault)))
        }
        Err(refusal) => Some(front::fault(refusal.id.as_ref().map(RawJson::raw), &refusal.fault)),
    });
    let frames: Vec<Frame> = join_all(each).await.into_iter().flatten().collect();
    if frames.is_empty() { Answer::Accepted } else { Answer::whole(StatusCode::OK, Frame::batch(frames)) }
}

/// The session that the headers name.
///
/// # Errors
/// With the answer when there is none, or it is over.
pub(super) async fn session(front: &Front, head: &Head) -> Result<Arc<Session>, Answer> {
    if let Some(revision) = headers::revision(&head.headers)
        && !LEGACY.contains(&revision)
    {
        let why = format!("`MCP-Protocol-Version` says `{revision}`; sessions speak one of {}", LEGACY.join(", "));
        return Err(invalid(StatusCode::BAD_REQUEST, why));
    }
    let Some(id) = session_id(&head.headers) else {
        let why =
            "`Mcp-Session-Id` is missing; send the one that `initialize` was answered with, or call `initialize` first";
        return Err(invalid(StatusCode::BAD_REQUEST, why));
    };
    let found = front.sessions.find(id, head.principal(), head.endpoint.as_deref()).await;
    found.ok_or_else(|| {
        invalid(StatusCode::NOT_FOUND, "the session is over, or is none of this address; call `initialize` again")
    })
}

fn session_id(headers: &HeaderMap) -> Option<&str> {
    headers.get(SESSION_ID).map(|id| id.to_str().unwrap_or_default())
}

async fn initialize(front: &Front, head: &Head, request: &Request<'_>) -> Answer {
    let begun = async {
        let hello = Hello::of(request)?;
        // What is told of the servers now is told for as long as the session lasts.
        front.gateway.settled().await;
        let session = front.sessions.begin(head.principal(), head.endpoint.as_deref(), &hello)?;
        let discover = front.gateway.discover(head.endpoint.as_deref(), head.principal()).unwrap_or_default();
        Ok((session, lifecycle::initialized(&hello, &discover)))
    };
    match begun.await {
        Ok((session, result)) => Answer::Whole {
            status: StatusCode::OK,
            frame: front::answer(Era::Legacy, request, Reply::Result(result)),
            session: HeaderValue::from_str(&session.id).ok(),
        },
        Err(fault) => Answer::whole(StatusCode::OK, front::fault(Some(request.id), &fault)),
    }
}

/// What one message of a session is answered with; an error when it was not taken.
async fn one(
    front: &Front,
    session: &Arc<Session>,
    message: &Message<'_>,
    outbox: &Arc<Outbox>,
) -> Result<Option<Frame>, RpcFault> {
    match message {
        Message::Request(request) => {
            let reply = match &*request.method {
                "ping" | "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe" => {
                    Box::pin(of_session(front, session, request)).await
                }
                _ => handled(front, session, request, outbox).await,
            };
            Ok(Some(front::answer(Era::Legacy, request, reply.unwrap_or_else(Reply::Fault))))
        }
        Message::Notification(notification) => {
            Box::pin(notified(front, session, notification)).await?;
            Ok(None)
        }
        Message::Response { id, outcome } => {
            if let Some(id) = text(id) {
                Box::pin(front.sessions.answer(session, &id, outcome.clone())).await?;
            }
            Ok(None)
        }
    }
}

async fn notified(front: &Front, session: &Session, notification: &Notification<'_>) -> Result<(), RpcFault> {
    if notification.method != "notifications/cancelled" {
        return Ok(());
    }
    let Some(id) = notification.param("requestId") else { return Ok(()) };
    match session.running.take(id.get()) {
        Some(running) => {
            running.stop();
            Ok(())
        }
        // It is over, or another replica's.
        None => front.sessions.take_back(session, id.get()).await,
    }
}

/// What is about the session alone.
async fn of_session(front: &Front, session: &Session, request: &Request<'_>) -> Result<Reply, RpcFault> {
    match &*request.method {
        "logging/setLevel" => {
            let level = lifecycle::log_level(request)?;
            front.sessions.change(session, |shared| shared.log_level = Some(level.clone())).await?;
        }
        "resources/subscribe" => {
            let uri = lifecycle::uri(request)?;
            if session.uris().len() >= WATCHED_URIS_MAX {
                let why =
                    format!("a session is told of at most {WATCHED_URIS_MAX} resources; unsubscribe from some first");
                return Err(RpcFault::new(INVALID_PARAMS, why));
            }
            let add = |shared: &mut Shared| {
                shared.uris.insert(uri.clone().into_owned());
            };
            front.sessions.change(session, add).await?;
        }
        "resources/unsubscribe" => {
            let uri = lifecycle::uri(request)?;
            let remove = |shared: &mut Shared| {
                shared.uris.remove(&*uri);
            };
            front.sessions.change(session, remove).await?;
        }
        _ => {}
    }
    Ok(Reply::Result(RawJson::empty_object()))
}

/// What needs servers: until it is answered or taken back.
async fn handled(
    front: &Front,
    session: &Arc<Session>,
    request: &Request<'_>,
    outbox: &Arc<Outbox>,
) -> Result<Reply, RpcFault> {
    outbox.belongs_to(session);
    let _listed = session.running.list(request.id.get(), Arc::clone(outbox) as Arc<dyn Stop>);
    front.sessions.look_after(session);
    let caller = session.caller();
    let side = LegacySide { front, session, outbox };
    let mut handling = pin!(front.gateway.handle(&caller, request, &side));
    poll_fn(|cx| {
        if outbox.poll_stopped(cx).is_ready() {
            return Poll::Ready(Err(taken_back()));
        }
        handling.as_mut().poll(cx).map(Ok)
    })
    .await
}

fn taken_back() -> RpcFault {
    RpcFault::new(TAKEN_BACK, "the client took the request back")
}

/// A legacy client: it is told and asked on the stream of its request.
struct LegacySide<'a> {
    front: &'a Front,
    session: &'a Arc<Session>,
    outbox: &'a Arc<Outbox>,
}

#[async_trait]
impl ClientSide for LegacySide<'_> {
    fn notify(&self, method: &str, params: Option<&RawValue>) {
        if self.outbox.takes_events() {
            // What is not taken is counted there.
            let _ = self.outbox.send(front::message(None, method, params));
        }
    }

    fn address(&self) -> Option<Arc<dyn Address>> {
        Some(Arc::new(SessionAddress {
            sessions: Arc::downgrade(&self.front.sessions),
            session: Arc::downgrade(self.session),
            outbox: Arc::downgrade(self.outbox),
        }))
    }

    async fn ask(&self, method: &str, params: &RawJson) -> Result<RawJson, RpcFault> {
        let mut question = self.session.questions.open()?;
        let id = question.id.clone();
        let message = front::message(Some(&id), method, Some(params.raw()));
        if self.outbox.send(message).is_err() {
            let why =
                format!("the client cannot be asked `{method}`: it takes no `text/event-stream`, or does not read it");
            return Err(RpcFault::new(INTERNAL_ERROR, why));
        }
        let until = Instant::now() + self.front.options.question_wait;
        let answered = async {
            let mut look = interval(Duration::from_millis(LOOK_MS));
            look.tick().await;
            loop {
                tokio::select! {
                    biased;
                    outcome = question.answered() => return outcome,
                    _ = look.tick() => {
                        if let Some(outcome) = self.front.sessions.answered_elsewhere(self.session, &id).await {
                            return outcome;
                        }
                    }
                }
            }
        };
        timeout_at(until, answered).await.unwrap_or_else(|_| {
            let seconds = self.front.options.question_wait.as_secs();
            Err(RpcFault::new(INTERNAL_ERROR, format!("the client has not answered `{method}` within {seconds} s")))
        })
    }
}

/// A session that was asked something in a request: told on that request's stream while it lasts, then on the session's own.
struct SessionAddress {
    sessions: Weak<Sessions>,
    session: Weak<Session>,
    outbox: Weak<Outbox>,
}

impl Address for SessionAddress {
    fn completed(&self, params: &RawJson) {
        let message = || front::message(None, COMPLETE, Some(params.raw()));
        if self.outbox.upgrade().is_some_and(|outbox| outbox.send_beside(message()).is_ok()) {
            return;
        }
        let (Some(sessions), Some(session)) = (self.sessions.upgrade(), self.session.upgrade()) else { return };
        let params = params.clone();
        tokio::spawn(async move {
            if let Err(fault) = sessions.complete(&session, &params).await {
                tracing::warn!(why = fault.message, "a client is not told that an elicitation is complete");
            }
        });
    }
}
