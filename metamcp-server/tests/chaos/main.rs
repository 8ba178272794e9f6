//! Chaos over a fleet: workers and API replicas as real processes on a real store, a real MCP server that counts what it does, and everything
//! that goes wrong between them. Then the history is read, and each promise of `invariants` must hold.
//!
//! `METAMCP_CHAOS_STORE` is redis, sentinel or postgres (redis unless told), `METAMCP_CHAOS_SECONDS` how long things go wrong, and
//! `METAMCP_SEED` what goes wrong when. `cargo xtask chaos` sets them. `twins` shows that each promise is really checked.

mod engine;
mod faults;
mod fleet;
mod history;
mod invariants;
mod load;
mod plan;
mod settle;
#[path = "../support/mod.rs"]
mod support;
mod twins;

use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use engine::{Engine, Kind};
use fleet::{Fleet, LOST_MAX};
use history::{Event, History};
use load::Callers;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use settle::Store;
use tokio::signal::unix::{self, SignalKind};

/// How long things go wrong unless told otherwise, in seconds.
const SECONDS: u64 = 20;
/// Processes of each role.
const WORKERS: usize = 3;
const REPLICAS: usize = 2;
/// Callers at the same time.
const CALLERS: usize = 4;
/// Time for which one poisonous task is submitted, in seconds.
const POISON_EVERY_S: u64 = 20;
/// Most violations that are shown.
const SHOWN_MAX: usize = 30;

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

fn number(name: &str) -> Option<u64> {
    env(name).map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not `{text}`")))
}

/// How often each of these stands there, for people.
fn tally(what: impl Iterator<Item = String>) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for what in what {
        *counts.entry(what).or_default() += 1;
    }
    counts
}

fn report(kind: Kind, seed: u64, seconds: u64, deaths: u32, history: &History) {
    let faults = tally(history.events.iter().filter_map(|event| match event {
        Event::Fault { what } => Some(what.clone()),
        _ => None,
    }));
    let ends = tally(history.ends.iter().map(|(job, end)| {
        let tool = history.plan_of(*job).map_or("unknown", |plan| plan.tool.name());
        let code = end.head.error.as_ref().map(|error| format!(" {:?}", error.code)).unwrap_or_default();
        format!("{tool} {:?}{code}", end.head.state)
    }));
    let unknown = history.events.iter().filter(|event| matches!(event, Event::Unknown { .. })).count();
    let looks = history.events.iter().filter(|event| matches!(event, Event::Saw { .. } | Event::Read { .. })).count();
    let lost: u32 = history.ends.values().map(|end| end.head.lost).sum();
    println!(
        "chaos on {}, seed {seed}, {seconds} s: {} jobs accepted, {} lost by the store; {} calls of tools, {lost} leases lost, {deaths} \
         workers poisoned; {unknown} submissions without an answer, {looks} looks\n  faults {faults:?}\n  ends {ends:?}",
        kind.name(),
        history.accepted().count(),
        invariants::accepted_is_kept::lost(history).len(),
        history.executions.len(),
    );
}

/// Waits for somebody to end the run.
async fn interrupted() {
    let mut term = unix::signal(SignalKind::terminate()).expect("signals can be heard");
    let mut interrupt = unix::signal(SignalKind::interrupt()).expect("signals can be heard");
    tokio::select! {
        _ = term.recv() => {},
        _ = interrupt.recv() => {},
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fleet_keeps_its_promises() {
    // What is dropped ends its processes.
    tokio::select! {
        () = torment_a_fleet() => {},
        () = interrupted() => panic!("ended from outside; its processes are stopped"),
    }
}

async fn torment_a_fleet() {
    let kind = Kind::named(&env("METAMCP_CHAOS_STORE").unwrap_or_else(|| "redis".to_owned()));
    let seconds = number("METAMCP_CHAOS_SECONDS").unwrap_or(SECONDS);
    let seed = number("METAMCP_SEED").unwrap_or_else(|| rand::rng().random_range(0..1_000_000_000));
    let replay = format!(
        "METAMCP_CHAOS_STORE={} METAMCP_CHAOS_SECONDS={seconds} METAMCP_SEED={seed} \
         cargo nextest run -p metamcp-server --test chaos the_fleet --no-capture",
        kind.name()
    );
    println!("{replay}");
    let mut rng = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut engine = Engine::start(kind, &mut rng).await.expect("the store starts");
    let mut fleet = Fleet::start(&engine, dir.path(), WORKERS, REPLICAS).await;
    let history = Arc::new(Mutex::new(History::new(LOST_MAX)));
    let callers = Callers::new(fleet.urls(), Arc::clone(&history));

    let until = Instant::now() + Duration::from_secs(seconds);
    let calling: Vec<_> = (0..CALLERS).map(|name| callers.call(name, rng.random(), until)).collect();
    for number in 0..seconds.div_ceil(POISON_EVERY_S) {
        callers.poison(&format!("poison_{number}"), &mut rng).await;
    }
    faults::torment(&mut fleet, &mut engine, &mut rng, until, &history).await;
    for caller in calling {
        caller.await.expect("a caller does not panic");
    }

    let store = Store::open(&engine.url(None)).await;
    settle::settle(&mut fleet, &callers, &store, &mut rng).await;
    let (trace, deaths) = (fleet.trace(), fleet.deaths());
    let ended = fleet.stop();
    let mut history = std::mem::take(&mut *history.lock().expect("no panic"));
    store.reckon(history::executions(&trace), &mut history).await;
    report(kind, seed, seconds, deaths, &history);

    let mut broken: Vec<String> =
        invariants::check(&history).into_iter().map(|(name, told)| format!("{name}: {told}")).collect();
    broken.extend(ended);
    if !broken.is_empty() {
        let kept = dir.keep();
        fs::write(kept.join("history.txt"), history.text()).expect("the folder is writable");
        let shown = broken.iter().take(SHOWN_MAX).cloned().collect::<Vec<_>>().join("\n");
        panic!("{} violations; logs and history are in {}\nreplay: {replay}\n{shown}", broken.len(), kept.display());
    }
}
