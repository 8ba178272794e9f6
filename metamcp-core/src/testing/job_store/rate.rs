//! Rate keys: a burst at once, then one slot after the other; who gets which slot, and what a slot is good for.

use std::time::Duration;

use super::{
    fixture::{
        JobStoreFixture, VISIBILITY, done, fail_after, ids, lane, limited, new_job, of_tenant, park, release_after,
        worker,
    },
    lease::add_for,
};
use crate::{
    id::{JobId, Lane},
    queue::{
        Answer, Answered, Cancelled, ConcurrencyKey, Fenced, JobHead, JobState, LeaseRequest, NackHow, NewJob, RateKey,
    },
    time::Timestamp,
};

/// The time one job of these behaviours takes up.
const EVERY: Duration = Duration::from_secs(100);

/// A job of key `r`.
pub(super) fn rated(burst: u32) -> NewJob {
    NewJob { rate: Some(RateKey { key: "r".to_owned(), every: EVERY, burst }), ..new_job() }
}

/// When the job was leased first: a slot that was free at once.
async fn started(fx: &JobStoreFixture, id: JobId) -> Timestamp {
    fx.head(id).await.started_at.expect("it was leased")
}

/// The job is delayed until its slot, `slots` times [`EVERY`] after `start`.
fn has_slot(head: &JobHead, start: Timestamp, slots: u32) {
    assert_eq!((head.state, head.admitted), (JobState::Delayed, true), "{head:?}");
    assert_eq!(head.due_at, start + EVERY * slots, "slot {slots}");
}

pub async fn a_burst_goes_at_once_and_the_others_are_given_slots(fx: JobStoreFixture) {
    let added = fx.add_all(&[0; 5].map(|_| rated(2))).await;
    let batch = fx.lease(&fx.want(10)).await;
    assert_eq!(ids(&batch.jobs), added[..2]);
    let due = batch.next_due.expect("a slot is taken");
    assert!(due > EVERY / 2 && due <= EVERY, "{due:?}");
    let start = started(&fx, added[0]).await;
    for (slots, id) in (1..).zip(&added[2..]) {
        has_slot(&fx.head(*id).await, start, slots);
    }
    let counts = fx.counts().await;
    assert_eq!((counts.leased, counts.delayed, counts.ready), (2, 3, 0));
    assert!(fx.head(added[0]).await.admitted, "a slot is for the whole attempt");
}

pub async fn each_slot_brings_one_job_and_is_paid_once(fx: JobStoreFixture) {
    let added = fx.add_all(&[0; 3].map(|_| rated(1))).await;
    let first = fx.take_up_to(10).await;
    assert_eq!(ids(&first), added[..1]);
    fx.finish(first[0].key, done(first[0].key)).await;
    let start = started(&fx, added[0]).await;
    fx.advance(EVERY - Duration::from_secs(10)).await;
    fx.maintain().await;
    assert!(fx.try_take().await.is_none(), "its slot has not come");
    fx.advance(Duration::from_secs(11)).await;
    let second = fx.take_up_to(10).await;
    assert_eq!(ids(&second), added[1..2], "it needs no second slot");
    fx.finish(second[0].key, done(second[0].key)).await;
    let late = fx.add(rated(1)).await;
    assert!(fx.try_take().await.is_none());
    has_slot(&fx.head(late).await, start, 3);
    fx.advance(EVERY * 2).await;
    fx.maintain().await;
    assert_eq!(ids(&fx.take_up_to(10).await), [added[2], late]);
}

pub async fn slots_are_given_in_order_of_place(fx: JobStoreFixture) {
    let first = fx.add_and_take(rated(1)).await.job;
    let urgent = |priority| NewJob { priority, ..rated(1) };
    let added = fx.add_all(&[urgent(0), urgent(1), urgent(9)]).await;
    assert!(fx.take_up_to(10).await.is_empty());
    let start = started(&fx, first).await;
    for (id, slots) in added.into_iter().zip([3, 2, 1]) {
        has_slot(&fx.head(id).await, start, slots);
    }
}

