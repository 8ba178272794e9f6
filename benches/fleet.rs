//! No-op jobs through the whole engine on a shared store, with one worker process: enqueue-to-complete rate, and enqueue-to-start latency.
//!
//! `cargo bench --bench fleet` starts a private Redis and a private PostgreSQL; `-- URL [JOBS [PRODUCERS [SLOTS]]]` uses a store that runs.
//! Submissions come from one process and are worked on in another: match, idempotency key, enqueue, fence, fairness, result, events, all on.
//! Each process has one thread, as `metamcp worker` has.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use metamcp_benches::store::{Shared, open};
use metamcp_core::{
    auth::Principal,
    engine::{Orchestrator, Policy, WorkerOptions},
    id::{CapabilityId, ServerName},
    json::RawJson,
    matching::Annotations,
    task::Task,
    transport::LocalTools,
};
use metamcp_mcp_adapters::testing::{Append, PostgresServer, PostgresSetup, RedisServer, RedisSetup};
use serde_json::json;

/// Jobs of a run unless told otherwise.
const JOBS: usize = 20_000;
/// Jobs that are submitted one by one to measure latency, and the pause between them.
const LATENCY_JOBS: usize = 300;
const LATENCY_PAUSE: Duration = Duration::from_millis(10);
/// Submissions under way at a time unless told otherwise.
const PRODUCERS: usize = 100;
/// Slots of the worker unless told otherwise.
const SLOTS: u16 = 128;

/// How much is done, and how much of it at a time.
#[derive(Debug, Clone, Copy)]
struct Load {
    jobs: usize,
    producers: usize,
    slots: u16,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a thread");
    let number = |at: usize, otherwise| args.get(at).map_or(otherwise, |told| told.parse().expect("a number"));
    let slots = u16::try_from(number(3, SLOTS.into())).expect("fewer slots");
    let load = Load { jobs: number(1, JOBS), producers: number(2, PRODUCERS), slots };
    match args.first().map(String::as_str) {
        Some("worker") => runtime.block_on(work(&args[4], load)),
        Some(url) => println!("{}", runtime.block_on(run(url, load))),
        None => runtime.block_on(both()),
    }
}

async fn both() {
    let redis =
        RedisServer::start(RedisSetup { append: Append::EverySecond, ..RedisSetup::default() }).await.expect("redis");
    let load = Load { jobs: JOBS, producers: PRODUCERS, slots: SLOTS };
    println!("{}", run(&redis.url(), load).await);
    drop(redis);
    let setup = PostgresSetup { fsync: true, ..PostgresSetup::default() };
    let postgres = PostgresServer::start(setup).await.expect("postgres");
    println!("{}", run(&postgres.url(), Load { jobs: JOBS / 2, ..load }).await);
}

