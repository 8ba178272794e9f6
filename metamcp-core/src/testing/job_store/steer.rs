//! What a wish to cancel does in every state, and over what it wins.

use std::time::Duration;

use super::fixture::{JobStoreFixture, done, error, fail_after, new_job, park, release_after};
use crate::{
    id::JobId,
    queue::{Beat, Cancelled, Fenced, Final, JobState, LaneCounts, NewJob},
};

async fn is_cancelled(fx: &JobStoreFixture, id: JobId) {
    let head = fx.head(id).await;
    assert_eq!((head.state, head.cancel_reason.as_deref()), (JobState::Cancelled, Some("no longer needed")));
    assert!(head.finished_at.is_some() && head.worker.is_none() && head.result.is_none());
    assert_eq!(fx.counts().await, LaneCounts::default(), "it counts nowhere");
}

pub async fn a_ready_job_is_cancelled_at_once(fx: JobStoreFixture) {
    let id = fx.add_plain().await;
    assert_eq!(fx.cancel(id).await, Cancelled::Now);
    is_cancelled(&fx, id).await;
    assert!(fx.try_take().await.is_none());
}

pub async fn a_delayed_job_is_cancelled_at_once(fx: JobStoreFixture) {
    let id = fx.add(NewJob { delay: Duration::from_secs(10), ..new_job() }).await;
    assert_eq!(fx.cancel(id).await, Cancelled::Now);
    is_cancelled(&fx, id).await;
    fx.advance(Duration::from_secs(11)).await;
    assert_eq!(fx.maintain().await.promoted, 0);
    assert!(fx.try_take().await.is_none());
}

pub async fn a_parked_job_is_cancelled_at_once(fx: JobStoreFixture) {
    let key = fx.add_parked().await;
    assert_eq!(fx.cancel(key.job).await, Cancelled::Now);
    is_cancelled(&fx, key.job).await;
    fx.advance(Duration::from_secs(61)).await;
    assert!(fx.maintain().await.expired.is_empty());
}

pub async fn the_worker_of_a_held_job_is_told_with_its_heartbeat(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    assert_eq!(fx.cancel(key.job).await, Cancelled::Asked);
    assert_eq!(fx.state(key.job).await, JobState::Leased);
    for _ in 0..2 {
        assert_eq!(fx.beat(key).await, Beat::CancelAsked { reason: "no longer needed".to_owned() });
    }
    let end = Final::Cancelled { reason: "no longer needed".to_owned() };
    assert_eq!(fx.finish(key, end).await, Fenced::Ok(JobState::Cancelled));
    is_cancelled(&fx, key.job).await;
}

pub async fn a_job_may_still_complete_after_the_wish(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    fx.cancel(key.job).await;
    assert_eq!(fx.finish(key, done(key)).await, Fenced::Ok(JobState::Done));
    assert_eq!(fx.cancel(key.job).await, Cancelled::Already(JobState::Done));
}

pub async fn the_wish_wins_over_a_failed_attempt(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    fx.cancel(key.job).await;
    assert_eq!(fx.nack(key, fail_after(Duration::ZERO)).await, Fenced::Ok(JobState::Cancelled));
    is_cancelled(&fx, key.job).await;
    assert_eq!(fx.nack(key, fail_after(Duration::ZERO)).await, Fenced::OkAgain(JobState::Cancelled));
}

pub async fn the_wish_wins_over_a_release(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    fx.cancel(key.job).await;
    assert_eq!(fx.nack(key, release_after(Duration::from_secs(5))).await, Fenced::Ok(JobState::Cancelled));
    is_cancelled(&fx, key.job).await;
}

pub async fn the_wish_wins_over_parking(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    fx.cancel(key.job).await;
    assert_eq!(fx.nack(key, park()).await, Fenced::Ok(JobState::Cancelled));
    is_cancelled(&fx, key.job).await;
}

pub async fn the_wish_wins_over_a_lost_lease(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    fx.cancel(key.job).await;
    assert_eq!(fx.lose().await.reclaimed, [(key.job, JobState::Cancelled)]);
    is_cancelled(&fx, key.job).await;
}

pub async fn a_second_wish_is_the_same_wish(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    assert_eq!(fx.cancel(key.job).await, Cancelled::Asked);
    assert_eq!(fx.store.cancel(key.job, "another").await.expect("the store answers"), Cancelled::Asked);
    assert_eq!(fx.beat(key).await, Beat::CancelAsked { reason: "no longer needed".to_owned() });
    fx.nack(key, release_after(Duration::ZERO)).await;
    assert_eq!(fx.cancel(key.job).await, Cancelled::Already(JobState::Cancelled));
}

pub async fn an_ended_job_cannot_be_cancelled(fx: JobStoreFixture) {
    let key = fx.add_dead().await;
    let before = fx.head(key.job).await;
    assert_eq!(fx.cancel(key.job).await, Cancelled::Already(JobState::Dead));
    assert_eq!(fx.head(key.job).await, before);
    let key = fx.add_and_take(new_job()).await;
    fx.finish(key, Final::Dead(error("no"))).await;
    assert_eq!(fx.cancel(key.job).await, Cancelled::Already(JobState::Dead));
}

pub async fn an_unknown_job_cannot_be_cancelled(fx: JobStoreFixture) {
    assert_eq!(fx.cancel(JobId::MIN).await, Cancelled::Gone);
}