pub async fn each_attempt_takes_a_slot(fx: JobStoreFixture) {
    let key = fx.add_and_take(NewJob { attempts_max: 2, ..rated(1) }).await;
    let start = started(&fx, key.job).await;
    fx.nack(key, fail_after(Duration::ZERO)).await;
    assert!(!fx.head(key.job).await.admitted);
    assert!(fx.try_take().await.is_none());
    has_slot(&fx.head(key.job).await, start, 1);
    fx.advance(EVERY).await;
    let key = fx.take().await.key;
    fx.lose().await;
    assert!(fx.try_take().await.is_none(), "a first lost lease costs no backoff, and the next slot has not come");
    has_slot(&fx.head(key.job).await, start, 2);
    fx.advance(EVERY).await;
    let key = fx.take().await.key;
    assert_eq!(fx.nack(key, fail_after(Duration::ZERO)).await, Fenced::Ok(JobState::Dead));
    assert!(!fx.head(key.job).await.admitted);
    fx.redrive(key.job).await;
    assert!(fx.try_take().await.is_none());
    has_slot(&fx.head(key.job).await, start, 3);
}

pub async fn an_attempt_that_is_given_back_or_asks_its_owner_keeps_its_slot(fx: JobStoreFixture) {
    let mut key = fx.add_and_take(rated(1)).await;
    let start = started(&fx, key.job).await;
    for how in [release_after(Duration::ZERO), release_after(Duration::from_secs(1)), park()] {
        let parks = matches!(how, NackHow::Park { .. });
        fx.nack(key, how).await;
        assert!(fx.head(key.job).await.admitted);
        if parks {
            let answer = Answer { responses: "{}".to_owned() };
            assert_eq!(fx.store.answer(key.job, answer).await.expect("the store answers"), Answered::Ok);
        }
        fx.advance(Duration::from_secs(2)).await;
        key = fx.take().await.key;
    }
    let next = fx.add(rated(1)).await;
    assert!(fx.try_take().await.is_none());
    has_slot(&fx.head(next).await, start, 1);
    fx.finish(key, done(key)).await;
    assert!(!fx.head(key.job).await.admitted);
}

pub async fn the_slot_of_a_cancelled_job_stays_unused(fx: JobStoreFixture) {
    let added = fx.add_all(&[0; 3].map(|_| rated(1))).await;
    assert_eq!(fx.take_up_to(10).await.len(), 1);
    let start = started(&fx, added[0]).await;
    assert_eq!(fx.cancel(added[1]).await, Cancelled::Now);
    let late = fx.add(rated(1)).await;
    assert!(fx.try_take().await.is_none());
    has_slot(&fx.head(added[2]).await, start, 2);
    has_slot(&fx.head(late).await, start, 3);
    assert!(!fx.head(added[1]).await.admitted);
}

pub async fn after_a_quiet_time_there_is_a_burst_again_and_no_more(fx: JobStoreFixture) {
    fx.add_all(&[0; 2].map(|_| rated(2))).await;
    assert_eq!(fx.take_up_to(10).await.len(), 2);
    fx.advance(EVERY * 20).await;
    let added = fx.add_all(&[0; 4].map(|_| rated(2))).await;
    assert_eq!(ids(&fx.take_up_to(10).await), added[..2], "quiet time is not saved up");
    let start = started(&fx, added[0]).await;
    has_slot(&fx.head(added[2]).await, start, 1);
}

pub async fn a_rate_holds_over_lanes_and_workers_and_other_keys_are_apart(fx: JobStoreFixture) {
    let first = fx.add_and_take(rated(1)).await.job;
    let heavy = fx.add(NewJob { lane: Lane::heavy(), ..rated(1) }).await;
    let other = RateKey { key: "r2".to_owned(), every: EVERY, burst: 1 };
    let other = fx.add(NewJob { lane: Lane::heavy(), rate: Some(other), ..new_job() }).await;
    let want = LeaseRequest { lanes: vec![Lane::heavy()], worker: worker("w2"), ..fx.want(10) };
    assert_eq!(ids(&fx.lease(&want).await.jobs), [other]);
    has_slot(&fx.head(heavy).await, started(&fx, first).await, 1);
}

