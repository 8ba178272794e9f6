//! What goes wrong, drawn from a seed: processes that die or stand still longer than a lease, sockets that are cut, slow, silent or lose
//! the reply, and a store that restarts or fails over.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use metamcp_mcp_adapters::testing::ProxyMode;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::{
    engine::Engine,
    fleet::{Fleet, Member, Role},
    history::{Event, History},
};

/// Pause between two faults of processes and sockets, in milliseconds.
const FAULT_EVERY_MS: std::ops::Range<u64> = 150..900;
/// Pause between two faults of the store, in milliseconds.
const STORE_FAULT_EVERY_MS: std::ops::Range<u64> = 3_000..9_000;
/// How long a process stands still, in milliseconds: shorter and longer than a lease.
const STANDSTILL_MS: std::ops::Range<u64> = 500..6_500;
/// How long a dead process stays away, in milliseconds.
const DOWN_MS: std::ops::Range<u64> = 0..2_500;
/// How long a socket is slow or silent, in milliseconds; a lease and more.
const ILL_MS: std::ops::Range<u64> = 200..4_500;
/// Most replies lost in a row.
const REPLIES_LOST_MAX: u64 = 3;
/// Pause between two looks at the processes, in milliseconds.
const LOOK_MS: u64 = 25;

/// Lets things go wrong until `until`, then heals everything.
pub(crate) async fn torment(
    fleet: &mut Fleet,
    engine: &mut Engine,
    rng: &mut StdRng,
    until: Instant,
    history: &Arc<Mutex<History>>,
) {
    let tell = |what: String| history.lock().expect("no panic").add(Event::Fault { what });
    let mut store_rng = StdRng::seed_from_u64(rng.random());
    let store = async {
        loop {
            let pause = Duration::from_millis(store_rng.random_range(STORE_FAULT_EVERY_MS));
            if Instant::now() + pause >= until {
                return;
            }
            tokio::time::sleep(pause).await;
            tell(engine.suffer(&mut store_rng).await.expect("the store comes back").to_owned());
        }
    };
    let processes = async {
        let mut next = Instant::now();
        // Sockets that are ill, and since when they are not.
        let mut ill = Vec::<(usize, Instant)>::new();
        while Instant::now() < until {
            fleet.look();
            ill.retain(|(at, well)| {
                let is_ill = *well > Instant::now();
                if !is_ill && let Some(back) = &fleet.members[*at].back {
                    back.set_mode(ProxyMode::Pass);
                }
                is_ill
            });
            if next <= Instant::now() {
                next = Instant::now() + Duration::from_millis(rng.random_range(FAULT_EVERY_MS));
                let at = rng.random_range(0..fleet.members.len());
                let well = Instant::now() + Duration::from_millis(rng.random_range(ILL_MS));
                let (what, is_ill) = strike(&mut fleet.members[at], rng);
                if is_ill {
                    ill.push((at, well));
                }
                if let Some(what) = what {
                    tell(what.to_owned());
                }
            }
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
    };
    tokio::join!(store, processes);
    fleet.heal();
}

/// One fault of one process or its sockets: what it was, and whether its way to the store is to be healed later.
fn strike(member: &mut Member, rng: &mut StdRng) -> (Option<&'static str>, bool) {
    let kind = rng.random_range(0..100);
    let time = Duration::from_millis(rng.random_range(STANDSTILL_MS));
    let down = Duration::from_millis(rng.random_range(DOWN_MS));
    let delay = Duration::from_millis(rng.random_range(5..300));
    let replies = rng.random_range(1..=REPLIES_LOST_MAX);
    let lose = |proxy: &metamcp_mcp_adapters::testing::CutProxy| {
        (0..replies).for_each(|_| proxy.cut_after_request_before_reply());
    };
    match (kind, &member.back, &member.front) {
        (0..10, ..) if member.is_up() => {
            let what = if member.role == Role::Worker { "worker killed" } else { "replica killed" };
            member.kill(down);
            (Some(what), false)
        }
        (10..22, ..) if member.is_up() => {
            let what = if member.role == Role::Worker { "worker stopped" } else { "replica stopped" };
            member.stop_for(time);
            (Some(what), false)
        }
        (22..40, Some(back), _) => {
            lose(back);
            (Some("replies of the store lost"), false)
        }
        (40..55, Some(back), _) => {
            back.cut_all();
            (Some("connections to the store cut"), false)
        }
        (55..65, Some(back), _) => {
            back.set_mode(ProxyMode::Delay(delay));
            (Some("store slow"), true)
        }
        (65..72, Some(back), _) => {
            back.set_mode(ProxyMode::Blackhole);
            (Some("store silent"), true)
        }
        (72..90, _, Some(front)) => {
            lose(front);
            (Some("replies to callers lost"), false)
        }
        (90..100, _, Some(front)) => {
            front.cut_all();
            (Some("callers cut"), false)
        }
        _ => (None, false),
    }
}
