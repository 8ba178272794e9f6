//! Jobs that another store held: taken in just as they stood there, whatever they were doing, and then like any other.

use std::{sync::Arc, time::Duration};

use super::{
    depend::child_of,
    fixture::{
        JobStoreFixture, VISIBILITY, done, error, fail_after, ids, limited, new_job, of_tenant, park, pointer, sorted,
        suite_limits,
    },
    rate::rated,
};
use crate::{
    error::StoreErrorKind,
    id::{JobId, Lane},
    queue::{
        Answer, Answered, Cancelled, Enqueued, Fenced, Final, Job, JobQuery, JobState, LEASE_BATCH_MAX, LaneCounts,
        Maintained, MemoryJobStore, NewJob, Redriven, Restored,
    },
    testing::ManualClock,
};

/// A store in memory whose time is that of the store under test: what is to be taken in was held there.
pub(super) async fn another(fx: &JobStoreFixture) -> JobStoreFixture {
    let probe = fx.add(NewJob { retain: Duration::ZERO, ..new_job() }).await;
    let now = fx.head(probe).await.created_at;
    assert_eq!(fx.cancel(probe).await, Cancelled::Now);
    fx.advance(Duration::from_millis(1)).await;
    assert_eq!(fx.maintain().await.removed, [(probe, None)]);
    let clock = ManualClock::new();
    clock.set(now + Duration::from_millis(1));
    JobStoreFixture::new(Arc::new(MemoryJobStore::with_limits(Arc::clone(&clock) as _, suite_limits())), clock, ())
}

/// All jobs, newest first.
pub(super) async fn all(fx: &JobStoreFixture) -> Vec<Job> {
    let page = fx.store.list(&JobQuery::default()).await.expect("the store answers");
    assert_eq!(page.next, None, "one page holds them");
    page.jobs
}

async fn restore(fx: &JobStoreFixture, jobs: &[Job]) -> Vec<Restored> {
    fx.store.restore(jobs).await.expect("the store answers")
}

/// Takes in everything the other store holds.
pub(super) async fn take_over(fx: &JobStoreFixture, from: &JobStoreFixture) {
    let jobs = all(from).await;
    assert_eq!(restore(fx, &jobs).await, vec![Restored::Ok; jobs.len()]);
}

pub async fn jobs_in_every_state_stand_as_they_stood(fx: JobStoreFixture) {
    let from = another(&fx).await;
    from.add_parked().await;
    from.add_dead().await;
    let ended = from.add_and_take(NewJob { idempotency_key: Some("k".to_owned()), ..new_job() }).await;
    from.finish(ended, done(ended)).await;
    let held = from.add_and_take(limited("k", 1)).await;
    from.save(held, "one").await;
    from.cancel(held.job).await;
    let cancelled = from.add(new_job()).await;
    from.cancel(cancelled).await;
    from.add_all(&[limited("k", 1), rated(1), rated(1)]).await;
    assert_eq!(from.take_up_to(10).await.len(), 1, "one is passed over, one has its slot later");
    from.add_all(&[child_of(&[held.job]), child_of(&[ended.job])]).await;
    from.add(NewJob { delay: Duration::from_secs(60), deadline: Some(Duration::from_secs(90)), ..new_job() }).await;
    from.add(NewJob { owner: of_tenant("other"), lane: Lane::heavy(), priority: 7, ..new_job() }).await;

    let jobs = all(&from).await;
    for state in [JobState::Waiting, JobState::Delayed, JobState::Ready, JobState::Leased, JobState::Input] {
        assert!(jobs.iter().any(|job| job.head.state == state), "no job is {state:?}");
    }
    take_over(&fx, &from).await;
    assert_eq!(all(&fx).await, jobs);
    for job in jobs {
        assert_eq!(fx.job(job.head.id).await, job);
    }
    let lanes = fx.store.lanes().await.expect("the store answers");
    assert_eq!(lanes, from.store.lanes().await.expect("memory answers"));
    for lane in lanes {
        let told = fx.store.counts(&lane).await.expect("the store answers");
        let should = from.store.counts(&lane).await.expect("memory answers");
        assert_eq!(LaneCounts { oldest_ready_ms: 0, ..told }, LaneCounts { oldest_ready_ms: 0, ..should });
    }
    assert_eq!(fx.maintain().await, Maintained::default(), "nothing of it is judged or told");
}

