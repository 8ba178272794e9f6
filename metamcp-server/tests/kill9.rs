//! `kill -9` of a server under load, over and over on one data folder, and then the reckoning: no accepted task is lost, each has exactly
//! one end, what is not idempotent happened at most once, only acknowledged results are readable, and no child process outlives its server.
//!
//! `METAMCP_KILL9_CYCLES` says how often (10 unless told), `METAMCP_SEED` which moments and which load. The same reckoning over a store
//! that keeps nothing must find what is lost.

mod support;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use metamcp_core::pointer::Digest;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use support::{Home, Serve, marked, within};

/// Cycles unless told otherwise.
const CYCLES: u64 = 10;
/// Callers that submit at the same time.
const CALLERS: u64 = 4;
/// Most tasks one caller submits in one cycle, so that the backlog stays bounded.
const TASKS_PER_CALLER_MAX: u64 = 25;
/// A kill comes at most this long after the server is ready, in milliseconds.
const KILL_AFTER_MS_MAX: u64 = 700;
/// In one of so many cycles the kill comes while the server starts.
const KILL_AT_START_EVERY: u64 = 8;
/// Longest wait for the answer of a server that may be killed before it gives one, in seconds.
const REQUEST_S_MAX: u64 = 30;
/// How long children may outlive a killed server, in seconds.
const ORPHAN_S_MAX: u64 = 5;
/// How long the backlog may take at the end, in seconds.
const SETTLE_S_MAX: u64 = 180;

/// A task as it is to be submitted. Its key is unique and is part of what its call leaves behind.
#[derive(Debug, Clone)]
struct Planned {
    key: String,
    tool: &'static str,
    pause_ms: u64,
}

impl Planned {
    fn any(key: String, rng: &mut StdRng) -> Self {
        let tool = ["note", "note", "mark", "parse"][rng.random_range(0..4)];
        Self { key, tool, pause_ms: rng.random_range(0..25) }
    }

    fn document(&self) -> Value {
        let (tool, input) = match self.tool {
            "parse" => {
                ("code/parse".to_owned(), json!({ "text": format!("fn {}() {{}}", self.key), "language": "rust" }))
            }
            tool => (format!("notes/{tool}"), json!({ "key": self.key, "pause_ms": self.pause_ms })),
        };
        json!({ "need": "leave a trace", "tool": tool, "input": input, "idempotency_key": self.key })
    }

    /// The very bytes that `notes` answers; the tree that `code` answers is not known here.
    fn result(&self) -> Option<String> {
        let text = format!("{} {}", self.tool, self.key);
        (self.tool != "parse").then(|| format!(r#"{{"content":[{{"type":"text","text":"{text}"}}],"isError":false}}"#))
    }
}

/// What is known of an accepted task.
#[derive(Debug)]
struct Accepted {
    planned: Planned,
    /// The document once it was final.
    end: Option<Value>,
}

#[derive(Debug, Default)]
struct Book {
    /// By id.
    accepted: BTreeMap<String, Accepted>,
    /// Submitted without an answer: they may or may not be accepted, and are submitted again.
    unanswered: VecDeque<Planned>,
    violations: Vec<String>,
}

impl Book {
    fn accept(&mut self, planned: Planned, document: &Value) {
        let id = document["id"].as_str().unwrap_or_default().to_owned();
        if let Some((other, _)) = self.accepted.iter().find(|(other, a)| a.planned.key == planned.key && **other != id)
        {
            self.violations.push(format!("{}: accepted twice, as {other} and {id}", planned.key));
        }
        self.accepted.entry(id.clone()).or_insert(Accepted { planned, end: None });
        self.look(&id, document);
    }

    /// Takes in how a task stands; an end must stay as it was.
    fn look(&mut self, id: &str, document: &Value) {
        let Some(accepted) = self.accepted.get_mut(id) else { return };
        let state = document["state"].as_str().unwrap_or_default();
        let is_final = matches!(state, "completed" | "failed" | "cancelled");
        let told = ["state", "result", "error", "finished_at", "attempts", "lost"].map(|field| document[field].clone());
        match &accepted.end {
            None if is_final => accepted.end = Some(Value::from(told.to_vec())),
            Some(end) if *end != Value::from(told.to_vec()) => {
                self.violations.push(format!("{id}: ended as {end}, and later as {told:?}"));
            }
            _ => {}
        }
    }
}

struct Proof {
    home: Home,
    config: std::path::PathBuf,
    store: &'static [&'static str],
    seed: u64,
    rng: StdRng,
    http: reqwest::Client,
    book: Arc<Mutex<Book>>,
    /// Marks of killed servers whose children must be gone.
    killed: Vec<String>,
}

impl Proof {
    fn new(seed: u64, store: &'static [&'static str]) -> Self {
        let home = Home::new();
        // Lost leases are what this is about: they must not end a job too soon to see what becomes of it.
        let config = home.notes_config("[jobs]\nlost_max = 20\nbackoff_base_ms = 10\n");
        let http = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .timeout(Duration::from_secs(REQUEST_S_MAX))
            .build()
            .expect("an HTTP client");
        let (rng, book, killed) = (StdRng::seed_from_u64(seed), Arc::default(), Vec::new());
        Self { home, config, store, seed, rng, http, book, killed }
    }

