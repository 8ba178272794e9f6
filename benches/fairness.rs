//! Ten workers on one Redis, ten tenants: how long the nine quiet ones wait for a start, alone and beside a tenant that submits a hundred
//! times as much as they do.
//!
//! `cargo bench --bench fairness` starts a private Redis; `-- URL` uses one that runs. Job and worker are as small as can be, so that what is
//! measured is the queue's order.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use metamcp_benches::store::{Shared, open};
use metamcp_core::{
    auth::Principal,
    engine::{Orchestrator, WorkerOptions},
    id::{ServerName, TenantId},
    json::RawJson,
    matching::Annotations,
    task::Task,
    transport::LocalTools,
};
use metamcp_mcp_adapters::testing::{RedisServer, RedisSetup};
use serde_json::json;

const WORKERS: usize = 10;
/// Slots of one worker.
const SLOTS: u16 = 4;
/// How long one call takes.
const CALL: Duration = Duration::from_millis(5);
const QUIET_TENANTS: usize = 9;
/// Pause between two submissions of one quiet tenant.
const QUIET_PAUSE: Duration = Duration::from_millis(100);
/// Submissions of the loud tenant for one of a quiet one.
const LOUD: usize = 100;
/// How long each half is measured.
const SPAN: Duration = Duration::from_secs(15);

fn main() {
    let url = std::env::args().skip(1).find(|arg| !arg.starts_with("--"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    runtime.block_on(async {
        let server = match url {
            Some(_) => None,
            None => Some(RedisServer::start(RedisSetup::default()).await.expect("redis")),
        };
        let url = url.or_else(|| server.as_ref().map(RedisServer::url)).expect("an address");
        let store = open(&url).await;
        let alone = measure(&store, false).await;
        let beside = measure(&store, true).await;
        println!("quiet tenants alone:          {}", shown(&alone));
        println!("beside one that is {LOUD}x as loud: {}", shown(&beside));
    });
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

fn shown(waits: &[u64]) -> String {
    let at = |share: usize| waits.get(waits.len() * share / 100).copied().unwrap_or_default();
    format!("{} starts, p50 {} us, p99 {} us", waits.len(), at(50), at(99))
}

async fn measure(store: &Shared, loud: bool) -> Vec<u64> {
    let waits = Arc::new(Mutex::new(Vec::new()));
    let engines: Vec<Orchestrator> = (0..WORKERS).map(|_| engine(store, &waits)).collect();
    for engine in &engines {
        engine.tools().await;
    }
    let workers: Vec<_> =
        engines.iter().map(|engine| engine.worker(WorkerOptions::default().with_concurrency(SLOTS))).collect();
    let end = Instant::now() + SPAN;
    let mut callers = tokio::task::JoinSet::new();
    for (engine, tenant) in engines.iter().zip(1..=QUIET_TENANTS) {
        callers.spawn(submit(engine.clone(), tenant, true, QUIET_PAUSE, end));
    }
    if loud {
        for _ in 0..LOUD {
            callers.spawn(submit(engines[0].clone(), 0, false, QUIET_PAUSE, end));
        }
    }
    while let Some(ended) = callers.join_next().await {
        ended.expect("no panic");
    }
    for worker in workers {
        worker.drain(Duration::from_secs(1)).await;
    }
    let mut waits = std::mem::take(&mut *waits.lock().unwrap_or_else(PoisonError::into_inner));
    waits.sort_unstable();
    waits
}

async fn submit(engine: Orchestrator, tenant: usize, counted: bool, pause: Duration, end: Instant) {
    let who = Principal::new(TenantId::new(format!("tenant-{tenant}")).expect("a name"), "bench");
    while Instant::now() < end {
        let input = json!({ "t": if counted { now_us() } else { 0 } });
        let task = Task::new("").with_tool("bench/noop".parse().expect("a tool")).with_input(RawJson::from(input));
        engine.submit(&who, task).await.expect("accepted");
        tokio::time::sleep(pause).await;
    }
}

fn engine(store: &Shared, waits: &Arc<Mutex<Vec<u64>>>) -> Orchestrator {
    let name = ServerName::new("bench").expect("a name");
    let waits = Arc::clone(waits);
    let run = move |arguments: RawJson, _| {
        let submitted = arguments.view::<serde_json::Value>().ok().and_then(|value| value["t"].as_u64());
        if let Some(submitted) = submitted.filter(|submitted| *submitted > 0) {
            waits.lock().unwrap_or_else(PoisonError::into_inner).push(now_us().saturating_sub(submitted));
        }
        async {
            tokio::time::sleep(CALL).await;
            Ok(json!({ "ok": true }))
        }
    };
    let schema = RawJson::from(json!({ "type": "object" }));
    let tools = LocalTools::new(name.clone()).tool("noop", "does nothing", schema, Annotations::default(), run);
    Orchestrator::builder()
        .jobs(Arc::clone(&store.jobs))
        .results(Arc::clone(&store.results))
        .events(Arc::clone(&store.events))
        .records(Arc::clone(&store.records))
        .server(name, Arc::new(tools))
        .build()
}
