//! What the fence lets through: the holder of the newest lease, and nobody else.

use std::time::Duration;

use super::fixture::{
    JobStoreFixture, VISIBILITY, checkpoint, done, error, fail_after, new_job, pointer, release_after, sorted,
};
use crate::{
    error::StoreErrorKind,
    id::JobId,
    queue::{
        Beat, CHECKPOINT_BYTES_MAX, Checkpoint, Fenced, Final, Finish, Heartbeat, JobState, LEASE_BATCH_MAX, LeaseKey,
        Nack, NewJob, Progress,
    },
    time::Timestamp,
};

/// Every fenced call with this key is refused as `refused`, and changes nothing.
pub(super) async fn all_refused(fx: &JobStoreFixture, key: LeaseKey, refused: Fenced) {
    let before = fx.try_job(key.job).await;
    assert_eq!(fx.finish(key, done(key)).await, refused, "finish");
    assert_eq!(fx.finish(key, Final::Dead(error("x"))).await, refused, "finish dead");
    assert_eq!(fx.nack(key, fail_after(Duration::ZERO)).await, refused, "fail");
    assert_eq!(fx.nack(key, release_after(Duration::ZERO)).await, refused, "release");
    assert_eq!(fx.nack(key, super::fixture::park()).await, refused, "park");
    assert_eq!(fx.save(key, "x").await, refused, "checkpoint");
    assert_eq!(fx.beat(key).await, Beat::Lost, "heartbeat");
    assert_eq!(fx.try_job(key.job).await, before, "a refused call changes nothing");
}

pub async fn finish_ends_the_job_with_its_result(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    assert_eq!(fx.finish(key, done(key)).await, Fenced::Ok(JobState::Done));
    let head = fx.head(key.job).await;
    assert_eq!((head.state, head.result, head.error), (JobState::Done, Some(pointer(key.job)), None));
    assert!(head.finished_at.is_some() && head.worker.is_none() && head.lease_until.is_none());
    assert!(fx.try_take().await.is_none(), "what has ended is not handed out");
}

pub async fn finish_ends_the_job_dead_with_its_error(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    assert_eq!(fx.finish(key, Final::Dead(error("no"))).await, Fenced::Ok(JobState::Dead));
    let head = fx.head(key.job).await;
    assert_eq!((head.state, head.result, head.error), (JobState::Dead, None, Some(error("no"))));
}

pub async fn the_same_end_again_is_ok_again(fx: JobStoreFixture) {
    let ends: [fn(LeaseKey) -> Final; 3] =
        [done, |_| Final::Dead(error("no")), |_| Final::Cancelled { reason: "enough".to_owned() }];
    for end in ends {
        let key = fx.add_and_take(new_job()).await;
        let Fenced::Ok(state) = fx.finish(key, end(key)).await else { panic!("the first is well") };
        let after = fx.head(key.job).await;
        fx.advance(Duration::from_secs(60)).await;
        assert_eq!(fx.finish(key, end(key)).await, Fenced::OkAgain(state));
        assert_eq!(fx.head(key.job).await, after, "the second changes nothing");
    }
}

pub async fn another_end_after_the_end_is_stale(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    fx.finish(key, done(key)).await;
    let mut other = pointer(key.job);
    other.digest = crate::pointer::Digest::of(b"another");
    assert_eq!(fx.finish(key, Final::Done(other)).await, Fenced::Stale);
    assert_eq!(fx.finish(key, Final::Dead(error("no"))).await, Fenced::Stale);
    assert_eq!(fx.nack(key, fail_after(Duration::ZERO)).await, Fenced::Stale);
    assert_eq!(fx.save(key, "x").await, Fenced::Stale);
    assert_eq!(fx.beat(key).await, Beat::Lost);
    assert_eq!(fx.head(key.job).await.result, Some(pointer(key.job)));
}