    fn command(&self, mark: &str) -> std::process::Command {
        let mut command = self.home.command(["serve", "--listen", "127.0.0.1:0", "--log", "error", "--config"]);
        command.arg(&self.config).arg("--data-dir").arg(self.home.data_dir()).args(self.store).env("MARK", mark);
        command
    }

    /// One life of a server, from its start to its kill.
    async fn cycle(&mut self, cycle: u64) {
        let mark = format!("kill9-{}-{}-{cycle}", std::process::id(), self.seed);
        let mut command = self.command(&mark);
        if self.rng.random_range(0..KILL_AT_START_EVERY) == 0 {
            let mut child = support::spawn(&mut command);
            tokio::time::sleep(Duration::from_millis(self.rng.random_range(0..200))).await;
            child.kill().expect("it is our child");
            child.wait().expect("it is our child");
        } else {
            let serve = Serve::of(&mut command);
            self.check_killed();
            let callers: Vec<_> = (0..CALLERS).map(|caller| self.call(&serve.url, cycle, caller)).collect();
            let watch = self.watch(&serve.url);
            tokio::time::sleep(Duration::from_millis(self.rng.random_range(0..KILL_AFTER_MS_MAX))).await;
            serve.kill();
            for caller in callers {
                caller.await.expect("a caller does not panic");
            }
            watch.await.expect("the watch does not panic");
        }
        self.killed.push(mark);
    }

    /// Submits until the server is gone.
    fn call(&mut self, url: &str, cycle: u64, caller: u64) -> tokio::task::JoinHandle<()> {
        let (http, book) = (self.http.clone(), Arc::clone(&self.book));
        let mut rng = StdRng::seed_from_u64(self.rng.random());
        let url = format!("{url}/api/tasks");
        tokio::spawn(async move {
            for number in 0..TASKS_PER_CALLER_MAX {
                let again = book.lock().expect("no panic").unanswered.pop_front();
                let planned = again.unwrap_or_else(|| Planned::any(format!("k{cycle}_{caller}_{number}"), &mut rng));
                match submit(&http, &url, &planned).await {
                    Ok(Ok(document)) => book.lock().expect("no panic").accept(planned, &document),
                    Ok(Err(refusal)) => book.lock().expect("no panic").violations.push(refusal),
                    Err(_) => return book.lock().expect("no panic").unanswered.push_back(planned),
                }
                tokio::time::sleep(Duration::from_millis(rng.random_range(0..15))).await;
            }
        })
    }

