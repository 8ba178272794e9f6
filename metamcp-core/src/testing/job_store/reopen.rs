//! Dependencies, limits and what was taken in, when the store is dropped without grace and opened again.

use std::time::Duration;

use super::{
    depend::child_of,
    fixture::{DurableJobStoreFixture, done, error, ids, lane, limited, new_job, park, pointer, sorted},
    held::held,
    rate::rated,
    restore::{all, another, take_over},
};
use crate::{
    id::JobId,
    queue::{Cancelled, Enqueued, Fenced, Final, JobErrorCode, JobState, LaneCounts, NewJob, Redriven},
};

/// Within this an ended job of these behaviours is kept anyway.
const RETAIN: Duration = Duration::from_secs(10);

/// A job that is done and kept for [`RETAIN`] only.
async fn add_done(fx: &DurableJobStoreFixture) -> JobId {
    let key = fx.open.add_and_take(NewJob { retain: RETAIN, ..new_job() }).await;
    assert_eq!(fx.open.finish(key, done(key)).await, Fenced::Ok(JobState::Done));
    key.job
}

/// Leases one job, which must be this one, and ends it.
async fn serve(fx: &DurableJobStoreFixture, id: JobId) {
    let key = fx.open.take().await.key;
    assert_eq!(key.job, id);
    assert_eq!(fx.open.finish(key, done(key)).await, Fenced::Ok(JobState::Done));
}

pub async fn a_waiting_job_survives_and_goes_on(fx: DurableJobStoreFixture) {
    let parents = [fx.open.add_plain().await, fx.open.add_plain().await];
    let child = fx.open.add(child_of(&parents)).await;
    serve(&fx, parents[0]).await;
    let before = (fx.open.job(child).await, fx.open.job(parents[1]).await, fx.open.counts().await);
    assert_eq!((&before.0.head.waits_on, before.1.head.users), (&vec![parents[1]], 1));
    let fx = fx.crash().await;
    assert_eq!((fx.open.job(child).await, fx.open.job(parents[1]).await, fx.open.counts().await), before);
    serve(&fx, parents[1]).await;
    let fx = fx.crash().await;
    serve(&fx, child).await;
}

pub async fn a_child_hears_after_the_crash_that_its_parent_failed_before(fx: DurableJobStoreFixture) {
    let parent = fx.open.add_plain().await;
    let child = fx.open.add(child_of(&[parent])).await;
    let grandchild = fx.open.add(child_of(&[child])).await;
    assert_eq!(fx.open.cancel(parent).await, Cancelled::Now);
    let fx = fx.crash().await;
    let settled = sorted(fx.open.maintain().await.settled);
    assert_eq!(settled, [(child, JobState::Dead), (grandchild, JobState::Dead)]);
    let fx = fx.crash().await;
    let code = fx.open.head(grandchild).await.error.map(|error| error.code);
    assert_eq!(code, Some(JobErrorCode::DependencyFailed));
}

pub async fn many_children_go_on_after_the_crash(fx: DurableJobStoreFixture) {
    let parent = fx.open.add_plain().await;
    let children: Vec<NewJob> = (0..50).map(|_| child_of(&[parent])).collect();
    let children = fx.open.add_all(&children).await;
    serve(&fx, parent).await;
    let fx = fx.crash().await;
    fx.open.maintain().await;
    assert_eq!(sorted(ids(&fx.open.take_up_to(100).await)), children);
}

pub async fn a_parent_in_use_is_kept_after_the_crash(fx: DurableJobStoreFixture) {
    let parent = add_done(&fx).await;
    let child = fx.open.add(NewJob { delay: RETAIN * 3, ..child_of(&[parent]) }).await;
    fx.open.advance(RETAIN * 2).await;
    let fx = fx.crash().await;
    assert!(fx.open.maintain().await.removed.is_empty());
    let head = fx.open.head(parent).await;
    assert_eq!((head.users, head.result), (1, Some(pointer(parent))));
    fx.open.advance(RETAIN * 2).await;
    serve(&fx, child).await;
    let fx = fx.crash().await;
    assert_eq!(fx.open.maintain().await.removed, [(parent, Some(pointer(parent)))]);
    let fx = fx.crash().await;
    assert_eq!(fx.open.enqueue(&child_of(&[parent])).await, Enqueued::Missing { job: parent });
}

