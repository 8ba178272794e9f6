//! What a store that outlives its process keeps when it is dropped without grace and opened again.

use std::{num::NonZeroU16, time::Duration};

use super::fixture::{
    DurableJobStoreFixture, VISIBILITY, checkpoint, done, error, fail_after, new_job, park, pointer, release_after,
};
use crate::{
    id::Lane,
    pointer::Digest,
    queue::{
        Answer, Answered, Beat, Cancelled, Enqueued, Fenced, Final, JobErrorCode, JobQuery, JobState, LeaseEnd,
        Maintained, NewJob, Redriven,
    },
};

fn keyed(key: &str) -> NewJob {
    NewJob { idempotency_key: Some(key.to_owned()), ..new_job() }
}

pub async fn an_accepted_job_survives(fx: DurableJobStoreFixture) {
    let new = NewJob { priority: 3, deadline: Some(Duration::from_secs(900)), ..keyed("k") };
    fx.open.add(new.clone()).await;
    let before = fx.open.job(new.id).await;
    let fx = fx.crash().await;
    assert_eq!(fx.open.job(new.id).await, before);
    assert_eq!(*before.body, *new.body);
    assert_eq!(fx.open.take().await.key.job, new.id);
}

pub async fn a_delayed_job_survives_and_keeps_its_time(fx: DurableJobStoreFixture) {
    let id = fx.open.add(NewJob { delay: Duration::from_secs(10), ..new_job() }).await;
    let fx = fx.crash().await;
    assert!(fx.open.try_take().await.is_none());
    fx.open.advance(Duration::from_secs(11)).await;
    assert_eq!(fx.open.take().await.key.job, id);
}

pub async fn a_held_lease_is_over_at_once(fx: DurableJobStoreFixture) {
    let key = fx.open.add_and_take(new_job()).await;
    let fx = fx.crash().await;
    let head = fx.open.head(key.job).await;
    assert_eq!((head.state, head.lost, head.maybe_called), (JobState::Ready, 1, true));
    assert_eq!((head.worker, head.lease_end), (None, Some(LeaseEnd::Lost)));
    assert_eq!(fx.open.beat(key).await, Beat::Lost);
    assert_eq!(fx.open.finish(key, done(key)).await, Fenced::Stale);
    assert_eq!(fx.open.nack(key, release_after(Duration::ZERO)).await, Fenced::Stale);
    let next = fx.open.take().await;
    assert!(next.job.head.maybe_called && next.key.epoch > key.epoch);
}

pub async fn the_first_maintenance_tells_whose_lease_the_crash_ended(fx: DurableJobStoreFixture) {
    let back = fx.open.add_and_take(new_job()).await.job;
    let dead = fx.open.add_and_take(NewJob { lost_max: 1, ..new_job() }).await.job;
    let cancelled = fx.open.add_and_take(new_job()).await.job;
    fx.open.store.cancel(cancelled, "no").await.expect("the store answers");
    let fx = fx.crash().await;
    let one = NonZeroU16::MIN;
    let mut told = fx.open.store.maintain(one).await.expect("the store answers").reclaimed;
    assert_eq!(told.len(), 1, "within the budget");
    told.extend(fx.open.maintain().await.reclaimed);
    told.sort_unstable();
    assert_eq!(told, [(back, JobState::Ready), (dead, JobState::Dead), (cancelled, JobState::Cancelled)]);
    assert_eq!(fx.open.maintain().await, Maintained::default(), "once");
}

pub async fn a_job_that_crashes_its_process_ends_dead(fx: DurableJobStoreFixture) {
    let id = fx.open.add(NewJob { lost_max: 2, ..new_job() }).await;
    fx.open.take().await;
    let fx = fx.crash().await;
    fx.open.take().await;
    let fx = fx.crash().await;
    let head = fx.open.head(id).await;
    assert_eq!((head.state, head.lost), (JobState::Dead, 2));
    assert_eq!(head.error.map(|error| error.code), Some(JobErrorCode::Lost));
}

pub async fn epochs_never_repeat(fx: DurableJobStoreFixture) {
    fx.open.add(NewJob { lost_max: 99, ..new_job() }).await;
    let mut fx = fx;
    let mut last = 0;
    for round in 0..5 {
        let key = fx.open.take().await.key;
        assert!(key.epoch > last, "epoch {} after {last}", key.epoch);
        last = key.epoch;
        if round % 2 == 0 {
            fx.open.nack(key, release_after(Duration::ZERO)).await;
        }
        fx = fx.crash().await;
    }
}