pub async fn an_end_with_the_result_of_an_earlier_call_tells_whose_it_is(fx: JobStoreFixture) {
    let made = fx.add_and_take(NewJob { retain: Duration::from_secs(60), ..new_job() }).await;
    fx.finish(made, done(made)).await;
    let key = fx.add_and_take(NewJob { retain: Duration::from_secs(60), ..new_job() }).await;
    let child = fx.add(NewJob { after: vec![key.job], ..new_job() }).await;
    let cached = |from| Final::Cached { result: pointer(key.job), from };
    assert_eq!(fx.finish(key, cached(made.job)).await, Fenced::Ok(JobState::Done));
    let head = fx.head(key.job).await;
    assert_eq!(
        (head.state, head.result, head.cached_from),
        (JobState::Done, Some(pointer(key.job)), Some(made.job)),
        "an end like any other"
    );
    assert_eq!(fx.head(made.job).await.cached_from, None);
    assert_eq!(fx.finish(key, cached(made.job)).await, Fenced::OkAgain(JobState::Done));
    assert_eq!(fx.finish(key, cached(JobId::MIN)).await, Fenced::Stale, "of another job");
    assert_eq!(fx.finish(key, done(key)).await, Fenced::Stale, "of its own");
    assert_eq!(fx.finish(made, Final::Cached { result: pointer(made.job), from: key.job }).await, Fenced::Stale);
    let child = (fx.take().await.key, child);
    assert_eq!(child.0.job, child.1, "what waits for it goes on");
    fx.finish(child.0, done(child.0)).await;
    fx.advance(Duration::from_secs(61)).await;
    let removed = sorted(fx.maintain().await.removed.into_iter().map(|(id, _)| id).collect());
    assert_eq!(removed, [made.job, key.job]);
}

pub async fn a_key_of_an_older_lease_is_stale(fx: JobStoreFixture) {
    let old = fx.add_and_take(new_job()).await;
    fx.lose().await;
    let new = fx.take().await.key;
    assert_eq!((new.job, new.epoch), (old.job, old.epoch + 1));
    all_refused(&fx, old, Fenced::Stale).await;
    assert_eq!(fx.finish(new, done(new)).await, Fenced::Ok(JobState::Done));
    all_refused(&fx, old, Fenced::Stale).await;
}

pub async fn a_key_with_another_nonce_is_stale(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    all_refused(&fx, LeaseKey { nonce: key.nonce ^ 1, ..key }, Fenced::Stale).await;
    assert_eq!(fx.finish(key, done(key)).await, Fenced::Ok(JobState::Done));
    all_refused(&fx, LeaseKey { nonce: key.nonce ^ 1, ..key }, Fenced::Stale).await;
}

pub async fn a_key_of_a_lease_yet_to_come_is_stale(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    all_refused(&fx, LeaseKey { epoch: key.epoch + 1, ..key }, Fenced::Stale).await;
}

pub async fn a_key_of_a_job_that_was_never_leased_is_stale(fx: JobStoreFixture) {
    let job = fx.add_plain().await;
    all_refused(&fx, LeaseKey { job, epoch: 0, nonce: 0 }, Fenced::Stale).await;
}

pub async fn a_reclaimed_lease_is_stale_before_the_next(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    fx.lose().await;
    all_refused(&fx, key, Fenced::Stale).await;
}

pub async fn an_expired_lease_that_was_not_reclaimed_may_still_finish(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    fx.advance(VISIBILITY * 10).await;
    assert_eq!(fx.finish(key, done(key)).await, Fenced::Ok(JobState::Done));
    assert!(fx.maintain().await.reclaimed.is_empty());
}

pub async fn an_expired_lease_that_was_not_reclaimed_may_be_extended(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    fx.advance(VISIBILITY * 10).await;
    assert_eq!(fx.beat(key).await, Beat::Ok);
    assert!(fx.maintain().await.reclaimed.is_empty());
}

pub async fn a_key_of_an_unknown_job_is_gone(fx: JobStoreFixture) {
    let job = JobId::new(Timestamp::from_millis(7));
    all_refused(&fx, LeaseKey { job, epoch: 1, nonce: 1 }, Fenced::Gone).await;
}

pub async fn a_heartbeat_extends_the_lease(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    for _ in 0..5 {
        fx.advance(VISIBILITY - Duration::from_secs(5)).await;
        assert_eq!(fx.beat(key).await, Beat::Ok);
        assert!(fx.maintain().await.reclaimed.is_empty());
    }
    assert_eq!(fx.lose().await.reclaimed, [(key.job, JobState::Ready)], "without one it runs out");
}

