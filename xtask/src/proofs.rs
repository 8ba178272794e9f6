//! The long proofs as commands of their own: kill -9 under load, power cuts under the embedded store, chaos over the engine and over a fleet,
//! garbage at the gateway.
//! Each runs an ordinary test, told by environment variables to go on for longer than in `cargo xtask test`. A run without a seed
//! picks one and prints the command that replays it.

use std::hash::{BuildHasher as _, RandomState};

use anyhow::Result;

use crate::args::Args;
use crate::process::{Ended, Place, Step, take};
use crate::test::nextest;

const KILL9_CYCLES: u64 = 200;
const POWER_CUTS: u64 = 50_000;
const SIMULATION_SEEDS: u64 = 2_000;
const CHAOS_MINUTES: u64 = 10;
const FUZZ_MINUTES: u64 = 8;
/// The tests of garbage that share the minutes.
const FUZZ_TARGETS: u64 = 4;
/// The stores a fleet is tormented on, and the word for one after the other.
const CHAOS_STORES: [&str; 3] = ["redis", "sentinel", "postgres"];
const CHAOS_ALL: &str = "all";
/// The profile of nextest without a bound on time (`.config/nextest.toml`), and that of cargo for proofs that need fast code.
const PROFILE: &str = "proof";

/// `cargo xtask kill9 [--cycles N] [--seed S]`.
pub(crate) fn kill9(place: &Place, args: &[String]) -> Result<()> {
    let mut args = Args::new(args);
    let cycles = args.number("--cycles")?.unwrap_or(KILL9_CYCLES);
    let seed = args.number("--seed")?.unwrap_or_else(any_seed);
    args.finish()?;
    println!("replay: cargo xtask kill9 --cycles {cycles} --seed {seed}\n");
    let what = ["-p", "metamcp-server", "--test", "kill9"];
    prove(place, "kill9", &what, &[("METAMCP_KILL9_CYCLES", cycles), ("METAMCP_SEED", seed)])
}

/// `cargo xtask powercut [--cuts N] [--seed S]`.
pub(crate) fn power_cut(place: &Place, args: &[String]) -> Result<()> {
    let mut args = Args::new(args);
    let cuts = args.number("--cuts")?.unwrap_or(POWER_CUTS);
    let seed = args.number("--seed")?.unwrap_or_else(any_seed);
    args.finish()?;
    println!("replay: cargo xtask powercut --cuts {cuts} --seed {seed}\n");
    let what =
        ["--cargo-profile", PROFILE, "-p", "metamcp-mcp-adapters", "--features", "embedded", "--test", "power_cut"];
    prove(place, "power cuts", &what, &[("METAMCP_POWER_CUTS", cuts), ("METAMCP_SEED", seed)])
}

/// `cargo xtask simulate [--seeds N]`.
pub(crate) fn simulate(place: &Place, args: &[String]) -> Result<()> {
    let mut args = Args::new(args);
    let seeds = args.number("--seeds")?.unwrap_or(SIMULATION_SEEDS);
    args.finish()?;
    let what = ["-p", "metamcp-core", "--features", "testing", "--test", "simulation"];
    prove(place, "simulation", &what, &[("METAMCP_SIM_SEEDS", seeds)])
}

/// `cargo xtask chaos [--minutes N] [--seed S] [--store NAME]`. The minutes are shared by the stores.
pub(crate) fn chaos(place: &Place, args: &[String]) -> Result<()> {
    let mut args = Args::new(args);
    let minutes = args.number("--minutes")?.unwrap_or(CHAOS_MINUTES);
    let seed = args.number("--seed")?.unwrap_or_else(any_seed);
    let [first, second, third] = CHAOS_STORES;
    let store = args.word("--store", &[first, second, third, CHAOS_ALL])?.unwrap_or(CHAOS_ALL);
    args.finish()?;
    println!("replay: cargo xtask chaos --minutes {minutes} --seed {seed} --store {store}\n");
    let stores: Vec<_> = CHAOS_STORES.into_iter().filter(|name| store == CHAOS_ALL || store == *name).collect();
    let seconds = (minutes * 60).div_ceil(stores.len() as u64).to_string();
    let what = ["-p", "metamcp-server", "--test", "chaos", "the_fleet"];
    let step = |name| {
        let envs = [
            ("METAMCP_CHAOS_STORE", String::from(name)),
            ("METAMCP_CHAOS_SECONDS", seconds.clone()),
            ("METAMCP_SEED", seed.to_string()),
        ];
        proof(place, name, &what, envs.into())
    };
    take(stores.into_iter().map(step).collect())
}

/// `cargo xtask fuzz [--minutes N] [--seed S]`. The minutes are shared by the targets.
pub(crate) fn fuzz(place: &Place, args: &[String]) -> Result<()> {
    let mut args = Args::new(args);
    let minutes = args.number("--minutes")?.unwrap_or(FUZZ_MINUTES);
    let seed = args.number("--seed")?.unwrap_or_else(any_seed);
    args.finish()?;
    println!("replay: cargo xtask fuzz --minutes {minutes} --seed {seed}\n");
    let seconds = (minutes * 60).div_ceil(FUZZ_TARGETS);
    let what = ["-p", "metamcp-mcp-adapters", "--all-features", "--test", "gateway", "framing::"];
    prove(place, "garbage", &what, &[("METAMCP_FUZZ_SECONDS", seconds), ("METAMCP_SEED", seed)])
}

fn prove(place: &Place, name: &'static str, what: &[&str], numbers: &[(&'static str, u64)]) -> Result<()> {
    let envs = numbers.iter().map(|(name, number)| (*name, number.to_string())).collect();
    take(vec![proof(place, name, what, envs)])
}

/// One test, told by `envs` how long to go on.
fn proof<'a>(place: &'a Place, name: &'static str, what: &'a [&str], envs: Vec<(&'static str, String)>) -> Step<'a> {
    let envs: Vec<_> = envs.into_iter().chain([("NEXTEST_PROFILE", PROFILE.to_owned())]).collect();
    let told: Vec<String> = envs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let about = format!("{} cargo nextest run {} --no-capture", told.join(" "), what.join(" "));
    Step::work(name, about, move || nextest(place, what, &["--no-capture".to_owned()], &envs).map(Ended::Done))
}

/// A seed nobody chose; small enough to type again.
fn any_seed() -> u64 {
    RandomState::new().hash_one("seed") % 1_000_000_000
}
