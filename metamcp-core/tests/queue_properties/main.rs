//! The promises of the queue under random calls and times, judged by an oracle that knows nothing of how they are kept. Broken twins of
//! the store are judged by the same oracle and must be caught: that proves that it bites.

mod journal;
mod order;
mod twins;

use std::sync::Arc;

use metamcp_core::{
    queue::{JobHead, JobState, JobStore, MemoryJobStore},
    testing::{
        ManualClock,
        model::{
            Caller, Op, Oracle, Reply, act, compare_restored_with_model, compare_with_model, ops, serve_to_the_end,
        },
    },
};
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use tokio::runtime::{Builder, Runtime};
use twins::{Fault, Twin};

/// Calls of one run.
const OPS_MAX: usize = 120;
/// Seeds within which a broken twin must be caught.
const TWIN_SEEDS_MAX: u8 = 128;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().expect("a runtime can be made")
}

/// Makes the calls and lets the oracle judge each answer and then all jobs.
async fn judge(
    store: &dyn JobStore,
    clock: &ManualClock,
    ops: &[Op],
    inside: impl Fn() -> Result<(), String>,
) -> Result<(), String> {
    let (mut caller, mut oracle) = (Caller::new(), Oracle::new());
    for (step, op) in ops.iter().enumerate() {
        let call = caller.call(op);
        let at = |what: String| format!("step {step}, {call:?}: {what}");
        let reply = act(&call, store, clock).await.map_err(|error| at(error.to_string()))?;
        caller.learn(&reply);
        oracle.hear(&call, &reply).map_err(at)?;
        oracle.look(store).await.map_err(at)?;
        inside().map_err(at)?;
    }
    Ok(())
}

/// The calls that a seed stands for.
fn drawn(seed: u8) -> Vec<Op> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    ops(OPS_MAX * 2).new_tree(&mut runner).expect("calls can be drawn").current()
}

