//! Garbage, from clients and from servers: it never takes the gateway down, never reaches anybody else, and what answers it is well formed.
//!
//! Each test runs for `METAMCP_FUZZ_SECONDS` from `METAMCP_SEED`; `cargo xtask fuzz` lets them run longer. While garbage is on its way, a caller
//! of good manners calls a good server, and must get exactly its own answer.

use std::{
    convert::Infallible,
    env,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use metamcp_core::{
    engine::Orchestrator, id::ServerName, record::MemoryRecordStore, time::SystemClock, transport::Connector,
};
use metamcp_mcp_adapters::{
    gateway::{Gateway, GatewayOptions, GatewayService, HttpOptions, Naming, ServerView, StdioOptions, serve_stdio},
    upstream::{Era, HttpConnector, IoConnector},
};
use rmcp::ServiceExt as _;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream};
use tower_service::Service as _;

use super::{
    client::{PATIENCE, all, result},
    conformance_fixture::{Eras, Server},
    mutate::Mutator,
    served::{listen, serve},
};

/// How long a test runs when nobody says otherwise, in seconds.
const RUN_S: u64 = 5;
/// Bytes that a pipe holds.
const PIPE_BYTES: usize = 64 << 10;

fn number(name: &str, or: u64) -> u64 {
    env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(or)
}

/// A seed, the end of the run, and what to print when something is wrong.
struct Run {
    seed: u64,
    end: Instant,
}

impl Run {
    fn begin() -> Self {
        let seed = number("METAMCP_SEED", 1);
        println!("replay: METAMCP_SEED={seed}");
        Self { seed, end: Instant::now() + Duration::from_secs(number("METAMCP_FUZZ_SECONDS", RUN_S)) }
    }

    fn goes_on(&self) -> bool {
        Instant::now() < self.end
    }
}

/// What is looked at of a message. The rest may have numbers in it that fit nowhere and come through all the same.
#[derive(Deserialize)]
struct Envelope {
    jsonrpc: String,
    id: Option<Box<RawValue>>,
}

/// The messages of a frame: one, or those of a batch, each of them well formed.
fn messages(frame: &str) -> Vec<Envelope> {
    let read = if frame.starts_with('[') {
        serde_json::from_str(frame)
    } else {
        serde_json::from_str(frame).map(|message| vec![message])
    };
    let messages: Vec<Envelope> = read.unwrap_or_else(|error| panic!("{error}: {frame}"));
    assert!(messages.iter().all(|message| message.jsonrpc == "2.0"), "{frame}");
    messages
}

fn name(name: &str) -> ServerName {
    ServerName::new(name).unwrap()
}

/// Serves the good server on the far end of a pipe.
fn good() -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
    tokio::spawn(async move {
        if let Ok(running) = Server::new(Eras::Both).serve(tokio::io::split(theirs)).await {
            let _ = running.waiting().await;
        }
    });
    ours
}

/// A server that is like any other until its one tool is called: then garbage comes first, and at last an answer.
struct Noise(Mutator);

impl Noise {
    fn new(seed: u64) -> Self {
        Self(Mutator::new("answers", seed))
    }

    /// What answers a message, if it is a request: the garbage, and the answer.
    fn answer(&mut self, message: &[u8]) -> Option<(Option<Vec<u8>>, String)> {
        let asked: Value = serde_json::from_slice(message).ok()?;
        let (method, id) = (asked["method"].as_str()?, asked.get("id")?);
        let garbled = || String::from_utf8_lossy(&self.0.next()).replace("ID", &id.to_string()).into_bytes();
        let garbage = (method == "tools/call").then(garbled);
        let result = match method {
            "server/discover" => json!({
                "resultType": "complete", "ttlMs": 0, "cacheScope": "public",
                "supportedVersions": ["2026-07-28"], "capabilities": { "tools": {} }
            }),
            "tools/list" => json!({
                "resultType": "complete", "ttlMs": 0, "cacheScope": "public",
                "tools": [{ "name": "noise", "inputSchema": { "type": "object" } }]
            }),
            _ => json!({ "resultType": "complete", "content": [{ "type": "text", "text": "at last" }] }),
        };
        Some((garbage, json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string()))
    }

    /// Once in twenty times.
    fn seldom(&mut self) -> bool {
        self.0.below(20) == 0
    }
}

