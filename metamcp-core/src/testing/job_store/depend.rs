//! Jobs that wait for other jobs: when they go on, and how they end when what they wait for fails.

use std::{num::NonZeroU16, sync::Arc, time::Duration};

use super::fixture::{
    JobStoreFixture, SUITE_LANE_JOBS_MAX, VISIBILITY, bounded, done, error, fail_after, ids, new_job, of_tenant, park,
    sorted,
};
use crate::{
    error::StoreErrorKind,
    id::{JobId, Lane},
    queue::{
        AFTER_MAX, Cancelled, Enqueued, Fenced, Final, JobErrorCode, JobQuery, JobState, LaneCounts, Maintained, NewJob,
    },
    time::Timestamp,
};

/// A job that waits for these.
pub(super) fn child_of(parents: &[JobId]) -> NewJob {
    NewJob { after: parents.to_vec(), ..new_job() }
}

/// The job ended dead because a job it waited for failed, and says which.
async fn failed_for(fx: &JobStoreFixture, child: JobId, parent: JobId) {
    let head = fx.head(child).await;
    let error = head.error.expect("a dead job says why");
    assert_eq!((head.state, error.code, head.waits_on), (JobState::Dead, JobErrorCode::DependencyFailed, vec![]));
    assert!(error.message.contains(&parent.to_string()), "{parent} is named: {error:?}");
    assert!(head.finished_at.is_some() && head.worker.is_none());
}

pub async fn a_child_waits_until_its_parent_is_done(fx: JobStoreFixture) {
    let parent = fx.add_plain().await;
    let child = fx.add(child_of(&[parent])).await;
    let head = fx.head(child).await;
    assert_eq!((head.state, head.after, head.waits_on), (JobState::Waiting, vec![parent], vec![parent]));
    let batch = fx.lease(&fx.want(5)).await;
    assert_eq!((ids(&batch.jobs), batch.next_due), (vec![parent], None), "time alone does not bring the child");
    let counts = fx.counts().await;
    assert_eq!((counts.waiting, counts.leased, counts.ready, counts.delayed), (1, 1, 0, 0));
    let key = batch.jobs[0].key;
    assert_eq!(fx.finish(key, done(key)).await, Fenced::Ok(JobState::Done));
    let head = fx.head(child).await;
    assert_eq!((head.state, head.after, head.waits_on), (JobState::Ready, vec![parent], vec![]));
    assert_eq!(fx.take().await.key.job, child);
    assert_eq!(fx.counts().await.waiting, 0);
}

pub async fn a_child_of_a_done_parent_does_not_wait(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    fx.finish(key, done(key)).await;
    let child = fx.add(child_of(&[key.job])).await;
    let late = fx.add(NewJob { delay: Duration::from_secs(60), ..child_of(&[key.job]) }).await;
    let heads = (fx.head(child).await, fx.head(late).await);
    assert_eq!((heads.0.state, heads.0.waits_on, heads.0.after), (JobState::Ready, vec![], vec![key.job]));
    assert_eq!(heads.1.state, JobState::Delayed);
    assert_eq!(ids(&fx.take_up_to(5).await), [child]);
}

pub async fn a_child_waits_for_every_parent(fx: JobStoreFixture) {
    let before = fx.add_and_take(new_job()).await;
    fx.finish(before, done(before)).await;
    let parents = fx.add_many(3).await;
    let keys: Vec<_> = fx.take_up_to(3).await.iter().map(|leased| leased.key).collect();
    let child = fx.add(child_of(&[parents[2], before.job, parents[0], parents[1]])).await;
    assert_eq!(fx.head(child).await.waits_on, [parents[2], parents[0], parents[1]]);
    fx.finish(keys[0], done(keys[0])).await;
    let head = fx.head(child).await;
    assert_eq!((head.state, head.waits_on), (JobState::Waiting, vec![parents[2], parents[1]]));
    fx.finish(keys[2], done(keys[2])).await;
    assert_eq!(fx.state(child).await, JobState::Waiting);
    assert!(fx.try_take().await.is_none());
    fx.finish(keys[1], done(keys[1])).await;
    assert_eq!(fx.take().await.key.job, child);
}

