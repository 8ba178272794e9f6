//! The HTTP front: what it refuses and how it says so, streams that begin when there is something to tell, and sessions of legacy clients.

use std::time::Duration;

use http::{Method, StatusCode};
use metamcp_mcp_adapters::{
    gateway::{GatewayService, HttpOptions},
    upstream::Era,
};
use serde_json::{Value, json};

use super::raw::{Events, Legacy, Modern, PATIENCE, Raw, gateway, gateway_to, records, service, whole};

#[tokio::test]
async fn what_is_refused_has_its_status_and_code() {
    let service = service().await;
    let list = Modern::new("tools/list");
    let without = |key: &str| {
        let mut request = list.clone();
        request.params["_meta"].as_object_mut().unwrap().remove(key);
        request.raw()
    };
    let mut old = list.clone();
    old.params["_meta"]["io.modelcontextprotocol/protocolVersion"] = "1900-01-01".into();
    let marked = Modern::call("modern__echo", json!({ "region": "é" }));
    let legacy = Legacy { session: "forged".to_owned(), revision: "2025-11-25" };
    let cases = [
        ("another site's name", list.raw().with("host", "evil.example"), (403, -32600)),
        ("another site's page", list.raw().with("origin", "http://evil.example"), (403, -32600)),
        ("no such endpoint", list.raw().path("/mcp/nowhere"), (404, -32600)),
        ("a method without sense", list.raw().method(Method::PUT), (405, -32600)),
        ("a modern GET", list.raw().method(Method::GET), (405, -32600)),
        ("not said to be JSON", list.raw().with("content-type", "text/plain"), (415, -32600)),
        ("nothing acceptable", list.raw().with("accept", "text/html"), (406, -32600)),
        ("no JSON", Raw::post("{"), (400, -32700)),
        ("no message", Raw::post("{}"), (400, -32600)),
        ("no session", Raw::post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#), (400, -32600)),
        ("a forged session", legacy.request(1, "tools/list", &json!({})), (404, -32600)),
        ("a GET without a session", Raw::post("").method(Method::GET), (400, -32600)),
        ("no revision in the body", without("io.modelcontextprotocol/protocolVersion"), (400, -32602)),
        ("no capabilities", without("io.modelcontextprotocol/clientCapabilities"), (400, -32602)),
        ("no revision in the headers", list.raw().with("mcp-protocol-version", ""), (400, -32020)),
        ("two revisions", list.raw().with("mcp-protocol-version", "2025-11-25"), (400, -32020)),
        ("an unknown revision", old.raw().with("mcp-protocol-version", "1900-01-01"), (400, -32022)),
        ("no method in the headers", list.raw().with("mcp-method", ""), (400, -32020)),
        ("two methods", list.raw().with("mcp-method", "tools/call"), (400, -32020)),
        ("no name in the headers", marked.raw().with("mcp-name", ""), (400, -32020)),
        ("an argument that its header does not repeat", marked.raw(), (400, -32020)),
        ("a header that says another argument", marked.raw().with("mcp-param-region", "e"), (400, -32020)),
        ("an unknown method", Modern::new("tools/dance").raw(), (404, -32601)),
        ("a removed method", Modern::new("ping").raw(), (404, -32601)),
        ("a removed handshake", Modern::new("initialize").raw(), (404, -32601)),
        ("an unknown tool", Modern::call("nothing", json!({})).raw(), (200, -32602)),
    ];
    for (what, raw, expected) in cases {
        assert_eq!(raw.refused(&service).await, expected, "{what}");
    }
    let echoed = marked.raw().with("mcp-param-region", "=?base64?w6k=?=").send(&service).await;
    assert_eq!(whole(echoed).await["result"]["content"][0]["text"], r#"{"region":"é"}"#);
    let told = whole(old.raw().with("mcp-protocol-version", "1900-01-01").send(&service).await).await;
    assert_eq!((&told["id"], &told["error"]["data"]["requested"]), (&json!(1), &json!("1900-01-01")));
}

#[tokio::test]
async fn a_body_over_the_bound_is_refused() {
    let mut options = HttpOptions::default();
    options.body_bytes_max = 1_000;
    let service = GatewayService::new(gateway(&records()).await, options);
    let call = |size| Modern::call("modern__echo", json!({ "text": "x".repeat(size) })).raw();
    assert_eq!(call(1_000).refused(&service).await, (413, -32600));
    assert_eq!(call(100).send(&service).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_result_comes_back_as_it_was_and_says_who_answers() {
    let service = service().await;
    let result = Modern::call("modern__echo", json!({ "n": 1 })).result(&service).await;
    assert_eq!(result["content"][0]["text"], r#"{"n":1}"#);
    assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "metamcp");
    assert_eq!(result["resultType"], "complete");
    let legacy = Legacy::begin(&service, "2025-06-18").await;
    for tool in ["legacy__echo", "modern__echo"] {
        let told = legacy.request(7, "tools/call", &json!({ "name": tool, "arguments": {} })).send(&service).await;
        let told = whole(told).await;
        assert_eq!((&told["id"], told["result"].get("resultType")), (&json!(7), None), "{tool}");
        assert_eq!(told["result"]["content"][0]["text"], "{}");
    }
}

#[tokio::test]
async fn a_stream_begins_when_there_is_something_to_tell() {
    let service = service().await;
    let mut call = Modern::call("modern__progress", json!({ "steps": 3 }));
    call.params["_meta"]["progressToken"] = "mine".into();
    let mut events = Events::of(call.raw().send(&service).await);
    for step in 1..=3 {
        let (id, told) = events.message().await;
        assert_eq!(
            (id, &told["params"]["progressToken"], &told["params"]["progress"]),
            (None, &json!("mine"), &json!(f64::from(step)))
        );
    }
    let (_, last) = events.message().await;
    assert_eq!((&last["id"], &last["result"]["resultType"]), (&json!(1), &json!("complete")));
    assert_eq!(events.next().await, None);
    // A client that takes no stream gets the answer alone, one that takes nothing else a stream.
    let alone = call.raw().with("accept", "application/json").send(&service).await;
    assert_eq!(whole(alone).await["id"], 1);
    let list = Modern::new("tools/list").raw().with("accept", "text/event-stream");
    assert_eq!(Events::of(list.send(&service).await).message().await.1["id"], 1);
}

#[tokio::test]
async fn a_session_begins_goes_on_and_ends() {
    let service = service().await;
    let legacy = Legacy::begin(&service, "2025-11-25").await;
    assert!(legacy.session.bytes().all(|b| b.is_ascii_graphic()) && legacy.session.len() < 2_000);
    let accepted = legacy.raw(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).send(&service).await;
    assert_eq!((accepted.status(), whole(accepted).await), (StatusCode::ACCEPTED, Value::Null));
    let ping = whole(legacy.request(1, "ping", &json!({})).send(&service).await).await;
    assert_eq!(ping, json!({ "jsonrpc": "2.0", "id": 1, "result": {} }));
    assert_eq!(
        legacy.request(2, "logging/setLevel", &json!({ "level": "loud" })).refused(&service).await,
        (200, -32602)
    );
    assert_eq!(legacy.request(3, "logging/setLevel", &json!({ "level": "error" })).refused(&service).await, (200, 0));
    assert_eq!(
        legacy.request(4, "resources/read", &json!({ "uri": "no://such" })).refused(&service).await,
        (200, -32002)
    );
    let other = legacy.request(5, "ping", &json!({})).with("mcp-protocol-version", "1999-01-01");
    assert_eq!(other.refused(&service).await, (400, -32602), "not one of ours: taken for a modern one");
    assert_eq!(service.sessions(), 1);
    let ended = legacy.raw(&Value::Null).method(Method::DELETE).send(&service).await;
    assert_eq!((ended.status(), whole(ended).await), (StatusCode::NO_CONTENT, Value::Null));
    assert_eq!(legacy.request(6, "ping", &json!({})).refused(&service).await, (404, -32600));
    assert_eq!((legacy.get().refused(&service).await, service.sessions()), ((404, -32600), 0));
}

#[tokio::test]
async fn a_batch_is_answered_as_one() {
    let service = service().await;
    let legacy = Legacy::begin(&service, "2025-03-26").await;
    let batch = json!([
        { "jsonrpc": "2.0", "id": 1, "method": "ping" },
        { "jsonrpc": "2.0", "method": "notifications/initialized" },
        { "jsonrpc": "2.0", "id": "two", "method": "tools/call", "params": { "name": "legacy__echo" } },
        { "jsonrpc": "2.0", "id": null },
    ]);
    let answers = whole(legacy.raw(&batch).send(&service).await).await;
    let ids: Vec<&Value> = answers.as_array().unwrap().iter().map(|answer| &answer["id"]).collect();
    assert_eq!(ids, [&json!(1), &json!("two"), &Value::Null]);
    let silent = json!([{ "jsonrpc": "2.0", "method": "notifications/initialized" }]);
    assert_eq!(legacy.raw(&silent).send(&service).await.status(), StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_stream_that_was_cut_goes_on() {
    let service = service().await;
    let legacy = Legacy::begin(&service, "2025-11-25").await;
    let answer = async |question: &Value, uri: &str| {
        let answer = json!({ "jsonrpc": "2.0", "id": question["id"], "result": { "roots": [{ "uri": uri }] } });
        assert_eq!(legacy.raw(&answer).send(&service).await.status(), StatusCode::ACCEPTED);
    };
    let call = legacy.request(1, "tools/call", &json!({ "name": "legacy__roots", "arguments": {} }));
    let mut events = Events::of(call.send(&service).await);
    let (primer, nothing) = events.next().await.unwrap();
    assert!(primer.is_some() && nothing.is_none());
    let (last, question) = events.message().await;
    assert_eq!(question["method"], "roots/list");
    drop(events);
    answer(&question, "file:///one").await;
    let mut events = Events::of(legacy.get().with("last-event-id", &last.unwrap()).send(&service).await);
    let (_, question) = events.message().await;
    answer(&question, "file:///two").await;
    let (_, told) = events.message().await;
    assert_eq!((&told["id"], &told["result"]["content"][0]["text"]), (&json!(1), &json!("file:///one file:///two")));
    assert_eq!(events.next().await, None);
    // From its beginning all of it can be had again.
    let mut events = Events::of(legacy.get().with("last-event-id", &primer.unwrap()).send(&service).await);
    assert_eq!(events.message().await.1["method"], "roots/list");
}

#[tokio::test]
async fn an_answer_that_is_too_large_to_be_kept_is_told_as_lost_and_the_news_stay_with_their_reader() {
    let service = service().await;
    let legacy = Legacy::begin(&service, "2025-11-25").await;
    let mut news = Events::of(legacy.get().send(&service).await);
    assert!(news.next().await.is_some());
    let answer = async |question: &Value, uri: &str| {
        let answer = json!({ "jsonrpc": "2.0", "id": question["id"], "result": { "roots": [{ "uri": uri }] } });
        assert_eq!(legacy.raw(&answer).send(&service).await.status(), StatusCode::ACCEPTED);
    };
    let call = legacy.request(1, "tools/call", &json!({ "name": "legacy__roots", "arguments": {} }));
    let mut events = Events::of(call.send(&service).await);
    answer(&events.message().await.1, "file:///one").await;
    let (last, question) = events.message().await;
    drop(events);
    let resume = |last: &str| legacy.get().with("last-event-id", last);
    let mut events = Events::of(resume(&last.unwrap()).send(&service).await);
    answer(&question, &format!("file:///{}", "x".repeat(70_000))).await;
    let (lost, told) = events.message().await;
    assert_eq!((&told["id"], &told["error"]["code"]), (&json!(1), &json!(-32603)), "{told}");
    assert_eq!(events.next().await, None);
    assert_eq!(resume(&lost.unwrap()).refused(&service).await, (410, -32600), "nothing comes behind an answer");
    assert_eq!(resume("0-2-1").refused(&service).await, (410, -32600), "the answer of another process");
    let still = tokio::time::timeout(Duration::from_millis(100), news.next()).await;
    assert!(still.is_err(), "the stream of news was taken from its reader: {still:?}");
}

#[tokio::test]
async fn an_answer_that_comes_to_another_replica_reaches_who_asked() {
    let records = records();
    let replicas = [gateway(&records).await, gateway(&records).await];
    let [one, two] = replicas.map(|gateway| GatewayService::new(gateway, HttpOptions::default()));
    let legacy = Legacy::begin(&one, "2025-06-18").await;
    let call = legacy.request(1, "tools/call", &json!({ "name": "modern__echo", "arguments": {} }));
    assert_eq!(call.send(&two).await.status(), StatusCode::OK, "another replica takes the session up");
    let call = legacy.request(2, "tools/call", &json!({ "name": "modern__greet", "arguments": {} }));
    let mut events = Events::of(call.send(&one).await);
    let (_, question) = events.message().await;
    assert_eq!(question["method"], "elicitation/create");
    let result = json!({ "action": "accept", "content": { "name": "Ada" } });
    legacy.raw(&json!({ "jsonrpc": "2.0", "id": question["id"], "result": result })).send(&two).await;
    let (_, told) = events.message().await;
    assert_eq!(told["result"]["content"][0]["text"], "héllo \"you\" Ada");
}

#[tokio::test]
async fn a_legacy_client_takes_a_request_back_and_a_modern_one_goes_away() {
    let service = service().await;
    let legacy = Legacy::begin(&service, "2025-06-18").await;
    let cancelled = async |tool: &str, times: &str| loop {
        let result = Modern::call(tool, json!({})).result(&service).await;
        if result["content"][0]["text"] == times {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let slow = |tool: &str| json!({ "name": tool, "arguments": { "ms": 600_000 } });
    let call = legacy.request(9, "tools/call", &slow("legacy__slow")).send(&service);
    let back = async {
        let cancel = json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 9 } });
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(legacy.raw(&cancel).send(&service).await.status(), StatusCode::ACCEPTED);
    };
    let (response, ()) = tokio::join!(call, back);
    assert!(whole(response).await["error"].is_object());
    cancelled("legacy__cancelled", "1").await;
    let call = Modern::call("modern__slow", json!({ "ms": 600_000 })).raw().send(&service);
    assert!(tokio::time::timeout(Duration::from_millis(200), call).await.is_err());
    cancelled("modern__cancelled", "1").await;
}

#[tokio::test]
async fn a_modern_client_listens_until_the_drain() {
    let options = HttpOptions::default();
    let drain = options.drain.clone();
    let service = GatewayService::new(gateway_to(&records(), &[Era::Modern]).await, options);
    let mut listen = Modern::new("subscriptions/listen");
    listen.params["notifications"] =
        json!({ "toolsListChanged": true, "resourceSubscriptions": ["test://watched", "no://such"] });
    let mut events = Events::of(listen.raw().send(&service).await);
    let (_, first) = events.message().await;
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(first["params"]["notifications"]["toolsListChanged"], true);
    let (_, news) = tokio::select! {
        news = events.message() => news,
        () = changing(&service, "modern__change") => panic!("not told"),
    };
    assert_eq!(
        (&news["method"], &news["params"]["uri"]),
        (&json!("notifications/resources/updated"), &json!("test://watched"))
    );
    assert_eq!(news["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 1);
    drain.cancel();
    let (_, last) = events.message().await;
    assert_eq!((&last["id"], &last["result"]["resultType"]), (&json!(1), &json!("complete")));
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn a_legacy_client_is_told_on_its_get_also_of_what_came_while_it_was_away() {
    let service = GatewayService::new(gateway_to(&records(), &[Era::Legacy]).await, HttpOptions::default());
    let legacy = Legacy::begin(&service, "2025-06-18").await;
    let mut first = Events::of(legacy.get().send(&service).await);
    let watch = legacy.request(1, "resources/subscribe", &json!({ "uri": "test://watched" }));
    assert_eq!(watch.send(&service).await.status(), StatusCode::OK);
    let told = tokio::select! {
        (id, told) = first.message() => { assert_eq!(told["params"]["uri"], "test://watched"); id }
        () = changing(&service, "legacy__change") => panic!("not told"),
    };
    drop(first);
    change(&service, "legacy__change").await;
    let mut second = Events::of(legacy.get().with("last-event-id", &told.unwrap()).send(&service).await);
    assert_eq!(second.message().await.1["method"], "notifications/resources/updated");
    // A second stream takes the place of the first: each message goes to one.
    let _third = Events::of(legacy.get().send(&service).await);
    while second.next().await.is_some() {}
}

/// Everything changes at a server.
async fn change(service: &GatewayService, tool: &str) {
    Modern::call(tool, json!({})).result(service).await;
}

/// The same again and again, since servers are told in the background what is watched; ends when patience does.
async fn changing(service: &GatewayService, tool: &str) {
    let pause = Duration::from_millis(100);
    for _ in 0..PATIENCE.as_millis() / pause.as_millis() {
        change(service, tool).await;
        tokio::time::sleep(pause).await;
    }
}
