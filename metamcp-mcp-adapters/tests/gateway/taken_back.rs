//! Requests that a client takes back while their server waits for its answer: the server is told, and nothing is left waiting.

use metamcp_mcp_adapters::{
    gateway::{GatewayService, HttpOptions},
    upstream::Era,
};
use serde_json::{Value, json};

use super::raw::{Events, Legacy, Modern, PATIENCE, gateway_to, records, whole};

/// Waits until the server has seen a call of its cancelled.
async fn cancelled(service: &GatewayService) {
    let seen = async {
        loop {
            let told = Modern::call("legacy__cancelled", json!({})).result(service).await;
            if told["content"][0]["text"] == "1" {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.expect("the call ends at its server");
}

/// A call whose server waits for the answer of its client.
async fn asked(client: &Legacy, service: &GatewayService) -> Events {
    let call = json!({ "name": "legacy__roots", "arguments": {} });
    let mut stream = Events::of(client.request(5, "tools/call", &call).send(service).await);
    let (_, question) = stream.message().await;
    assert_eq!(question["method"], "roots/list", "{question}");
    stream
}

fn take_back() -> Value {
    json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 5 } })
}

#[tokio::test]
async fn a_call_that_is_taken_back_while_its_client_is_asked_ends_at_its_server() {
    let service = GatewayService::new(gateway_to(&records(), &[Era::Legacy]).await, HttpOptions::default());
    let client = Legacy::begin(&service, "2025-11-25").await;
    let mut stream = asked(&client, &service).await;
    client.raw(&take_back()).send(&service).await;
    assert_eq!(stream.message().await.1["error"]["code"], -32800);
    cancelled(&service).await;
}

#[tokio::test]
async fn a_call_that_is_taken_back_at_another_replica_ends_at_its_server() {
    let shared = records();
    let here = GatewayService::new(gateway_to(&shared, &[Era::Legacy]).await, HttpOptions::default());
    let there = GatewayService::new(gateway_to(&shared, &[Era::Legacy]).await, HttpOptions::default());
    let client = Legacy::begin(&here, "2025-11-25").await;
    let mut stream = asked(&client, &here).await;
    client.raw(&take_back()).send(&there).await;
    assert_eq!(stream.message().await.1["error"]["code"], -32800);
    cancelled(&here).await;
}

#[tokio::test]
async fn a_client_that_cannot_be_asked_leaves_no_call_waiting() {
    let service = GatewayService::new(gateway_to(&records(), &[Era::Legacy]).await, HttpOptions::default());
    let client = Legacy::begin(&service, "2025-11-25").await;
    let call = json!({ "name": "legacy__roots", "arguments": {} });
    let silent = client.request(5, "tools/call", &call).with("accept", "application/json");
    let told = whole(silent.send(&service).await).await;
    assert!(told["error"]["message"].as_str().is_some_and(|why| why.contains("cannot be asked")), "{told}");
    cancelled(&service).await;
}
