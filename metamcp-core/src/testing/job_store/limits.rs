//! Concurrency keys: how many leases hold one at a time, who is passed over for it, and who goes on when a holder lets go.

use std::{sync::Arc, time::Duration};

use super::{
    fixture::{
        JobStoreFixture, bounded, done, error, fail_after, ids, limited, new_job, of_tenant, park, pointer,
        release_after, sorted, worker,
    },
    lease::add_for,
};
use crate::{
    error::StoreErrorKind,
    id::{JobId, Lane},
    queue::{
        Cancelled, Fenced, Final, JobErrorCode, JobState, LIMIT_KEY_BYTES_MAX, LaneCounts, LeaseKey, LeaseRequest,
        NackHow, NewJob, RateKey,
    },
};

/// A holder of `k`, and jobs that were passed over for it.
async fn held_with_blocked<const N: usize>(fx: &JobStoreFixture, blocked: [NewJob; N]) -> (LeaseKey, [JobId; N]) {
    let holder = fx.add_and_take(limited("k", 1)).await;
    let waiting = blocked.each_ref().map(|job| job.id);
    fx.add_all(&blocked).await;
    assert!(fx.take_up_to(10).await.is_empty(), "the key is held");
    for id in waiting {
        let head = fx.head(id).await;
        assert_eq!((head.state, head.blocked), (JobState::Ready, true));
    }
    (holder, waiting)
}

pub async fn a_key_is_held_no_more_often_than_it_may_over_lanes_and_workers(fx: JobStoreFixture) {
    let light = [fx.add(limited("k", 2)).await, fx.add(limited("k", 2)).await, fx.add(limited("k", 2)).await];
    let heavy = fx.add(NewJob { lane: Lane::heavy(), ..limited("k", 2) }).await;
    let first = fx.lease(&fx.want(10)).await;
    assert_eq!((ids(&first.jobs), first.next_due), (light[..2].to_vec(), None), "time alone brings no more");
    let elsewhere = LeaseRequest { lanes: vec![Lane::heavy()], worker: worker("w2"), ..fx.want(10) };
    assert!(fx.lease(&elsewhere).await.jobs.is_empty());
    let counts = fx.counts().await;
    assert_eq!((counts.leased, counts.blocked, counts.ready, counts.oldest_ready_ms), (2, 1, 0, 0));
    let counts = fx.store.counts(&Lane::heavy()).await.expect("the store answers");
    assert_eq!((counts.leased, counts.blocked, counts.ready), (0, 1, 0));

    let key = first.jobs[0].key;
    assert_eq!(fx.finish(key, done(key)).await, Fenced::Ok(JobState::Done));
    let both = || LeaseRequest { lanes: vec![Lane::heavy(), Lane::light()], ..fx.want(10) };
    assert_eq!(ids(&fx.lease(&both()).await.jobs), [heavy], "one of the two that were passed over, and no other");
    assert!(fx.head(light[2]).await.blocked, "the other is passed over again");
    let key = first.jobs[1].key;
    fx.finish(key, done(key)).await;
    assert_eq!(ids(&fx.lease(&both()).await.jobs), light[2..]);
}

pub async fn a_paused_lane_holds_up_no_job_of_another_lane(fx: JobStoreFixture) {
    let ends: [fn() -> Option<NackHow>; 3] =
        [|| None, || Some(release_after(Duration::ZERO)), || Some(fail_after(Duration::ZERO))];
    for end in ends {
        let holder = fx.add_and_take(limited("k", 1)).await;
        let waiting = fx.add(limited("k", 1)).await;
        let other = fx.add(NewJob { lane: Lane::heavy(), ..limited("k", 1) }).await;
        let both = || LeaseRequest { lanes: vec![Lane::light(), Lane::heavy()], ..fx.want(10) };
        assert!(fx.lease(&both()).await.jobs.is_empty(), "the key is held");
        fx.store.pause(&Lane::light(), true).await.expect("the store answers");
        match end() {
            None => fx.finish(holder, done(holder)).await,
            Some(how) => fx.nack(holder, how).await,
        };
        let taken = fx.lease(&both()).await.jobs;
        assert_eq!(ids(&taken), [other]);
        fx.finish(taken[0].key, done(taken[0].key)).await;
        fx.store.pause(&Lane::light(), false).await.expect("the store answers");
        assert_eq!(fx.lease(&both()).await.jobs.len(), 1, "one at a time");
        for id in [holder.job, waiting] {
            let leased = fx.state(id).await == JobState::Leased;
            if leased {
                let key = fx.head(id).await.lease_key();
                fx.finish(key, done(key)).await;
            } else {
                fx.cancel(id).await;
            }
        }
        assert_eq!(fx.counts().await, LaneCounts::default());
    }
}