pub async fn a_child_keeps_its_delay(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    let child = fx.add(NewJob { delay: Duration::from_secs(60), ..child_of(&[key.job]) }).await;
    fx.advance(Duration::from_secs(20)).await;
    fx.finish(key, done(key)).await;
    let head = fx.head(child).await;
    assert_eq!((head.state, head.due_at), (JobState::Delayed, head.created_at + Duration::from_secs(60)));
    fx.advance(Duration::from_secs(30)).await;
    assert!(fx.try_take().await.is_none(), "it is not due");
    fx.advance(Duration::from_secs(11)).await;
    assert_eq!(fx.take().await.key.job, child);
}

pub async fn a_child_takes_its_place_when_it_can_go_on(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    let child = fx.add(NewJob { delay: Duration::from_secs(5), ..child_of(&[key.job]) }).await;
    fx.advance(Duration::from_secs(10)).await;
    let other = fx.add_plain().await;
    fx.advance(Duration::from_secs(10)).await;
    fx.finish(key, done(key)).await;
    assert_eq!(fx.state(child).await, JobState::Ready, "its delay is over");
    assert_eq!(ids(&fx.take_up_to(5).await), [other, child], "it could not go on before the other came");
}

pub async fn a_child_in_one_call_with_its_parent_waits_for_it(fx: JobStoreFixture) {
    let parent = new_job();
    let child = child_of(&[parent.id]);
    let early = child_of(&[parent.id]);
    let batch = [early.clone(), parent.clone(), child.clone()];
    let answers = fx.store.enqueue(&batch).await.expect("the store answers");
    assert_eq!(answers[0], Enqueued::Missing { job: parent.id }, "entries are taken in order");
    assert!(answers[1..].iter().all(|answer| matches!(answer, Enqueued::Ok { .. })), "{answers:?}");
    assert!(fx.try_job(early.id).await.is_none());
    assert_eq!((fx.state(parent.id).await, fx.state(child.id).await), (JobState::Ready, JobState::Waiting));
    let key = fx.take().await.key;
    fx.finish(key, done(key)).await;
    assert_eq!(fx.take().await.key.job, child.id);
}

pub async fn an_unknown_parent_is_missing_and_nothing_stands(fx: JobStoreFixture) {
    let parent = fx.add_plain().await;
    let unknown = JobId::new(Timestamp::from_millis(7));
    let child = NewJob { idempotency_key: Some("k".to_owned()), ..child_of(&[parent, unknown]) };
    let batch = [child.clone(), new_job()];
    let answers = fx.store.enqueue(&batch).await.expect("the store answers");
    assert_eq!(answers[0], Enqueued::Missing { job: unknown });
    assert!(matches!(answers[1], Enqueued::Ok { .. }), "the others are taken");
    assert!(fx.try_job(child.id).await.is_none());
    assert_eq!(fx.store.keyed(&child.owner.tenant, "k").await.expect("the store answers"), None);
    assert_eq!((fx.head(parent).await.users, fx.counts().await.waiting), (0, 0));
    fx.add(NewJob { after: vec![parent], ..child }).await;
}

pub async fn a_parent_of_another_tenant_is_missing(fx: JobStoreFixture) {
    let parent = fx.add(NewJob { owner: of_tenant("other"), ..new_job() }).await;
    let child = child_of(&[parent]);
    assert_eq!(fx.enqueue(&child).await, Enqueued::Missing { job: parent });
    assert!(fx.try_job(child.id).await.is_none());
    assert_eq!(fx.head(parent).await.users, 0);
    fx.add(NewJob { owner: of_tenant("other"), ..child }).await;
}

