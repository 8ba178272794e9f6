//! Several processes on one namespace, and what only this store has: large bodies beside the scripts, damage, the version of its form.

use std::{num::NonZeroU16, sync::Arc, time::Duration};

use bytes::Bytes;
use metamcp_core::{
    auth::Principal,
    error::StoreErrorKind,
    event::{EventBus, EventKind, NewEvent},
    id::{JobId, Lane},
    queue::{Enqueued, Fenced, Job, JobErrorCode, JobQuery, JobState, JobStore, LeaseKey, NewJob, Restored},
    record::RecordStore,
    result::{ResultMeta, ResultStore},
    testing::job_store::new_job,
};
use metamcp_mcp_adapters::{
    store::redis::{RESULT_BYTES, RedisOptions, RedisStore, RedisStoreOptions},
    testing::RedisSetup,
};

use crate::{
    faults::{done, large_job, wish},
    fixture::{body_key, fresh, open, server, with},
};

/// A wait that nobody sees the end of.
const LONG: Duration = Duration::from_secs(3_600);
/// Longest real time that one step may take.
const STEP: Duration = Duration::from_secs(20);

#[tokio::test]
async fn one_who_waits_hears_of_a_job_of_another_process() {
    let (server, clock, here) = fresh().await;
    let there = open(&server.url(), &clock).await;
    let lane = [Lane::light()];
    let waits = tokio::spawn(async move { here.jobs().wait_ready(&lane, LONG).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waits.is_finished(), "there is nothing to do");
    there.jobs().enqueue(&[new_job()]).await.unwrap();
    tokio::time::timeout(STEP, waits).await.expect("it is woken").unwrap();
}

#[tokio::test]
async fn one_job_wakes_one_process() {
    let (server, clock, first) = fresh().await;
    let second = open(&server.url(), &clock).await;
    let wait = |store: &RedisStore| {
        let jobs = store.jobs();
        tokio::spawn(async move { jobs.wait_ready(&[Lane::light()], LONG).await })
    };
    let waits = [wait(&first), wait(&second)];
    tokio::time::sleep(Duration::from_millis(100)).await;
    let jobs = first.jobs();
    jobs.enqueue(&[new_job()]).await.unwrap();
    let woken = async {
        while !waits.iter().any(tokio::task::JoinHandle::is_finished) {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(STEP, woken).await.expect("one is woken");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(waits.iter().filter(|wait| wait.is_finished()).count(), 1);
    jobs.enqueue(&[new_job()]).await.unwrap();
    for wait in waits {
        tokio::time::timeout(STEP, wait).await.expect("the other is woken").unwrap();
    }
}

#[tokio::test]
async fn a_reader_hears_of_events_of_another_process() {
    let (server, clock, here) = fresh().await;
    let there = open(&server.url(), &clock).await;
    let bus = here.events();
    let event = || NewEvent { job: JobId::MIN, owner: Principal::local(), kind: EventKind::Queued };
    for round in 1..=3 {
        let bus = Arc::clone(&bus);
        let reads = tokio::spawn(async move { bus.read(round - 1, 10, LONG).await.unwrap() });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!reads.is_finished(), "there is nothing to tell");
        assert_eq!(there.events().publish(&[event()]).await.unwrap(), round);
        let page = tokio::time::timeout(STEP, reads).await.expect("it is woken").unwrap();
        assert_eq!((page.events.len(), page.next, page.missed), (1, round, false));
    }
}

#[tokio::test]
async fn large_bodies_come_wherever_jobs_do() {
    let (server, clock, store) = fresh().await;
    let jobs = store.jobs();
    let mixed: Vec<NewJob> = (0..3).flat_map(|_| [new_job(), large_job()]).collect();
    assert!(jobs.enqueue(&mixed).await.unwrap().iter().all(|answer| matches!(answer, Enqueued::Ok { .. })));
    let listed = jobs.list(&JobQuery::default()).await.unwrap().jobs;
    assert!(listed.iter().zip(mixed.iter().rev()).all(|(job, new)| job.head.id == new.id && job.body == new.body));
    assert_eq!(jobs.get(mixed[3].id).await.unwrap().unwrap().body, mixed[3].body);
    let leased = jobs.lease(&wish(1, 10)).await.unwrap().jobs;
    assert!(leased.iter().zip(&mixed).all(|(leased, new)| leased.job.body == new.body), "in their order");
    let bodies = server.cli(&["KEYS", "*:b:*"]).await.unwrap();
    for key in bodies.lines() {
        assert_eq!(server.cli(&["TTL", key]).await.unwrap().trim(), "-1", "an accepted body stays");
    }

    let elsewhere = open(&with(&server.url(), "namespace=elsewhere"), &clock).await.jobs();
    let taken: Vec<Job> = jobs.list(&JobQuery::default()).await.unwrap().jobs;
    assert!(elsewhere.restore(&taken).await.unwrap().iter().all(|answer| *answer == Restored::Ok));
    assert_eq!(elsewhere.list(&JobQuery::default()).await.unwrap().jobs, taken);
}

#[tokio::test]
async fn a_large_body_of_a_job_that_is_refused_goes_by_itself() {
    let (server, _, store) = fresh().await;
    let refused = NewJob { after: vec![JobId::MAX], ..large_job() };
    let answers = store.jobs().enqueue(std::slice::from_ref(&refused)).await.unwrap();
    assert_eq!(answers, [Enqueued::Missing { job: JobId::MAX }]);
    let ttl = server.cli(&["TTL", &format!("{{metamcp}}:b:{}", refused.id)]).await.unwrap();
    assert!((1..=600).contains(&ttl.trim().parse::<i64>().unwrap()), "{ttl}");
    let now = NewJob { after: Vec::new(), ..refused };
    assert!(matches!(store.jobs().enqueue(std::slice::from_ref(&now)).await.unwrap()[0], Enqueued::Ok { .. }));
    assert_eq!(store.jobs().get(now.id).await.unwrap().unwrap().body, now.body);
}

#[tokio::test]
async fn a_batch_of_more_bytes_than_one_script_takes_is_still_one_call() {
    let (_server, _, store) = fresh().await;
    let jobs = store.jobs();
    // 100 bodies of 100 kB; the child stands in another script than its parent.
    let mut batch: Vec<NewJob> = (0..99).map(|_| large_job()).collect();
    batch.push(NewJob { after: vec![batch[0].id], ..large_job() });
    let answers = jobs.enqueue(&batch).await.unwrap();
    assert!(answers.len() == 100 && answers.iter().all(|answer| matches!(answer, Enqueued::Ok { .. })), "{answers:?}");
    let counts = jobs.counts(&Lane::light()).await.unwrap();
    assert_eq!((counts.ready, counts.waiting), (99, 1));
    let mut listed = Vec::new();
    let mut query = JobQuery::default();
    while listed.len() < 100 {
        let page = jobs.list(&query).await.unwrap();
        listed.extend(page.jobs.iter().map(|job| job.head.id));
        query.before = page.next;
        assert!(page.next.is_some() || listed.len() == 100);
    }
    assert!(listed.iter().eq(batch.iter().rev().map(|job| &job.id)));
}

#[tokio::test]
async fn a_damaged_job_costs_no_other() {
    let (server, clock, store) = fresh().await;
    let jobs = store.jobs();
    let new: Vec<NewJob> = (0..5).map(|_| new_job()).collect();
    jobs.enqueue(&new).await.unwrap();
    let key = |kind: &str, n: usize| format!("{{metamcp}}:{kind}:{}", new[n].id);
    server.cli(&["SET", &key("b", 0), "{\"task\""]).await.unwrap();
    server.cli(&["SET", &key("j", 1), "what is this"]).await.unwrap();
    server.cli(&["DEL", &key("j", 2)]).await.unwrap();
    // A head that scripts read and this program does not, as one of another version may be.
    let head = server.cli(&["GET", &key("j", 4)]).await.unwrap();
    let (words, _digest) = head.trim().rsplit_once(' ').unwrap();
    server.cli(&["SET", &key("j", 4), &format!("{words} unknown")]).await.unwrap();
    let shown = jobs.get(new[0].id).await.unwrap().unwrap();
    assert!(shown.body.task.need.text.contains("cannot be read"), "{:?}", shown.body);
    let listed = jobs.list(&JobQuery::default()).await.unwrap().jobs;
    assert_eq!(listed.iter().map(|job| job.head.id).collect::<Vec<_>>(), [new[3].id, new[0].id]);

    let leased = jobs.lease(&wish(1, 10)).await.unwrap().jobs;
    assert_eq!(leased.iter().map(|leased| leased.key.job).collect::<Vec<_>>(), [new[3].id]);
    let head = jobs.get(new[0].id).await.unwrap().unwrap().head;
    assert_eq!((head.state, head.error.unwrap().code), (JobState::Dead, JobErrorCode::Internal));
    assert_eq!(jobs.counts(&Lane::light()).await.unwrap().dead, 2, "neither is leased and lost for ever");
    assert_eq!(jobs.finish(&[done(leased[0].key)]).await.unwrap(), [Fenced::Ok(JobState::Done)]);
    assert_eq!(jobs.lease(&wish(2, 10)).await.unwrap().next_due, None, "nothing is left to look at");
    clock.advance(LONG * 2);
    jobs.maintain(NonZeroU16::MAX).await.unwrap();
    assert_eq!(jobs.lanes().await.unwrap(), []);
}

#[tokio::test]
async fn odd_heads_are_ended_as_they_can_be_and_hold_up_no_other() {
    let (server, _clock, store) = fresh().await;
    let jobs = store.jobs();
    let new: Vec<NewJob> = (0..4).map(|_| new_job()).collect();
    jobs.enqueue(&new).await.unwrap();
    let leased = jobs.lease(&wish(1, 10)).await.unwrap().jobs;
    let head_key = |n: usize| format!("{{metamcp}}:j:{}", leased[n].key.job);
    let head = |n: usize| {
        let (server, key) = (&server, head_key(n));
        async move { server.cli(&["GET", &key]).await.unwrap().trim().to_owned() }
    };
    // One that has ended before, as a copy from elsewhere may have it, one without what comes behind its lease, and one that is cut later.
    let ended = head(0).await.replacen(" - - - ", " 7 - - ", 1);
    let (first, second) = (head(1).await, head(2).await);
    let lease_end = first.match_indices(' ').nth(4).unwrap().0;
    let lane_end = second.find(" - - - ").unwrap() + " - - - 1".len();
    for (n, odd) in [(0, &*ended), (1, &first[..=lease_end]), (2, &second[..lane_end])] {
        server.cli(&["SET", &head_key(n), odd]).await.unwrap();
    }
    let done: Vec<_> = leased.iter().map(|leased| done(leased.key)).collect();
    let told = jobs.finish(&done).await.unwrap();
    assert_eq!(told, [Fenced::Ok(JobState::Done), Fenced::Gone, Fenced::Gone, Fenced::Ok(JobState::Done)]);
    assert_eq!(jobs.get(leased[0].key.job).await.unwrap().unwrap().head.state, JobState::Done);
}

#[tokio::test]
async fn a_namespace_of_a_newer_version_is_left_alone() {
    let server = server(RedisSetup::default()).await;
    server.cli(&["SET", "{metamcp}:format", "2"]).await.unwrap();
    let options = RedisStoreOptions::from(RedisOptions::parse(&server.url()).unwrap());
    let error = RedisStore::connect(options).await.expect_err("it is refused");
    assert!(error.kind() == StoreErrorKind::Corrupt && error.to_string().contains("a newer one"), "{error}");
}

#[tokio::test]
async fn the_servers_clock_decides() {
    let server = server(RedisSetup::default()).await;
    let store =
        RedisStore::connect(RedisStoreOptions::from(RedisOptions::parse(&server.url()).unwrap())).await.unwrap();
    let job = new_job();
    store.jobs().enqueue(std::slice::from_ref(&job)).await.unwrap();
    let told = store.records().now().await.unwrap().as_millis();
    let before: Vec<u64> = server.cli(&["TIME"]).await.unwrap().lines().map(|line| line.parse().unwrap()).collect();
    let created = store.jobs().get(job.id).await.unwrap().unwrap().head.created_at.as_millis();
    let server_ms = before[0] * 1_000 + before[1] / 1_000;
    assert!(
        created <= server_ms && server_ms - created < 60_000,
        "{created} is not of the server, which has {server_ms}"
    );
    assert!(created <= told && told <= server_ms, "{created}, {told}, {server_ms}");
}

#[tokio::test]
async fn a_result_over_the_bound_is_sent_to_object_storage() {
    let server = server(RedisSetup::default()).await;
    let store =
        RedisStore::connect(RedisStoreOptions::from(RedisOptions::parse(&server.url()).unwrap())).await.unwrap();
    let (results, key) = (store.results(), LeaseKey { job: JobId::MIN, epoch: 1, nonce: 1 });
    let meta =
        || ResultMeta { tenant: Principal::local().tenant, media_type: "text/plain".to_owned(), expires_at: None };
    let error = results.put(key, Bytes::from(vec![0; RESULT_BYTES + 1]), meta()).await.expect_err("too large");
    assert!(error.kind() == StoreErrorKind::Invalid && error.to_string().contains("object storage"), "{error}");
    let pointer = results.put(key, Bytes::from(vec![7; RESULT_BYTES]), meta()).await.unwrap();
    server.cli(&["SETRANGE", &body_key(&pointer), "9", "x"]).await.unwrap();
    let error = results.get(&pointer, None).await.expect_err("it is damaged");
    assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
    assert_eq!(server.cli(&["KEYS", "*:upload:*"]).await.unwrap().trim(), "", "nothing of the upload is left");
}
