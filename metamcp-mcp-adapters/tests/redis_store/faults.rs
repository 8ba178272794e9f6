//! What servers and networks do to the queue: replies that are lost, scripts that are forgotten, restarts, a full memory, a failover.

use std::{
    num::NonZeroU16,
    sync::{Arc, LazyLock},
    time::Duration,
};

use bytes::Bytes;
use metamcp_core::{
    error::{StoreErrorKind, StoreResult},
    event::{EventBus, EventKind, NewEvent},
    id::{Lane, WorkerId},
    pointer::{Digest, ResultPointer},
    queue::{
        Beat, Checkpoint, Durability, Enqueued, Fenced, Final, Finish, Heartbeat, JobBody, JobQuery, JobState,
        JobStore, LeaseKey, LeaseRequest, Leased, Nack, NackHow, NewJob,
    },
    result::{ResultMeta, ResultStore},
    testing::{ManualClock, job_store::new_job},
};
use metamcp_mcp_adapters::{
    store::redis::{RedisOptions, RedisStore, RedisStoreOptions},
    testing::{CutProxy, RedisServer, RedisSetup, Sentinels},
};

use crate::fixture::{fresh, open, server, with};

/// Longest that a store may take to heal.
const HEALS: Duration = Duration::from_secs(60);
/// Pause between two tries.
const AGAIN: Duration = Duration::from_millis(20);

/// A wish for up to `max` jobs of lane `light`.
pub(crate) fn wish(request: u64, max: u16) -> LeaseRequest {
    LeaseRequest {
        lanes: vec![Lane::light()],
        max,
        visibility: Duration::from_secs(30),
        worker: WorkerId::new("w").unwrap(),
        request,
        nonce: u64::MAX - request,
        shares: Arc::default(),
    }
}

/// The end of a lease with a result.
pub(crate) fn done(lease: LeaseKey) -> Finish {
    let tenant = metamcp_core::auth::Principal::local().tenant;
    Finish { lease, end: Final::Done(ResultPointer { tenant, job: lease.job, digest: Digest::of(b"3") }) }
}

fn released(lease: LeaseKey) -> Nack {
    Nack { lease, how: NackHow::Release { delay: Duration::ZERO, maybe_called: false } }
}

/// A job with a body that does not go through scripts.
pub(crate) fn large_job() -> NewJob {
    static LARGE: LazyLock<Arc<JobBody>> = LazyLock::new(|| {
        let mut body = (*new_job().body).clone();
        body.task.need.text = "x".repeat(100_000);
        Arc::new(body)
    });
    NewJob { body: Arc::clone(&LARGE), ..new_job() }
}

fn ok(answers: &[Enqueued]) -> bool {
    answers.iter().all(|answer| matches!(answer, Enqueued::Ok { .. }))
}