pub async fn a_narrow_bound_in_front_holds_up_no_wider_one(fx: JobStoreFixture) {
    let held = fx.add_all(&[limited("k", 3), limited("k", 3), limited("k", 3)]).await;
    assert_eq!(ids(&fx.take_up_to(10).await), held);
    let narrow = fx.add(limited("k", 1)).await;
    let wide = fx.add_all(&[limited("k", 3), limited("k", 3)]).await;
    assert!(fx.take_up_to(10).await.is_empty(), "the key is held");
    for (ends, next) in held.iter().zip(&wide) {
        let key = fx.head(*ends).await.lease_key();
        fx.finish(key, done(key)).await;
        assert_eq!(ids(&fx.take_up_to(10).await), [*next]);
        assert!(fx.head(narrow).await.blocked);
    }
    for ends in [held[2], wide[0], wide[1]] {
        assert!(fx.take_up_to(10).await.is_empty(), "somebody holds the key");
        let key = fx.head(ends).await.lease_key();
        fx.finish(key, done(key)).await;
    }
    assert_eq!(fx.take().await.key.job, narrow);
}

pub async fn other_keys_are_apart(fx: JobStoreFixture) {
    held_with_blocked(&fx, [limited("k", 1)]).await;
    let other = fx.add(limited("k2", 1)).await;
    let prefix = fx.add(limited("k:", 1)).await;
    let without = fx.add_plain().await;
    assert_eq!(ids(&fx.take_up_to(10).await), [other, prefix, without]);
}

pub async fn each_end_of_a_lease_lets_the_next_go_on(fx: JobStoreFixture) {
    let later = Duration::from_secs(5);
    let nacks = [fail_after(later), release_after(later), park()];
    for how in nacks {
        let (holder, [next, last]) = held_with_blocked(&fx, [limited("k", 1), limited("k", 1)]).await;
        fx.nack(holder, how.clone()).await;
        assert_eq!(ids(&fx.take_up_to(10).await), [next], "after {how:?}");
        for id in [holder.job, last] {
            assert_eq!(fx.cancel(id).await, Cancelled::Now);
        }
        let key = fx.head(next).await.lease_key();
        fx.finish(key, done(key)).await;
    }
    let ends: [fn(LeaseKey) -> Final; 4] = [
        done,
        |key| Final::Cached { result: pointer(key.job), from: key.job },
        |_| Final::Dead(error("no")),
        |_| Final::Cancelled { reason: "enough".to_owned() },
    ];
    for end in ends {
        let (holder, [next]) = held_with_blocked(&fx, [limited("k", 1)]).await;
        fx.finish(holder, end(holder)).await;
        let taken = fx.take_up_to(10).await;
        assert_eq!(ids(&taken), [next], "after {:?}", end(holder));
        fx.finish(taken[0].key, done(taken[0].key)).await;
    }
}

pub async fn a_last_attempt_and_a_cancel_wish_let_the_next_go_on(fx: JobStoreFixture) {
    let last = NewJob { attempts_max: 1, ..limited("k", 1) };
    let (first, second, third) = (limited("k", 1), limited("k", 1), limited("k", 1));
    let order = fx.add_all(&[last, first, second, third]).await;
    let key = fx.take_up_to(10).await.remove(0).key;
    assert_eq!(fx.nack(key, fail_after(Duration::ZERO)).await, Fenced::Ok(JobState::Dead));
    for (round, how) in [release_after(Duration::ZERO), fail_after(Duration::ZERO)].into_iter().enumerate() {
        let taken = fx.take_up_to(10).await;
        assert_eq!(ids(&taken), [order[round + 1]]);
        assert_eq!(fx.cancel(taken[0].key.job).await, Cancelled::Asked);
        assert_eq!(fx.nack(taken[0].key, how).await, Fenced::Ok(JobState::Cancelled));
    }
    assert_eq!(ids(&fx.take_up_to(10).await), [order[3]]);
}

