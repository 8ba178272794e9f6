//! Two people behind one gateway: what belongs to one is not there for the other.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use metamcp_core::{
    auth::Principal,
    engine::{Orchestrator, ServerEntry, Worker, WorkerOptions},
    id::ServerName,
    matching::{Annotations, ServerTerms},
    transport::LocalTools,
};
use metamcp_mcp_adapters::{
    gateway::{Gateway, GatewayOptions, GatewayService, HttpOptions, Naming, ServerView},
    upstream::{Era, IoConnector},
};
use serde_json::{Value, json};
use tower_service::Service as _;

use super::{
    fixture,
    raw::{PATIENCE, records},
};

const META: &str = "io.modelcontextprotocol";
/// Results above this come by pointer, in bytes.
const RESULT_BYTES_MAX: usize = 4_096;

/// One of the people, with a client that can do everything.
struct Person {
    service: GatewayService,
    who: Principal,
}

/// Three of them: the second is of the tenant of the first, the third has the name of the first in another tenant.
struct World {
    people: [Person; 3],
    counted: Arc<AtomicU64>,
    _worker: Worker,
}

fn name(name: &str) -> ServerName {
    ServerName::new(name).unwrap()
}

impl World {
    async fn new() -> Self {
        let counted = Arc::<AtomicU64>::default();
        let counting = Arc::clone(&counted);
        let schema = || json!({ "type": "object" });
        let local = LocalTools::new(name("local"))
            .tool("count", "counts its calls", schema(), Annotations::default(), move |_, _| {
                let count = counting.fetch_add(1, Ordering::SeqCst) + 1;
                async move { Ok(json!({ "count": count })) }
            })
            .tool("big", "writes a long poem", schema(), Annotations::default(), async |_, _| {
                Ok(json!("poem ".repeat(2_000)))
            });
        let mut engine = Orchestrator::builder().server(name("local"), Arc::new(local));
        for (server, era) in [("old", Era::Legacy), ("new", Era::Modern)] {
            let open = || {
                let (ours, theirs) = tokio::io::duplex(64 << 10);
                tokio::spawn(fixture::serve(fixture::Server::default(), theirs));
                ours
            };
            engine = engine.server(name(server), Arc::new(IoConnector::new(name(server), open).era(era)));
        }
        let whispering = LocalTools::new(name("vault")).tool(
            "whisper",
            "counts secrets in a whisper",
            schema(),
            Annotations::default(),
            async |_, _| Ok(json!("psst")),
        );
        let tenants = Some([Principal::local().tenant].into());
        let terms = ServerTerms { tenants, ..ServerTerms::default() };
        let engine = engine.servers([ServerEntry { name: name("vault"), terms, connector: Arc::new(whispering) }]);
        let engine = engine.build();
        let mut options = GatewayOptions::default();
        let mut plain = ServerView::default();
        plain.naming = Naming::plain();
        options.servers = BTreeMap::from([(name("local"), plain)]);
        options.upgrade_after = Some(Duration::from_millis(200));
        options.result_bytes_max = RESULT_BYTES_MAX;
        let worker = engine.worker(WorkerOptions::default());
        let gateway = Gateway::builder(engine, records()).options(options).build().await.unwrap();
        let service = GatewayService::new(gateway, HttpOptions::default());
        let local = Principal::local();
        let people = [
            Principal::new(local.tenant.clone(), "ada"),
            Principal::new(local.tenant, "eve"),
            Principal::new("elsewhere".parse().unwrap(), "ada"),
        ];
        let people = people.map(|who| Person { service: service.clone(), who });
        let listed = async {
            for tool in ["count", "old__echo", "new__echo", "vault__whisper"] {
                while people[0].call(tool, json!({})).await.get("result").is_none() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        };
        tokio::time::timeout(PATIENCE, listed).await.unwrap();
        counted.store(0, Ordering::SeqCst);
        Self { people, counted, _worker: worker }
    }

    fn ada(&self) -> &Person {
        &self.people[0]
    }

    fn others(&self) -> &[Person] {
        &self.people[1..]
    }
}

impl Person {
    async fn send(&self, method: Method, headers: &[(&str, &str)], body: String) -> (StatusCode, String, Value) {
        let mut request = Request::builder().method(method).uri("/mcp").header("host", "localhost");
        request = request.header("content-type", "application/json");
        request = request.header("accept", "application/json, text/event-stream").extension(self.who.clone());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        let answered = async {
            let response = self.service.clone().call(request).await.unwrap();
            let session = response.headers().get("mcp-session-id").map(|id| id.to_str().unwrap().to_owned());
            let status = response.status();
            (status, session.unwrap_or_default(), response.into_body().collect().await.unwrap().to_bytes())
        };
        let (status, session, bytes) = tokio::time::timeout(PATIENCE, answered).await.unwrap();
        let text = std::str::from_utf8(&bytes).unwrap();
        let last = text.lines().filter_map(|line| line.strip_prefix("data: ")).next_back().unwrap_or(text);
        (status, session, serde_json::from_str(last).unwrap_or_default())
    }

