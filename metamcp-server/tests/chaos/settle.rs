//! The end of a run: everything is healed, the fleet works off what is left, and then the store itself is asked how all of it stands.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use metamcp_core::{
    id::{JobId, Lane},
    queue::{JobQuery, JobStore, LaneCounts},
    result::ResultStore,
};
use metamcp_mcp_adapters::store::{
    postgres::{PostgresOptions, PostgresStore},
    redis::{RedisOptions, RedisStore},
};
use rand::rngs::StdRng;

use crate::{
    fleet::Fleet,
    history::{Answer, End, Execution, History},
    load::Callers,
    plan::LABEL,
};

/// How long the fleet may take to work off what is left, in seconds.
const SETTLE_S_MAX: u64 = 180;
/// How long a caller waits for an answer of a healed fleet, in milliseconds.
const ANSWER_MS_MAX: u64 = 30_000;
/// Tasks submitted when all others have ended: a fleet that is well completes them.
const LAST_TASKS: u32 = 5;
/// Pause between two looks, in milliseconds.
const LOOK_MS: u64 = 100;

/// Lets the healed fleet come to rest.
pub(crate) async fn settle(fleet: &mut Fleet, callers: &Callers, store: &Store, rng: &mut StdRng) {
    let end = Instant::now() + Duration::from_secs(SETTLE_S_MAX);
    work_off(fleet, callers, rng, end).await;
    for number in 0..LAST_TASKS {
        callers.plain(format!("last_{number}"), rng, ANSWER_MS_MAX).await;
    }
    work_off(fleet, callers, rng, end).await;
    // Jobs that nobody was told of end too.
    while Instant::now() < end && store.lanes().await.iter().any(|(_, counts)| is_busy(counts)) {
        pause(fleet).await;
    }
}

/// Until every order is answered and every accepted job has ended, or the time is over.
async fn work_off(fleet: &mut Fleet, callers: &Callers, rng: &mut StdRng, end: Instant) {
    while callers.resubmit(rng, ANSWER_MS_MAX).await && Instant::now() < end {
        pause(fleet).await;
    }
    let mut open: Vec<JobId> = callers.history.lock().expect("no panic").accepted().map(|(job, _)| job).collect();
    while Instant::now() < end {
        open = callers.open(open, rng, ANSWER_MS_MAX).await;
        if open.is_empty() {
            return;
        }
        pause(fleet).await;
    }
}

/// Poison may still kill workers: they are to be started again.
async fn pause(fleet: &mut Fleet) {
    fleet.look();
    tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
}

fn is_busy(counts: &LaneCounts) -> bool {
    counts.ready + counts.waiting + counts.delayed + counts.leased + counts.input > 0
}

/// The store, asked directly.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) jobs: Arc<dyn JobStore>,
    pub(crate) results: Arc<dyn ResultStore>,
}

impl Store {
    pub(crate) async fn open(url: &str) -> Self {
        if url.starts_with("postgres") {
            let options = PostgresOptions::parse(url).expect("a good address");
            let store = PostgresStore::open(&options).await.expect("the store opens");
            return Self { jobs: store.jobs(), results: store.results() };
        }
        let options = RedisOptions::parse(url).expect("a good address");
        let store = RedisStore::connect(options.into()).await.expect("the store opens");
        Self { jobs: store.jobs(), results: store.results() }
    }

    async fn lanes(&self) -> Vec<(Lane, LaneCounts)> {
        let mut lanes = Vec::new();
        for lane in self.jobs.lanes().await.expect("the store is well") {
            let counts = self.jobs.counts(&lane).await.expect("the store is well");
            lanes.push((lane, counts));
        }
        lanes
    }

    /// Writes down how everything stands.
    pub(crate) async fn reckon(&self, calls: Vec<Execution>, history: &mut History) {
        let (mut ends, mut query) = (BTreeMap::new(), JobQuery::default());
        loop {
            let page = self.jobs.list(&query).await.expect("the store is well");
            for job in page.jobs {
                let answer = match &job.head.result {
                    // One that is not there or not whole is told by the invariant.
                    Some(pointer) => {
                        let body = self.results.get(pointer, None).await.ok();
                        body.and_then(|body| Answer::of(&body.bytes))
                    }
                    None => None,
                };
                let key = job.body.task.labels.get(LABEL).cloned();
                ends.insert(job.head.id, End { head: job.head, key, answer });
            }
            query.before = page.next;
            if query.before.is_none() {
                break;
            }
        }
        history.ends = ends;
        history.lanes = self.lanes().await;
        history.executions = calls;
    }
}