pub async fn parents_out_of_bounds_are_invalid(fx: JobStoreFixture) {
    let parents = fx.add_many(AFTER_MAX + 1).await;
    let itself = new_job();
    let bad = [
        child_of(&parents),
        child_of(&[parents[0], parents[1], parents[0]]),
        NewJob { after: vec![itself.id], ..itself },
    ];
    for child in bad {
        let refused = fx.store.enqueue(&[new_job(), child]).await.expect_err("out of bounds");
        assert_eq!(refused.kind(), StoreErrorKind::Invalid);
    }
    assert_eq!(fx.counts().await.ready, parents.len() as u64, "nothing was changed");
    let child = fx.add(child_of(&parents[1..])).await;
    assert_eq!(fx.head(child).await.waits_on, parents[1..], "just within the bound");
}

pub async fn a_waiting_job_counts_against_its_lanes_bound(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    let children: Vec<NewJob> = (0..SUITE_LANE_JOBS_MAX).map(|_| child_of(&[key.job])).collect();
    fx.add_all(&children).await;
    assert_eq!(fx.enqueue(&new_job()).await, Enqueued::Full { limit: SUITE_LANE_JOBS_MAX });
    assert_eq!(fx.counts().await.waiting, SUITE_LANE_JOBS_MAX);
}

pub async fn a_failed_parent_ends_its_child_through_maintenance(fx: JobStoreFixture) {
    let key = fx.add_and_take(NewJob { attempts_max: 1, ..new_job() }).await;
    let child = fx.add(child_of(&[key.job])).await;
    assert_eq!(fx.nack(key, fail_after(Duration::ZERO)).await, Fenced::Ok(JobState::Dead));
    assert!(fx.try_take().await.is_none(), "it does not go on");
    assert_eq!(fx.maintain().await.settled, [(child, JobState::Dead)]);
    failed_for(&fx, child, key.job).await;
    let counts = fx.counts().await;
    assert_eq!((counts.dead, counts.waiting), (2, 0));
    assert_eq!(fx.maintain().await, Maintained::default(), "once");
}

pub async fn however_a_parent_fails_its_child_hears_of_it(fx: JobStoreFixture) {
    let mut parents = Vec::new();
    for end in [Final::Dead(error("no")), Final::Cancelled { reason: "enough".to_owned() }] {
        parents.push((fx.add_and_take(new_job()).await, Some(end)));
    }
    let asked = fx.add_and_take(new_job()).await;
    assert_eq!(fx.cancel(asked.job).await, Cancelled::Asked);
    let parked = fx.add_parked().await;
    let lost = fx.add_and_take(NewJob { lost_max: 1, ..new_job() }).await;
    let wished = fx.add_and_take(new_job()).await;
    assert_eq!(fx.cancel(wished.job).await, Cancelled::Asked);
    let cancelled = fx.add_plain().await;
    let late = fx.add(NewJob { deadline: Some(Duration::from_secs(5)), ..new_job() }).await;
    let failing: Vec<JobId> = parents.iter().map(|(key, _)| key.job).collect();
    let failing = [&failing[..], &[asked.job, parked.job, lost.job, wished.job, cancelled, late]].concat();
    let children: Vec<NewJob> = failing.iter().map(|parent| child_of(&[*parent])).collect();
    fx.add_all(&children).await;

    for (key, end) in parents {
        fx.finish(key, end.expect("an end")).await;
    }
    assert_eq!(fx.nack(asked, fail_after(Duration::ZERO)).await, Fenced::Ok(JobState::Cancelled));
    assert_eq!(fx.cancel(cancelled).await, Cancelled::Now);
    // Now the lost leases and the deadline, then the wait for input.
    let mut settled = fx.lose().await.settled;
    fx.advance(Duration::from_secs(60)).await;
    settled.extend(fx.maintain().await.settled);
    let expected: Vec<_> = children.iter().map(|child| (child.id, JobState::Dead)).collect();
    assert_eq!(sorted(settled), expected, "each is told once");
    for (child, parent) in children.iter().zip(failing) {
        failed_for(&fx, child.id, parent).await;
    }
}