    /// The answer to a modern request.
    async fn ask(&self, method: &str, mut params: Value) -> Value {
        let meta = params.as_object_mut().unwrap().entry("_meta").or_insert_with(|| json!({}));
        meta[format!("{META}/protocolVersion")] = "2026-07-28".into();
        meta[format!("{META}/clientCapabilities")] =
            json!({ "elicitation": {}, "roots": {}, "extensions": { "io.modelcontextprotocol/tasks": {} } });
        let about =
            ["name", "uri", "taskId"].iter().find_map(|key| params[*key].as_str()).unwrap_or_default().to_owned();
        let body = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params }).to_string();
        let headers = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", method), ("mcp-name", &*about)];
        self.send(Method::POST, &headers, body).await.2
    }

    async fn call(&self, tool: &str, arguments: Value) -> Value {
        self.ask("tools/call", json!({ "name": tool, "arguments": arguments })).await
    }
}

#[tokio::test]
async fn a_task_is_its_owners() {
    let world = World::new().await;
    let told = world.ada().call("new__slow", json!({ "ms": 600_000 })).await;
    let id = &told["result"]["taskId"];
    assert!(id.is_string(), "{told}");
    let nothing = world.ada().ask("tasks/get", json!({ "taskId": "01997f3e-5c1a-7d3e-9c55-0a1b2c3d4e5f" })).await;
    for other in world.others() {
        for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
            let told = other.ask(method, json!({ "taskId": id, "inputResponses": {} })).await;
            assert_eq!(told["error"], nothing["error"], "{method}: as one that was never there");
        }
        for tool in ["task_status", "task_result", "task_cancel"] {
            let told = other.call(tool, json!({ "task_id": id })).await;
            assert_eq!(told["result"]["isError"], true, "{tool}: {told}");
        }
        let referred = json!({ "of": { "$ref": format!("task://{}", id.as_str().unwrap()) } });
        let told = other.call("new__echo", referred).await;
        assert_eq!(told["result"]["isError"], true, "{told}");
    }
    let told = world.ada().ask("tasks/get", json!({ "taskId": id })).await;
    assert_eq!(told["result"]["status"], "working", "nobody has cancelled it: {told}");
    world.ada().ask("tasks/cancel", json!({ "taskId": id })).await;
    let cancelled = async {
        while world.ada().ask("tasks/get", json!({ "taskId": id })).await["result"]["status"] != "cancelled" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, cancelled).await.unwrap();
}

#[tokio::test]
async fn a_server_of_one_tenant_is_not_there_for_another() {
    let world = World::new().await;
    let [ada, eve, stranger] = &world.people;
    let looks = async |who: &Person| {
        let found = who.call("find_tools", json!({ "need": "count secrets in a whisper", "max": 10 })).await;
        let nothing = who.call("find_tools", json!({ "need": "zzz" })).await;
        let servers = who.ask("resources/read", json!({ "uri": "metamcp://servers" })).await;
        let discovered = who.ask("server/discover", json!({})).await;
        let listed = who.ask("tools/list", json!({})).await;
        (
            listed["result"]["tools"].as_array().map(Vec::len),
            format!("{listed} {found} {nothing} {servers} {discovered}"),
        )
    };
    let count = |said: &str| -> usize {
        let (_, rest) = said.split_once("None of ").unwrap_or_else(|| panic!("{said}"));
        rest.split(' ').next().unwrap().parse().unwrap()
    };
    let (listed, said) = looks(ada).await;
    assert!(said.contains("vault__whisper") && said.contains("\\\"vault\\\""), "{said}");
    let (all, found) = (listed.unwrap(), count(&said));
    assert_eq!(looks(eve).await.0, listed, "the right is the tenant's");
    let (listed, said) = looks(stranger).await;
    assert!(!said.contains("whisper") && !said.contains("vault"), "{said}");
    assert_eq!((listed.unwrap(), count(&said)), (all - 1, found - 1));
    let unknown = stranger.call("vault__whistle", json!({})).await.to_string();
    let hidden = stranger.call("vault__whisper", json!({})).await.to_string();
    assert_eq!(hidden.replace("whisper", "whistle"), unknown);
    assert_eq!(ada.call("vault__whisper", json!({})).await["result"]["isError"], false);
    let task = stranger.call("run_task", json!({ "need": "whisper secrets", "wait_s": 1 })).await.to_string();
    assert!(!task.contains("vault"), "{task}");
}