/// CPU seconds that the Redis of this address has spent; `None` for another store, and where there is no `redis-cli`.
fn redis_cpu_s(url: &str) -> Option<f64> {
    if !url.starts_with("redis") {
        return None;
    }
    let told = Command::new("redis-cli").args(["-u", url, "INFO", "cpu"]).output().ok()?;
    let info = String::from_utf8(told.stdout).ok()?;
    let value = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
    Some(value("used_cpu_sys:")? + value("used_cpu_user:")?)
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// An engine over the store with one tool that does nothing; `called` hears when each call was submitted.
async fn engine(store: &Shared, called: impl Fn(u64) + Send + Sync + 'static) -> Orchestrator {
    let name = ServerName::new("bench").expect("a name");
    let called = Arc::new(called);
    let schema = RawJson::from(json!({ "type": "object" }));
    let tools = LocalTools::new(name.clone()).tool(
        "noop",
        "does nothing",
        schema,
        Annotations::default(),
        move |arguments: RawJson, _| {
            let submitted = arguments.view::<serde_json::Value>().ok().and_then(|value| value["t"].as_u64());
            called(submitted.unwrap_or_default());
            async { Ok(json!({ "ok": true })) }
        },
    );
    let mut policy = Policy::default();
    policy.retain = Duration::from_secs(600);
    let engine = Orchestrator::builder()
        .policy(policy)
        .jobs(Arc::clone(&store.jobs))
        .results(Arc::clone(&store.results))
        .events(Arc::clone(&store.events))
        .records(Arc::clone(&store.records))
        .server(name, Arc::new(tools))
        .build();
    engine.tools().await;
    engine
}

fn task(key: usize) -> Task {
    let tool: CapabilityId = "bench/noop".parse().expect("a tool");
    Task::new("")
        .with_tool(tool)
        .with_input(RawJson::from(json!({ "t": now_us() })))
        .with_idempotency_key(format!("{}-{key}", std::process::id()))
}

async fn run(url: &str, load: Load) -> String {
    let Load { jobs, producers: callers, slots } = load;
    let mut worker = Command::new(std::env::current_exe().expect("this program"))
        .args(["worker", &jobs.to_string(), &callers.to_string(), &slots.to_string(), url])
        .stdout(Stdio::piped())
        .spawn()
        .expect("a worker process");
    let mut told = BufReader::new(worker.stdout.take().expect("its output")).lines();
    let mut next = move || told.next().expect("a line").expect("text");
    assert_eq!(next(), "ready");
    let store = open(url).await;
    let engine = engine(&store, |_| {}).await;
    let spent_before = redis_cpu_s(url);
    let began = now_us();
    let (mut sent, mut producers) = (0, tokio::task::JoinSet::new());
    while sent < jobs || !producers.is_empty() {
        while producers.len() < callers && sent < jobs {
            let (engine, key) = (engine.clone(), sent);
            producers.spawn(async move { engine.submit(&Principal::local(), task(key)).await.map(|_| ()) });
            sent += 1;
        }
        if let Some(done) = producers.join_next().await {
            done.expect("no panic").expect("accepted");
        }
    }
    let enqueued = now_us();
    let next = Arc::new(Mutex::new(next));
    let line = || {
        let next = Arc::clone(&next);
        tokio::task::spawn_blocking(move || (next.lock().unwrap_or_else(PoisonError::into_inner))())
    };
    let drained: u64 = line().await.expect("no panic").parse().expect("when the last job was done");
    let spent = redis_cpu_s(url).zip(spent_before).map(|(after, before)| after - before);
    for key in 0..LATENCY_JOBS {
        engine.submit(&Principal::local(), task(jobs + key)).await.expect("accepted");
        tokio::time::sleep(LATENCY_PAUSE).await;
    }
    let waits = line().await.expect("no panic");
    let _ended = worker.wait();
    #[expect(clippy::cast_precision_loss, reason = "counts of a bench")]
    let per_s = |until: u64| jobs as f64 * 1e6 / until.saturating_sub(began).max(1) as f64;
    let (scheme, _) = url.split_once("://").unwrap_or((url, ""));
    let rates = format!("enqueue {:.0}/s, complete {:.0}/s", per_s(enqueued), per_s(drained));
    #[expect(clippy::cast_precision_loss, reason = "counts of a bench")]
    let of_redis = spent.map_or_else(String::new, |s| format!(", Redis {:.0} us of CPU a job", s * 1e6 / jobs as f64));
    format!("{scheme}: {jobs} jobs, {rates}{of_redis}, start {waits}")
}

async fn work(url: &str, Load { jobs, slots, .. }: Load) {
    let store = open(url).await;
    let count = Arc::new(AtomicUsize::new(0));
    let waits = Arc::new(Mutex::new(Vec::new()));
    let (counted, waited) = (Arc::clone(&count), Arc::clone(&waits));
    let called = move |submitted: u64| {
        if counted.fetch_add(1, Ordering::SeqCst) >= jobs {
            let wait = now_us().saturating_sub(submitted);
            waited.lock().unwrap_or_else(PoisonError::into_inner).push(wait);
        }
    };
    let engine = engine(&store, called).await;
    let worker = engine.worker(WorkerOptions::default().with_concurrency(slots));
    say("ready");
    let reach = async |wanted: usize| {
        // A job is done when it no longer stands in its lane, not when its tool was called.
        let lane = metamcp_core::id::Lane::light();
        while count.load(Ordering::SeqCst) < wanted {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        loop {
            let counts = store.jobs.counts(&lane).await.expect("the store answers");
            if counts.leased + counts.ready + counts.delayed == 0 {
                return;
            }
        }
    };
    reach(jobs).await;
    say(&now_us().to_string());
    reach(jobs + LATENCY_JOBS).await;
    let mut waits = std::mem::take(&mut *waits.lock().unwrap_or_else(PoisonError::into_inner));
    waits.sort_unstable();
    let at = |share: usize| waits.get(waits.len() * share / 100).copied().unwrap_or_default();
    say(&format!("p50 {}.{:03} ms, p99 {}.{:03} ms", at(50) / 1_000, at(50) % 1_000, at(99) / 1_000, at(99) % 1_000));
    worker.drain(Duration::from_secs(1)).await;
}

fn say(line: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("somebody listens");
}
