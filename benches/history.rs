//! Ranking with what was learned: 10,000 tools and a past of 0, 10,000 and 1,000,000 outcomes, and the learning of one outcome.
//!
//! One thread. The past is bounded, so most of a million outcomes is forgotten again: what is measured is a memory that is full.

use std::{hint::black_box, sync::Arc, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use metamcp_benches::{Seeded, catalogue, needs, word};
use metamcp_core::{
    auth::Principal,
    id::JobId,
    matching::{CapabilityMatcher, Catalog, History, LearningMatcher, Lesson, LexicalMatcher, Verdict},
    time::Timestamp,
};

const TOOLS: usize = 10_000;
const NEEDS: usize = 200;
/// Words that past needs are made of.
const WORDS: usize = 8_000;
/// Tools that served anything.
const SERVING: usize = 2_000;

/// Lessons as jobs would teach them, a second apart.
struct Lessons<'a> {
    random: Seeded,
    catalog: &'a Catalog,
    at: Timestamp,
}

impl<'a> Lessons<'a> {
    fn new(catalog: &'a Catalog) -> Self {
        Self { random: Seeded::new(7), catalog, at: Timestamp::from_millis(1_700_000_000_000) }
    }
}

impl Iterator for Lessons<'_> {
    type Item = Lesson;

    fn next(&mut self) -> Option<Lesson> {
        let random = &mut self.random;
        let words: Vec<String> = (0..6 + random.below(8)).map(|_| word(random.zipf(WORDS))).collect();
        self.at = self.at + Duration::from_secs(1);
        let verdict = if random.below(10) == 0 { Verdict::Refused } else { Verdict::Served };
        let capability = self.catalog.capabilities()[random.zipf(SERVING)].id.clone();
        let subject = format!("subject{}", random.below(20));
        Some(Lesson { need: words.join(" "), capability, verdict, at: self.at, job: JobId::new(self.at), subject })
    }
}

fn rank(c: &mut Criterion) {
    let mut group = c.benchmark_group("rank with history");
    let (catalog, needs, who) = (catalogue(TOOLS), needs(NEEDS), Principal::local());
    let runtime =
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers needs nothing");
    for outcomes in [0, 10_000, 1_000_000] {
        let history = Arc::new(History::new());
        Lessons::new(&catalog).take(outcomes).for_each(|lesson| _ = history.learn(&who.tenant, lesson));
        let words = LexicalMatcher::new();
        words.prepare(&catalog);
        let matcher = LearningMatcher::new(Arc::new(words), history);
        group.bench_function(BenchmarkId::from_parameter(outcomes), |b| {
            let mut turn = needs.iter().cycle();
            b.to_async(&runtime).iter(|| {
                let need = turn.next().expect("a cycle over some needs never ends");
                let (matcher, who, catalog) = (&matcher, &who, &catalog);
                async move { black_box(matcher.rank(who, need, catalog).await.expect("this matcher never fails")) }
            });
        });
    }
    group.finish();
}

/// Forgetting is in it: one outcome of some thousands pays for it.
fn learn(c: &mut Criterion) {
    let mut group = c.benchmark_group("learn");
    group.throughput(Throughput::Elements(1));
    let (catalog, who, history) = (catalogue(TOOLS), Principal::local(), History::new());
    let mut lessons = Lessons::new(&catalog);
    lessons.by_ref().take(20_000).for_each(|lesson| _ = history.learn(&who.tenant, lesson));
    group.bench_function("one outcome, memory full", |b| {
        b.iter(|| history.learn(&who.tenant, lessons.next().expect("there is always another")));
    });
    group.finish();
}

criterion_group!(benches, rank, learn);
criterion_main!(benches);
