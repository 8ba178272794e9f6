//! `tools/call` and what lies behind it, through the HTTP front, with a server of the official SDK and one of this process behind the gateway.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use metamcp_core::{
    engine::{Orchestrator, ServerEntry, Worker, WorkerOptions},
    id::ServerName,
    matching::{Annotations, GroupTool, ServerTerms},
    queue::{JobQuery, JobStore, MemoryJobStore},
    record::MemoryRecordStore,
    time::SystemClock,
    transport::LocalTools,
};
use metamcp_mcp_adapters::{
    gateway::{Gateway, GatewayOptions, GatewayService, HttpOptions, ListMode, Naming, Pattern, ServerView},
    upstream::{HttpConnector, IoConnector},
};
use rmcp::transport::streamable_http_server::StreamableHttpServerConfig;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};
use tokio_util::task::AbortOnDropHandle;
use tower_service::Service as _;

use super::fixture;

/// Longest anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);
const TASKS: &str = "io.modelcontextprotocol/tasks";
const META: &str = "io.modelcontextprotocol";

struct World {
    service: GatewayService,
    jobs: Arc<MemoryJobStore>,
    counted: Arc<AtomicU64>,
    _worker: Worker,
    _server: AbortOnDropHandle<()>,
}

fn name(name: &str) -> ServerName {
    ServerName::new(name).unwrap()
}

/// A server of this process, which speaks no protocol and so has no relay.
fn local(counted: Arc<AtomicU64>) -> LocalTools {
    let schema = || json!({ "type": "object" });
    let reads = Annotations { read_only_hint: Some(true), ..Annotations::default() };
    LocalTools::new(name("local"))
        .tool("count", "counts how often it is called", schema(), Annotations::default(), move |_, _| {
            let counted = Arc::clone(&counted);
            async move { Ok(json!({ "count": counted.fetch_add(1, Ordering::SeqCst) + 1 })) }
        })
        .tool("big", "writes a long poem of many lines", schema(), reads, async |_, _| {
            Ok(json!((1..=2_000).map(|n| format!("line {n}\n")).collect::<String>()))
        })
        .tool("reverse_text", "reverses a text", schema(), reads, async |arguments, _| {
            let arguments: Value = arguments.view().map_err(|e| e.to_string())?;
            Ok(json!(arguments["text"].as_str().unwrap_or_default().chars().rev().collect::<String>()))
        })
}

impl World {
    async fn new(change: impl FnOnce(&mut GatewayOptions)) -> Self {
        let (url, server) =
            fixture::serve_http(fixture::Server::default(), StreamableHttpServerConfig::default()).await;
        let counted = Arc::<AtomicU64>::default();
        let clock = Arc::new(SystemClock::default());
        let jobs = Arc::new(MemoryJobStore::new(Arc::clone(&clock) as _));
        let engine = Orchestrator::builder()
            .jobs(Arc::clone(&jobs) as _)
            .server(name("sdk"), Arc::new(HttpConnector::new(name("sdk"), &url).unwrap()))
            .server(name("local"), Arc::new(local(Arc::clone(&counted))))
            .server(name("gone"), Arc::new(gone()))
            .build();
        let mut options = GatewayOptions::default();
        for server in ["sdk", "local"] {
            let mut view = ServerView::default();
            view.naming = Naming::plain();
            options.servers.insert(name(server), view);
        }
        change(&mut options);
        let worker = engine.worker(WorkerOptions::default());
        engine.tools().await;
        let records = Arc::new(MemoryRecordStore::new(clock));
        let gateway = Gateway::builder(engine, records).options(options).build().await.unwrap();
        let service = GatewayService::new(gateway, HttpOptions::default());
        let world = Self { service, jobs, counted, _worker: worker, _server: server };
        world.until_listed().await;
        world
    }

