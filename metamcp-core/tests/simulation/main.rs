//! The engine in a world of seeded faults: several worker processes over one store, servers that fail in every way, processes that die or
//! are cut off, stores that answer late, wrongly or not at all. Invariants are checked at every step of the store.
//!
//! Time is tokio's paused clock, so hours pass in milliseconds. `METAMCP_SIM_SEEDS` sets how many seeds are run, `METAMCP_SIM_SEED` replays
//! one. Each broken twin must be caught within a few seeds: that proves that the harness bites.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so at once")]

mod faults;
mod invariants;
mod ledger;
mod server;
mod twins;
mod world;

use world::{Twin, World};

/// Seeds of a short run, as part of the ordinary tests.
const SEEDS_DEFAULT: u64 = 60;
/// Seeds within which a broken twin must be caught.
const TWIN_SEEDS_MAX: u64 = 60;

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// Runs one world to its end on a runtime of its own; answers what was violated.
fn run(seed: u64, twin: Twin) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async { World::new(seed, twin).run().await })
}

#[test]
fn no_seed_violates_an_invariant() {
    let seeds = match env("METAMCP_SIM_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=env("METAMCP_SIM_SEEDS").unwrap_or(SEEDS_DEFAULT),
    };
    for seed in seeds {
        let violations = run(seed, Twin::None);
        assert!(
            violations.is_empty(),
            "seed {seed} violates: {violations:#?}\nREPLAY: METAMCP_SIM_SEED={seed} cargo nextest run -p metamcp-core --features testing --test simulation no_seed"
        );
    }
}

fn caught(twin: Twin) {
    let found = (1..=TWIN_SEEDS_MAX).find_map(|seed| run(seed, twin).into_iter().next().map(|v| (seed, v)));
    let (seed, violation) = found.unwrap_or_else(|| panic!("the broken twin {twin:?} passed {TWIN_SEEDS_MAX} seeds"));
    println!("{twin:?} caught at seed {seed}: {violation}");
}

#[test]
fn a_store_that_acks_by_id_only_is_caught() {
    caught(Twin::AckByIdOnly);
}

#[test]
fn a_store_that_acknowledges_before_it_writes_is_caught() {
    caught(Twin::AckBeforeWrite);
}

#[test]
fn a_store_that_pops_a_job_when_it_is_leased_is_caught() {
    caught(Twin::PopBeforeWrite);
}

#[test]
fn a_server_that_lies_about_replay_safety_is_caught() {
    caught(Twin::BlindReplay);
}