pub async fn what_stands_already_is_left_as_it_is(fx: JobStoreFixture) {
    let from = another(&fx).await;
    let new = new_job();
    from.add(new.clone()).await;
    let jobs = all(&from).await;
    assert_eq!(restore(&fx, &jobs).await, [Restored::Ok]);
    let key = fx.take().await.key;
    assert_eq!(restore(&fx, &jobs).await, [Restored::Exists], "the same call again");
    assert_eq!(fx.finish(key, done(key)).await, Fenced::Ok(JobState::Done));
    let before = fx.job(new.id).await;
    assert_eq!(restore(&fx, &jobs).await, [Restored::Exists]);
    assert_eq!((fx.job(new.id).await, fx.counts().await), (before, LaneCounts::default()));
    assert_eq!(fx.enqueue(&new).await, Enqueued::Duplicate { job: new.id, state: JobState::Done });
}

pub async fn a_job_whose_key_is_taken_is_not_taken_in(fx: JobStoreFixture) {
    let from = another(&fx).await;
    let keyed = || NewJob { idempotency_key: Some("k".to_owned()), ..new_job() };
    from.add(keyed()).await;
    from.add(NewJob { owner: of_tenant("other"), ..keyed() }).await;
    let here = fx.add(keyed()).await;
    let jobs = all(&from).await;
    assert_eq!(restore(&fx, &jobs).await, [Restored::Ok, Restored::KeyTaken { job: here }], "a key is of its tenant");
    assert!(fx.try_job(jobs[1].head.id).await.is_none());
    assert_eq!(fx.counts().await.ready, 2);
    let found = fx.store.keyed(&keyed().owner.tenant, "k").await.expect("the store answers");
    assert_eq!(found, Some(here));
}

pub async fn entries_of_one_call_are_taken_in_order(fx: JobStoreFixture) {
    let from = another(&fx).await;
    from.add(NewJob { idempotency_key: Some("k".to_owned()), ..new_job() }).await;
    let job = all(&from).await.remove(0);
    let mut rival = job.clone();
    rival.head.id = new_job().id;
    let answers = restore(&fx, &[job.clone(), job.clone(), rival]).await;
    assert_eq!(answers, [Restored::Ok, Restored::Exists, Restored::KeyTaken { job: job.head.id }]);
    assert_eq!(all(&fx).await, [job]);
}

pub async fn too_many_to_take_in_are_invalid(fx: JobStoreFixture) {
    let from = another(&fx).await;
    from.add_many(usize::from(LEASE_BATCH_MAX) + 1).await;
    let jobs = all(&from).await;
    let refused = fx.store.restore(&jobs).await.expect_err("the batch is too large");
    assert_eq!(refused.kind(), StoreErrorKind::Invalid);
    assert_eq!(fx.counts().await, LaneCounts::default(), "nothing was changed");
    assert!(restore(&fx, &[]).await.is_empty());
    assert_eq!(restore(&fx, &jobs[1..]).await, vec![Restored::Ok; usize::from(LEASE_BATCH_MAX)]);
    assert_eq!(fx.counts().await.ready, u64::from(LEASE_BATCH_MAX));
}

pub async fn a_lease_that_was_held_there_runs_out_here(fx: JobStoreFixture) {
    let from = another(&fx).await;
    let held = from.add_and_take(new_job()).await;
    take_over(&fx, &from).await;
    assert!(fx.try_take().await.is_none(), "it is held");
    assert_eq!(fx.lose().await.reclaimed, [(held.job, JobState::Ready)]);
    let head = fx.head(held.job).await;
    assert_eq!((head.lost, head.maybe_called), (1, true));
    assert_eq!(fx.finish(held, done(held)).await, Fenced::Stale);
    let next = fx.take().await.key;
    assert_eq!((next.job, next.epoch), (held.job, held.epoch + 1), "epochs go on");
    assert_eq!(fx.finish(next, done(next)).await, Fenced::Ok(JobState::Done));
}