proptest! {
    #[test]
    fn whatever_is_called_every_promise_is_kept_every_index_is_right_and_nothing_is_stuck(ops in ops(OPS_MAX)) {
        let clock = ManualClock::new();
        let store = MemoryJobStore::new(clock.clone());
        runtime().block_on(judge(&store, &clock, &ops, || store.check())).map_err(TestCaseError::fail)?;
        runtime().block_on(serve_to_the_end(&store, &clock)).map_err(TestCaseError::fail)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_same_calls_give_the_same_state(ops in ops(OPS_MAX)) {
        let clock = ManualClock::new();
        let store = MemoryJobStore::new(clock.clone());
        runtime().block_on(compare_with_model(&store, &clock, &ops)).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn what_is_taken_in_from_another_store_goes_on_as_if_it_had_always_been_here(
        before in ops(OPS_MAX), ops in ops(OPS_MAX)
    ) {
        let clock = ManualClock::new();
        let store = MemoryJobStore::new(clock.clone());
        let compared = runtime().block_on(compare_restored_with_model(&store, &clock, &before, &ops));
        compared.and_then(|()| store.check()).map_err(TestCaseError::fail)?;
        runtime().block_on(serve_to_the_end(&store, &clock)).map_err(TestCaseError::fail)?;
    }
}

#[test]
fn a_broken_twin_is_caught_by_the_oracle() {
    let fence = &["is accepted, the newest is", "is told again what it never said"][..];
    for (fault, promises) in [
        (Fault::AckById, fence),
        (Fault::EpochOnly, fence),
        (Fault::ForgetsRequests, &["a repeated wish got"]),
        (Fault::DropsEveryThird, &["was accepted and is lost"]),
        (Fault::NoCancelWish, &["hears Ok"]),
        (Fault::IgnoresConcurrency, &["is one too many of its concurrency key"]),
        (Fault::IgnoresLaneBounds, &["jobs of lane heavy are leased, 2 may be"]),
        // A job that is not waited for is not kept either: whichever of the two comes first.
        (Fault::ForgetsParents, &["is handed out before a job it waits for is done", "still takes its result"]),
        // The parent of a dead job may go; what shows is that the job is redriven without it.
        (Fault::RemovesUsedParents, &["still takes its result", "is handed out before a job it waits for is done"]),
    ] {
        let caught = (0..TWIN_SEEDS_MAX).find_map(|seed| {
            let clock = ManualClock::new();
            let twin = Twin::new(MemoryJobStore::new(clock.clone()), fault);
            runtime().block_on(judge(&twin, &clock, &drawn(seed), || Ok(()))).err()
        });
        let what = caught.unwrap_or_else(|| panic!("{fault:?} passes {TWIN_SEEDS_MAX} seeds"));
        assert!(
            promises.iter().any(|promise| what.contains(promise)),
            "{fault:?} is caught for another reason: {what}"
        );
    }
}

#[test]
fn a_broken_twin_is_caught_by_the_comparison_with_the_model() {
    for fault in Fault::ALL {
        let caught = (0..TWIN_SEEDS_MAX).any(|seed| {
            let clock = ManualClock::new();
            let twin = Twin::new(MemoryJobStore::new(clock.clone()), fault);
            runtime().block_on(compare_with_model(&twin, &clock, &drawn(seed))).is_err()
        });
        assert!(caught, "{fault:?} passes {TWIN_SEEDS_MAX} seeds");
    }
}

#[test]
fn the_true_store_passes_every_seed_that_the_twins_are_tried_with() {
    for seed in 0..TWIN_SEEDS_MAX {
        let clock = ManualClock::new();
        let store = Arc::new(MemoryJobStore::new(clock.clone()));
        runtime().block_on(judge(store.as_ref(), &clock, &drawn(seed), || store.check())).unwrap();
    }
}

/// Words for where a job stands, to see which of it the drawn calls reach.
fn stands(head: &JobHead) -> Vec<&'static str> {
    [
        ("blocked", head.blocked),
        ("blocked in the second lane", head.blocked && head.lane == Caller::lane(1)),
        (
            "given back with its slot",
            head.admitted && head.epoch > 0 && matches!(head.state, JobState::Ready | JobState::Input),
        ),
        ("delayed until its slot", head.state == JobState::Delayed && head.admitted),
        ("waits for two", head.waits_on.len() == 2),
        ("used by two", head.users == 2),
        ("ended and used", head.state.is_final() && head.users > 0),
        ("redriven and waits", head.state == JobState::Waiting && head.error.is_some()),
    ]
    .into_iter()
    .filter_map(|(word, holds)| holds.then_some(word))
    .collect()
}

/// Words for the answers that matter, to see which of them the drawn calls reach.
fn words(reply: &Reply) -> Vec<String> {
    match reply {
        Reply::Enqueued(answers) => answers.iter().map(|answer| format!("enqueue {answer:?}")).collect(),
        Reply::Beats(answers) => answers.iter().map(|answer| format!("heartbeat {answer:?}")).collect(),
        Reply::Fenced(answers) => answers.iter().map(|answer| format!("fenced {answer:?}")).collect(),
        Reply::Answered(answer) => vec![format!("answer {answer:?}")],
        Reply::Redriven(answer) => vec![format!("redrive {answer:?}")],
        Reply::Cancelled(answer) => vec![format!("cancel {answer:?}")],
        Reply::Maintained(done) => {
            let reclaimed = done.reclaimed.iter().map(|(_, state)| format!("reclaimed {state:?}"));
            let settled = done.settled.iter().map(|(_, state)| format!("settled {state:?}"));
            let others = [("promoted", done.promoted > 0), ("expired", !done.expired.is_empty())];
            let removed = done.removed.iter().map(|(_, result)| format!("removed, result: {}", result.is_some()));
            let others = others.into_iter().filter(|(_, was)| *was).map(|(word, _)| word.to_owned());
            reclaimed.chain(settled).chain(others).chain(removed).collect()
        }
        Reply::Leased(_) | Reply::Nothing => Vec::new(),
    }
}

#[test]
fn the_drawn_calls_reach_every_move() {
    let (runtime, mut reached) = (runtime(), String::new());
    for seed in 0..TWIN_SEEDS_MAX {
        let clock = ManualClock::new();
        let store = MemoryJobStore::new(clock.clone());
        let mut caller = Caller::new();
        for op in drawn(seed) {
            let call = caller.call(&op);
            let reply = runtime.block_on(act(&call, &store, &clock)).unwrap();
            caller.learn(&reply);
            reached.extend(words(&reply).into_iter().map(|word| word + "\n"));
            for id in Caller::jobs() {
                let job = runtime.block_on(store.get(id)).unwrap();
                job.iter()
                    .flat_map(|job| stands(&job.head))
                    .for_each(|word| reached.push_str(&format!("stands {word}\n")));
            }
        }
    }
    for word in [
        "enqueue Ok",
        "enqueue Duplicate",
        "enqueue Conflict",
        "enqueue Missing",
        "heartbeat Ok",
        "heartbeat CancelAsked",
        "heartbeat Lost",
        "fenced Ok(Done)",
        "fenced Ok(Dead)",
        "fenced Ok(Cancelled)",
        "fenced Ok(Ready)",
        "fenced Ok(Delayed)",
        "fenced Ok(Input)",
        "fenced Ok(Leased)",
        "fenced OkAgain(Done)",
        "fenced OkAgain(Delayed)",
        "fenced Stale",
        "fenced Gone",
        "answer Ok",
        "answer NotWaiting",
        "redrive Ok",
        "redrive NotDead",
        "redrive Missing",
        "cancel Now",
        "cancel Asked",
        "cancel Already",
        "cancel Gone",
        "reclaimed Ready",
        "reclaimed Delayed",
        "reclaimed Dead",
        "reclaimed Cancelled",
        "promoted",
        "settled Dead",
        "stands blocked",
        "stands blocked in the second lane",
        "stands delayed until its slot",
        "stands given back with its slot",
        "stands waits for two",
        "stands used by two",
        "stands ended and used",
        "stands redriven and waits",
        "expired",
        "removed, result: true",
        "removed, result: false",
    ] {
        let count = reached.lines().filter(|line| line.starts_with(word)).count();
        assert!(count >= 5, "`{word}` is reached {count} times in {TWIN_SEEDS_MAX} seeds");
    }
}