pub async fn a_job_that_ended_before_the_crash_is_a_parent_after_it(fx: DurableJobStoreFixture) {
    let parent = add_done(&fx).await;
    let dead = fx.open.add_dead().await.job;
    let fx = fx.crash().await;
    let child = fx.open.add(NewJob { delay: RETAIN * 3, ..child_of(&[parent]) }).await;
    let orphan = fx.open.add(child_of(&[parent, dead])).await;
    assert_eq!((fx.open.state(child).await, fx.open.state(orphan).await), (JobState::Delayed, JobState::Waiting));
    assert_eq!(fx.open.maintain().await.settled, [(orphan, JobState::Dead)]);
    assert_eq!((fx.open.head(parent).await.users, fx.open.head(dead).await.users), (1, 0));
    let fx = fx.crash().await;
    fx.open.advance(RETAIN * 3).await;
    assert!(fx.open.maintain().await.removed.is_empty());
    serve(&fx, child).await;
    assert_eq!(fx.open.maintain().await.removed, [(parent, Some(pointer(parent)))]);
}

pub async fn a_child_is_redriven_after_the_crash(fx: DurableJobStoreFixture) {
    let (parent, gone) = (add_done(&fx).await, add_done(&fx).await);
    let other = fx.open.add(NewJob { delay: RETAIN * 9, ..child_of(&[parent]) }).await;
    let mut dead = Vec::new();
    for parents in [vec![parent], vec![parent, gone]] {
        let key = fx.open.add_and_take(child_of(&parents)).await;
        fx.open.finish(key, Final::Dead(error("no"))).await;
        dead.push(key.job);
    }
    fx.open.advance(RETAIN * 2).await;
    assert_eq!(fx.open.maintain().await.removed, [(gone, Some(pointer(gone)))]);
    let fx = fx.crash().await;
    assert_eq!(fx.open.redrive(dead[1]).await, Redriven::Missing { job: gone });
    assert_eq!(fx.open.redrive(dead[0]).await, Redriven::Ok);
    assert_eq!(fx.open.cancel(other).await, Cancelled::Now);
    let fx = fx.crash().await;
    assert_eq!(fx.open.head(parent).await.users, 1);
    assert!(fx.open.maintain().await.removed.is_empty());
    serve(&fx, dead[0]).await;
    assert_eq!(fx.open.maintain().await.removed, [(parent, Some(pointer(parent)))]);
}

pub async fn a_concurrency_key_is_kept_to_after_the_crash(fx: DurableJobStoreFixture) {
    let holder = fx.open.add_and_take(limited("k", 1)).await;
    fx.open.add_all(&[limited("k", 1), limited("k", 1)]).await;
    assert!(fx.open.take_up_to(10).await.is_empty());
    assert_eq!(fx.open.counts().await.blocked, 2);
    let fx = fx.crash().await;
    let late = fx.open.add(limited("k", 1)).await;
    // Whether the lease outlives the crash is the store's: either way one at a time is held, and all are served.
    let mut served = Vec::new();
    if fx.open.finish(holder, done(holder)).await == Fenced::Ok(JobState::Done) {
        served.push(holder.job);
    }
    while served.len() < 4 {
        let taken = fx.open.take_up_to(10).await;
        assert_eq!(taken.len(), 1, "one at a time, {} were served", served.len());
        assert!(fx.open.take_up_to(10).await.is_empty());
        fx.open.finish(taken[0].key, done(taken[0].key)).await;
        served.push(taken[0].key.job);
    }
    assert!(served.contains(&late));
    assert_eq!(fx.open.counts().await, LaneCounts::default());
}

