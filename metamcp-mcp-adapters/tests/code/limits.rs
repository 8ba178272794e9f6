//! Every bound is met on purpose: deep and large source, time, results, bytes, queries. What counts is a clear answer
//! and a session that goes on.

use metamcp_mcp_adapters::servers::code::CodeLimits;
use serde_json::json;

use crate::client::{Client, each, folder};

/// Levels of nesting no recursive walk would survive on a thread's stack.
const BOMB_LEVELS: usize = 100_000;

#[tokio::test]
async fn source_nested_a_hundred_thousand_deep_is_survived_by_every_tool() {
    let bombs = [
        ("rust", format!("fn f() {{ {}1{} }}", "(".repeat(BOMB_LEVELS), ")".repeat(BOMB_LEVELS))),
        ("rust", "(".repeat(BOMB_LEVELS)),
        ("rust", "mod m { ".repeat(BOMB_LEVELS / 4)),
        ("rust", format!("{}fn f() {{}}{}", "mod m { ".repeat(20_000), "}".repeat(20_000))),
        ("python", format!("x = {}1{}", "(".repeat(BOMB_LEVELS), ")".repeat(BOMB_LEVELS))),
        ("python", "f'{f\"{".repeat(20_000)),
        ("python", (0..1_000).map(|level| format!("{}class C:\n", " ".repeat(level))).collect()),
        ("javascript", format!("{}{}", "[".repeat(BOMB_LEVELS), "]".repeat(BOMB_LEVELS))),
        ("javascript", "`${".repeat(BOMB_LEVELS)),
        ("typescript", format!("let x: {}number{} = 1", "Array<".repeat(20_000), ">".repeat(20_000))),
        ("tsx", "<a>".repeat(BOMB_LEVELS)),
        ("go", format!("package p\nvar x = {}1{}", "(".repeat(BOMB_LEVELS), ")".repeat(BOMB_LEVELS))),
    ];
    let folder = folder(&[]);
    let limits = CodeLimits { call_ms_max: 1_000, ..CodeLimits::default() };
    let mut client = Client::limited(folder.path(), limits).await;
    for (language, text) in bombs {
        for (tool, mut arguments) in [
            ("outline", json!({})),
            ("symbols", json!({})),
            ("references", json!({ "name": "f" })),
            ("query", json!({ "query": "(_ (_) @inner) @outer" })),
            ("parse", json!({ "max_depth": 1_000 })),
        ] {
            arguments["text"] = text.as_str().into();
            arguments["language"] = language.into();
            let called = client.call(tool, arguments).await;
            // Either there is an answer or the time was up; both are told in words.
            assert!(
                !called.is_error || called.text.contains("longer than 1000 ms"),
                "{tool} {language}: {}",
                called.text
            );
        }
    }
}

#[tokio::test]
async fn definitions_nested_beyond_the_limit_are_told_at_the_limit() {
    let limits = CodeLimits { depth_max: 3, ..CodeLimits::default() };
    let folder = folder(&[]);
    let mut client = Client::limited(folder.path(), limits).await;
    let text = "mod a { mod b { mod c { mod d { fn e() {} } } } }";
    let outline = client.good("outline", json!({ "text": text, "language": "rust" })).await;
    let b = &outline.structured["files"][0]["items"][0]["children"][0];
    assert_eq!(b["name"], "b");
    assert_eq!(each(&b["children"], "name"), ["c", "d", "e"]);
    let symbols = client.good("symbols", json!({ "text": text, "language": "rust", "name": "e" })).await;
    assert_eq!(symbols.structured["symbols"][0]["container"], "a::b");
}

