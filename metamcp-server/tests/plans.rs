//! Plans over real MCP servers, child processes of the real binary: by command line and by REST.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so at once")]

mod support;

use std::path::Path;

use serde_json::{Value, json};
use support::{Home, Serve, python};

const NEED: &str = "write a note into the book, and then print a large poster";

/// A configuration with the servers `notes` and `printer`.
fn config(home: &Home) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/printer.py");
    let printer = format!("[servers.printer]\ncommand = {:?}\nargs = [{script:?}]\n", python());
    home.notes_config(&printer).to_str().unwrap().to_owned()
}

#[test]
fn a_plan_is_shown_and_run_when_told_to() {
    let home = Home::new();
    let config = config(&home);
    let data = home.data_dir();
    let plan = |more: &[&str]| {
        let args = ["plan", "--config", &config, "--data-dir", data.to_str().unwrap()];
        home.run(args.into_iter().chain(more.iter().copied()))
    };
    let shown = plan(&[NEED, "--arg", "key=hello"]).exits(0);
    for word in ["1     notes/note", "2     printer/print_poster", "`words` is the text of step 1"] {
        assert!(shown.stdout.contains(word), "{word}: {shown:#?}");
    }
    assert!(home.notes().is_empty());
    let done = plan(&[NEED, "--arg", "key=hello", "--run"]).exits(0);
    assert!(done.stdout.contains("NOTE HELLO") && done.stderr.contains("printer/print_poster completed"), "{done:#?}");
    assert_eq!(home.notes(), ["note hello"]);
    // What is missing is told, and such a plan does not run; the caller puts it in.
    let open = plan(&[NEED, "--json"]).exits(1).json();
    assert_eq!(open["missing"], json!([{ "step": 1, "property": "key", "type": "string" }]));
    let file = home.file("plan.json", &open.to_string());
    let done = plan(&["--from", file.to_str().unwrap(), "--run"]).exits(2);
    assert!(done.stderr.contains("`key` is required"), "{done:#?}");
    let mut mended = open;
    mended["steps"][0]["input"]["key"] = "again".into();
    home.file("plan.json", &mended.to_string());
    let done = plan(&["--from", file.to_str().unwrap(), "--run", "--json"]).exits(0).json();
    assert_eq!((&done["state"], &done["tool"]), (&"completed".into(), &"printer/print_poster".into()));
    assert_eq!(home.notes(), ["note hello", "note again"]);
    assert!(plan(&["xyzzy"]).exits(1).stderr.contains("nothing fits"));
    assert!(plan(&["--from", "nowhere", "--run"]).exits(2).stderr.contains("nowhere"));
}

#[tokio::test]
async fn a_plan_is_asked_for_and_run_over_rest() {
    let home = Home::new();
    let config = config(&home);
    let server = Serve::start(&home, &["--config", &config]);
    let http = reqwest::Client::new();
    let post = async |path: &str, body: Value| {
        let answer = http.post(format!("{}{path}", server.url)).json(&body).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let (status, asked) = post("/api/plans", json!({ "need": NEED, "input": { "key": "a" } })).await;
    assert_eq!((status, &asked["batch"]), (200, &Value::Null), "{asked}");
    let plan = &asked["plan"];
    let run = json!({ "plan": plan, "idempotency_key": "k" });
    let (status, batch) = post("/api/plans/run", run.clone()).await;
    assert_eq!(status, 202, "{batch}");
    assert_eq!(post("/api/plans/run", run).await.1["id"], batch["id"]);
    let ended = async |batch: &Value| {
        let url = format!("{}/api/batches/{}?wait_ms=30000", server.url, batch["id"].as_str().unwrap());
        http.get(url).send().await.unwrap().json::<Value>().await.unwrap()["standing"].clone()
    };
    assert_eq!(ended(&batch).await["states"], json!({ "completed": 2 }));
    // Asked for `auto`, it runs at once, unless something is missing.
    let (status, auto) = post("/api/plans", json!({ "need": NEED, "input": { "key": "b" }, "run": "auto" })).await;
    assert_eq!((status, ended(&auto["batch"]).await["states"].clone()), (202, json!({ "completed": 2 })), "{auto}");
    let (status, open) = post("/api/plans", json!({ "need": NEED, "run": "auto" })).await;
    assert_eq!((status, &open["batch"], &open["plan"]["missing"][0]["property"]), (200, &Value::Null, &"key".into()));
    assert_eq!(home.notes(), ["note a", "note b"]);
    for (change, word) in [
        (json!([]), "1 to 4 steps"),
        (json!([{ "tool": "nobody/x" }]), "not configured"),
        (json!([{ "tool": "notes/note", "input": { "key": 7 } }]), "must be of type string"),
        (json!([{ "tool": "notes/note", "input": { "key": { "$ref": "step://1" } } }]), "earlier step"),
        (json!([{ "tool": "notes/note", "digest": plan["steps"][1]["digest"], "input": { "key": "c" } }]), "changed"),
    ] {
        let (status, problem) = post("/api/plans/run", json!({ "plan": { "steps": change } })).await;
        assert!(status == 422 && problem["detail"].as_str().unwrap().contains(word), "{word}: {status} {problem}");
    }
    assert_eq!(home.notes().len(), 2);
}
