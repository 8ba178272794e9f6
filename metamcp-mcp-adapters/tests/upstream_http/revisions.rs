//! Servers that do not take our revision (-32022), at the start or later.

use std::sync::atomic::{AtomicUsize, Ordering};

use metamcp_core::transport::Connector;

use crate::server::{Act, Request, Server, call_on, forgetful, modern, result, status};

/// Refuses the revision and names those that are spoken.
fn unsupported(request: &Request, spoken: &str) -> Act {
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":-32022,"message":"no","data":{{"supported":["{spoken}"]}}}}}}"#,
        request.id()
    );
    status("400 Bad Request", "content-type: application/json\r\n", &body)
}

#[tokio::test]
async fn a_server_that_speaks_only_the_future_is_told_so() {
    let server = Server::start(|request| {
        let body =
            r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32022,"message":"no","data":{"supported":["2099-01-01"]}}}"#;
        assert_eq!(request.method(), "server/discover");
        status("400 Bad Request", "content-type: application/json\r\n", body)
    });
    let error = server.await.connector().connect().await.expect_err("nobody speaks it yet");
    assert!(error.to_string().contains("2099-01-01"), "{error}");
}

#[tokio::test]
async fn a_server_that_refused_the_revision_it_speaks_is_asked_once_more() {
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |request| {
        if request.method() == "server/discover" && asked.fetch_add(1, Ordering::SeqCst) == 0 {
            return unsupported(request, "2026-07-28");
        }
        modern(request, |request| result(request, "{}"))
    })
    .await;
    let transport = server.connector().connect().await.expect("it connects");
    assert_eq!(transport.info().protocol, "2026-07-28");
    call_on(&transport).await.expect("it answers");
    assert_eq!(server.seen("server/discover").len(), 2);
}

#[tokio::test]
async fn a_server_that_goes_on_refusing_what_it_speaks_is_not_asked_for_ever() {
    let server = Server::start(|request| unsupported(request, "2026-07-28")).await;
    let error = server.connector().connect().await.expect_err("it never agrees");
    assert!(error.to_string().contains("2026-07-28"), "{error}");
    assert_eq!((server.seen("server/discover").len(), server.seen("initialize").len()), (2, 0));
}

#[tokio::test]
async fn a_server_that_names_a_legacy_revision_is_spoken_to_as_of_old() {
    let begun = AtomicUsize::new(1);
    let server = Server::start(move |request| match request.method() {
        "server/discover" => unsupported(request, "2025-06-18"),
        _ => forgetful(request, &begun),
    })
    .await;
    let transport = server.connector().connect().await.expect("it connects");
    assert_eq!(transport.info().protocol, "2025-06-18");
    assert_eq!((server.seen("server/discover").len(), server.seen("initialize").len()), (1, 1));
}

#[tokio::test]
async fn a_server_that_does_not_speak_the_revision_any_more_is_to_be_connected_anew() {
    let server = Server::start(|request| modern(request, |request| unsupported(request, "2099-01-01"))).await;
    let transport = server.connector().connect().await.expect("it connects");
    assert!(call_on(&transport).await.is_err());
    assert!(transport.is_closed());
    assert_eq!(server.seen("tools/call").len(), 1, "a call that was refused is not made again by the transport");
}
