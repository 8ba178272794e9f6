//! Requests to the front as they go over the wire, and a gateway to one server of each era that takes them.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use metamcp_core::{
    engine::Orchestrator,
    id::ServerName,
    record::{MemoryRecordStore, RecordStore},
    time::SystemClock,
};
use metamcp_mcp_adapters::{
    gateway::{Gateway, GatewayBody, GatewayService, HttpOptions},
    upstream::{Era, IoConnector},
};
use serde_json::{Value, json};
use tower_service::Service as _;

use super::fixture;

/// Longest anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Records that replicas share.
pub(crate) fn records() -> Arc<dyn RecordStore> {
    Arc::new(MemoryRecordStore::new(Arc::new(SystemClock::default())))
}

/// A gateway to the servers `legacy` and `modern`.
pub(crate) async fn gateway(records: &Arc<dyn RecordStore>) -> Gateway {
    gateway_to(records, &[Era::Legacy, Era::Modern]).await
}

/// A gateway to a server of each of these eras, called by it, with nothing left to wait for.
pub(crate) async fn gateway_to(records: &Arc<dyn RecordStore>, eras: &[Era]) -> Gateway {
    let connector = |era| {
        let name = if era == Era::Legacy { "legacy" } else { "modern" };
        let open = || {
            let (ours, theirs) = tokio::io::duplex(64 << 10);
            tokio::spawn(fixture::serve(fixture::Server::default(), theirs));
            ours
        };
        let name = ServerName::new(name).unwrap();
        (name.clone(), Arc::new(IoConnector::new(name, open).era(era)))
    };
    let mut engine = Orchestrator::builder();
    for (name, connector) in eras.iter().map(|era| connector(*era)) {
        engine = engine.server(name, connector);
    }
    let gateway = Gateway::builder(engine.build(), Arc::clone(records)).build().await.unwrap();
    let service = GatewayService::new(gateway.clone(), HttpOptions::default());
    let listed = async {
        while Modern::new("tools/list").result(&service).await["tools"].as_array().unwrap().len() < 11 * eras.len() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, listed).await.unwrap();
    gateway
}

/// A service of its own over a gateway of its own.
pub(crate) async fn service() -> GatewayService {
    GatewayService::new(gateway(&records()).await, HttpOptions::default())
}

/// One HTTP request.
#[derive(Debug, Clone)]
pub(crate) struct Raw {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

impl Raw {
    /// A POST with what every POST has.
    pub(crate) fn post(body: impl Into<String>) -> Self {
        let headers = [
            ("host", "localhost"),
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
        ];
        let headers = headers.map(|(name, value)| (name, value.to_owned())).to_vec();
        Self { method: Method::POST, path: "/mcp".to_owned(), headers, body: body.into() }
    }

    /// With a header in place of any of its name; an empty value takes it away.
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        if !value.is_empty() {
            self.headers.push((name, value.to_owned()));
        }
        self
    }

    pub(crate) fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    pub(crate) fn path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    pub(crate) async fn send(self, service: &GatewayService) -> Response<GatewayBody> {
        let mut request = Request::builder().method(self.method).uri(self.path);
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(Bytes::from(self.body))).unwrap();
        tokio::time::timeout(PATIENCE, service.clone().call(request)).await.unwrap().unwrap()
    }

    /// The status and the code of the error.
    pub(crate) async fn refused(self, service: &GatewayService) -> (u16, i64) {
        let response = self.send(service).await;
        let status = response.status();
        (status.as_u16(), whole(response).await["error"]["code"].as_i64().unwrap_or_default())
    }
}

/// The body of a response that is one text, as JSON.
pub(crate) async fn whole(response: Response<GatewayBody>) -> Value {
    let bytes = tokio::time::timeout(PATIENCE, response.into_body().collect()).await.unwrap().unwrap().to_bytes();
    if bytes.is_empty() {
        return Value::Null;
    }
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&bytes)))
}

