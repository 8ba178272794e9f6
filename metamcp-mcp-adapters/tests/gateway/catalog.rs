//! What the gateway shows of its servers: lists without any I/O, names, clashes, endpoints, servers that hang or are gone, a restart, news.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use http_body_util::BodyExt as _;
use metamcp_core::{
    engine::Orchestrator,
    id::ServerName,
    record::{MemoryRecordStore, RecordStore},
    time::SystemClock,
    transport::{Connector, Delivered, McpTransport, TransportError, TransportErrorKind},
};
use metamcp_mcp_adapters::{
    gateway::{
        EndpointView, Gateway, GatewayBody, GatewayOptions, GatewayService, HttpOptions, ListMode, Naming, Pattern,
        ServerView,
    },
    upstream::IoConnector,
};
use serde_json::{Value, json};

use super::{
    client::{PATIENCE, all, answer, result, send},
    shelf::Shelf,
};

fn name(name: &str) -> ServerName {
    ServerName::new(name).unwrap()
}

fn records() -> Arc<dyn RecordStore> {
    Arc::new(MemoryRecordStore::new(Arc::new(SystemClock::default())))
}

async fn gateway(
    servers: Vec<(&str, Arc<dyn Connector>)>,
    records: &Arc<dyn RecordStore>,
    change: impl FnOnce(&mut GatewayOptions),
) -> GatewayService {
    let servers = servers.into_iter().fold(Orchestrator::builder(), |b, (server, way)| b.server(name(server), way));
    let mut options = GatewayOptions::default();
    change(&mut options);
    let gateway = Gateway::builder(servers.build(), Arc::clone(records)).options(options).build().await.unwrap();
    GatewayService::new(gateway, HttpOptions::default())
}

/// A server that takes the connection and says nothing.
fn hanging() -> Arc<dyn Connector> {
    Arc::new(IoConnector::new(name("hanging"), || {
        let (ours, theirs) = tokio::io::duplex(1 << 10);
        // Never read, never closed.
        std::mem::forget(theirs);
        ours
    }))
}

/// A server that is not there.
#[derive(Debug)]
struct Gone;

#[async_trait]
impl Connector for Gone {
    async fn connect(&self) -> Result<Arc<dyn McpTransport>, TransportError> {
        Err(TransportError::new(TransportErrorKind::Connect, Delivered::No, "nobody is at home"))
    }

    fn target(&self) -> String {
        "nowhere".to_owned()
    }
}

/// What `metamcp://servers` tells.
async fn report(service: &GatewayService, path: &str) -> Value {
    let read = result(service, path, "resources/read", json!({ "uri": "metamcp://servers" })).await;
    serde_json::from_str(read["contents"][0]["text"].as_str().unwrap()).unwrap()
}

