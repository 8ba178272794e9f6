//! Real servers that can do the same, over real processes: two for files and one for git, which takes other arguments. One is stopped again and
//! again, one dies. Traffic moves on, no task is lost, and `explain` tells why. The servers are the published ones that `cargo xtask tools`
//! installs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so at once")]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use reqwest::Client;
use serde_json::{Value, json};
use support::{Home, Serve, WAIT_S_MAX, python};

/// Tasks of one wave.
const WAVE: usize = 24;
/// What each of them asks for.
const NEED: &str = "read a text file from the file system, whatever its encoding";
/// What they read, and what is in it.
const FILE: &str = "text.txt";
const TEXT: &str = "hello from the past";
/// How long a slow server is stopped by a call, in milliseconds.
const SLOW_MS: u64 = 3_000;

/// A program that `cargo xtask tools` has installed.
fn program(relative: &str) -> PathBuf {
    let dir = std::env::var_os("METAMCP_TOOLS_DIR").map(PathBuf::from);
    let dir = dir.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.xtask"));
    let program = dir.join(relative);
    assert!(program.exists(), "{} is missing: run `cargo xtask tools`", program.display());
    program
}

/// A repository with one file.
fn repository(at: &Path) {
    fs::create_dir(at).unwrap();
    fs::write(at.join(FILE), TEXT).unwrap();
    let steps: [&[&str]; 3] = [&["init", "-q"], &["add", FILE], &["commit", "-q", "-m", "first"]];
    for step in steps {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=t", "-c", "user.email=t@localhost", "-C"]).arg(at).args(step);
        assert!(git.env("GIT_CONFIG_GLOBAL", "/dev/null").status().unwrap().success(), "git {step:?}");
    }
}

/// Two servers for the files of a folder and one for its repository, each behind its mood.
struct World {
    home: Home,
    serve: Serve,
    http: Client,
}

impl World {
    fn new() -> Self {
        let home = Home::new();
        let root = home.path().canonicalize().expect("it is there");
        let docs = root.join("docs");
        repository(&docs);
        let moody = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/moody.py");
        let (files, git) = (program("node_modules/.bin/mcp-server-filesystem"), program("venv/bin/mcp-server-git"));
        let mut config = "[builtin.code]\nenabled = false\n[gateway]\nenabled = false\n".to_owned();
        for (name, server) in
            [("a", format!("{files:?}")), ("b", format!("{files:?}")), ("git", format!("{git:?}, \"-r\""))]
        {
            config.push_str(&format!(
                "[servers.{name}]\ncommand = {python:?}\nargs = [{moody:?}, {server}, {docs:?}]\nequivalent = \"files\"\n\
                 env = {{ MOOD = {mood:?}, TRACE = {trace:?}, NAME = {name:?} }}\n",
                python = python(),
                mood = root.join(format!("{name}.mood")),
                trace = root.join("trace.txt"),
            ));
        }
        config.push_str(&format!(
            "[servers.git.equivalent_tools.git_show]\ntool = \"read_text_file\"\n\
             arguments = {{ repo_path = {docs:?}, revision = \"HEAD:{{path}}\" }}\n"
        ));
        let config = home.file("metamcp.toml", &config);
        let serve = Serve::start(&home, &["--config", config.to_str().expect("UTF-8")]);
        Self { home, serve, http: Client::new() }
    }

    fn mood(&self, server: &str, mood: &str) {
        self.home.file(&format!("{server}.mood"), mood);
    }

    /// Which servers were called, in order, since `from` calls.
    fn called(&self, from: usize) -> Vec<String> {
        let trace = fs::read_to_string(self.home.path().join("trace.txt")).unwrap_or_default();
        trace.lines().skip(from).map(str::to_owned).collect()
    }

    fn count(&self, from: usize, server: &str) -> usize {
        self.called(from).iter().filter(|name| *name == server).count()
    }

    async fn get(&self, path: &str) -> Value {
        self.http.get(format!("{}{path}", self.serve.url)).send().await.unwrap().json().await.unwrap()
    }

    async fn submit(&self) -> String {
        let task = json!({ "need": NEED, "input": { "path": FILE } });
        let sent = self.http.post(format!("{}/api/tasks", self.serve.url)).json(&task).send().await.unwrap();
        let job: Value = sent.json().await.unwrap();
        job["id"].as_str().unwrap_or_else(|| panic!("{job}")).to_owned()
    }

    /// A wave of tasks at once; answers how each was explained once all were done.
    async fn wave(&self) -> Vec<Value> {
        let mut ids = Vec::new();
        for _ in 0..WAVE {
            ids.push(self.submit().await);
        }
        let mut told = Vec::new();
        for id in ids {
            told.push(self.done(&id).await);
        }
        told
    }

