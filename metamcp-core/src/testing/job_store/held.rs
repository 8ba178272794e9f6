//! Jobs that come held: leased to a worker of the caller's choice with their acceptance.

use std::{sync::Arc, time::Duration};

use super::{
    fence::all_refused,
    fixture::{
        JobStoreFixture, SUITE_LANE_JOBS_MAX, VISIBILITY, done, fail_after, ids, limited, new_job, of_tenant,
        release_after, worker,
    },
    rate::rated,
};
use crate::{
    error::StoreErrorKind,
    id::Lane,
    queue::{
        Beat, Cancelled, Enqueued, Fenced, Held, JobState, LaneCounts, LeaseKey, LeaseRequest, NewJob, Shares, moves,
    },
};

/// A job that worker `holder` holds from the start.
pub(super) fn held() -> NewJob {
    NewJob { held: Some(Held { worker: worker("holder"), nonce: u64::MAX, visibility: VISIBILITY }), ..new_job() }
}

/// Enqueues a job that is held; answers the key of its lease.
async fn hold(fx: &JobStoreFixture, job: NewJob) -> LeaseKey {
    let key = job.held_key().expect("it comes held");
    fx.add(job).await;
    key
}

pub async fn a_job_that_comes_held_is_leased_with_its_acceptance(fx: JobStoreFixture) {
    let new = NewJob { priority: 3, deadline: Some(Duration::from_secs(600)), ..held() };
    let Enqueued::Ok { at, .. } = fx.enqueue(&new).await else { panic!("the job is not accepted") };
    let job = fx.job(new.id).await;
    assert_eq!(job.head, moves::accept(&new, at, Vec::new()));
    assert_eq!(*job.body, *new.body);
    let head = job.head;
    assert_eq!((head.state, head.epoch, head.nonce), (JobState::Leased, 1, u64::MAX));
    assert_eq!((head.worker, head.lease_until), (Some(worker("holder")), Some(at + VISIBILITY)));
    assert_eq!((head.started_at, head.updated_at, head.created_at), (Some(at), at, at));
    assert_eq!((head.lost, head.attempts, head.maybe_called, head.lease_end), (0, 0, false, None));
    assert_eq!(Some(LeaseKey { job: head.id, epoch: 1, nonce: u64::MAX }), new.held_key());
    assert_eq!(fx.counts().await, LaneCounts { leased: 1, ..LaneCounts::default() });
}

pub async fn a_job_that_comes_held_is_handed_out_to_nobody(fx: JobStoreFixture) {
    hold(&fx, held()).await;
    let other = fx.add_plain().await;
    let want = LeaseRequest { worker: worker("holder"), ..fx.want(10) };
    assert_eq!(ids(&fx.lease(&want).await.jobs), [other], "not even to its holder");
    assert!(fx.take_up_to(10).await.is_empty());
}

pub async fn its_heartbeat_keeps_a_job_that_came_held(fx: JobStoreFixture) {
    let key = hold(&fx, held()).await;
    for _ in 0..4 {
        fx.advance(VISIBILITY - Duration::from_secs(1)).await;
        assert_eq!(fx.beat(key).await, Beat::Ok);
        assert!(fx.maintain().await.reclaimed.is_empty());
    }
    assert_eq!(fx.lose().await.reclaimed, [(key.job, JobState::Ready)], "without one it runs out");
}

pub async fn its_key_ends_a_job_that_came_held(fx: JobStoreFixture) {
    let key = hold(&fx, held()).await;
    assert_eq!(fx.finish(key, done(key)).await, Fenced::Ok(JobState::Done));
    assert_eq!(fx.finish(key, done(key)).await, Fenced::OkAgain(JobState::Done));
    assert_eq!(fx.counts().await, LaneCounts::default());
    fx.advance(VISIBILITY * 2).await;
    assert!(fx.maintain().await.reclaimed.is_empty());
}

pub async fn another_nonce_or_epoch_is_stale_for_a_job_that_came_held(fx: JobStoreFixture) {
    let key = hold(&fx, held()).await;
    all_refused(&fx, LeaseKey { nonce: key.nonce ^ 1, ..key }, Fenced::Stale).await;
    all_refused(&fx, LeaseKey { epoch: 0, ..key }, Fenced::Stale).await;
    all_refused(&fx, LeaseKey { epoch: 2, ..key }, Fenced::Stale).await;
}

pub async fn a_job_that_came_held_and_was_lost_goes_on_with_another_worker(fx: JobStoreFixture) {
    let key = hold(&fx, held()).await;
    assert_eq!(fx.lose().await.reclaimed, [(key.job, JobState::Ready)]);
    let next = fx.take().await;
    assert_eq!((next.key.job, next.key.epoch), (key.job, 2));
    assert!(next.job.head.maybe_called, "its holder may have called");
    assert_eq!((next.job.head.lost, &next.job.head.worker), (1, &Some(worker("w"))));
    all_refused(&fx, key, Fenced::Stale).await;
    assert_eq!(fx.finish(next.key, done(next.key)).await, Fenced::Ok(JobState::Done));
}

pub async fn a_job_that_came_held_and_is_given_back_is_queued_like_any_other(fx: JobStoreFixture) {
    let saved = hold(&fx, held()).await;
    assert_eq!(fx.save(saved, "here").await, Fenced::Ok(JobState::Leased));
    assert_eq!(fx.nack(saved, release_after(Duration::ZERO)).await, Fenced::Ok(JobState::Ready));
    let next = fx.take().await;
    assert_eq!((next.key.job, next.key.epoch, next.job.head.lost), (saved.job, 2, 0));
    assert!(next.job.head.checkpoint.is_some() && !next.job.head.maybe_called);
    let failed = hold(&fx, held()).await;
    assert_eq!(fx.nack(failed, fail_after(Duration::from_secs(9))).await, Fenced::Ok(JobState::Delayed));
    assert_eq!(fx.head(failed.job).await.attempts, 1);
}