pub async fn a_lost_lease_lets_the_next_go_on(fx: JobStoreFixture) {
    let (holder, [next]) = held_with_blocked(&fx, [limited("k", 1)]).await;
    assert_eq!(fx.lose().await.reclaimed, [(holder.job, JobState::Ready)]);
    assert_eq!(ids(&fx.take_up_to(10).await), [next], "one of the two, and it is not the one that was held");
    let (key, counts) = (fx.head(next).await.lease_key(), fx.counts().await);
    assert_eq!((counts.leased, counts.blocked), (1, 1), "the other has to wait for it");
    fx.finish(key, done(key)).await;
    assert_eq!(ids(&fx.take_up_to(10).await), [holder.job]);
}

pub async fn a_job_given_back_at_once_holds_nobody_up_for_good(fx: JobStoreFixture) {
    let (mut key, [next]) = held_with_blocked(&fx, [limited("k", 1)]).await;
    let both = sorted(vec![key.job, next]);
    for _ in 0..2 {
        fx.nack(key, release_after(Duration::ZERO)).await;
        key = fx.take().await.key;
        assert!(fx.take_up_to(10).await.is_empty(), "one at a time");
    }
    fx.finish(key, done(key)).await;
    let last = fx.take().await.key;
    assert_eq!(sorted(vec![key.job, last.job]), both);
    fx.finish(last, done(last)).await;
    assert_eq!(fx.counts().await, LaneCounts::default());
}

pub async fn those_passed_over_go_on_in_order_of_place(fx: JobStoreFixture) {
    let urgent = |priority| NewJob { priority, ..limited("k", 1) };
    let (mut key, [usual, low, high]) = held_with_blocked(&fx, [urgent(0), urgent(2), urgent(9)]).await;
    for next in [high, low, usual] {
        fx.finish(key, done(key)).await;
        assert_eq!((fx.head(next).await.blocked, fx.counts().await.ready), (false, 1), "one at a time");
        key = fx.take().await.key;
        assert_eq!(key.job, next);
    }
}

pub async fn a_woken_job_that_is_cancelled_or_expires_wakes_the_next(fx: JobStoreFixture) {
    let late = || NewJob { deadline: Some(Duration::from_secs(10)), ..limited("k", 1) };
    let blocked = [limited("k", 1), late(), limited("k", 1)];
    let (holder, [cancelled, expires, last]) = held_with_blocked(&fx, blocked).await;
    fx.finish(holder, done(holder)).await;
    assert_eq!(fx.cancel(cancelled).await, Cancelled::Now);
    assert_eq!((fx.head(expires).await.blocked, fx.head(last).await.blocked), (false, true));
    fx.advance(Duration::from_secs(11)).await;
    assert_eq!(fx.maintain().await.expired, [expires]);
    assert_eq!(ids(&fx.take_up_to(10).await), [last]);
}

pub async fn a_job_that_was_passed_over_may_be_cancelled_or_expire(fx: JobStoreFixture) {
    let late = NewJob { deadline: Some(Duration::from_secs(10)), ..limited("k", 1) };
    let (holder, [cancelled, expires]) = held_with_blocked(&fx, [limited("k", 1), late]).await;
    assert_eq!(fx.cancel(cancelled).await, Cancelled::Now);
    let head = fx.head(cancelled).await;
    assert_eq!((head.state, head.blocked), (JobState::Cancelled, false));
    fx.advance(Duration::from_secs(11)).await;
    assert_eq!(fx.maintain().await.expired, [expires]);
    let head = fx.head(expires).await;
    let code = head.error.map(|error| error.code);
    assert_eq!((head.state, head.blocked, code), (JobState::Dead, false, Some(JobErrorCode::DeadlineExceeded)));
    fx.finish(holder, done(holder)).await;
    let counts = fx.counts().await;
    assert_eq!((counts.blocked, counts.ready, counts.leased), (0, 0, 0));
    let next = fx.add(limited("k", 1)).await;
    assert_eq!(fx.take().await.key.job, next, "the key is free");
}

pub async fn each_job_goes_by_its_own_bound(fx: JobStoreFixture) {
    let wide = fx.add_all(&[limited("k", 3), limited("k", 3)]).await;
    let narrow = fx.add(limited("k", 1)).await;
    assert_eq!(ids(&fx.take_up_to(1).await), wide[..1]);
    assert_eq!(ids(&fx.take_up_to(10).await), wide[1..], "two may hold it");
    assert!(fx.head(narrow).await.blocked, "but not a second one of its kind");
    let more = fx.add_all(&[limited("k", 3), limited("k", 3)]).await;
    assert_eq!(ids(&fx.take_up_to(10).await), more[..1]);
}