async fn until<F: Future<Output = bool>>(mut is: impl FnMut() -> F) {
    let look = async {
        while !is().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.unwrap();
}

#[tokio::test]
async fn lists_of_thousands_are_answered_without_asking_anybody() {
    let names: Vec<&'static str> = (0..20).map(|n| &*format!("shelf{n}").leak()).collect();
    let tools = |n: usize| (0..250).map(move |tool| format!("tool{}_{tool}", n % 3));
    let shelves: Vec<Shelf> = names.iter().enumerate().map(|(n, name)| Shelf::new(name, tools(n))).collect();
    let servers = names.iter().zip(&shelves).map(|(name, shelf)| (*name, shelf.connector())).collect();
    let service = gateway(servers, &records(), |options| options.page_items = 10_000).await;
    let tools = all(&service, "/mcp", "tools/list", "tools", "name").await;
    let ours = tools.len() - 5_000;
    assert!(ours < 10, "our own tools are few");
    assert_eq!(tools.iter().collect::<HashSet<_>>().len(), tools.len());
    assert_eq!(tools[ours..ours + 2], ["shelf0__tool0_0", "shelf0__tool0_1"]);

    let asked: usize = shelves.iter().map(Shelf::lists).sum();
    let begun = Instant::now();
    let again = send(&service, "/mcp", "tools/list", json!({})).await.into_body().collect().await.unwrap().to_bytes();
    let took = begun.elapsed();
    assert!(again.len() > 5_000 * 200);
    assert!(took < Duration::from_secs(1), "took {took:?}");
    assert_eq!(shelves.iter().map(Shelf::lists).sum::<usize>(), asked);
}

#[tokio::test]
async fn what_is_not_known_yet_is_waited_for_as_a_list_would_be() {
    for (method, params, told) in [
        ("tools/call", json!({ "name": "git__log", "arguments": {} }), "/content/0/text"),
        ("prompts/get", json!({ "name": "git__greet" }), "/messages/0/content/text"),
        ("resources/read", json!({ "uri": "git://a" }), "/contents/0/text"),
        (
            "completion/complete",
            json!({ "ref": { "type": "ref/prompt", "name": "git__greet" }, "argument": { "name": "whom", "value": "" } }),
            "/completion/values/0",
        ),
    ] {
        let shelf = Shelf::new("git", ["log".to_owned()]);
        let service = gateway(vec![("git", shelf.connector())], &records(), |_| {}).await;
        // The first thing that anybody asks.
        let result = result(&service, "/mcp", method, params).await;
        assert!(result.pointer(told).unwrap().as_str().unwrap().ends_with("git"), "{method}: {result}");
    }
}

/// How many tools called `t` are listed.
async fn theirs(service: &GatewayService) -> usize {
    all(service, "/mcp", "tools/list", "tools", "name").await.iter().filter(|name| name.ends_with("__t")).count()
}

#[tokio::test]
async fn lists_may_be_kept_as_long_and_for_whom_all_their_servers_say() {
    let shelf = |name, ttl_ms, scope| Shelf::new(name, ["t".to_owned()]).kept(ttl_ms, scope);
    let (long, short) = (shelf("long", 20_000, "public"), shelf("short", 7_000, "public"));
    let (own, old) = (shelf("own", 90_000, "private"), Shelf::new("old", ["t".to_owned()]));
    let servers = [&long, &short, &own, &old].map(|shelf| (shelf.name(), shelf.connector()));
    let service = gateway(servers.to_vec(), &records(), |options| {
        let endpoint = |servers: &[&str]| {
            let mut view = EndpointView::default();
            view.servers = servers.iter().map(|server| name(server)).collect();
            view
        };
        let sets: [(&str, &[&str]); 4] =
            [("public", &["long", "short"]), ("own", &["long", "own"]), ("old", &["old", "short"]), ("far", &["own"])];
        options.endpoints.extend(sets.map(|(path, servers)| (path.to_owned(), endpoint(servers))));
    })
    .await;
    let kept = async |path: &str, method: &str| {
        let page = result(&service, path, method, json!({})).await;
        (page["ttlMs"].as_u64().unwrap(), page["cacheScope"].as_str().unwrap().to_owned())
    };
    until(async || theirs(&service).await == 4).await;
    for method in ["tools/list", "prompts/list", "resources/list", "resources/templates/list"] {
        assert_eq!(kept("/mcp/public", method).await, (7_000, "public".to_owned()), "{method}");
        assert_eq!(kept("/mcp/own", method).await, (20_000, "private".to_owned()), "{method}");
        assert_eq!(kept("/mcp/old", method).await, (7_000, "private".to_owned()), "{method}");
        assert_eq!(kept("/mcp/far", method).await, (60_000, "private".to_owned()), "no longer than is set, {method}");
        assert_eq!(kept("/mcp", method).await, (7_000, "private".to_owned()), "{method}");
    }
}

#[tokio::test]
async fn lists_past_their_time_are_read_again_behind_who_asks() {
    let shelf = Shelf::new("git", ["t".to_owned()]).kept(0, "public");
    let service = gateway(vec![("git", shelf.connector())], &records(), |_| ()).await;
    until(async || theirs(&service).await == 1).await;
    let read = shelf.lists();
    until(async || theirs(&service).await == 1 && shelf.lists() > read).await;
}

#[tokio::test]
async fn pages_have_cursors_of_our_own() {
    let shelf = Shelf::new("git", (0..25).map(|n| format!("t{n}")));
    let service = gateway(vec![("git", shelf.connector())], &records(), |options| options.page_items = 10).await;
    let tools = all(&service, "/mcp", "tools/list", "tools", "name").await;
    assert_eq!(tools.iter().filter(|tool| tool.starts_with("git__t")).count(), 25);
    let first = result(&service, "/mcp", "tools/list", json!({})).await;
    assert_eq!(first["tools"].as_array().unwrap().len(), 10);
    shelf.add("late").await;
    until(async || {
        let told = answer(&service, "/mcp", "tools/list", json!({ "cursor": first["nextCursor"] })).await;
        told["error"]["code"] == -32602
    })
    .await;
}

#[tokio::test]
async fn a_server_that_hangs_or_is_gone_costs_nobody_anything() {
    let shelf = Shelf::new("git", ["log".to_owned()]);
    let servers = vec![("git", shelf.connector()), ("gone", Arc::new(Gone) as _), ("hanging", hanging())];
    let service = gateway(servers, &records(), |options| options.first_wait = Duration::from_secs(2)).await;
    let tools = all(&service, "/mcp", "tools/list", "tools", "name").await;
    assert!(tools.contains(&"git__log".to_owned()), "{tools:?}");
    let called = result(&service, "/mcp", "tools/call", json!({ "name": "git__log", "arguments": {} })).await;
    assert_eq!(called["content"][0]["text"], "log of git");
    let report = report(&service, "/mcp").await;
    let of = |at: usize| (report["servers"][at]["name"].clone(), report["servers"][at]["state"].clone());
    assert_eq!([of(0), of(2)], [(json!("git"), json!("ready")), (json!("hanging"), json!("connecting"))]);
    assert!(report["servers"][1]["reason"].as_str().unwrap().contains("nobody is at home"), "{report}");
}

#[tokio::test]
async fn a_restart_shows_the_last_known_lists_and_leaves_out_who_stays_away() {
    let records = records();
    let shelf = Shelf::new("git", ["log".to_owned()]);
    let before = gateway(vec![("git", shelf.connector())], &records, |_| {}).await;
    let shown = all(&before, "/mcp", "tools/list", "tools", "name").await;
    assert!(shown.contains(&"git__log".to_owned()));
    until(async || !records.list(metamcp_core::record::RecordKind::Catalog, None, 10).await.unwrap().is_empty()).await;
    until(async || records.get(metamcp_core::record::RecordKind::Catalog, "offer/git").await.unwrap().is_some()).await;
    drop(before);

    let away = |grace: Duration| {
        let records = Arc::clone(&records);
        async move { gateway(vec![("git", hanging())], &records, |options| options.grace = grace).await }
    };
    let after = away(Duration::from_secs(3_600)).await;
    assert_eq!(all(&after, "/mcp", "tools/list", "tools", "name").await, shown);
    assert_eq!(all(&after, "/mcp", "prompts/list", "prompts", "name").await, ["git__greet"]);
    assert_eq!(report(&after, "/mcp").await["servers"][0]["leftOut"], false);

    let after = away(Duration::ZERO).await;
    until(async || !all(&after, "/mcp", "tools/list", "tools", "name").await.contains(&"git__log".to_owned())).await;
    assert_eq!(report(&after, "/mcp").await["servers"][0]["leftOut"], true);
}

#[tokio::test]
async fn prompts_resources_and_completions_go_to_whose_they_are() {
    let (git, web) = (Shelf::new("git", ["log".to_owned()]), Shelf::new("web", []));
    let service = gateway(vec![("git", git.connector()), ("web", web.connector())], &records(), |_| {}).await;
    assert_eq!(all(&service, "/mcp", "prompts/list", "prompts", "name").await, ["git__greet", "web__greet"]);
    let uris = all(&service, "/mcp", "resources/list", "resources", "uri").await;
    assert_eq!(uris, ["metamcp://servers", "git://a", "shared://a", "web://a"]);
    let templates = all(&service, "/mcp", "resources/templates/list", "resourceTemplates", "uriTemplate").await;
    assert_eq!(templates[templates.len() - 2..], ["git://items/{id}", "web://items/{id}"]);

    let prompt = result(&service, "/mcp", "prompts/get", json!({ "name": "web__greet" })).await;
    assert_eq!(prompt["messages"][0]["content"]["text"], "greet of web");
    for (uri, owner) in [("git://a", "git"), ("web://items/7", "web"), ("shared://a", "git"), ("web://new", "web")] {
        let read = result(&service, "/mcp", "resources/read", json!({ "uri": uri })).await;
        assert_eq!((&read["contents"][0]["text"], &read["ttlMs"]), (&json!(owner), &json!(0)), "{uri}");
    }
    for uri in ["nobody://a", "git://items/gone"] {
        let told = answer(&service, "/mcp", "resources/read", json!({ "uri": uri })).await;
        assert_eq!((&told["error"]["code"], &told["error"]["data"]["uri"]), (&json!(-32602), &json!(uri)), "{told}");
    }
    for (about, value) in [
        (json!({ "type": "ref/prompt", "name": "web__greet" }), "greet of web"),
        (json!({ "type": "ref/resource", "uri": "git://items/{id}" }), "git://items/{id} of git"),
    ] {
        let params = json!({ "ref": about, "argument": { "name": "x", "value": "" } });
        let completed = result(&service, "/mcp", "completion/complete", params).await;
        assert_eq!(completed["completion"]["values"][0], value);
    }
    let told = report(&service, "/mcp").await;
    let clash = json!({ "what": "resource", "name": "shared://a", "claimed_by": ["git", "web"], "shown": "git" });
    assert_eq!(told["clashes"], json!([clash]));

    let about = result(&service, "/mcp", "server/discover", json!({})).await;
    assert!(about["instructions"].as_str().unwrap().contains("# web\nhow to use web"), "{about}");
    assert_eq!(about["capabilities"]["resources"], json!({ "listChanged": true, "subscribe": true }));
    assert_eq!(
        (about["capabilities"].get("completions"), about["capabilities"].get("logging")),
        (Some(&json!({})), None)
    );
    let unknown = answer(&service, "/mcp", "skills/list", json!({})).await;
    assert_eq!(unknown["error"]["code"], -32601);
}

#[tokio::test]
async fn of_two_tools_with_one_name_neither_is_shown_and_an_endpoint_shows_what_it_chooses() {
    let (git, web) = (Shelf::new("git", ["log".to_owned(), "diff".to_owned()]), Shelf::new("web", ["log".to_owned()]));
    let service = gateway(vec![("git", git.connector()), ("web", web.connector())], &records(), |options| {
        for server in ["git", "web"] {
            let mut view = ServerView::default();
            view.naming = Naming::plain();
            view.prompts.exclude = vec![Pattern::new("*")];
            options.servers.insert(name(server), view);
        }
        let mut endpoint = EndpointView::default();
        endpoint.servers = [name("web")].into();
        options.endpoints.insert("team".to_owned(), endpoint.clone());
        endpoint.list = ListMode::Search;
        options.endpoints.insert("small".to_owned(), endpoint);
    })
    .await;
    let main = all(&service, "/mcp", "tools/list", "tools", "name").await;
    assert!(main.contains(&"diff".to_owned()) && !main.contains(&"log".to_owned()), "{main:?}");
    let clash = json!({ "what": "tool", "name": "log", "claimed_by": ["git/log", "web/log"] });
    assert!(report(&service, "/mcp").await["clashes"].as_array().unwrap().contains(&clash));
    let call = json!({ "name": "log", "arguments": {} });
    assert_eq!(answer(&service, "/mcp", "tools/call", call.clone()).await["error"]["code"], -32602);
    assert!(all(&service, "/mcp", "prompts/list", "prompts", "name").await.is_empty());

    let team = all(&service, "/mcp/team", "tools/list", "tools", "name").await;
    assert!(team.contains(&"log".to_owned()) && !team.contains(&"diff".to_owned()), "{team:?}");
    assert_eq!(report(&service, "/mcp/team").await["servers"].as_array().unwrap().len(), 1);
    let small = all(&service, "/mcp/small", "tools/list", "tools", "name").await;
    assert!(small.contains(&"find_tools".to_owned()) && !small.contains(&"log".to_owned()), "{small:?}");
    for path in ["/mcp/team", "/mcp/small"] {
        let called = result(&service, path, "tools/call", call.clone()).await;
        assert_eq!(called["content"][0]["text"], "log of web");
    }
}

#[tokio::test]
async fn what_changes_is_told_to_all_who_listen() {
    let (git, web) = (Shelf::new("git", ["log".to_owned()]), Shelf::new("web", []));
    let service = gateway(vec![("git", git.connector()), ("web", web.connector())], &records(), |_| {}).await;
    all(&service, "/mcp", "tools/list", "tools", "name").await;
    let filter = json!({ "notifications": {
        "toolsListChanged": true,
        "resourceSubscriptions": ["git://items/1", "nobody://x"],
    } });
    let mut listening = Vec::new();
    for _ in 0..3 {
        let mut body = send(&service, "/mcp", "subscriptions/listen", filter.clone()).await.into_body();
        let [acknowledged] = told(&mut body, ["acknowledged"]).await;
        assert_eq!(acknowledged["params"]["notifications"]["resourceSubscriptions"], json!(["git://items/1"]));
        listening.push(body);
    }
    until(async || git.watched() == ["git://items/1"]).await;
    git.update("git://items/1").await;
    git.add("late").await;
    for body in &mut listening {
        let [updated, _] = told(body, ["resources/updated", "tools/list_changed"]).await;
        assert_eq!(updated["params"]["uri"], "git://items/1");
    }
    assert!(all(&service, "/mcp", "tools/list", "tools", "name").await.contains(&"git__late".to_owned()));
    drop(listening);
    until(async || git.watched().is_empty()).await;
}

/// Notifications of these kinds, in whichever order a stream brings them.
async fn told<const N: usize>(body: &mut GatewayBody, kinds: [&str; N]) -> [Value; N] {
    let mut text = String::new();
    let read = async {
        loop {
            let found = kinds.map(|kind| {
                text.lines().filter_map(|line| line.strip_prefix("data: ")).find(|data| data.contains(kind))
            });
            if found.iter().all(Option::is_some) {
                return found.map(|data| serde_json::from_str(data.unwrap()).unwrap());
            }
            let Some(frame) = body.frame().await else { panic!("the stream ended: {text}") };
            if let Ok(data) = frame.unwrap().into_data() {
                text.push_str(std::str::from_utf8(&data).unwrap());
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap()
}
