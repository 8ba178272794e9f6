//! Streams of legacy servers that break before the answer: they are taken up again where they stood, a bounded number of times.

use std::sync::atomic::AtomicUsize;

use metamcp_core::transport::{Connector, Delivered, TransportErrorKind};

use crate::server::{Act, Request, Server, call_on, forgetful};

const STREAM: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n\r\n";
/// How often a stream is taken up again that has nothing new.
const RESUMES: usize = 5;

/// A legacy server whose calls stand at `e0` and break off; what it does then is `taken_up`.
async fn breaking(taken_up: impl Fn(&Request) -> Act + Send + Sync + 'static) -> Server {
    let begun = AtomicUsize::new(1);
    Server::start(move |request| match request.method() {
        "tools/call" => Act::Break(format!("{STREAM}retry: 0\nid: e0\ndata:\n\n")),
        "" if request.headers.iter().any(|line| line.starts_with("last-event-id: ")) => taken_up(request),
        _ => forgetful(request, &begun),
    })
    .await
}

fn taken_up(server: &Server, mark: &str) -> usize {
    let mark = format!("last-event-id: {mark}");
    server.seen("").iter().filter(|request| request.has(&mark)).count()
}

#[tokio::test]
async fn a_stream_that_breaks_again_and_again_with_nothing_new_is_given_up() {
    let server = breaking(|_| Act::Break(STREAM.to_owned())).await;
    let transport = server.connector().connect().await.expect("it connects");
    let error = call_on(&transport).await.expect_err("it never answers");
    assert_eq!((&error.kind, error.delivered), (&TransportErrorKind::Closed, Delivered::Maybe), "{error}");
    assert_eq!(taken_up(&server, "e0"), RESUMES);
    assert_eq!(server.seen("tools/call").len(), 1, "the call itself is never made again");
}

#[tokio::test]
async fn a_stream_that_has_something_new_each_time_is_followed_to_its_answer() {
    const PARTS: usize = RESUMES + 3;
    let server = breaking(|request| {
        let at = (0..=PARTS).find(|at| request.has(&format!("last-event-id: e{at}"))).expect("a mark of ours");
        if at < PARTS {
            return Act::Break(format!("{STREAM}id: e{}\ndata:\n\n", at + 1));
        }
        // The call is the second request that has an id; the first began the session.
        Act::Break(format!("{STREAM}data: {{\"jsonrpc\":\"2.0\",\"id\":3,\"result\":{{\"n\":1}}}}\n\n"))
    })
    .await;
    let transport = server.connector().connect().await.expect("it connects");
    let output = call_on(&transport).await;
    let calls = server.seen("tools/call");
    assert_eq!((calls.len(), calls[0].id()), (1, &3.into()));
    assert_eq!(output.expect("it answers").body.get(), r#"{"n":1}"#);
}
