//! A small fleet in this process over a real Redis: two workers that go through everything the promises are about, and a history of it in
//! the same words as that of the large one. What depends on order waits for it; nothing depends on speed.

use std::{
    num::NonZeroU16,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use metamcp_core::{
    id::{JobId, Lane, WorkerId},
    pointer::Digest,
    queue::{
        Beat, Cancelled, Enqueued, Final, Finish, Heartbeat, JobBody, JobError, JobErrorCode, JobStore, LeaseRequest,
        Leased, NewJob, Shares,
    },
    result::{ResultMeta, ResultStore},
    task::{ConcurrencyKey, TaskRecord},
    testing::job_store::new_job,
};
use metamcp_mcp_adapters::{
    store::redis::{RedisOptions, RedisStore, RedisStoreOptions},
    testing::{RedisServer, RedisSetup},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::broken::{Broken, Bug};
use crate::{
    history::{Event, Execution, History, Stand},
    invariants::one_final_state::stand,
    plan::{Bound, LABEL, Plan, Tool},
    settle::Store,
};

/// How long a lease lasts, in milliseconds.
const LEASE_MS: u64 = 400;
/// Pause between two rounds of a loop, in milliseconds.
const ROUND_MS: u64 = 20;
/// How long a plain call takes, in milliseconds.
const CALL_MS: u64 = 100;
/// When a job is due that is cancelled before, in milliseconds.
const LATER_MS: u64 = 1_500;
/// How long the fleet may take until all has ended, in seconds.
const SETTLE_S_MAX: u64 = 30;
/// The same for a fleet of which it is known that something never ends.
const STUCK_S_MAX: u64 = 3;
/// Lost leases after which poison is dead, and any other job: a machine that stands still for a moment must not change what is found.
const LOST_MAX: u32 = 2;
const LOST_MAX_OTHERS: u32 = 20;
/// Most moves of one maintenance round.
const MAINTAIN_MAX: NonZeroU16 = NonZeroU16::new(100).expect("not zero");

/// What the parts of the fleet share.
#[derive(Debug)]
struct Small {
    jobs: Broken,
    results: Arc<dyn ResultStore>,
    history: Mutex<History>,
    /// Requests for leases so far.
    requests: AtomicU64,
    since: Instant,
    /// The stopped worker has woken, and has tried to write what it had.
    woken: AtomicBool,
}

/// Runs a fleet whose store has this bug, and answers its history.
pub(super) async fn run(bug: Bug) -> History {
    let server = RedisServer::start(RedisSetup::default()).await.expect("a Redis starts");
    let mut options = RedisStoreOptions::from(RedisOptions::parse(&server.url()).expect("a good address"));
    let backoff = Duration::from_millis(ROUND_MS);
    (options.limits.lost_backoff_base, options.limits.lost_backoff_max) = (backoff, backoff);
    let store = RedisStore::connect(options).await.expect("the store opens");
    let small = Arc::new(Small {
        jobs: Broken::new(store.jobs(), bug),
        results: store.results(),
        history: Mutex::new(History::new(LOST_MAX)),
        requests: AtomicU64::new(0),
        since: Instant::now(),
        woken: AtomicBool::new(false),
    });
    let stop = CancellationToken::new();
    let workers = ["one", "two"].map(|name| tokio::spawn(work(Arc::clone(&small), name, stop.clone())));
    let keeper = tokio::spawn(keep(Arc::clone(&small), stop.clone()));
    small.load().await;
    stop.cancel();
    for task in workers.into_iter().chain([keeper]) {
        task.await.expect("the fleet does not panic");
    }
    let mut history = std::mem::take(&mut *small.history.lock().expect("no panic"));
    let calls = std::mem::take(&mut history.executions);
    // The true store is asked: the bug must not hide itself.
    let truth = Store { jobs: store.jobs(), results: store.results() };
    truth.reckon(calls, &mut history).await;
    history
}

impl Small {
    fn told(&self) -> std::sync::MutexGuard<'_, History> {
        self.history.lock().expect("no panic")
    }

    fn now(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_nanos()).expect("not that long")
    }

    /// Everything that the promises are about, once.
    async fn load(&self) {
        self.submit(&Plan::new("poison", Tool::Poison)).await;
        self.submit(&Plan::new("slow", Tool::Slow)).await;
        self.submit(&Plan::new("note", Tool::Note)).await;
        self.submit(&Plan::new("unlucky", Tool::Look)).await;
        for number in 0..3 {
            let bound = Some(Bound { kind: "kind".to_owned(), max: 1 });
            self.submit(&Plan { bound, ..Plan::new(format!("look_{number}"), Tool::Look) }).await;
        }
        let twice = Plan::new("twice", Tool::Look);
        self.submit(&twice).await;
        self.submit(&twice).await;
        let parent = self.submit(&Plan::new("mark_parent", Tool::Mark)).await;
        self.submit(&Plan { parent: Some((parent, "mark_parent".to_owned())), ..Plan::new("child", Tool::Join) }).await;
        let changed_mind = self.enqueue(&Plan::new("changed_mind", Tool::Look), Duration::from_millis(LATER_MS)).await;
        self.cancel(changed_mind).await;
        self.settle().await;
        self.submit(&Plan::new("last", Tool::Look)).await;
        self.settle().await;
    }

    async fn submit(&self, plan: &Plan) -> JobId {
        self.enqueue(plan, Duration::ZERO).await
    }

    async fn enqueue(&self, plan: &Plan, delay: Duration) -> JobId {
        self.told().plan(plan);
        let fresh = new_job();
        let task = TaskRecord { labels: [(LABEL.to_owned(), plan.key.clone())].into(), ..fresh.body.task.clone() };
        let job = NewJob {
            delay,
            lost_max: if plan.tool == Tool::Poison { LOST_MAX } else { LOST_MAX_OTHERS },
            idempotency_key: Some(plan.key.clone()),
            request_digest: Digest::of(plan.key.as_bytes()),
            after: plan.parent.iter().map(|(parent, _)| *parent).collect(),
            concurrency: plan.bound.as_ref().map(|bound| ConcurrencyKey { key: bound.kind.clone(), max: bound.max }),
            body: Arc::new(JobBody { task, route: fresh.body.route.clone() }),
            ..fresh
        };
        let told = self.jobs.enqueue(std::slice::from_ref(&job)).await.expect("the store is well").pop();
        let id = match told.expect("an answer") {
            Enqueued::Ok { .. } => job.id,
            Enqueued::Duplicate { job, .. } => job,
            other => panic!("{other:?}"),
        };
        self.told().add(Event::Accepted { key: plan.key.clone(), job: id });
        id
    }

    async fn cancel(&self, job: JobId) {
        let cancelled = self.jobs.cancel(job, "no longer wanted").await.expect("the store is well");
        assert_eq!(cancelled, Cancelled::Now, "it is not due yet");
        let stand = Stand { state: "cancelled".to_owned(), result: None, code: None };
        self.told().add(Event::Saw { job, stand });
    }

    /// Looks at all jobs until they have ended.
    async fn settle(&self) {
        let most = if self.jobs.bug == Bug::NeverReclaims { STUCK_S_MAX } else { SETTLE_S_MAX };
        let end = Instant::now() + Duration::from_secs(most);
        let jobs: Vec<JobId> = self.told().accepted().map(|(job, _)| job).collect();
        loop {
            let mut open = 0;
            for job in &jobs {
                // One that is not there never will be.
                let Some(job) = self.jobs.get(*job).await.expect("the store is well") else { continue };
                open += u32::from(!job.head.state.is_final());
                self.told().add(Event::Saw { job: job.head.id, stand: stand(&job.head) });
            }
            if open == 0 || Instant::now() >= end {
                return;
            }
            tokio::time::sleep(Duration::from_millis(ROUND_MS)).await;
        }
    }

    /// Waits until another lease of the job makes its call.
    async fn other_call(&self, job: JobId, epoch: u64) {
        while !self.told().executions.iter().any(|call| call.job == job && call.epoch > epoch) {
            tokio::time::sleep(Duration::from_millis(ROUND_MS)).await;
        }
    }

    /// Keeps a lease until something has happened, or the lease is gone.
    async fn beat_until(&self, leased: &Leased, happened: impl Fn(&History) -> bool) {
        let beat = Heartbeat { lease: leased.key, progress: None };
        while !happened(&self.told()) {
            let beats = self.jobs.heartbeat(std::slice::from_ref(&beat), Duration::from_millis(LEASE_MS)).await;
            if beats.expect("the store is well") == [Beat::Lost] {
                return;
            }
            tokio::time::sleep(Duration::from_millis(ROUND_MS)).await;
        }
    }

    /// Serves one job, or dies of it.
    async fn serve(&self, leased: Leased) {
        let (job, epoch) = (leased.key.job, leased.key.epoch);
        let label = leased.job.body.task.labels.get(LABEL).expect("every job has one");
        let plan = self.told().plans.get(label).cloned().expect("what is leased was planned");
        if leased.job.head.maybe_called && !plan.tool.is_repeatable() {
            let unknown = JobError::new(JobErrorCode::OutcomeUnknown, "it may have happened");
            return self.finish(&leased, Final::Dead(unknown)).await;
        }
        let of = self.result_of_parent(&plan).await;
        let call = {
            let (mut told, began) = (self.told(), self.now());
            let (tool, key) = (plan.tool, plan.key.clone());
            told.executions.push(Execution { tool, key, job, epoch, began, ended: None });
            told.executions.len() - 1
        };
        let begun = |history: &History, wanted: &dyn Fn(&Execution) -> bool| {
            history.executions.iter().filter(|call| wanted(call)).count()
        };
        match (plan.tool, epoch) {
            // The worker dies with it.
            (Tool::Poison, _) => return,
            // Stopped longer than its lease, until another worker is at it.
            (Tool::Slow, 1) if self.jobs.bug != Bug::NeverReclaims => self.other_call(job, epoch).await,
            (Tool::Slow, 2..) => self.beat_until(&leased, |_| self.woken.load(Ordering::SeqCst)).await,
            // What the bug lets happen, and only then: calls that overlap, a child before its parent's end.
            _ if self.jobs.bug == Bug::IgnoresConcurrency && plan.bound.is_some() => {
                self.beat_until(&leased, |told| begun(told, &|call| call.key.starts_with("look_")) > 1).await;
            }
            (Tool::Mark, _) if self.jobs.bug == Bug::IgnoresAfter => {
                self.beat_until(&leased, |told| begun(told, &|call| call.tool == Tool::Join) > 0).await;
            }
            _ => tokio::time::sleep(Duration::from_millis(CALL_MS)).await,
        }
        let ended = self.now();
        self.told().executions[call].ended = Some(ended);
        // It has acted, and its worker dies before it can say so.
        if (plan.tool, epoch) == (Tool::Note, 1) {
            return;
        }
        let told = json!({ "structuredContent": { "job": job, "epoch": epoch, "key": plan.key, "of": of } });
        let tenant = leased.job.head.owner.tenant.clone();
        let meta = ResultMeta { tenant, media_type: "application/json".to_owned(), expires_at: None };
        let body = Bytes::from(told.to_string());
        let pointer = self.results.put(leased.key, body, meta).await.expect("the store is well");
        self.finish(&leased, Final::Done(pointer)).await;
        if (plan.tool, epoch) == (Tool::Slow, 1) {
            self.woken.store(true, Ordering::SeqCst);
        }
    }

    async fn finish(&self, leased: &Leased, end: Final) {
        let finish = Finish { lease: leased.key, end };
        // Refused when the lease is gone: then somebody else ends the job.
        self.jobs.finish(&[finish]).await.expect("the store is well");
    }

    /// The key of its parent, if the parent's result is there.
    async fn result_of_parent(&self, plan: &Plan) -> Option<String> {
        let (parent, key) = plan.parent.as_ref()?;
        let parent = self.jobs.get(*parent).await.expect("the store is well")?;
        parent.head.result.is_some().then(|| key.clone())
    }
}

/// One worker.
async fn work(small: Arc<Small>, name: &'static str, stop: CancellationToken) {
    let mut calls = tokio::task::JoinSet::new();
    while !stop.is_cancelled() {
        let request = small.requests.fetch_add(1, Ordering::Relaxed) + 1;
        let want = LeaseRequest {
            lanes: vec![Lane::light()],
            max: 4,
            visibility: Duration::from_millis(LEASE_MS),
            worker: WorkerId::new(name).expect("a valid name"),
            request,
            nonce: request,
            shares: Arc::new(Shares::default()),
        };
        for leased in small.jobs.lease(&want).await.expect("the store is well").jobs {
            let small = Arc::clone(&small);
            calls.spawn(async move { small.serve(leased).await });
        }
        tokio::time::sleep(Duration::from_millis(ROUND_MS)).await;
    }
    while let Some(call) = calls.join_next().await {
        call.expect("a call does not panic");
    }
}

/// Maintains the store.
async fn keep(small: Arc<Small>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        small.jobs.maintain(MAINTAIN_MAX).await.expect("the store is well");
        tokio::time::sleep(Duration::from_millis(ROUND_MS)).await;
    }
}
