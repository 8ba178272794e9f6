//! Elicitations by URL: that one is complete reaches the client that was asked, wherever its server says so, and nobody else.

use std::time::Duration;

use metamcp_mcp_adapters::{
    gateway::{GatewayService, HttpOptions},
    upstream::Era,
};
use serde_json::{Value, json};

use super::raw::{Events, Legacy, Modern, gateway, gateway_to, records, whole};

const COMPLETE: &str = "notifications/elicitation/complete";

fn url(kind: &str, id: &str) -> Value {
    json!({ "name": "legacy__url", "arguments": { "kind": kind, "id": id } })
}

async fn client(service: &GatewayService) -> (Legacy, Events) {
    let client = Legacy::able(service, "2025-11-25", json!({ "elicitation": { "url": {} } })).await;
    let stream = Events::of(client.get().send(service).await);
    (client, stream)
}

/// Is told that an elicitation is required.
async fn required(client: &Legacy, service: &GatewayService, id: &str) {
    let told = whole(client.request(1, "tools/call", &url("required", id)).send(service).await).await;
    assert_eq!((&told["error"]["code"], &told["error"]["message"]), (&json!(-32042), &json!("pay first")), "{told}");
    let data = &told["error"]["data"];
    assert_eq!((&data["elicitations"][0]["elicitationId"], &data["more"]), (&json!(id), &json!(1)));
}

async fn complete(client: &Legacy, service: &GatewayService, id: &str) {
    let told = whole(client.request(2, "tools/call", &url("complete", id)).send(service).await).await;
    assert_eq!(told["result"]["content"][0]["text"], "told", "{told}");
}

/// The id in the next message of this kind.
async fn completed(stream: &mut Events) -> Value {
    loop {
        let (_, message) = stream.message().await;
        if message["method"] == COMPLETE {
            return message["params"]["elicitationId"].clone();
        }
    }
}

#[tokio::test]
async fn an_elicitation_that_is_complete_is_told_to_who_was_asked() {
    let service = GatewayService::new(gateway_to(&records(), &[Era::Legacy]).await, HttpOptions::default());
    let ((one, mut ones), (two, mut twos)) = (client(&service).await, client(&service).await);
    required(&one, &service, "1").await;
    required(&two, &service, "2").await;
    // Whose call is under way when its server tells does not matter.
    complete(&two, &service, "1").await;
    complete(&two, &service, "unknown").await;
    complete(&one, &service, "2").await;
    assert_eq!(completed(&mut ones).await, "1");
    assert_eq!(completed(&mut twos).await, "2");
}

#[tokio::test]
async fn a_question_is_told_complete_on_the_stream_that_asked_it() {
    let service = GatewayService::new(gateway_to(&records(), &[Era::Legacy]).await, HttpOptions::default());
    let client = Legacy::able(&service, "2025-11-25", json!({ "elicitation": { "url": {} } })).await;
    let mut stream = Events::of(client.request(1, "tools/call", &url("ask", "9")).send(&service).await);
    let (_, question) = stream.message().await;
    assert_eq!(
        (&question["params"]["elicitationId"], &question["params"]["message"]),
        (&json!("9"), &json!("[legacy] pay"))
    );
    let answer = json!({ "jsonrpc": "2.0", "id": question["id"], "result": { "action": "accept" } });
    client.raw(&answer).send(&service).await;
    let (mut told, mut result) = (false, Value::Null);
    while result.is_null() {
        let (_, message) = stream.message().await;
        told |= message["method"] == COMPLETE && message["params"]["elicitationId"] == "9";
        result = message["result"].clone();
    }
    assert_eq!(result["content"][0]["text"], r#"{"action":"accept"}"#);
    // The answer of the call may have been quicker: then it is told on the session's own stream.
    if !told {
        assert_eq!(completed(&mut Events::of(client.get().send(&service).await)).await, "9");
    }
}

#[tokio::test]
async fn a_client_that_listens_at_another_replica_is_told_there() {
    let shared = records();
    let mut options = HttpOptions::default();
    options.keep_alive = Duration::from_millis(100);
    let here = GatewayService::new(gateway_to(&shared, &[Era::Legacy]).await, options.clone());
    let there = GatewayService::new(gateway_to(&shared, &[Era::Legacy]).await, options);
    let client = Legacy::able(&here, "2025-11-25", json!({ "elicitation": { "url": {} } })).await;
    let mut stream = Events::of(client.get().send(&there).await);
    required(&client, &here, "far").await;
    complete(&client, &here, "far").await;
    assert_eq!(completed(&mut stream).await, "far");
}

#[tokio::test]
async fn a_modern_client_has_the_error_whole_and_hears_of_no_end() {
    let service = GatewayService::new(gateway(&records()).await, HttpOptions::default());
    let told =
        whole(Modern::call("legacy__url", json!({ "kind": "required", "id": "m" })).raw().send(&service).await).await;
    assert_eq!((&told["error"]["code"], &told["error"]["data"]["more"]), (&json!(-32042), &json!(1)), "{told}");
    // One text: had a notification come, the answer would be a stream.
    let told =
        whole(Modern::call("legacy__url", json!({ "kind": "complete", "id": "m" })).raw().send(&service).await).await;
    assert_eq!(told["result"]["content"][0]["text"], "told", "{told}");
}
