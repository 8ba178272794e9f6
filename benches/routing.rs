//! From a need to a route: `LexicalMatcher::rank`, all of it, over catalogues of 10 to 100,000 tools, and the building of an index.
//!
//! One thread. A need of words, a need that is held against a lane, a tool named outright.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use metamcp_benches::{catalogue, needs};
use metamcp_core::{
    id::Lane,
    matching::{CapabilityMatcher, LexicalMatcher},
    task::Need,
};

const NEEDS: usize = 200;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers needs nothing")
}

fn rank(c: &mut Criterion) {
    let mut group = c.benchmark_group("rank");
    let words = needs(NEEDS);
    for tools in [10, 1_000, 10_000, 100_000] {
        let catalog = catalogue(tools);
        let matcher = LexicalMatcher::new();
        matcher.prepare(&catalog);
        let runtime = runtime();
        let mut ask = |name: &str, needs: &[Need]| {
            group.bench_function(BenchmarkId::new(name, tools), |b| {
                let mut turn = needs.iter().cycle();
                b.to_async(&runtime).iter(|| {
                    let need = turn.next().expect("a cycle over some needs never ends");
                    let (matcher, catalog) = (&matcher, &catalog);
                    async move { black_box(matcher.rank(need, catalog).await.expect("this matcher never fails")) }
                });
            });
        };
        ask("words", &words);
        let in_lane: Vec<Need> = words.iter().map(|n| Need { lane: Some(Lane::light()), ..n.clone() }).collect();
        ask("words and lane", &in_lane);
        let named: Vec<Need> = catalog
            .capabilities()
            .iter()
            .take(NEEDS)
            .map(|c| Need { tool: Some(c.id.clone()), ..Need::default() })
            .collect();
        ask("named", &named);
    }
    group.finish();
}

fn build(c: &mut Criterion) {
    let mut group = c.benchmark_group("index");
    group.sample_size(10);
    for tools in [1_000, 10_000, 100_000] {
        let catalog = catalogue(tools);
        group.throughput(Throughput::Elements(tools as u64));
        group.bench_function(BenchmarkId::new("build", tools), |b| {
            b.iter_with_large_drop(|| {
                let matcher = LexicalMatcher::new();
                matcher.prepare(&catalog);
                matcher
            });
        });
    }
    group.finish();
}

criterion_group!(benches, rank, build);
criterion_main!(benches);
