//! `metamcp serve` as a process: found by other commands, stopped gently, and alone in its data folder.

mod support;

use support::{Home, Serve, eventually, marked};

/// Stops a server the gentle way.
fn stop(serve: Serve) {
    serve.signal("TERM");
    assert_eq!(serve.wait().0, Some(0));
}

#[test]
fn run_finds_the_server_that_owns_the_data_folder_or_takes_the_one_it_is_told() {
    let home = Home::new();
    let serve = Serve::start(&home, &[]);
    let data = home.data_dir();
    let data = data.to_str().unwrap();
    let task = ["--tool", "code/parse", "--arg", "text=struct S;", "--arg", "language=rust"];
    let done = home.run(["run", "--data-dir", data].into_iter().chain(task)).exits(0);
    assert!(done.stdout.contains("struct_item"), "{done:#?}");
    let url = serve.url.clone();
    let done = home.run(["run", "--json", "--server", &url].into_iter().chain(task)).exits(0);
    assert_eq!(done.json()["state"], "completed");
    // Both went to the same server.
    let list = home.run(["tasks", "list", "--json", "--server", &url]).exits(0).json();
    assert_eq!(list.as_array().unwrap().len(), 2);
    let done = home.run(["run", "--server", &url, "--tool", "nobody/x"]).exits(2);
    assert!(done.stderr.contains("server `nobody` is not configured"), "{done:#?}");
    stop(serve);
    let done = home.run(["tasks", "list", "--server", &url]).exits(1);
    assert!(done.stderr.contains("no answer from"), "{done:#?}");
    // The folder is free again, and what was done is still there.
    let list = home.run(["tasks", "list", "--json", "--data-dir", data]).exits(0).json();
    assert_eq!(list.as_array().unwrap().len(), 2);
}

