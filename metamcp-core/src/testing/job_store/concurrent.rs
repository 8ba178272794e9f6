//! What holds when many ask at the same time: each job to one worker, one end for each job, nothing lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU16,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::fixture::{
    JobStoreFixture, STEP_S_MAX, VISIBILITY, bounded, done, fail_after, new_job, pointer, release_after, worker,
};
use crate::{
    id::{JobId, Lane},
    queue::{
        Enqueued, Fenced, Finish, JobState, JobStore, LeaseKey, LeaseRequest, Leased, Maintained, Nack, NackHow, NewJob,
    },
};

/// Tasks that ask at the same time.
const TASKS: u64 = 8;

/// Runs one task for each number and answers what they did.
pub(super) async fn together<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    task: impl Fn(u64) -> F,
) -> Vec<T> {
    let tasks: Vec<_> = (0..TASKS).map(|n| tokio::spawn(task(n))).collect();
    let mut done = Vec::new();
    for task in tasks {
        done.push(bounded("a task", task).await.expect("no task panics"));
    }
    done
}

/// A wish of the worker with this number.
pub(super) fn want(n: u64, request: u64, max: u16) -> LeaseRequest {
    LeaseRequest {
        lanes: vec![Lane::light()],
        max,
        visibility: VISIBILITY,
        worker: worker(&format!("worker-{n}")),
        request,
        nonce: (n << 32) | request,
        shares: Arc::default(),
    }
}

pub async fn leases_taken_together_hand_out_each_job_once(fx: JobStoreFixture) {
    let added = fx.add_many(200).await;
    let taken = together(|n| {
        let store = Arc::clone(&fx.store);
        async move {
            let mut mine = Vec::new();
            for request in 1..=200 {
                let batch = store.lease(&want(n, request, 3)).await.expect("the store answers");
                if batch.jobs.is_empty() {
                    return mine;
                }
                mine.extend(batch.jobs.into_iter().map(|leased| leased.key.job));
            }
            panic!("there is no end of jobs");
        }
    })
    .await;
    let mut all: Vec<JobId> = taken.into_iter().flatten().collect();
    all.sort_unstable();
    assert_eq!(all, added, "each job, and each once");
}

pub async fn an_end_told_by_many_is_one_end(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    let answers = together(|_| {
        let store = Arc::clone(&fx.store);
        async move { store.finish(&[Finish { lease: key, end: done(key) }]).await.expect("the store answers")[0] }
    })
    .await;
    let first = answers.iter().filter(|answer| **answer == Fenced::Ok(JobState::Done)).count();
    let again = answers.iter().filter(|answer| **answer == Fenced::OkAgain(JobState::Done)).count();
    assert_eq!((first, first + again), (1, answers.len()), "{answers:?}");
}

pub async fn a_finish_and_a_nack_of_one_lease_do_not_both_win(fx: JobStoreFixture) {
    for _ in 0..20 {
        let key = fx.add_and_take(new_job()).await;
        let (finished, given_back) = tokio::join!(
            {
                let store = Arc::clone(&fx.store);
                async move { store.finish(&[Finish { lease: key, end: done(key) }]).await }
            },
            {
                let store = Arc::clone(&fx.store);
                async move { store.nack(&[Nack { lease: key, how: fail_after(Duration::from_secs(600)) }]).await }
            }
        );
        let (finished, given_back) =
            (finished.expect("the store answers")[0], given_back.expect("the store answers")[0]);
        match fx.state(key.job).await {
            JobState::Done => assert_eq!((finished, given_back), (Fenced::Ok(JobState::Done), Fenced::Stale)),
            _ => assert_eq!((finished, given_back), (Fenced::Stale, Fenced::Ok(JobState::Delayed))),
        }
    }
}

pub async fn one_key_enqueued_by_many_is_one_job(fx: JobStoreFixture) {
    let answers = together(|_| {
        let store = Arc::clone(&fx.store);
        async move {
            let job = NewJob { idempotency_key: Some("k".to_owned()), ..new_job() };
            (job.id, store.enqueue(&[job]).await.expect("the store answers").remove(0))
        }
    })
    .await;
    let accepted: Vec<JobId> =
        answers.iter().filter(|(_, answer)| matches!(answer, Enqueued::Ok { .. })).map(|(id, _)| *id).collect();
    assert_eq!(accepted.len(), 1, "{answers:?}");
    for (id, answer) in answers {
        if id != accepted[0] {
            assert_eq!(answer, Enqueued::Duplicate { job: accepted[0], state: JobState::Ready });
        }
    }
    assert_eq!(fx.counts().await.ready, 1);
}

