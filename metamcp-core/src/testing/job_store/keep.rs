//! How long a job is kept for those that wait for it or take its result, and what a redrive makes of either.

use std::time::Duration;

use super::{
    depend::child_of,
    fixture::{JobStoreFixture, done, error, fail_after, new_job, pointer, release_after},
};
use crate::{
    id::JobId,
    queue::{Cancelled, Enqueued, Fenced, Final, JobState, LeaseKey, Maintained, NewJob, Redriven},
};

/// Within this an ended job of these behaviours is kept anyway.
const RETAIN: Duration = Duration::from_secs(10);

/// A parent that is done and kept for [`RETAIN`] only.
async fn add_done_parent(fx: &JobStoreFixture) -> JobId {
    let key = fx.add_and_take(NewJob { retain: RETAIN, ..new_job() }).await;
    assert_eq!(fx.finish(key, done(key)).await, Fenced::Ok(JobState::Done));
    key.job
}

/// The job fails for good.
async fn fail(fx: &JobStoreFixture, key: LeaseKey) {
    assert_eq!(fx.finish(key, Final::Dead(error("no"))).await, Fenced::Ok(JobState::Dead));
}

pub async fn a_parent_is_kept_past_its_retention_while_a_child_uses_it(fx: JobStoreFixture) {
    let parent = add_done_parent(&fx).await;
    let child = fx.add(NewJob { delay: RETAIN * 2, ..child_of(&[parent]) }).await;
    assert_eq!(fx.head(parent).await.users, 1);
    fx.advance(RETAIN * 2 + Duration::from_secs(1)).await;
    assert!(fx.maintain().await.removed.is_empty(), "a child was delayed");
    let key = fx.take().await.key;
    assert!(fx.maintain().await.removed.is_empty(), "a child is held");
    fx.nack(key, release_after(Duration::ZERO)).await;
    assert!(fx.maintain().await.removed.is_empty(), "a child is ready");
    assert_eq!(fx.head(parent).await.result, Some(pointer(parent)), "its result can be taken");
    let key = fx.take().await.key;
    assert_eq!(key.job, child);
    fx.finish(key, done(key)).await;
    assert_eq!(fx.maintain().await.removed, [(parent, Some(pointer(parent)))]);
    assert!(fx.try_job(parent).await.is_none());
    assert_eq!(fx.head(child).await.after, [parent]);
}

pub async fn a_parent_within_its_retention_is_kept_without_a_child(fx: JobStoreFixture) {
    let parent = add_done_parent(&fx).await;
    let child = fx.add(child_of(&[parent])).await;
    assert_eq!(fx.cancel(child).await, Cancelled::Now);
    assert_eq!(fx.head(parent).await.users, 0);
    assert!(fx.maintain().await.removed.is_empty(), "the child's end takes nothing from its retention");
    fx.advance(RETAIN + Duration::from_secs(1)).await;
    assert_eq!(fx.maintain().await.removed, [(parent, Some(pointer(parent)))]);
}

pub async fn a_parent_is_kept_for_its_last_child_however_the_others_end(fx: JobStoreFixture) {
    let parent = add_done_parent(&fx).await;
    let late = NewJob { deadline: Some(Duration::from_secs(5)), delay: RETAIN, ..child_of(&[parent]) };
    let cancelled = NewJob { delay: RETAIN, ..child_of(&[parent]) };
    let lost = NewJob { lost_max: 1, ..child_of(&[parent]) };
    let children = fx.add_all(&[lost, child_of(&[parent]), child_of(&[parent]), late, cancelled]).await;
    let users = async || fx.head(parent).await.users;
    assert_eq!(users().await, 5);
    let keys: Vec<LeaseKey> = fx.take_up_to(3).await.iter().map(|leased| leased.key).collect();
    assert_eq!(fx.cancel(children[4]).await, Cancelled::Now);
    assert_eq!(users().await, 4);
    fx.advance(Duration::from_secs(6)).await;
    assert_eq!(fx.maintain().await.expired, [children[3]]);
    assert_eq!(users().await, 3);
    fail(&fx, keys[1]).await;
    assert_eq!(users().await, 2);
    fx.beat(keys[2]).await;
    fx.advance(Duration::from_secs(25)).await;
    let done_by_time = fx.maintain().await;
    assert_eq!((done_by_time.reclaimed, done_by_time.removed), (vec![(children[0], JobState::Dead)], vec![]));
    assert_eq!(users().await, 1);
    assert_eq!(fx.finish(keys[2], done(keys[2])).await, Fenced::Ok(JobState::Done));
    assert_eq!(fx.maintain().await.removed, [(parent, Some(pointer(parent)))]);
}

pub async fn a_failed_parent_is_kept_until_its_child_has_ended(fx: JobStoreFixture) {
    let key = fx.add_and_take(NewJob { retain: RETAIN, ..new_job() }).await;
    let child = fx.add(child_of(&[key.job])).await;
    fail(&fx, key).await;
    fx.advance(RETAIN * 2).await;
    let done_by_time = fx.maintain().await;
    assert_eq!((done_by_time.settled, done_by_time.removed), (vec![(child, JobState::Dead)], vec![(key.job, None)]));
}

pub async fn a_refused_child_keeps_nothing(fx: JobStoreFixture) {
    let parent = add_done_parent(&fx).await;
    let keyed = NewJob { idempotency_key: Some("k".to_owned()), ..new_job() };
    fx.add(keyed.clone()).await;
    let duplicate = NewJob { idempotency_key: Some("k".to_owned()), ..child_of(&[parent]) };
    let state = JobState::Ready;
    assert_eq!(fx.enqueue(&duplicate).await, Enqueued::Duplicate { job: keyed.id, state });
    assert_eq!(fx.head(parent).await.users, 0);
    let child = child_of(&[parent]);
    fx.add(child.clone()).await;
    assert_eq!(fx.enqueue(&child).await, Enqueued::Duplicate { job: child.id, state });
    assert_eq!(fx.head(parent).await.users, 1, "the same call again counts once");
}

