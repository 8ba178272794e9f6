//! A raw client: writes one JSON line for each message and reads lines back. It knows the two ways to begin a session
//! and nothing of rmcp, so that it can disagree with it.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use metamcp_mcp_adapters::servers::code::{CodeConfig, CodeLimits, CodeServer, serve_io};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, Lines, ReadHalf, WriteHalf};
use tokio::task::JoinHandle;

/// Longest wait for one answer; only ever met when something hangs.
const ANSWER_MAX: Duration = Duration::from_secs(120);

/// How a session begins and what each request carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Era {
    /// `initialize`, 2025-11-25.
    Session,
    /// `server/discover` and metadata in each request, 2026-07-28.
    Stateless,
}

pub(crate) struct Client {
    era: Era,
    next_id: u64,
    lines: Lines<BufReader<ReadHalf<DuplexStream>>>,
    writer: WriteHalf<DuplexStream>,
    server: JoinHandle<()>,
    outputs: HashMap<String, jsonschema::Validator>,
    /// The answer to the first request.
    pub(crate) opened: Value,
    /// Notifications received, oldest first.
    pub(crate) notifications: Vec<Value>,
}

/// The answer of a tool.
#[derive(Debug)]
pub(crate) struct Called {
    pub(crate) is_error: bool,
    pub(crate) text: String,
    pub(crate) structured: Value,
}

impl Client {
    /// A session over a folder with the default limits.
    pub(crate) async fn over(folder: &Path) -> Self {
        Self::start(CodeConfig::new([folder]), Era::Stateless).await
    }

    /// A session over a folder with other limits.
    pub(crate) async fn limited(folder: &Path, limits: CodeLimits) -> Self {
        Self::start(CodeConfig { limits, ..CodeConfig::new([folder]) }, Era::Stateless).await
    }

    pub(crate) async fn start(config: CodeConfig, era: Era) -> Self {
        let server = CodeServer::new(config).expect("the configuration is good");
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let server = tokio::spawn(async move { serve_io(server, theirs).await.expect("the session ends well") });
        let (reader, writer) = tokio::io::split(ours);
        let mut client = Self {
            era,
            next_id: 1,
            lines: BufReader::new(reader).lines(),
            writer,
            server,
            outputs: HashMap::new(),
            opened: Value::Null,
            notifications: Vec::new(),
        };
        client.opened = match era {
            Era::Session => {
                let params = json!({
                    "protocolVersion": "2025-11-25",
                    "capabilities": {},
                    "clientInfo": { "name": "raw", "version": "1" },
                });
                let answer = client.request("initialize", params).await;
                client.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
                answer
            }
            Era::Stateless => client.request("server/discover", json!({})).await,
        };
        let listed = client.request("tools/list", json!({})).await;
        for tool in listed["result"]["tools"].as_array().expect("tools are listed") {
            let validator = jsonschema::draft202012::new(&tool["outputSchema"]).expect("the output schema is valid");
            client.outputs.insert(tool["name"].as_str().expect("a tool has a name").to_owned(), validator);
        }
        client
    }

    /// Sends a request and waits for its answer, the whole message.
    pub(crate) async fn request(&mut self, method: &str, params: Value) -> Value {
        let id = self.post(method, params).await;
        self.answer(id).await
    }

    /// Sends a request without waiting; answers its id.
    pub(crate) async fn post(&mut self, method: &str, mut params: Value) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        if self.era == Era::Stateless {
            let meta = &mut params["_meta"];
            meta["io.modelcontextprotocol/protocolVersion"] = "2026-07-28".into();
            meta["io.modelcontextprotocol/clientCapabilities"] = json!({});
            meta["io.modelcontextprotocol/clientInfo"] = json!({ "name": "raw", "version": "1" });
        }
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })).await;
        id
    }

    pub(crate) async fn send(&mut self, message: &Value) {
        self.write(&format!("{message}\n")).await;
    }

    pub(crate) async fn write(&mut self, line: &str) {
        self.writer.write_all(line.as_bytes()).await.expect("the server reads");
    }

    /// Waits for the answer with this id; keeps the notifications that come before it.
    pub(crate) async fn answer(&mut self, id: u64) -> Value {
        loop {
            let line = tokio::time::timeout(ANSWER_MAX, self.lines.next_line()).await.expect("the server answers");
            let line = line.expect("the stream is whole").expect("the server is still there");
            let message: Value = serde_json::from_str(&line).expect("each line is JSON");
            if message["id"] == id {
                return message;
            }
            self.notifications.push(message);
        }
    }

    /// Waits for the next notification.
    pub(crate) async fn notification(&mut self) -> Value {
        let line = tokio::time::timeout(ANSWER_MAX, self.lines.next_line()).await.expect("the server tells something");
        let line = line.expect("the stream is whole").expect("the server is still there");
        let message: Value = serde_json::from_str(&line).expect("each line is JSON");
        assert!(message.get("id").is_none(), "a notification was expected: {message}");
        message
    }

    /// Calls a tool; its structured answer has the announced shape.
    pub(crate) async fn call(&mut self, tool: &str, arguments: Value) -> Called {
        let message = self.request("tools/call", json!({ "name": tool, "arguments": arguments })).await;
        let result = &message["result"];
        assert!(result.is_object(), "a tool call is always answered with a result: {message}");
        let is_error = result["isError"].as_bool().unwrap_or(false);
        let text = result["content"][0]["text"].as_str().expect("there is text").to_owned();
        let structured = result.get("structuredContent").cloned().unwrap_or_default();
        if is_error {
            assert_eq!(structured, Value::Null);
            assert!(!text.ends_with('.'), "{text}");
        } else {
            let errors: Vec<_> = self.outputs[tool].iter_errors(&structured).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{tool}: {errors:?} in {structured}");
        }
        Called { is_error, text, structured }
    }

    /// Calls a tool that must succeed.
    pub(crate) async fn good(&mut self, tool: &str, arguments: Value) -> Called {
        let called = self.call(tool, arguments).await;
        assert!(!called.is_error, "{}", called.text);
        called
    }

    /// Calls a tool that must fail; answers what it says.
    pub(crate) async fn bad(&mut self, tool: &str, arguments: Value) -> String {
        let called = self.call(tool, arguments).await;
        assert!(called.is_error, "{}", called.structured);
        called.text
    }

    /// Closes the stream; the server ends by itself.
    pub(crate) async fn close(self) {
        drop((self.lines, self.writer));
        tokio::time::timeout(ANSWER_MAX, self.server)
            .await
            .expect("the server ends")
            .expect("the server did not panic");
    }
}

/// The `field` of every object of an array.
pub(crate) fn each<'v>(array: &'v Value, field: &str) -> Vec<&'v str> {
    array.as_array().expect("an array").iter().map(|item| item[field].as_str().expect("a string")).collect()
}

/// Writes files into a new folder.
pub(crate) fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder can be made");
    for (path, text) in files {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("it is below the folder")).expect("it can be made");
        std::fs::write(path, text).expect("it can be written");
    }
    folder
}
