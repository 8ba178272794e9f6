//! What the queue has beside the behaviours of every store: commits that are shared, jobs that leave memory; and that it stands as the model does.

use std::{num::NonZeroU16, sync::Arc, time::Duration};

use metamcp_core::{
    id::Lane,
    queue::{
        Cancelled, Durability, Enqueued, Fenced, Finish, Heartbeat, JobQuery, JobState, JobStore, LeaseKey, NewJob,
        Progress,
    },
    testing::{
        ManualClock,
        job_store::new_job,
        model::{Op, compare_with_model, ops},
    },
};
use metamcp_mcp_adapters::store::embedded::{EmbeddedOptions, EmbeddedStore};
use proptest::{prelude::*, test_runner::TestCaseError};

use crate::{disk::MoodyDisk, done, fresh, lease_all, open, options, wish};

#[tokio::test]
async fn a_heartbeat_shows_in_get_and_list_without_a_commit() {
    let (_dir, _clock, store) = fresh();
    let (jobs, job) = (store.jobs(), new_job());
    jobs.enqueue(std::slice::from_ref(&job)).await.unwrap();
    let lease = lease_all(&*jobs, 1).await[0];
    let progress = Some(Progress { value: 2.0, total: Some(4.0), message: None });
    jobs.heartbeat(&[Heartbeat { lease, progress: progress.clone() }], Duration::from_secs(99)).await.unwrap();
    let got = jobs.get(job.id).await.unwrap().unwrap().head;
    assert_eq!(got.progress, progress);
    assert_eq!(jobs.list(&JobQuery::default()).await.unwrap().jobs[0].head, got);
    jobs.verify().await.unwrap();
}

#[tokio::test]
async fn ended_jobs_leave_memory_and_are_still_found_repeated_and_removed() {
    let (dir, clock, store) = fresh();
    let jobs = store.jobs();
    let new: Vec<NewJob> = (0..60).map(|n| NewJob { idempotency_key: Some(format!("k{n}")), ..new_job() }).collect();
    jobs.enqueue(&new).await.unwrap();
    let leases = lease_all(&*jobs, 1).await;
    let ends: Vec<Finish> = leases.into_iter().map(done).collect();
    jobs.finish(&ends).await.unwrap();
    let again = jobs.finish(&ends).await.unwrap();
    assert!(again.iter().all(|answer| *answer == Fenced::OkAgain(JobState::Done)), "{again:?}");
    assert_eq!(jobs.cancel(new[0].id, "late").await.unwrap(), Cancelled::Already(JobState::Done));
    let mut other = new[1].clone();
    other.id = new_job().id;
    let answer = jobs.enqueue(&[other]).await.unwrap();
    assert_eq!(answer, [Enqueued::Duplicate { job: new[1].id, state: JobState::Done }]);
    jobs.verify().await.unwrap();
    drop((store, jobs));

    let store = open(dir.path(), &clock).unwrap();
    let jobs = store.jobs();
    clock.advance(Duration::from_secs(3_600));
    let first = jobs.maintain(NonZeroU16::new(45).unwrap()).await.unwrap();
    let rest = jobs.maintain(NonZeroU16::new(45).unwrap()).await.unwrap();
    assert_eq!((first.removed.len(), rest.removed.len()), (45, 15));
    assert!(first.removed.iter().all(|(id, pointer)| pointer.as_ref().is_some_and(|pointer| pointer.job == *id)));
    jobs.verify().await.unwrap();
    assert!(jobs.list(&JobQuery::default()).await.unwrap().jobs.is_empty());
    assert!(matches!(jobs.enqueue(&new[..1]).await.unwrap()[..], [Enqueued::Ok { .. }]), "its key is free");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_come_together_are_all_answered_and_all_durable() {
    let (dir, clock, store) = fresh();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let jobs = store.jobs();
        calls.spawn(async move { jobs.enqueue(&[new_job()]).await.unwrap() });
    }
    while let Some(answer) = calls.join_next().await {
        assert!(matches!(answer.unwrap()[..], [Enqueued::Ok { durability: Durability::LocalFsync, .. }]));
    }
    drop(store);
    let store = open(dir.path(), &clock).unwrap();
    assert_eq!(store.jobs().counts(&Lane::light()).await.unwrap().ready, 200);
}

