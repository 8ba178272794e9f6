//! Whatever is called, the store answers and stands as the model does.

use std::sync::Arc;

use metamcp_core::testing::{
    ManualClock,
    model::{Op, compare_with_model, ops},
};
use metamcp_mcp_adapters::store::postgres::{PostgresStore, PostgresTerms};
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

#[test]
fn whatever_is_called_the_store_answers_and_stands_as_the_model_does() {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime can be made");
    let server = runtime.block_on(shared_server());
    let run = |calls: Vec<Op>| {
        runtime.block_on(async {
            let (clock, schema) = (ManualClock::new(), fresh_schema());
            let options = at(&server.url(), &schema);
            let store = PostgresStore::open_on_clock(&options, PostgresTerms::default(), Arc::clone(&clock) as _);
            let store = store.await.map_err(|e| TestCaseError::fail(e.to_string()))?;
            compare_with_model(&*store.jobs(), &clock, &calls).await.map_err(TestCaseError::fail)?;
            check(&server, &schema).await.map_err(TestCaseError::fail)
        })
    };
    let runs = std::env::var("METAMCP_MODEL_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(RUNS);
    let config = Config { failure_persistence: None, max_shrink_iters: 300, ..Config::with_cases(runs) };
    TestRunner::new(config).run(&ops(OPS_MAX), run).unwrap();
    runtime.block_on(async { drop(server) });
}
