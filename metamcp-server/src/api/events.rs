//! The stream of events over server-sent events and over WebSocket: the same news in two envelopes.

use std::{convert::Infallible, time::Duration};

use axum::{
    Extension,
    extract::{
        RawQuery, State,
        ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code, rejection::WebSocketUpgradeRejection},
    },
    response::{IntoResponse, Response, Sse, sse},
};
use bytes::Bytes;
use futures_util::{SinkExt, Stream, StreamExt, stream};
use http::{HeaderMap, HeaderValue, header};
use metamcp_core::{auth::Principal, id::JobId};
use serde::Serialize;

use super::{
    doc::{EventDocument, ProblemDocument, ProblemKind},
    feed::{self, News},
    params::Params,
    problem::Problem,
    state::ApiState,
};

/// Pause asked of a client before it connects again, in milliseconds.
const RECONNECT_MS: u64 = 1_000;
/// Largest message a WebSocket client may send, in bytes; nothing is expected of it.
const WS_MESSAGE_BYTES_MAX: usize = 4 << 10;
/// Longest wait for a WebSocket client to take a message, in seconds.
const WS_SEND_S_MAX: u64 = 30;

type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

/// Follow the caller's events.
///
/// Server-sent events: `id` is the cursor, `event` the kind, `data` the event. A comment breaks the silence. The event `missed` tells that
/// events were dropped, `problem` why the stream ends. Without `Last-Event-ID` and `after` it starts now; 0 is the oldest event kept.
/// A WebSocket request is answered with the same stream as text messages.
#[utoipa::path(
    get, path = "/api/events", tag = "events", operation_id = "streamEvents",
    params(
        ("Last-Event-ID" = Option<u64>, Header, description = "go on after this cursor"),
        ("after" = Option<u64>, Query, description = "the same, for clients that cannot set the header, which wins"),
        ("job" = Option<String>, Query, description = "only of this task"),
    ),
    responses(
        (status = 200, description = "a stream without end", content_type = "text/event-stream", body = EventDocument),
        (status = "4XX", description = "a parameter is not valid", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "too many streams are open", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn follow(
    State(state): State<ApiState>,
    Extension(who): Extension<Principal>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    upgrade: Upgrade,
) -> Result<Response, Problem> {
    let (after, job) = wish(query.as_deref(), &headers)?;
    let asks_upgrade = headers.get(header::UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if asks_upgrade {
        return socket(state, who, after, job, upgrade).await;
    }
    let news = feed::open(state, who, after, job).await?;
    let hello = sse::Event::default().retry(Duration::from_millis(RECONNECT_MS)).comment("connected");
    let events = stream::iter([hello]).chain(news.map(|news| envelope(&news))).map(Ok::<_, Infallible>);
    let mut response = Sse::new(events).into_response();
    // Proxies that gather bytes would hold events back.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// Follow the caller's events over a WebSocket.
///
/// Each event is one text message; `{"type": "missed", …}` tells that events were dropped. Pings break the silence. The close code is 1001
/// when the server stops, 1011 when it fails.
#[utoipa::path(
    get, path = "/api/events/ws", tag = "events", operation_id = "streamEventsOverWebSocket",
    params(
        ("after" = Option<u64>, Query, description = "go on after this cursor; without it the stream starts now"),
        ("job" = Option<String>, Query, description = "only of this task"),
    ),
    responses(
        (status = 101, description = "a WebSocket"),
        (status = "4XX", description = "a parameter is not valid, or this is no WebSocket request", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "too many streams are open", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(super) async fn follow_ws(
    State(state): State<ApiState>,
    Extension(who): Extension<Principal>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    upgrade: Upgrade,
) -> Result<Response, Problem> {
    let (after, job) = wish(query.as_deref(), &headers)?;
    socket(state, who, after, job, upgrade).await
}

fn wish(query: Option<&str>, headers: &HeaderMap) -> Result<(Option<u64>, Option<JobId>), Problem> {
    let params = Params::parse(query, &["after", "job"])?;
    let job = params.value("job")?;
    let Some(last) = headers.get("last-event-id") else { return Ok((params.value("after")?, job)) };
    let last = last.to_str().ok().and_then(|text| text.trim().parse().ok()).ok_or_else(|| {
        Problem::new(ProblemKind::BadRequest, "Last-Event-ID: must be the cursor of an event, a whole number")
            .with_field("Last-Event-ID", "send the id of the last event, or leave it out")
    })?;
    Ok((Some(last), job))
}

fn envelope(news: &News) -> sse::Event {
    let event = sse::Event::default();
    match news {
        News::Event(document) => event.id(document.cursor.to_string()).event(document.kind.name()).data(text(document)),
        News::Missed(document) => event.id(document.next.to_string()).event("missed").data(text(document)),
        News::Heartbeat => event.comment("heartbeat"),
        News::Failed(problem) => event.event("problem").data(text(problem.document())),
    }
}

fn text<T: Serialize>(document: &T) -> String {
    serde_json::to_string(document).expect("events and problems have string keys only")
}

async fn socket(
    state: ApiState,
    who: Principal,
    after: Option<u64>,
    job: Option<JobId>,
    upgrade: Upgrade,
) -> Result<Response, Problem> {
    let upgrade = upgrade.map_err(|rejection| {
        let problem = Problem::new(ProblemKind::UpgradeRequired, rejection.body_text());
        problem.with(|document| document.mend = Some("open it as a WebSocket, or read /api/events".to_owned()))
    });
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade.max_message_size(WS_MESSAGE_BYTES_MAX).max_frame_size(WS_MESSAGE_BYTES_MAX),
        Err(problem) => return Ok(([(header::UPGRADE, "websocket")], problem).into_response()),
    };
    let news = feed::open(state, who, after, job).await?;
    Ok(upgrade.on_upgrade(|socket| carry(socket, news)))
}

enum Turn {
    News(News),
    Drained,
    /// The client is there; what it says does not matter.
    Heard,
    Gone,
}

/// Sends news until the client goes, the server drains, or a client does not take what is sent.
async fn carry(socket: WebSocket, news: impl Stream<Item = News> + Send + 'static) {
    let (mut sink, source) = socket.split();
    let news = news.map(Turn::News).chain(stream::iter([Turn::Drained]));
    let heard = source.map(|message| match message {
        Ok(Message::Close(_)) | Err(_) => Turn::Gone,
        Ok(_) => Turn::Heard,
    });
    let mut turns = std::pin::pin!(stream::select(news, heard.chain(stream::iter([Turn::Gone]))));
    while let Some(turn) = turns.next().await {
        let (message, last) = match turn {
            Turn::News(News::Event(document)) => (Message::Text(text(&document).into()), false),
            Turn::News(News::Missed(document)) => (Message::Text(text(&document).into()), false),
            Turn::News(News::Heartbeat) => (Message::Ping(Bytes::new()), false),
            Turn::News(News::Failed(problem)) => (close(close_code::ERROR, problem.document().kind.title()), true),
            Turn::Drained => (close(close_code::AWAY, "the server is stopping"), true),
            Turn::Heard => continue,
            Turn::Gone => return,
        };
        let sent = tokio::time::timeout(Duration::from_secs(WS_SEND_S_MAX), sink.send(message)).await;
        if last || !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

fn close(code: u16, reason: &'static str) -> Message {
    Message::Close(Some(CloseFrame { code, reason: reason.into() }))
}
