//! The transport suite over every way and both eras, against a server of the official SDK; tasks and questions in the modern one.
#![cfg(feature = "upstream")]

mod fixture;

use std::{sync::Arc, time::Duration};

use metamcp_core::{
    id::{JobId, ServerName},
    json::RawJson,
    queue::Answer,
    testing::mcp_transport::Fixture,
    time::Timestamp,
    transport::{CallContext, Connector, McpTransport, Resume, ToolCall, ToolReply, TransportErrorKind},
};
use metamcp_mcp_adapters::upstream::{Era, HttpConnector, IoConnector, StdioConnector};
use rmcp::transport::streamable_http_server::StreamableHttpServerConfig;
use serde_json::{Value, json};

fn name() -> ServerName {
    ServerName::new("fixture").expect("a valid name")
}

async fn connected(connector: impl Connector, era: Era, guard: impl std::any::Any + Send + Sync) -> Fixture {
    let transport = connector.connect().await.expect("the fixture can be connected to");
    let revision = if era == Era::Modern { "2026-07-28" } else { "2025-11-25" };
    assert_eq!(transport.info().protocol, revision, "{:?}", transport.info());
    Fixture { transport, guard: Box::new((connector, guard)) }
}

/// Not a test of its own: what other tests start as a child process.
#[tokio::test]
#[ignore = "a server that other tests start"]
async fn fixture_server() {
    let io = tokio::io::join(tokio::io::stdin(), tokio::io::stdout());
    fixture::serve(fixture::Server::default(), io).await;
}

fn stdio_connector() -> StdioConnector {
    let program = std::env::current_exe().expect("this program has a path");
    StdioConnector::new(name(), program.to_string_lossy()).args([
        "--ignored",
        "--exact",
        "--nocapture",
        "fixture_server",
    ])
}

async fn stdio(era: Option<Era>) -> Fixture {
    let connector = stdio_connector();
    match era {
        Some(era) => connected(connector.era(era), era, ()).await,
        None => connected(connector, Era::Modern, ()).await,
    }
}

async fn pipe(era: Era) -> Fixture {
    let server = fixture::Server::default();
    let open = move || {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        tokio::spawn(fixture::serve(server.clone(), theirs));
        ours
    };
    connected(IoConnector::new(name(), open).era(era), era, ()).await
}

async fn http(era: Option<Era>, config: StreamableHttpServerConfig) -> Fixture {
    let (url, guard) = fixture::serve_http(fixture::Server::default(), config).await;
    let connector = HttpConnector::new(name(), &url).expect("the address is good");
    match era {
        Some(era) => connected(connector.era(era), era, guard).await,
        None => connected(connector, Era::Modern, guard).await,
    }
}

mod stdio_modern {
    use super::*;

    async fn make() -> Fixture {
        stdio(None).await
    }
    metamcp_core::mcp_transport_suite!(make);
}

mod stdio_legacy {
    use super::*;

    async fn make() -> Fixture {
        stdio(Some(Era::Legacy)).await
    }
    metamcp_core::mcp_transport_suite!(make);
}

mod pipe_modern {
    use super::*;

    async fn make() -> Fixture {
        pipe(Era::Modern).await
    }
    metamcp_core::mcp_transport_suite!(make);
}

mod pipe_legacy {
    use super::*;

    async fn make() -> Fixture {
        pipe(Era::Legacy).await
    }
    metamcp_core::mcp_transport_suite!(make);
}

mod http_modern {
    use super::*;

    async fn make() -> Fixture {
        http(None, StreamableHttpServerConfig::default()).await
    }
    metamcp_core::mcp_transport_suite!(make);
}

mod http_modern_json {
    use super::*;

    async fn make() -> Fixture {
        http(None, StreamableHttpServerConfig::default().with_json_response(true)).await
    }
    metamcp_core::mcp_transport_suite!(make);
}

mod http_legacy_sessions {
    use super::*;

    async fn make() -> Fixture {
        http(Some(Era::Legacy), StreamableHttpServerConfig::default()).await
    }
    metamcp_core::mcp_transport_suite!(make);
}

/// Every way that speaks the modern era.
async fn modern() -> Vec<Fixture> {
    vec![stdio(None).await, pipe(Era::Modern).await, http(None, StreamableHttpServerConfig::default()).await]
}

async fn call(transport: &Arc<dyn McpTransport>, tool: &str, arguments: Value) -> ToolReply {
    let call = ToolCall::new(tool, arguments.into());
    transport.call(&call, &CallContext::quiet()).await.expect("the call is answered")
}

fn text(reply: &ToolReply) -> String {
    let ToolReply::Done(output) = reply else { panic!("not done: {reply:?}") };
    output.body.view::<Value>().expect("a result is JSON")["content"][0]["text"].as_str().unwrap_or_default().to_owned()
}

/// Polls to the end, within bounds; how often it was told to wait.
async fn poll(transport: &Arc<dyn McpTransport>, mut reply: ToolReply) -> (ToolReply, usize) {
    for polls in 0..200 {
        let ToolReply::Working { checkpoint, poll_after, .. } = &reply else { return (reply, polls) };
        tokio::time::sleep(*poll_after).await;
        reply = transport.resume(checkpoint, Resume::Poll, &CallContext::quiet()).await.expect("a poll is answered");
    }
    panic!("the task does not end: {reply:?}")
}

fn answer(name: &str) -> Resume {
    let response = json!({ "who": { "action": "accept", "content": { "name": name } } });
    Resume::Answer(Answer { responses: response.to_string() })
}

