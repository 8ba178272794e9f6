//! The behaviour every [`McpTransport`] keeps, as one suite that runs on any of them against the same few tools.
//!
//! Whoever writes a transport brings a server with the standard tools below and one line of `mcp_transport_suite!`. What only one wire
//! can get wrong (frames, sessions, processes) is not here.

use std::{any::Any, fmt, future::Future, sync::Mutex, sync::PoisonError, time::Duration};

use serde_json::{Value, json};

use crate::{
    json::RawJson,
    queue::Progress,
    transport::{
        CallContext, Delivered, McpTransport, ToolCall, ToolOutput, ToolReply, TransportError, TransportErrorKind,
    },
};

/// Longest any step of the suite may wait, in seconds.
const STEP_S_MAX: u64 = 30;

/// Calls made at the same time.
const CONCURRENT_CALLS: usize = 32;

/// A connected transport whose server has the standard tools:
///
/// | tool | arguments | answers |
/// |---|---|---|
/// | `echo` | any | the arguments as JSON text in `content[0].text` |
/// | `fail` | `{message}` | a result with `isError` and the message as text |
/// | `slow` | `{ms}` | after so many milliseconds, the text `slept`; counts when it was cancelled before |
/// | `cancelled` | | how many `slow` calls were cancelled, as text |
/// | `progress` | `{steps}` | reports 1 to `steps` of `steps`, then the text `done` |
pub struct Fixture {
    /// What is tested.
    pub transport: std::sync::Arc<dyn McpTransport>,
    /// What must live as long: the server, a directory.
    pub guard: Box<dyn Any + Send + Sync>,
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture").field("transport", &self.transport).finish_non_exhaustive()
    }
}

/// One named test per behaviour; `$make` is an `async fn() -> Fixture` that gives a fresh connection.
#[macro_export]
macro_rules! mcp_transport_suite {
    ($make:path) => {
        $crate::behaviours!(@flat mcp_transport, $make;
            discover_lists_the_raw_tools
            a_call_returns_the_raw_result
            arguments_arrive_unharmed
            a_failing_tool_is_an_answer_with_is_error
            an_unknown_tool_is_refused
            progress_arrives_before_the_answer
            concurrent_calls_are_not_mixed_up
            a_dropped_call_is_cancelled_and_later_calls_work
            closing_twice_is_closing_once
            a_call_after_close_was_never_delivered
            close_ends_a_call_that_waits
        );
    };
}

async fn bounded<T>(what: &str, step: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(STEP_S_MAX), step).await {
        Ok(done) => done,
        Err(_) => panic!("{what} took longer than {STEP_S_MAX} s"),
    }
}

async fn call(transport: &dyn McpTransport, tool: &str, arguments: Value) -> Result<ToolOutput, TransportError> {
    let call = ToolCall::new(tool, arguments.into());
    match bounded(tool, transport.call(&call, &CallContext::quiet())).await? {
        ToolReply::Done(output) => Ok(output),
        other => panic!("`{tool}` answers at once, not with {other:?}"),
    }
}

fn text(output: &ToolOutput) -> String {
    let body: Value = output.body.view().expect("a result is JSON");
    body["content"][0]["text"].as_str().expect("the standard tools answer with text").to_owned()
}

/// Every standard tool is listed, as a definition with its name and an input schema.
pub async fn discover_lists_the_raw_tools(fixture: Fixture) {
    let found = bounded("discover", fixture.transport.discover()).await.expect("discover succeeds");
    let mut names: Vec<String> = Vec::new();
    for tool in &found.tools {
        let definition: Value = tool.view().expect("a definition is JSON");
        assert!(definition["inputSchema"].is_object(), "{tool:?}");
        names.push(definition["name"].as_str().expect("a tool has a name").to_owned());
    }
    for name in ["cancelled", "echo", "fail", "progress", "slow"] {
        assert!(names.iter().any(|n| n == name), "`{name}` is not in {names:?}");
    }
}