pub async fn a_lease_that_was_held_there_may_still_end_its_job(fx: JobStoreFixture) {
    let from = another(&fx).await;
    let held = from.add_and_take(new_job()).await;
    let ended = from.add_and_take(new_job()).await;
    from.finish(ended, done(ended)).await;
    take_over(&fx, &from).await;
    assert_eq!(fx.finish(held, done(held)).await, Fenced::Ok(JobState::Done));
    assert_eq!(fx.finish(held, done(held)).await, Fenced::OkAgain(JobState::Done));
    assert_eq!(fx.finish(ended, done(ended)).await, Fenced::OkAgain(JobState::Done), "it said so there");
}

pub async fn what_was_queued_there_comes_in_order_and_in_time(fx: JobStoreFixture) {
    let from = another(&fx).await;
    let usual = from.add_plain().await;
    let late = from.add(NewJob { delay: Duration::from_secs(60), ..new_job() }).await;
    let urgent = from.add(NewJob { priority: 9, ..new_job() }).await;
    let expires = from.add(NewJob { delay: VISIBILITY, deadline: Some(Duration::from_secs(10)), ..new_job() }).await;
    take_over(&fx, &from).await;
    assert_eq!(ids(&fx.take_up_to(10).await), [urgent, usual]);
    fx.advance(Duration::from_secs(11)).await;
    assert_eq!(fx.maintain().await.expired, [expires]);
    fx.advance(Duration::from_secs(50)).await;
    assert!(ids(&fx.take_up_to(10).await).contains(&late));
}

pub async fn families_go_on_whoever_is_taken_in_first(fx: JobStoreFixture) {
    let from = another(&fx).await;
    let failed = from.add_dead().await.job;
    let kept = from.add_and_take(NewJob { retain: Duration::from_secs(1), ..new_job() }).await;
    from.finish(kept, done(kept)).await;
    let parent = from.add_plain().await;
    let child = from.add(child_of(&[parent, kept.job])).await;
    let orphan = from.add(child_of(&[failed])).await;
    let mut jobs = Vec::new();
    for id in [orphan, failed, kept.job, child, parent] {
        jobs.push(from.job(id).await);
    }
    assert_eq!(restore(&fx, &jobs).await, [Restored::Ok; 5]);
    fx.advance(Duration::from_secs(2)).await;
    let done_by_time = fx.maintain().await;
    assert_eq!((done_by_time.settled, done_by_time.removed), (vec![(orphan, JobState::Dead)], vec![]));
    assert_eq!((fx.head(kept.job).await.users, fx.head(parent).await.users), (1, 1));
    let key = fx.take().await.key;
    assert_eq!((key.job, fx.state(child).await), (parent, JobState::Waiting));
    fx.finish(key, done(key)).await;
    let key = fx.take().await.key;
    assert_eq!(key.job, child);
    fx.finish(key, done(key)).await;
    assert_eq!(fx.maintain().await.removed, [(kept.job, Some(pointer(kept.job)))]);
}

pub async fn those_passed_over_there_go_on_when_the_holder_lets_go(fx: JobStoreFixture) {
    let from = another(&fx).await;
    let holder = from.add_and_take(limited("k", 1)).await;
    let blocked = from.add(limited("k", 1)).await;
    assert!(from.try_take().await.is_none());
    take_over(&fx, &from).await;
    let here = fx.add(limited("k", 1)).await;
    assert!(fx.take_up_to(10).await.is_empty(), "the key is held");
    assert_eq!(fx.finish(holder, done(holder)).await, Fenced::Ok(JobState::Done));
    let taken = fx.take_up_to(10).await;
    assert_eq!(ids(&taken), [blocked]);
    fx.finish(taken[0].key, done(taken[0].key)).await;
    assert_eq!(ids(&fx.take_up_to(10).await), [here]);
}

