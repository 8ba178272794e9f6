//! How jobs are handed out: to whom, in which order, and what a repeated wish gets.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::fixture::{
    JobStoreFixture, SUITE_LANE_JOBS_MAX, VISIBILITY, done, ids, lane, limited, new_job, of_tenant, worker,
};
use crate::{
    error::StoreErrorKind,
    id::Lane,
    queue::{JobState, LANES_MAX, LEASE_BATCH_MAX, LeaseRequest, Leased, NewJob, Shares},
};

/// How many of these each tenant got.
pub(super) fn shares(leased: &[Leased]) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for leased in leased {
        *shares.entry(leased.job.head.owner.tenant.to_string()).or_default() += 1;
    }
    shares
}

/// Jobs of a tenant.
pub(super) async fn add_for(fx: &JobStoreFixture, tenant: &str, count: usize) {
    let jobs: Vec<NewJob> = (0..count).map(|_| NewJob { owner: of_tenant(tenant), ..new_job() }).collect();
    fx.add_all(&jobs).await;
}

pub async fn a_lease_brings_the_job_and_its_key(fx: JobStoreFixture) {
    let new = new_job();
    fx.add(new.clone()).await;
    let want = fx.want(1);
    let leased = fx.lease(&want).await.jobs.pop().expect("a job is ready");
    let head = &leased.job.head;
    assert_eq!((leased.key.job, leased.key.epoch, leased.key.nonce), (new.id, 1, want.nonce));
    assert_eq!((head.state, head.worker.as_ref()), (JobState::Leased, Some(&want.worker)));
    assert!(head.lease_until.is_some() && head.started_at.is_some());
    assert_eq!(*leased.job.body, *new.body);
    assert_eq!(fx.job(new.id).await, leased.job, "what is read is what was handed out");
}

pub async fn an_empty_lane_gives_nothing(fx: JobStoreFixture) {
    let batch = fx.lease(&fx.want(10)).await;
    assert!(batch.jobs.is_empty() && batch.next_due.is_none());
}

pub async fn a_held_job_is_not_handed_out_again(fx: JobStoreFixture) {
    fx.add_plain().await;
    fx.take().await;
    fx.advance(VISIBILITY / 2).await;
    fx.maintain().await;
    assert!(fx.try_take().await.is_none());
}

pub async fn each_lease_raises_the_epoch(fx: JobStoreFixture) {
    fx.add_plain().await;
    for epoch in 1..=5 {
        let leased = fx.take().await;
        assert_eq!(leased.key.epoch, epoch);
        fx.nack(leased.key, super::fixture::release_after(Duration::ZERO)).await;
    }
}

pub async fn no_more_jobs_come_than_were_wanted(fx: JobStoreFixture) {
    fx.add_many(10).await;
    assert_eq!(fx.take_up_to(3).await.len(), 3);
    assert_eq!(fx.take_up_to(100).await.len(), 7);
}

pub async fn a_wish_over_the_bounds_is_invalid(fx: JobStoreFixture) {
    fx.add_plain().await;
    let many = (0..=LANES_MAX).map(|n| lane(&format!("lane-{n}"))).collect();
    let bad = [
        fx.want(LEASE_BATCH_MAX + 1),
        LeaseRequest { lanes: many, ..fx.want(1) },
        LeaseRequest { visibility: Duration::ZERO, ..fx.want(1) },
    ];
    for want in bad {
        assert_eq!(fx.store.lease(&want).await.expect_err("over the bound").kind(), StoreErrorKind::Invalid);
    }
    assert_eq!(fx.counts().await.ready, 1, "nothing was changed");
}

pub async fn lanes_are_served_in_the_order_named(fx: JobStoreFixture) {
    let light = fx.add_plain().await;
    let heavy = fx.add(NewJob { lane: Lane::heavy(), ..new_job() }).await;
    let want = LeaseRequest { lanes: vec![Lane::heavy(), Lane::light()], ..fx.want(2) };
    assert_eq!(ids(&fx.lease(&want).await.jobs), [heavy, light]);
}

pub async fn other_lanes_are_left_alone(fx: JobStoreFixture) {
    fx.add(NewJob { lane: Lane::heavy(), ..new_job() }).await;
    assert!(fx.try_take().await.is_none());
}

pub async fn jobs_of_one_instant_come_in_order_of_id(fx: JobStoreFixture) {
    let added = fx.add_many(20).await;
    let mut taken = ids(&fx.take_up_to(7).await);
    taken.extend(ids(&fx.take_up_to(100).await));
    assert_eq!(taken, added);
}

