//! How a lease ends without an end of its job: failed, released, parked; and how a parked or dead job goes on.

use std::time::Duration;

use super::fixture::{JobStoreFixture, checkpoint, done, error, fail_after, new_job, park, release_after};
use crate::{
    id::JobId,
    queue::{Answer, Answered, Fenced, Final, JobErrorCode, JobState, LeaseEnd, NackHow, NewJob, Redriven},
};

fn yes() -> Answer {
    Answer { responses: r#"{"q1":{"action":"accept"}}"#.to_owned() }
}

async fn answer(fx: &JobStoreFixture, id: JobId) -> Answered {
    fx.store.answer(id, yes()).await.expect("the store answers")
}

pub async fn a_failed_attempt_counts_and_comes_back_after_its_delay(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    let how = NackHow::Fail { delay: Duration::from_secs(10), candidate: 2, error: error("busy") };
    assert_eq!(fx.nack(key, how).await, Fenced::Ok(JobState::Delayed));
    let head = fx.head(key.job).await;
    assert_eq!((head.attempts, head.lost, head.candidate, head.error), (1, 0, 2, Some(error("busy"))));
    assert_eq!((head.worker, head.lease_end), (None, Some(LeaseEnd::Failed)));
    assert!(fx.try_take().await.is_none(), "not before its delay");
    fx.advance(Duration::from_secs(11)).await;
    assert_eq!(fx.take().await.job.head.candidate, 2);
}

pub async fn a_job_given_back_without_delay_is_ready(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    assert_eq!(fx.nack(key, fail_after(Duration::ZERO)).await, Fenced::Ok(JobState::Ready));
    assert_eq!(fx.take().await.key.job, key.job);
}

pub async fn used_up_attempts_end_the_job_with_the_last_error(fx: JobStoreFixture) {
    fx.add(NewJob { attempts_max: 2, ..new_job() }).await;
    let first = fx.take().await.key;
    assert_eq!(fx.nack(first, fail_after(Duration::ZERO)).await, Fenced::Ok(JobState::Ready));
    let last = fx.take().await.key;
    let how = NackHow::Fail { delay: Duration::from_secs(5), candidate: 0, error: error("still no") };
    assert_eq!(fx.nack(last, how).await, Fenced::Ok(JobState::Dead));
    let head = fx.head(last.job).await;
    assert_eq!((head.attempts, head.error), (2, Some(error("still no"))));
    assert!(head.finished_at.is_some());
    assert_eq!(fx.counts().await.dead, 1);
}

pub async fn a_failed_attempt_keeps_checkpoint_and_answer_for_the_same_candidate(fx: JobStoreFixture) {
    let key = fx.add_parked().await;
    answer(&fx, key.job).await;
    let next = fx.take().await.key;
    fx.nack(next, fail_after(Duration::ZERO)).await;
    let head = fx.head(key.job).await;
    assert_eq!(
        (head.checkpoint, head.answer),
        (Some(checkpoint("parked")), Some(yes())),
        "a begun call is gone on with"
    );
}

pub async fn a_failed_attempt_drops_checkpoint_and_answer_for_another_candidate(fx: JobStoreFixture) {
    let key = fx.add_parked().await;
    answer(&fx, key.job).await;
    let next = fx.take().await.key;
    let how = NackHow::Fail { delay: Duration::ZERO, candidate: 1, error: error("gone") };
    fx.nack(next, how).await;
    let head = fx.head(key.job).await;
    assert_eq!((head.candidate, head.checkpoint, head.answer), (1, None, None));
}

pub async fn a_failed_attempt_does_not_undo_what_an_earlier_lease_may_have_done(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    fx.lose().await;
    let next = fx.take().await.key;
    fx.nack(next, fail_after(Duration::ZERO)).await;
    assert!(fx.head(key.job).await.maybe_called);
}

pub async fn a_release_counts_nothing_and_keeps_the_checkpoint(fx: JobStoreFixture) {
    fx.add(NewJob { attempts_max: 1, lost_max: 1, ..new_job() }).await;
    for _ in 0..5 {
        let key = fx.take().await.key;
        fx.save(key, "remote task 7").await;
        assert_eq!(fx.nack(key, release_after(Duration::from_secs(2))).await, Fenced::Ok(JobState::Delayed));
        fx.advance(Duration::from_secs(3)).await;
    }
    let head = fx.take().await.job.head;
    assert_eq!((head.attempts, head.lost, head.epoch), (0, 0, 6));
    assert_eq!(head.checkpoint, Some(checkpoint("remote task 7")));
}

pub async fn a_release_says_whether_the_call_may_have_happened(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    fx.nack(key, NackHow::Release { delay: Duration::ZERO, maybe_called: true }).await;
    let next = fx.take().await;
    assert!(next.job.head.maybe_called);
    fx.nack(next.key, release_after(Duration::ZERO)).await;
    assert!(!fx.take().await.job.head.maybe_called);
}

pub async fn a_move_goes_to_another_candidate_and_counts_nothing(fx: JobStoreFixture) {
    let key = fx.add_and_take(NewJob { attempts_max: 1, lost_max: 1, ..new_job() }).await;
    fx.nack(key, NackHow::Release { delay: Duration::ZERO, maybe_called: true }).await;
    for candidate in [2, 2, 0] {
        let key = fx.take().await.key;
        fx.save(key, "remote task 7").await;
        assert_eq!(fx.nack(key, NackHow::Move { candidate }).await, Fenced::Ok(JobState::Ready));
        assert_eq!(fx.nack(key, NackHow::Move { candidate }).await, Fenced::OkAgain(JobState::Ready));
        let head = fx.head(key.job).await;
        assert_eq!((head.candidate, head.attempts, head.lost), (candidate, 0, 0));
        assert_eq!((head.worker, head.lease_end), (None, Some(LeaseEnd::Released)));
    }
    let kept = fx.take().await;
    fx.save(kept.key, "remote task 8").await;
    fx.nack(kept.key, NackHow::Move { candidate: 0 }).await;
    assert_eq!(fx.take().await.job.head.checkpoint, Some(checkpoint("remote task 8")), "the same one knows it");
}

pub async fn the_same_nack_again_is_ok_again_until_the_next_lease(fx: JobStoreFixture) {
    let hows = [fail_after(Duration::ZERO), release_after(Duration::from_secs(5)), park()];
    for how in hows {
        let key = fx.add_and_take(new_job()).await;
        let Fenced::Ok(state) = fx.nack(key, how.clone()).await else { panic!("the first is well") };
        let after = fx.head(key.job).await;
        assert_eq!(fx.nack(key, how.clone()).await, Fenced::OkAgain(state));
        assert_eq!(fx.head(key.job).await, after, "the second changes nothing");
        if state == JobState::Input {
            answer(&fx, key.job).await;
        }
        fx.advance(Duration::from_secs(6)).await;
        let next = fx.take().await.key;
        assert_eq!(fx.nack(key, how).await, Fenced::Stale);
        fx.finish(next, done(next)).await;
    }
}

pub async fn a_fatal_nack_again_is_ok_again(fx: JobStoreFixture) {
    let key = fx.add_dead().await;
    assert_eq!(fx.nack(key, fail_after(Duration::ZERO)).await, Fenced::OkAgain(JobState::Dead));
    assert_eq!(fx.head(key.job).await.attempts, 1, "it counted once");
}

pub async fn another_nack_after_a_nack_is_stale(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    fx.nack(key, release_after(Duration::ZERO)).await;
    assert_eq!(fx.nack(key, fail_after(Duration::ZERO)).await, Fenced::Stale);
    assert_eq!(fx.finish(key, done(key)).await, Fenced::Stale);
    assert_eq!(fx.head(key.job).await.attempts, 0);
}

pub async fn a_parked_job_holds_no_worker_and_tells_its_questions(fx: JobStoreFixture) {
    let key = fx.add_parked().await;
    let head = fx.head(key.job).await;
    assert_eq!((head.state, head.worker, head.lease_until), (JobState::Input, None, None));
    assert_eq!(head.requests.len(), 1);
    assert_eq!(head.requests[0].key, "q1");
    assert_eq!(head.checkpoint, Some(checkpoint("parked")));
    assert!(head.input_until.is_some());
    assert!(fx.try_take().await.is_none(), "nobody can lease it");
    assert_eq!(fx.counts().await.input, 1);
}

pub async fn an_answer_makes_the_job_ready_and_comes_with_its_lease(fx: JobStoreFixture) {
    let key = fx.add_parked().await;
    assert_eq!(answer(&fx, key.job).await, Answered::Ok);
    let head = fx.take().await.job.head;
    assert_eq!((head.id, head.answer, head.checkpoint), (key.job, Some(yes()), Some(checkpoint("parked"))));
    assert!(head.requests.is_empty() && head.input_until.is_none());
    assert_eq!((head.attempts, head.lost), (0, 0));
}

pub async fn the_same_answer_again_is_well(fx: JobStoreFixture) {
    let key = fx.add_parked().await;
    assert_eq!(answer(&fx, key.job).await, Answered::Ok);
    assert_eq!(answer(&fx, key.job).await, Answered::Ok);
    let other = Answer { responses: "{}".to_owned() };
    let refused = fx.store.answer(key.job, other).await.expect("the store answers");
    assert_eq!(refused, Answered::NotWaiting(JobState::Ready));
    assert_eq!(fx.head(key.job).await.answer, Some(yes()), "the first one stands");
}

pub async fn an_answer_is_gone_when_the_next_call_is_over(fx: JobStoreFixture) {
    let key = fx.add_parked().await;
    answer(&fx, key.job).await;
    let next = fx.take().await.key;
    fx.nack(next, release_after(Duration::ZERO)).await;
    let next = fx.take().await;
    assert_eq!(next.job.head.answer, Some(yes()), "a release is no call");
    fx.save(next.key, "two").await;
    assert_eq!(fx.head(key.job).await.answer, None);
}

pub async fn an_answer_nobody_waits_for_is_refused(fx: JobStoreFixture) {
    let id = fx.add_plain().await;
    assert_eq!(answer(&fx, id).await, Answered::NotWaiting(JobState::Ready));
    let key = fx.take().await.key;
    assert_eq!(answer(&fx, id).await, Answered::NotWaiting(JobState::Leased));
    fx.finish(key, done(key)).await;
    assert_eq!(answer(&fx, id).await, Answered::NotWaiting(JobState::Done));
    assert_eq!(answer(&fx, JobId::MIN).await, Answered::Gone);
}

pub async fn an_answer_that_never_comes_ends_the_job(fx: JobStoreFixture) {
    let key = fx.add_parked().await;
    fx.advance(Duration::from_secs(30)).await;
    assert!(fx.maintain().await.expired.is_empty());
    fx.advance(Duration::from_secs(31)).await;
    assert_eq!(fx.maintain().await.expired, [key.job]);
    let head = fx.head(key.job).await;
    assert_eq!((head.state, head.error.map(|error| error.code)), (JobState::Dead, Some(JobErrorCode::InputExpired)));
    assert_eq!(answer(&fx, key.job).await, Answered::NotWaiting(JobState::Dead));
}

pub async fn a_job_may_be_parked_again(fx: JobStoreFixture) {
    let key = fx.add_parked().await;
    answer(&fx, key.job).await;
    let next = fx.take().await.key;
    assert_eq!(fx.nack(next, park()).await, Fenced::Ok(JobState::Input));
    assert_eq!(fx.head(key.job).await.answer, None, "the old answer is used up");
    assert_eq!(answer(&fx, key.job).await, Answered::Ok);
}

pub async fn a_redriven_job_starts_over(fx: JobStoreFixture) {
    let key = fx.add_and_take(NewJob { attempts_max: 1, ..new_job() }).await;
    fx.save(key, "one").await;
    let how = NackHow::Fail { delay: Duration::ZERO, candidate: 3, error: error("no") };
    assert_eq!(fx.nack(key, how).await, Fenced::Ok(JobState::Dead));
    assert_eq!(fx.redrive(key.job).await, Redriven::Ok);
    let head = fx.head(key.job).await;
    assert_eq!((head.state, head.attempts, head.lost, head.candidate), (JobState::Ready, 0, 0, 0));
    assert_eq!((head.finished_at, head.checkpoint, head.maybe_called), (None, None, false));
    assert_eq!(head.error, Some(error("no")), "until the next outcome");
    let next = fx.take().await.key;
    assert_eq!((next.job, next.epoch), (key.job, key.epoch + 1), "epochs go on");
    assert_eq!(fx.finish(key, done(key)).await, Fenced::Stale);
    assert_eq!(fx.finish(next, done(next)).await, Fenced::Ok(JobState::Done));
    assert_eq!(fx.head(key.job).await.error, None);
}

pub async fn an_end_that_a_redrive_undid_is_stale(fx: JobStoreFixture) {
    let key = fx.add_and_take(new_job()).await;
    assert_eq!(fx.finish(key, Final::Dead(error("no"))).await, Fenced::Ok(JobState::Dead));
    fx.redrive(key.job).await;
    assert_eq!(fx.finish(key, Final::Dead(error("no"))).await, Fenced::Stale);
    fx.store.cancel(key.job, "enough").await.expect("the store answers");
    let end = Final::Cancelled { reason: "enough".to_owned() };
    assert_eq!(fx.finish(key, end).await, Fenced::Stale, "it ended so, but not by this lease");
}

pub async fn only_dead_jobs_are_redriven(fx: JobStoreFixture) {
    let id = fx.add_plain().await;
    assert_eq!(fx.redrive(id).await, Redriven::NotDead(JobState::Ready));
    let key = fx.take().await.key;
    assert_eq!(fx.redrive(id).await, Redriven::NotDead(JobState::Leased));
    fx.finish(key, done(key)).await;
    assert_eq!(fx.redrive(id).await, Redriven::NotDead(JobState::Done));
    assert_eq!(fx.redrive(JobId::MIN).await, Redriven::Gone);
}

pub async fn a_job_that_missed_its_deadline_gets_a_new_one_when_it_is_redriven(fx: JobStoreFixture) {
    let id = fx.add(NewJob { deadline: Some(Duration::from_secs(10)), ..new_job() }).await;
    fx.advance(Duration::from_secs(20)).await;
    fx.maintain().await;
    assert_eq!(fx.redrive(id).await, Redriven::Ok);
    assert_eq!(fx.take().await.key.job, id, "it is not late again at once");
}

pub async fn each_redrive_gives_the_same_time_again(fx: JobStoreFixture) {
    let span = Duration::from_secs(10);
    let id = fx.add(NewJob { deadline: Some(span), ..new_job() }).await;
    for _ in 0..3 {
        fx.advance(Duration::from_secs(100)).await;
        assert_eq!(fx.maintain().await.expired, [id]);
        assert_eq!(fx.redrive(id).await, Redriven::Ok);
        let head = fx.head(id).await;
        assert_eq!(head.deadline_at, Some(head.updated_at + span));
    }
}
