//! The published reference servers, installed by `cargo xtask tools`, each started, listed and called over its own way.
#![cfg(feature = "upstream")]

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use metamcp_core::{
    id::ServerName,
    matching::Capability,
    transport::{CallContext, Connector, Delivered, McpTransport, ToolCall, ToolOutput, ToolReply, TransportErrorKind},
};
use metamcp_mcp_adapters::upstream::{HttpConnector, StdioConnector};
use serde_json::{Value, json};

/// Longest wait for a server that starts, in seconds.
const START_S_MAX: u64 = 60;

/// A program that `cargo xtask tools` has installed.
fn program(relative: &str) -> PathBuf {
    let dir = std::env::var_os("METAMCP_TOOLS_DIR").map(PathBuf::from);
    let dir = dir.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.xtask"));
    let program = dir.join(relative);
    assert!(program.exists(), "{} is missing: run `cargo xtask tools`", program.display());
    program
}

fn stdio(name: &str, relative: &str) -> StdioConnector {
    StdioConnector::new(ServerName::new(name).expect("a valid name"), program(relative).to_string_lossy())
}

async fn call(transport: &Arc<dyn McpTransport>, tool: &str, arguments: Value) -> ToolOutput {
    let call = ToolCall::new(tool, arguments.into());
    match transport.call(&call, &CallContext::quiet()).await {
        Ok(ToolReply::Done(output)) => output,
        other => panic!("`{tool}` did not answer: {other:?}"),
    }
}

fn text(output: &ToolOutput) -> String {
    let body: Value = output.body.view().expect("a result is JSON");
    body["content"][0]["text"].as_str().unwrap_or_default().to_owned()
}

/// Lists the tools; every definition must be one that can be matched.
async fn tools(transport: &Arc<dyn McpTransport>) -> Vec<String> {
    let found = transport.discover().await.expect("the tools are listed");
    let server = &transport.info().server;
    found
        .tools
        .into_iter()
        .map(|tool| {
            Capability::from_definition(server, Arc::default(), tool).expect("a usable tool").id.tool().to_owned()
        })
        .collect()
}

/// What server-everything does, over whichever way.
async fn everything(transport: Arc<dyn McpTransport>) {
    assert_eq!(transport.info().protocol, "2025-11-25");
    let names = tools(&transport).await;
    assert!(names.iter().any(|name| name == "echo") && names.len() > 8, "{names:?}");
    assert_eq!(text(&call(&transport, "echo", json!({ "message": "hé" })).await), "Echo: hé");
    assert!(text(&call(&transport, "get-sum", json!({ "a": 2, "b": 40 })).await).contains("42"));
    // Wrong arguments are the tool's failure, not the protocol's.
    assert!(call(&transport, "get-sum", json!({ "a": "two" })).await.is_error);

    let unknown = ToolCall::new("no-such-tool", json!({}).into());
    match transport.call(&unknown, &CallContext::quiet()).await {
        Ok(ToolReply::Done(output)) => assert!(output.is_error, "{output:?}"),
        Err(error) => assert_eq!(error.delivered, Delivered::Yes, "{error:?}"),
        other => panic!("{other:?}"),
    }

    let seen = Mutex::new(Vec::new());
    let sink = |progress: metamcp_core::queue::Progress| seen.lock().expect("no panic").push(progress.value);
    let long = ToolCall::new("trigger-long-running-operation", json!({ "duration": 1, "steps": 4 }).into());
    let reply = transport.call(&long, &CallContext { progress: &sink }).await.expect("it ends");
    assert!(matches!(reply, ToolReply::Done(_)));
    let seen = seen.into_inner().expect("no panic");
    assert!(!seen.is_empty() && seen.is_sorted(), "{seen:?}");

    // A call that nobody waits for any more does not disturb the next one.
    let long = ToolCall::new("trigger-long-running-operation", json!({ "duration": 60, "steps": 60 }).into());
    let cx = CallContext::quiet();
    assert!(tokio::time::timeout(Duration::from_millis(300), transport.call(&long, &cx)).await.is_err());
    assert_eq!(text(&call(&transport, "echo", json!({ "message": "on" })).await), "Echo: on");
    transport.close().await;
}