pub async fn older_jobs_come_first(fx: JobStoreFixture) {
    let (late, early) = (new_job(), new_job());
    let early = fx.add(early).await;
    fx.advance(Duration::from_secs(1)).await;
    let late = fx.add(late).await;
    assert!(late < early, "by id the other would be first");
    assert_eq!(ids(&fx.take_up_to(2).await), [early, late]);
}

pub async fn priority_is_a_head_start_of_a_minute_a_step(fx: JobStoreFixture) {
    let usual = fx.add_plain().await;
    fx.advance(Duration::from_secs(100)).await;
    let one = fx.add(NewJob { priority: 1, ..new_job() }).await;
    let two = fx.add(NewJob { priority: 2, ..new_job() }).await;
    assert_eq!(ids(&fx.take_up_to(3).await), [two, usual, one], "60 s are not enough, 120 s are");
}

pub async fn an_old_job_is_not_starved_by_urgent_ones(fx: JobStoreFixture) {
    let old = fx.add_plain().await;
    fx.advance(Duration::from_secs(9 * 60 + 1)).await;
    for _ in 0..5 {
        fx.add(NewJob { priority: 9, ..new_job() }).await;
    }
    assert_eq!(fx.take().await.key.job, old);
}

pub async fn an_urgent_job_still_waits_until_it_is_due(fx: JobStoreFixture) {
    let urgent = fx.add(NewJob { priority: 9, delay: Duration::from_secs(60), ..new_job() }).await;
    let usual = fx.add_plain().await;
    assert_eq!(ids(&fx.take_up_to(5).await), [usual]);
    fx.advance(Duration::from_secs(61)).await;
    assert_eq!(ids(&fx.take_up_to(5).await), [urgent]);
}

pub async fn tenants_take_turns(fx: JobStoreFixture) {
    add_for(&fx, "a", 30).await;
    add_for(&fx, "b", 30).await;
    add_for(&fx, "c", 30).await;
    let shares = shares(&fx.take_up_to(30).await);
    assert_eq!(shares.into_values().collect::<Vec<_>>(), [10, 10, 10]);
}

pub async fn a_quiet_tenant_is_served_beside_a_flood(fx: JobStoreFixture) {
    add_for(&fx, "flood", 100).await;
    fx.take_up_to(10).await;
    add_for(&fx, "quiet", 1).await;
    let next = fx.take_up_to(2).await;
    assert_eq!(shares(&next).get("quiet"), Some(&1), "it is among the next two");
}

pub async fn a_late_tenant_gets_no_credit_for_its_absence(fx: JobStoreFixture) {
    add_for(&fx, "early", 60).await;
    assert_eq!(fx.take_up_to(30).await.len(), 30);
    add_for(&fx, "late", 30).await;
    let shares = shares(&fx.take_up_to(20).await);
    let early = shares.get("early").copied().unwrap_or_default();
    assert!((9..=11).contains(&early), "half each, not {shares:?}");
}

pub async fn the_same_wish_again_gets_the_same_grants(fx: JobStoreFixture) {
    fx.add_many(5).await;
    let want = fx.want(2);
    let first = fx.lease(&want).await.jobs;
    let again = fx.lease(&want).await.jobs;
    assert_eq!(first.len(), 2);
    assert_eq!(first, again);
    assert_eq!(fx.counts().await.leased, 2, "nothing more was taken");
}

pub async fn another_wish_gets_other_jobs(fx: JobStoreFixture) {
    fx.add_many(4).await;
    let first = ids(&fx.take_up_to(2).await);
    let second = ids(&fx.take_up_to(2).await);
    assert!(first.iter().all(|id| !second.contains(id)), "{first:?} and {second:?}");
}

pub async fn a_repeated_wish_leaves_out_what_is_no_longer_held(fx: JobStoreFixture) {
    fx.add_many(3).await;
    let want = fx.want(2);
    let first = fx.lease(&want).await.jobs;
    fx.finish(first[0].key, done(first[0].key)).await;
    assert_eq!(ids(&fx.lease(&want).await.jobs), [first[1].key.job]);
}

pub async fn the_same_request_of_another_worker_is_another_wish(fx: JobStoreFixture) {
    fx.add_many(2).await;
    let mine = fx.want(1);
    let theirs = LeaseRequest { worker: worker("w2"), ..mine.clone() };
    let (first, second) = (fx.lease(&mine).await.jobs, fx.lease(&theirs).await.jobs);
    assert_ne!(first[0].key.job, second[0].key.job);
}

