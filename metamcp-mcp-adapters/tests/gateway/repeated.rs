//! A call that the gateway makes again is one call to its client: its progress goes on where it was.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use metamcp_core::{engine::Orchestrator, id::ServerName};
use metamcp_mcp_adapters::{
    gateway::{Gateway, GatewayService, HttpOptions},
    upstream::{Era, IoConnector},
};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream};

use super::raw::{Events, Modern, PATIENCE, records};

/// Tells how a call goes on, and dies in the middle of the first.
async fn serve(pipe: DuplexStream, calls: Arc<AtomicUsize>) {
    let (reader, mut writer) = tokio::io::split(pipe);
    let mut lines = BufReader::new(reader).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let asked: Value = serde_json::from_str(&line).unwrap();
        let mut told = Vec::new();
        let result = match asked["method"].as_str().unwrap() {
            "initialize" => json!({
                "protocolVersion": "2025-06-18", "capabilities": { "tools": {} }, "serverInfo": { "name": "frail", "version": "1" },
            }),
            "tools/list" => json!({ "tools": [{
                "name": "read", "inputSchema": { "type": "object" }, "annotations": { "readOnlyHint": true },
            }] }),
            "tools/call" => {
                let is_first = calls.fetch_add(1, Ordering::SeqCst) == 0;
                for step in 1..=if is_first { 2 } else { 3 } {
                    let params =
                        json!({ "progressToken": asked["params"]["_meta"]["progressToken"], "progress": step });
                    told.push(json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": params }));
                }
                if is_first { Value::Null } else { json!({ "content": [] }) }
            }
            _ => continue,
        };
        if !result.is_null() {
            told.push(json!({ "jsonrpc": "2.0", "id": asked["id"], "result": result }));
        }
        for message in told {
            writer.write_all(format!("{message}\n").as_bytes()).await.unwrap();
        }
        if result.is_null() {
            return;
        }
    }
}

#[tokio::test]
async fn the_progress_of_a_call_that_is_made_again_never_falls_back() {
    let (calls, name) = (Arc::<AtomicUsize>::default(), ServerName::new("frail").unwrap());
    let seen = Arc::clone(&calls);
    let open = move || {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        tokio::spawn(serve(theirs, Arc::clone(&seen)));
        ours
    };
    let connector = Arc::new(IoConnector::new(name.clone(), open).era(Era::Legacy));
    let engine = Orchestrator::builder().server(name, connector).build();
    let gateway = Gateway::builder(engine, records()).build().await.unwrap();
    let service = GatewayService::new(gateway, HttpOptions::default());
    let mut call = Modern::call("frail__read", json!({}));
    call.params["_meta"]["progressToken"] = "mine".into();
    let told = async {
        let mut events = Events::of(call.raw().send(&service).await);
        let mut progress = Vec::new();
        loop {
            let (_, told) = events.message().await;
            if told["id"] == 1 {
                assert!(told["result"]["content"].is_array(), "{told}");
                return progress;
            }
            progress.push(told["params"]["progress"].as_u64().unwrap());
        }
    };
    let progress = tokio::time::timeout(PATIENCE, told).await.unwrap();
    assert_eq!((progress, calls.load(Ordering::SeqCst)), (vec![1, 2, 3], 2));
}
