//! From submission to result through the whole engine, over memory stores and a scripted server that answers at once: what the engine
//! itself costs a job.

use std::{sync::Arc, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use metamcp_core::{
    auth::Principal,
    engine::{Orchestrator, WorkerOptions},
    id::ServerName,
    queue::JobState,
    task::Task,
    testing::scripted::ScriptedTransport,
};
use tokio::task::JoinSet;

const WAIT_MAX: Duration = Duration::from_secs(30);
const CONCURRENCY: u16 = 64;

async fn one(orchestrator: &Orchestrator, who: &Principal) {
    let accepted = orchestrator.submit(who, Task::new("echo a greeting")).await.expect("a tool matches");
    let job = orchestrator.wait(who, accepted.job.head.id, WAIT_MAX).await.expect("the job is there");
    assert_eq!(job.head.state, JobState::Done);
}

fn dispatch(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .expect("threads can be started");
    let name = ServerName::new("scripted").expect("letters");
    let server = ScriptedTransport::new(name.clone())
        .simple_tool("echo", "repeats a greeting, an echo", true)
        .simple_tool("pay", "transfers money once, a payment", false);
    let orchestrator = Arc::new(Orchestrator::builder().server(name, Arc::new(server)).build());
    let worker = {
        let _inside = runtime.enter();
        orchestrator.worker(WorkerOptions::default().with_concurrency(CONCURRENCY))
    };
    let who = Principal::local();

    let mut group = c.benchmark_group("dispatch");
    group.sample_size(30);
    for together in [1_usize, 64] {
        group.throughput(Throughput::Elements(together as u64));
        group.bench_function(BenchmarkId::new("submit to result", together), |b| {
            b.to_async(&runtime).iter(|| async {
                let mut at_work = JoinSet::new();
                for _ in 0..together {
                    let (orchestrator, who) = (Arc::clone(&orchestrator), who.clone());
                    at_work.spawn(async move { one(&orchestrator, &who).await });
                }
                while let Some(done) = at_work.join_next().await {
                    done.expect("no caller panics");
                }
            });
        });
    }
    group.finish();
    runtime.block_on(worker.drain(WAIT_MAX));
}

criterion_group!(benches, dispatch);
criterion_main!(benches);
