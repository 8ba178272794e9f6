//! What may be read: paths inside and outside the roots, links, ignored and hidden files, file choice by language and
//! pattern, and files that are no source text.

use metamcp_mcp_adapters::servers::code::{CodeConfig, CodeLimits, CodeServer, CodeServerError};
use serde_json::{Value, json};

use crate::client::{Client, Era, each, folder};

#[tokio::test]
async fn a_path_outside_the_roots_is_refused_and_the_roots_are_named() {
    let outside = folder(&[("secret.rs", "fn secret() {}")]);
    let inside = folder(&[("a/ok.rs", "fn ok() {}")]);
    let mut client = Client::over(inside.path()).await;
    let root = inside.path().display().to_string();
    let secret = outside.path().join("secret.rs").display().to_string();
    let name = outside.path().file_name().unwrap().to_str().unwrap();
    for path in [
        secret.clone(),
        outside.path().display().to_string(),
        "/etc".to_owned(),
        "..".to_owned(),
        format!("../{name}/secret.rs"),
        format!("a/../../{name}/secret.rs"),
        format!("{root}/../{name}/secret.rs"),
        // A root's name as the start of another folder's name is not that root.
        format!("{root}-other/x.rs"),
    ] {
        for (tool, mut arguments) in [
            ("outline", json!({})),
            ("parse", json!({})),
            ("symbols", json!({})),
            ("references", json!({ "name": "secret" })),
            ("query", json!({ "query": "(_) @a", "language": "rust" })),
        ] {
            arguments["path"] = path.clone().into();
            let error = client.bad(tool, arguments).await;
            assert!(error.contains(&root), "{tool} {path}: {error}");
            assert!(!error.contains("fn secret"), "{error}");
        }
    }
    // `..` is refused wherever it leads, so that no reader has to follow it in the mind.
    let error = client.bad("outline", json!({ "path": "a/../a/ok.rs" })).await;
    assert!(error.contains("has `..`"), "{error}");
    // Whether something exists outside is not told.
    let present = client.bad("outline", json!({ "path": secret })).await;
    let absent = client.bad("outline", json!({ "path": secret.replace("secret", "absent") })).await;
    assert_eq!(present.replace("secret", "absent"), absent);
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_that_leads_outside_is_refused_and_not_followed_in_a_folder() {
    use std::os::unix::fs::symlink;
    let outside = folder(&[("secret.rs", "fn secret() {}")]);
    let inside = folder(&[("real.rs", "fn real() {}")]);
    symlink(outside.path().join("secret.rs"), inside.path().join("link.rs")).unwrap();
    symlink(outside.path(), inside.path().join("linked")).unwrap();
    symlink(inside.path().join("real.rs"), inside.path().join("alias.rs")).unwrap();
    symlink(inside.path(), inside.path().join("loop")).unwrap();
    let mut client = Client::over(inside.path()).await;
    for path in ["link.rs", "linked", "linked/secret.rs"] {
        let error = client.bad("outline", json!({ "path": path })).await;
        assert!(error.contains("outside the allowed roots"), "{path}: {error}");
    }
    let outline = client.good("outline", json!({})).await;
    assert_eq!(each(&outline.structured["files"], "path"), ["real.rs"]);
    // A link that stays inside may be named.
    let alias = client.good("outline", json!({ "path": "alias.rs" })).await;
    assert_eq!(each(&alias.structured["files"], "path"), ["real.rs"]);
}

#[tokio::test]
async fn a_relative_and_an_absolute_path_reach_the_same_file() {
    let folder = folder(&[("src/a.py", "def f(): pass")]);
    let mut client = Client::over(folder.path()).await;
    let relative = client.good("outline", json!({ "path": "src/a.py" })).await;
    let absolute = client.good("outline", json!({ "path": folder.path().join("src/a.py") })).await;
    assert_eq!(relative.structured, absolute.structured);
    let error = client.bad("outline", json!({ "path": "src/b.py" })).await;
    assert!(error.contains("no file or folder `src/b.py`"), "{error}");
    let error = client.bad("outline", json!({ "path": "src/a.py/b" })).await;
    assert!(error.contains("src/a.py/b"), "{error}");
    client.bad("outline", json!({ "path": "a\u{0}b" })).await;
}

#[tokio::test]
async fn ignored_and_hidden_files_are_left_out_of_a_folder() {
    let folder = folder(&[
        (".gitignore", "/build/\n*.gen.ts\n"),
        ("build/out.js", "function built() {}"),
        ("a.gen.ts", "function generated() {}"),
        (".hidden/h.rs", "fn hidden() {}"),
        ("src/.gitignore", "skip.go\n"),
        ("src/skip.go", "package p"),
        ("src/keep.go", "package p\nfunc Keep() {}"),
    ]);
    let mut client = Client::over(folder.path()).await;
    let symbols = client.good("symbols", json!({})).await;
    assert_eq!(each(&symbols.structured["symbols"], "name"), ["Keep"]);
    // A pattern chooses among these files and never brings an ignored one back.
    let chosen = client.good("symbols", json!({ "glob": "*" })).await;
    assert_eq!(each(&chosen.structured["symbols"], "name"), ["Keep"]);
}

#[tokio::test]
async fn files_are_chosen_by_language_and_pattern() {
    let folder = folder(&[
        ("a.rs", "fn a() {}"),
        ("b.py", "def b(): pass"),
        ("c.go", "package p\nfunc c() {}"),
        ("tests/d.rs", "fn d() {}"),
        ("readme.md", "fn e() {}"),
    ]);
    let mut client = Client::over(folder.path()).await;
    let mut names = async |arguments: Value| {
        let symbols = client.good("symbols", arguments).await;
        each(&symbols.structured["symbols"], "name").join(" ")
    };
    assert_eq!(names(json!({})).await, "a b c d");
    assert_eq!(names(json!({ "language": "rust" })).await, "a d");
    assert_eq!(names(json!({ "languages": ["py", "golang"] })).await, "b c");
    assert_eq!(names(json!({ "glob": "*.rs" })).await, "a d");
    assert_eq!(names(json!({ "glob": "/*.rs" })).await, "a");
    assert_eq!(names(json!({ "glob": "tests/**" })).await, "d");
    assert_eq!(names(json!({ "path": "tests" })).await, "d");
    assert_eq!(names(json!({ "glob": "*.nothing" })).await, "");
    for glob in ["", "!a.rs", "a\nb", "{a"] {
        client.bad("symbols", json!({ "glob": glob })).await;
    }
}

#[tokio::test]
async fn the_language_of_a_file_is_told_by_its_ending_or_by_the_caller() {
    let folder = folder(&[("script", "def f(): pass"), ("x.txt", "fn x() {}")]);
    let mut client = Client::over(folder.path()).await;
    let error = client.bad("outline", json!({ "path": "script" })).await;
    assert!(error.contains("rust, python, javascript, typescript, tsx, go"), "{error}");
    let outline = client.good("outline", json!({ "path": "script", "language": "python" })).await;
    assert_eq!(outline.structured["files"][0]["items"][0]["name"], "f");
    let error = client.bad("outline", json!({ "text": "fn x() {}" })).await;
    assert!(error.contains("needs language"), "{error}");
    let error = client.bad("outline", json!({ "text": "fn x() {}", "path": "x.txt", "language": "rust" })).await;
    assert!(error.contains("not both"), "{error}");
    let error = client.bad("outline", json!({ "text": "x", "language": "brainfuck" })).await;
    assert!(error.contains("brainfuck") && error.contains("python"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_not_utf_8_is_refused_alone_and_skipped_in_a_folder() {
    let folder = folder(&[("good.rs", "fn good() {}")]);
    std::fs::write(folder.path().join("latin.rs"), b"// caf\xe9\nfn f() {}").unwrap();
    let mut client = Client::over(folder.path()).await;
    let error = client.bad("outline", json!({ "path": "latin.rs" })).await;
    assert!(error.contains("latin.rs") && error.contains("not UTF-8"), "{error}");
    let outline = client.good("outline", json!({})).await;
    assert_eq!(each(&outline.structured["files"], "path"), ["good.rs"]);
    assert_eq!(each(&outline.structured["skipped"], "path"), ["latin.rs"]);
    assert!(outline.text.contains("skipped latin.rs: is not UTF-8"), "{}", outline.text);
}

#[tokio::test]
async fn an_empty_folder_is_an_answer() {
    let folder = folder(&[("readme.txt", "nothing here")]);
    let mut client = Client::over(folder.path()).await;
    for (tool, arguments, list) in [
        ("outline", json!({}), "files"),
        ("symbols", json!({}), "symbols"),
        ("references", json!({ "name": "x" }), "references"),
        ("query", json!({ "query": "(_) @a", "language": "go" }), "captures"),
    ] {
        let called = client.good(tool, arguments).await;
        assert_eq!(called.structured[list], json!([]), "{tool}");
        assert_eq!(called.structured["truncated"], false, "{tool}");
        assert!(called.text.contains("no source file"), "{}", called.text);
    }
    let error = client.bad("parse", json!({ "path": "." })).await;
    assert!(error.contains("folder"), "{error}");
    client.bad("parse", json!({})).await;
}

#[tokio::test]
async fn files_of_several_roots_are_found_and_told_apart() {
    let first = folder(&[("one.rs", "fn one() {}")]);
    let second = folder(&[("two.rs", "fn two() {}")]);
    let config = CodeConfig::new([first.path(), second.path()]);
    let mut client = Client::start(config, Era::Session).await;
    let two = client.good("outline", json!({ "path": "two.rs" })).await;
    let path = two.structured["files"][0]["path"].as_str().unwrap().to_owned();
    assert!(path.ends_with("two.rs") && std::path::Path::new(&path).is_absolute(), "{path}");
    client.good("outline", json!({ "path": path })).await;
    let all = client.good("symbols", json!({ "path": second.path() })).await;
    assert_eq!(each(&all.structured["symbols"], "path"), [path]);
}

#[test]
fn a_server_without_a_usable_root_or_limit_is_not_built() {
    let missing = CodeServer::new(CodeConfig::new(["/nonexistent/folder"])).unwrap_err();
    assert!(missing.to_string().contains("/nonexistent/folder"), "{missing}");
    assert!(matches!(CodeServer::new(CodeConfig::new([""; 0])), Err(CodeServerError::NoRoots)));
    let here = env!("CARGO_MANIFEST_DIR");
    for limits in [
        CodeLimits { results_max: 0, ..CodeLimits::default() },
        CodeLimits { depth_max: 1_000, ..CodeLimits::default() },
        CodeLimits { query_matches_max: 70_000, ..CodeLimits::default() },
    ] {
        let refused = CodeServer::new(CodeConfig { limits, ..CodeConfig::new([here]) });
        assert!(matches!(refused, Err(CodeServerError::Limit { .. })), "{refused:?}");
    }
}