/// The body is the `result` object, and says nothing of an error.
pub async fn a_call_returns_the_raw_result(fixture: Fixture) {
    let output = call(&*fixture.transport, "echo", json!({ "a": 1 })).await.expect("echo answers");
    assert!(output.body.is_object() && !output.is_error, "{output:?}");
    assert_eq!(text(&output), r#"{"a":1}"#);
}

/// Text, nesting and white space between tokens make no difference to what arrives.
pub async fn arguments_arrive_unharmed(fixture: Fixture) {
    let raw = "{\n  \"text\": \"line\\nend \\\"é\\\" 😀 \\u2028\",\r\n  \"deep\": {\"list\": [1, 2.5, null, true]}\n}";
    let arguments = RawJson::parse(raw).expect("this is JSON");
    let sent = ToolCall::new("echo", arguments.clone());
    let reply = bounded("echo", fixture.transport.call(&sent, &CallContext::quiet())).await.expect("echo answers");
    let ToolReply::Done(output) = reply else { panic!("echo answers at once, not with {reply:?}") };
    let arrived: Value = serde_json::from_str(&text(&output)).expect("echo answers with JSON text");
    assert_eq!(arrived, arguments.view::<Value>().expect("this is JSON"));
}

/// A tool's failure is the tool's answer, not the transport's error.
pub async fn a_failing_tool_is_an_answer_with_is_error(fixture: Fixture) {
    let output = call(&*fixture.transport, "fail", json!({ "message": "no luck" })).await.expect("fail answers");
    assert!(output.is_error);
    assert_eq!(text(&output), "no luck");
}

/// The far side answered: the call was delivered and refused.
pub async fn an_unknown_tool_is_refused(fixture: Fixture) {
    let error = call(&*fixture.transport, "no-such-tool", json!({})).await.expect_err("there is no such tool");
    assert!(matches!(error.kind, TransportErrorKind::Rejected { .. }), "{error:?}");
    assert_eq!(error.delivered, Delivered::Yes);
}

/// Reports come in order and before the call returns.
pub async fn progress_arrives_before_the_answer(fixture: Fixture) {
    let seen: Mutex<Vec<Progress>> = Mutex::default();
    let sink = |progress| seen.lock().unwrap_or_else(PoisonError::into_inner).push(progress);
    let sent = ToolCall::new("progress", json!({ "steps": 3 }).into());
    let cx = CallContext { progress: &sink };
    bounded("progress", fixture.transport.call(&sent, &cx)).await.expect("progress answers");
    let seen = seen.into_inner().unwrap_or_else(PoisonError::into_inner);
    let values: Vec<_> = seen.iter().map(|p| (p.value, p.total)).collect();
    assert_eq!(values, [(1.0, Some(3.0)), (2.0, Some(3.0)), (3.0, Some(3.0))]);
}

/// Each of many calls at once gets its own answer.
pub async fn concurrent_calls_are_not_mixed_up(fixture: Fixture) {
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..CONCURRENT_CALLS {
        let transport = std::sync::Arc::clone(&fixture.transport);
        calls.spawn(async move { (n, call(&*transport, "echo", json!({ "n": n })).await) });
    }
    while let Some(joined) = calls.join_next().await {
        let (n, output) = joined.expect("no call panics");
        assert_eq!(text(&output.expect("echo answers")), format!(r#"{{"n":{n}}}"#));
    }
}

/// The far side learns that nobody waits, and the connection goes on.
pub async fn a_dropped_call_is_cancelled_and_later_calls_work(fixture: Fixture) {
    let slow = ToolCall::new("slow", json!({ "ms": STEP_S_MAX * 2_000 }).into());
    let cx = CallContext::quiet();
    let dropped = tokio::time::timeout(Duration::from_millis(300), fixture.transport.call(&slow, &cx)).await;
    assert!(dropped.is_err(), "slow must not answer yet: {dropped:?}");
    bounded("cancellation", async {
        loop {
            let count = call(&*fixture.transport, "cancelled", json!({})).await.expect("later calls work");
            if text(&count) != "0" {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// The second close finds nothing to do.
pub async fn closing_twice_is_closing_once(fixture: Fixture) {
    assert!(!fixture.transport.is_closed());
    bounded("close", fixture.transport.close()).await;
    bounded("second close", fixture.transport.close()).await;
    assert!(fixture.transport.is_closed());
}

/// Nothing leaves a closed transport, and its error says so: the call can be made again freely.
pub async fn a_call_after_close_was_never_delivered(fixture: Fixture) {
    bounded("close", fixture.transport.close()).await;
    let error = call(&*fixture.transport, "echo", json!({})).await.expect_err("the transport is closed");
    assert_eq!((&error.kind, error.delivered), (&TransportErrorKind::Closed, Delivered::No), "{error:?}");
    let error = bounded("discover", fixture.transport.discover()).await.expect_err("the transport is closed");
    assert_eq!(error.delivered, Delivered::No, "{error:?}");
}

/// A call that waits when the transport is closed ends with an error, and may have happened.
pub async fn close_ends_a_call_that_waits(fixture: Fixture) {
    let transport = std::sync::Arc::clone(&fixture.transport);
    let waiting = tokio::spawn(async move {
        let slow = ToolCall::new("slow", json!({ "ms": STEP_S_MAX * 2_000 }).into());
        transport.call(&slow, &CallContext::quiet()).await
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    bounded("close", fixture.transport.close()).await;
    let ended = bounded("the waiting call", waiting).await.expect("the call does not panic");
    let error = ended.expect_err("a closed transport has no answer");
    assert_eq!((&error.kind, error.delivered), (&TransportErrorKind::Closed, Delivered::Maybe), "{error:?}");
}