/// Serves noise on the far end of a pipe.
fn noisy_pipe(seed: u64) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
    tokio::spawn(async move {
        let mut noise = Noise::new(seed);
        let (read, mut write) = tokio::io::split(theirs);
        let mut lines = BufReader::new(read).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let Some((garbage, answer)) = noise.answer(line.as_bytes()) else { continue };
            // Now and then it hangs up on top of it.
            let hangs_up = garbage.is_some() && noise.seldom();
            let answer = if hangs_up { String::new() } else { answer };
            let said = [garbage.unwrap_or_default().as_slice(), b"\n", answer.as_bytes(), b"\n"].concat();
            if write.write_all(&said).await.is_err() || hangs_up {
                return;
            }
        }
    });
    ours
}

/// Noise over HTTP: garbage in events before the answer, garbage that is no event, or garbage in place of a body.
#[derive(Clone)]
struct NoisyHttp(Arc<Mutex<Noise>>);

impl<B> tower_service::Service<Request<B>> for NoisyHttp
where
    B: http_body::Body<Data = Bytes, Error: std::fmt::Debug> + Send + 'static,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let noise = Arc::clone(&self.0);
        Box::pin(async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let mut noise = noise.lock().unwrap();
            let (media_type, said) = match noise.answer(&body) {
                None => ("text/plain", Vec::new()),
                Some((None, answer)) => ("application/json", answer.into_bytes()),
                Some((Some(garbage), _)) if noise.seldom() => ("application/json", garbage),
                Some((Some(garbage), answer)) => {
                    let begin: &[u8] = if noise.0.below(2) == 0 { b"data: " } else { b"" };
                    let said = [begin, &garbage, b"\n\ndata: ", answer.as_bytes(), b"\n\n"].concat();
                    ("text/event-stream", said)
                }
            };
            Ok(Response::builder().header("content-type", media_type).body(Full::new(Bytes::from(said))).unwrap())
        })
    }
}

/// Serves noise over HTTP on a loopback port; its address.
async fn noisy_http(seed: u64) -> String {
    let (listener, url) = listen().await;
    tokio::spawn(serve(NoisyHttp(Arc::new(Mutex::new(Noise::new(seed)))), listener));
    url
}

fn pipe(seed: u64) -> impl Connector {
    IoConnector::new(name("noisy"), move || noisy_pipe(seed)).era(Era::Modern)
}

/// A gateway to a good server and to a noisy one, both of them listed.
async fn gateway(noisy: impl Connector + 'static) -> Gateway {
    let engine = Orchestrator::builder()
        .server(name("good"), Arc::new(IoConnector::new(name("good"), good).era(Era::Modern)))
        .server(name("noisy"), Arc::new(noisy))
        .build();
    let mut options = GatewayOptions::default();
    for server in ["good", "noisy"] {
        let mut view = ServerView::default();
        view.naming = Naming::plain();
        options.servers.insert(name(server), view);
    }
    let records = Arc::new(MemoryRecordStore::new(Arc::new(SystemClock::default())));
    let gateway = Gateway::builder(engine, records).options(options).build().await.unwrap();
    let service = GatewayService::new(gateway.clone(), HttpOptions::default());
    // The first list waits for both.
    let tools = all(&service, "/mcp", "tools/list", "tools", "name").await;
    assert!(["greet", "noise"].iter().all(|tool| tools.iter().any(|name| name == tool)), "{tools:?}");
    gateway
}

/// A good caller's call, which nothing may disturb.
async fn greet(service: &GatewayService, whom: &str) {
    let params = json!({ "name": "greet", "arguments": { "name": whom } });
    let told = result(service, "/mcp", "tools/call", params).await;
    assert_eq!(told["content"][0]["text"], format!("Hello, {whom}!"));
}

