//! How tenants share a lane by weight, and how far a lane may be leased over all workers.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    fixture::{JobStoreFixture, done, ids, new_job, of_tenant, worker},
    lease::{add_for, shares},
};
use crate::{
    error::StoreErrorKind,
    id::{Lane, TenantId},
    queue::{LaneCounts, LeaseRequest, Leased, NewJob, Shares, WEIGHT_MAX, WEIGHTS_MAX},
};

fn weights(weights: &[(&str, u32)]) -> Arc<Shares> {
    let weights = weights.iter().map(|(tenant, weight)| (of_tenant(tenant).tenant, *weight)).collect();
    Arc::new(Shares { weights, leased_max: BTreeMap::new() })
}

fn leased_max(lane: Lane, max: u64) -> Arc<Shares> {
    Arc::new(Shares { weights: BTreeMap::new(), leased_max: BTreeMap::from([(lane, max)]) })
}

/// What a tenant got of these.
fn share_of(leased: &[Leased], tenant: &str) -> usize {
    shares(leased).get(tenant).copied().unwrap_or_default()
}

pub async fn a_heavier_tenant_gets_more_turns(fx: JobStoreFixture) {
    add_for(&fx, "a", 60).await;
    add_for(&fx, "b", 60).await;
    let want = LeaseRequest { shares: weights(&[("b", 3)]), ..fx.want(40) };
    let taken = fx.lease(&want).await.jobs;
    assert_eq!(taken.len(), 40);
    let heavy = share_of(&taken, "b");
    assert!((29..=31).contains(&heavy), "three of four, not {heavy} of 40");
}

pub async fn weights_hold_over_calls_and_workers(fx: JobStoreFixture) {
    for tenant in ["a", "b", "c"] {
        add_for(&fx, tenant, 60).await;
    }
    let shares = weights(&[("a", 5), ("c", 2)]);
    let mut taken = Vec::new();
    for n in 0..10 {
        let want = LeaseRequest { shares: Arc::clone(&shares), worker: worker(&format!("w{}", n % 3)), ..fx.want(8) };
        taken.extend(fx.lease(&want).await.jobs);
    }
    assert_eq!(taken.len(), 80);
    for (tenant, share) in [("a", 50), ("b", 10), ("c", 20)] {
        let got = share_of(&taken, tenant);
        assert!((share - 2..=share + 2).contains(&got), "{tenant} got {got} of 80, should be {share}");
    }
}

pub async fn the_lightest_tenant_is_still_served(fx: JobStoreFixture) {
    add_for(&fx, "a", 100).await;
    add_for(&fx, "b", 1).await;
    let want = LeaseRequest { shares: weights(&[("a", WEIGHT_MAX)]), ..fx.want(3) };
    assert_eq!(share_of(&fx.lease(&want).await.jobs, "b"), 1, "all begin level");
}

pub async fn weights_out_of_bounds_are_invalid(fx: JobStoreFixture) {
    fx.add_plain().await;
    let many = (0..=WEIGHTS_MAX).map(|n| (TenantId::new(format!("t{n}")).expect("a valid name"), 1)).collect();
    let many = Arc::new(Shares { weights: many, leased_max: BTreeMap::new() });
    for shares in [weights(&[("a", 0)]), weights(&[("a", 2), ("b", WEIGHT_MAX + 1)]), many] {
        let want = LeaseRequest { shares, ..fx.want(1) };
        assert_eq!(fx.store.lease(&want).await.expect_err("out of bounds").kind(), StoreErrorKind::Invalid);
    }
    assert_eq!(fx.counts().await, LaneCounts { ready: 1, ..LaneCounts::default() }, "nothing was changed");
}

pub async fn a_lane_is_leased_no_further_than_its_bound_over_all_workers(fx: JobStoreFixture) {
    let added = fx.add_many(6).await;
    let shares = leased_max(Lane::light(), 3);
    let want = |name: &str| LeaseRequest { shares: Arc::clone(&shares), worker: worker(name), ..fx.want(2) };
    let first = fx.lease(&want("w1")).await.jobs;
    assert_eq!(ids(&first), added[..2]);
    let second = fx.lease(&want("w2")).await.jobs;
    assert_eq!(ids(&second), added[2..3], "one more may be leased");
    assert!(fx.lease(&want("w1")).await.jobs.is_empty());
    fx.finish(first[0].key, done(first[0].key)).await;
    fx.finish(second[0].key, done(second[0].key)).await;
    assert_eq!(ids(&fx.lease(&want("w2")).await.jobs), added[3..5]);
    assert!(fx.lease(&want("w2")).await.jobs.is_empty());
    assert_eq!(fx.counts().await.leased, 3);
    fx.lose().await;
    assert_eq!(ids(&fx.lease(&want("w1")).await.jobs), [added[5], added[1]], "a lost lease is over");
}

pub async fn a_bound_of_one_lane_leaves_the_others_alone(fx: JobStoreFixture) {
    let light = fx.add_many(3).await;
    let heavy: Vec<NewJob> = (0..3).map(|_| NewJob { lane: Lane::heavy(), ..new_job() }).collect();
    let heavy = fx.add_all(&heavy).await;
    let lanes = vec![Lane::light(), Lane::heavy()];
    let want = LeaseRequest { lanes, shares: leased_max(Lane::light(), 1), ..fx.want(10) };
    assert_eq!(ids(&fx.lease(&want).await.jobs), [&light[..1], &heavy].concat());
    assert_eq!(ids(&fx.take_up_to(10).await), light[1..], "a wish without the bound is not held to it");
}
