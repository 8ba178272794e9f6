//! Dependencies and limits when many ask at the same time: what two calls that do not see each other must not lose or let through.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{
    concurrent::{together, want},
    depend::child_of,
    fixture::{JobStoreFixture, STEP_S_MAX, done, limited, new_job},
    rate::rated,
};
use crate::{
    id::{JobId, Lane},
    queue::{Enqueued, Fenced, Finish, JobState, JobStore, LeaseKey, LeaseRequest, NewJob, Shares},
};

/// Times that a race between two calls is run.
const ROUNDS: usize = 20;

async fn finish(store: Arc<dyn JobStore>, key: LeaseKey) -> Fenced {
    store.finish(&[Finish { lease: key, end: done(key) }]).await.expect("the store answers")[0]
}

/// Workers serve all jobs that there are, and there are never more than `max` of them held at a time.
async fn serve_all(fx: &JobStoreFixture, jobs: &[JobId], max: usize, shares: &Arc<Shares>) {
    let (held, most, ended) = (Arc::default(), Arc::default(), Arc::default());
    together(|n| {
        let (store, shares, all) = (Arc::clone(&fx.store), Arc::clone(shares), jobs.len());
        let (held, most, ended): (Arc<AtomicUsize>, Arc<AtomicUsize>, Arc<AtomicUsize>) =
            (Arc::clone(&held), Arc::clone(&most), Arc::clone(&ended));
        async move {
            let started = std::time::Instant::now();
            let mut request = 0;
            while ended.load(Ordering::SeqCst) < all && started.elapsed().as_secs() < STEP_S_MAX {
                request += 1;
                let lanes = vec![Lane::light(), Lane::heavy()];
                let want = LeaseRequest { lanes: lanes.clone(), shares: Arc::clone(&shares), ..want(n, request, 3) };
                let batch = store.lease(&want).await.expect("the store answers");
                for leased in &batch.jobs {
                    most.fetch_max(held.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    // Before the store hears of it: what is counted is never more than what is held.
                    held.fetch_sub(1, Ordering::SeqCst);
                    assert_eq!(finish(Arc::clone(&store), leased.key).await, Fenced::Ok(JobState::Done));
                    ended.fetch_add(1, Ordering::SeqCst);
                }
                if batch.jobs.is_empty() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        }
    })
    .await;
    assert!(most.load(Ordering::SeqCst) <= max, "{most:?} were held at a time, {max} may be");
    assert_eq!(ended.load(Ordering::SeqCst), jobs.len(), "none is passed over for ever");
}

pub async fn workers_that_ask_together_keep_within_a_concurrency_key(fx: JobStoreFixture) {
    let lanes = [Lane::light(), Lane::heavy()];
    let jobs: Vec<NewJob> = (0..40).map(|n| NewJob { lane: lanes[n % 2].clone(), ..limited("k", 2) }).collect();
    let jobs = fx.add_all(&jobs).await;
    serve_all(&fx, &jobs, 2, &Arc::default()).await;
}

pub async fn workers_that_ask_together_keep_within_the_bound_of_a_lane(fx: JobStoreFixture) {
    let jobs = fx.add_many(40).await;
    let shares = Shares { leased_max: [(Lane::light(), 3)].into(), ..Shares::default() };
    serve_all(&fx, &jobs, 3, &Arc::new(shares)).await;
}

pub async fn workers_that_ask_together_keep_within_a_rate(fx: JobStoreFixture) {
    let added = fx.add_all(&[0; 12].map(|_| rated(2))).await;
    let taken = together(|n| {
        let store = Arc::clone(&fx.store);
        async move { store.lease(&want(n, 1, 2)).await.expect("the store answers").jobs.len() }
    })
    .await;
    let all = taken.into_iter().sum::<usize>() + fx.take_up_to(100).await.len();
    assert_eq!(all, 2, "a burst of two");
    let mut slots = Vec::new();
    for id in added {
        let head = fx.head(id).await;
        slots.extend((head.state == JobState::Delayed).then_some(head.due_at));
    }
    slots.sort_unstable();
    let gaps: Vec<Duration> = slots.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    assert_eq!(gaps, [Duration::from_secs(100); 9], "each slot is given once");
}

pub async fn a_job_looked_at_while_its_key_is_let_go_is_not_stranded(fx: JobStoreFixture) {
    let mut holder = fx.add_and_take(limited("k", 1)).await;
    for round in 0..ROUNDS {
        let next = fx.add(limited("k", 1)).await;
        let (let_go, looked) = tokio::join!(tokio::spawn(finish(Arc::clone(&fx.store), holder)), {
            let (store, want) = (Arc::clone(&fx.store), fx.want(1));
            tokio::spawn(async move { store.lease(&want).await.expect("the store answers").jobs.pop() })
        });
        assert_eq!(let_go.expect("no task panics"), Fenced::Ok(JobState::Done));
        let taken = match looked.expect("no task panics") {
            Some(leased) => leased,
            None => fx.try_take().await.unwrap_or_else(|| panic!("round {round}: passed over, and the key is free")),
        };
        assert_eq!(taken.key.job, next);
        holder = taken.key;
    }
}

pub async fn parents_that_end_together_let_their_child_go_on(fx: JobStoreFixture) {
    for round in 0..ROUNDS {
        let parents = fx.add_many(2).await;
        let child = fx.add(child_of(&parents)).await;
        let keys: Vec<LeaseKey> = fx.take_up_to(2).await.iter().map(|leased| leased.key).collect();
        let ends = keys.iter().map(|key| tokio::spawn(finish(Arc::clone(&fx.store), *key)));
        for end in ends.collect::<Vec<_>>() {
            assert_eq!(end.await.expect("no task panics"), Fenced::Ok(JobState::Done));
        }
        fx.maintain().await;
        let taken = fx.try_take().await.unwrap_or_else(|| panic!("round {round}: the child still waits"));
        assert_eq!((taken.key.job, &taken.job.head.waits_on), (child, &vec![]));
        fx.finish(taken.key, done(taken.key)).await;
        for parent in parents {
            assert_eq!(fx.head(parent).await.users, 0, "round {round}");
        }
    }
}

pub async fn a_child_that_comes_while_its_parent_ends_goes_on(fx: JobStoreFixture) {
    for round in 0..ROUNDS {
        let parent = fx.add_and_take(new_job()).await;
        let child = child_of(&[parent.job]);
        let id = child.id;
        let (came, ended) = tokio::join!(
            {
                let store = Arc::clone(&fx.store);
                tokio::spawn(async move { store.enqueue(&[child]).await.expect("the store answers").remove(0) })
            },
            tokio::spawn(finish(Arc::clone(&fx.store), parent))
        );
        assert!(matches!(came.expect("no task panics"), Enqueued::Ok { .. }));
        assert_eq!(ended.expect("no task panics"), Fenced::Ok(JobState::Done));
        fx.maintain().await;
        let taken = fx.try_take().await.unwrap_or_else(|| panic!("round {round}: the child waits for a done parent"));
        assert_eq!((taken.key.job, fx.head(parent.job).await.users), (id, 1), "round {round}");
        fx.finish(taken.key, done(taken.key)).await;
    }
}

pub async fn a_child_that_comes_while_its_parent_is_removed_finds_it_or_is_told(fx: JobStoreFixture) {
    for round in 0..ROUNDS {
        let parent = fx.add_and_take(NewJob { retain: Duration::from_secs(1), ..new_job() }).await;
        fx.finish(parent, done(parent)).await;
        fx.advance(Duration::from_secs(2)).await;
        let child = child_of(&[parent.job]);
        let id = child.id;
        let (came, removed) = tokio::join!(
            {
                let store = Arc::clone(&fx.store);
                tokio::spawn(async move { store.enqueue(&[child]).await.expect("the store answers").remove(0) })
            },
            fx.maintain()
        );
        let kept = fx.try_job(parent.job).await;
        match came.expect("no task panics") {
            Enqueued::Ok { .. } => {
                assert_eq!(kept.map(|job| job.head.users), Some(1), "round {round}: the child has lost its parent");
                let key = fx.take().await.key;
                assert_eq!(key.job, id);
                fx.finish(key, done(key)).await;
            }
            Enqueued::Missing { job } => {
                assert_eq!((job, kept), (parent.job, None), "round {round}");
                assert!(removed.removed.iter().any(|(id, _)| *id == parent.job), "round {round}: {removed:?}");
                assert!(fx.try_job(id).await.is_none());
            }
            other => panic!("round {round}: {other:?}"),
        }
    }
}