pub async fn the_holder_of_a_job_that_came_held_is_told_of_a_cancel(fx: JobStoreFixture) {
    let key = hold(&fx, held()).await;
    assert_eq!(fx.cancel(key.job).await, Cancelled::Asked);
    assert!(matches!(fx.beat(key).await, Beat::CancelAsked { .. }));
    assert_eq!(fx.nack(key, release_after(Duration::ZERO)).await, Fenced::Ok(JobState::Cancelled));
}

pub async fn a_job_that_comes_held_again_is_a_duplicate(fx: JobStoreFixture) {
    let new = NewJob { idempotency_key: Some("k".to_owned()), ..held() };
    let key = new.held_key().expect("it comes held");
    let keyed = NewJob { id: new_job().id, ..new.clone() };
    let duplicate = Enqueued::Duplicate { job: new.id, state: JobState::Leased };
    let answers = fx.store.enqueue(&[new.clone(), new.clone(), keyed.clone()]).await.expect("the store answers");
    assert!(matches!(answers[0], Enqueued::Ok { .. }), "{answers:?}");
    assert_eq!(answers[1..], [duplicate.clone(), duplicate.clone()]);
    fx.advance(VISIBILITY / 2).await;
    let before = fx.head(new.id).await;
    assert_eq!((fx.enqueue(&new).await, fx.enqueue(&keyed).await), (duplicate.clone(), duplicate));
    assert_eq!(fx.head(new.id).await, before, "its lease is not made longer");
    assert_eq!(fx.finish(key, done(key)).await, Fenced::Ok(JobState::Done));
}

pub async fn jobs_that_come_held_take_no_place_in_a_full_lane(fx: JobStoreFixture) {
    let count = usize::try_from(SUITE_LANE_JOBS_MAX).expect("it fits") - 1;
    fx.add_many(count).await;
    let batch = [held(), new_job(), held(), new_job()];
    let answers = fx.store.enqueue(&batch).await.expect("the store answers");
    let full = Enqueued::Full { limit: SUITE_LANE_JOBS_MAX };
    assert!(answers[..2].iter().all(|answer| matches!(answer, Enqueued::Ok { .. })), "{answers:?}");
    assert_eq!(answers[2..], [full.clone(), full], "a full lane takes none in: each may come back to it");
    let counts = fx.counts().await;
    assert_eq!((counts.ready, counts.leased), (SUITE_LANE_JOBS_MAX, 1));
}

pub async fn a_paused_lane_takes_in_a_job_that_comes_held(fx: JobStoreFixture) {
    fx.store.pause(&Lane::light(), true).await.expect("the store answers");
    let key = hold(&fx, held()).await;
    assert_eq!(fx.finish(key, done(key)).await, Fenced::Ok(JobState::Done));
}

pub async fn a_job_that_came_held_counts_for_the_bound_of_its_lane(fx: JobStoreFixture) {
    let key = hold(&fx, held()).await;
    let waits = fx.add_plain().await;
    let narrow = Shares { leased_max: [(Lane::light(), 1)].into(), ..Shares::default() };
    let want = |fx: &JobStoreFixture| LeaseRequest { shares: Arc::new(narrow.clone()), ..fx.want(10) };
    assert!(fx.lease(&want(&fx)).await.jobs.is_empty());
    hold(&fx, held()).await;
    assert_eq!(fx.counts().await.leased, 2, "the bound holds for what the queue hands out");
    fx.finish(key, done(key)).await;
    let wide = Shares { leased_max: [(Lane::light(), 2)].into(), ..Shares::default() };
    let want = LeaseRequest { shares: Arc::new(wide), ..fx.want(10) };
    assert_eq!(ids(&fx.lease(&want).await.jobs), [waits]);
}

pub async fn jobs_that_come_held_cost_their_tenant_no_turn(fx: JobStoreFixture) {
    let other = fx.add_all(&[(); 3].map(|()| NewJob { owner: of_tenant("other"), ..new_job() })).await;
    let own = fx.add_many(3).await;
    for _ in 0..5 {
        hold(&fx, held()).await;
    }
    let taken: Vec<_> = ids(&fx.take_up_to(6).await);
    assert_eq!(taken.len(), 6);
    assert_eq!(taken.iter().take(2).filter(|id| own.contains(id)).count(), 1, "they take turns: {taken:?}, {other:?}");
}

pub async fn a_job_that_comes_held_and_has_to_wait_is_invalid(fx: JobStoreFixture) {
    let parent = fx.add_plain().await;
    let from = held().held;
    let lease = |visibility| Some(Held { visibility, ..from.clone().expect("it comes held") });
    let wrong = [
        NewJob { delay: Duration::from_millis(1), ..held() },
        NewJob { after: vec![parent], ..held() },
        NewJob { held: from.clone(), ..limited("k", 1) },
        NewJob { held: from.clone(), ..rated(1) },
        NewJob { held: lease(Duration::from_micros(999)), ..new_job() },
    ];
    for job in wrong {
        let refused = fx.store.enqueue(&[new_job(), job.clone()]).await.expect_err("it has to wait").kind();
        assert_eq!(refused, StoreErrorKind::Invalid, "{job:?}");
        assert!(fx.try_job(job.id).await.is_none(), "{job:?}");
    }
    assert_eq!(fx.counts().await.ready, 1, "nothing of such a call is taken in");
}