    /// Waits for a task, and answers how it was explained.
    async fn done(&self, id: &str) -> Value {
        let end = Instant::now() + Duration::from_secs(WAIT_S_MAX);
        loop {
            let job = self.get(&format!("/api/tasks/{id}?wait_ms=5000")).await;
            if job["state"] == "completed" {
                let result = self.get(&format!("/api/results/{}", job["result"].as_str().unwrap())).await;
                assert_eq!(result["content"][0]["text"], TEXT, "whoever served it read the same: {result}");
                return self.get(&format!("/api/tasks/{id}/explain")).await;
            }
            assert!(job["state"] != "failed" && Instant::now() < end, "{job}");
        }
    }
}

fn server(told: &Value) -> &str {
    told["tool"].as_str().unwrap().split('/').next().unwrap()
}

fn health(candidate: &Value) -> &str {
    let reasons = candidate["reasons"].as_array().unwrap();
    reasons.iter().find(|reason| reason["kind"] == "health").unwrap_or_else(|| panic!("{candidate}"))["text"]
        .as_str()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_leaves_a_slow_and_a_dying_server_and_no_task_is_lost() {
    let world = World::new();
    let told = world.wave().await;
    let first = &told[0];
    let names: Vec<&str> =
        first["candidates"].as_array().unwrap()[..3].iter().map(|c| c["tool"].as_str().unwrap()).collect();
    let mut sorted: Vec<&str> = names.clone();
    sorted.sort_unstable();
    assert_eq!(
        sorted,
        ["a/read_text_file", "b/read_text_file", "git/git_show"],
        "equivalents stand side by side: {first}"
    );
    let used: std::collections::BTreeSet<&str> = told.iter().map(server).collect();
    assert!(used.len() > 1, "healthy equivalents share the work: {used:?}");

    world.mood("a", &format!("slow {SLOW_MS}"));
    world.mood("b", "dies");
    let before = world.called(0).len();
    let mut told = Vec::new();
    // Who was slow to start on a busy machine is called again once that is forgotten.
    let end = Instant::now() + Duration::from_secs(WAIT_S_MAX);
    while ["a", "b"].iter().any(|server| world.count(before, server) == 0) {
        assert!(Instant::now() < end, "{:?}", world.called(before));
        told.extend(world.wave().await);
    }
    let fate = |told: &[Value]| -> Vec<String> {
        told.iter().map(|t| format!("{} candidate {} attempts {}", server(t), t["candidate"], t["attempts"])).collect()
    };
    assert!(world.count(before, "git") >= told.len() / 2, "{:?} {:?}", world.called(before), fate(&told));
    let served = |name: &str| told.iter().filter(|t| server(t) == name).count();
    assert_eq!(served("b"), 0, "what was sent to the dying one went on elsewhere: {:?}", fate(&told));
    let failed_over = |t: &&Value| t["attempts"].as_u64() > Some(0) || t["candidate"].as_u64() > Some(0);
    let moved = told.iter().filter(failed_over).count();
    assert!(moved >= world.count(before, "b"), "who was called at the dying one tells of it: {:?}", fate(&told));

    // What was learned in a few seconds holds.
    let before = world.called(0).len();
    let told = world.wave().await;
    assert_eq!(world.count(before, "b"), 0, "a server that dies is not called: {:?}", fate(&told));
    assert!(world.count(before, "a") <= 2, "a slow server is hardly called: {:?}", fate(&told));
    assert!(world.count(before, "git") >= WAVE - 2, "{:?}", fate(&told));
    let last = told.last().unwrap();
    assert_eq!(last["tool"], "git/git_show");
    let candidates = last["candidates"].as_array().unwrap();
    assert!(health(&candidates[0]).starts_with("server up"), "{}", health(&candidates[0]));
    // The dead one is known by its failures, as down, or where this takes long, as rejected.
    let dead = candidates.iter().find(|c| c["tool"] == "b/read_text_file").map(health);
    match dead {
        Some(health) => assert!(!health.contains(" 0 % failing") || health.contains("server down"), "{last}"),
        None => assert!(last["rejected"].to_string().contains("has been down for"), "{last}"),
    }
    assert_eq!(candidates[0]["group"], "files/read_text_file");

    // Who does something else is as it was, and the command line tells the same in words.
    let docs = world.home.path().canonicalize().unwrap().join("docs");
    let need = json!({ "need": "show the git commit log", "input": { "repo_path": docs } });
    let route = world.http.post(format!("{}/api/route", world.serve.url)).json(&need).send().await.unwrap();
    let route: Value = route.json().await.unwrap();
    assert_eq!(route["candidates"][0]["tool"], "git/git_log", "{route}");
    let input = json!({ "path": FILE }).to_string();
    let said = world.home.run(["route", NEED, "--input", &input, "--server", &world.serve.url]).exits(0).stdout;
    let words = ["PART", "term", "git/git_show", "health", "server up", "% failing"];
    assert!(words.iter().all(|word| said.contains(word)), "{said}");
}
