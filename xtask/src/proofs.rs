//! The long proofs as commands of their own: kill -9 under load, power cuts under the embedded store, chaos over the engine.
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
    let what = ["--release", "-p", "metamcp-mcp-adapters", "--features", "embedded", "--test", "power_cut"];
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

fn prove(place: &Place, name: &'static str, what: &[&str], numbers: &[(&str, u64)]) -> Result<()> {
    let envs: Vec<(&str, String)> = numbers.iter().map(|(name, number)| (*name, number.to_string())).collect();
    let told: Vec<String> = numbers.iter().map(|(name, number)| format!("{name}={number}")).collect();
    let about = format!("{} cargo nextest run {} --no-capture", told.join(" "), what.join(" "));
    let work = || nextest(place, what, &["--no-capture".to_owned()], &envs).map(Ended::Done);
    take(vec![Step::work(name, about, work)])
}

/// A seed nobody chose; small enough to type again.
fn any_seed() -> u64 {
    RandomState::new().hash_one("seed") % 1_000_000_000
}