pub async fn a_short_batch_tells_when_more_is_due(fx: JobStoreFixture) {
    fx.add_plain().await;
    fx.add(NewJob { delay: Duration::from_secs(40), ..new_job() }).await;
    fx.add(NewJob { delay: Duration::from_secs(20), ..new_job() }).await;
    let batch = fx.lease(&fx.want(5)).await;
    assert_eq!(batch.jobs.len(), 1);
    let due = batch.next_due.expect("two jobs are delayed");
    assert!(due > Duration::from_secs(10) && due <= Duration::from_secs(20), "{due:?}");
}

pub async fn a_paused_lane_hands_out_nothing_until_it_is_resumed(fx: JobStoreFixture) {
    let id = fx.add_plain().await;
    for paused in [true, true] {
        fx.store.pause(&Lane::light(), paused).await.expect("the store answers");
    }
    assert!(fx.try_take().await.is_none());
    fx.add_plain().await;
    assert_eq!(fx.counts().await.ready, 2, "a paused lane takes jobs in");
    fx.store.pause(&Lane::light(), false).await.expect("the store answers");
    assert_eq!(fx.take().await.key.job, id);
}

pub async fn pausing_leaves_held_jobs_and_other_lanes_alone(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    let heavy = fx.add(NewJob { lane: Lane::heavy(), ..new_job() }).await;
    fx.store.pause(&Lane::light(), true).await.expect("the store answers");
    assert_eq!(fx.beat(key).await, crate::queue::Beat::Ok);
    assert_eq!(fx.finish(key, done(key)).await, crate::queue::Fenced::Ok(JobState::Done));
    let want = LeaseRequest { lanes: vec![Lane::light(), Lane::heavy()], ..fx.want(5) };
    assert_eq!(ids(&fx.lease(&want).await.jobs), [heavy]);
}

pub async fn a_job_past_its_deadline_is_handed_out_or_told_as_expired(fx: JobStoreFixture) {
    let late = fx.add(NewJob { deadline: Some(Duration::from_secs(5)), ..new_job() }).await;
    let good = fx.add(NewJob { deadline: Some(Duration::from_secs(500)), ..new_job() }).await;
    fx.advance(Duration::from_secs(6)).await;
    let taken = ids(&fx.take_up_to(5).await);
    assert!(taken.contains(&good), "{taken:?}");
    let expired = fx.maintain().await.expired;
    let (state, told) = if taken.contains(&late) { (JobState::Leased, vec![]) } else { (JobState::Dead, vec![late]) };
    assert_eq!((fx.state(late).await, expired), (state, told), "it never ends unheard");
}

/// A full lane of jobs made by `make`.
async fn fill(fx: &JobStoreFixture, name: &str, make: impl Fn() -> NewJob) {
    let jobs: Vec<NewJob> = (0..SUITE_LANE_JOBS_MAX).map(|_| NewJob { lane: lane(name), ..make() }).collect();
    fx.add_all(&jobs).await;
}

pub async fn many_due_jobs_keep_nobody_from_a_lease(fx: JobStoreFixture) {
    let delay = Duration::from_secs(5);
    fill(&fx, "a", || NewJob { delay, ..new_job() }).await;
    fill(&fx, "b", || NewJob { delay, ..new_job() }).await;
    let ready = fx.add_plain().await;
    fx.advance(delay).await;
    let none = Shares { leased_max: [(lane("a"), 0), (lane("b"), 0)].into(), ..Shares::default() };
    let want = LeaseRequest { lanes: vec![lane("a"), lane("b"), Lane::light()], shares: Arc::new(none), ..fx.want(10) };
    assert_eq!(ids(&fx.lease(&want).await.jobs), [ready]);
}

pub async fn many_jobs_that_are_passed_over_keep_nobody_from_a_lease(fx: JobStoreFixture) {
    fx.add_and_take(limited("k", 1)).await;
    fill(&fx, "a", || limited("k", 1)).await;
    fill(&fx, "b", || limited("k", 1)).await;
    let ready = fx.add_many(3).await;
    let want = LeaseRequest { lanes: vec![lane("a"), lane("b"), Lane::light()], ..fx.want(10) };
    assert_eq!(ids(&fx.lease(&want).await.jobs), ready);
}

pub async fn a_lane_named_twice_is_one_lane(fx: JobStoreFixture) {
    let added = fx.add_many(3).await;
    let want = LeaseRequest { lanes: vec![Lane::light(), Lane::light()], ..fx.want(5) };
    assert_eq!(ids(&fx.lease(&want).await.jobs), added);
}
