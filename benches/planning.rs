//! The pure planner: what a leased job needs, and what a failed call leads to.

use std::{hint::black_box, sync::Arc, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use metamcp_core::{
    engine::{Policy, plan},
    id::Lane,
    matching::Annotations,
    queue::{Job, JobStore, LeaseRequest, MemoryJobStore},
    testing::job_store::new_job,
    time::{Clock, SystemClock},
    transport::{Delivered, TransportError, TransportErrorKind},
};

/// A job as a worker has it.
fn leased() -> Job {
    let runtime =
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers needs nothing");
    let store = MemoryJobStore::new(Arc::new(SystemClock::default()));
    let want = LeaseRequest {
        lanes: vec![Lane::light()],
        max: 1,
        visibility: Duration::from_secs(60),
        worker: "bench".parse().expect("a valid name"),
        request: 1,
        nonce: 7,
        shares: Arc::default(),
    };
    runtime.block_on(async {
        store.enqueue(&[new_job()]).await.expect("memory works");
        store.lease(&want).await.expect("memory works").jobs.remove(0).job
    })
}

fn planning(c: &mut Criterion) {
    let mut group = c.benchmark_group("plan");
    let (job, policy, now) = (leased(), Policy::default(), SystemClock::default().now());
    let annotations = Annotations { idempotent_hint: Some(true), ..Annotations::default() };
    group.bench_function("start", |b| b.iter(|| plan::start(black_box(&job), annotations, now)));
    let busy = TransportError::new(TransportErrorKind::Closed, Delivered::Maybe, "server `bench`: connection closed");
    group.bench_function("failed, to be repeated", |b| {
        b.iter(|| plan::failed(black_box(&job), &busy, annotations, &policy, 0.5));
    });
    group.bench_function("failed, outcome unknown", |b| {
        b.iter(|| plan::failed(black_box(&job), &busy, Annotations::default(), &policy, 0.5));
    });
    group.finish();
}

criterion_group!(benches, planning);
criterion_main!(benches);
