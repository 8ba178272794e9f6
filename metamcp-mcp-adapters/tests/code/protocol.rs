//! Sessions: both ways to begin one, what is announced, every tool on this crate's own source, errors of the protocol,
//! progress, cancellation, and the same over the standard streams of a process.

use std::path::Path;
use std::process::Stdio;

use metamcp_mcp_adapters::servers::code::{CodeConfig, CodeLimits, CodeServer, serve_io, serve_stdio};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::client::{Client, Era, each, folder};

const ROOT: &str = "METAMCP_TEST_CODE_ROOT";

fn own_source() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

#[tokio::test]
async fn a_session_begins_with_initialize() {
    let mut client = Client::start(CodeConfig::new([own_source()]), Era::Session).await;
    assert_eq!(client.opened["result"]["protocolVersion"], "2025-11-25");
    assert_eq!(client.opened["result"]["serverInfo"]["name"], "code");
    assert!(client.opened["result"]["capabilities"]["tools"].is_object());
    every_tool_on_own_source(&mut client).await;
    client.close().await;
}

#[tokio::test]
async fn a_stateless_client_discovers_the_server() {
    let mut client = Client::start(CodeConfig::new([own_source()]), Era::Stateless).await;
    let versions = client.opened["result"]["supportedVersions"].as_array().unwrap();
    assert!(versions.contains(&json!("2026-07-28")), "{versions:?}");
    assert!(client.opened["result"]["instructions"].as_str().unwrap().contains("references"));
    every_tool_on_own_source(&mut client).await;
    client.close().await;
}

async fn every_tool_on_own_source(client: &mut Client) {
    let outline = client.good("outline", json!({ "path": "servers/code/roots.rs" })).await;
    assert_eq!(each(&outline.structured["files"], "path"), ["servers/code/roots.rs"]);
    assert!(outline.text.contains("method resolve"), "{}", outline.text);

    let symbols = client.good("symbols", json!({ "name": "CodeServer", "match": "exact", "kinds": ["struct"] })).await;
    assert_eq!(each(&symbols.structured["symbols"], "path"), ["servers/code/server.rs"]);
    assert_eq!(symbols.structured["symbols"][0]["signature"], "pub struct CodeServer");

    let references = client.good("references", json!({ "name": "CodeServerError", "path": "servers" })).await;
    let found = references.structured["references"].as_array().expect("a list");
    assert!(found.len() > 5, "{found:?}");
    assert_eq!(found.iter().filter(|one| one["definition"] == true).count(), 1);

    let unsafe_blocks = json!({ "query": "(unsafe_block) @unsafe", "language": "rust" });
    let query = client.good("query", unsafe_blocks).await;
    // The workspace forbids unsafe code; that nothing was missed is told by the number of files.
    assert_eq!(query.structured["captures"], json!([]));
    assert!(query.structured["files_scanned"].as_u64() >= Some(19), "{}", query.text);

    let parse = client.good("parse", json!({ "path": "servers/code/mod.rs" })).await;
    assert_eq!(parse.structured["error_count"], 0);
    assert!(parse.structured["tree"].as_str().expect("a tree").starts_with("(source_file [1:1]"), "{}", parse.text);
}

#[tokio::test]
async fn tools_are_announced_as_harmless_with_schemas_and_words_to_be_found_by() {
    let mut client = Client::over(&own_source()).await;
    let listed = client.request("tools/list", json!({})).await;
    let tools = listed["result"]["tools"].clone();
    assert_eq!(each(&tools, "name"), ["outline", "parse", "query", "references", "symbols"]);
    for tool in tools.as_array().unwrap() {
        let hints = &tool["annotations"];
        assert_eq!(hints["readOnlyHint"], true, "{tool}");
        assert_eq!(hints["idempotentHint"], true, "{tool}");
        assert_eq!(hints["openWorldHint"], false, "{tool}");
        assert!(!tool["title"].as_str().unwrap().is_empty());
        assert!(!tool["description"].as_str().unwrap().contains("  "), "{tool}");
        let schema = &tool["inputSchema"];
        jsonschema::draft202012::new(schema).expect("the input schema is valid");
        assert_eq!(schema["type"], "object");
        for (name, property) in schema["properties"].as_object().unwrap() {
            assert!(property["description"].is_string(), "{name} of {tool} is not described");
        }
    }
    for (need, tool) in [
        ("list the functions and types in this repository", "outline"),
        ("find where X is used", "references"),
        ("find unsafe blocks", "query"),
        ("find syntax errors", "parse"),
        ("find a symbol by name", "symbols"),
    ] {
        let described = tools.as_array().unwrap().iter().find(|one| one["name"] == tool).unwrap();
        assert!(described["description"].as_str().unwrap().contains(need), "{tool} does not say: {need}");
    }
}

