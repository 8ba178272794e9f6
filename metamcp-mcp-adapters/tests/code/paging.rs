//! Answers in pages: whatever the size of a page, all pages together tell what one large page tells, in the same
//! order, each thing once.

use metamcp_mcp_adapters::servers::code::CodeLimits;
use serde_json::{Value, json};

use crate::client::{Client, each, folder};

/// More pages than any case here needs.
const PAGES_MAX: usize = 200;

const FILES: &[(&str, &str)] = &[
    ("a.rs", "struct A; impl A { fn one(&self) { two(); two() } fn two() {} } mod m { fn three() { two() } }"),
    ("b/c.rs", "fn two() {} fn four() { two() }"),
    ("b.rs", "// nothing defined here"),
    ("c.py", "class C:\n  def two(self):\n    two()\n  def five(self): pass\n"),
];

async fn pages(client: &mut Client, tool: &str, mut arguments: Value) -> Vec<Value> {
    let mut pages = Vec::new();
    loop {
        let called = client.good(tool, arguments.clone()).await;
        let next = called.structured.get("next_cursor").cloned();
        assert_eq!(called.structured["truncated"], next.is_some());
        assert_eq!(called.text.contains("call again with cursor"), next.is_some());
        pages.push(called.structured);
        assert!(pages.len() < PAGES_MAX, "the pages of {tool} never end");
        match next {
            Some(cursor) => arguments["cursor"] = cursor,
            None => return pages,
        }
    }
}

#[tokio::test]
async fn pages_of_any_size_tell_the_same_as_one() {
    let folder = folder(FILES);
    let mut client = Client::over(folder.path()).await;
    for (tool, list, own) in [
        ("symbols", "symbols", json!({})),
        ("references", "references", json!({ "name": "two" })),
        ("query", "captures", json!({ "language": "rust", "query": "(call_expression (_) @callee) @call" })),
    ] {
        let whole = client.good(tool, own.clone()).await.structured[list].clone();
        assert!(whole.as_array().unwrap().len() >= 6, "{tool}: {whole}");
        for size in 1..5 {
            let mut arguments = own.clone();
            arguments["max_results"] = size.into();
            let pages = pages(&mut client, tool, arguments).await;
            assert!(pages.iter().all(|page| page[list].as_array().unwrap().len() <= size));
            let together: Vec<Value> = pages.iter().flat_map(|page| page[list].as_array().unwrap().clone()).collect();
            assert_eq!(Value::from(together), whole, "{tool} in pages of {size}");
        }
    }
}

#[tokio::test]
async fn pages_limited_by_bytes_or_files_tell_the_same_as_one() {
    let folder = folder(FILES);
    let whole = Client::over(folder.path()).await.good("symbols", json!({})).await.structured["symbols"].clone();
    for limits in [
        CodeLimits { output_bytes_max: 1, ..CodeLimits::default() },
        CodeLimits { output_bytes_max: 700, ..CodeLimits::default() },
        CodeLimits { files_max: 1, ..CodeLimits::default() },
        CodeLimits { results_max: 2, ..CodeLimits::default() },
    ] {
        let mut client = Client::limited(folder.path(), limits.clone()).await;
        let pages = pages(&mut client, "symbols", json!({})).await;
        assert!(pages.len() > 1, "{limits:?}");
        let together: Vec<Value> = pages.iter().flat_map(|page| page["symbols"].as_array().unwrap().clone()).collect();
        assert_eq!(Value::from(together), whole, "{limits:?}");
    }
}

#[tokio::test]
async fn a_page_of_an_outline_repeats_what_is_around_its_first_definition() {
    fn paths(items: &Value, above: &str, into: &mut Vec<String>) {
        for item in items.as_array().into_iter().flatten() {
            let path = format!("{above}/{}", item["name"].as_str().unwrap());
            into.push(path.clone());
            paths(&item["children"], &path, into);
        }
    }
    let folder = folder(FILES);
    let mut client = Client::over(folder.path()).await;
    let named = |page: &Value| {
        let mut all = Vec::new();
        for file in page["files"].as_array().unwrap() {
            paths(&file["items"], file["path"].as_str().unwrap(), &mut all);
        }
        all
    };
    let whole = named(&client.good("outline", json!({})).await.structured);
    assert_eq!(
        whole,
        [
            "a.rs/A",
            "a.rs/A",
            "a.rs/A/one",
            "a.rs/A/two",
            "a.rs/m",
            "a.rs/m/three",
            "b/c.rs/two",
            "b/c.rs/four",
            "c.py/C",
            "c.py/C/two",
            "c.py/C/five",
        ]
    );
    let pages = pages(&mut client, "outline", json!({ "max_results": 1 })).await;
    assert_eq!(pages.len(), whole.len());
    for (page, expected) in pages.iter().zip(&whole) {
        let named = named(page);
        assert_eq!(named.last(), Some(expected));
        assert!(named.iter().all(|name| expected.starts_with(name)), "{named:?}");
    }
}

#[tokio::test]
async fn a_cursor_of_another_call_is_refused() {
    let folder = folder(FILES);
    let mut client = Client::over(folder.path()).await;
    for cursor in ["", "nonsense", "1@", "99999999999999999999999@a.rs"] {
        let error = client.bad("symbols", json!({ "cursor": cursor })).await;
        assert!(error.contains("cursor"), "{error}");
    }
    let error = client.bad("symbols", json!({ "path": "a.rs", "cursor": "1@c.py" })).await;
    assert!(error.contains("another path"), "{error}");
    // Beyond the end there is nothing more, and no harm.
    let beyond = client.good("symbols", json!({ "cursor": "0@zzz" })).await;
    assert_eq!(each(&beyond.structured["symbols"], "name"), [""; 0]);
    let beyond = client.good("outline", json!({ "cursor": "1000@a.rs" })).await;
    assert_eq!(each(&beyond.structured["files"], "path"), ["b/c.rs", "c.py"]);
}