pub async fn a_slot_survives(fx: DurableJobStoreFixture) {
    let added = fx.open.add_all(&[rated(1), rated(1)]).await;
    let first = fx.open.take_up_to(10).await;
    fx.open.finish(first[0].key, done(first[0].key)).await;
    let before = fx.open.job(added[1]).await;
    assert_eq!((before.head.state, before.head.admitted), (JobState::Delayed, true));
    let fx = fx.crash().await;
    assert_eq!(fx.open.job(added[1]).await, before);
    assert!(fx.open.try_take().await.is_none(), "its slot has not come");
    fx.open.advance(Duration::from_secs(101)).await;
    serve(&fx, added[1]).await;
}

pub async fn an_end_with_the_result_of_an_earlier_call_survives(fx: DurableJobStoreFixture) {
    let from = add_done(&fx).await;
    let key = fx.open.add_and_take(new_job()).await;
    let end = Final::Cached { result: pointer(key.job), from };
    assert_eq!(fx.open.finish(key, end.clone()).await, Fenced::Ok(JobState::Done));
    let before = fx.open.job(key.job).await;
    let fx = fx.crash().await;
    assert_eq!(fx.open.job(key.job).await, before);
    assert_eq!(before.head.cached_from, Some(from));
    assert_eq!(fx.open.finish(key, end).await, Fenced::OkAgain(JobState::Done));
    assert_eq!(fx.open.finish(key, done(key)).await, Fenced::Stale);
}

pub async fn what_was_taken_in_survives(fx: DurableJobStoreFixture) {
    let from = another(&fx.open).await;
    let dead = from.add_and_take(NewJob { idempotency_key: Some("k".to_owned()), ..new_job() }).await;
    from.finish(dead, Final::Dead(error("no"))).await;
    let parked = from.add_and_take(new_job()).await;
    from.nack(parked, park()).await;
    let ended = from.add_and_take(NewJob { retain: Duration::from_secs(1), ..new_job() }).await;
    from.finish(ended, done(ended)).await;
    let parent = from.add(NewJob { delay: Duration::from_secs(5), ..new_job() }).await;
    let child = from.add(child_of(&[parent, ended.job])).await;
    take_over(&fx.open, &from).await;
    let fx = fx.crash().await;
    assert_eq!(all(&fx.open).await, all(&from).await);
    let found = fx.open.store.keyed(&new_job().owner.tenant, "k").await.expect("the store answers");
    assert_eq!(found, Some(dead.job));
    fx.open.advance(Duration::from_secs(6)).await;
    assert!(fx.open.maintain().await.removed.is_empty(), "it is in use");
    serve(&fx, parent).await;
    serve(&fx, child).await;
    assert_eq!(fx.open.maintain().await.removed, [(ended.job, Some(pointer(ended.job)))]);
}

pub async fn lanes_are_the_same_after_the_crash(fx: DurableJobStoreFixture) {
    let parent = fx.open.add(NewJob { lane: lane("ready"), ..new_job() }).await;
    fx.open.add(NewJob { lane: lane("waits"), ..child_of(&[parent]) }).await;
    fx.open.add_dead().await;
    fx.open.store.pause(&lane("paused"), true).await.expect("the store answers");
    let ended = fx.open.add(NewJob { lane: lane("ended"), ..new_job() }).await;
    assert_eq!(fx.open.cancel(ended).await, Cancelled::Now);
    let fx = fx.crash().await;
    let lanes = fx.open.store.lanes().await.expect("the store answers");
    assert_eq!(lanes, ["light", "paused", "ready", "waits"].map(lane));
}

pub async fn a_job_that_came_held_survives(fx: DurableJobStoreFixture) {
    let new = NewJob { idempotency_key: Some("k".to_owned()), ..held() };
    let key = new.held_key().expect("it comes held");
    fx.open.add(new.clone()).await;
    let fx = fx.crash().await;
    let head = fx.open.head(key.job).await;
    assert_eq!((head.state, head.epoch, head.lost, head.maybe_called), (JobState::Ready, 1, 1, true));
    assert_eq!(fx.open.enqueue(&new).await, Enqueued::Duplicate { job: key.job, state: JobState::Ready });
    assert_eq!(fx.open.finish(key, done(key)).await, Fenced::Stale);
    assert_eq!(fx.open.maintain().await.reclaimed, [(key.job, JobState::Ready)]);
    serve(&fx, key.job).await;
}