pub async fn a_heartbeat_brings_progress(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    let progress = Progress { value: 2.0, total: Some(4.0), message: Some("half".to_owned()) };
    let beat = Heartbeat { lease: key, progress: Some(progress.clone()) };
    fx.store.heartbeat(&[beat], VISIBILITY).await.expect("the store answers");
    assert_eq!(fx.head(key.job).await.progress, Some(progress.clone()));
    fx.beat(key).await;
    assert_eq!(fx.head(key.job).await.progress, Some(progress), "a beat without news keeps it");
}

pub async fn heartbeats_are_answered_one_by_one(fx: JobStoreFixture) {
    fx.add_many(2).await;
    let held = fx.take_up_to(2).await;
    fx.store.cancel(held[1].key.job, "enough").await.expect("the store answers");
    let gone = LeaseKey { job: JobId::MIN, epoch: 1, nonce: 1 };
    let beats = [gone, held[1].key, held[0].key].map(|lease| Heartbeat { lease, progress: None });
    let answers = fx.store.heartbeat(&beats, VISIBILITY).await.expect("the store answers");
    assert_eq!(answers, [Beat::Lost, Beat::CancelAsked { reason: "enough".to_owned() }, Beat::Ok]);
}

pub async fn ends_are_answered_one_by_one(fx: JobStoreFixture) {
    fx.add_many(2).await;
    let held: Vec<LeaseKey> = fx.take_up_to(2).await.iter().map(|leased| leased.key).collect();
    let stale = LeaseKey { nonce: held[0].nonce ^ 1, ..held[0] };
    let gone = LeaseKey { job: JobId::MIN, epoch: 1, nonce: 1 };
    let batch = [stale, held[1], gone, held[0], held[1]].map(|lease| Finish { lease, end: done(lease) });
    let answers = fx.store.finish(&batch).await.expect("the store answers");
    let (ok, again) = (Fenced::Ok(JobState::Done), Fenced::OkAgain(JobState::Done));
    assert_eq!(answers, [Fenced::Stale, ok, Fenced::Gone, ok, again]);
}

pub async fn too_many_entries_are_invalid(fx: JobStoreFixture) {
    let lease = fx.add_and_take(new_job()).await;
    let count = usize::from(LEASE_BATCH_MAX) + 1;
    let refused = [
        fx.store.finish(&vec![Finish { lease, end: done(lease) }; count]).await.expect_err("too many").kind(),
        fx.store
            .nack(&vec![Nack { lease, how: fail_after(Duration::ZERO) }; count])
            .await
            .expect_err("too many")
            .kind(),
        fx.store
            .heartbeat(&vec![Heartbeat { lease, progress: None }; count], VISIBILITY)
            .await
            .expect_err("too many")
            .kind(),
    ];
    assert_eq!(refused, [StoreErrorKind::Invalid; 3]);
    assert_eq!(fx.state(lease.job).await, JobState::Leased, "nothing was changed");
}

pub async fn a_checkpoint_comes_with_the_next_lease(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    assert_eq!(fx.save(key, "one").await, Fenced::Ok(JobState::Leased));
    assert_eq!(fx.save(key, "two").await, Fenced::Ok(JobState::Leased));
    fx.lose().await;
    assert_eq!(fx.take().await.job.head.checkpoint, Some(checkpoint("two")));
}

pub async fn a_checkpoint_says_that_the_call_is_known(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    fx.lose().await;
    let next = fx.take().await;
    assert!(next.key.job == key.job && next.job.head.maybe_called);
    fx.save(next.key, "known").await;
    assert!(!fx.head(key.job).await.maybe_called);
}

pub async fn too_large_a_checkpoint_is_invalid(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    let large = Checkpoint { text: "x".repeat(CHECKPOINT_BYTES_MAX + 1), replay_safe: true };
    let refused = fx.store.checkpoint(key, large.clone()).await.expect_err("too large");
    assert_eq!(refused.kind(), StoreErrorKind::Invalid);
    let how = crate::queue::NackHow::Park { requests: Vec::new(), checkpoint: large, ttl: VISIBILITY };
    let refused = fx.store.nack(&[Nack { lease: key, how }]).await.expect_err("too large");
    assert_eq!(refused.kind(), StoreErrorKind::Invalid);
    assert_eq!(fx.state(key.job).await, JobState::Leased, "nothing was changed");
}