pub async fn a_repeated_wish_takes_no_slot(fx: JobStoreFixture) {
    let added = fx.add_all(&[0; 2].map(|_| rated(1))).await;
    let want = fx.want(1);
    for _ in 0..3 {
        assert_eq!(ids(&fx.lease(&want).await.jobs), added[..1]);
    }
    assert!(fx.try_take().await.is_none());
    has_slot(&fx.head(added[1]).await, started(&fx, added[0]).await, 1);
}

pub async fn a_job_passed_over_for_its_concurrency_key_takes_no_slot(fx: JobStoreFixture) {
    let both = || NewJob { rate: rated(2).rate, ..limited("k", 1) };
    let added = fx.add_all(&[both(), both(), rated(2)]).await;
    assert_eq!(ids(&fx.take_up_to(10).await), [added[0], added[2]], "two slots for two leases");
    let head = fx.head(added[1]).await;
    assert_eq!((head.state, head.blocked, head.admitted), (JobState::Ready, true, false));
    let (key, start) = (fx.head(added[0]).await.lease_key(), started(&fx, added[0]).await);
    fx.finish(key, done(key)).await;
    assert!(fx.try_take().await.is_none());
    has_slot(&fx.head(added[1]).await, start, 1);
}

pub async fn a_slot_that_came_while_the_concurrency_key_was_held_is_not_lost(fx: JobStoreFixture) {
    let concurrency = Some(ConcurrencyKey { key: "k".to_owned(), max: 1 });
    let added = fx.add_all(&[rated(1), NewJob { concurrency, ..rated(1) }]).await;
    assert_eq!(ids(&fx.take_up_to(10).await), added[..1]);
    let start = started(&fx, added[0]).await;
    let holder = fx.add(limited("k", 1)).await;
    fx.advance(EVERY - VISIBILITY / 2).await;
    let holder = fx.take_up_to(10).await.into_iter().find(|leased| leased.key.job == holder).expect("it is free").key;
    fx.advance(VISIBILITY / 2 + Duration::from_secs(1)).await;
    assert!(fx.try_take().await.is_none());
    let head = fx.head(added[1]).await;
    assert_eq!((head.state, head.blocked, head.admitted), (JobState::Ready, true, true), "its slot has come");
    let next = fx.add(rated(1)).await;
    assert!(fx.try_take().await.is_none());
    has_slot(&fx.head(next).await, start, 2);
    fx.finish(holder, done(holder)).await;
    assert_eq!(fx.take().await.key.job, added[1]);
}

pub async fn a_job_that_is_given_a_slot_lets_go_of_its_concurrency_key(fx: JobStoreFixture) {
    let holder = fx.add_and_take(limited("k", 1)).await;
    let both = NewJob { rate: rated(1).rate, ..limited("k", 1) };
    let added = fx.add_all(&[both, limited("k", 1)]).await;
    assert!(fx.take_up_to(10).await.is_empty(), "the concurrency key is held");
    fx.add_and_take(rated(1)).await;
    fx.finish(holder, done(holder)).await;
    assert_eq!(ids(&fx.take_up_to(10).await), added[1..], "the first is delayed, the second is not passed over");
    assert_eq!(fx.state(added[0]).await, JobState::Delayed);
}

pub async fn a_flood_of_early_jobs_holds_up_no_other_tenant(fx: JobStoreFixture) {
    let elsewhere = LeaseRequest { lanes: vec![lane("elsewhere")], ..fx.want(1) };
    fx.add(NewJob { lane: lane("elsewhere"), ..rated(1) }).await;
    assert_eq!(fx.lease(&elsewhere).await.jobs.len(), 1);
    let flood: Vec<NewJob> = (0..200).map(|_| NewJob { owner: of_tenant("flood"), priority: 9, ..rated(1) }).collect();
    fx.add_all(&flood).await;
    add_for(&fx, "quiet", 3).await;
    for _ in 0..3 {
        let owner = fx.take().await.job.head.owner;
        assert_eq!(owner, of_tenant("quiet"));
    }
    let delayed = fx.counts().await.delayed;
    assert!(delayed <= 10, "looking at a job costs a turn, and {delayed} were looked at for 3 of the other tenant");
}