    /// Looks at accepted tasks until the server is gone.
    fn watch(&mut self, url: &str) -> tokio::task::JoinHandle<()> {
        let (http, book, url) = (self.http.clone(), Arc::clone(&self.book), url.to_owned());
        let mut rng = StdRng::seed_from_u64(self.rng.random());
        tokio::spawn(async move {
            loop {
                let ids: Vec<String> = book.lock().expect("no panic").accepted.keys().cloned().collect();
                if !ids.is_empty() {
                    let id = &ids[rng.random_range(0..ids.len())];
                    match show(&http, &url, id).await {
                        Ok(Some(document)) => book.lock().expect("no panic").look(id, &document),
                        Ok(None) => book.lock().expect("no panic").violations.push(format!("{id}: lost")),
                        Err(_) => return,
                    }
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
                if http.get(format!("{url}/livez")).send().await.is_err() {
                    return;
                }
            }
        })
    }

    /// The children of servers that were killed are gone, or go within a few seconds.
    fn check_killed(&mut self) {
        for mark in std::mem::take(&mut self.killed) {
            let gone = within(Duration::from_secs(ORPHAN_S_MAX), || marked(&mark).is_empty().then_some(()));
            if gone.is_none() {
                let left = format!("children of {mark} are left behind: {:?}", marked(&mark));
                self.book.lock().expect("no panic").violations.push(left);
            }
        }
    }

    /// Lets the last server work off what is left, and reckons. Answers every violation.
    async fn settle(mut self) -> Vec<String> {
        let mark = format!("kill9-{}-{}-last", std::process::id(), self.seed);
        let serve = Serve::of(&mut self.command(&mark));
        self.check_killed();
        let unanswered = std::mem::take(&mut self.book.lock().expect("no panic").unanswered);
        for planned in unanswered {
            let answer = submit(&self.http, &format!("{}/api/tasks", serve.url), &planned).await;
            let document = answer.expect("the server stays").expect("it is accepted");
            self.book.lock().expect("no panic").accept(planned, &document);
        }
        self.wait_for_ends(&serve.url).await;
        self.reckon(&serve.url).await;
        serve.signal("TERM");
        let (code, said) = serve.wait();
        let mut book = self.book.lock().expect("no panic");
        if code != Some(0) || !marked(&mark).is_empty() {
            book.violations.push(format!("the last server ended with {code:?}: {said}"));
        }
        std::mem::take(&mut book.violations)
    }

    async fn wait_for_ends(&self, url: &str) {
        let end = Instant::now() + Duration::from_secs(SETTLE_S_MAX);
        loop {
            let open: Vec<String> = {
                let book = self.book.lock().expect("no panic");
                book.accepted.iter().filter(|(_, a)| a.end.is_none()).map(|(id, _)| id.clone()).collect()
            };
            let mut lost = 0;
            for id in &open {
                match show(&self.http, url, id).await.expect("the server stays") {
                    Some(document) => self.book.lock().expect("no panic").look(id, &document),
                    None => lost += 1,
                }
            }
            if open.len() == lost || Instant::now() > end {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn reckon(&self, url: &str) {
        let mut effects = BTreeMap::<String, u32>::new();
        for line in self.home.notes() {
            *effects.entry(line).or_default() += 1;
        }
        let listed = self.listed(url).await;
        let mut book = std::mem::take(&mut *self.book.lock().expect("no panic"));
        let known: BTreeSet<String> = book.accepted.keys().cloned().collect();
        let ids: Vec<String> = known.iter().cloned().collect();
        if listed != known {
            let differing: Vec<_> = listed.symmetric_difference(&known).take(5).collect();
            book.violations.push(format!(
                "{} tasks are listed, {} were accepted: {differing:?}",
                listed.len(),
                known.len()
            ));
        }
        let mut ends = BTreeMap::<String, u32>::new();
        for id in ids {
            let Some(document) = show(&self.http, url, &id).await.expect("the server stays") else {
                book.violations.push(format!("{id}: lost"));
                continue;
            };
            book.look(&id, &document);
            let Some(accepted) = book.accepted.get(&id) else { continue };
            let planned = accepted.planned.clone();
            let count = effects.get(&format!("{} {}", planned.tool, planned.key)).copied().unwrap_or_default();
            let state = document["state"].as_str().unwrap_or_default();
            let code = document["error"]["code"].as_str().unwrap_or_default();
            *ends.entry(format!("{} {state} {code}", planned.tool)).or_default() += 1;
            let mut wrong = |what: String| book.violations.push(format!("{id} ({planned:?}): {what}"));
            match (state, code) {
                ("completed", _) => {
                    let pointer = document["result"].as_str().unwrap_or_default();
                    match self.read(url, pointer).await {
                        Ok(body)
                            if planned.result().is_none_or(|expected| expected == body)
                                && body.contains(&planned.key) => {}
                        Ok(body) => wrong(format!("another task's result: {body}")),
                        Err(status) => wrong(format!("its result is not readable: {status}")),
                    }
                    if count == 0 && planned.tool != "parse" {
                        wrong("completed without an effect".to_owned());
                    }
                }
                ("failed", "outcome_unknown" | "lost") => {
                    if !document["result"].is_null() {
                        wrong(format!("a failed task has a result: {}", document["result"]));
                    }
                    if planned.tool != "note" && code == "outcome_unknown" {
                        wrong("a safe call was not repeated".to_owned());
                    }
                    // What its pointer would be, had it been acknowledged.
                    if let Some(body) = planned.result() {
                        let pointer = format!("res://local/{id}/{}", Digest::of(body.as_bytes()));
                        if let Ok(body) = self.read(url, &pointer).await {
                            wrong(format!("a result that was never acknowledged is readable: {body}"));
                        }
                    }
                }
                _ => wrong(format!("it stands as {state} {code}: {}", document["error"])),
            }
            if planned.tool == "note" && count > 1 {
                wrong(format!("it is not idempotent and happened {count} times"));
            }
        }
        eprintln!("{} tasks: {ends:?}", known.len());
        *self.book.lock().expect("no panic") = book;
    }

    /// Every task the server lists.
    async fn listed(&self, url: &str) -> BTreeSet<String> {
        let (mut ids, mut cursor) = (BTreeSet::new(), String::new());
        loop {
            let page =
                self.http.get(format!("{url}/api/tasks?limit=200{cursor}")).send().await.expect("the server stays");
            let page: Value = page.json().await.expect("a page");
            let tasks = page["tasks"].as_array().expect("tasks");
            ids.extend(tasks.iter().filter_map(|task| task["id"].as_str().map(str::to_owned)));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return ids,
            }
        }
    }

    async fn read(&self, url: &str, pointer: &str) -> Result<String, reqwest::StatusCode> {
        let answer = self.http.get(format!("{url}/api/results/{pointer}")).send().await.expect("the server stays");
        let status = answer.status();
        if status.is_success() { Ok(answer.text().await.expect("a body")) } else { Err(status) }
    }
}

/// The accepted task; a refusal, which is a violation; or no answer, as the server is gone.
async fn submit(http: &reqwest::Client, url: &str, planned: &Planned) -> reqwest::Result<Result<Value, String>> {
    let body = serde_json::to_vec(&planned.document()).expect("it is JSON");
    let answer = http.post(url).header("content-type", "application/json").body(body).send().await?;
    let status = answer.status();
    let document: Value = answer.json().await?;
    Ok(if status.is_success() { Ok(document) } else { Err(format!("{planned:?} was refused: {document}")) })
}

/// A task as it stands; `None` when it is not there.
async fn show(http: &reqwest::Client, url: &str, id: &str) -> reqwest::Result<Option<Value>> {
    let answer = http.get(format!("{url}/api/tasks/{id}")).send().await?;
    if answer.status() == reqwest::StatusCode::NOT_FOUND {
        return Ok(None);
    }
    answer.error_for_status()?.json().await.map(Some)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not `{text}`")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_nothing_accepted_is_lost_or_done_twice() {
    let cycles = number("METAMCP_KILL9_CYCLES").unwrap_or(CYCLES);
    let seed = number("METAMCP_SEED").unwrap_or_else(|| rand::rng().random_range(0..1_000_000_000));
    let replay = format!("replay: cargo xtask kill9 --cycles {cycles} --seed {seed}");
    eprintln!("{replay}");
    let mut proof = Proof::new(seed, &[]);
    for cycle in 0..cycles {
        proof.cycle(cycle).await;
    }
    let violations = proof.settle().await;
    assert!(violations.is_empty(), "{} violations, {replay}\n{}", violations.len(), violations.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reckoning_finds_what_a_store_that_keeps_nothing_loses() {
    let mut proof = Proof::new(7, &["--memory"]);
    let mut cycle = 0;
    while proof.book.lock().expect("no panic").accepted.is_empty() {
        assert!(cycle < 50, "nothing was ever accepted");
        proof.cycle(cycle).await;
        cycle += 1;
    }
    let violations = proof.settle().await;
    assert!(violations.iter().any(|violation| violation.ends_with("lost")), "{violations:?}");
}
