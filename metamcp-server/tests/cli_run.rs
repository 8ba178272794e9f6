//! Commands with an engine of their own in the process: run, route, tasks, servers and demo, without any server.

mod support;

use support::{Home, eventually, finish, signal, spawn};

const SNIPPET: &str = r#"{"text":"fn here() {}\n","language":"rust"}"#;

#[test]
fn a_need_in_words_is_served_and_its_result_is_on_standard_output() {
    let home = Home::new();
    let done = home.run(["run", "--memory", "show the syntax tree of this snippet", "--input", SNIPPET]).exits(0);
    assert!(done.stdout.contains("function_item"), "{done:#?}");
    assert!(done.stderr.contains("match   code/parse") && done.stderr.contains("completed"), "{done:#?}");
    assert!(!home.data_dir().exists());
}

#[test]
fn fields_of_the_input_can_be_given_one_by_one_and_from_standard_input() {
    let home = Home::new();
    let args = ["run", "--memory", "--tool", "code/parse", "--input", "-", "--arg", "language=rust"];
    let done = home.run_with(args, r#"{"text":"struct S;"}"#).exits(0);
    assert!(done.stdout.contains("struct_item"), "{done:#?}");
}

#[test]
fn with_json_the_document_of_the_ended_task_is_all_that_is_printed() {
    let home = Home::new();
    let done =
        home.run(["run", "--memory", "--json", "--tool", "code/parse", "--input", SNIPPET, "--label", "a=b"]).exits(0);
    let job = done.json();
    assert_eq!((&job["state"], &job["tool"]), (&"completed".into(), &"code/parse".into()));
    assert_eq!(job["labels"]["a"], "b");
    assert!(job["result"].as_str().unwrap().starts_with("res://local/"));
}

#[test]
fn exit_codes_tell_a_failed_tool_from_a_refused_request() {
    let home = Home::new();
    // The tool itself says that there is no such file.
    let done = home.run(["run", "--memory", "--tool", "code/outline", "--arg", "path=nowhere.rs"]).exits(1);
    assert!(done.stderr.contains("the tool says that it failed"), "{done:#?}");
    for (args, word) in [
        (vec!["--tool", "code/frobnicate"], "has no tool `frobnicate`"),
        (vec!["--tool", "nobody/outline"], "server `nobody` is not configured"),
        (vec!["--tool", "code/parse", "--arg", "text:=7"], "text"),
        (vec!["--tool", "code/parse", "--input", "{"], "not JSON"),
        (vec!["--tool", "code/parse", "--input", "[]"], "input"),
        (vec!["--tool", "code/parse", "--priority", "10"], "priority"),
    ] {
        let done = home.run(["run", "--memory"].into_iter().chain(args.iter().copied())).exits(2);
        assert!(done.stderr.contains(word) && done.stdout.is_empty(), "{word}: {done:#?}");
    }
}

#[test]
fn a_task_run_without_a_server_is_kept_and_shown_by_the_next_command() {
    let home = Home::new();
    let data = home.data_dir();
    let data = data.to_str().unwrap();
    home.run(["run", "--data-dir", data, "--tool", "code/parse", "--input", SNIPPET]).exits(0);
    let list = home.run(["tasks", "list", "--data-dir", data, "--json"]).exits(0).json();
    assert_eq!(list.as_array().unwrap().len(), 1);
    let id = list[0]["id"].as_str().unwrap();
    let shown = home.run(["tasks", "show", id, "--data-dir", data]).exits(0);
    assert!(shown.stdout.contains("function_item") && shown.stderr.contains("res://local/"), "{shown:#?}");
    let table = home.run(["tasks", "list", "--data-dir", data, "--state", "completed"]).exits(0);
    assert!(table.stdout.starts_with("ID ") && table.stdout.contains("code/parse"), "{table:#?}");
    let done = home.run(["tasks", "retry", id, "--data-dir", data]).exits(2);
    assert!(done.stderr.contains("only a failed task can be retried"), "{done:#?}");
    let done = home.run(["tasks", "cancel", id, "--data-dir", data]).exits(2);
    assert!(done.stderr.contains("has ended"), "{done:#?}");
    let done = home.run(["tasks", "answer", id, "--responses", r#"{"a":1}"#, "--data-dir", data]).exits(2);
    assert!(done.stderr.contains("asks for no input"), "{done:#?}");
    let done = home.run(["tasks", "show", "01997f3e-5c1a-7d3e-9c55-0a1b2c3d4e5f", "--data-dir", data]).exits(2);
    assert!(done.stderr.contains("not found"), "{done:#?}");
}

#[test]
fn a_task_nobody_waits_for_stays_queued_and_can_be_cancelled() {
    let home = Home::new();
    let data = home.data_dir();
    let data = data.to_str().unwrap();
    let args =
        ["run", "--no-wait", "--data-dir", data, "--tool", "code/parse", "--input", SNIPPET, "--idempotency-key", "k"];
    let accepted = home.run(args).exits(0);
    assert!(accepted.stderr.contains("nobody works here"), "{accepted:#?}");
    let id = accepted.stdout.trim();
    let again = home.run(args).exits(0);
    assert_eq!(again.stdout.trim(), id);
    assert!(again.stderr.contains("known"), "{again:#?}");
    let job = home.run(["tasks", "cancel", id, "--data-dir", data, "--json"]).exits(0).json();
    assert_eq!(job["state"], "cancelled");
}

/// The other task's call takes longer than the task that the command came for: it is not cut off.
#[test]
fn a_run_without_a_server_lets_calls_of_other_tasks_end() {
    let home = Home::new();
    let config = home.notes_config("");
    let data = home.data_dir();
    let common = ["--config", config.to_str().unwrap(), "--data-dir", data.to_str().unwrap()];
    let other = ["run", "--no-wait", "--tool", "notes/note", "--arg", "key=other", "--arg", "pause_ms:=3000"];
    let other = home.run(other.into_iter().chain(common)).exits(0).stdout;
    let own = ["run", "--tool", "code/parse", "--input", SNIPPET];
    let done = home.run(own.into_iter().chain(common)).exits(0);
    assert!(done.stderr.contains("server.drain_s"), "{done:#?}");
    let shown = home.run(["tasks", "show", other.trim(), "--json"].into_iter().chain(common)).exits(0).json();
    assert_eq!(shown["state"], "completed", "{shown}");
    assert_eq!(home.notes(), ["note other"]);
}

#[test]
fn memory_wins_over_a_server_of_the_environment() {
    let home = Home::new();
    let mut command = home.command(["run", "--memory", "--tool", "code/parse", "--input", SNIPPET]);
    let done = finish(spawn(command.env("METAMCP_SERVER", "http://127.0.0.1:1")), "").exits(0);
    assert!(done.stdout.contains("function_item"), "{done:#?}");
}

#[test]
fn a_route_is_shown_with_scores_reasons_and_rejections_and_runs_nothing() {
    let home = Home::new();
    let data = home.data_dir();
    let data = data.to_str().unwrap();
    let words = ["route", "where is this function used", "--data-dir", data];
    let done =
        home.run(words.into_iter().chain(["--arg", "name=here", "--arg", "text=x", "--arg", "language=rust"])).exits(0);
    assert!(done.stdout.starts_with("SCORE") && done.stdout.contains("code/references"), "{done:#?}");
    let route = home.run(words.into_iter().chain(["--json"])).exits(0).json();
    // Without a name it cannot be a search for uses.
    let rejected = route["rejected"].as_array().unwrap();
    assert!(
        rejected.iter().any(|r| r["tool"] == "code/references" && r["reason"].as_str().unwrap().contains("name")),
        "{route}"
    );
    assert_eq!(home.run(["tasks", "list", "--data-dir", data, "--json"]).exits(0).json(), serde_json::json!([]));
    home.run(["route", "zzzz qqqq", "--data-dir", data]).exits(1);
}

#[test]
fn servers_are_listed_idle_and_with_tools_after_they_were_started() {
    let home = Home::new();
    let config = home.notes_config("[servers.gone]\ncommand = \"no-such-program\"");
    let config = config.to_str().unwrap();
    let done = home.run(["servers", "--memory", "--config", config]).exits(0);
    assert!(done.stdout.contains("notes") && done.stdout.contains("idle"), "{done:#?}");
    let found = home.run(["servers", "--memory", "--tools", "--json", "--config", config]).exits(0).json();
    let ids: Vec<_> = found["tools"].as_array().unwrap().iter().map(|tool| tool["id"].as_str().unwrap()).collect();
    assert!(ids.contains(&"notes/mark") && ids.contains(&"code/outline"), "{ids:?}");
    let gone = found["servers"].as_array().unwrap().iter().find(|server| server["name"] == "gone").unwrap();
    assert_eq!(gone["state"], "down");
    assert!(gone["last_failure"].as_str().unwrap().contains("no-such-program"), "{gone}");
}

#[test]
fn ctrl_c_cancels_the_task_and_says_so_by_its_exit_code() {
    let home = Home::new();
    let config = home.notes_config("");
    let data = home.data_dir();
    let common = ["--config", config.to_str().unwrap(), "--data-dir", data.to_str().unwrap()];
    let args = ["run", "--tool", "notes/slow", "--arg", "key=k", "--arg", "pause_ms:=60000"];
    let mut command = home.command(args.into_iter().chain(common));
    let mut child = spawn(command.env("MARK", support::own("ctrl-c")));
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("working") {
        assert!(std::io::BufRead::read_line(&mut stderr, &mut said).unwrap() > 0, "{said}");
    }
    signal(child.id(), "INT");
    child.stderr = Some(stderr.into_inner());
    let done = finish(child, "").exits(130);
    assert!(done.stderr.contains("cancelled"), "{done:#?}");
    eventually("its children's end", || support::marked(&support::own("ctrl-c")).is_empty().then_some(()));
    let list = home.run(["tasks", "list", "--json"].into_iter().chain(common)).exits(0).json();
    assert_eq!(list[0]["state"], "cancelled", "{list}");
    assert!(home.notes().is_empty());
}

#[test]
fn the_demo_completes_its_three_tasks_and_ends_well() {
    let home = Home::new();
    home.file("a.rs", "/// Starts.\nfn main() { helper(); }\nfn helper() {}\nstruct Thing;\n");
    let done = home.run(["demo", "--exit", "--listen", "127.0.0.1:0"]).exits(0);
    assert!(done.stdout.contains("3 of 3 tasks completed"), "{done:#?}");
    for tool in ["match   code/outline", "match   code/references", "match   code/parse"] {
        assert!(done.stdout.contains(tool), "{tool}: {}", done.stdout);
    }
    assert!(done.stdout.contains("pointer res://local/") && done.stdout.contains("next    code/"), "{done:#?}");
}