pub async fn maintenance_by_many_moves_each_job_once(fx: JobStoreFixture) {
    fx.add_many(60).await;
    assert_eq!(fx.take_up_to(60).await.len(), 60);
    fx.advance(VISIBILITY + Duration::from_secs(1)).await;
    let done = together(|_| {
        let store = Arc::clone(&fx.store);
        async move {
            let mut mine = Vec::new();
            let budget = NonZeroU16::new(7).expect("not zero");
            for _ in 0..60 {
                let round = store.maintain(budget).await.expect("the store answers");
                if round == Maintained::default() {
                    break;
                }
                mine.extend(round.reclaimed);
            }
            mine
        }
    })
    .await;
    let all: Vec<(JobId, JobState)> = done.into_iter().flatten().collect();
    let distinct: BTreeSet<JobId> = all.iter().map(|(id, _)| *id).collect();
    assert_eq!((all.len(), distinct.len()), (60, 60));
    let jobs = fx.store.list(&crate::queue::JobQuery::default()).await.expect("the store answers").jobs;
    assert!(jobs.iter().all(|job| job.head.lost == 1), "each loss counts once");
}

/// Jobs of the run below; each is lost, failed and released a few times before it ends.
const RUN_JOBS: usize = 120;
/// From this lease on a job is simply served.
const SERVED_FROM_EPOCH: u64 = 5;

/// What the workers of one run know together.
#[derive(Debug, Default)]
struct Run {
    accepted_ends: Mutex<BTreeMap<JobId, u32>>,
}

impl Run {
    async fn finish(&self, store: &dyn JobStore, key: LeaseKey) {
        let answer = store.finish(&[Finish { lease: key, end: done(key) }]).await.expect("the store answers")[0];
        if answer == Fenced::Ok(JobState::Done) {
            *self.accepted_ends.lock().unwrap_or_else(PoisonError::into_inner).entry(key.job).or_default() += 1;
        }
    }

    fn ended(&self) -> usize {
        self.accepted_ends.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Serves one lease, or fails to, in a way that its key alone decides.
    async fn serve(&self, store: &dyn JobStore, leased: &Leased, stalled: &mut Vec<LeaseKey>) {
        let key = leased.key;
        let mood = key
            .job
            .as_bytes()
            .iter()
            .fold(key.epoch, |mood, byte| mood.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        let nack =
            |how: NackHow| async move { store.nack(&[Nack { lease: key, how }]).await.expect("the store answers") };
        match if key.epoch >= SERVED_FROM_EPOCH { 0 } else { mood % 6 } {
            0 => self.finish(store, key).await,
            1 => drop(nack(fail_after(Duration::from_secs(1))).await),
            2 => drop(nack(release_after(Duration::ZERO)).await),
            3 => stalled.push(key),
            4 => {
                self.finish(store, key).await;
                self.finish(store, key).await;
            }
            _ => {} // crashed: never heard of again
        }
    }
}

pub async fn workers_that_crash_and_stall_lose_nothing_and_end_each_job_once(fx: JobStoreFixture) {
    let jobs: Vec<NewJob> = (0..RUN_JOBS).map(|_| NewJob { attempts_max: 99, lost_max: 99, ..new_job() }).collect();
    for batch in jobs.chunks(50) {
        fx.store.enqueue(batch).await.expect("the store answers");
    }
    let run = Arc::new(Run::default());
    let all_ended = {
        let (store, time, run) = (Arc::clone(&fx.store), Arc::clone(&fx.time), Arc::clone(&run));
        tokio::spawn(async move {
            while run.ended() < RUN_JOBS {
                time.advance(Duration::from_secs(7)).await;
                store.maintain(NonZeroU16::MAX).await.expect("the store answers");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
    };
    let workers = together(|n| {
        let (store, run) = (Arc::clone(&fx.store), Arc::clone(&run));
        async move {
            let mut stalled = Vec::new();
            let mut request = 0;
            let started = std::time::Instant::now();
            while run.ended() < RUN_JOBS && started.elapsed().as_secs() < STEP_S_MAX {
                request += 1;
                let batch = store.lease(&want(n, request, 5)).await.expect("the store answers");
                for leased in &batch.jobs {
                    run.serve(store.as_ref(), leased, &mut stalled).await;
                }
                if batch.jobs.is_empty() {
                    store.wait_ready(&[Lane::light()], Duration::from_millis(2)).await;
                }
                // A stalled worker comes back later, mostly with a stale key.
                if stalled.len() > 3 {
                    run.finish(store.as_ref(), stalled.remove(0)).await;
                }
            }
        }
    });
    workers.await;
    bounded("the last job", all_ended).await.expect("maintenance does not panic");

    let ends = run.accepted_ends.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(ends.len(), RUN_JOBS);
    assert!(ends.values().all(|count| *count == 1), "one accepted end for each job: {ends:?}");
    for job in &jobs {
        let head = fx.head(job.id).await;
        assert_eq!((head.state, head.result), (JobState::Done, Some(pointer(job.id))));
    }
}
