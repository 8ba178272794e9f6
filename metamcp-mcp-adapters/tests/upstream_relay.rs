//! Servers of both eras as relays: requests passed on as they were written, questions parked, news heard, resources watched.
#![cfg(feature = "upstream")]

mod fixture;

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use metamcp_core::{
    id::ServerName,
    json::RawJson,
    record::{MemoryRecordStore, RecordStore},
    time::SystemClock,
    transport::{
        CallContext, Connector, Delivered, McpTransport, Relay, RelayError, RelayMeta, RelayNews, RelayRequest,
        RelaySide, ToolCall,
    },
};
use metamcp_mcp_adapters::upstream::{Era, Handover, HttpConnector, IoConnector, StdioConnector};
use rmcp::transport::streamable_http_server::StreamableHttpServerConfig;
use serde_json::{Value, json, value::RawValue};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
    sync::broadcast,
};
use tokio_util::task::AbortOnDropHandle;

/// Longest any wait may take, in seconds.
const WAIT_S_MAX: u64 = 30;

fn name() -> ServerName {
    ServerName::new("far").expect("a valid name")
}

async fn in_time<T>(step: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(WAIT_S_MAX), step).await.expect("it ends in time")
}

/// What came for a caller beside its answer.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl RelaySide for Heard {
    fn notify(&self, method: &str, params: Option<&RawValue>) {
        let params = params.map(RawValue::get).unwrap_or_default();
        self.0.lock().expect("no panic").push(format!("{method} {params}"));
    }
}

impl Heard {
    fn all(&self) -> Vec<String> {
        self.0.lock().expect("no panic").clone()
    }
}

fn raw(text: impl Into<String>) -> Box<RawValue> {
    RawValue::from_string(text.into()).expect("it is JSON")
}

/// A caller whose client can do this.
struct Caller<'a> {
    relay: &'a dyn Relay,
    capabilities: &'a str,
    level: Option<&'a str>,
    heard: Heard,
}

impl<'a> Caller<'a> {
    fn new(transport: &'a Arc<dyn McpTransport>, capabilities: &'a str) -> Self {
        let relay = transport.relay().expect("a server is a relay");
        Self { relay, capabilities, level: None, heard: Heard::default() }
    }

    /// Calls a tool with these members of `params` beside its name.
    async fn call(&self, tool: &str, members: &[(&str, &str)]) -> Result<RawJson, RelayError> {
        let texts: Vec<_> = members.iter().map(|(key, text)| (*key, raw(*text))).collect();
        let (tool_text, capabilities) = (raw(format!("\"{tool}\"")), raw(self.capabilities));
        let level = self.level.map(raw);
        let mut params = vec![("name", &*tool_text)];
        params.extend(texts.iter().map(|(key, text)| (*key, &**text)));
        let trace = raw("\"00-ab\"");
        let meta = RelayMeta {
            capabilities: Some(&capabilities),
            log_level: level.as_deref(),
            progress: true,
            extra: &[("traceparent", &trace)],
            ..RelayMeta::default()
        };
        let request = RelayRequest { method: "tools/call", name: Some(tool), params: &params, meta };
        in_time(self.relay.request(request, &self.heard)).await
    }

    async fn retry(&self, tool: &str, state: &str, responses: &Value) -> Result<RawJson, RelayError> {
        let (state, responses) = (Value::from(state).to_string(), responses.to_string());
        self.call(tool, &[("arguments", "{}"), ("requestState", &state), ("inputResponses", &responses)]).await
    }
}

fn text(result: &RawJson) -> String {
    result.view::<Value>().expect("JSON")["content"][0]["text"].as_str().unwrap_or_default().to_owned()
}

/// The key and the state of the one question that a result asks.
fn question(result: &RawJson, method: &str) -> (String, String) {
    let asked: Value = result.view().expect("JSON");
    assert_eq!(asked["resultType"], "input_required", "{asked}");
    let requests = asked["inputRequests"].as_object().expect("questions");
    assert_eq!(requests.len(), 1);
    let (key, request) = requests.iter().next().expect("one");
    assert_eq!(request["method"], method);
    (key.clone(), asked["requestState"].as_str().expect("a state").to_owned())
}

