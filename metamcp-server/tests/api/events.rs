//! The stream of events, over server-sent events and over WebSocket.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use metamcp_core::{event::MemoryEventBus, testing::scripted::Step, time::SystemClock};
use metamcp_server::api::doc::{EventDocument, EventKindDocument, MissedDocument, ProblemKind, TaskState};
use reqwest::RequestBuilder;
use serde_json::json;
use tokio_tungstenite::tungstenite::{Error as WsError, Message, protocol::frame::coding::CloseCode};

use crate::house::{House, bounded, problem_of};

/// One block of a stream of server-sent events.
#[derive(Debug, Default, PartialEq)]
struct Block {
    id: Option<String>,
    event: Option<String>,
    data: String,
    comment: Option<String>,
}

impl Block {
    fn document(&self) -> EventDocument {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

struct Blocks {
    response: reqwest::Response,
    buffer: String,
}

impl Blocks {
    async fn open(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut blocks = Self { response, buffer: String::new() };
        assert_eq!(blocks.next().await.unwrap().comment.as_deref(), Some("connected"));
        blocks
    }

    /// The next block; `None` when the stream ends.
    async fn next(&mut self) -> Option<Block> {
        bounded("an event", async {
            loop {
                if let Some((block, rest)) = self.buffer.split_once("\n\n") {
                    let parsed = parse(block);
                    self.buffer = rest.to_owned();
                    return Some(parsed);
                }
                let chunk = self.response.chunk().await.unwrap()?;
                self.buffer.push_str(std::str::from_utf8(&chunk).unwrap());
            }
        })
        .await
    }

    async fn event(&mut self) -> EventDocument {
        loop {
            let block = self.next().await.expect("the stream goes on");
            if block.comment.is_none() {
                let document = block.document();
                assert_eq!(block.id, Some(document.cursor.to_string()));
                assert_eq!(block.event.as_deref(), Some(document.kind.name()));
                return document;
            }
        }
    }
}

fn parse(text: &str) -> Block {
    let mut block = Block::default();
    for line in text.lines() {
        match line.split_once(':').map(|(name, value)| (name, value.trim_start().to_owned())) {
            Some(("id", value)) => block.id = Some(value),
            Some(("event", value)) => block.event = Some(value),
            Some(("data", value)) => block.data.push_str(&value),
            Some(("", value)) => block.comment = Some(value),
            Some(("retry", _)) => (),
            other => panic!("{other:?} in {text}"),
        }
    }
    block
}

#[tokio::test]
async fn a_stream_starts_now_and_tells_a_task_to_its_end() {
    let house = House::open().await;
    house.submit(json!({ "tool": "desk/say", "wait_ms": 20_000 })).await;
    let mut stream = Blocks::open(house.get("/api/events")).await;
    let job = house.submit(json!({ "tool": "local/echo", "wait_ms": 20_000 })).await;
    let mut told = Vec::new();
    let result = loop {
        let event = stream.event().await;
        assert_eq!(event.job, job.id, "what was before is not told");
        told.push(event.kind.name());
        if let EventKindDocument::Completed { result } = event.kind {
            break result;
        }
    };
    assert_eq!(told, ["queued", "started", "completed"]);
    assert_eq!(Some(result), job.result);
}

#[tokio::test]
async fn a_stream_goes_on_after_the_last_event_that_was_read() {
    let house = House::open().await;
    let job = house.submit(json!({ "tool": "desk/say", "wait_ms": 20_000 })).await;
    let mut all = Blocks::open(house.get("/api/events?after=0")).await;
    let events = [all.event().await, all.event().await, all.event().await];
    assert_eq!(events.each_ref().map(|event| event.cursor), [1, 2, 3]);
    assert!(events.iter().all(|event| event.job == job.id));

    let by_header = house.get("/api/events?after=0").header("Last-Event-ID", "1");
    assert_eq!(Blocks::open(by_header).await.event().await, events[1], "the header wins");
    let mut by_query = Blocks::open(house.get("/api/events?after=2")).await;
    assert_eq!(by_query.event().await, events[2]);
}

#[tokio::test]
async fn a_stream_can_tell_of_one_task_only() {
    let house = House::open().await;
    let first = house.submit(json!({ "tool": "desk/say", "wait_ms": 20_000 })).await;
    let second = house.submit(json!({ "tool": "local/echo", "wait_ms": 20_000 })).await;
    let mut stream = Blocks::open(house.get(&format!("/api/events?after=0&job={}", second.id))).await;
    for name in ["queued", "started", "completed"] {
        let event = stream.event().await;
        assert_eq!((event.job, event.kind.name()), (second.id, name));
        assert_ne!(event.job, first.id);
    }
}

#[tokio::test]
async fn silence_is_broken_by_heartbeats() {
    let house = House::with(|plan| plan.api.heartbeat = Duration::from_millis(30)).await;
    let mut stream = Blocks::open(house.get("/api/events")).await;
    for _ in 0..3 {
        assert_eq!(stream.next().await.unwrap().comment.as_deref(), Some("heartbeat"));
    }
    // Events that a stream does not tell are silence too.
    let other = "01997f3e-5c1a-7d3e-9c55-0a1b2c3d4e5f";
    let mut filtered = Blocks::open(house.get(&format!("/api/events?job={other}"))).await;
    house.submit(json!({ "tool": "desk/say", "wait_ms": 20_000 })).await;
    assert_eq!(filtered.next().await.unwrap().comment.as_deref(), Some("heartbeat"));
}

#[tokio::test]
async fn dropped_events_are_told_as_missed() {
    let house = House::with(|plan| {
        let clock = Arc::new(SystemClock::default());
        plan.events = Some(Arc::new(MemoryEventBus::with_capacity(clock, NonZeroUsize::new(4).unwrap())));
    })
    .await;
    for _ in 0..6 {
        house.submit(json!({ "tool": "desk/say", "wait_ms": 20_000 })).await;
    }
    for (request, after) in [
        (house.get("/api/events?after=1"), 1),
        // A cursor of another life of the bus.
        (house.get("/api/events").header("Last-Event-ID", "99999"), 99_999),
    ] {
        let mut stream = Blocks::open(request).await;
        let block = stream.next().await.unwrap();
        assert_eq!(block.event.as_deref(), Some("missed"));
        let missed: MissedDocument = serde_json::from_str(&block.data).unwrap();
        assert_eq!((missed.after, block.id), (after, Some(missed.next.to_string())));
        assert_eq!(stream.event().await.cursor, missed.next + 1);
    }
}

#[tokio::test]
async fn a_wish_that_cannot_be_is_refused() {
    let house = House::open().await;
    for (query, field) in [("after=x", "after"), ("job=x", "job"), ("afte=1", "afte")] {
        let problem = problem_of(house.get(&format!("/api/events?{query}")), ProblemKind::InvalidParameter).await;
        assert_eq!(problem.field.as_deref(), Some(field));
    }
    problem_of(house.get("/api/events").header("Last-Event-ID", "x"), ProblemKind::BadRequest).await;
    problem_of(house.get("/api/events/ws"), ProblemKind::UpgradeRequired).await;
}

#[tokio::test]
async fn streams_have_a_bound_and_give_their_place_back() {
    let house = House::with(|plan| plan.api.streams_max = 1).await;
    let first = Blocks::open(house.get("/api/events")).await;
    problem_of(house.get("/api/events"), ProblemKind::TooManyStreams).await;
    drop(first);
    bounded("the place", async {
        while house.get("/api/events").send().await.unwrap().status() != 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_websocket_carries_the_same_stream() {
    let house = House::open().await;
    house.submit(json!({ "tool": "desk/say", "wait_ms": 20_000 })).await;
    for path in ["/api/events/ws", "/api/events"] {
        let url = format!("ws://{}{path}?after=1", house.address);
        let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        for name in ["started", "completed"] {
            let message = bounded("a message", socket.next()).await.unwrap().unwrap();
            let event: EventDocument = serde_json::from_str(message.to_text().unwrap()).unwrap();
            assert_eq!(event.kind.name(), name, "{path}");
        }
        socket.send(Message::Text("ignored".into())).await.unwrap();
        house.submit(json!({ "tool": "local/echo", "wait_ms": 20_000 })).await;
        let message = bounded("a message", socket.next()).await.unwrap().unwrap();
        let event: EventDocument = serde_json::from_str(message.to_text().unwrap()).unwrap();
        assert_eq!(event.kind, EventKindDocument::Queued);
    }
}

#[tokio::test]
async fn a_websocket_pings_in_silence_and_takes_no_large_message() {
    let house = House::with(|plan| plan.api.heartbeat = Duration::from_millis(30)).await;
    let url = format!("ws://{}/api/events/ws", house.address);
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    assert!(bounded("a ping", socket.next()).await.unwrap().unwrap().is_ping());
    socket.send(Message::Text("x".repeat(64 << 10).into())).await.unwrap();
    bounded("the end", async { while let Some(Ok(_)) = socket.next().await {} }).await;
}

#[tokio::test]
async fn a_websocket_from_a_page_of_another_site_is_refused() {
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;
    let house = House::open().await;
    let mut request = format!("ws://{}/api/events/ws", house.address).into_client_request().unwrap();
    request.headers_mut().insert("origin", "https://evil.example".parse().unwrap());
    match tokio_tungstenite::connect_async(request).await {
        Err(WsError::Http(response)) => assert_eq!(response.status(), 403),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_drain_ends_streams_and_waits() {
    let house = House::open().await;
    house.desk.standing(Step::Hang);
    let mut stream = Blocks::open(house.get("/api/events")).await;
    let (mut socket, _) =
        tokio_tungstenite::connect_async(format!("ws://{}/api/events/ws", house.address)).await.unwrap();
    let job = house.submit(json!({ "tool": "desk/hold" })).await;
    house.task_when(&job, |now| now.state == TaskState::Working).await;
    let waiting = tokio::spawn(house.get(&format!("/api/tasks/{}?wait_ms=20000", job.id)).send());
    // The request must be on its way before the listener goes.
    tokio::time::sleep(Duration::from_millis(100)).await;
    house.begin_stop();
    while stream.next().await.is_some() {}
    let close = loop {
        match bounded("the close", socket.next()).await.unwrap().unwrap() {
            Message::Close(frame) => break frame.unwrap(),
            _ => continue,
        }
    };
    assert_eq!(close.code, CloseCode::Away);
    let answered = bounded("the answer", waiting).await.unwrap().unwrap();
    assert_eq!(answered.status(), 200, "a wait that is cut short tells the task as it stands");
    assert_eq!(house.stop().await.cut, 0);
}