pub async fn a_cancel_wish_survives(fx: DurableJobStoreFixture) {
    let key = fx.open.add_and_take(new_job()).await;
    assert_eq!(fx.open.store.cancel(key.job, "no").await.expect("the store answers"), Cancelled::Asked);
    let fx = fx.crash().await;
    let head = fx.open.head(key.job).await;
    assert_eq!((head.state, head.cancel_reason.as_deref()), (JobState::Cancelled, Some("no")));
}

pub async fn an_ended_job_survives_and_reads_as_before(fx: DurableJobStoreFixture) {
    let key = fx.open.add_and_take(new_job()).await;
    fx.open.finish(key, done(key)).await;
    let before = fx.open.job(key.job).await;
    let fx = fx.crash().await;
    assert_eq!(fx.open.job(key.job).await, before);
    let query = JobQuery { states: vec![JobState::Done], ..JobQuery::default() };
    let page = fx.open.store.list(&query).await.expect("the store answers");
    assert_eq!(page.jobs, [before]);
    assert!(fx.open.try_take().await.is_none());
}

pub async fn the_same_end_again_is_still_known(fx: DurableJobStoreFixture) {
    let key = fx.open.add_and_take(new_job()).await;
    fx.open.finish(key, done(key)).await;
    let fx = fx.crash().await;
    assert_eq!(fx.open.finish(key, done(key)).await, Fenced::OkAgain(JobState::Done));
    assert_eq!(fx.open.finish(key, Final::Dead(error("no"))).await, Fenced::Stale);
}

pub async fn the_same_nack_again_is_still_known(fx: DurableJobStoreFixture) {
    let key = fx.open.add_and_take(new_job()).await;
    fx.open.nack(key, fail_after(Duration::from_secs(5))).await;
    let fx = fx.crash().await;
    assert_eq!(fx.open.nack(key, fail_after(Duration::from_secs(5))).await, Fenced::OkAgain(JobState::Delayed));
    assert_eq!(fx.open.head(key.job).await.attempts, 1);
}

pub async fn idempotency_survives_for_live_and_ended_jobs(fx: DurableJobStoreFixture) {
    let ended = fx.open.add_and_take(keyed("ended")).await;
    fx.open.finish(ended, done(ended)).await;
    let live = fx.open.add(keyed("live")).await;
    let fx = fx.crash().await;
    let tenant = new_job().owner.tenant;
    for (key, job) in [("live", Some(live)), ("ended", Some(ended.job)), ("unknown", None)] {
        assert_eq!(fx.open.store.keyed(&tenant, key).await.expect("the store answers"), job);
    }
    let again = fx.open.enqueue(&keyed("live")).await;
    assert_eq!(again, Enqueued::Duplicate { job: live, state: JobState::Ready });
    let again = fx.open.enqueue(&keyed("ended")).await;
    assert_eq!(again, Enqueued::Duplicate { job: ended.job, state: JobState::Done });
    let other = NewJob { request_digest: Digest::of(b"something else"), ..keyed("ended") };
    assert_eq!(fx.open.enqueue(&other).await, Enqueued::Conflict { job: ended.job });
    let same_id = NewJob { id: ended.job, ..new_job() };
    assert_eq!(fx.open.enqueue(&same_id).await, Enqueued::Duplicate { job: ended.job, state: JobState::Done });
}

pub async fn a_checkpoint_survives(fx: DurableJobStoreFixture) {
    let key = fx.open.add_and_take(new_job()).await;
    fx.open.save(key, "remote task 7").await;
    let fx = fx.crash().await;
    assert_eq!(fx.open.take().await.job.head.checkpoint, Some(checkpoint("remote task 7")));
}

pub async fn a_parked_job_survives_and_takes_its_answer(fx: DurableJobStoreFixture) {
    let key = fx.open.add_and_take(new_job()).await;
    fx.open.nack(key, park()).await;
    let before = fx.open.job(key.job).await;
    let fx = fx.crash().await;
    assert_eq!(fx.open.job(key.job).await, before);
    let answer = Answer { responses: "{}".to_owned() };
    assert_eq!(fx.open.store.answer(key.job, answer.clone()).await.expect("the store answers"), Answered::Ok);
    let fx = fx.crash().await;
    assert_eq!(fx.open.take().await.job.head.answer, Some(answer));
}