pub async fn a_redriven_job_asks_for_its_key_anew(fx: JobStoreFixture) {
    let dead = fx.add_and_take(limited("k", 1)).await;
    fx.finish(dead, Final::Dead(error("no"))).await;
    let holder = fx.add_and_take(limited("k", 1)).await;
    fx.redrive(dead.job).await;
    assert!(fx.take_up_to(10).await.is_empty(), "the key is held");
    assert_eq!((fx.state(dead.job).await, fx.counts().await.blocked), (JobState::Ready, 1));
    fx.finish(holder, done(holder)).await;
    assert_eq!(fx.take().await.key.job, dead.job);
}

pub async fn a_flood_of_passed_over_jobs_holds_up_no_other_tenant(fx: JobStoreFixture) {
    let elsewhere = LeaseRequest { lanes: vec![Lane::heavy()], ..fx.want(1) };
    fx.add(NewJob { lane: Lane::heavy(), ..limited("k", 1) }).await;
    assert_eq!(fx.lease(&elsewhere).await.jobs.len(), 1);
    let flood: Vec<NewJob> =
        (0..200).map(|_| NewJob { owner: of_tenant("flood"), priority: 9, ..limited("k", 1) }).collect();
    fx.add_all(&flood).await;
    add_for(&fx, "quiet", 3).await;
    for _ in 0..3 {
        let owner = fx.take().await.job.head.owner;
        assert_eq!(owner, of_tenant("quiet"));
    }
    let blocked = fx.counts().await.blocked;
    assert!(blocked <= 10, "looking at a job costs a turn, and {blocked} were looked at for 3 of the other tenant");
}

pub async fn limits_out_of_bounds_are_invalid(fx: JobStoreFixture) {
    let rated =
        |key: &str, every, burst| NewJob { rate: Some(RateKey { key: key.to_owned(), every, burst }), ..new_job() };
    let second = Duration::from_secs(1);
    let long = "k".repeat(LIMIT_KEY_BYTES_MAX + 1);
    let bad = [
        limited("", 1),
        limited(&long, 1),
        limited("k", 0),
        rated("", second, 1),
        rated(&long, second, 1),
        rated("k", Duration::from_micros(999), 1),
        rated("k", second, 0),
    ];
    for job in bad {
        let refused = fx.store.enqueue(&[new_job(), job]).await.expect_err("out of bounds");
        assert_eq!(refused.kind(), StoreErrorKind::Invalid);
    }
    assert_eq!(fx.counts().await, LaneCounts::default(), "nothing was changed");
    let good = [limited(&long[1..], u32::MAX), rated(&long[1..], Duration::from_millis(1), u32::MAX)];
    let good = fx.add_all(&good).await;
    assert_eq!(ids(&fx.take_up_to(10).await), good, "just within the bounds");
}

pub async fn keys_of_any_text_are_keys(fx: JobStoreFixture) {
    let keys = ["a b", "{x}:y", "é|'\"", "%_*", "a\nb", "A", "a"];
    for key in keys {
        let added = fx.add_all(&[limited(key, 1), limited(key, 1)]).await;
        let taken = fx.take_up_to(10).await;
        assert_eq!(ids(&taken), added[..1], "key {key:?}");
        fx.finish(taken[0].key, done(taken[0].key)).await;
        let taken = fx.take_up_to(10).await;
        assert_eq!(ids(&taken), added[1..], "key {key:?}");
    }
    assert_eq!(fx.counts().await.leased, keys.len() as u64, "each is a key of its own");
}

pub async fn waiting_for_work_ends_when_a_holder_lets_go(fx: JobStoreFixture) {
    let (holder, [next]) = held_with_blocked(&fx, [limited("k", 1)]).await;
    let store = Arc::clone(&fx.store);
    let waits = tokio::spawn(async move { store.wait_ready(&[Lane::light()], Duration::from_secs(3_600)).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waits.is_finished(), "nothing can be leased");
    fx.finish(holder, done(holder)).await;
    bounded("the wake-up", waits).await.expect("the wait does not panic");
    assert_eq!(fx.take().await.key.job, next);
}