#[tokio::test]
async fn everything_over_stdio() {
    let connector = stdio("everything", "node_modules/.bin/mcp-server-everything").args(["stdio"]);
    everything(connector.connect().await.expect("it connects")).await;
}

#[tokio::test]
async fn everything_over_http() {
    // It does not tell a port of its own choice, so one that is free now is chosen for it.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free").local_addr().expect("it is bound");
    let mut server = tokio::process::Command::new(program("node_modules/.bin/mcp-server-everything"))
        .arg("streamableHttp")
        .env("PORT", free.port().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    let name = ServerName::new("everything").expect("a valid name");
    let connector = HttpConnector::new(name, &format!("http://{free}/mcp")).expect("a good address");
    let connecting = async {
        loop {
            match connector.connect().await {
                Ok(transport) => break transport,
                Err(error) if error.kind == TransportErrorKind::Connect && error.delivered == Delivered::No => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(error) => panic!("it cannot be connected to: {error:?}"),
            }
        }
    };
    let transport =
        tokio::time::timeout(Duration::from_secs(START_S_MAX), connecting).await.expect("it starts in time");
    everything(transport).await;
    server.kill().await.expect("it was running");
}

#[tokio::test]
async fn filesystem_over_stdio() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().canonicalize().expect("it exists");
    let connector = stdio("files", "node_modules/.bin/mcp-server-filesystem").args([root.to_string_lossy()]);
    let transport = connector.connect().await.expect("it connects");
    assert!(tools(&transport).await.iter().any(|name| name == "read_text_file"));
    let file = root.join("a.txt");
    call(&transport, "write_file", json!({ "path": file, "content": "line\n" })).await;
    assert_eq!(std::fs::read_to_string(&file).expect("it was written"), "line\n");
    let read = call(&transport, "read_text_file", json!({ "path": file })).await;
    assert_eq!(read.body.view::<Value>().expect("JSON")["structuredContent"]["content"], "line\n");
    assert!(call(&transport, "read_text_file", json!({ "path": "/etc/passwd" })).await.is_error);
    transport.close().await;
}

#[tokio::test]
async fn memory_over_stdio() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("memory.json").to_string_lossy().into_owned();
    let connector =
        stdio("memory", "node_modules/.bin/mcp-server-memory").envs([("MEMORY_FILE_PATH".to_owned(), file)]);
    let entity = json!({ "name": "ann", "entityType": "person", "observations": ["likes tea"] });
    let first = connector.connect().await.expect("it connects");
    assert_eq!(tools(&first).await.len(), 9);
    call(&first, "create_entities", json!({ "entities": [entity] })).await;
    first.close().await;
    let second = connector.connect().await.expect("it connects again");
    assert!(text(&call(&second, "read_graph", json!({})).await).contains("likes tea"));
    second.close().await;
}

#[tokio::test]
async fn git_over_stdio_is_modern() {
    let dir = tempfile::tempdir().expect("a directory");
    let init = std::process::Command::new("git").arg("init").arg(dir.path()).output().expect("git is there");
    assert!(init.status.success(), "{init:?}");
    std::fs::write(dir.path().join("new.txt"), "x").expect("it can be written");
    let connector = stdio("git", "venv/bin/mcp-server-git");
    let transport = connector.connect().await.expect("it connects");
    assert_eq!(transport.info().protocol, "2026-07-28");
    assert!(tools(&transport).await.iter().any(|name| name == "git_log"));
    let status = call(&transport, "git_status", json!({ "repo_path": dir.path() })).await;
    assert!(text(&status).contains("new.txt"), "{status:?}");
    transport.close().await;
}

#[tokio::test]
async fn time_over_stdio_is_modern() {
    let connector = stdio("time", "venv/bin/mcp-server-time");
    let transport = connector.connect().await.expect("it connects");
    assert_eq!(transport.info().protocol, "2026-07-28");
    let arguments = json!({ "source_timezone": "Europe/Paris", "time": "12:00", "target_timezone": "Europe/Lisbon" });
    let converted = call(&transport, "convert_time", arguments).await;
    assert!(text(&converted).contains("-1.0h"), "{converted:?}");
    transport.close().await;
}