#[tokio::test]
async fn a_task_is_polled_to_its_result() {
    for Fixture { transport, guard: _guard } in modern().await {
        let reply = call(&transport, "task", json!({})).await;
        let ToolReply::Working { checkpoint, poll_after, progress } = &reply else { panic!("a task: {reply:?}") };
        assert!(checkpoint.replay_safe);
        assert_eq!(*poll_after, Duration::from_millis(50), "20 ms are asked for, 50 are the least");
        assert_eq!(progress.as_ref().and_then(|p| p.message.as_deref()), Some("thinking"));
        let (done, polls) = poll(&transport, reply).await;
        assert_eq!(text(&done), "thought");
        assert!(polls > 0);
    }
}

#[tokio::test]
async fn a_task_that_asks_goes_on_with_the_answer() {
    for Fixture { transport, guard: _guard } in modern().await {
        let (asks, _) = poll(&transport, call(&transport, "task", json!({ "kind": "ask" })).await).await;
        let ToolReply::NeedsInput { checkpoint, requests } = &asks else { panic!("a question: {asks:?}") };
        let request: Value = serde_json::from_str(&requests[0].request).expect("a question is JSON");
        assert_eq!((requests[0].key.as_str(), &request["params"]["message"]), ("who", &json!("who are you?")));
        let told =
            transport.resume(checkpoint, answer("ann"), &CallContext::quiet()).await.expect("an answer is taken");
        assert_eq!(text(&poll(&transport, told).await.0), "ann");
    }
}

#[tokio::test]
async fn a_task_can_be_cancelled_and_an_unknown_one_may_have_happened() {
    for Fixture { transport, guard: _guard } in modern().await {
        let ToolReply::Working { mut checkpoint, .. } = call(&transport, "task", json!({ "kind": "hang" })).await
        else {
            panic!("a task")
        };
        transport.cancel(&checkpoint).await.expect("the cancel is taken");
        let end = async {
            loop {
                match transport.resume(&checkpoint, Resume::Poll, &CallContext::quiet()).await {
                    Ok(ToolReply::Working { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
                    ended => break ended,
                }
            }
        };
        let ended = tokio::time::timeout(Duration::from_secs(20), end).await.expect("a cancelled task ends");
        assert!(matches!(ended.as_ref().map_err(|e| &e.kind), Err(TransportErrorKind::Rejected { .. })), "{ended:?}");
        checkpoint.text = r#"{"task":{"id":"nobody"}}"#.to_owned();
        let lost = transport.resume(&checkpoint, Resume::Poll, &CallContext::quiet()).await.expect_err("no such task");
        assert_eq!(lost.delivered, metamcp_core::transport::Delivered::Maybe);
    }
}

#[tokio::test]
async fn a_call_that_asks_is_made_again_with_the_answer_and_its_state() {
    for Fixture { transport, guard: _guard } in modern().await {
        let asks = call(&transport, "greet", json!({})).await;
        let ToolReply::NeedsInput { checkpoint, requests } = &asks else { panic!("a question: {asks:?}") };
        assert_eq!(requests.len(), 1);
        assert!(!checkpoint.replay_safe);
        let greeted = transport.resume(checkpoint, answer("ann"), &CallContext::quiet()).await.expect("it is answered");
        assert_eq!(text(&greeted), "héllo \"you\" ann");
        transport.cancel(checkpoint).await.expect("there is nothing to cancel");
    }
}

#[tokio::test]
async fn a_call_says_for_which_job_it_is_made() {
    for era in [Era::Legacy, Era::Modern] {
        let Fixture { transport, guard: _guard } = pipe(era).await;
        let job = JobId::new(Timestamp::from_millis(1));
        let call = ToolCall::new("meta", RawJson::empty_object()).for_job(job, 7);
        let reply = transport.call(&call, &CallContext::quiet()).await.expect("it is answered");
        let meta: Value = serde_json::from_str(&text(&reply)).expect("metadata is JSON");
        assert_eq!(meta["io.github.metamcp/job"], job.to_string());
        assert_eq!(meta["io.github.metamcp/epoch"], 7);
        assert_eq!(meta.get("io.modelcontextprotocol/clientInfo").is_some(), era == Era::Modern);
    }
}

/// The SDK's server compares header and argument, and refuses a call without the header.
#[tokio::test]
async fn marked_arguments_go_along_as_headers() {
    let Fixture { transport, guard: _guard } = http(None, StreamableHttpServerConfig::default()).await;
    transport.discover().await.expect("the tools are listed");
    for region in ["eu west", " näh ", "=?base64?x?="] {
        let reply = call(&transport, "echo", json!({ "region": region })).await;
        assert_eq!(serde_json::from_str::<Value>(&text(&reply)).expect("echo is JSON")["region"], region);
    }
}

#[tokio::test]
async fn all_callers_of_a_stdio_connector_share_one_child() {
    let connector = stdio_connector();
    let (first, second) = tokio::join!(connector.connect(), connector.connect());
    let (first, second) = (first.expect("it connects"), second.expect("it connects"));
    assert!(Arc::ptr_eq(&first, &second));
    first.close().await;
    assert!(second.is_closed());
    let third = connector.connect().await.expect("a closed one is started again at once");
    assert!(!third.is_closed());
    third.close().await;
}

#[tokio::test]
async fn the_server_says_who_it_is() {
    let Fixture { transport, guard: _guard } = pipe(Era::Legacy).await;
    assert!(transport.info().implementation.starts_with("rmcp "), "{:?}", transport.info());
    let found = transport.discover().await.expect("the tools are listed");
    assert_eq!(found.instructions.as_deref(), Some("standard tools for tests"));
    assert_eq!(found.tools.len(), 11);
}