fn roots(key: &str, uri: &str) -> Value {
    json!({ key: { "roots": [{ "uri": uri }] } })
}

type Held = (Arc<dyn McpTransport>, Box<dyn std::any::Any>);

async fn pipe(era: Era) -> Held {
    let server = fixture::Server::default();
    let open = move || {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        tokio::spawn(fixture::serve(server.clone(), theirs));
        ours
    };
    let connector = IoConnector::new(name(), open).era(era);
    (connector.connect().await.expect("it connects"), Box::new(connector))
}

async fn http(era: Era) -> Held {
    let (url, guard) = fixture::serve_http(fixture::Server::default(), StreamableHttpServerConfig::default()).await;
    let connector = HttpConnector::new(name(), &url).expect("the address is good").era(era);
    (connector.connect().await.expect("it connects"), Box::new((connector, guard)))
}

async fn script() -> Held {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixture/misbehaving.py");
    let connector = StdioConnector::new(name(), "python3").args([path.to_string_lossy().as_ref(), "2025-11-25"]);
    (connector.connect().await.expect("it connects"), Box::new(connector))
}

#[tokio::test]
async fn a_request_and_its_answer_are_passed_on_as_they_were_written() {
    for (era, (transport, _guard)) in [
        (Era::Legacy, pipe(Era::Legacy).await),
        (Era::Modern, pipe(Era::Modern).await),
        (Era::Legacy, http(Era::Legacy).await),
        (Era::Modern, http(Era::Modern).await),
    ] {
        let caller = Caller::new(&transport, r#"{"roots":{},"tasks":{"list":{}}}"#);
        let introduction = caller.relay.introduction();
        assert_eq!(introduction.modern, era == Era::Modern);
        assert_eq!(introduction.instructions.as_deref(), Some("standard tools for tests"));
        assert_eq!(introduction.capabilities.view::<Value>().expect("JSON")["tools"]["listChanged"], true);
        assert!(introduction.server_info.as_ref().is_some_and(|info| info.get().contains("rmcp")));
        let meta: Value =
            serde_json::from_str(&text(&caller.call("meta", &[]).await.expect("it answers"))).expect("JSON");
        assert_eq!(meta["traceparent"], "00-ab");
        let told = meta.get("io.modelcontextprotocol/clientCapabilities");
        assert_eq!(told, (era == Era::Modern).then_some(&json!({ "roots": {} })));
        caller.call("progress", &[("arguments", r#"{"steps":2}"#)]).await.expect("it answers");
        let heard = caller.heard.all();
        assert_eq!(heard.iter().filter(|line| line.starts_with("notifications/progress ")).count(), 2, "{heard:?}");
        let refused = caller.call("no-such-tool", &[]).await;
        assert!(matches!(&refused, Err(RelayError::Rpc(error)) if error.code == -32602), "{refused:?}");
        transport.close().await;
    }
    let (transport, _guard) = script().await;
    let caller = Caller::new(&transport, "{}");
    let result = caller.call("raw", &[("arguments", "{}")]).await.expect("it answers");
    assert!(result.get().starts_with(r#"{"z": 1.0,"big":12345678901234567890123,"huge":1e400,"#));
    let Err(RelayError::Rpc(error)) = caller.call("error", &[("arguments", "{}")]).await else { panic!("an error") };
    assert_eq!((error.code, &*error.message, error.data.as_ref().map(RawJson::get)), (-5, "no\nluck", Some("[1]")));
}

#[tokio::test]
async fn a_question_of_a_legacy_server_is_parked_and_answered_by_a_retry() {
    for (transport, _guard) in [pipe(Era::Legacy).await, http(Era::Legacy).await] {
        let caller = Caller::new(&transport, r#"{"roots":{}}"#);
        let asked = caller.call("roots", &[("arguments", "{}")]).await.expect("it asks");
        let (key, state) = question(&asked, "roots/list");
        // Other calls go their way meanwhile, and cannot take what is parked.
        assert_eq!(text(&caller.call("echo", &[("arguments", r#"{"a":1}"#)]).await.expect("it answers")), r#"{"a":1}"#);
        let stolen = caller.retry("echo", &state, &roots(&key, "file:///stolen")).await;
        let Err(RelayError::Transport(error)) = stolen else { panic!("not its own: {stolen:?}") };
        assert_eq!(error.delivered, Delivered::Maybe);
        let asked = caller.retry("roots", &state, &roots(&key, "file:///one")).await.expect("it asks again");
        let (second, next) = question(&asked, "roots/list");
        assert!(second != key && next != state);
        let done = caller.retry("roots", &next, &roots(&second, "file:///two")).await.expect("it answers");
        assert_eq!(text(&done), "file:///one file:///two");
        let again = caller.retry("roots", &next, &roots(&second, "file:///two")).await;
        assert!(matches!(&again, Err(RelayError::Transport(e)) if e.delivered == Delivered::Maybe), "{again:?}");
        transport.close().await;
    }
}

#[tokio::test]
async fn a_retry_without_the_answer_is_asked_again_and_the_call_goes_on() {
    for (transport, _guard) in [pipe(Era::Legacy).await, http(Era::Legacy).await] {
        let caller = Caller::new(&transport, r#"{"roots":{}}"#);
        let asked = caller.call("roots", &[("arguments", "{}")]).await.expect("it asks");
        let (key, mut state) = question(&asked, "roots/list");
        for nonsense in [json!([]), json!(5), json!({ &key: 5 }), json!({ &key: null })] {
            let refused = caller.retry("roots", &state, &nonsense).await;
            assert!(matches!(&refused, Err(RelayError::Rpc(e)) if e.code == -32602), "{nonsense}: {refused:?}");
        }
        let without = Value::from(&*state).to_string();
        let again = caller.call("roots", &[("arguments", "{}"), ("requestState", &without)]).await;
        let mut told = again.expect("it asks again");
        for beside_it in [json!({}), roots("another", "file:///x")] {
            let (same, next) = question(&told, "roots/list");
            assert!(same == key && next != state);
            state = next;
            told = caller.retry("roots", &state, &beside_it).await.expect("it asks again");
        }
        let (_, state) = question(&told, "roots/list");
        let asked = caller.retry("roots", &state, &roots(&key, "file:///one")).await.expect("it takes the answer");
        let (second, state) = question(&asked, "roots/list");
        let done = caller.retry("roots", &state, &roots(&second, "file:///two")).await.expect("it answers");
        assert_eq!(text(&done), "file:///one file:///two");
        transport.close().await;
    }
}

#[tokio::test]
async fn a_client_without_the_capability_leaves_the_question_unanswered() {
    for (transport, _guard) in [pipe(Era::Legacy).await, http(Era::Legacy).await] {
        let unable = Caller::new(&transport, r#"{"elicitation":{}}"#);
        let refused = unable.call("roots", &[("arguments", "{}")]).await;
        assert!(matches!(&refused, Err(RelayError::Rpc(e)) if e.message.contains("roots/list")), "{refused:?}");
        transport.close().await;
    }
}

#[tokio::test]
async fn on_a_shared_connection_nobody_is_asked_for_somebody_else() {
    let (transport, _guard) = pipe(Era::Legacy).await;
    let caller = Caller::new(&transport, r#"{"roots":{}}"#);
    let (_, first) = question(&caller.call("roots", &[("arguments", "{}")]).await.expect("it asks"), "roots/list");
    // The first call waits, so the second one's question could be either's.
    let refused = caller.call("roots", &[("arguments", "{}")]).await;
    assert!(matches!(&refused, Err(RelayError::Rpc(e)) if e.message.contains("which caller")), "{refused:?}");
    let asked = caller.retry("roots", &first, &roots("q1", "file:///one")).await.expect("it asks again");
    question(&asked, "roots/list");
    transport.close().await;
}

#[tokio::test]
async fn a_server_that_asks_has_a_process_of_its_own_for_each_call_that_can_be_asked() {
    let (transport, _guard) = script().await;
    let caller = Caller::new(&transport, r#"{"elicitation":{}}"#);
    let ask = async |who: &str| {
        let arguments = json!({ "who": who }).to_string();
        let asked = caller.call("asks-once", &[("arguments", &arguments)]).await.expect("it asks");
        assert!(asked.get().contains(&format!(r#""message": "{who}""#)), "{asked:?}");
        question(&asked, "elicitation/create")
    };
    let answer = async |(key, state): &(String, String), name: &str| {
        let told = json!({ key: { "action": "accept", "content": { "name": name } } });
        let done = caller.retry("asks-once", state, &told).await.expect("it answers");
        let (pid, told): (u32, String) = serde_json::from_str(&text(&done)).expect("a pid and a name");
        assert_eq!(told, name);
        pid
    };
    // The first is the only one under way; then it is known that the server asks.
    let first = ask("Ada").await;
    let (second, third) = (ask("Bob").await, ask("Eve").await);
    let pids = [answer(&third, "Eve").await, answer(&first, "Ada").await, answer(&second, "Bob").await];
    assert!(pids[0] != pids[1] && pids[1] != pids[2] && pids[2] != pids[0], "{pids:?}");
    // What cannot be asked goes on over the first connection; what can takes one that is there.
    let silent = Caller::new(&transport, "{}");
    assert!(text(&silent.call("seen", &[("arguments", "{}")]).await.expect("it answers")).contains("Ada"));
    let again = ask("Ada").await;
    assert!(pids.contains(&answer(&again, "Ada").await));
    transport.close().await;
}

#[tokio::test]
async fn each_caller_hears_the_log_it_wants_and_the_server_is_told_the_lowest() {
    let (transport, _guard) = script().await;
    let heard = |caller: &Caller<'_>| {
        let level = |line: String| Some(line.split_once("\"data\": \"")?.1.split_once('"')?.0.to_owned());
        caller.heard.all().into_iter().filter_map(level).collect::<Vec<_>>()
    };
    let silent = Caller::new(&transport, "{}");
    assert_eq!(text(&silent.call("logs", &[("arguments", "{}")]).await.expect("it answers")), "unset");
    assert!(heard(&silent).is_empty());
    let anxious = Caller { level: Some("\"warning\""), ..Caller::new(&transport, "{}") };
    assert_eq!(text(&anxious.call("logs", &[("arguments", "{}")]).await.expect("it answers")), "warning");
    assert_eq!(heard(&anxious), ["warning", "error"]);
    let calm = Caller { level: Some("\"error\""), ..Caller::new(&transport, "{}") };
    assert_eq!(text(&calm.call("logs", &[("arguments", "{}")]).await.expect("it answers")), "warning");
    assert_eq!(heard(&calm), ["error"]);
}

async fn hears(news: &mut broadcast::Receiver<RelayNews>, method: &str) -> RelayNews {
    in_time(async {
        loop {
            let told = news.recv().await.expect("nobody lags here");
            if told.method == method {
                return told;
            }
        }
    })
    .await
}

#[tokio::test]
async fn changes_are_heard_in_both_eras_over_every_way() {
    const CHANGED: &str = "notifications/tools/list_changed";
    for (transport, _guard) in
        [pipe(Era::Legacy).await, pipe(Era::Modern).await, http(Era::Legacy).await, http(Era::Modern).await]
    {
        let caller = Caller::new(&transport, "{}");
        let mut news = caller.relay.news();
        // The ear may still be on its way to the server: what is told before it is there is lost.
        in_time(async {
            loop {
                caller.call("change", &[("arguments", "{}")]).await.expect("it answers");
                let heard = tokio::time::timeout(Duration::from_millis(500), hears(&mut news, CHANGED)).await;
                if heard.is_ok() {
                    break;
                }
            }
        })
        .await;
        in_time(transport.changed()).await;
        assert!(caller.heard.all().is_empty(), "news are nobody's own: {:?}", caller.heard.all());
        transport.close().await;
    }
}

#[tokio::test]
async fn resources_are_watched_in_both_eras_and_no_longer_than_wanted() {
    const UPDATED: &str = "notifications/resources/updated";
    for (era, (transport, _guard)) in [
        (Era::Legacy, pipe(Era::Legacy).await),
        (Era::Modern, pipe(Era::Modern).await),
        (Era::Legacy, http(Era::Legacy).await),
        (Era::Modern, http(Era::Modern).await),
    ] {
        let caller = Caller::new(&transport, "{}");
        let mut news = caller.relay.news();
        let wanted = [fixture::WATCHED.to_owned()];
        for _ in 0..2 {
            in_time(caller.relay.watch(&wanted)).await.expect("it can be watched");
        }
        in_time(async {
            loop {
                let watches = caller.call("change", &[("arguments", "{}")]).await.expect("it answers");
                assert_eq!(text(&watches), "1", "asking twice for the same is asking once");
                let heard = tokio::time::timeout(Duration::from_millis(500), hears(&mut news, UPDATED)).await;
                if let Ok(update) = heard {
                    let params: Value = update.params.expect("it says which").view().expect("JSON");
                    break assert_eq!(params["uri"], fixture::WATCHED);
                }
            }
        })
        .await;
        in_time(caller.relay.watch(&[])).await.expect("it can be left");
        if era == Era::Legacy {
            assert_eq!(text(&caller.call("change", &[("arguments", "{}")]).await.expect("it answers")), "2");
        }
        transport.close().await;
    }
}

/// Reads one request: its head, and its body as JSON (null without one).
async fn request(stream: &mut BufReader<tokio::net::TcpStream>) -> (Vec<String>, Value) {
    let (mut head, mut length) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.expect("it can be read");
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(bytes) = line.strip_prefix("content-length: ") {
            length = bytes.parse().expect("a length");
        }
        head.push(line);
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.expect("it can be read");
    (head, serde_json::from_slice(&body).unwrap_or_default())
}

/// A legacy server that ends the stream of a call after an event with an id, and answers when it is taken up from there.
async fn polled() -> (String, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
    let url = format!("http://{}/mcp", listener.local_addr().expect("it is bound"));
    let serving = tokio::spawn(async move {
        let mut call = Value::Null;
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let (head, body) = request(&mut stream).await;
            let events = |events: &str| {
                format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n\r\n{events}")
            };
            let answer = match body["method"].as_str() {
                Some("initialize") => {
                    let result = json!({ "protocolVersion": "2025-11-25", "capabilities": { "tools": {} }, "serverInfo": { "name": "p", "version": "1" } });
                    let body = json!({ "jsonrpc": "2.0", "id": body["id"], "result": result }).to_string();
                    let length = body.len();
                    format!(
                        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
                    )
                }
                Some("tools/call") => {
                    call = body["id"].clone();
                    events("retry: 30\nid: e1\ndata:\n\n")
                }
                // Once it breaks off again, this time in the middle of an event.
                None if head.contains(&"last-event-id: e1".to_owned()) => events("id: e2\ndata:\n\ndata: {\"jsonrpc\""),
                None if head.contains(&"last-event-id: e2".to_owned()) => {
                    let result = json!({ "jsonrpc": "2.0", "id": call, "result": { "late": true } });
                    events(&format!("id: e3\ndata: {result}\n\n"))
                }
                None => "HTTP/1.1 405 Method Not Allowed\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_owned(),
                Some(_) => "HTTP/1.1 202 Accepted\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".to_owned(),
            };
            stream.write_all(answer.as_bytes()).await.expect("it can be written");
        }
    });
    (url, AbortOnDropHandle::new(serving))
}

#[tokio::test]
async fn a_broken_stream_of_a_legacy_server_is_taken_up_where_it_stood() {
    let (url, _server) = polled().await;
    let connector = HttpConnector::new(name(), &url).expect("the address is good").era(Era::Legacy);
    let transport = connector.connect().await.expect("it connects");
    let caller = Caller::new(&transport, "{}");
    assert_eq!(caller.call("t", &[("arguments", "{}")]).await.expect("it answers").get(), r#"{"late":true}"#);
}

#[tokio::test]
async fn a_parked_call_of_a_job_that_is_cancelled_is_cancelled_at_its_server() {
    let (transport, _guard) = script().await;
    let call = ToolCall::new("asks-for-ever", RawJson::empty_object());
    let reply = in_time(transport.call(&call, &CallContext::quiet())).await.expect("it asks");
    let metamcp_core::transport::ToolReply::NeedsInput { checkpoint, .. } = reply else { panic!("{reply:?}") };
    transport.cancel(&checkpoint).await.expect("it is taken");
    let caller = Caller::new(&transport, "{}");
    let seen = caller.call("seen", &[("arguments", "{}")]).await.expect("it answers");
    assert!(
        text(&seen).contains("the call was cancelled") && text(&seen).contains("notifications/cancelled"),
        "{seen:?}"
    );
}

#[tokio::test]
async fn a_parked_call_is_ended_by_another_process_that_cancels_its_job() {
    let records: Arc<dyn RecordStore> = Arc::new(MemoryRecordStore::new(Arc::new(SystemClock::default())));
    let connector = || {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixture/misbehaving.py");
        let child = StdioConnector::new(name(), "python3").args([path.to_string_lossy().as_ref(), "2025-11-25"]);
        child.handover(Arc::new(Handover::new(Arc::clone(&records))))
    };
    let (holding, cancelling) = (connector(), connector());
    let (held, other) =
        (holding.connect().await.expect("it connects"), cancelling.connect().await.expect("it connects"));
    let call = ToolCall::new("asks-for-ever", RawJson::empty_object());
    let reply = in_time(held.call(&call, &CallContext::quiet())).await.expect("it asks");
    let metamcp_core::transport::ToolReply::NeedsInput { checkpoint, .. } = reply else { panic!("{reply:?}") };
    other.cancel(&checkpoint).await.expect("it is taken");
    let caller = Caller::new(&held, "{}");
    in_time(async {
        loop {
            let seen = text(&caller.call("seen", &[("arguments", "{}")]).await.expect("it answers"));
            if seen.contains("the call was cancelled") && seen.contains("notifications/cancelled") {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_a_legacy_server_asks_at_once_is_asked_at_once_and_may_be_answered_one_by_one() {
    let (transport, _guard) = script().await;
    let caller = Caller::new(&transport, r#"{"roots":{},"sampling":{},"elicitation":{}}"#);
    let asked: Value =
        caller.call("asks", &[("arguments", "{}")]).await.expect("it asks").view().expect("an object of JSON");
    let methods = |asked: &Value| {
        let requests = asked["inputRequests"].as_object().expect("questions");
        requests
            .iter()
            .map(|(key, request)| format!("{key} {}", request["method"].as_str().unwrap_or_default()))
            .collect::<Vec<_>>()
    };
    assert_eq!(methods(&asked), ["q1 roots/list", "q2 sampling/createMessage", "q3 elicitation/create"]);
    let state = asked["requestState"].as_str().expect("a state");
    let left = caller.retry("asks", state, &json!({ "q1": { "n": 1 }, "q3": { "n": 3 } })).await.expect("one is left");
    let (key, state) = question(&left, "sampling/createMessage");
    let done = caller.retry("asks", &state, &json!({ key: { "n": 2 } })).await.expect("it answers");
    assert_eq!(text(&done), r#"[{}, {"n": 1}, {"n": 2}, {"n": 3}]"#);
}