/// Posts these bytes as they are, and gives the whole answer, which must be well formed.
async fn post(service: &GatewayService, body: Vec<u8>, modern: bool) -> String {
    // A header that says what the body is about, as far as it can be told; garbage without it would not get far.
    let about: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |pointer: &str| about.pointer(pointer).and_then(Value::as_str).filter(|text| text.is_ascii());
    let mut request = Request::post("/mcp").header("host", "localhost").header("content-type", "application/json");
    request = request.header("accept", "application/json, text/event-stream");
    if modern {
        request = request.header("mcp-protocol-version", "2026-07-28");
        request = request.header("mcp-method", text("/method").unwrap_or("tools/call").trim());
        let named = ["/params/name", "/params/uri", "/params/taskId"].iter().find_map(|pointer| text(pointer));
        request = request.header("mcp-name", named.unwrap_or("noise").trim());
    }
    // Not every text can stand in a header.
    let Ok(request) = request.body(Full::new(Bytes::from(body.clone()))) else { return String::new() };
    let shown = || String::from_utf8_lossy(&body).into_owned();
    let answered = async {
        let response = service.clone().call(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        (status, headers, response.into_body().collect().await.unwrap().to_bytes())
    };
    let Ok((status, headers, bytes)) = tokio::time::timeout(PATIENCE, answered).await else {
        panic!("no answer within {PATIENCE:?} to {}", shown())
    };
    assert!(!status.is_server_error(), "{status} to {}", shown());
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let media_type = headers.get("content-type").map(|value| value.to_str().unwrap()).unwrap_or_default();
    let frames: Vec<&str> = match media_type {
        "text/event-stream" => text.lines().filter_map(|line| line.strip_prefix("data: ")).collect(),
        "application/json" => vec![&text],
        _ => Vec::new(),
    };
    for frame in frames.into_iter().filter(|frame| !frame.is_empty()) {
        messages(frame);
    }
    text
}

#[tokio::test]
async fn garbage_posted_by_a_client() {
    let run = Run::begin();
    let service = GatewayService::new(gateway(pipe(run.seed)).await, HttpOptions::default());
    let mut garbage = Mutator::new("requests", run.seed);
    let mut posted = 0_u64;
    while run.goes_on() {
        let whom = format!("nobody-but-{posted}");
        let (body, modern) = (garbage.next(), garbage.below(3) > 0);
        let (told, ()) = tokio::join!(post(&service, body, modern), greet(&service, &whom));
        assert!(!told.contains(&whom), "the answer to garbage has another caller's in it: {told}");
        posted += 1;
    }
    println!("{posted} bodies posted");
}

#[tokio::test]
async fn garbage_on_the_lines_of_a_client() {
    let run = Run::begin();
    let gateway = gateway(pipe(run.seed)).await;
    let mut garbage = Mutator::new("requests", run.seed);
    let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
    let (input, output) = tokio::io::split(theirs);
    let serving = tokio::spawn(serve_stdio(gateway, input, output, StdioOptions::default()));
    let (read, mut write) = tokio::io::split(ours);
    let mut lines = BufReader::new(read).lines();
    let mut written = 0_u64;
    while run.goes_on() {
        let (id, whom) = (format!("call-{}-{written}", run.seed), format!("nobody-but-{written}"));
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let params = json!({ "name": "greet", "arguments": { "name": whom }, "_meta": meta });
        let call = json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params }).to_string();
        let (bad, quoted) = (garbage.next(), json!(id).to_string());
        let sent = [bad.as_slice(), b"\n", call.as_bytes(), b"\n"].concat();
        let answered = async {
            loop {
                let line = lines.next_line().await.unwrap().expect("the gateway still writes");
                let is_told = |message: &Envelope| message.id.as_ref().is_some_and(|told| told.get() == quoted);
                if messages(&line).iter().any(is_told) {
                    return serde_json::from_str::<Value>(&line).unwrap();
                }
                assert!(!line.contains(&whom), "the answer to garbage has another caller's in it: {line}");
            }
        };
        let both = async { tokio::join!(async { write.write_all(&sent).await.unwrap() }, answered).1 };
        let Ok(told) = tokio::time::timeout(PATIENCE, both).await else {
            panic!("no answer within {PATIENCE:?} after {}", String::from_utf8_lossy(&bad))
        };
        let greeting = format!("Hello, {whom}!");
        assert_eq!(told["result"]["content"][0]["text"], *greeting, "{told} after {}", String::from_utf8_lossy(&bad));
        written += 1;
    }
    assert!(!serving.is_finished());
    println!("{written} lines written");
}

/// Calls the noisy server until the end of the run.
async fn calls_of_noise(run: &Run, gateway: Gateway) {
    let service = GatewayService::new(gateway, HttpOptions::default());
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": { "elicitation": {}, "sampling": {} },
        "progressToken": "mine",
    });
    let params = json!({ "name": "noise", "arguments": {}, "_meta": meta });
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params }).to_string();
    let mut called = 0_u64;
    while run.goes_on() {
        let whom = format!("nobody-but-{called}");
        let noise = post(&service, call.clone().into_bytes(), true);
        let (told, ()) = tokio::join!(noise, greet(&service, &whom));
        assert!(!told.contains(&whom), "the answer of a noisy server has another server's in it: {told}");
        called += 1;
    }
    println!("{called} calls answered");
}

#[tokio::test]
async fn garbage_on_the_lines_of_a_server() {
    let run = Run::begin();
    calls_of_noise(&run, gateway(pipe(run.seed)).await).await;
}

#[tokio::test]
async fn garbage_in_the_events_of_a_server() {
    let run = Run::begin();
    let url = noisy_http(run.seed).await;
    let noisy = HttpConnector::new(name("noisy"), &url).unwrap().era(Era::Modern);
    calls_of_noise(&run, gateway(noisy).await).await;
}