#[tokio::test]
async fn a_file_that_is_too_large_is_refused_alone_and_skipped_in_a_folder() {
    let folder =
        folder(&[("big.rs", &format!("// {}\nfn big() {{}}", "x".repeat(2_000))), ("small.rs", "fn small() {}")]);
    let limits = CodeLimits { file_bytes_max: 1_000, text_bytes_max: 100, ..CodeLimits::default() };
    let mut client = Client::limited(folder.path(), limits).await;
    let error = client.bad("parse", json!({ "path": "big.rs" })).await;
    assert!(error.contains("big.rs") && error.contains("larger than the 1000 bytes"), "{error}");
    let symbols = client.good("symbols", json!({})).await;
    assert_eq!(each(&symbols.structured["symbols"], "name"), ["small"]);
    assert_eq!(each(&symbols.structured["skipped"], "path"), ["big.rs"]);
    let error = client.bad("parse", json!({ "text": " ".repeat(101), "language": "go" })).await;
    assert!(error.contains("101 bytes"), "{error}");
}

#[tokio::test]
async fn a_call_ends_when_its_time_is_up() {
    // Half a megabyte of broken brackets takes a parser far longer than a millisecond.
    let text = "([{<a=".repeat(100_000);
    let folder = folder(&[("a.js", &text), ("b.js", "function b() {}")]);
    let limits = CodeLimits { call_ms_max: 1, ..CodeLimits::default() };
    let mut client = Client::limited(folder.path(), limits).await;
    for tool in ["outline", "symbols", "parse"] {
        let error = client.bad(tool, json!({ "text": text, "language": "javascript" })).await;
        assert!(error.contains("longer than 1 ms"), "{tool}: {error}");
        let error = client.bad(tool, json!({ "path": "a.js" })).await;
        assert!(error.contains("longer than 1 ms"), "{tool}: {error}");
    }
}

#[tokio::test]
async fn a_file_that_takes_too_long_does_not_stop_a_folder_from_being_read_on() {
    let text = "([{<a=".repeat(340_000);
    let folder = folder(&[("a.js", &text), ("b.js", "function b() {}")]);
    let limits = CodeLimits { call_ms_max: 400, ..CodeLimits::default() };
    let mut client = Client::limited(folder.path(), limits).await;
    let first = client.good("symbols", json!({})).await;
    assert_eq!(each(&first.structured["skipped"], "path"), ["a.js"], "{}", first.text);
    assert_eq!(first.structured["truncated"], true);
    // A cursor is good for any server over the same folder; this one is in no hurry.
    let mut client = Client::over(folder.path()).await;
    let second = client.good("symbols", json!({ "cursor": first.structured["next_cursor"] })).await;
    assert_eq!(each(&second.structured["symbols"], "name"), ["b"]);
    assert_eq!(second.structured["truncated"], false);
}

#[tokio::test]
async fn a_folder_with_too_many_entries_says_so() {
    let folder = folder(&[("a.rs", "fn a() {}"), ("b.rs", "fn b() {}"), ("c.rs", "fn c() {}")]);
    let limits = CodeLimits { entries_max: 3, ..CodeLimits::default() };
    let mut client = Client::limited(folder.path(), limits).await;
    let symbols = client.good("symbols", json!({})).await;
    // The folder itself is the first entry.
    assert_eq!(each(&symbols.structured["symbols"], "name"), ["a", "b"]);
    assert_eq!(symbols.structured["truncated"], true);
    assert!(symbols.text.contains("first 3 entries"), "{}", symbols.text);
}

#[tokio::test]
async fn a_large_syntax_tree_is_cut_and_says_how_to_see_the_rest() {
    let text = "let a = 1;\n".repeat(5_000);
    let folder = folder(&[("a.js", &text)]);
    let limits = CodeLimits { output_bytes_max: 30_000, ..CodeLimits::default() };
    let mut client = Client::limited(folder.path(), limits).await;
    let whole = client.good("parse", json!({ "path": "a.js" })).await;
    assert_eq!(whole.structured["truncated"], true);
    assert!(whole.text.len() < 12_000 && whole.text.contains("from_line"), "{}", whole.text.len());
    let part = client.good("parse", json!({ "path": "a.js", "from_line": 4_000, "to_line": 4_001 })).await;
    assert_eq!(part.structured["truncated"], false);
    let tree = part.structured["tree"].as_str().unwrap();
    assert!(tree.contains("[4000:1]-[4000:11]") && !tree.contains("[3999:1]"), "{tree}");
    assert_eq!(tree.matches('(').count(), tree.matches(')').count());
}

