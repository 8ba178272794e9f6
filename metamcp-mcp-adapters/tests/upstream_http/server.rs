//! A server on a bare socket that does with each request what a test says.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use metamcp_core::{
    id::ServerName,
    json::RawJson,
    transport::{CallContext, McpTransport, ToolCall, ToolOutput, ToolReply, TransportError},
};
use metamcp_mcp_adapters::upstream::HttpConnector;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use tokio_util::task::AbortOnDropHandle;

/// One request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) line: String,
    pub(crate) headers: Vec<String>,
    pub(crate) body: Value,
}

impl Request {
    pub(crate) fn method(&self) -> &str {
        self.body["method"].as_str().unwrap_or_default()
    }

    pub(crate) fn id(&self) -> &Value {
        &self.body["id"]
    }

    pub(crate) fn has(&self, header: &str) -> bool {
        self.headers.iter().any(|line| line.eq_ignore_ascii_case(header))
    }
}

/// What the socket does with a request.
pub(crate) enum Act {
    /// Writes these bytes and goes on with the connection.
    Answer(String),
    /// Writes these bytes and closes.
    Break(String),
    /// Writes these bytes and is silent.
    Hang(String),
    /// Writes these bytes once it is told to go on.
    Late(String),
}

pub(crate) fn status(line: &str, headers: &str, body: &str) -> Act {
    Act::Answer(format!("HTTP/1.1 {line}\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len()))
}

pub(crate) fn json_answer(headers: &str, body: &str) -> Act {
    status("200 OK", &format!("content-type: application/json\r\n{headers}"), body)
}

pub(crate) fn result(request: &Request, result: &str) -> Act {
    json_answer("", &format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, request.id()))
}

/// A modern server but for its calls.
pub(crate) fn modern(request: &Request, call: impl Fn(&Request) -> Act) -> Act {
    match request.method() {
        "server/discover" => result(
            request,
            r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":0,"cacheScope":"private"}"#,
        ),
        "tools/call" => call(request),
        _ => status("202 Accepted", "", ""),
    }
}

pub(crate) struct Server {
    url: String,
    pub(crate) seen: Arc<Mutex<Vec<Request>>>,
    pub(crate) go_on: Arc<Notify>,
    _accepting: AbortOnDropHandle<()>,
}

impl Server {
    pub(crate) async fn start(act: impl Fn(&Request) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
        let url = format!("http://user:s3cret@{}/mcp?key=s3cret", listener.local_addr().expect("it is bound"));
        let (act, seen) = (Arc::new(act), Arc::<Mutex<Vec<Request>>>::default());
        let (log, go_on) = (Arc::clone(&seen), Arc::<Notify>::default());
        let told = Arc::clone(&go_on);
        let accepting = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (act, log, told) = (Arc::clone(&act), Arc::clone(&log), Arc::clone(&told));
                connections.spawn(async move {
                    // A client that goes away ends the connection, and that is all.
                    let _ = serve(stream, &*act, &log, &told).await;
                });
            }
        });
        Self { url, seen, go_on, _accepting: AbortOnDropHandle::new(accepting) }
    }

    pub(crate) fn connector(&self) -> HttpConnector {
        HttpConnector::new(ServerName::new("far").expect("a valid name"), &self.url).expect("a good address")
    }

    pub(crate) fn seen(&self, method: &str) -> Vec<Request> {
        self.seen.lock().expect("no panic").iter().filter(|request| request.method() == method).cloned().collect()
    }
}

async fn serve(
    stream: TcpStream,
    act: &(impl Fn(&Request) -> Act + Send + Sync),
    log: &Mutex<Vec<Request>>,
    go_on: &Notify,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            if line.trim().is_empty() {
                break;
            }
            lines.push(line.trim().to_owned());
        }
        let length =
            |line: &String| line.to_ascii_lowercase().strip_prefix("content-length: ").and_then(|n| n.parse().ok());
        let mut body = vec![0; lines.iter().find_map(length).unwrap_or(0)];
        stream.read_exact(&mut body).await?;
        let body = serde_json::from_slice(&body).unwrap_or_default();
        let request = Request { line: lines.remove(0), headers: lines, body };
        log.lock().expect("no panic").push(request.clone());
        match act(&request) {
            Act::Answer(text) => stream.write_all(text.as_bytes()).await?,
            Act::Late(text) => {
                go_on.notified().await;
                stream.write_all(text.as_bytes()).await?;
            }
            Act::Break(text) => return stream.write_all(text.as_bytes()).await,
            Act::Hang(text) => {
                stream.write_all(text.as_bytes()).await?;
                std::future::pending::<()>().await;
            }
        }
    }
}

pub(crate) async fn call_on(transport: &Arc<dyn McpTransport>) -> Result<ToolOutput, TransportError> {
    let call = ToolCall::new("t", RawJson::empty_object());
    match transport.call(&call, &CallContext::quiet()).await? {
        ToolReply::Done(output) => Ok(output),
        other => panic!("not done: {other:?}"),
    }
}

/// A legacy server with sessions; it forgets the session `s1` after its first call.
pub(crate) fn forgetful(request: &Request, begun: &AtomicUsize) -> Act {
    match request.method() {
        "initialize" => {
            let session = begun.fetch_add(1, Ordering::SeqCst) + 1;
            let capabilities = json!({ "resources": { "subscribe": true } });
            let result = json!({ "protocolVersion": "2025-06-18", "capabilities": capabilities, "serverInfo": { "name": "old", "version": "1" } });
            let body = json!({ "jsonrpc": "2.0", "id": request.id(), "result": result }).to_string();
            json_answer(&format!("mcp-session-id: s{session}\r\n"), &body)
        }
        "tools/call" if request.has("mcp-session-id: s1") && begun.load(Ordering::SeqCst) > 0 => {
            status("404 Not Found", "", "no such session")
        }
        "tools/call" => result(request, r#"{"old":true}"#),
        "resources/subscribe" => result(request, "{}"),
        "server/discover" => status("400 Bad Request", "", "no session"),
        _ => status("202 Accepted", "", ""),
    }
}
