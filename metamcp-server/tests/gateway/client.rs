//! MCP clients of both eras, as small as can be: what they send and read is plain JSON.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::support::WAIT_S_MAX;

/// Longest any answer may take.
const PATIENCE: Duration = Duration::from_secs(WAIT_S_MAX);
/// The extension of modern clients that take tasks.
pub(crate) const TASKS: &str = "io.modelcontextprotocol/tasks";
/// The revision that each era speaks here.
const MODERN: &str = "2026-07-28";
const LEGACY: &str = "2025-11-25";

/// A client; of the legacy era when it has a session.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    /// Where its requests go: a balancer, or one replica.
    pub(crate) url: String,
    session: Option<String>,
    capabilities: Value,
    ids: AtomicU64,
}

impl Client {
    /// A modern client that can be asked things.
    pub(crate) fn modern(url: &str) -> Self {
        let capabilities = json!({ "elicitation": {} });
        Self { http: reqwest::Client::new(), url: url.to_owned(), session: None, capabilities, ids: AtomicU64::new(1) }
    }

    /// The same, and it takes tasks.
    pub(crate) fn with_tasks(url: &str) -> Self {
        let capabilities = json!({ "elicitation": {}, "extensions": { TASKS: {} } });
        Self { capabilities, ..Self::modern(url) }
    }

    /// A legacy client in a session that was just begun.
    pub(crate) async fn legacy(url: &str) -> Self {
        let mut client = Self { session: Some(String::new()), ..Self::modern(url) };
        let about = json!({ "name": "old", "version": "1" });
        let params = json!({ "protocolVersion": LEGACY, "capabilities": client.capabilities, "clientInfo": about });
        let body = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params });
        let answer = client.post(&body).await;
        let session = answer.headers()["mcp-session-id"].to_str().expect("visible ASCII").to_owned();
        let told = Messages::of(answer).answer().await;
        assert_eq!(told["result"]["protocolVersion"], LEGACY, "{told}");
        client.session = Some(session);
        client.send(json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
        client
    }

    /// The same client, whose requests go elsewhere from now on.
    pub(crate) fn at(&self, url: &str) -> Self {
        let (session, capabilities) = (self.session.clone(), self.capabilities.clone());
        // Ids are not given out twice in one session.
        let ids = AtomicU64::new(self.ids.fetch_add(1_000, Ordering::Relaxed) + 500);
        Self { http: self.http.clone(), url: url.to_owned(), session, capabilities, ids }
    }

    fn is_legacy(&self) -> bool {
        self.session.is_some()
    }

    fn with_session(&self, request: RequestBuilder) -> RequestBuilder {
        match self.session.as_deref() {
            None => request.header("mcp-protocol-version", MODERN),
            Some("") => request,
            Some(session) => request.header("mcp-session-id", session).header("mcp-protocol-version", LEGACY),
        }
    }

    async fn post(&self, body: &Value) -> Response {
        let sent = tokio::time::timeout(PATIENCE, self.request(body).send()).await;
        sent.expect("a head in time").expect("a gateway is there")
    }

    fn request(&self, body: &Value) -> RequestBuilder {
        let mut request = self.with_session(self.http.post(format!("{}/mcp", self.url)));
        request = request.header("accept", "application/json, text/event-stream");
        if !self.is_legacy() {
            request = request.header("mcp-method", body["method"].as_str().expect("a request"));
            if let Some(name) = ["name", "uri", "taskId"].iter().find_map(|key| body["params"][*key].as_str()) {
                request = request.header("mcp-name", name);
            }
        }
        request.json(body)
    }

    /// The result of a call of a modern client; `None` when the gateway is gone before it answers.
    pub(crate) async fn try_call(&self, tool: &str, arguments: Value) -> Option<Value> {
        let params = self.modern_params(json!({ "name": tool, "arguments": arguments }));
        let body = json!({ "jsonrpc": "2.0", "id": self.next_id(), "method": "tools/call", "params": params });
        let answered = async { self.request(&body).send().await?.text().await };
        let text = tokio::time::timeout(PATIENCE, answered).await.expect("an answer, or the end").ok()?;
        let last = text.lines().filter_map(|line| line.strip_prefix("data: ")).next_back().unwrap_or(&text);
        serde_json::from_str::<Value>(last).ok().map(|told| told["result"].clone())
    }

    fn modern_params(&self, mut params: Value) -> Value {
        let meta = params.as_object_mut().expect("an object").entry("_meta").or_insert_with(|| json!({}));
        meta["io.modelcontextprotocol/protocolVersion"] = MODERN.into();
        meta["io.modelcontextprotocol/clientCapabilities"] = self.capabilities.clone();
        params
    }

    /// Sends a request; what comes back is read message by message. Its id is `id`.
    pub(crate) async fn begin_as(&self, id: u64, method: &str, mut params: Value) -> Messages {
        if !self.is_legacy() {
            params = self.modern_params(params);
        }
        Messages::of(self.post(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })).await)
    }

    /// An id that no other request of this client has.
    pub(crate) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Sends a request under an id of its own.
    pub(crate) async fn begin(&self, method: &str, params: Value) -> Messages {
        self.begin_as(self.next_id(), method, params).await
    }

    /// The whole answer to a request.
    pub(crate) async fn ask(&self, method: &str, params: Value) -> Value {
        self.begin(method, params).await.answer().await
    }

    /// The result of a request.
    pub(crate) async fn result(&self, method: &str, params: Value) -> Value {
        let told = self.ask(method, params).await;
        assert!(told["result"].is_object(), "{method}: {told}");
        told["result"].clone()
    }

    /// The result of a call.
    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> Value {
        self.result("tools/call", json!({ "name": tool, "arguments": arguments })).await
    }

    /// The names of all tools that are listed.
    pub(crate) async fn tools(&self) -> Vec<String> {
        let listed = self.result("tools/list", json!({})).await;
        let tools = listed["tools"].as_array().expect("tools").iter();
        tools.map(|tool| tool["name"].as_str().expect("a name").to_owned()).collect()
    }

    /// What `metamcp://servers` says of a server.
    pub(crate) async fn server(&self, name: &str) -> Value {
        let read = self.result("resources/read", json!({ "uri": "metamcp://servers" })).await;
        let text = read["contents"][0]["text"].as_str().expect("a text");
        let report: Value = serde_json::from_str(text).expect("JSON");
        let servers = report["servers"].as_array().expect("servers");
        servers.iter().find(|server| server["name"] == name).unwrap_or_else(|| panic!("{report}")).clone()
    }

    /// Sends a notification or an answer.
    pub(crate) async fn send(&self, message: Value) {
        assert_eq!(self.post(&message).await.status(), StatusCode::ACCEPTED, "{message}");
    }

    /// Opens the stream of a legacy session.
    pub(crate) async fn listen(&self) -> Messages {
        let request = self.with_session(self.http.get(format!("{}/mcp", self.url)));
        let answer = request.header("accept", "text/event-stream").send().await.expect("a gateway is there");
        Messages::of(answer)
    }

    /// Ends a legacy session.
    pub(crate) async fn end(&self) {
        let ended = self.with_session(self.http.delete(format!("{}/mcp", self.url))).send().await;
        assert!(ended.expect("a gateway is there").status().is_success());
    }

    /// With which status a ping of a legacy session is answered.
    pub(crate) async fn ping(&self) -> StatusCode {
        self.post(&json!({ "jsonrpc": "2.0", "id": self.next_id(), "method": "ping" })).await.status()
    }
}