#[tokio::test]
async fn schemas_accept_what_the_tools_accept_and_refuse_what_they_refuse() {
    let mut client = Client::over(&own_source()).await;
    let listed = client.request("tools/list", json!({})).await;
    for (tool, arguments, fits) in [
        ("outline", json!({}), true),
        ("outline", json!({ "path": "servers/mod.rs", "max_results": 5 }), true),
        ("outline", json!({ "max_results": 0 }), false),
        ("outline", json!({ "language": "cobol" }), false),
        ("outline", json!({ "recursive": true }), false),
        ("symbols", json!({ "kinds": ["struct", "function"], "match": "prefix", "name": "C" }), true),
        ("symbols", json!({ "kinds": ["gadget"] }), false),
        ("references", json!({}), false),
        ("references", json!({ "name": 5 }), false),
        ("query", json!({ "language": "rust" }), false),
        ("parse", json!({ "path": "servers/mod.rs", "max_depth": 3 }), true),
        ("parse", json!({ "path": "servers/mod.rs", "max_depth": 0 }), false),
    ] {
        let described = listed["result"]["tools"].as_array().unwrap().iter().find(|one| one["name"] == tool).unwrap();
        let valid = jsonschema::draft202012::new(&described["inputSchema"]).unwrap().is_valid(&arguments);
        assert_eq!(valid, fits, "schema of {tool} on {arguments}");
        let called = client.call(tool, arguments.clone()).await;
        assert_eq!(!called.is_error, fits, "{tool} on {arguments}: {}", called.text);
    }
}

#[tokio::test]
async fn a_wrong_argument_is_named() {
    let mut client = Client::over(&own_source()).await;
    let error = client.bad("symbols", json!({ "nmae": "x" })).await;
    assert!(error.contains("`nmae`") && error.contains("name"), "{error}");
    let error = client.bad("outline", json!({ "max_results": "many" })).await;
    assert!(error.contains("max_results"), "{error}");
    let error = client.bad("outline", json!({ "languages": ["rust", "cobol"] })).await;
    assert!(error.contains("languages[1]") && error.contains("cobol") && error.contains("python"), "{error}");
    let error = client.bad("references", json!({})).await;
    assert!(error.contains("name"), "{error}");
}

#[tokio::test]
async fn an_unknown_tool_is_a_protocol_error_and_the_session_goes_on() {
    let mut client = Client::over(&own_source()).await;
    let message = client.request("tools/call", json!({ "name": "rename", "arguments": {} })).await;
    assert_eq!(message["error"]["code"], -32602);
    assert!(message["error"]["message"].as_str().unwrap().contains("outline"), "{message}");
    for arguments in [json!([1]), json!("text"), json!(5)] {
        let message = client.request("tools/call", json!({ "name": "outline", "arguments": arguments })).await;
        assert!(message["error"]["code"].is_i64(), "{message}");
    }
    client.write("this is not json\n").await;
    client.good("outline", json!({ "path": "servers/mod.rs" })).await;
}

#[tokio::test]
async fn a_request_without_metadata_is_refused_in_a_stateless_session() {
    let mut client = Client::over(&own_source()).await;
    client.send(&json!({ "jsonrpc": "2.0", "id": 900, "method": "tools/list", "params": {} })).await;
    let message = client.answer(900).await;
    assert_eq!(message["error"]["code"], -32602, "{message}");
}

