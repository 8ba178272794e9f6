//! The stdio front: both eras on one line, as a client on the other end sees it.

use metamcp_mcp_adapters::gateway::{StdioOptions, serve_stdio};
use serde_json::{Value, json};
use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, Lines, ReadHalf, WriteHalf, duplex, split,
    },
    task::JoinHandle,
};

use super::raw::{Modern, PATIENCE, gateway, records};

struct Client {
    input: WriteHalf<DuplexStream>,
    output: Lines<BufReader<ReadHalf<DuplexStream>>>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Client {
    async fn new() -> Self {
        let gateway = gateway(&records()).await;
        let (ours, theirs) = duplex(64 << 10);
        let (input, output) = split(theirs);
        let serving = tokio::spawn(serve_stdio(gateway, input, output, StdioOptions::default()));
        let (output, input) = split(ours);
        Self { input, output: BufReader::new(output).lines(), serving }
    }

    async fn line(&mut self, text: &str) {
        self.input.write_all(text.as_bytes()).await.unwrap();
        self.input.write_all(b"\n").await.unwrap();
    }

    async fn send(&mut self, message: &Value) {
        self.line(&message.to_string()).await;
    }

    async fn request(&mut self, id: u64, method: &str, params: Value) {
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })).await;
    }

    /// The next message that is no notification.
    async fn next(&mut self) -> Value {
        loop {
            let line = tokio::time::timeout(PATIENCE, self.output.next_line()).await.unwrap().unwrap().unwrap();
            let message: Value = serde_json::from_str(&line).unwrap();
            if message.get("id").is_some() {
                return message;
            }
        }
    }

    async fn initialize(&mut self) {
        let params = json!({ "protocolVersion": "2025-03-26", "capabilities": { "roots": {} }, "clientInfo": {} });
        self.request(0, "initialize", params).await;
        assert_eq!(self.next().await["result"]["protocolVersion"], "2025-03-26");
    }
}

#[tokio::test]
async fn both_eras_are_served_on_one_line() {
    let mut client = Client::new().await;
    client.request(1, "tools/list", json!({})).await;
    assert_eq!(client.next().await["error"]["code"], -32602, "neither era is said");
    client.request(2, "server/discover", Modern::new("").params).await;
    assert_eq!(client.next().await["result"]["supportedVersions"][0], "2026-07-28");
    client.initialize().await;
    client.request(3, "tools/call", json!({ "name": "modern__echo", "arguments": {} })).await;
    let told = client.next().await;
    assert_eq!((&told["id"], told["result"].get("resultType")), (&json!(3), None));
    client.request(4, "tools/call", Modern::call("legacy__echo", json!({})).params).await;
    assert_eq!(client.next().await["result"]["resultType"], "complete");
    client.request(5, "ping", Modern::new("").params).await;
    assert_eq!(client.next().await["error"]["code"], -32601);
    client
        .send(
            &json!([{ "jsonrpc": "2.0", "id": 6, "method": "ping" }, { "jsonrpc": "2.0", "id": 7, "method": "ping" }]),
        )
        .await;
    let line = client.output.next_line().await.unwrap().unwrap();
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap().as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn a_legacy_client_is_asked_and_takes_back() {
    let mut client = Client::new().await;
    client.initialize().await;
    client.request(1, "tools/call", json!({ "name": "legacy__roots", "arguments": {} })).await;
    for uri in ["file:///one", "file:///two"] {
        let question = client.next().await;
        assert_eq!(question["method"], "roots/list");
        client.send(&json!({ "jsonrpc": "2.0", "id": question["id"], "result": { "roots": [{ "uri": uri }] } })).await;
    }
    assert_eq!(client.next().await["result"]["content"][0]["text"], "file:///one file:///two");
    client.request(2, "tools/call", json!({ "name": "legacy__slow", "arguments": { "ms": 600_000 } })).await;
    client.send(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 2 } })).await;
    client.request(3, "ping", json!({})).await;
    assert_eq!(client.next().await["id"], 3, "nothing more is said of what was taken back");
}

#[tokio::test]
async fn garbage_is_refused_and_the_line_goes_on() {
    let mut client = Client::new().await;
    for (garbage, code) in [("{", -32700), ("{}", -32600), ("\u{0}", -32700), ("[]", -32600)] {
        client.line(garbage).await;
        let line = client.output.next_line().await.unwrap().unwrap();
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["error"]["code"], code, "{garbage}");
    }
    client.input.write_all(b"\n \xff\xfe\n").await.unwrap();
    client.request(1, "ping", json!({})).await;
    assert_eq!(client.output.next_line().await.unwrap().map(|line| line.contains("-32700")), Some(true));
    assert_eq!(client.next().await["id"], 1);
}

#[tokio::test]
async fn a_client_that_closes_its_end_gets_its_last_answers() {
    let mut client = Client::new().await;
    let mut listen = Modern::new("");
    listen.params["notifications"] = json!({ "toolsListChanged": true });
    client.request(1, "subscriptions/listen", listen.params).await;
    client.request(2, "tools/call", Modern::call("modern__echo", json!({})).params).await;
    client.request(3, "tools/call", Modern::call("modern__slow", json!({ "ms": 600_000 })).params).await;
    client.input.shutdown().await.unwrap();
    let mut ids = [client.next().await["id"].clone(), client.next().await["id"].clone()];
    ids.sort_by_key(Value::to_string);
    assert_eq!(ids, [json!(1), json!(2)]);
    assert!(tokio::time::timeout(PATIENCE, client.output.next_line()).await.unwrap().unwrap().is_none());
    tokio::time::timeout(PATIENCE, client.serving).await.unwrap().unwrap().unwrap();
}