pub async fn the_same_child_again_is_a_duplicate_though_its_parent_is_gone(fx: JobStoreFixture) {
    let parent = add_done_parent(&fx).await;
    let child = child_of(&[parent]);
    let key = fx.add_and_take(child.clone()).await;
    fx.finish(key, done(key)).await;
    fx.advance(RETAIN * 2).await;
    assert_eq!(fx.maintain().await.removed.len(), 1);
    assert_eq!(fx.enqueue(&child).await, Enqueued::Duplicate { job: child.id, state: JobState::Done });
    assert_eq!(fx.enqueue(&child_of(&[parent])).await, Enqueued::Missing { job: parent });
}

pub async fn a_redriven_child_keeps_its_parent_again(fx: JobStoreFixture) {
    let parent = add_done_parent(&fx).await;
    let key = fx.add_and_take(child_of(&[parent])).await;
    fail(&fx, key).await;
    assert_eq!(fx.head(parent).await.users, 0);
    assert_eq!(fx.redrive(key.job).await, Redriven::Ok);
    assert_eq!((fx.head(parent).await.users, fx.state(key.job).await), (1, JobState::Ready));
    fx.advance(RETAIN * 2).await;
    assert!(fx.maintain().await.removed.is_empty());
    let key = fx.take().await.key;
    fx.finish(key, done(key)).await;
    assert_eq!(fx.maintain().await.removed, [(parent, Some(pointer(parent)))]);
}

pub async fn a_child_whose_parent_is_gone_is_not_redriven(fx: JobStoreFixture) {
    let kept = add_done_parent(&fx).await;
    let parent = add_done_parent(&fx).await;
    let held = fx.add(NewJob { delay: RETAIN * 9, ..child_of(&[kept]) }).await;
    let key = fx.add_and_take(child_of(&[kept, parent])).await;
    fail(&fx, key).await;
    fx.advance(RETAIN * 2).await;
    assert_eq!(fx.maintain().await.removed, [(parent, Some(pointer(parent)))]);
    let before = fx.head(key.job).await;
    assert_eq!(fx.redrive(key.job).await, Redriven::Missing { job: parent });
    assert_eq!(fx.head(key.job).await, before);
    assert_eq!((fx.head(kept).await.users, fx.state(held).await), (1, JobState::Delayed));
}

pub async fn a_redriven_child_of_a_dead_parent_fails_again(fx: JobStoreFixture) {
    let parent = fx.add_dead().await.job;
    let child = fx.add(child_of(&[parent])).await;
    for _ in 0..2 {
        assert_eq!(fx.maintain().await.settled, [(child, JobState::Dead)]);
        assert_eq!(fx.head(parent).await.users, 0);
        assert_eq!(fx.redrive(child).await, Redriven::Ok);
        let head = fx.head(child).await;
        assert_eq!((head.state, head.waits_on, head.finished_at), (JobState::Waiting, vec![parent], None));
    }
}

pub async fn parent_and_child_are_redriven_together(fx: JobStoreFixture) {
    let parent = fx.add_dead().await.job;
    let child = fx.add(child_of(&[parent])).await;
    assert_eq!(fx.maintain().await.settled, [(child, JobState::Dead)]);
    assert_eq!(fx.redrive(child).await, Redriven::Ok);
    assert_eq!(fx.redrive(parent).await, Redriven::Ok);
    assert_eq!(fx.maintain().await, Maintained::default(), "the child waits for the new end");
    let key = fx.take().await.key;
    assert_eq!((key.job, fx.state(child).await), (parent, JobState::Waiting));
    fx.finish(key, done(key)).await;
    assert_eq!(fx.take().await.key.job, child);
}

pub async fn a_parent_redriven_before_its_child_hears_keeps_it_waiting(fx: JobStoreFixture) {
    let key = fx.add_and_take(NewJob { attempts_max: 1, ..new_job() }).await;
    let child = fx.add(child_of(&[key.job])).await;
    assert_eq!(fx.nack(key, fail_after(Duration::ZERO)).await, Fenced::Ok(JobState::Dead));
    assert_eq!(fx.redrive(key.job).await, Redriven::Ok);
    assert!(fx.maintain().await.settled.is_empty());
    let head = fx.head(child).await;
    assert_eq!((head.state, head.waits_on), (JobState::Waiting, vec![key.job]));
    let key = fx.take().await.key;
    fx.finish(key, done(key)).await;
    assert_eq!(fx.take().await.key.job, child);
}

pub async fn a_redriven_child_waits_for_those_that_are_not_done(fx: JobStoreFixture) {
    let done_before = add_done_parent(&fx).await;
    let running = fx.add_and_take(new_job()).await;
    let failed = fx.add_dead().await.job;
    let child = fx.add(child_of(&[done_before, running.job, failed])).await;
    assert_eq!(fx.maintain().await.settled, [(child, JobState::Dead)]);
    assert_eq!(fx.redrive(child).await, Redriven::Ok);
    assert_eq!(fx.redrive(failed).await, Redriven::Ok);
    assert_eq!(fx.head(child).await.waits_on, [running.job, failed]);
    fx.finish(running, done(running)).await;
    let key = fx.take().await.key;
    assert_eq!((key.job, fx.state(child).await), (failed, JobState::Waiting));
    fx.finish(key, done(key)).await;
    assert_eq!(fx.take().await.key.job, child);
}
