//! How jobs come in: accepted, known already, in conflict, one too many.

use std::time::Duration;

use super::fixture::{JobStoreFixture, SUITE_LANE_JOBS_MAX, done, lane, new_job, of_tenant};
use crate::{
    error::StoreErrorKind,
    id::{JobId, Lane},
    pointer::Digest,
    queue::{Enqueued, Fenced, JobState, LEASE_BATCH_MAX, LaneCounts, NewJob, moves},
    time::Timestamp,
};

fn keyed(key: &str) -> NewJob {
    NewJob { idempotency_key: Some(key.to_owned()), ..new_job() }
}

pub async fn a_new_job_is_ready_and_reads_as_it_was_given(fx: JobStoreFixture) {
    let mut new = new_job();
    new.priority = 4;
    new.deadline = Some(Duration::from_secs(600));
    new.idempotency_key = Some("k".to_owned());
    fx.add(new.clone()).await;
    let job = fx.job(new.id).await;
    let head = &job.head;
    assert_eq!(*job.body, *new.body);
    assert_eq!((head.id, &head.owner, &head.lane), (new.id, &new.owner, &new.lane));
    assert_eq!((head.state, head.priority, head.retain), (JobState::Ready, 4, new.retain));
    assert_eq!((head.attempts, head.attempts_max, head.lost, head.lost_max), (0, 3, 0, 3));
    assert_eq!((head.idempotency_key.as_deref(), head.request_digest), (Some("k"), new.request_digest));
    assert_eq!(head.deadline, new.deadline);
    assert_eq!(head.deadline_at, Some(head.created_at + Duration::from_secs(600)));
    assert_eq!((head.epoch, &head.worker, head.started_at, head.finished_at), (0, &None, None, None));
    assert!(!head.maybe_called && head.lease_end.is_none());
}

pub async fn an_accepted_job_is_as_safe_as_health_says(fx: JobStoreFixture) {
    let health = fx.store.health().await.expect("the store answers");
    let new = new_job();
    let Enqueued::Ok { durability, at } = fx.enqueue(&new).await else { panic!("the job is not accepted") };
    assert_eq!(durability, health.durability);
    assert_eq!(
        fx.head(new.id).await,
        moves::accept(&new, at, Vec::new()),
        "the answer says all there is to know of its head"
    );
    assert!(!health.detail.is_empty());
}

pub async fn the_same_id_again_is_a_duplicate(fx: JobStoreFixture) {
    let new = new_job();
    fx.add(new.clone()).await;
    assert_eq!(fx.enqueue(&new).await, Enqueued::Duplicate { job: new.id, state: JobState::Ready });
    let leased = fx.take().await;
    assert_eq!(fx.enqueue(&new).await, Enqueued::Duplicate { job: new.id, state: JobState::Leased });
    fx.finish(leased.key, done(leased.key)).await;
    assert_eq!(fx.enqueue(&new).await, Enqueued::Duplicate { job: new.id, state: JobState::Done });
}

pub async fn the_same_id_twice_in_one_call_is_one_job(fx: JobStoreFixture) {
    let new = new_job();
    let answers = fx.store.enqueue(&[new.clone(), new.clone()]).await.expect("the store answers");
    assert!(matches!(answers[0], Enqueued::Ok { .. }));
    assert_eq!(answers[1], Enqueued::Duplicate { job: new.id, state: JobState::Ready });
    assert_eq!(fx.counts().await.ready, 1);
}

pub async fn the_same_key_with_the_same_request_is_a_duplicate(fx: JobStoreFixture) {
    let first = fx.add(keyed("k")).await;
    let again = keyed("k");
    assert_eq!(fx.enqueue(&again).await, Enqueued::Duplicate { job: first, state: JobState::Ready });
    assert!(fx.try_job(again.id).await.is_none(), "the second job does not stand");
}

pub async fn the_same_key_with_another_request_is_a_conflict(fx: JobStoreFixture) {
    let first = fx.add(keyed("k")).await;
    let other = NewJob { request_digest: Digest::of(b"something else"), ..keyed("k") };
    assert_eq!(fx.enqueue(&other).await, Enqueued::Conflict { job: first });
    assert!(fx.try_job(other.id).await.is_none(), "the second job does not stand");
}

pub async fn the_same_key_twice_in_one_call_is_one_job(fx: JobStoreFixture) {
    let first = keyed("k");
    let answers = fx.store.enqueue(&[first.clone(), keyed("k")]).await.expect("the store answers");
    assert_eq!(answers[1], Enqueued::Duplicate { job: first.id, state: JobState::Ready });
}

pub async fn another_tenant_may_use_the_same_key(fx: JobStoreFixture) {
    fx.add(keyed("k")).await;
    fx.add(NewJob { owner: of_tenant("other"), ..keyed("k") }).await;
    assert_eq!(fx.counts().await.ready, 2);
}

pub async fn the_key_of_an_ended_job_is_still_taken(fx: JobStoreFixture) {
    let key = fx.add_and_take(keyed("k")).await;
    assert_eq!(fx.finish(key, done(key)).await, Fenced::Ok(JobState::Done));
    assert_eq!(fx.enqueue(&keyed("k")).await, Enqueued::Duplicate { job: key.job, state: JobState::Done });
}

