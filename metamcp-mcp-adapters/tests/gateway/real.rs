//! The published reference servers behind one gateway, installed by `cargo xtask tools`: legacy and modern ones side by side.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use metamcp_core::{engine::Orchestrator, id::ServerName, record::MemoryRecordStore, time::SystemClock};
use metamcp_mcp_adapters::{
    gateway::{Gateway, GatewayOptions, GatewayService, HttpOptions},
    upstream::StdioConnector,
};
use serde_json::json;

use super::client::{PATIENCE, all, answer, result};

/// A program that `cargo xtask tools` has installed.
fn program(relative: &str) -> PathBuf {
    let dir = std::env::var_os("METAMCP_TOOLS_DIR").map(PathBuf::from);
    let dir = dir.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.xtask"));
    let program = dir.join(relative);
    assert!(program.exists(), "{} is missing: run `cargo xtask tools`", program.display());
    program
}

#[tokio::test]
async fn published_servers_of_both_eras_are_one_server() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.txt"), "héllo").unwrap();
    let root = folder.path().canonicalize().unwrap().to_string_lossy().into_owned();
    let servers = [
        ("everything", "node_modules/.bin/mcp-server-everything", vec!["stdio"]),
        ("files", "node_modules/.bin/mcp-server-filesystem", vec![&*root]),
        ("memory", "node_modules/.bin/mcp-server-memory", vec![]),
        ("time", "venv/bin/mcp-server-time", vec!["--local-timezone=UTC"]),
    ];
    let memory = folder.path().join("memory.json");
    let engine = servers.iter().fold(Orchestrator::builder(), |engine, (name, relative, args)| {
        let name = ServerName::new(name).unwrap();
        let connector =
            StdioConnector::new(name.clone(), program(relative).to_string_lossy()).args(args.iter().copied());
        engine.server(
            name,
            Arc::new(connector.envs([("MEMORY_FILE_PATH".to_owned(), memory.to_string_lossy().into_owned())])),
        )
    });
    let engine = engine.build();
    let mut options = GatewayOptions::default();
    options.first_wait = PATIENCE;
    let records = Arc::new(MemoryRecordStore::new(Arc::new(SystemClock::default())));
    let gateway = Gateway::builder(engine.clone(), records).options(options).build().await.unwrap();
    let service = GatewayService::new(gateway, HttpOptions::default());

    let tools = all(&service, "/mcp", "tools/list", "tools", "name").await;
    for tool in ["everything__echo", "files__read_text_file", "memory__read_graph", "time__get_current_time"] {
        assert!(tools.contains(&tool.to_owned()), "{tool} is not among {tools:?}");
    }
    let call = async |tool: &str, arguments: serde_json::Value| {
        let told = result(&service, "/mcp", "tools/call", json!({ "name": tool, "arguments": arguments })).await;
        assert_eq!(told["resultType"], "complete");
        told["content"][0]["text"].as_str().unwrap().to_owned()
    };
    assert_eq!(call("everything__echo", json!({ "message": "hé" })).await, "Echo: hé");
    assert_eq!(call("files__read_text_file", json!({ "path": format!("{root}/a.txt") })).await, "héllo");
    assert!(call("time__get_current_time", json!({ "timezone": "Asia/Tokyo" })).await.contains("+09:00"));
    assert!(call("memory__read_graph", json!({})).await.contains("entities"));

    let prompts = all(&service, "/mcp", "prompts/list", "prompts", "name").await;
    let prompt = prompts.iter().find(|prompt| prompt.contains("simple")).unwrap();
    let told = result(&service, "/mcp", "prompts/get", json!({ "name": prompt })).await;
    assert!(told["messages"][0]["content"]["text"].is_string(), "{told}");
    let uris = all(&service, "/mcp", "resources/list", "resources", "uri").await;
    let uri = uris.iter().find(|uri| uri.starts_with("demo://")).unwrap();
    let told = result(&service, "/mcp", "resources/read", json!({ "uri": uri })).await;
    assert_eq!(told["contents"][0]["uri"], json!(uri));
    let told = answer(&service, "/mcp", "resources/read", json!({ "uri": "nobody://x" })).await;
    assert_eq!(told["error"]["code"], -32602);
    engine.close().await;
}