/// Makes a call again until it goes well; each failure before must say that this helps.
async fn healed<T>(mut call: impl AsyncFnMut() -> StoreResult<T>) -> T {
    let tries = async {
        loop {
            match call().await {
                Ok(done) => return done,
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
            tokio::time::sleep(AGAIN).await;
        }
    };
    tokio::time::timeout(HEALS, tries).await.expect("the store heals")
}

/// A store behind a proxy that loses replies, over one connection. The server knows the scripts already: a lost NOSCRIPT would prove nothing.
async fn proxied(server: &RedisServer) -> (CutProxy, RedisStore) {
    let known = open(&with(&server.url(), "namespace=known"), &ManualClock::new()).await.jobs();
    known.enqueue(&[large_job()]).await.unwrap();
    let key = known.lease(&wish(1, 1)).await.unwrap().jobs[0].key;
    known.nack(&[released(key)]).await.unwrap();
    known.finish(&[done(key)]).await.unwrap();
    let proxy = CutProxy::start(server.port()).await.unwrap();
    let url = format!("redis://127.0.0.1:{}/0?pool=1", proxy.port());
    let store = open(&url, &ManualClock::new()).await;
    (proxy, store)
}

/// Makes a call whose reply is lost, and then again.
async fn twice<T: std::fmt::Debug>(proxy: &CutProxy, mut call: impl AsyncFnMut() -> StoreResult<T>) -> T {
    let lost = proxy.replies_lost();
    proxy.cut_after_request_before_reply();
    let error = call().await.expect_err("the reply is lost");
    assert!(error.is_retryable(), "{error}");
    assert_eq!(proxy.replies_lost(), lost + 1);
    healed(call).await
}

#[tokio::test]
async fn a_job_whose_every_reply_is_lost_is_run_once() {
    let server = server(RedisSetup::default()).await;
    let (proxy, store) = proxied(&server).await;
    let jobs = store.jobs();
    let job = NewJob { idempotency_key: Some("k".to_owned()), ..new_job() };
    let answers = twice(&proxy, async || jobs.enqueue(std::slice::from_ref(&job)).await).await;
    assert_eq!(answers, [Enqueued::Duplicate { job: job.id, state: JobState::Ready }]);
    assert_eq!(jobs.counts(&job.lane).await.unwrap().ready, 1);

    let want = wish(1, 5);
    let batch = twice(&proxy, async || jobs.lease(&want).await).await;
    let key = LeaseKey { job: job.id, epoch: 1, nonce: want.nonce };
    assert_eq!(batch.jobs.iter().map(|leased| leased.key).collect::<Vec<_>>(), [key]);
    assert!(jobs.lease(&wish(2, 5)).await.unwrap().jobs.is_empty(), "another wish gets nothing");

    let answers = twice(&proxy, async || jobs.nack(&[released(key)]).await).await;
    assert_eq!(answers, [Fenced::OkAgain(JobState::Ready)]);
    let key = jobs.lease(&wish(3, 5)).await.unwrap().jobs[0].key;
    assert_eq!(key.epoch, 2, "the nack was done once");
    let answers = twice(&proxy, async || jobs.finish(&[done(key)]).await).await;
    assert_eq!(answers, [Fenced::OkAgain(JobState::Done)]);
    let counts = jobs.counts(&job.lane).await.unwrap();
    assert_eq!((counts.ready, counts.leased, counts.delayed), (0, 0, 0));
}

#[tokio::test]
async fn a_large_body_whose_replies_are_lost_comes_whole() {
    let server = server(RedisSetup::default()).await;
    let (proxy, store) = proxied(&server).await;
    let jobs = store.jobs();
    let job = large_job();
    let answers = twice(&proxy, async || jobs.enqueue(std::slice::from_ref(&job)).await).await;
    assert!(ok(&answers), "the reply that was lost was that to the body: {answers:?}");
    let leased = twice(&proxy, async || jobs.lease(&wish(1, 1)).await).await.jobs;
    assert_eq!(leased[0].job.body, job.body);
}

#[tokio::test]
async fn a_server_that_forgets_all_scripts_gets_each_again() {
    let (server, _, store) = fresh().await;
    let jobs = store.jobs();
    let job = new_job();
    let forget = async || server.cli(&["SCRIPT", "FLUSH"]).await.unwrap();
    forget().await;
    assert!(ok(&jobs.enqueue(std::slice::from_ref(&job)).await.unwrap()));
    forget().await;
    let key = jobs.lease(&wish(1, 1)).await.unwrap().jobs[0].key;
    forget().await;
    assert_eq!(jobs.finish(&[done(key)]).await.unwrap(), [Fenced::Ok(JobState::Done)]);
    forget().await;
    assert_eq!(jobs.get(job.id).await.unwrap().unwrap().head.state, JobState::Done);
    let stats = server.cli(&["INFO", "commandstats"]).await.unwrap();
    // One more for the look at the version.
    assert!(stats.contains("cmdstat_eval:calls=5,"), "{stats}");
}

#[tokio::test]
async fn a_queue_goes_on_when_its_server_comes_back() {
    let (mut server, _, store) = fresh().await;
    let jobs = store.jobs();
    let job = new_job();
    assert!(ok(&jobs.enqueue(std::slice::from_ref(&job)).await.unwrap()));
    let key = jobs.lease(&wish(1, 1)).await.unwrap().jobs[0].key;
    assert_eq!(jobs.cancel(job.id, "enough").await.unwrap(), metamcp_core::queue::Cancelled::Asked);
    server.stop().await.unwrap();
    let error = jobs.counts(&job.lane).await.expect_err("it is down");
    assert!(error.is_retryable(), "{error}");
    server.restart().await.unwrap();
    let beat = [Heartbeat { lease: key, progress: None }];
    let answers = healed(async || jobs.heartbeat(&beat, Duration::from_secs(30)).await).await;
    assert_eq!(answers, [Beat::CancelAsked { reason: "enough".to_owned() }], "the lease and the wish are still known");
    assert_eq!(jobs.finish(&[done(key)]).await.unwrap(), [Fenced::Ok(JobState::Done)]);
}

#[tokio::test]
async fn a_full_server_takes_no_job_by_halves_and_lets_work_end() {
    let setup = RedisSetup { maxmemory_bytes: Some(4 << 20), ..RedisSetup::default() };
    let server = server(setup).await;
    let clock = ManualClock::new();
    let store = open(&server.url(), &clock).await;
    let jobs = store.jobs();
    let mut accepted = Vec::new();
    let (refused, error) = loop {
        let batch: Vec<NewJob> = (0..20).map(|_| NewJob { retain: Duration::ZERO, ..new_job() }).collect();
        match jobs.enqueue(&batch).await {
            Ok(answers) if ok(&answers) => accepted.extend(batch.iter().map(|job| job.id)),
            // The suite's bound on a lane comes first: another lane then.
            Ok(answers) => panic!("{answers:?}"),
            Err(error) => break (batch, error),
        }
        if accepted.len() >= 240 {
            server.cli(&["CONFIG", "SET", "maxmemory", "1mb"]).await.unwrap();
        }
        assert!(accepted.len() < 300, "there is no end of memory");
    };
    assert!(error.kind() == StoreErrorKind::Full && error.to_string().contains("raise maxmemory"), "{error}");
    for job in &refused {
        assert!(jobs.get(job.id).await.unwrap().is_none(), "nothing of a refused job stands");
    }
    assert_eq!(jobs.counts(&Lane::light()).await.unwrap().ready, accepted.len() as u64);
    let refused = store.jobs().enqueue(&[large_job()]).await.expect_err("a large body neither");
    assert_eq!(refused.kind(), StoreErrorKind::Full, "{refused}");

    let mut request = 0;
    while !accepted.is_empty() {
        request += 1;
        let leased: Vec<Leased> = jobs.lease(&wish(request, 100)).await.unwrap().jobs;
        let beats: Vec<Heartbeat> =
            leased.iter().map(|leased| Heartbeat { lease: leased.key, progress: None }).collect();
        let alive = jobs.heartbeat(&beats, Duration::from_secs(30)).await.unwrap();
        assert!(alive.iter().all(|beat| *beat == Beat::Ok));
        let ends: Vec<Finish> = leased.iter().map(|leased| done(leased.key)).collect();
        let ended = jobs.finish(&ends).await.unwrap();
        assert!(ended.iter().all(|end| *end == Fenced::Ok(JobState::Done)));
        accepted.retain(|id| !leased.iter().any(|leased| leased.key.job == *id));
    }
    clock.advance(Duration::from_secs(1));
    while !jobs.maintain(NonZeroU16::MAX).await.unwrap().removed.is_empty() {}
    assert!(jobs.list(&JobQuery::default()).await.unwrap().jobs.is_empty());
    server.cli(&["CONFIG", "SET", "maxmemory", "4mb"]).await.unwrap();
    assert!(ok(&jobs.enqueue(&[new_job()]).await.unwrap()), "there is room again");
}

#[tokio::test]
async fn a_full_server_keeps_the_results_of_jobs_that_run() {
    let (server, _, store) = fresh().await;
    let jobs = store.jobs();
    assert!(ok(&jobs.enqueue(&[new_job(), new_job()]).await.unwrap()));
    let leased = jobs.lease(&wish(1, 2)).await.unwrap().jobs;
    server.cli(&["CONFIG", "SET", "maxmemory", "1mb"]).await.unwrap();
    let refused = jobs.enqueue(&[new_job()]).await.expect_err("nothing new");
    assert!(refused.to_string().contains("raise maxmemory"), "{refused}");

    // One body goes with its pointer, the other is sent ahead in parts.
    for (leased, bytes) in leased.iter().zip([1_000, 1_000_000]) {
        let head = &leased.job.head;
        let body = Bytes::from(vec![b'x'; bytes]);
        let meta = ResultMeta {
            tenant: head.owner.tenant.clone(),
            media_type: "application/json".to_owned(),
            expires_at: None,
        };
        let beat = [Heartbeat { lease: leased.key, progress: None }];
        assert_eq!(jobs.heartbeat(&beat, Duration::from_secs(30)).await.unwrap(), [Beat::Ok]);
        let checkpoint = Checkpoint { text: "here".to_owned(), replay_safe: true };
        let kept = jobs.checkpoint(leased.key, checkpoint).await.unwrap();
        assert!(matches!(kept, Fenced::Ok(_)), "{kept:?}");
        let result = store.results().put(leased.key, body.clone(), meta).await.unwrap();
        assert_eq!(store.results().get(&result, None).await.unwrap().bytes, body);
        let end = Finish { lease: leased.key, end: Final::Done(result.clone()) };
        assert_eq!(jobs.finish(&[end]).await.unwrap(), [Fenced::Ok(JobState::Done)]);
        let kind = EventKind::Completed { result };
        store.events().publish(&[NewEvent { job: head.id, owner: head.owner.clone(), kind }]).await.unwrap();
    }
    assert_eq!(store.events().latest().await.unwrap(), 2);
    jobs.enqueue(&[new_job()]).await.expect_err("still nothing new");
}

#[tokio::test]
async fn what_replicas_confirmed_survives_the_loss_of_the_master() {
    let mut sentinels = Sentinels::start(RedisSetup::default()).await.unwrap();
    let open = async |wait: &str| {
        let url = with(&with(&sentinels.url(), wait), "wait_ms=1500");
        let mut options = RedisStoreOptions::from(RedisOptions::parse(&url).unwrap());
        options.limits = metamcp_core::testing::job_store::suite_limits();
        RedisStore::connect(options).await.unwrap()
    };
    // Both replicas: either may be elected. With the master gone there is one left to wait for.
    let (store, survivor) = (open("wait_replicas=2").await, open("wait_replicas=1").await);
    let jobs = store.jobs();
    assert_eq!(jobs.health().await.unwrap().durability, Durability::Replicated);
    let mut accepted = Vec::new();
    for _ in 0..20 {
        let job = new_job();
        let answers = jobs.enqueue(std::slice::from_ref(&job)).await.unwrap();
        assert!(matches!(answers[..], [Enqueued::Ok { durability: Durability::Replicated, .. }]), "{answers:?}");
        accepted.push(job.id);
    }
    let key = jobs.lease(&wish(1, 1)).await.unwrap().jobs[0].key;
    assert_eq!(jobs.finish(&[done(key)]).await.unwrap(), [Fenced::Ok(JobState::Done)]);
    sentinels.kill_master().await.unwrap();
    let jobs = survivor.jobs();
    for id in accepted {
        let job = healed(async || jobs.get(id).await).await.expect("no accepted job is lost");
        let state = if id == key.job { JobState::Done } else { JobState::Ready };
        assert_eq!(job.head.state, state);
    }
    let job = new_job();
    let answers = healed(async || jobs.enqueue(std::slice::from_ref(&job)).await).await;
    assert!(matches!(answers[0], Enqueued::Ok { .. } | Enqueued::Duplicate { .. }), "{answers:?}");
    let leased = healed(async || jobs.lease(&wish(2, 50)).await).await.jobs;
    assert_eq!(leased.len(), 20, "each job that has not ended, once");
}