/// The messages of one response: one text, or a stream of events.
#[derive(Debug)]
pub(crate) struct Messages {
    response: Response,
    is_stream: bool,
    text: String,
}

impl Messages {
    fn of(response: Response) -> Self {
        let media = response.headers().get("content-type").and_then(|media| media.to_str().ok()).unwrap_or_default();
        Self { is_stream: media == "text/event-stream", response, text: String::new() }
    }

    /// The next message; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        tokio::time::timeout(PATIENCE, self.read()).await.expect("a message, or the end")
    }

    async fn read(&mut self) -> Option<Value> {
        loop {
            if self.is_stream
                && let Some((event, rest)) = self.text.split_once("\n\n")
            {
                let data = event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap_or_default().to_owned();
                self.text = rest.to_owned();
                if !data.is_empty() {
                    return Some(serde_json::from_str(&data).unwrap_or_else(|error| panic!("{error}: {data}")));
                }
                continue;
            }
            // A stream that is cut ends as well.
            match self.response.chunk().await {
                Ok(Some(chunk)) => self.text.push_str(std::str::from_utf8(&chunk).expect("UTF-8")),
                Ok(None) | Err(_) if self.is_stream || self.text.is_empty() => return None,
                Ok(None) | Err(_) => {
                    let text = std::mem::take(&mut self.text);
                    return Some(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")));
                }
            }
        }
    }

    /// The next message that wants an answer, or is one.
    pub(crate) async fn next_with_id(&mut self) -> Value {
        loop {
            let message = self.next().await.expect("there is more to come");
            if message.get("id").is_some() {
                return message;
            }
        }
    }

    /// The answer; nothing is asked before it.
    pub(crate) async fn answer(mut self) -> Value {
        let message = self.next_with_id().await;
        assert!(message.get("method").is_none(), "a question: {message}");
        message
    }
}

/// The text of a result.
pub(crate) fn text(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("a text: {result}"))
}

/// What a failed call is called.
pub(crate) fn failure(result: &Value) -> &str {
    assert_eq!(result["isError"], true, "{result}");
    result["_meta"]["io.github.metamcp/error"]["code"].as_str().unwrap_or_else(|| panic!("a code: {result}"))
}