/// A job's whole life, and its next one under the same name, within one commit.
#[tokio::test]
async fn calls_that_share_a_commit_see_what_those_before_them_did() {
    let (disk, clock) = (MoodyDisk::default(), ManualClock::new());
    let jobs = EmbeddedStore::open_backend(disk.clone(), Arc::clone(&clock) as _, &options()).unwrap().jobs;
    let job = NewJob { retain: Duration::ZERO, idempotency_key: Some("k".to_owned()), ..new_job() };
    let lease = LeaseKey { job: job.id, epoch: 1, nonce: 7 };
    let want = wish(7);
    let (once, again) = ([job.clone()], [job.clone()]);
    let (finish, finish_again) = ([done(lease)], [done(lease)]);
    let (enqueued, leased, finished, repeated, maintained, anew) = disk
        .in_one_commit(&*jobs, async {
            tokio::join!(
                jobs.enqueue(&once),
                jobs.lease(&want),
                jobs.finish(&finish),
                jobs.finish(&finish_again),
                jobs.maintain(NonZeroU16::MAX),
                jobs.enqueue(&again),
            )
        })
        .await;
    assert!(matches!(enqueued.unwrap()[..], [Enqueued::Ok { .. }]));
    assert_eq!(leased.unwrap().jobs[0].key, lease);
    assert_eq!(finished.unwrap(), [Fenced::Ok(JobState::Done)]);
    assert_eq!(repeated.unwrap(), [Fenced::OkAgain(JobState::Done)]);
    assert_eq!(maintained.unwrap().removed.len(), 1);
    assert!(matches!(anew.unwrap()[..], [Enqueued::Ok { .. }]), "the name and the key were free again");
    assert_eq!(jobs.get(job.id).await.unwrap().unwrap().head.epoch, 0);
    jobs.verify().await.unwrap();
}

#[tokio::test]
async fn rounds_of_maintenance_that_share_a_commit_go_on_from_each_other() {
    let (disk, clock) = (MoodyDisk::default(), ManualClock::new());
    let jobs = EmbeddedStore::open_backend(disk.clone(), Arc::clone(&clock) as _, &options()).unwrap().jobs;
    jobs.enqueue(&[new_job(), new_job(), new_job()]).await.unwrap();
    let ends: Vec<Finish> = lease_all(&*jobs, 1).await.into_iter().map(done).collect();
    jobs.finish(&ends).await.unwrap();
    clock.advance(Duration::from_secs(3_600));
    let one = NonZeroU16::MIN;
    let rounds = async { tokio::join!(jobs.maintain(one), jobs.maintain(one), jobs.maintain(one)) };
    let (first, second, third) = disk.in_one_commit(&*jobs, rounds).await;
    let mut removed: Vec<_> = [first, second, third].into_iter().flat_map(|done| done.unwrap().removed).collect();
    removed.dedup();
    assert_eq!(removed.len(), 3);
    jobs.verify().await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_store_answers_and_stands_as_the_model_does(ops in ops(120)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(as_the_model(&ops)).map_err(TestCaseError::fail)?;
    }
}

async fn as_the_model(ops: &[Op]) -> Result<(), String> {
    let (disk, clock) = (MoodyDisk::default(), ManualClock::new());
    let open = || EmbeddedStore::open_backend(disk.clone(), Arc::clone(&clock) as _, &EmbeddedOptions::default());
    let jobs = open().map_err(|e| e.to_string())?.jobs;
    compare_with_model(&*jobs, &clock, ops).await?;
    jobs.verify().await.map_err(|e| e.to_string())
}
