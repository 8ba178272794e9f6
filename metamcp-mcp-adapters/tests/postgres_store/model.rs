//! Whatever is called, the store answers and stands as the model does.

use std::sync::Arc;

use metamcp_core::testing::{
    ManualClock,
    model::{Op, Terms, compare_with_model, ops},
};
use metamcp_mcp_adapters::{
    store::postgres::{PostgresStore, PostgresTerms},
    testing::PostgresServer,
};
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use tokio::runtime::Builder;

use crate::{
    check::check,
    fixture::{at, fresh_schema, shared_server},
};

/// Runs of the comparison.
const RUNS: u32 = 24;
/// Calls of one run.
const OPS_MAX: usize = 80;

/// Makes the calls on a fresh store and on the model, and looks at what they leave in the tables.
async fn compare(server: &PostgresServer, calls: &[Op]) -> Result<(), String> {
    let (clock, schema) = (ManualClock::new(), fresh_schema());
    let options = at(&server.url(), &schema);
    let store = PostgresStore::open_on_clock(&options, PostgresTerms::default(), Arc::clone(&clock) as _);
    let store = store.await.map_err(|e| e.to_string())?;
    compare_with_model(&*store.jobs(), &clock, calls).await?;
    check(server, &schema).await
}

#[test]
fn whatever_is_called_the_store_answers_and_stands_as_the_model_does() {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime can be made");
    let server = runtime.block_on(shared_server());
    let run = |calls: Vec<Op>| runtime.block_on(compare(&server, &calls)).map_err(TestCaseError::fail);
    let runs = std::env::var("METAMCP_MODEL_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(RUNS);
    let config = Config { failure_persistence: None, max_shrink_iters: 300, ..Config::with_cases(runs) };
    TestRunner::new(config).run(&ops(OPS_MAX), run).unwrap();
    runtime.block_on(async { drop(server) });
}

/// A job of tenant 0 with both limits.
fn terms(job: u8, lane: u8, concurrency: u32, rate: Option<u32>) -> Terms {
    Terms {
        job,
        tenant: 0,
        lane,
        priority: 0,
        delay_s: 0,
        deadline_s: None,
        retain_s: 0,
        attempts_max: 1,
        lost_max: 1,
        key: None,
        request: 0,
        after: Vec::new(),
        concurrency: Some(concurrency),
        rate,
        held: None,
    }
}

fn lease(max: u16) -> Op {
    Op::Lease { worker: 0, heavy_first: false, max, again: false }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_job_that_ends_before_its_turn_leaves_it_to_the_next() {
    let urgent = Terms { tenant: 1, priority: 6, deadline_s: Some(1), ..terms(1, 0, 1, None) };
    let jobs = vec![urgent, terms(0, 0, 1, Some(1)), terms(2, 0, 1, Some(1))];
    // The deadline of the first that is blocked and the lease of the holder are over in one round of maintenance.
    let calls = [Op::Enqueue(jobs), lease(2), Op::Advance(30_000), Op::Maintain, lease(2)];
    compare(&*shared_server().await, &calls).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_many_jobs_that_are_given_a_slot_later_lets_another_one_go_on() {
    let holder = terms(0, 0, 1, Some(1));
    let blocked: Vec<Terms> = (1..=3).map(|job| terms(job, 1, 1, None)).collect();
    let early: Vec<Terms> = (4..=7).map(|job| terms(job, 0, 9, Some(1))).collect();
    // One is wanted, so that the early ones are read a few at a time.
    let calls = [Op::Enqueue(vec![holder]), lease(1), Op::Enqueue(blocked), lease(3), Op::Enqueue(early), lease(1)];
    compare(&*shared_server().await, &calls).await.unwrap();
}
