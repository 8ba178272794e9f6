//! HTTP servers that misbehave, byte by byte from a bare socket: what is known of the delivery is never more than what was seen.
#![cfg(feature = "upstream")]

mod resume;
mod revisions;
mod server;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use metamcp_core::{
    id::ServerName,
    transport::{Connector, Delivered, ToolOutput, TransportError, TransportErrorKind},
};
use metamcp_mcp_adapters::upstream::{Era, HttpConnector};
use serde_json::json;
use server::{Act, Request, Server, call_on, forgetful, json_answer, modern, result, status};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};

/// A call on a modern server that answers calls like this.
async fn call(act: impl Fn(&Request) -> Act + Send + Sync + 'static) -> Result<ToolOutput, TransportError> {
    let server = Server::start(move |request| modern(request, &act)).await;
    let connector = server.connector().idle_timeout(Duration::from_secs(2));
    call_on(&connector.connect().await.expect("it connects")).await
}

#[track_caller]
fn assert_failed(
    outcome: Result<ToolOutput, TransportError>,
    kind: &TransportErrorKind,
    delivered: Delivered,
) -> TransportError {
    let error = outcome.expect_err("it fails");
    assert_eq!((&error.kind, error.delivered), (kind, delivered), "{error}");
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("s3cret"), "{shown}");
    error
}

#[tokio::test]
async fn a_body_comes_back_byte_for_byte() {
    let raw =
        r#"{"z": 1.0,"big":12345678901234567890123,"huge":1e400,"content":[{"type":"holo"}],"resultType":"complete"}"#;
    let output = call(move |request| result(request, raw)).await.expect("it answers");
    assert_eq!(output.body.get(), raw);
}

#[tokio::test]
async fn every_modern_request_says_all_in_headers_and_body() {
    let server = Server::start(|request| modern(request, |request| result(request, "{}"))).await;
    let connector = server.connector().header("x-team", "t").expect("a good header");
    call_on(&connector.connect().await.expect("it connects")).await.expect("it answers");
    let seen = server.seen("tools/call");
    assert!(seen[0].line.starts_with("POST /mcp?key=s3cret "));
    for header in [
        "mcp-protocol-version: 2026-07-28",
        "mcp-method: tools/call",
        "mcp-name: t",
        "x-team: t",
        "authorization: Basic dXNlcjpzM2NyZXQ=",
    ] {
        assert!(seen[0].has(header), "`{header}` is not in {:?}", seen[0].headers);
    }
    let revisions = |line: &&String| line.to_ascii_lowercase().starts_with("mcp-protocol-version:");
    assert_eq!(seen[0].headers.iter().filter(revisions).count(), 1, "{:?}", seen[0].headers);
    assert_eq!(seen[0].body["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
}

#[tokio::test]
async fn refusals_tell_whether_the_call_may_be_made_again() {
    let busy = TransportErrorKind::Busy;
    let error =
        assert_failed(call(|_| status("429 Too Many Requests", "retry-after: 7\r\n", "")).await, &busy, Delivered::No);
    assert_eq!(error.retry_after, Some(Duration::from_secs(7)));
    assert_failed(call(|_| status("503 Service Unavailable", "retry-after: 1\r\n", "")).await, &busy, Delivered::No);
    assert_failed(call(|_| status("503 Service Unavailable", "", "reset by peer")).await, &busy, Delivered::Maybe);
    assert_failed(call(|_| status("502 Bad Gateway", "", "")).await, &TransportErrorKind::Closed, Delivered::Maybe);
    let rejected = |code| TransportErrorKind::Rejected { code };
    let error = call(|_| status("401 Unauthorized", "www-authenticate: Bearer realm=x\r\n", "")).await;
    assert!(assert_failed(error, &rejected(401), Delivered::Yes).to_string().contains("`Authorization`"));
    assert_failed(call(|_| status("413 Content Too Large", "", "big")).await, &rejected(413), Delivered::Yes);
    let body = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"no"}}"#;
    assert_failed(
        call(move |_| status("400 Bad Request", "content-type: application/json\r\n", body)).await,
        &rejected(-32001),
        Delivered::Yes,
    );
    let moved = call(|_| status("307 Temporary Redirect", "location: https://elsewhere/mcp?key=s3cret\r\n", "")).await;
    assert!(
        assert_failed(moved, &TransportErrorKind::Connect, Delivered::No).to_string().contains("https://elsewhere/mcp")
    );
    let taken = call(|_| status("303 See Other", "location: https://elsewhere/\r\n", "")).await;
    assert_failed(taken, &TransportErrorKind::Connect, Delivered::Maybe);
}

#[tokio::test]
async fn a_broken_connection_may_have_delivered_the_call() {
    let closed = TransportErrorKind::Closed;
    assert_failed(call(|_| Act::Break(String::new())).await, &closed, Delivered::Maybe);
    assert_failed(
        call(|_| {
            Act::Break("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{".to_owned())
        })
        .await,
        &closed,
        Delivered::Maybe,
    );
    let stream = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
    let progress =
        r#"data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":2,"progress":1}}"#;
    assert_failed(call(move |_| Act::Break(format!("{stream}{progress}\n\n"))).await, &closed, Delivered::Maybe);
    assert_failed(call(move |_| Act::Hang(stream.to_owned())).await, &TransportErrorKind::Timeout, Delivered::Maybe);
    assert_failed(call(|_| Act::Hang(String::new())).await, &TransportErrorKind::Timeout, Delivered::Maybe);
}