pub async fn a_key_tells_its_job_from_acceptance_to_removal(fx: JobStoreFixture) {
    let of = async |name: &str| {
        let tenant = of_tenant(name).tenant;
        fx.store.keyed(&tenant, "k").await.expect("the store answers")
    };
    assert_eq!(of("one").await, None);
    let owner = of_tenant("one");
    let key = fx.add_and_take(NewJob { owner, retain: Duration::from_secs(60), ..keyed("k") }).await;
    assert_eq!((of("one").await, of("other").await), (Some(key.job), None), "a key is of its tenant");
    fx.enqueue(&NewJob { owner: of_tenant("one"), ..keyed("k") }).await;
    assert_eq!(of("one").await, Some(key.job), "a duplicate takes no key away");
    assert_eq!(fx.finish(key, done(key)).await, Fenced::Ok(JobState::Done));
    assert_eq!(of("one").await, Some(key.job), "an ended job still holds it");
    fx.advance(Duration::from_secs(61)).await;
    assert_eq!(fx.maintain().await.removed.len(), 1);
    assert_eq!(of("one").await, None, "it is free once the job is removed");
}

pub async fn a_full_lane_refuses_and_says_its_bound(fx: JobStoreFixture) {
    fx.add_many(usize::try_from(SUITE_LANE_JOBS_MAX).expect("small") - 1).await;
    fx.add(NewJob { delay: Duration::from_secs(5), ..new_job() }).await;
    let refused = new_job();
    assert_eq!(fx.enqueue(&refused).await, Enqueued::Full { limit: SUITE_LANE_JOBS_MAX });
    assert!(fx.try_job(refused.id).await.is_none(), "what is refused does not stand");
    fx.add(NewJob { lane: Lane::heavy(), ..new_job() }).await;
    fx.take().await;
    fx.add(refused).await;
}

pub async fn a_full_lane_still_knows_its_duplicates(fx: JobStoreFixture) {
    let ids = fx.add_many(usize::try_from(SUITE_LANE_JOBS_MAX).expect("small")).await;
    let again = NewJob { id: ids[0], ..new_job() };
    assert_eq!(fx.enqueue(&again).await, Enqueued::Duplicate { job: ids[0], state: JobState::Ready });
}

pub async fn a_call_is_answered_entry_by_entry_in_order(fx: JobStoreFixture) {
    let known = keyed("k");
    fx.add(known.clone()).await;
    let other = NewJob { request_digest: Digest::of(b"something else"), ..keyed("k") };
    let batch = [new_job(), known.clone(), other, new_job()];
    let answers = fx.store.enqueue(&batch).await.expect("the store answers");
    assert_eq!(answers.len(), 4);
    assert!(matches!(answers[0], Enqueued::Ok { .. }) && matches!(answers[3], Enqueued::Ok { .. }));
    assert_eq!(answers[1], Enqueued::Duplicate { job: known.id, state: JobState::Ready });
    assert_eq!(answers[2], Enqueued::Conflict { job: known.id });
}

pub async fn an_empty_call_is_fine(fx: JobStoreFixture) {
    assert!(fx.store.enqueue(&[]).await.expect("the store answers").is_empty());
    assert!(fx.store.finish(&[]).await.expect("the store answers").is_empty());
    assert!(fx.store.nack(&[]).await.expect("the store answers").is_empty());
    assert!(fx.store.heartbeat(&[], Duration::from_secs(1)).await.expect("the store answers").is_empty());
    assert!(fx.lease(&fx.want(0)).await.jobs.is_empty());
}

pub async fn too_many_jobs_in_one_call_are_invalid(fx: JobStoreFixture) {
    let jobs: Vec<NewJob> = (0..=LEASE_BATCH_MAX).map(|_| new_job()).collect();
    let refused = fx.store.enqueue(&jobs).await.expect_err("the batch is too large");
    assert_eq!(refused.kind(), StoreErrorKind::Invalid);
    assert_eq!(fx.counts().await, LaneCounts::default(), "nothing was changed");
}

pub async fn a_job_with_impossible_terms_is_invalid(fx: JobStoreFixture) {
    let bad = [
        NewJob { attempts_max: 0, ..new_job() },
        NewJob { lost_max: 0, ..new_job() },
        NewJob { priority: 10, ..new_job() },
    ];
    for job in bad {
        let refused = fx.store.enqueue(&[new_job(), job]).await.expect_err("the terms are impossible");
        assert_eq!(refused.kind(), StoreErrorKind::Invalid);
    }
    assert_eq!(fx.counts().await, LaneCounts::default(), "nothing was changed");
}

pub async fn an_unknown_job_is_none(fx: JobStoreFixture) {
    fx.add_plain().await;
    assert!(fx.try_job(JobId::new(Timestamp::from_millis(7))).await.is_none());
    assert_eq!(fx.store.counts(&lane("nobody")).await.expect("the store answers"), LaneCounts::default());
}

pub async fn a_delayed_job_waits_until_it_is_due(fx: JobStoreFixture) {
    let id = fx.add(NewJob { delay: Duration::from_secs(10), ..new_job() }).await;
    assert_eq!(fx.state(id).await, JobState::Delayed);
    fx.advance(Duration::from_secs(5)).await;
    fx.maintain().await;
    assert!(fx.try_take().await.is_none(), "it is not due");
    fx.advance(Duration::from_secs(6)).await;
    assert_eq!(fx.take().await.key.job, id, "a due job needs no maintenance to be leased");
}