pub async fn a_child_of_a_parent_that_failed_before_is_taken_in_and_ends_dead(fx: JobStoreFixture) {
    let dead = fx.add_dead().await.job;
    let cancelled = fx.add_plain().await;
    assert_eq!(fx.cancel(cancelled).await, Cancelled::Now);
    let children = [fx.add(child_of(&[dead])).await, fx.add(child_of(&[cancelled])).await];
    assert_eq!(fx.state(children[0]).await, JobState::Waiting);
    let settled = sorted(fx.maintain().await.settled);
    assert_eq!(settled, children.map(|child| (child, JobState::Dead)));
    failed_for(&fx, children[0], dead).await;
    failed_for(&fx, children[1], cancelled).await;
}

pub async fn a_failure_goes_down_the_whole_chain(fx: JobStoreFixture) {
    let first = fx.add_plain().await;
    let second = fx.add(child_of(&[first])).await;
    let third = fx.add(child_of(&[second])).await;
    let fourth = fx.add(child_of(&[first, third])).await;
    assert_eq!(fx.cancel(first).await, Cancelled::Now);
    let settled = sorted(fx.maintain().await.settled);
    assert_eq!(settled, [second, third, fourth].map(|child| (child, JobState::Dead)), "each once");
    failed_for(&fx, second, first).await;
    failed_for(&fx, third, second).await;
    assert!(fx.try_take().await.is_none());
}

pub async fn what_comes_of_the_other_parents_of_a_dead_child_changes_nothing(fx: JobStoreFixture) {
    let keys = [fx.add_and_take(new_job()).await, fx.add_and_take(new_job()).await];
    let child = fx.add(child_of(&[keys[0].job, keys[1].job])).await;
    fx.finish(keys[0], Final::Dead(error("no"))).await;
    assert_eq!(fx.maintain().await.settled, [(child, JobState::Dead)]);
    let before = fx.head(child).await;
    fx.finish(keys[1], done(keys[1])).await;
    assert_eq!(fx.maintain().await, Maintained::default());
    assert_eq!(fx.head(child).await, before);
}

pub async fn settling_keeps_within_the_budget(fx: JobStoreFixture) {
    let parent = fx.add_plain().await;
    let children = fx.add_all(&[0; 5].map(|_| child_of(&[parent]))).await;
    assert_eq!(fx.cancel(parent).await, Cancelled::Now);
    let two = NonZeroU16::new(2).expect("not zero");
    let round = fx.store.maintain(two).await.expect("the store answers");
    assert_eq!((round.settled.len(), round.moves()), (2, 2));
    let settled = [round.settled, fx.maintain().await.settled].concat();
    assert_eq!(sorted(settled), children.iter().map(|child| (*child, JobState::Dead)).collect::<Vec<_>>());
}

pub async fn many_children_all_go_on(fx: JobStoreFixture) {
    let keys = [fx.add_and_take(new_job()).await, fx.add_and_take(new_job()).await];
    let children: Vec<NewJob> = (0..50).map(|_| child_of(&[keys[0].job, keys[1].job])).collect();
    let children = fx.add_all(&children).await;

    fx.finish(keys[0], done(keys[0])).await;
    let told = fx.maintain().await.settled;
    assert!(told.iter().all(|(_, state)| *state == JobState::Waiting), "{told:?}");
    let waiting = JobQuery { states: vec![JobState::Waiting], ..JobQuery::default() };
    let waiting = fx.store.list(&waiting).await.expect("the store answers").jobs;
    assert_eq!(waiting.len(), children.len());
    assert!(waiting.iter().all(|job| job.head.waits_on == [keys[1].job]), "one is left for each");

    fx.finish(keys[1], done(keys[1])).await;
    let told = fx.maintain().await.settled;
    assert!(told.iter().all(|(child, state)| *state == JobState::Ready && children.contains(child)), "{told:?}");
    assert_eq!(fx.counts().await.waiting, 0);
    assert_eq!(sorted(ids(&fx.take_up_to(100).await)), children);
}

