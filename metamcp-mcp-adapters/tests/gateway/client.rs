//! A modern client of the HTTP front, as small as can be.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use metamcp_mcp_adapters::gateway::{GatewayBody, GatewayService};
use serde_json::{Value, json};
use tower_service::Service as _;

/// Longest anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The response to a request, its body not yet read.
pub(crate) async fn send(
    service: &GatewayService,
    path: &str,
    method: &str,
    mut params: Value,
) -> Response<GatewayBody> {
    let about = ["name", "uri"].iter().find_map(|key| params[*key].as_str()).map(str::to_owned);
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let mut request = Request::post(path)
        .header("host", "localhost")
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", method);
    if let Some(about) = about.filter(|_| method != "completion/complete") {
        request = request.header("mcp-name", about);
    }
    let body = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params });
    let request = request.body(Full::new(Bytes::from(body.to_string()))).unwrap();
    tokio::time::timeout(PATIENCE, service.clone().call(request)).await.unwrap().unwrap()
}

/// The whole answer to a request.
pub(crate) async fn answer(service: &GatewayService, path: &str, method: &str, params: Value) -> Value {
    let body = send(service, path, method, params).await.into_body();
    let bytes = tokio::time::timeout(PATIENCE, body.collect()).await.unwrap().unwrap().to_bytes();
    let text = std::str::from_utf8(&bytes).unwrap();
    let last = text.lines().filter_map(|line| line.strip_prefix("data: ")).next_back().unwrap_or(text);
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The result of a request.
pub(crate) async fn result(service: &GatewayService, path: &str, method: &str, params: Value) -> Value {
    let told = answer(service, path, method, params).await;
    assert!(told["result"].is_object(), "{told}");
    told["result"].clone()
}

/// A member of every entry of a list, all pages.
pub(crate) async fn all(service: &GatewayService, path: &str, method: &str, list: &str, member: &str) -> Vec<String> {
    let (mut found, mut params) = (Vec::new(), json!({}));
    loop {
        let page = result(service, path, method, params).await;
        found.extend(page[list].as_array().unwrap().iter().map(|entry| entry[member].as_str().unwrap().to_owned()));
        match page.get("nextCursor") {
            Some(next) => params = json!({ "cursor": next }),
            None => return found,
        }
    }
}