#[tokio::test]
async fn a_name_or_line_of_any_length_is_answered_short() {
    let name = "n".repeat(100_000);
    let folder = folder(&[]);
    let mut client = Client::over(folder.path()).await;
    let text = format!("function {name}() {{}}; {} short()", "1;".repeat(50_000));
    for (tool, own) in [
        ("outline", json!({})),
        ("symbols", json!({})),
        ("references", json!({ "name": "short" })),
        ("query", json!({ "query": "(program) @all (identifier) @name" })),
        ("parse", json!({ "max_depth": 2 })),
    ] {
        let mut arguments = own;
        arguments["text"] = text.as_str().into();
        arguments["language"] = "javascript".into();
        if tool == "parse" {
            arguments["to_line"] = 1.into();
        }
        let called = client.good(tool, arguments).await;
        if tool != "parse" {
            assert!(called.text.len() < 5_000, "{tool}: {}", called.text.len());
        }
        assert!(called.text.len() < 1_000_000, "{tool}: {}", called.text.len());
    }
}

#[tokio::test]
async fn a_broken_query_is_told_with_row_column_and_reason() {
    let folder = folder(&[("a.rs", "fn a() {}")]);
    let mut client = Client::over(folder.path()).await;
    for (query, row_column, reason) in [
        ("(function_item\n  name: (identifier @x", "row 2, column", "syntax error"),
        ("\n (no_such_node) @x", "row 2, column 3", "no node of this kind: \"no_such_node\""),
        ("(function_item nome: (_) @x)", "row 1, column 16", "no field of this name: \"nome\""),
        ("((identifier) @x (#eq? @y \"a\"))", "row 1, column", "no capture of this name"),
        ("((identifier) @x (#match? @x \"(\"))", "row 1", "wrong predicate"),
        ("((identifier) @x (#eq? @x))", "row 1", "wrong predicate"),
        ("(function_item (source_file)) @x", "row 1", "can never match"),
    ] {
        let error = client.bad("query", json!({ "path": "a.rs", "query": query })).await;
        assert!(error.contains(row_column) && error.contains(reason), "{query}: {error}");
    }
    for (query, reason) in [
        ("", "is empty"),
        (" \n", "is empty"),
        ("(function_item)", "captures nothing"),
        (&*format!("{}(_) @x{}", "(_ ".repeat(5_000 / 4), ")".repeat(5_000 / 4)), "nests deeper than"),
        (&*"(identifier) @x ".repeat(1_000), "bytes, more than"),
        (&*format!("((identifier) @x {})", "(#match? @x \"a\")".repeat(17)), "more than 16 regular expressions"),
    ] {
        let error = client.bad("query", json!({ "path": "a.rs", "query": query })).await;
        assert!(error.contains(reason), "{query}: {error}");
    }
    let error = client.bad("query", json!({ "query": "(_) @x" })).await;
    assert!(error.contains("needs language"), "{error}");
}

#[tokio::test]
async fn a_query_that_explodes_is_stopped_or_says_what_it_lost() {
    let folder = folder(&[]);
    let limits = CodeLimits { call_ms_max: 2_000, query_matches_max: 16, ..CodeLimits::default() };
    let mut client = Client::limited(folder.path(), limits).await;
    let text = format!("x = [{}]", "a, ".repeat(3_000));
    let query = "(list (identifier) @a (identifier) @b (identifier) @c (identifier) @d)";
    let called = client.call("query", json!({ "text": text, "language": "python", "query": query })).await;
    if called.is_error {
        assert!(called.text.contains("longer than 2000 ms"), "{}", called.text);
    } else {
        assert_eq!(called.structured["truncated"], true, "{}", called.text);
    }
}
