//! What time does to jobs: lost leases, backoff, promotion, deadlines, retention.

use std::{num::NonZeroU16, sync::Arc, time::Duration};

use super::fixture::{JobStoreFixture, VISIBILITY, bounded, done, fail_after, new_job, pointer};
use crate::{
    id::Lane,
    queue::{Enqueued, Fenced, JobErrorCode, JobState, LaneCounts, LeaseEnd, Maintained, NackHow, NewJob},
};

pub async fn a_lost_lease_counts_and_says_that_the_call_may_have_happened(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    assert_eq!(fx.lose().await.reclaimed, [(key.job, JobState::Ready)]);
    let head = fx.head(key.job).await;
    assert_eq!((head.lost, head.attempts, head.maybe_called), (1, 0, true));
    assert_eq!((head.worker, head.lease_until, head.lease_end), (None, None, Some(LeaseEnd::Lost)));
    assert!(fx.take().await.job.head.maybe_called, "the next worker is told");
}

pub async fn a_first_lost_lease_costs_no_backoff_and_wakes_who_waits(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    let store = Arc::clone(&fx.store);
    let waits = tokio::spawn(async move { store.wait_ready(&[Lane::light()], Duration::from_secs(3_600)).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waits.is_finished(), "nothing is ready");
    fx.lose().await;
    bounded("the wake-up", waits).await.expect("the wait does not panic");
    assert_eq!(fx.take().await.key.job, key.job);
}

pub async fn the_backoff_after_a_lost_lease_grows(fx: JobStoreFixture) {
    fx.add(NewJob { lost_max: 10, ..new_job() }).await;
    fx.take().await;
    fx.lose().await;
    let mut waits = Vec::new();
    for _ in 0..3 {
        let key = fx.take().await.key;
        fx.lose().await;
        let head = fx.head(key.job).await;
        waits.push(head.due_at.since(head.updated_at));
        fx.advance(head.due_at.since(head.updated_at)).await;
    }
    assert!(!waits[0].is_zero() && waits[0] < waits[1] && waits[1] < waits[2], "{waits:?}");
}

pub async fn a_lease_lost_too_often_ends_the_job(fx: JobStoreFixture) {
    fx.add(NewJob { lost_max: 2, ..new_job() }).await;
    let key = fx.take().await.key;
    assert_eq!(fx.lose().await.reclaimed, [(key.job, JobState::Ready)]);
    fx.take().await;
    assert_eq!(fx.lose().await.reclaimed, [(key.job, JobState::Dead)]);
    let head = fx.head(key.job).await;
    assert_eq!((head.lost, head.attempts), (2, 0));
    assert_eq!(head.error.map(|error| error.code), Some(JobErrorCode::Lost));
}

pub async fn lost_leases_and_failed_attempts_are_counted_apart(fx: JobStoreFixture) {
    fx.add(NewJob { attempts_max: 2, lost_max: 2, ..new_job() }).await;
    let key = fx.take().await.key;
    fx.lose().await;
    let next = fx.take().await.key;
    assert_eq!(fx.nack(next, fail_after(Duration::ZERO)).await, Fenced::Ok(JobState::Ready));
    let head = fx.head(key.job).await;
    assert_eq!((head.lost, head.attempts), (1, 1));
}

pub async fn maintenance_promotes_what_is_due(fx: JobStoreFixture) {
    let soon = fx.add(NewJob { delay: Duration::from_secs(5), ..new_job() }).await;
    let late = fx.add(NewJob { delay: Duration::from_secs(50), ..new_job() }).await;
    fx.advance(Duration::from_secs(6)).await;
    assert_eq!(fx.maintain().await.promoted, 1);
    assert_eq!((fx.state(soon).await, fx.state(late).await), (JobState::Ready, JobState::Delayed));
}

pub async fn maintenance_keeps_within_its_budget(fx: JobStoreFixture) {
    for _ in 0..10 {
        fx.add(NewJob { delay: Duration::from_secs(5), ..new_job() }).await;
    }
    fx.advance(Duration::from_secs(6)).await;
    let three = NonZeroU16::new(3).expect("not zero");
    for _ in 0..2 {
        assert_eq!(fx.store.maintain(three).await.expect("the store answers").moves(), 3);
    }
    assert_eq!(fx.counts().await.delayed, 4);
}

pub async fn removals_do_not_hold_up_what_is_due(fx: JobStoreFixture) {
    for _ in 0..10 {
        let ended = fx.add(NewJob { retain: Duration::from_secs(1), ..new_job() }).await;
        fx.store.cancel(ended, "no").await.expect("the store answers");
    }
    let held = fx.add_and_take(new_job()).await;
    fx.add(NewJob { delay: VISIBILITY * 2, ..new_job() }).await;
    fx.advance(VISIBILITY * 3).await;
    let four = NonZeroU16::new(4).expect("not zero");
    let done = fx.store.maintain(four).await.expect("the store answers");
    assert_eq!((done.promoted, done.reclaimed), (1, vec![(held.job, JobState::Ready)]));
    assert_eq!(done.removed.len(), 2, "they get what is left of the budget");
    assert_eq!(fx.maintain().await.removed.len(), 8);
}

pub async fn maintenance_without_need_does_nothing(fx: JobStoreFixture) {
    fx.add_plain().await;
    fx.take().await;
    fx.add_plain().await;
    assert_eq!(fx.maintain().await, Maintained::default());
}

pub async fn a_deadline_ends_whatever_nobody_holds(fx: JobStoreFixture) {
    let deadline = Some(Duration::from_secs(20));
    let parked = fx.add_and_take(NewJob { deadline, ..new_job() }).await;
    fx.nack(parked, super::fixture::park()).await;
    let ready = fx.add(NewJob { deadline, ..new_job() }).await;
    let delayed = fx.add(NewJob { deadline, delay: Duration::from_secs(300), ..new_job() }).await;
    fx.advance(Duration::from_secs(10)).await;
    assert!(fx.maintain().await.expired.is_empty());
    fx.advance(Duration::from_secs(11)).await;
    let mut expired = fx.maintain().await.expired;
    expired.sort_unstable();
    assert_eq!(expired, [parked.job, ready, delayed]);
    for id in expired {
        let head = fx.head(id).await;
        assert_eq!(
            (head.state, head.error.map(|error| error.code)),
            (JobState::Dead, Some(JobErrorCode::DeadlineExceeded))
        );
    }
}

pub async fn a_deadline_leaves_a_held_job_to_its_worker(fx: JobStoreFixture) {
    let key = fx.add_and_take(NewJob { deadline: Some(Duration::from_secs(5)), ..new_job() }).await;
    fx.advance(Duration::from_secs(10)).await;
    assert_eq!(fx.maintain().await, Maintained::default());
    assert_eq!(fx.finish(key, done(key)).await, Fenced::Ok(JobState::Done));
}

pub async fn a_death_by_time_says_that_an_earlier_call_may_have_happened(fx: JobStoreFixture) {
    let deadline = Some(Duration::from_secs(20));
    let quiet = fx.add_and_take(NewJob { deadline, ..new_job() }).await;
    fx.nack(quiet, NackHow::Release { delay: Duration::from_secs(5), maybe_called: false }).await;
    let called = fx.add_and_take(NewJob { deadline, ..new_job() }).await;
    fx.nack(called, NackHow::Release { delay: Duration::from_secs(5), maybe_called: true }).await;
    let lost = fx.add_and_take(NewJob { lost_max: 1, ..new_job() }).await;
    fx.lose().await;
    for (key, expected) in [(quiet, false), (called, true), (lost, true)] {
        let head = fx.head(key.job).await;
        let error = head.error.expect("a dead job says why");
        assert_eq!((head.state, error.message.contains("may have happened")), (JobState::Dead, expected), "{error:?}");
    }
}

pub async fn an_ended_job_is_removed_after_its_retention_with_its_pointer(fx: JobStoreFixture) {
    let key = fx.add_and_take(NewJob { retain: Duration::from_secs(100), ..new_job() }).await;
    fx.finish(key, done(key)).await;
    fx.advance(Duration::from_secs(90)).await;
    assert!(fx.maintain().await.removed.is_empty());
    assert_eq!(fx.state(key.job).await, JobState::Done);
    fx.advance(Duration::from_secs(11)).await;
    assert_eq!(fx.maintain().await.removed, [(key.job, Some(pointer(key.job)))]);
    assert!(fx.try_job(key.job).await.is_none());
    assert_eq!(fx.finish(key, done(key)).await, Fenced::Gone);
    assert_eq!(fx.maintain().await, Maintained::default());
}

pub async fn retention_counts_from_the_end(fx: JobStoreFixture) {
    let id = fx.add(NewJob { retain: Duration::from_secs(10), ..new_job() }).await;
    fx.advance(Duration::from_secs(1_000)).await;
    assert!(fx.maintain().await.removed.is_empty(), "a live job is never removed");
    assert_eq!(fx.take().await.key.job, id);
}

pub async fn dead_and_cancelled_jobs_are_removed_too(fx: JobStoreFixture) {
    let dead = fx.add_dead().await.job;
    let cancelled = fx.add_plain().await;
    fx.store.cancel(cancelled, "no").await.expect("the store answers");
    fx.advance(Duration::from_secs(3_601)).await;
    let mut removed = fx.maintain().await.removed;
    removed.sort_unstable();
    assert_eq!(removed, [(dead, None), (cancelled, None)]);
    assert_eq!(fx.counts().await, LaneCounts::default());
}

pub async fn a_redriven_job_is_not_removed(fx: JobStoreFixture) {
    let key = fx.add_dead().await;
    fx.store.redrive(key.job).await.expect("the store answers");
    fx.advance(Duration::from_secs(7_200)).await;
    assert!(fx.maintain().await.removed.is_empty());
    assert_eq!(fx.state(key.job).await, JobState::Ready);
}

pub async fn the_key_of_a_removed_job_is_free(fx: JobStoreFixture) {
    let keyed = || NewJob { idempotency_key: Some("k".to_owned()), retain: Duration::from_secs(1), ..new_job() };
    let key = fx.add_and_take(keyed()).await;
    fx.finish(key, done(key)).await;
    fx.advance(VISIBILITY).await;
    assert_eq!(fx.maintain().await.removed.len(), 1);
    assert!(matches!(fx.enqueue(&keyed()).await, Enqueued::Ok { .. }));
}
