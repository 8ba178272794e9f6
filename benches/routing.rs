//! From a need to a route: `LexicalMatcher::rank`, all of it, over catalogues of 10 to 100,000 tools, and the building of an index.
//!
//! One thread. A need of words, a need that is held against a lane, a tool named outright; and as the floor of the same run a bare BM25
//! over the same texts, which has no fields, stems, reasons, filters or schemas.

use std::{collections::HashMap, hint::black_box, sync::Arc};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use metamcp_benches::{catalogue, needs};
use metamcp_core::{
    auth::Principal,
    id::{Lane, ServerName},
    matching::{Capability, CapabilityMatcher, Catalog, DenseTable, LexicalMatcher},
    task::Need,
};

const NEEDS: usize = 200;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers needs nothing")
}

fn rank(c: &mut Criterion) {
    let mut group = c.benchmark_group("rank");
    let words = needs(NEEDS);
    let who = Principal::local();
    for tools in [10, 1_000, 10_000, 100_000] {
        let catalog = catalogue(tools);
        let matcher = LexicalMatcher::new();
        matcher.prepare(&catalog);
        let runtime = runtime();
        let mut ask_of = |matcher: &LexicalMatcher, name: &str, needs: &[Need]| {
            group.bench_function(BenchmarkId::new(name, tools), |b| {
                let mut turn = needs.iter().cycle();
                b.to_async(&runtime).iter(|| {
                    let need = turn.next().expect("a cycle over some needs never ends");
                    let (who, catalog) = (&who, &catalog);
                    async move { black_box(matcher.rank(who, need, catalog).await.expect("this matcher never fails")) }
                });
            });
        };
        ask_of(&matcher, "words", &words);
        let near = LexicalMatcher::new().with_table(DenseTable::built_in());
        near.prepare(&catalog);
        ask_of(&near, "words and meaning", &words);
        let in_lane: Vec<Need> = words.iter().map(|n| Need { lane: Some(Lane::light()), ..n.clone() }).collect();
        ask_of(&matcher, "words and lane", &in_lane);
        let named: Vec<Need> = catalog
            .capabilities()
            .iter()
            .take(NEEDS)
            .map(|c| Need { tool: Some(c.id.clone()), ..Need::default() })
            .collect();
        ask_of(&matcher, "named", &named);
        let mut floor = BareBm25::build(&catalog);
        group.bench_function(BenchmarkId::new("bare BM25", tools), |b| {
            let mut turn = words.iter().cycle();
            b.iter(|| floor.best(&turn.next().expect("a cycle over some needs never ends").text));
        });
    }
    group.finish();
}

/// Ready-made weights, a dense accumulator, the ten best: as little as ranking can be.
struct BareBm25 {
    terms: HashMap<String, Vec<(u32, f32)>>,
    scores: Vec<f32>,
    touched: Vec<u32>,
}

impl BareBm25 {
    const BEST: usize = 10;

    fn build(catalog: &Catalog) -> Self {
        let (k1, b) = (1.2_f32, 0.75_f32);
        let text = |at: usize| {
            let capability = &catalog.capabilities()[at];
            format!("{} {}", capability.id.tool().replace('_', " "), capability.description)
        };
        let count = catalog.capabilities().len();
        let lengths: Vec<f32> = (0..count).map(|at| text(at).split(' ').count() as f32).collect();
        let mean = lengths.iter().sum::<f32>() / count as f32;
        let mut terms: HashMap<String, Vec<(u32, f32)>> = HashMap::new();
        for (at, length) in lengths.iter().enumerate() {
            let mut found: HashMap<String, f32> = HashMap::new();
            text(at).split(' ').for_each(|word| *found.entry(word.to_owned()).or_default() += 1.0);
            for (word, times) in found {
                let weight = times * (k1 + 1.0) / (times + k1 * (1.0 - b + b * length / mean));
                terms.entry(word).or_default().push((at as u32, weight));
            }
        }
        for postings in terms.values_mut() {
            let with = postings.len() as f32;
            let rarity = (1.0 + (count as f32 - with + 0.5) / (with + 0.5)).ln();
            postings.iter_mut().for_each(|(_, weight)| *weight *= rarity);
        }
        Self { terms, scores: vec![0.0; count], touched: Vec::new() }
    }

    fn best(&mut self, need: &str) -> Vec<(u32, f32)> {
        self.touched.clear();
        for word in need.split(' ') {
            for (tool, weight) in self.terms.get(word).map_or(&[][..], Vec::as_slice) {
                let score = &mut self.scores[*tool as usize];
                if *score == 0.0 {
                    self.touched.push(*tool);
                }
                *score += weight;
            }
        }
        let mut best: Vec<(u32, f32)> = Vec::with_capacity(Self::BEST + 1);
        for tool in &self.touched {
            let score = std::mem::take(&mut self.scores[*tool as usize]);
            if best.len() < Self::BEST || score > best[best.len() - 1].1 {
                best.insert(best.partition_point(|(_, known)| *known >= score), (*tool, score));
                best.truncate(Self::BEST);
            }
        }
        best
    }
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

/// One server of ten tools more: a catalogue and its index, from those before it.
fn update(c: &mut Criterion) {
    let mut group = c.benchmark_group("index");
    for tools in [10_000, 100_000] {
        let known = catalogue(tools);
        for (name, matcher) in [
            ("update", LexicalMatcher::new()),
            ("update with meaning", LexicalMatcher::new().with_table(DenseTable::built_in())),
        ] {
            matcher.prepare(&known);
            group.bench_function(BenchmarkId::new(name, tools), |b| {
                let more = || -> Vec<Arc<Capability>> {
                    catalogue(10).capabilities().iter().map(|tool| Arc::new(renamed(tool))).collect()
                };
                b.iter_batched(
                    more,
                    |more| matcher.prepare(&Catalog::new(known.capabilities().iter().cloned().chain(more))),
                    BatchSize::SmallInput,
                );
            });
        }
    }
    group.finish();
}

/// The same tool of a server that was not there before.
fn renamed(tool: &Capability) -> Capability {
    let server = ServerName::new("newcomer").expect("letters");
    Capability::from_definition(&server, tool.terms.clone(), tool.definition.clone()).expect("it was one before")
}

criterion_group!(benches, rank, build, update);
criterion_main!(benches);
