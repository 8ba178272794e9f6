//! Questions in the middle of a call across the eras: a modern client in front of a legacy server, and a legacy client in front of either.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use metamcp_core::{engine::Orchestrator, id::ServerName, record::MemoryRecordStore, time::SystemClock};
use metamcp_mcp_adapters::{
    gateway::{Gateway, GatewayBody, GatewayService, HttpOptions},
    upstream::{Era, IoConnector},
};
use serde_json::{Value, json};
use tower_service::Service as _;

use super::{
    calls, fixture,
    raw::{Modern, whole},
};

/// Longest anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A gateway to one server, spoken to in each era.
async fn gateway() -> GatewayService {
    let name = |era| ServerName::new(if era == Era::Modern { "modern" } else { "legacy" }).unwrap();
    let connector = |era| {
        let open = || {
            let (ours, theirs) = tokio::io::duplex(64 << 10);
            tokio::spawn(fixture::serve(fixture::Server::default(), theirs));
            ours
        };
        Arc::new(IoConnector::new(name(era), open).era(era))
    };
    let engine = Orchestrator::builder()
        .server(name(Era::Modern), connector(Era::Modern))
        .server(name(Era::Legacy), connector(Era::Legacy))
        .build();
    engine.tools().await;
    let records = Arc::new(MemoryRecordStore::new(Arc::new(SystemClock::default())));
    let gateway = Gateway::builder(engine, records).build().await.unwrap();
    let service = GatewayService::new(gateway, HttpOptions::default());
    let listed = async {
        for tool in ["modern__echo", "legacy__echo"] {
            while calls::call(&service, tool, json!({}), json!({})).await.get("result").is_none() {
                tokio::task::yield_now().await;
            }
        }
    };
    tokio::time::timeout(PATIENCE, listed).await.unwrap();
    service
}

/// A legacy client with a session.
struct Legacy {
    service: GatewayService,
    session: Option<String>,
}

impl Legacy {
    async fn new(service: GatewayService) -> Self {
        let mut client = Self { service, session: None };
        let params = json!({
            "protocolVersion": "2025-11-25",
            "capabilities": { "elicitation": {}, "roots": {} },
            "clientInfo": { "name": "old", "version": "1" },
        });
        let response =
            client.post(json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params })).await;
        client.session = Some(response.headers()["mcp-session-id"].to_str().unwrap().to_owned());
        client.post(json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
        client
    }

    async fn post(&self, message: Value) -> Response<GatewayBody> {
        let mut request = Request::post("/mcp")
            .header("host", "localhost")
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream");
        if let Some(session) = &self.session {
            request = request.header("mcp-session-id", session).header("mcp-protocol-version", "2025-11-25");
        }
        let request = request.body(Full::new(Bytes::from(message.to_string()))).unwrap();
        tokio::time::timeout(PATIENCE, self.service.clone().call(request)).await.unwrap().unwrap()
    }

    /// Calls a tool and answers what it asks; the methods it was asked with, and the result.
    async fn call(&self, tool: &str) -> (Vec<String>, Value) {
        let params = json!({ "name": tool, "arguments": {} });
        let mut body =
            self.post(json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params })).await.into_body();
        let (mut asked, mut text) = (Vec::new(), String::new());
        loop {
            let frame = tokio::time::timeout(PATIENCE, body.frame()).await.unwrap();
            let Some(frame) = frame else { panic!("the stream ended: {text}") };
            text.push_str(std::str::from_utf8(&frame.unwrap().into_data().unwrap_or_default()).unwrap());
            while let Some((event, rest)) = text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                text = rest;
                let Some(data) = event.lines().find_map(|line| line.strip_prefix("data: ")) else { continue };
                let Ok(message) = serde_json::from_str::<Value>(data) else { continue };
                if message["id"] == 1 {
                    return (asked, message);
                }
                let method = message["method"].as_str().unwrap_or_default();
                let result = match method {
                    "elicitation/create" => json!({ "action": "accept", "content": { "name": "Ada" } }),
                    "roots/list" => json!({ "roots": [{ "uri": format!("file:///{}", asked.len()) }] }),
                    _ => continue,
                };
                asked.push(format!("{method} {}", message["params"]["message"].as_str().unwrap_or_default()));
                self.post(json!({ "jsonrpc": "2.0", "id": message["id"], "result": result })).await;
            }
        }
    }
}

fn text(message: &Value) -> &str {
    message["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("a text: {message}"))
}

#[tokio::test]
async fn a_modern_client_answers_a_legacy_server_by_retries() {
    let service = gateway().await;
    let can = json!({ "roots": {} });
    let mut told = calls::call(&service, "legacy__roots", json!({}), can.clone()).await;
    for round in 0..2 {
        let asked = &told["result"];
        assert_eq!(asked["resultType"], "input_required", "{told}");
        let (key, question) = asked["inputRequests"].as_object().unwrap().iter().next().unwrap();
        assert_eq!(question["method"], "roots/list");
        let params = json!({
            "name": "legacy__roots",
            "arguments": {},
            "inputResponses": { key: { "roots": [{ "uri": format!("file:///{round}") }] } },
            "requestState": asked["requestState"],
        });
        told = calls::ask(&service, "tools/call", params, can.clone()).await;
    }
    assert_eq!(text(&told), "file:///0 file:///1");
}

#[tokio::test]
async fn a_call_that_fails_for_want_of_a_capability_says_which() {
    let response = Modern::call("legacy__roots", json!({})).raw().send(&gateway().await).await;
    assert_eq!(response.status(), 400);
    let told = whole(response).await;
    let expected = json!({ "requiredCapabilities": { "roots": {} } });
    assert_eq!((&told["error"]["code"], &told["error"]["data"]), (&json!(-32021), &expected), "{told}");
}

#[tokio::test]
async fn a_legacy_client_is_asked_on_its_stream_whatever_the_server_speaks() {
    let client = Legacy::new(gateway().await).await;
    let (asked, told) = client.call("modern__greet").await;
    assert_eq!(asked, ["elicitation/create [modern] who are you?"]);
    assert_eq!(text(&told), "héllo \"you\" Ada");
    assert!(told["result"].get("resultType").is_none(), "{told}");
    let (asked, told) = client.call("legacy__roots").await;
    assert_eq!(asked, ["roots/list ", "roots/list "]);
    assert_eq!(text(&told), "file:///0 file:///1");
}
