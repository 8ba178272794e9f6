//! Random text and random arguments: no tool may panic, hang, leave its schema, or drop the session on any of them.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::client::{Client, folder};

const CASES: u32 = 48;
const LANGUAGES: [&str; 6] = ["rust", "python", "javascript", "typescript", "tsx", "go"];

/// Text that looks enough like source to come far into the grammars.
fn source() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "fn ",
        "def ",
        "class ",
        "impl ",
        "mod ",
        "trait ",
        "struct ",
        "enum ",
        "const ",
        "let ",
        "var ",
        "func ",
        "type ",
        "interface ",
        "function ",
        "=> ",
        "async ",
        "import ",
        "package p\n",
        "macro_rules! ",
        "unsafe ",
        "for ",
        "if ",
        "lambda ",
        "return ",
        "f ",
        "x",
        "A",
        "ä",
        "é\u{301}",
        "\u{1F600}",
        "(",
        ")",
        "{",
        "}",
        "[",
        "]",
        "<",
        ">",
        ":",
        ";",
        ",",
        ".",
        "=",
        "\"",
        "'",
        "`",
        "${",
        "#",
        "//",
        "/*",
        "*/",
        "\n",
        "\r\n",
        "\t",
        "  ",
        "\u{0}",
        "\u{FEFF}",
        "1",
        "r#\"",
        "f\"{",
        "@",
        "!",
        "?",
        "|",
        "&",
        "*",
        "\\",
    ]);
    prop_oneof![any::<String>(), prop::collection::vec(words, 0..60).prop_map(|words| words.concat())]
}

fn calls(text: &str, other: &str, number: usize) -> Vec<(&'static str, Value)> {
    vec![
        ("outline", json!({ "text": text })),
        ("symbols", json!({ "text": text, "name": other })),
        ("references", json!({ "text": text, "name": "x" })),
        ("references", json!({ "text": text, "name": other })),
        ("query", json!({ "text": text, "query": "(_ (_)? @in) @out" })),
        ("query", json!({ "text": text, "query": other })),
        ("parse", json!({ "text": text, "max_depth": number, "all_tokens": true, "from_line": number / 2 })),
        ("outline", json!({ "path": other, "glob": text, "cursor": text })),
    ]
}

#[test]
fn random_text_in_any_language_never_breaks_a_tool() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = folder(&[("a.rs", "fn a() {}")]);
    let client = std::cell::RefCell::new(runtime.block_on(Client::over(folder.path())));
    proptest!(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() }, |(
        text in source(),
        other in source(),
        number in 0_usize..40,
    )| {
        let client = &mut *client.borrow_mut();
        runtime.block_on(async {
            for language in LANGUAGES {
                for (tool, mut arguments) in calls(&text, &other, number) {
                    if arguments.get("path").is_none() {
                        arguments["language"] = language.into();
                    }
                    let called = client.call(tool, arguments).await;
                    assert!(!called.text.contains("please report"), "{tool} failed in {language}");
                }
            }
        });
    });
    runtime.block_on(client.into_inner().close());
}

#[test]
fn every_line_told_is_a_line_of_the_text() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let folder = folder(&[]);
    let client = std::cell::RefCell::new(runtime.block_on(Client::over(folder.path())));
    proptest!(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() }, |(text in source())| {
        let client = &mut *client.borrow_mut();
        runtime.block_on(async {
            let lines = text.matches('\n').count() as u64 + 1;
            for language in LANGUAGES {
                let symbols = client.good("symbols", json!({ "text": text, "language": language })).await;
                for symbol in symbols.structured["symbols"].as_array().unwrap() {
                    let (line, end) = (symbol["line"].as_u64().unwrap(), symbol["end_line"].as_u64().unwrap());
                    assert!(1 <= line && line <= lines && end <= lines, "{symbol} of {lines} lines");
                }
            }
        });
    });
}
