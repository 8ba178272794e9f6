//! Tasks in company, over real processes: results handed from task to task, batches, schedules and queues from the command line.

mod support;

use support::{Done, Home, Serve, eventually, finish, signal, spawn};

/// A server with the MCP server `notes`, and the way commands reach it.
fn serve(home: &Home) -> Serve {
    let config = home.notes_config("");
    Serve::start(home, &["--config", config.to_str().expect("a path of ours is text")])
}

fn to(serve: &Serve, home: &Home, args: &[&str]) -> Done {
    home.run(args.iter().copied().chain(["--server", serve.url.as_str()]))
}

#[test]
fn a_result_goes_from_task_to_task_through_real_servers() {
    let home = Home::new();
    let serve = serve(&home);
    // The first one takes its time, so that those after it are there before it has ended.
    let first =
        to(&serve, &home, &["run", "--no-wait", "--tool", "notes/slow", "--arg", "key=a", "--arg", "pause_ms:=1500"]);
    let first = first.exits(0).stdout.trim().to_owned();
    let input = format!(r#"{{"key":{{"$ref":"task://{first}#/content/0/text"}}}}"#);
    let second = to(&serve, &home, &["run", "--no-wait", "--json", "--tool", "notes/note", "--input", &input]).exits(0);
    assert!(second.stderr.contains(&format!("waits   for {first}")), "{second:#?}");
    let second = second.json();
    assert_eq!((&second["state"], &second["waits_on"][0]), (&"queued".into(), &first.as_str().into()));
    let second = second["id"].as_str().unwrap();
    let shown = to(&serve, &home, &["tasks", "show", second]).exits(0);
    assert!(shown.stderr.contains("waits   for"), "{shown:#?}");
    let input = format!(r#"{{"key":{{"$ref":"task://{second}#/content/0/text"}}}}"#);
    let third = to(&serve, &home, &["run", "--after", &first, "--tool", "notes/mark", "--input", &input]).exits(0);
    assert_eq!(third.stdout.trim(), "mark note slow a");
    assert_eq!(home.notes(), ["slow a", "note slow a", "mark note slow a"]);
}

#[test]
fn a_task_whose_parent_failed_says_so() {
    let home = Home::new();
    let serve = serve(&home);
    let parent = to(&serve, &home, &["run", "--json", "--tool", "notes/fails", "--arg", "key=a"]).exits(1).json();
    let parent = parent["id"].as_str().unwrap();
    let done =
        to(&serve, &home, &["run", "--json", "--after", parent, "--tool", "notes/note", "--arg", "key=b"]).exits(1);
    assert_eq!(done.json()["error"]["code"], "dependency_failed", "{done:#?}");
    assert!(home.notes().is_empty());
}

#[test]
fn terms_reach_the_task_and_a_cached_result_is_told() {
    let home = Home::new();
    let serve = serve(&home);
    let task = [
        "run",
        "--tool",
        "notes/mark",
        "--arg",
        "key=a",
        "--cache",
        "10m",
        "--concurrency",
        "book=1",
        "--rate",
        "book=1ms/2",
    ];
    to(&serve, &home, &task).exits(0);
    let again = to(&serve, &home, &task).exits(0);
    assert!(again.stderr.contains("with the result of"), "{again:#?}");
    assert_eq!((again.stdout.trim(), home.notes().len()), ("mark a", 1));
    for (args, word) in [
        (["--concurrency", "book"], "KEY=MAX"),
        (["--concurrency", "book=0"], "at least 1"),
        (["--rate", "book=often"], "KEY=EVERY"),
        (["--after", "x"], "UUID"),
    ] {
        let done = to(&serve, &home, &["run", "--tool", "notes/mark", "--arg", "key=a", args[0], args[1]]).exits(2);
        assert!(done.stderr.contains(word), "{word}: {done:#?}");
    }
}

#[test]
fn a_batch_from_a_file_is_waited_for_and_its_refusals_are_told() {
    let home = Home::new();
    let serve = serve(&home);
    let line = |key: &str| format!("{{\"tool\":\"notes/mark\",\"input\":{{\"key\":\"{key}\"}}}}\n");
    let good = home.file("good.jsonl", &(line("a") + "\n" + &line("b")));
    let good = good.to_str().unwrap();
    let done = to(&serve, &home, &["batch", good, "--wait", "--json", "--idempotency-key", "k"]).exits(0);
    assert!(done.stderr.contains("2 completed"), "{done:#?}");
    let batch = done.json();
    assert_eq!((&batch["standing"]["ended"], batch["tasks"].as_array().unwrap().len()), (&true.into(), 2));
    let again = to(&serve, &home, &["batch", good, "--idempotency-key", "k"]).exits(0);
    assert_eq!(again.stdout.trim(), batch["id"].as_str().unwrap());
    assert_eq!(home.notes().len(), 2);

    let mixed = line("c") + "{\"tool\":\"notes/none\"}\n";
    let args = ["batch", "-", "--wait", "--server", serve.url.as_str()];
    let mixed = home.run_with(args, &mixed).exits(2);
    assert!(mixed.stderr.contains("refused 2:") && mixed.stderr.contains("1 completed, 1 refused"), "{mixed:#?}");
    let failing = home.run_with(args, "{\"tool\":\"notes/fails\",\"input\":{\"key\":\"x\"}}").exits(1);
    assert!(failing.stderr.contains("1 failed"), "{failing:#?}");
    let broken = home.run_with(args, "{\"tool\":\"notes/mark\"}\n{\"ned\":1}\n").exits(2);
    assert!(broken.stderr.contains("line 2"), "{broken:#?}");
    let none = home.run_with(args, "").exits(2);
    assert!(none.stderr.contains("1 to 1000"), "{none:#?}");
    to(&serve, &home, &["batch", "nowhere.jsonl"]).exits(2);
}

#[test]
fn a_batch_runs_without_a_server_and_ctrl_c_cancels_it() {
    let home = Home::new();
    let config = home.notes_config("");
    let data = home.data_dir();
    let common = ["--config", config.to_str().unwrap(), "--data-dir", data.to_str().unwrap()];
    let line = "{\"tool\":\"notes/mark\",\"input\":{\"key\":\"a\"}}\n";
    let done = home.run_with(["batch", "-", "--wait"].into_iter().chain(common), line).exits(0);
    assert!(done.stderr.contains("1 completed"), "{done:#?}");

    let later = "{\"tool\":\"notes/note\",\"input\":{\"key\":\"b\"},\"rate\":{\"key\":\"r\",\"every_ms\":3600000}}\n";
    let file = home.file("two.jsonl", &later.repeat(2));
    let args = ["batch", file.to_str().unwrap(), "--wait", "--json"];
    let child = spawn(&mut home.command(args.into_iter().chain(common)));
    eventually("the first note", || home.notes().contains(&"note b".to_owned()).then_some(()));
    signal(child.id(), "INT");
    let done = finish(child, "").exits(130);
    assert_eq!(done.json()["standing"]["states"]["cancelled"], 1, "{done:#?}");
    assert_eq!(home.notes(), ["mark a", "note b"]);
}

#[test]
fn schedules_are_put_shown_fired_and_deleted() {
    let home = Home::new();
    let serve = serve(&home);
    let put = [
        "schedules",
        "put",
        "nightly",
        "--cron",
        "30 2 * * *",
        "--zone",
        "Europe/Berlin",
        "--tool",
        "notes/mark",
        "--arg",
        "key=n",
    ];
    let made = to(&serve, &home, &put).exits(0);
    assert!(made.stdout.contains("nightly") && made.stdout.contains("Europe/Berlin"), "{made:#?}");
    let terms = ["--missed", "skip", "--no-overlap", "--paused", "--json"];
    let made = to(&serve, &home, &[&put[..], &terms[..]].concat()).exits(0).json();
    assert_eq!(
        (&made["missed"], &made["overlap"], &made["next_at"]),
        (&"skip".into(), &"skip".into(), &serde_json::Value::Null)
    );
    let resumed = to(&serve, &home, &["schedules", "resume", "nightly", "--json"]).exits(0).json();
    assert!(resumed["next_at"].is_string(), "{resumed}");
    assert!(to(&serve, &home, &["schedules", "pause", "nightly"]).exits(0).stdout.contains("paused"));
    let list = to(&serve, &home, &["schedules", "list", "--json"]).exits(0).json();
    assert_eq!(list[0]["task"]["input"]["key"], "n", "{list}");
    let fired = to(&serve, &home, &["schedules", "fire", "nightly"]).exits(0);
    let shown = eventually("the task's end", || {
        let shown = to(&serve, &home, &["tasks", "show", fired.stdout.trim(), "--json"]).exits(0).json();
        (shown["state"] == "completed").then_some(shown)
    });
    assert_eq!(shown["tool"], "notes/mark");
    to(&serve, &home, &["schedules", "delete", "nightly"]).exits(0);
    let gone = to(&serve, &home, &["schedules", "show", "nightly"]).exits(2);
    assert!(gone.stderr.contains("schedule not found"), "{gone:#?}");
    let wrong = to(&serve, &home, &["schedules", "put", "x", "--cron", "often", "--tool", "notes/mark"]).exits(2);
    assert!(wrong.stderr.contains("cron"), "{wrong:#?}");
}

#[test]
fn queues_are_listed_paused_and_resumed() {
    let home = Home::new();
    let serve = serve(&home);
    let table = to(&serve, &home, &["queues"]).exits(0);
    assert!(table.stdout.starts_with("LANE ") && table.stdout.contains("\nheavy "), "{table:#?}");
    let paused = to(&serve, &home, &["queues", "pause", "light", "--json"]).exits(0).json();
    assert_eq!((&paused["lane"], &paused["paused"]), (&"light".into(), &true.into()));
    let task = ["run", "--no-wait", "--tool", "notes/mark", "--arg", "key=a"];
    let held = to(&serve, &home, &task).exits(0).stdout;
    let list = to(&serve, &home, &["queues", "--json"]).exits(0).json();
    let light = list.as_array().unwrap().iter().find(|queue| queue["lane"] == "light").unwrap();
    assert_eq!((&light["ready"], &light["paused"]), (&1.into(), &true.into()), "{list}");
    assert!(home.notes().is_empty());
    to(&serve, &home, &["queues", "resume", "light"]).exits(0);
    eventually("the held task's call", || (home.notes() == ["mark a"]).then_some(()));
    to(&serve, &home, &["tasks", "show", held.trim()]).exits(0);
    let nobody = to(&serve, &home, &["queues", "pause", "nobody"]).exits(2);
    assert!(nobody.stderr.contains("lane not found"), "{nobody:#?}");
}