pub async fn a_waiting_job_is_cancelled_at_once(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    let child = fx.add(child_of(&[key.job])).await;
    assert_eq!(fx.cancel(child).await, Cancelled::Now);
    let head = fx.head(child).await;
    assert_eq!((head.state, head.waits_on.len()), (JobState::Cancelled, 0));
    fx.finish(key, done(key)).await;
    assert_eq!(fx.maintain().await, Maintained::default());
    assert_eq!((fx.head(child).await, fx.counts().await), (head, LaneCounts::default()));
}

pub async fn a_waiting_job_past_its_deadline_ends(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    let child = fx.add(NewJob { deadline: Some(Duration::from_secs(10)), ..child_of(&[key.job]) }).await;
    let grandchild = fx.add(child_of(&[child])).await;
    fx.advance(Duration::from_secs(11)).await;
    let done_by_time = fx.maintain().await;
    assert_eq!((done_by_time.expired, done_by_time.settled), (vec![child], vec![(grandchild, JobState::Dead)]));
    let head = fx.head(child).await;
    let code = head.error.map(|error| error.code);
    assert_eq!((head.state, code), (JobState::Dead, Some(JobErrorCode::DeadlineExceeded)));
    fx.finish(key, done(key)).await;
    assert_eq!(fx.maintain().await, Maintained::default());
    assert!(fx.try_take().await.is_none());
}

pub async fn a_parent_that_takes_several_attempts_is_waited_for(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    let child = fx.add(child_of(&[key.job])).await;
    fx.nack(key, fail_after(Duration::ZERO)).await;
    fx.take().await;
    fx.lose().await;
    let key = fx.take().await.key;
    fx.nack(key, park()).await;
    assert!(fx.maintain().await.settled.is_empty(), "it has not ended");
    let answer = crate::queue::Answer { responses: "{}".to_owned() };
    fx.store.answer(key.job, answer).await.expect("the store answers");
    let key = fx.take().await.key;
    assert_eq!((key.job == child, fx.state(child).await), (false, JobState::Waiting));
    fx.finish(key, done(key)).await;
    assert_eq!(fx.take().await.key.job, child);
}

pub async fn waiting_for_work_ends_when_a_parent_is_done(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    let child = fx.add(NewJob { lane: Lane::heavy(), ..child_of(&[key.job]) }).await;
    let store = Arc::clone(&fx.store);
    let waits = tokio::spawn(async move { store.wait_ready(&[Lane::heavy()], Duration::from_secs(3_600)).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waits.is_finished(), "nothing is ready");
    fx.finish(key, done(key)).await;
    bounded("the wake-up", waits).await.expect("the wait does not panic");
    assert_eq!(fx.state(child).await, JobState::Ready);
}

pub async fn a_lost_parent_keeps_its_child_waiting_until_it_is_given_up(fx: JobStoreFixture) {
    let parent = fx.add(NewJob { lost_max: 2, ..new_job() }).await;
    let child = fx.add(child_of(&[parent])).await;
    fx.take().await;
    let lost = fx.lose().await;
    assert_eq!((lost.reclaimed, lost.settled), (vec![(parent, JobState::Ready)], vec![]));
    assert_eq!(fx.state(child).await, JobState::Waiting);
    fx.take().await;
    fx.advance(VISIBILITY * 2).await;
    let lost = fx.maintain().await;
    assert_eq!((lost.reclaimed, lost.settled), (vec![(parent, JobState::Dead)], vec![(child, JobState::Dead)]));
    failed_for(&fx, child, parent).await;
}