    async fn until_listed(&self) {
        let look = async {
            loop {
                let told = self.ask("tools/list", json!({}), json!({})).await;
                let names: Vec<&str> =
                    told["result"]["tools"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
                // In a list of our own tools alone there is nothing to wait for but that they can be called.
                let found = names.contains(&"find_tools") || names.contains(&"count") && names.contains(&"task");
                if found && self.call("echo", json!({}), json!({})).await.get("result").is_some() {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, look).await.unwrap();
    }

    async fn ask(&self, method: &str, params: Value, capabilities: Value) -> Value {
        ask(&self.service, method, params, capabilities).await
    }

    async fn call(&self, tool: &str, arguments: Value, capabilities: Value) -> Value {
        call(&self.service, tool, arguments, capabilities).await
    }

    async fn result(&self, tool: &str, arguments: Value) -> Value {
        let told = self.call(tool, arguments, json!({})).await;
        assert!(told["result"].is_object(), "{told}");
        told["result"].clone()
    }

    /// Looks at a task until it stands so.
    async fn task(&self, id: &Value, status: &str) -> Value {
        let look = async {
            loop {
                let told = self.ask("tasks/get", json!({ "taskId": id }), tasks()).await;
                if told["result"]["status"] == status {
                    return told["result"].clone();
                }
                assert!(told["result"]["status"].is_string(), "{told}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("task {id} never was {status}"))
    }

    async fn job_count(&self) -> usize {
        self.jobs.list(&JobQuery::default()).await.unwrap().jobs.len()
    }
}

/// The answer to a request of a modern client.
pub(crate) async fn ask(service: &GatewayService, method: &str, mut params: Value, capabilities: Value) -> Value {
    let meta = params.as_object_mut().unwrap().entry("_meta").or_insert_with(|| json!({}));
    meta[format!("{META}/protocolVersion")] = "2026-07-28".into();
    meta[format!("{META}/clientCapabilities")] = capabilities;
    let about = ["name", "uri", "taskId"].iter().find_map(|key| params[*key].as_str()).map(str::to_owned);
    let body = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params });
    let mut request = Request::post("/mcp")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", method);
    if let Some(about) = about {
        request = request.header("mcp-name", about);
    }
    let request = request.body(Full::new(Bytes::from(body.to_string()))).unwrap();
    let answered = async {
        let response = service.clone().call(request).await.unwrap();
        response.into_body().collect().await.unwrap().to_bytes()
    };
    let bytes = tokio::time::timeout(PATIENCE, answered).await.unwrap();
    let text = std::str::from_utf8(&bytes).unwrap();
    let last = text.lines().filter_map(|line| line.strip_prefix("data: ")).next_back().unwrap_or(text);
    serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {text}"))
}

pub(crate) async fn call(service: &GatewayService, tool: &str, arguments: Value, capabilities: Value) -> Value {
    ask(service, "tools/call", json!({ "name": tool, "arguments": arguments }), capabilities).await
}

/// A server that cannot be reached.
fn gone() -> HttpConnector {
    HttpConnector::new(name("gone"), "http://127.0.0.1:1/mcp").unwrap()
}

fn tasks() -> Value {
    json!({ "extensions": { TASKS: {} }, "elicitation": {} })
}

fn text(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("a text: {result}"))
}

#[tokio::test]
async fn a_plain_call_is_passed_on_and_writes_nothing() {
    let world = World::new(|_| ()).await;
    let result = world.result("echo", json!({ "a": [1, 2] })).await;
    assert_eq!(text(&result), r#"{"a":[1,2]}"#);
    assert_eq!(result["resultType"], "complete");
    let failed = world.result("fail", json!({ "message": "no" })).await;
    assert_eq!((text(&failed), &failed["isError"]), ("no", &true.into()));
    assert_eq!(world.result("count", json!({})).await["structuredContent"]["count"], 1);
    assert_eq!(world.job_count().await, 0);
    let unknown = world.call("nothing", json!({}), json!({})).await;
    assert_eq!(unknown["error"]["code"], -32602);
    let wrong = world.call("echo", json!([1]), json!({})).await;
    assert_eq!(wrong["error"]["code"], -32602);
}

#[tokio::test]
async fn a_call_that_outlasts_the_wait_becomes_a_task_and_is_not_made_again() {
    let world = World::new(|options| options.upgrade_after = Some(Duration::from_millis(200))).await;
    let quick = world.call("slow", json!({ "ms": 1 }), tasks()).await;
    assert_eq!(text(&quick["result"]), "slept");
    let told = world.call("slow", json!({ "ms": 1_500 }), tasks()).await;
    let handle = &told["result"];
    assert_eq!((&handle["resultType"], &handle["status"]), (&"task".into(), &"working".into()), "{told}");
    assert!(handle["ttlMs"].is_u64() && handle["pollIntervalMs"].is_u64(), "{told}");
    let ended = world.task(&handle["taskId"], "completed").await;
    assert_eq!((text(&ended["result"]), &ended["resultType"]), ("slept", &"complete".into()));
    assert_eq!(world.job_count().await, 1);
    assert_eq!(
        text(&world.result("cancelled", json!({})).await),
        "0",
        "the call that was begun is the call that ended"
    );
}

#[tokio::test]
async fn a_task_is_cancelled_and_a_strange_one_is_not_there() {
    let world = World::new(|options| options.upgrade_after = Some(Duration::from_millis(100))).await;
    let told = world.call("slow", json!({ "ms": 60_000 }), tasks()).await;
    let id = &told["result"]["taskId"];
    let cancelled = world.ask("tasks/cancel", json!({ "taskId": id }), tasks()).await;
    assert_eq!(cancelled["result"]["resultType"], "complete", "{cancelled}");
    world.task(id, "cancelled").await;
    for id in ["nonsense", "01997f3e-5c1a-7d3e-9c55-0a1b2c3d4e5f"] {
        for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
            let told = world.ask(method, json!({ "taskId": id, "inputResponses": {} }), tasks()).await;
            assert_eq!(told["error"]["code"], -32602, "{method} {told}");
        }
    }
    let undeclared = world.ask("tasks/get", json!({ "taskId": id }), json!({})).await;
    assert_eq!(undeclared["error"]["code"], -32021);
}

#[tokio::test]
async fn a_client_without_the_extension_is_told_the_task_in_words() {
    let world = World::new(|options| options.detach_after = Some(Duration::from_millis(200))).await;
    let told = world.result("slow", json!({ "ms": 1_000 })).await;
    let id = told["_meta"]["io.github.metamcp/task"]["taskId"].as_str().unwrap().to_owned();
    assert!(text(&told).contains(&id) && text(&told).contains("task_result"), "{told}");
    let status = world.result("task_status", json!({ "task_id": id })).await;
    assert_eq!(status["structuredContent"]["status"], "working");
    let fetched = async {
        loop {
            let result = world.result("task_result", json!({ "task_id": id, "wait_s": 5 })).await;
            if text(&result) == "slept" {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, fetched).await.unwrap();
    let strange = world.result("task_status", json!({ "task_id": "x" })).await;
    assert_eq!(strange["isError"], true);
}

#[tokio::test]
async fn an_agent_that_searches_reaches_its_task_by_what_is_listed() {
    let world = World::new(|options| {
        (options.main.list, options.detach_after) = (ListMode::Search, Some(Duration::from_millis(50)));
    });
    let world = world.await;
    let told = world.result("call_tool", json!({ "name": "slow", "arguments": { "ms": 200 } })).await;
    let words = text(&told);
    let (_, call) = words.split_once("`call_tool`: ").expect("how to call what is not listed");
    let call: Value = serde_json::from_str(call.strip_suffix('.').unwrap()).unwrap();
    assert_eq!(call["name"], "task_result");
    let fetched = async { while text(&world.result("call_tool", call.clone()).await) != "slept" {} };
    tokio::time::timeout(PATIENCE, fetched).await.unwrap();
}

#[tokio::test]
async fn a_heavy_tool_is_a_task_at_once() {
    let heavy = |options: &mut GatewayOptions| {
        options.servers.get_mut(&name("local")).unwrap().heavy = vec![Pattern::new("count")];
    };
    let world = World::new(heavy).await;
    let told = world.call("count", json!({}), tasks()).await;
    assert_eq!(told["result"]["resultType"], "task");
    let ended = world.task(&told["result"]["taskId"], "completed").await;
    assert_eq!(ended["result"]["structuredContent"]["count"], 1);
    // Who takes no tasks waits for it.
    assert_eq!(world.result("count", json!({})).await["structuredContent"]["count"], 2);
}

#[tokio::test]
async fn calls_with_one_key_are_one_call() {
    let world = World::new(|_| ()).await;
    let keyed =
        |key: &str| json!({ "name": "count", "arguments": {}, "_meta": { "io.github.metamcp/idempotencyKey": key } });
    let (one, two) =
        tokio::join!(world.ask("tools/call", keyed("k"), json!({})), world.ask("tools/call", keyed("k"), json!({})));
    for told in [one, two] {
        assert_eq!(told["result"]["structuredContent"]["count"], 1, "{told}");
    }
    assert_eq!(world.counted.load(Ordering::SeqCst), 1);
    let other = world.ask("tools/call", keyed("other"), json!({})).await;
    assert_eq!(other["result"]["structuredContent"]["count"], 2);
}

#[tokio::test]
async fn a_question_comes_back_sealed_and_goes_on_with_its_state() {
    let world = World::new(|_| ()).await;
    let can = json!({ "elicitation": {} });
    let told = world.call("greet", json!({}), can.clone()).await;
    let asked = &told["result"];
    assert_eq!(asked["resultType"], "input_required", "{told}");
    assert_eq!(asked["inputRequests"]["who"]["params"]["message"], "[sdk] who are you?");
    let answers = json!({ "who": { "action": "accept", "content": { "name": "Ada" } } });
    let retry = |state: &str| {
        let params = json!({ "name": "greet", "arguments": {}, "inputResponses": answers, "requestState": state });
        world.ask("tools/call", params, can.clone())
    };
    let state = asked["requestState"].as_str().unwrap();
    assert_eq!(text(&retry(state).await["result"]), "héllo \"you\" Ada");
    assert_eq!(retry(&state[..state.len() - 2]).await["error"]["code"], -32602);
    assert_eq!(retry("héllo \"you\"").await["error"]["code"], -32602);
}

#[tokio::test]
async fn a_servers_own_task_becomes_one_of_ours() {
    let world = World::new(|_| ()).await;
    let told = world.call("task", json!({ "kind": "think" }), tasks()).await;
    assert_eq!(told["result"]["resultType"], "task", "{told}");
    let ended = world.task(&told["result"]["taskId"], "completed").await;
    assert_eq!(text(&ended["result"]), "thought");

    let told = world.call("task", json!({ "kind": "ask" }), tasks()).await;
    let id = &told["result"]["taskId"];
    let asking = world.task(id, "input_required").await;
    let (key, question) = asking["inputRequests"].as_object().unwrap().iter().next().unwrap();
    assert_eq!(question["method"], "elicitation/create");
    assert!(question["params"]["message"].as_str().unwrap().starts_with("[sdk] "), "{question}");
    let mut unable = tasks();
    unable.as_object_mut().unwrap().remove("elicitation");
    let shown = world.ask("tasks/get", json!({ "taskId": id }), unable).await;
    assert_eq!(shown["result"]["inputRequests"], json!({}), "who cannot answer is not asked");
    let nonsense = json!({ "taskId": id, "inputResponses": { key: 5 } });
    assert_eq!(world.ask("tasks/update", nonsense, tasks()).await["error"]["code"], -32602);
    let answer = |key: &str| {
        let answers = json!({ key: { "action": "accept", "content": { "name": "Ada" } } });
        world.ask("tasks/update", json!({ "taskId": id, "inputResponses": answers }), tasks())
    };
    assert_eq!(answer("unknown").await["result"]["resultType"], "complete", "what nobody asked is ignored");
    assert_eq!(answer(key).await["result"]["resultType"], "complete");
    assert_eq!(text(&world.task(id, "completed").await["result"]), "Ada");
}

#[tokio::test]
async fn a_large_result_comes_by_pointer_and_is_read_in_parts() {
    let world = World::new(|options| options.result_bytes_max = 4_096).await;
    let told = world.result("big", json!({})).await;
    let link = &told["content"][0];
    assert_eq!(link["type"], "resource_link", "{told}");
    let uri = link["uri"].as_str().unwrap();
    assert!(link["size"].as_u64().unwrap() > 16_000);
    assert!(told["content"][1]["text"].as_str().unwrap().contains("line 1\n"));
    assert!(told["_meta"]["io.github.metamcp/result"]["schema"]["properties"]["content"].is_object());

    let read = async |part: &str| {
        let told = world.ask("resources/read", json!({ "uri": format!("{uri}{part}") }), json!({})).await;
        told["result"]["contents"][0]["text"].as_str().map(str::to_owned).ok_or(told["error"]["code"].clone())
    };
    assert_eq!(read("?lines=3-4#/content/0/text").await.unwrap(), "line 3\nline 4\n");
    assert_eq!(read("?bytes=0-5#/content/0/text").await.unwrap(), "line 1");
    assert_eq!(read("?bytes=0-0").await.unwrap(), "{");
    assert!(read("").await.unwrap().starts_with('{'));
    assert_eq!(read("#/nothing").await.unwrap_err(), -32602);
    let task = &told["_meta"]["io.github.metamcp/result"]["task"];
    let part =
        world.result("task_result", json!({ "task_id": task, "pointer": "/content/0/text", "lines": "2-2" })).await;
    assert_eq!(text(&part), "line 2\n");

    // Handed to another tool without passing through the caller.
    let reversed = world.result("reverse_text", json!({ "text": { "$ref": format!("{uri}#/content/0/text") } })).await;
    assert!(reversed["content"][1]["text"].as_str().unwrap().contains("\n0002 enil"), "{reversed}");
    let broken = world.result("reverse_text", json!({ "text": { "$ref": format!("{uri}#/nothing") } })).await;
    assert_eq!(broken["isError"], true);
}

#[tokio::test]
async fn a_few_tools_find_and_call_all_others() {
    let world = World::new(|options| options.main.list = ListMode::Search).await;
    let listed = world.ask("tools/list", json!({}), json!({})).await;
    let names: Vec<&str> =
        listed["result"]["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["find_tools", "call_tool", "run_task"]);
    let found = world.result("find_tools", json!({ "need": "reverse a text", "max": 2 })).await;
    let first = &found["structuredContent"]["tools"][0];
    assert_eq!(first["name"], "reverse_text", "{found}");
    assert!(first["reason"].as_str().unwrap().contains("reverse"), "{found}");
    let arguments = json!({ "name": "reverse_text", "arguments": { "text": "abc" } });
    assert_eq!(text(&world.result("call_tool", arguments).await), "cba");
    let served = world.result("run_task", json!({ "need": "reverse a text", "input": { "text": "xyz" } })).await;
    assert_eq!(text(&served), "zyx");
    let unknown = world.result("call_tool", json!({ "name": "nothing" })).await;
    assert_eq!(unknown["isError"], true);
    let submitted = world.result("task_submit", json!({ "tool": "reverse_text", "arguments": { "text": "12" } })).await;
    let id = &submitted["structuredContent"]["task_id"];
    assert_eq!(text(&world.result("task_result", json!({ "task_id": id, "wait_s": 30 })).await), "21");
    let chained = json!({ "text": { "$ref": format!("task://{}#/content/0/text", id.as_str().unwrap()) } });
    assert_eq!(text(&world.result("reverse_text", chained).await), "12");
}

#[tokio::test]
async fn a_need_in_the_words_of_a_group_is_served_by_what_an_endpoint_shows_of_it() {
    let reads = Annotations { read_only_hint: Some(true), ..Annotations::default() };
    let strict = |argument: &str| {
        let properties = json!({ "repo": {}, argument: {} });
        json!({ "type": "object", "properties": properties, "required": [argument], "additionalProperties": false })
    };
    let server = |server: &str, tool: &'static str, argument: &str, in_group: Vec<(String, GroupTool)>| {
        let schema = strict(argument);
        let tools = LocalTools::new(name(server));
        let tools = tools.tool(tool, "shows a document", schema, reads, async |given, _| Ok(json!(given.get())));
        let terms = ServerTerms {
            equivalent: Some("documents".to_owned()),
            equivalent_tools: in_group.into_iter().collect(),
            ..ServerTerms::default()
        };
        ServerEntry { name: name(server), terms, connector: Arc::new(tools) }
    };
    let own = [("repo".to_owned(), json!("/srv")), ("revision".to_owned(), json!("HEAD:{path}"))];
    let git_show = GroupTool::named("read_file").with_arguments(own).unwrap();
    let git = server("git", "git_show", "revision", vec![("git_show".to_owned(), git_show)]);
    let files = server("files", "read_file", "path", Vec::new());
    let engine = Orchestrator::builder().servers([files, git]).build();
    let _worker = engine.worker(WorkerOptions::default());
    assert_eq!(engine.tools().await.capabilities().len(), 2);
    let mut options = GatewayOptions::default();
    options.main.servers = [name("git")].into();
    let records = Arc::new(MemoryRecordStore::new(Arc::new(SystemClock::default())));
    let gateway = Gateway::builder(engine, records).options(options).build().await.unwrap();
    let service = GatewayService::new(gateway, HttpOptions::default());
    let run = async |input: Value| {
        let told = call(&service, "run_task", json!({ "need": "show a document", "input": input }), json!({})).await;
        told["result"].clone()
    };
    let listed = async {
        while !ask(&service, "tools/list", json!({}), json!({})).await.to_string().contains("git_show") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, listed).await.unwrap();
    let served = run(json!({ "path": "a.md" })).await;
    assert_eq!(text(&served), r#"{"repo":"/srv","revision":"HEAD:a.md"}"#, "{served}");
    let served = run(json!({ "revision": "main:b.md" })).await;
    assert_eq!(text(&served), r#"{"revision":"main:b.md"}"#, "its own words are left as they are: {served}");
    let refused = run(json!({ "path": "a.md", "tail": 3 })).await;
    assert!(refused["isError"] == true && text(&refused).contains("`tail` has no place"), "{refused}");
}

#[tokio::test]
async fn what_became_of_a_call_is_told() {
    // The way to the server is cut as soon as a call of the tool `slow` has passed.
    let open = || {
        let (ours, near) = tokio::io::duplex(64 << 10);
        let (far, theirs) = tokio::io::duplex(64 << 10);
        tokio::spawn(fixture::serve(fixture::Server::default(), theirs));
        tokio::spawn(async move {
            let ((near, mut back), (mut answers, mut far)) = (tokio::io::split(near), tokio::io::split(far));
            let copying = tokio::spawn(async move { tokio::io::copy(&mut answers, &mut back).await });
            let _ends = AbortOnDropHandle::new(copying);
            let mut lines = tokio::io::BufReader::new(near).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                far.write_all(format!("{line}\n").as_bytes()).await.unwrap();
                if line.contains("\"slow\"") {
                    return;
                }
            }
        });
        ours
    };
    let engine = Orchestrator::builder().server(name("piped"), Arc::new(IoConnector::new(name("piped"), open))).build();
    engine.tools().await;
    let records = Arc::new(MemoryRecordStore::new(Arc::new(SystemClock::default())));
    let gateway = Gateway::builder(engine, records).build().await.unwrap();
    let service = GatewayService::new(gateway, HttpOptions::default());
    let listed = async {
        while call(&service, "piped__echo", json!({}), json!({})).await.get("result").is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, listed).await.unwrap();
    let told = call(&service, "piped__slow", json!({ "ms": 60_000 }), json!({})).await;
    let told = &told["result"];
    assert_eq!(told["isError"], true, "{told}");
    assert_eq!(told["_meta"]["io.github.metamcp/error"]["code"], "outcome_unknown", "{told}");
    assert!(text(told).contains("may have happened"), "{told}");
}