pub async fn a_slot_that_was_taken_there_is_good_here(fx: JobStoreFixture) {
    let from = another(&fx).await;
    let added = from.add_all(&[rated(1), rated(1)]).await;
    assert_eq!(from.take_up_to(10).await.len(), 1);
    take_over(&fx, &from).await;
    assert!(fx.try_take().await.is_none(), "its slot has not come");
    fx.advance(Duration::from_secs(101)).await;
    // A job that comes first takes the slot that is free here: the other one has its own.
    let first = fx.add(NewJob { priority: 9, ..rated(1) }).await;
    assert_eq!(sorted(ids(&fx.take_up_to(10).await)), sorted(vec![added[1], first]));
}

pub async fn a_dead_letter_with_a_key_is_found_and_redriven(fx: JobStoreFixture) {
    let from = another(&fx).await;
    let keyed = || NewJob { idempotency_key: Some("k".to_owned()), ..new_job() };
    let dead = from.add_and_take(keyed()).await;
    from.finish(dead, Final::Dead(error("no"))).await;
    take_over(&fx, &from).await;
    let found = fx.store.keyed(&keyed().owner.tenant, "k").await.expect("the store answers");
    assert_eq!((found, fx.counts().await.dead), (Some(dead.job), 1));
    assert_eq!(fx.enqueue(&keyed()).await, Enqueued::Duplicate { job: dead.job, state: JobState::Dead });
    assert_eq!(fx.redrive(dead.job).await, Redriven::Ok);
    assert_eq!((fx.take().await.key.job, fx.counts().await.dead), (dead.job, 0));
}

pub async fn what_was_parked_there_takes_its_answer_or_runs_out(fx: JobStoreFixture) {
    let from = another(&fx).await;
    let (answered, forgotten) = (from.add_parked().await.job, from.add_parked().await.job);
    take_over(&fx, &from).await;
    let answer = Answer { responses: "{}".to_owned() };
    assert_eq!(fx.store.answer(answered, answer.clone()).await.expect("the store answers"), Answered::Ok);
    let taken = fx.take().await;
    assert_eq!((taken.key.job, taken.job.head.answer), (answered, Some(answer)));
    assert_eq!(fx.nack(taken.key, park()).await, Fenced::Ok(JobState::Input));
    fx.advance(Duration::from_secs(50)).await;
    assert!(fx.maintain().await.expired.is_empty());
    fx.advance(Duration::from_secs(11)).await;
    assert_eq!(sorted(fx.maintain().await.expired), sorted(vec![answered, forgotten]));
}

pub async fn what_had_ended_there_is_removed_in_time(fx: JobStoreFixture) {
    let from = another(&fx).await;
    let keyed = || NewJob {
        idempotency_key: Some("k".to_owned()),
        retain: Duration::from_secs(100),
        attempts_max: 1,
        ..new_job()
    };
    let ended = from.add_and_take(keyed()).await;
    from.finish(ended, done(ended)).await;
    let dead = from.add_and_take(NewJob { idempotency_key: None, ..keyed() }).await;
    from.nack(dead, fail_after(Duration::ZERO)).await;
    take_over(&fx, &from).await;
    fx.advance(Duration::from_secs(90)).await;
    assert!(fx.maintain().await.removed.is_empty());
    fx.advance(Duration::from_secs(11)).await;
    let removed = fx.maintain().await.removed;
    let mut jobs: Vec<JobId> = removed.iter().map(|(id, _)| *id).collect();
    jobs.sort_unstable();
    assert_eq!(jobs, [ended.job, dead.job]);
    assert!(removed.contains(&(ended.job, Some(pointer(ended.job)))), "{removed:?}");
    assert!(matches!(fx.enqueue(&keyed()).await, Enqueued::Ok { .. }), "its key is free");
}