#[tokio::test]
async fn the_route_of_a_task_is_its_owners_to_read() {
    let world = World::new().await;
    let told = world.ada().call("task_submit", json!({ "need": "counts its calls" })).await;
    let id = told["result"]["structuredContent"]["task_id"].as_str().unwrap_or_else(|| panic!("{told}")).to_owned();
    let uri = json!({ "uri": format!("metamcp://tasks/{id}/route") });
    let read = world.ada().ask("resources/read", uri.clone()).await;
    let text = read["result"]["contents"][0]["text"].as_str().unwrap_or_else(|| panic!("{read}"));
    let route: Value = serde_json::from_str(text).unwrap();
    assert_eq!((&route["need"], &route["tool"]), (&json!("counts its calls"), &json!("local/count")));
    let part = &route["candidates"][0]["reasons"][0];
    assert!(part["part"] == "term" && part["score"].as_f64() > Some(0.0), "{route}");
    for other in world.others() {
        let told = other.ask("resources/read", uri.clone()).await;
        assert_eq!(told["error"]["code"], -32602, "{told}");
    }
    let templates = world.ada().ask("resources/templates/list", json!({})).await.to_string();
    assert!(templates.contains("metamcp://tasks/{task}/route"), "{templates}");
    let odd = world.ada().ask("resources/read", json!({ "uri": "metamcp://tasks/x/route" })).await;
    assert_eq!(odd["error"]["code"], -32602, "{odd}");
}

#[tokio::test]
async fn a_result_is_its_owners() {
    let world = World::new().await;
    let told = world.ada().call("big", json!({})).await;
    let uri = told["result"]["content"][0]["uri"].as_str().unwrap_or_else(|| panic!("a pointer: {told}"));
    let referred = json!({ "of": { "$ref": format!("{uri}#/content/0/text") } });
    for part in ["", "?bytes=0-0", "#/content/0/text"] {
        let uri = json!({ "uri": format!("{uri}{part}") });
        assert!(world.ada().ask("resources/read", uri.clone()).await["result"].is_object());
        for other in world.others() {
            let told = other.ask("resources/read", uri.clone()).await;
            assert_eq!(told["error"]["code"], -32602, "{told}");
        }
    }
    for other in world.others() {
        let told = other.call("new__echo", referred.clone()).await;
        assert!(told["result"]["isError"] == true && !told.to_string().contains("poem"), "{told}");
    }
    assert!(world.ada().call("new__echo", referred).await.to_string().contains("poem"));
}

#[tokio::test]
async fn a_question_is_answered_by_who_was_asked() {
    let world = World::new().await;
    let greeted = json!({ "action": "accept", "content": { "name": "Ada" } });
    let roots = json!({ "roots": [{ "uri": "file:///ada" }] });
    for (tool, answer, last) in [("new__greet", greeted, "Ada"), ("old__roots", roots, "file:///ada")] {
        let mut told = world.ada().call(tool, json!({})).await;
        while told["result"]["resultType"] == "input_required" {
            let asked = told["result"].clone();
            let (question, _) = asked["inputRequests"].as_object().unwrap().iter().next().unwrap();
            let retry = |answer: &Value| {
                let answers = json!({ question: answer });
                let state = &asked["requestState"];
                json!({ "name": tool, "arguments": {}, "inputResponses": answers, "requestState": state })
            };
            for other in world.others() {
                let refused = other.ask("tools/call", retry(&json!({ "action": "accept", "content": {} }))).await;
                assert_eq!(refused["error"]["code"], -32602, "{refused}");
            }
            told = world.ada().ask("tools/call", retry(&answer)).await;
        }
        assert!(told["result"]["content"][0]["text"].as_str().is_some_and(|text| text.contains(last)), "{told}");
    }
}

#[tokio::test]
async fn a_session_is_its_owners() {
    let world = World::new().await;
    let hello =
        json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "c", "version": "1" } });
    let body = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello }).to_string();
    let (_, session, _) = world.ada().send(Method::POST, &[], body).await;
    let headers = [("mcp-session-id", &*session)];
    let call =
        json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "count", "arguments": {} } });
    for other in world.others() {
        for method in [Method::POST, Method::GET, Method::DELETE] {
            let (status, _, told) = other.send(method.clone(), &headers, call.to_string()).await;
            assert_eq!(status, StatusCode::NOT_FOUND, "{method}: {told}");
        }
    }
    let (status, _, told) = world.ada().send(Method::POST, &headers, call.to_string()).await;
    assert_eq!((status, &told["result"]["structuredContent"]["count"]), (StatusCode::OK, &json!(1)), "{told}");
}

#[tokio::test]
async fn a_key_is_of_one_person() {
    let world = World::new().await;
    for round in 0..2 {
        for (number, person) in world.people.iter().enumerate() {
            let meta = json!({ "io.github.metamcp/idempotencyKey": "k" });
            let told = person.ask("tools/call", json!({ "name": "count", "arguments": {}, "_meta": meta })).await;
            assert_eq!(told["result"]["structuredContent"]["count"], number + 1, "round {round}: {told}");
        }
    }
    assert_eq!(world.counted.load(Ordering::SeqCst), 3);
}
