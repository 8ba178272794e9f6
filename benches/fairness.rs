//! Ten workers on one Redis, ten tenants: how long the nine quiet ones wait for a start, alone and beside a tenant that submits a hundred
//! times as much as one of them does.
//!
//! `cargo bench --bench fairness` starts a private Redis; `-- URL [PAUSE_MS]` uses one that runs, with another pause between the submissions of a
//! quiet tenant. Job and worker are as small as can be, so that what is measured is the queue's order. Submissions come at random instants (a Poisson process, from a seed), as those of callers who do not know of
//! each other; each worker has a store of its own, as in a process of its own. Rounds alone and beside follow in turn, so that what else the
//! machine does falls on both.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use metamcp_benches::{
    Seeded,
    store::{Shared, open},
};
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
/// Average pause between two submissions of one quiet tenant unless told otherwise, in milliseconds.
const QUIET_PAUSE_MS: u64 = 100;
/// Submissions of the loud tenant for one of a quiet one: it has as many submitters.
const LOUD: usize = 100;
/// How often both are measured, and for how long each time.
const ROUNDS: usize = 3;
const SPAN: Duration = Duration::from_secs(10);

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let url = args.next();
    let pause_ms = args.next().map_or(QUIET_PAUSE_MS, |told| told.parse().expect("milliseconds"));
    let pause = Duration::from_millis(pause_ms);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    runtime.block_on(async {
        let server = match url {
            Some(_) => None,
            None => Some(RedisServer::start(RedisSetup::default()).await.expect("redis")),
        };
        let url = url.or_else(|| server.as_ref().map(RedisServer::url)).expect("an address");
        let mut stores = Vec::new();
        for _ in 0..WORKERS {
            stores.push(open(&url).await);
        }
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        for round in 1..=ROUNDS {
            for (loud, all) in [(false, &mut alone), (true, &mut beside)] {
                let waits = measure(&stores, loud, pause).await;
                println!("round {round}, {}: {}", if loud { "beside" } else { "alone" }, shown(&waits));
                all.extend(waits);
            }
        }
        alone.sort_unstable();
        beside.sort_unstable();
        println!("quiet tenants alone:            {}", shown(&alone));
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

async fn measure(stores: &[Shared], loud: bool, pause: Duration) -> Vec<u64> {
    let waits = Arc::new(Mutex::new(Vec::new()));
    let engines: Vec<Orchestrator> = stores.iter().map(|store| engine(store, &waits)).collect();
    for engine in &engines {
        engine.tools().await;
    }
    let workers: Vec<_> =
        engines.iter().map(|engine| engine.worker(WorkerOptions::default().with_concurrency(SLOTS))).collect();
    let end = Instant::now() + SPAN;
    let mut callers = tokio::task::JoinSet::new();
    let quiet = (1..=QUIET_TENANTS).map(|tenant| (tenant, true));
    let submitters = quiet.chain((0..LOUD).filter(|_| loud).map(|_| (0, false)));
    // The loud tenant comes by every door, so that no quiet one has a door of its own.
    for (number, ((tenant, counted), engine)) in submitters.zip(engines.iter().cycle()).enumerate() {
        callers.spawn(submit(engine.clone(), tenant, counted, Arrivals::new(number, pause), end));
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

/// The random instants of one submitter.
struct Arrivals {
    next: Instant,
    pause: Duration,
    random: Seeded,
}

impl Arrivals {
    fn new(submitter: usize, pause: Duration) -> Self {
        let mut random = Seeded::new(1 + submitter as u64);
        // Small seeds begin with small numbers.
        for _ in 0..16 {
            random.draw();
        }
        Self { next: Instant::now(), pause, random }
    }

    fn next(&mut self) -> Instant {
        self.next += self.pause.mul_f64(-(1.0 - self.random.unit()).ln());
        self.next
    }
}

async fn submit(engine: Orchestrator, tenant: usize, counted: bool, mut arrivals: Arrivals, end: Instant) {
    let who = Principal::new(TenantId::new(format!("tenant-{tenant}")).expect("a name"), "bench");
    loop {
        let at = arrivals.next();
        if at >= end {
            return;
        }
        tokio::time::sleep_until(at.into()).await;
        let input = json!({ "t": if counted { now_us() } else { 0 } });
        let task = Task::new("").with_tool("bench/noop".parse().expect("a tool")).with_input(RawJson::from(input));
        engine.submit(&who, task).await.expect("accepted");
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