pub async fn a_paused_lane_stays_paused(fx: DurableJobStoreFixture) {
    fx.open.add_plain().await;
    fx.open.store.pause(&Lane::light(), true).await.expect("the store answers");
    let fx = fx.crash().await;
    assert!(fx.open.try_take().await.is_none());
    fx.open.store.pause(&Lane::light(), false).await.expect("the store answers");
    let fx = fx.crash().await;
    assert!(fx.open.try_take().await.is_some(), "a resumed lane stays resumed");
}

pub async fn a_dead_job_is_redriven_after_the_crash(fx: DurableJobStoreFixture) {
    let key = fx.open.add_dead().await;
    let fx = fx.crash().await;
    assert_eq!(fx.open.counts().await.dead, 1, "dead letters are still counted");
    assert_eq!(fx.open.store.redrive(key.job).await.expect("the store answers"), Redriven::Ok);
    assert_eq!(fx.open.counts().await.dead, 0);
    let next = fx.open.take().await;
    assert_eq!((next.key.job, next.key.epoch, next.job.head.attempts), (key.job, key.epoch + 1, 0));
}

pub async fn counts_are_the_same_after_the_crash(fx: DurableJobStoreFixture) {
    fx.open.add_dead().await;
    fx.open.add_parked().await;
    fx.open.add(NewJob { delay: Duration::from_secs(60), ..new_job() }).await;
    fx.open.add_many(3).await;
    let before = fx.open.counts().await;
    let fx = fx.crash().await;
    assert_eq!(fx.open.counts().await, before);
}

pub async fn failed_attempts_are_still_counted(fx: DurableJobStoreFixture) {
    fx.open.add(NewJob { attempts_max: 2, ..new_job() }).await;
    let key = fx.open.take().await.key;
    fx.open.nack(key, fail_after(Duration::ZERO)).await;
    let fx = fx.crash().await;
    let key = fx.open.take().await.key;
    assert_eq!(fx.open.nack(key, fail_after(Duration::ZERO)).await, Fenced::Ok(JobState::Dead));
}

pub async fn retention_goes_on_after_the_crash(fx: DurableJobStoreFixture) {
    let key = fx.open.add_and_take(NewJob { retain: Duration::from_secs(100), ..keyed("k") }).await;
    fx.open.finish(key, done(key)).await;
    let fx = fx.crash().await;
    assert!(fx.open.maintain().await.removed.is_empty());
    fx.open.advance(Duration::from_secs(101)).await;
    assert_eq!(fx.open.maintain().await.removed, [(key.job, Some(pointer(key.job)))]);
    let fx = fx.crash().await;
    assert!(fx.open.try_job(key.job).await.is_none(), "what was removed stays removed");
    assert!(matches!(fx.open.enqueue(&keyed("k")).await, Enqueued::Ok { .. }), "and its key is free");
}

pub async fn a_deadline_is_kept_after_the_crash(fx: DurableJobStoreFixture) {
    let id = fx.open.add(NewJob { deadline: Some(Duration::from_secs(10)), ..new_job() }).await;
    let fx = fx.crash().await;
    fx.open.advance(Duration::from_secs(11)).await;
    assert_eq!(fx.open.maintain().await.expired, [id]);
}

pub async fn order_is_the_same_after_the_crash(fx: DurableJobStoreFixture) {
    let first = fx.open.add_plain().await;
    fx.open.advance(Duration::from_secs(100)).await;
    let second = fx.open.add(NewJob { priority: 1, ..new_job() }).await;
    let urgent = fx.open.add(NewJob { priority: 2, ..new_job() }).await;
    let fx = fx.crash().await;
    let taken: Vec<_> = fx.open.take_up_to(3).await.iter().map(|leased| leased.key.job).collect();
    assert_eq!(taken, [urgent, first, second]);
}

pub async fn an_old_wish_for_work_gets_nothing_after_the_crash(fx: DurableJobStoreFixture) {
    fx.open.add_many(2).await;
    let want = fx.open.want(1);
    let old = fx.open.lease(&want).await.jobs;
    let fx = fx.crash().await;
    fx.open.maintain().await;
    let again = fx.open.lease(&want).await.jobs;
    assert!(again.iter().all(|leased| leased.key != old[0].key), "the old grant is over");
    fx.open.advance(VISIBILITY / 2).await;
    assert!(fx.open.maintain().await.reclaimed.is_empty());
}
