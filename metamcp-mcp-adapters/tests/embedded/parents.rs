//! Jobs that have left memory are found again by those that name them: as parents, on a redrive, and by what another store held before.

use std::{num::NonZeroU16, sync::Arc, time::Duration};

use metamcp_core::{
    id::JobId,
    queue::{Enqueued, Fenced, Job, JobHead, JobState, JobStore, LeaseKey, NewJob, Redriven, Restored},
    testing::{ManualClock, job_store::new_job},
};
use metamcp_mcp_adapters::store::embedded::{EmbeddedJobStore, EmbeddedStore};

use crate::{disk::MoodyDisk, done, failed, fresh, lease_all, open, options, wish};

/// How long an ended job of these tests is kept for its own sake.
const RETAIN: Duration = Duration::from_secs(10);

fn short(after: &[JobId]) -> NewJob {
    NewJob { retain: RETAIN, after: after.to_vec(), ..new_job() }
}

async fn add(jobs: &EmbeddedJobStore, new: NewJob) -> JobId {
    assert!(matches!(jobs.enqueue(std::slice::from_ref(&new)).await.unwrap()[..], [Enqueued::Ok { .. }]));
    new.id
}

/// A job that has ended, and has left memory with the commit that said so.
async fn add_done(jobs: &EmbeddedJobStore, request: u64, new: NewJob) -> JobId {
    let id = add(jobs, new).await;
    let leases = lease_all(jobs, request).await;
    assert_eq!(leases.iter().map(|lease| lease.job).collect::<Vec<_>>(), [id]);
    jobs.finish(&[done(leases[0])]).await.unwrap();
    id
}

async fn head(jobs: &EmbeddedJobStore, id: JobId) -> JobHead {
    jobs.get(id).await.unwrap().unwrap().head
}

async fn removed(jobs: &EmbeddedJobStore) -> Vec<JobId> {
    jobs.maintain(NonZeroU16::MAX).await.unwrap().removed.into_iter().map(|(id, _)| id).collect()
}

#[tokio::test]
async fn a_parent_that_left_memory_is_kept_for_a_child_over_a_reopen_and_leaves_again_after_it() {
    let (dir, clock, store) = fresh();
    let parent = add_done(&store.jobs(), 1, short(&[])).await;
    let child = add(&store.jobs(), short(&[parent])).await;
    store.jobs().verify().await.unwrap();
    clock.advance(RETAIN * 2);
    assert!(removed(&store.jobs()).await.is_empty());
    drop(store);

    let store = open(dir.path(), &clock).unwrap();
    let jobs = store.jobs();
    jobs.verify().await.unwrap();
    assert!(removed(&jobs).await.is_empty(), "it is still in use");
    assert_eq!(head(&jobs, parent).await.users, 1);
    let lease = lease_all(&*jobs, 2).await[0];
    assert_eq!(lease.job, child);
    jobs.finish(&[done(lease)]).await.unwrap();
    assert_eq!(head(&jobs, parent).await.users, 0);
    jobs.verify().await.unwrap();
    assert_eq!(removed(&jobs).await, [parent]);
    clock.advance(RETAIN * 2);
    assert_eq!(removed(&jobs).await, [child]);
    jobs.verify().await.unwrap();
}

#[tokio::test]
async fn a_job_is_redriven_although_its_parent_left_memory_and_not_when_it_is_gone() {
    let (_dir, clock, store) = fresh();
    let jobs = store.jobs();
    let parent = add_done(&jobs, 1, short(&[])).await;
    let child = add(&jobs, NewJob { after: vec![parent], ..new_job() }).await;
    let lease = lease_all(&*jobs, 2).await[0];
    jobs.finish(&[failed(lease)]).await.unwrap();
    jobs.verify().await.unwrap();
    assert_eq!(jobs.redrive(child).await.unwrap(), Redriven::Ok);
    assert_eq!((head(&jobs, parent).await.users, head(&jobs, child).await.state), (1, JobState::Ready));
    jobs.verify().await.unwrap();

    let lease = lease_all(&*jobs, 3).await[0];
    jobs.finish(&[failed(lease)]).await.unwrap();
    clock.advance(RETAIN * 2);
    assert_eq!(removed(&jobs).await, [parent]);
    assert_eq!(jobs.redrive(child).await.unwrap(), Redriven::Missing { job: parent });
    jobs.verify().await.unwrap();
}

#[tokio::test]
async fn more_children_than_move_at_once_go_on_after_a_reopen() {
    const CHILDREN: usize = 80;
    let (dir, clock, store) = fresh();
    let parent = add(&store.jobs(), short(&[])).await;
    let children: Vec<NewJob> = (0..CHILDREN).map(|_| short(&[parent])).collect();
    store.jobs().enqueue(&children).await.unwrap();
    let lease = lease_all(&*store.jobs(), 1).await[0];
    store.jobs().finish(&[done(lease)]).await.unwrap();
    drop(store);

    let store = open(dir.path(), &clock).unwrap();
    let jobs = store.jobs();
    let waiting = jobs.counts(&children[0].lane).await.unwrap().waiting;
    assert!(waiting > 0, "the rest is for maintenance");
    jobs.verify().await.unwrap();
    let settled = jobs.maintain(NonZeroU16::MAX).await.unwrap().settled;
    assert_eq!(settled.len() as u64, waiting);
    assert_eq!(lease_all(&*jobs, 2).await.len(), CHILDREN);
    jobs.verify().await.unwrap();
}