#[test]
fn a_second_process_on_the_same_data_folder_is_told_whose_it_is() {
    let home = Home::new();
    let serve = Serve::start(&home, &[]);
    let data = home.data_dir();
    let done = home.run(["serve", "--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap()]).exits(1);
    let pid = serve.pid().to_string();
    assert!(done.stderr.contains(&pid) && done.stderr.contains(&serve.url), "{}", done.stderr);
    stop(serve);
}

#[test]
fn a_taken_port_is_told_and_the_demo_takes_another() {
    let home = Home::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let done = home.run(["serve", "--memory", "--listen", &address]).exits(1);
    assert!(done.stderr.contains("another process listens there"), "{}", done.stderr);
    home.file("a.rs", "fn main() {}\n");
    let done = home.run(["demo", "--exit", "--listen", &address]).exits(0);
    assert!(done.stdout.contains("taking a free port"), "{}", done.stdout);
}

#[test]
fn sigterm_lets_a_running_call_end_and_leaves_no_child() {
    let home = Home::new();
    let config = home.notes_config("[server]\ndrain_s = 3");
    let data = home.data_dir();
    let mut command = home.command(["serve", "--listen", "127.0.0.1:0", "--log", "warn"]);
    command.arg("--data-dir").arg(&data).arg("--config").arg(&config).env("MARK", support::own("sigterm"));
    let serve = Serve::of(&mut command);
    let url = serve.url.clone();
    let run = |tool: &str, pause: &str| {
        let (tool, pause) = (format!("notes/{tool}"), format!("pause_ms:={pause}"));
        let args = ["run", "--no-wait", "--server", &url, "--tool", &tool, "--arg", "key=k", "--arg", &pause];
        home.run(args).exits(0).stdout.trim().to_owned()
    };
    let (short, long) = (run("note", "1500"), run("slow", "600000"));
    eventually("the call", || {
        let job = home.run(["tasks", "show", "--json", "--server", &url, &short]).json();
        (job["state"] == "working").then_some(())
    });
    assert!(cfg!(not(target_os = "linux")) || !marked(&support::own("sigterm")).is_empty());
    serve.signal("TERM");
    let (code, said) = serve.wait();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(marked(&support::own("sigterm")), [0_u32; 0]);
    let show =
        |id: &str| home.run(["tasks", "show", "--json", "--data-dir", data.to_str().unwrap(), id]).exits(0).json();
    assert_eq!(show(&short)["state"], "completed");
    // Given back, which costs no attempt.
    let long = show(&long);
    assert_eq!((&long["state"], &long["attempts"], &long["lost"]), (&"queued".into(), &0.into(), &0.into()), "{long}");
}

#[test]
fn a_second_signal_ends_it_at_once_and_its_children_with_it() {
    let home = Home::new();
    let config = home.notes_config("[server]\ndrain_s = 3600");
    let mut command = home.command(["serve", "--memory", "--listen", "127.0.0.1:0", "--log", "warn"]);
    command.arg("--config").arg(&config).env("MARK", support::own("second-signal"));
    let serve = Serve::of(&mut command);
    let url = serve.url.clone();
    home.run([
        "run",
        "--no-wait",
        "--server",
        &url,
        "--tool",
        "notes/slow",
        "--arg",
        "key=k",
        "--arg",
        "pause_ms:=600000",
    ])
    .exits(0);
    serve.signal("TERM");
    eventually("it stops accepting", || std::net::TcpStream::connect(url.trim_start_matches("http://")).err());
    serve.signal("TERM");
    assert_eq!(serve.wait().0, Some(130));
    eventually("its children's end", || marked(&support::own("second-signal")).is_empty().then_some(()));
}

#[test]
fn a_failed_task_is_shown_with_its_reason_and_can_be_retried() {
    let home = Home::new();
    let config = home.notes_config("");
    let serve = Serve::start(&home, &["--config", config.to_str().unwrap()]);
    let url = serve.url.clone();
    let done = home.run(["run", "--json", "--server", &url, "--tool", "notes/fails", "--arg", "key=k"]).exits(1);
    let job = done.json();
    assert_eq!((&job["state"], &job["error"]["code"]), (&"failed".into(), &"server_error".into()), "{job}");
    let id = job["id"].as_str().unwrap();
    let shown = home.run(["tasks", "show", "--server", &url, id]).exits(0);
    assert!(shown.stderr.contains("the pencil is broken"), "{shown:#?}");
    home.file("notes.txt.mended", "");
    home.run(["tasks", "retry", "--server", &url, id]).exits(0);
    eventually("the end of the retried task", || {
        let job = home.run(["tasks", "show", "--json", "--server", &url, id]).json();
        (job["state"] == "completed").then_some(())
    });
    assert_eq!(home.notes(), ["fails k"]);
    let done = home.run(["run", "--server", &url, "--tool", "notes/complains", "--arg", "key=k"]).exits(1);
    assert_eq!(done.stdout.trim(), "complains k");
    stop(serve);
}

#[test]
fn a_running_task_can_be_cancelled_from_elsewhere() {
    let home = Home::new();
    let config = home.notes_config("");
    let serve = Serve::start(&home, &["--config", config.to_str().unwrap()]);
    let url = serve.url.clone();
    let args =
        ["run", "--no-wait", "--server", &url, "--tool", "notes/slow", "--arg", "key=k", "--arg", "pause_ms:=600000"];
    let id = home.run(args).exits(0).stdout.trim().to_owned();
    home.run(["tasks", "cancel", "--server", &url, "--reason", "changed my mind", &id]).exits(0);
    let job = eventually("its end", || {
        let job = home.run(["tasks", "show", "--json", "--server", &url, &id]).json();
        (job["state"] == "cancelled").then_some(job)
    });
    assert!(job["result"].is_null(), "{job}");
    stop(serve);
}

#[test]
fn a_json_log_is_json_on_every_line() {
    let home = Home::new();
    let mut command =
        home.command(["serve", "--memory", "--listen", "127.0.0.1:0", "--log-format", "json", "--log", "info"]);
    let mut child = support::spawn(&mut command);
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("metamcp is ready") {
        assert!(std::io::BufRead::read_line(&mut stderr, &mut said).unwrap() > 0, "{said}");
    }
    support::signal(child.id(), "TERM");
    std::io::Read::read_to_string(&mut stderr, &mut said).unwrap();
    assert_eq!(eventually("its end", || child.try_wait().unwrap()).code(), Some(0), "{said}");
    assert!(said.contains("\"url\":\"http://127.0.0.1:") && said.contains("stopping"), "{said}");
    for line in said.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
}