/// A request of the modern era.
#[derive(Debug, Clone)]
pub(crate) struct Modern {
    method: &'static str,
    pub(crate) params: Value,
}

impl Modern {
    pub(crate) fn new(method: &'static str) -> Self {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        Self { method, params: json!({ "_meta": meta }) }
    }

    pub(crate) fn call(tool: &str, arguments: Value) -> Self {
        let mut call = Self::new("tools/call");
        call.params["name"] = tool.into();
        call.params["arguments"] = arguments;
        call
    }

    pub(crate) fn raw(&self) -> Raw {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": self.method, "params": self.params });
        let raw =
            Raw::post(body.to_string()).with("mcp-protocol-version", "2026-07-28").with("mcp-method", self.method);
        match self.params["name"].as_str().or_else(|| self.params["uri"].as_str()) {
            Some(name) => raw.with("mcp-name", name),
            None => raw,
        }
    }

    pub(crate) async fn result(&self, service: &GatewayService) -> Value {
        let response = self.raw().send(service).await;
        assert_eq!(response.status(), StatusCode::OK);
        whole(response).await["result"].take()
    }
}

/// A client of a legacy era with its session.
#[derive(Debug, Clone)]
pub(crate) struct Legacy {
    pub(crate) session: String,
    pub(crate) revision: &'static str,
}

impl Legacy {
    pub(crate) async fn begin(service: &GatewayService, revision: &'static str) -> Self {
        Self::able(service, revision, json!({ "roots": {}, "elicitation": {} })).await
    }

    /// A client that can do this.
    pub(crate) async fn able(service: &GatewayService, revision: &'static str, capabilities: Value) -> Self {
        let params = json!({
            "protocolVersion": revision,
            "capabilities": capabilities,
            "clientInfo": { "name": "old", "version": "1" },
        });
        let body = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params });
        let response = Raw::post(body.to_string()).send(service).await;
        let session = response.headers()["mcp-session-id"].to_str().unwrap().to_owned();
        assert_eq!(whole(response).await["result"]["protocolVersion"], revision);
        Self { session, revision }
    }

    pub(crate) fn raw(&self, body: &Value) -> Raw {
        let raw = Raw::post(body.to_string()).with("mcp-session-id", &self.session);
        raw.with("mcp-protocol-version", self.revision)
    }

    pub(crate) fn request(&self, id: u64, method: &str, params: &Value) -> Raw {
        self.raw(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))
    }

    pub(crate) fn get(&self) -> Raw {
        self.raw(&Value::Null).method(Method::GET).with("accept", "text/event-stream")
    }
}

/// Events of a response.
pub(crate) struct Events {
    body: GatewayBody,
    text: String,
}

/// One event: its id, and its data if it has any.
pub(crate) type Event = (Option<String>, Option<Value>);

impl Events {
    pub(crate) fn of(response: Response<GatewayBody>) -> Self {
        assert_eq!(
            (response.status(), &response.headers()["content-type"]),
            (StatusCode::OK, &"text/event-stream".parse().unwrap())
        );
        Self { body: response.into_body(), text: String::new() }
    }

    /// The next event; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        // Signs of life do not count as one.
        tokio::time::timeout(PATIENCE, self.read()).await.expect("an event, or the end")
    }

    async fn read(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                if event.starts_with(':') {
                    continue;
                }
                let id = event.lines().find_map(|line| line.strip_prefix("id: ")).map(str::to_owned);
                let data = event.lines().find_map(|line| line.strip_prefix("data: ")).unwrap_or_default();
                return Some((id, (!data.is_empty()).then(|| serde_json::from_str(data).unwrap())));
            }
            let frame = self.body.frame().await?;
            self.text.push_str(std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap());
        }
    }

    /// The next event with data.
    pub(crate) async fn message(&mut self) -> (Option<String>, Value) {
        loop {
            if let (id, Some(data)) = self.next().await.expect("there is more to come") {
                return (id, data);
            }
        }
    }
}
