//! Whether a queue gets slower with what it has done: cost of depth, list and lease, and memory of a live job, after 1,000 and after more
//! finished jobs. Beside each stands what counts of a lane without jobs take, asked in turn with it: the floor of that moment.
//!
//! `cargo bench --bench growth -- [FINISHED]` starts a private Redis and a private PostgreSQL; 1,000,000 finished jobs take minutes.

use std::{sync::Arc, time::Instant};

use metamcp_benches::store::{Shared, open};
use metamcp_core::{
    id::{Lane, WorkerId},
    pointer::{Digest, ResultPointer},
    queue::{Final, Finish, JobQuery, JobState, JobStore, LeaseRequest, NewJob},
    testing::job_store::new_job,
};
use metamcp_mcp_adapters::testing::{PostgresServer, PostgresSetup, RedisServer, RedisSetup};

/// Finished jobs at the second measurement unless told otherwise.
const FINISHED: usize = 100_000;
const FEW: usize = 1_000;
/// Entries of one call.
const BATCH: usize = 100;
/// Measurements of which the median counts.
const ROUNDS: usize = 201;

fn main() {
    let finished = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(FINISHED);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    runtime.block_on(async {
        let redis = RedisServer::start(RedisSetup::default()).await.expect("redis");
        let store = open(&redis.url()).await;
        println!("redis, a live job beside its payload: {} bytes", live_bytes(&redis, &store).await);
        grow("redis", &store, finished).await;
        drop((store, redis));
        // A store refuses a server that is set up to lose jobs.
        let setup = PostgresSetup { fsync: true, ..PostgresSetup::default() };
        let postgres = PostgresServer::start(setup).await.expect("postgres");
        grow("postgres", &open(&postgres.url()).await, finished).await;
    });
}

async fn live_bytes(redis: &RedisServer, store: &Shared) -> usize {
    const LIVE: usize = 10_000;
    let used = async || {
        let info = redis.cli(&["INFO", "memory"]).await.expect("redis answers");
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")?.trim().parse::<usize>().ok());
        line.expect("it tells its memory")
    };
    let before = used().await;
    let mut payload = 0;
    for _ in 0..LIVE / BATCH {
        let jobs: Vec<NewJob> = (0..BATCH).map(|_| new_job()).collect();
        payload += jobs.iter().map(|job| serde_json::to_vec(&*job.body).expect("JSON").len()).sum::<usize>();
        store.jobs.enqueue(&jobs).await.expect("accepted");
    }
    let bytes = (used().await - before).saturating_sub(payload) / LIVE;
    while work(&store.jobs, BATCH, true).await > 0 {}
    bytes
}

/// Leases and ends; answers how many jobs that were.
async fn work(jobs: &Arc<dyn JobStore>, max: usize, ends: bool) -> usize {
    static REQUEST: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let request = REQUEST.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let want = LeaseRequest {
        lanes: vec![new_job().lane],
        max: u16::try_from(max).expect("a batch"),
        visibility: std::time::Duration::from_secs(600),
        worker: WorkerId::new("bench").expect("a name"),
        request,
        nonce: request,
        shares: Arc::default(),
    };
    let batch = jobs.lease(&want).await.expect("a lease");
    let done: Vec<Finish> = batch
        .jobs
        .iter()
        .map(|leased| {
            let (job, digest) = (leased.key.job, Digest::of(b"done"));
            let tenant = leased.job.head.owner.tenant.clone();
            Finish { lease: leased.key, end: Final::Done(ResultPointer { tenant, job, digest }) }
        })
        .collect();
    if ends && !done.is_empty() {
        jobs.finish(&done).await.expect("ended");
    }
    batch.jobs.len()
}

async fn grow(name: &str, store: &Shared, finished: usize) {
    let mut done = 0;
    for goal in [FEW, finished] {
        let began = Instant::now();
        let from = done;
        while done < goal {
            let jobs: Vec<NewJob> = (0..BATCH).map(|_| new_job()).collect();
            store.jobs.enqueue(&jobs).await.expect("accepted");
            done += work(&store.jobs, BATCH, true).await;
        }
        #[expect(clippy::cast_precision_loss, reason = "counts of a bench")]
        let rate = (done - from) as f64 / began.elapsed().as_secs_f64();
        let cost = cost(store).await;
        println!("{name}, {done} finished ({rate:.0} jobs/s, one caller, batches of {BATCH}): {cost}");
    }
}

async fn cost(store: &Shared) -> String {
    let (lane, nobody) = (new_job().lane, Lane::new("nobody").expect("a lane"));
    let mut live = JobQuery::default();
    live.states = vec![JobState::Ready, JobState::Delayed, JobState::Leased];
    live.limit = 50;
    let mut newest = JobQuery::default();
    newest.limit = 50;
    let mut told = Vec::new();
    for what in ["counts", "list of live", "list of newest", "lease and end of one"] {
        let (mut rounds, mut floor) = (Vec::with_capacity(ROUNDS), Vec::with_capacity(ROUNDS));
        for _ in 0..ROUNDS {
            if what.starts_with("lease") {
                store.jobs.enqueue(&[new_job()]).await.expect("accepted");
            }
            let asked = Instant::now();
            store.jobs.counts(&nobody).await.expect("counts");
            floor.push(asked.elapsed().as_micros());
            let began = Instant::now();
            match what {
                "counts" => drop(store.jobs.counts(&lane).await.expect("counts")),
                "list of live" => drop(store.jobs.list(&live).await.expect("a page")),
                "list of newest" => drop(store.jobs.list(&newest).await.expect("a page")),
                _ => assert_eq!(work(&store.jobs, 1, true).await, 1),
            }
            rounds.push(began.elapsed().as_micros());
        }
        told.push(format!("{what} {} us (floor {})", median(&mut rounds), median(&mut floor)));
    }
    told.join(", ")
}

fn median(rounds: &mut [u128]) -> u128 {
    rounds.sort_unstable();
    rounds[rounds.len() / 2]
}