#[tokio::test]
async fn what_left_memory_stands_in_the_way_of_what_another_store_held() {
    let (_dir, _clock, store) = fresh();
    let jobs = store.jobs();
    let keyed = NewJob { idempotency_key: Some("k".to_owned()), ..new_job() };
    let old = add_done(&jobs, 1, keyed.clone()).await;
    let standing = jobs.get(old).await.unwrap().unwrap();
    let other = NewJob { idempotency_key: Some("k".to_owned()), ..new_job() };
    let other = Job { head: JobHead { id: other.id, ..standing.head.clone() }, body: Arc::clone(&standing.body) };
    let changed = Job { head: JobHead { priority: 9, ..standing.head.clone() }, ..standing.clone() };
    let answers = jobs.restore(&[changed, other]).await.unwrap();
    assert_eq!(answers, [Restored::Exists, Restored::KeyTaken { job: old }]);
    assert_eq!(jobs.get(old).await.unwrap().unwrap(), standing);
    jobs.verify().await.unwrap();
}

/// A done parent is taken in before its child, and the store is opened again in between: it has left memory, and says that it is in use.
#[tokio::test]
async fn a_family_is_taken_in_bit_by_bit_over_a_reopen() {
    let (_other_dir, _, other) = fresh();
    let (parent, child) = {
        let jobs = other.jobs();
        let parent = add_done(&jobs, 1, short(&[])).await;
        let child = add(&jobs, short(&[parent])).await;
        (jobs.get(parent).await.unwrap().unwrap(), jobs.get(child).await.unwrap().unwrap())
    };
    let (dir, clock, store) = fresh();
    assert_eq!(store.jobs().restore(std::slice::from_ref(&parent)).await.unwrap(), [Restored::Ok]);
    drop(store);
    let store = open(dir.path(), &clock).unwrap();
    let jobs = store.jobs();
    assert_eq!(jobs.restore(std::slice::from_ref(&child)).await.unwrap(), [Restored::Ok]);
    jobs.verify().await.unwrap();
    for job in [&parent, &child] {
        assert_eq!(jobs.get(job.head.id).await.unwrap().as_ref(), Some(job));
    }
    let lease = lease_all(&*jobs, 1).await[0];
    jobs.finish(&[done(lease)]).await.unwrap();
    jobs.verify().await.unwrap();
    clock.advance(RETAIN * 2);
    assert_eq!(removed(&jobs).await.len(), 2);
}

/// The whole life of a parent and its child within one commit.
#[tokio::test]
async fn a_family_that_shares_a_commit_sees_what_became_of_it() {
    let (disk, clock) = (MoodyDisk::default(), ManualClock::new());
    let views = EmbeddedStore::open_backend(disk.clone(), Arc::clone(&clock) as _, &options()).unwrap();
    let jobs = views.jobs;
    let brief = |after: &[JobId]| NewJob { retain: Duration::ZERO, after: after.to_vec(), ..new_job() };
    let parent = brief(&[]);
    let child = brief(&[parent.id]);
    let grandchild = brief(&[child.id]);
    let lease = |job: &NewJob, request| LeaseKey { job: job.id, epoch: 1, nonce: request };
    let family = [parent.clone(), child.clone()];
    let late = [grandchild.clone()];
    let ends = [[done(lease(&parent, 1))], [done(lease(&child, 2))]];
    let (first, second) = (wish(1), wish(2));
    let answers = disk
        .in_one_commit(&*jobs, async {
            tokio::join!(
                jobs.enqueue(&family),
                jobs.lease(&first),
                jobs.finish(&ends[0]),
                jobs.maintain(NonZeroU16::MAX),
                jobs.lease(&second),
                jobs.finish(&ends[1]),
                jobs.enqueue(&late),
                jobs.maintain(NonZeroU16::MAX),
            )
        })
        .await;
    assert_eq!(answers.2.unwrap(), [Fenced::Ok(JobState::Done)]);
    assert!(answers.3.unwrap().removed.is_empty(), "the child still uses it");
    assert_eq!(answers.4.unwrap().jobs[0].key, lease(&child, 2));
    assert_eq!(answers.5.unwrap(), [Fenced::Ok(JobState::Done)]);
    assert!(matches!(answers.6.unwrap()[..], [Enqueued::Ok { .. }]));
    let removed: Vec<JobId> = answers.7.unwrap().removed.into_iter().map(|(id, _)| id).collect();
    assert_eq!(removed, [parent.id], "the grandchild uses the child");
    assert_eq!(head(&jobs, grandchild.id).await.state, JobState::Ready);
    jobs.verify().await.unwrap();
}