#[tokio::test]
async fn what_is_no_answer_may_have_happened() {
    let protocol = TransportErrorKind::Protocol;
    assert_failed(call(|_| json_answer("", "hello")).await, &protocol, Delivered::Maybe);
    assert_failed(
        call(|_| json_answer("", r#"{"jsonrpc":"2.0","id":77,"result":{}}"#)).await,
        &protocol,
        Delivered::Maybe,
    );
    assert_failed(
        call(|_| status("200 OK", "content-type: text/html\r\n", "<html>")).await,
        &protocol,
        Delivered::Maybe,
    );
    assert_failed(call(|_| status("202 Accepted", "", "")).await, &protocol, Delivered::Maybe);
    assert_failed(call(|request| result(request, "[]")).await, &protocol, Delivered::Maybe);
}

#[tokio::test]
async fn noise_on_a_stream_is_skipped() {
    let answered = call(|request| {
        let id = request.id();
        let events = [
            ": hello".to_owned(),
            "id: 1\ndata:".to_owned(),
            "data: garbage".to_owned(),
            r#"data: {"jsonrpc":"2.0","id":"s","method":"roots/list"}"#.to_owned(),
            r#"data: {"jsonrpc":"2.0","id":4711,"result":{"n":1}}"#.to_owned(),
            format!(r#"data: {{"jsonrpc":"2.0","id":{id},"result":{{"n":2}}}}"#),
            format!(r#"data: {{"jsonrpc":"2.0","id":{id},"result":{{"n":3}}}}"#),
        ];
        Act::Break(format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n{}\n\n", events.join("\n\n")))
    });
    assert_eq!(answered.await.expect("it answers").body.get(), r#"{"n":2}"#);
}

#[tokio::test]
async fn nobody_at_the_address_means_nothing_was_delivered() {
    let free = TcpListener::bind("127.0.0.1:0").await.expect("a port is free").local_addr().expect("it is bound");
    let name = ServerName::new("far").expect("a valid name");
    let connector = HttpConnector::new(name, &format!("http://u:s3cret@{free}/")).expect("a good address");
    let error = connector.connect().await.expect_err("nobody is there");
    assert_eq!((&error.kind, error.delivered), (&TransportErrorKind::Connect, Delivered::No));
    let shown = format!("{error} {error:?} {connector:?} {}", connector.target());
    assert!(!shown.contains("s3cret"), "{shown}");
}

/// As many servers do while a tool works: comments keep the stream alive for longer than a silence may last.
#[tokio::test]
async fn a_stream_that_is_kept_alive_is_not_silent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
    let address = listener.local_addr().expect("it is bound");
    let server = tokio::spawn(async move {
        for answers in ["discover", "call"] {
            let (stream, _) = listener.accept().await.expect("the client comes");
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            while stream.read_line(&mut line).await.expect("it can be read") > 2 {
                line.clear();
            }
            let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n\r\n";
            stream.write_all(head.as_bytes()).await.expect("it can be written");
            let result = if answers == "discover" {
                json!({ "supportedVersions": ["2026-07-28"], "capabilities": {} })
            } else {
                for _ in 0..12 {
                    stream.write_all(b": alive\n\n").await.expect("it can be written");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                json!({ "late": true })
            };
            let id = if answers == "discover" { 1 } else { 2 };
            let event = format!("data: {}\n\n", json!({ "jsonrpc": "2.0", "id": id, "result": result }));
            stream.write_all(event.as_bytes()).await.expect("it can be written");
            // The request's body is still unread: the socket is closed once the client has read all.
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    });
    let name = ServerName::new("far").expect("a valid name");
    let connector = HttpConnector::new(name, &format!("http://{address}/")).expect("a good address");
    let transport = connector.idle_timeout(Duration::from_millis(700)).connect().await.expect("it connects");
    assert_eq!(call_on(&transport).await.expect("it answers").body.get(), r#"{"late":true}"#);
    server.abort();
}

#[tokio::test]
async fn a_forgotten_session_is_begun_anew_once() {
    let begun = AtomicUsize::new(0);
    let server = Server::start(move |request| forgetful(request, &begun)).await;
    let transport = server.connector().connect().await.expect("it connects");
    assert_eq!(transport.info().protocol, "2025-06-18");
    let (one, two) = tokio::join!(call_on(&transport), call_on(&transport));
    assert_eq!(one.expect("it answers").body.get(), r#"{"old":true}"#);
    assert!(two.is_ok());
    assert_eq!(server.seen("initialize").len(), 2, "both calls share the new session");
    let calls = server.seen("tools/call");
    assert!(calls.iter().all(|request| request.has("mcp-protocol-version: 2025-06-18")), "{calls:?}");
    transport.close().await;
    let all = server.seen.lock().expect("no panic").clone();
    let last = all.last().expect("there were requests");
    assert!(last.line.starts_with("DELETE ") && last.has("mcp-session-id: s2"), "{last:?}");
}

#[tokio::test]
async fn what_is_watched_is_watched_again_in_a_session_that_was_begun_anew() {
    let begun = AtomicUsize::new(0);
    let server = Server::start(move |request| forgetful(request, &begun)).await;
    let transport = server.connector().connect().await.expect("it connects");
    let relay = transport.relay().expect("it relays");
    let watched = ["file:///a".to_owned()];
    for _ in 0..2 {
        relay.watch(&watched).await.expect("it is taken");
    }
    assert_eq!(server.seen("resources/subscribe").len(), 1);
    call_on(&transport).await.expect("it answers");
    relay.watch(&watched).await.expect("it is taken");
    let asked = server.seen("resources/subscribe");
    assert!(asked.len() == 2 && asked[1].has("mcp-session-id: s2"), "{asked:?}");
}

#[tokio::test]
async fn a_server_that_forgets_every_session_is_not_asked_for_ever() {
    let server = Server::start(|request| match request.method() {
        "tools/call" => status("404 Not Found", "", ""),
        _ => forgetful(request, &AtomicUsize::new(0)),
    });
    let server = server.await;
    let transport = server.connector().connect().await.expect("it connects");
    let error = call_on(&transport).await.expect_err("it forgets every session");
    assert_eq!((&error.kind, error.delivered), (&TransportErrorKind::Rejected { code: 404 }, Delivered::Yes));
    assert_eq!(server.seen("tools/call").len(), 2);
}

#[tokio::test]
async fn a_server_that_wants_authorization_is_not_taken_for_an_old_one() {
    let server = Server::start(|_| status("401 Unauthorized", "", "")).await;
    let error = server.connector().connect().await.expect_err("it wants authorization");
    assert!(matches!(error.kind, TransportErrorKind::Rejected { code: 401 }), "{error:?}");
    assert_eq!(server.seen.lock().expect("no panic").len(), 1);
}

#[tokio::test]
async fn a_server_that_became_another_one_is_to_be_connected_anew() {
    let server = Server::start(|request| modern(request, |_| status("404 Not Found", "", ""))).await;
    let transport = server.connector().connect().await.expect("it connects");
    assert!(call_on(&transport).await.is_err());
    assert!(transport.is_closed());
}

#[tokio::test]
async fn what_is_under_way_ends_well_beside_a_call_that_finds_another_server() {
    let calls = AtomicUsize::new(0);
    let server = Server::start(move |request| {
        modern(request, |request| {
            if calls.fetch_add(1, Ordering::SeqCst) > 0 {
                return status("404 Not Found", "", "");
            }
            // Its answer is awaited by the first caller while the second one is refused.
            let body = json!({ "jsonrpc": "2.0", "id": request.id(), "result": { "late": true } }).to_string();
            Act::Late(format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            ))
        })
    })
    .await;
    let transport = server.connector().connect().await.expect("it connects");
    let late = tokio::spawn({
        let transport = Arc::clone(&transport);
        async move { call_on(&transport).await }
    });
    while server.seen("tools/call").is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(call_on(&transport).await.is_err());
    assert!(transport.is_closed());
    transport.close().await;
    let refused = call_on(&transport).await.expect_err("nothing new is asked");
    assert_eq!((&refused.kind, refused.delivered), (&TransportErrorKind::Closed, Delivered::No));
    server.go_on.notify_one();
    assert_eq!(late.await.expect("no panic").expect("it answers").body.get(), r#"{"late":true}"#);
}

#[tokio::test]
async fn a_server_that_hangs_up_on_the_modern_question_is_spoken_to_as_of_old() {
    let begun = AtomicUsize::new(1);
    let server = Server::start(move |request| match request.method() {
        "server/discover" => Act::Break(String::new()),
        _ => forgetful(request, &begun),
    })
    .await;
    let transport = server.connector().connect().await.expect("it connects");
    assert_eq!(transport.info().protocol, "2025-06-18");
    assert!(server.connector().era(Era::Modern).connect().await.is_err());
    assert_eq!(server.seen("initialize").len(), 1);
}

#[tokio::test]
async fn a_server_that_asks_too_much_is_not_answered_without_bound() {
    let server = Server::start(|request| {
        if request.method().is_empty() {
            return Act::Hang(String::new());
        }
        modern(request, |request| {
            let asked = r#"data: {"jsonrpc":"2.0","id":"s","method":"roots/list"}"#;
            let answer = format!(r#"data: {{"jsonrpc":"2.0","id":{},"result":{{}}}}"#, request.id());
            let events = [vec![asked; 40], vec![answer.as_str()]].concat().join("\n\n");
            Act::Break(format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n{events}\n\n"))
        })
    })
    .await;
    let transport = server.connector().connect().await.expect("it connects");
    call_on(&transport).await.expect("it answers");
    // Whoever is to be answered is known by now; the answers themselves are on their way.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let answers = server.seen("").len();
    assert!((1..=8).contains(&answers), "{answers}");
}