#[tokio::test]
async fn progress_of_a_folder_is_reported_to_who_asks_for_it() {
    let files: Vec<(String, String)> = (0..70).map(|n| (format!("f{n:02}.go"), "package p\n".to_owned())).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let folder = folder(&files);
    for era in [Era::Session, Era::Stateless] {
        let mut client = Client::start(CodeConfig::new([folder.path()]), era).await;
        client.good("outline", json!({})).await;
        assert!(client.notifications.is_empty(), "nobody asked: {:?}", client.notifications);

        let params = json!({ "name": "outline", "arguments": {}, "_meta": { "progressToken": "tell-me" } });
        client.request("tools/call", params).await;
        assert!(!client.notifications.is_empty());
        let mut last = 0.0;
        for notification in &client.notifications {
            assert_eq!(notification["method"], "notifications/progress");
            assert_eq!(notification["params"]["progressToken"], "tell-me");
            assert_eq!(notification["params"]["total"], 70.0);
            let progress = notification["params"]["progress"].as_f64().unwrap();
            assert!(progress > last, "{notification}");
            last = progress;
        }
        assert_eq!(last, 70.0);
    }
}

#[tokio::test]
async fn a_call_cancelled_in_the_middle_of_a_file_frees_its_place_for_the_next() {
    // There is one place only, and the last file alone would keep a query busy for hours.
    let deep = "`${".repeat(600_000);
    let mut files: Vec<(String, &str)> = (0..16).map(|n| (format!("f{n:02}.js"), "x")).collect();
    files.push(("z.js".to_owned(), &deep));
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
    let folder = folder(&files);
    let limits = CodeLimits { calls_max: 1, call_ms_max: 3_600_000, ..CodeLimits::default() };
    let mut client = Client::limited(folder.path(), limits).await;

    let arguments = json!({ "language": "javascript", "query": "(_ (_) @inner) @outer", "max_results": 1_000 });
    let params = json!({ "name": "query", "arguments": arguments, "_meta": { "progressToken": 1 } });
    let first = client.post("tools/call", params).await;
    let progress = client.notification().await;
    assert_eq!(progress["params"]["progress"], 16.0, "the last file is about to be read: {progress}");
    let params = json!({ "requestId": first, "reason": "no longer wanted" });
    client.send(&json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params })).await;

    let outline = client.good("outline", json!({ "text": "fn small() {}", "language": "rust" })).await;
    assert!(outline.text.contains("function small"), "{}", outline.text);
}

#[tokio::test]
async fn a_client_that_leaves_at_once_is_no_error() {
    let (ours, theirs) = tokio::io::duplex(64);
    drop(ours);
    let server = CodeServer::new(CodeConfig::new([own_source()])).unwrap();
    serve_io(server, theirs).await.unwrap();
}

#[tokio::test]
async fn a_process_serves_its_standard_streams_until_the_input_is_closed() {
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "protocol::serves_as_a_child_process"])
        .env(ROOT, own_source())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": { "name": "raw", "version": "1" },
    });
    let arguments = json!({ "path": "servers/mod.rs" });
    let params = json!({ "name": "outline", "arguments": arguments, "_meta": meta });
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
    input.write_all(format!("{request}\n").as_bytes()).await.unwrap();
    let answer = loop {
        let line = lines.next_line().await.unwrap().expect("the child answers");
        // The test harness of the child prints lines of its own, the last without its end.
        let Some(start) = line.find("{\"jsonrpc\"") else { continue };
        break serde_json::from_str::<Value>(&line[start..]).unwrap();
    };
    assert_eq!(answer["result"]["structuredContent"]["files"][0]["path"], "servers/mod.rs", "{answer}");
    drop(input);
    let ended = tokio::time::timeout(std::time::Duration::from_secs(60), child.wait()).await;
    assert!(ended.expect("the child ends with its input").unwrap().success());
}

#[tokio::test]
#[ignore = "the child of a_process_serves_its_standard_streams_until_the_input_is_closed"]
async fn serves_as_a_child_process() {
    let root = std::env::var(ROOT).expect("the parent names the root");
    serve_stdio(CodeServer::new(CodeConfig::new([root])).unwrap()).await.unwrap();
}
