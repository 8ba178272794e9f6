//! The one place where it is decided what happens to a job next. Pure: what is known goes in, the next step comes out.
//!
//! A call may be made again when it never left, or when the tool declares that a repetition does no harm. Anything else that may have
//! happened becomes `outcome_unknown` and is told, never replayed.

use std::time::Duration;

use super::{choice::two_of, policy::Policy};
use crate::{
    matching::{Annotations, Candidate, Route},
    queue::{Final, Job, JobError, JobErrorCode, NackHow},
    time::Timestamp,
    transport::{Delivered, Resume, TransportError, TransportErrorKind},
};

/// What to do with a job that was just leased.
#[derive(Debug, Clone, PartialEq)]
pub enum Start {
    /// Call its tool.
    Call,
    /// Go on with a call that was begun.
    Resume(Resume),
    /// It is over.
    End(Final),
}

/// How a lease ends.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// With the job.
    Finish(Final),
    /// With the job back in the queue.
    Nack(NackHow),
}

/// What a job that was just leased needs. `annotations` are those of its current candidate, as the server declares them now.
#[must_use]
pub fn start(job: &Job, annotations: Annotations, now: Timestamp) -> Start {
    let head = &job.head;
    if let Some(end) = over(job, annotations, now) {
        return Start::End(end);
    }
    let replay_safe = replay_is_safe(job, annotations);
    if head.checkpoint.is_some() && (replay_safe || !head.maybe_called) {
        return Start::Resume(head.answer.clone().map_or(Resume::Poll, Resume::Answer));
    }
    if head.maybe_called && !replay_safe {
        let lost = JobError::new(JobErrorCode::Lost, "the worker was lost during the call");
        return Start::End(Final::Dead(told(job, annotations, lost)));
    }
    Start::Call
}

/// Why a leased job needs no call any more: its owner's wish, or its deadline.
#[must_use]
pub fn over(job: &Job, annotations: Annotations, now: Timestamp) -> Option<Final> {
    if let Some(reason) = &job.head.cancel_reason {
        return Some(Final::Cancelled { reason: reason.clone() });
    }
    let passed = job.head.deadline_at.is_some_and(|deadline| deadline <= now);
    passed.then(|| Final::Dead(told(job, annotations, deadline_exceeded())))
}

/// Whether a failed call may be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// It does no harm.
    May,
    /// It would fail again, or its answer is the answer.
    MustNot,
    /// It may have happened and may do harm a second time: told, never replayed.
    Unknown,
}

/// Whether a failed call may be made again; `replay_safe`: the tool declares that a repetition does no harm.
#[must_use]
pub fn repeat(error: &TransportError, replay_safe: bool) -> Repeat {
    let may = match error.delivered {
        Delivered::No => !matches!(error.kind, TransportErrorKind::Invalid),
        Delivered::Maybe if matches!(error.kind, TransportErrorKind::TooLarge) => false,
        Delivered::Maybe if !replay_safe => return Repeat::Unknown,
        Delivered::Maybe => true,
        Delivered::Yes => error.kind == TransportErrorKind::Busy,
    };
    if may { Repeat::May } else { Repeat::MustNot }
}

/// What a failed call leads to. `jitter` is uniform in 0 to 1.
#[must_use]
pub fn failed(job: &Job, error: &TransportError, annotations: Annotations, policy: &Policy, jitter: f64) -> Ending {
    let failure = JobError::new(code_of(error), error.to_string());
    let may_repeat = match repeat(error, replay_is_safe(job, annotations)) {
        Repeat::May => true,
        Repeat::MustNot => false,
        Repeat::Unknown => {
            let message =
                format!("{error}; the call may have happened and the tool does not declare that repeating it is safe");
            return Ending::Finish(Final::Dead(JobError::new(JobErrorCode::OutcomeUnknown, message)));
        }
    };
    let failure = told(job, annotations, failure);
    if !may_repeat {
        return Ending::Finish(Final::Dead(failure));
    }
    let untouched = error.delivered != Delivered::Maybe && !job.head.maybe_called;
    let elsewhere = untouched || annotations.read_only_hint == Some(true);
    retry(job, failure, error.retry_after, elsewhere, policy, jitter)
}

/// The next attempt: at once on an equivalent candidate if that does no harm, else on the same one after a backoff with full jitter.
///
/// `idempotentHint` makes a repetition safe on the same server only: on another one it would be a second effect.
fn retry(
    job: &Job,
    error: JobError,
    at_least: Option<Duration>,
    elsewhere: bool,
    policy: &Policy,
    jitter: f64,
) -> Ending {
    let current = job.head.candidate;
    // A call that was begun is known to its own server only.
    let elsewhere = elsewhere && job.head.checkpoint.is_none();
    let (candidate, delay) = match next_equivalent(&job.body.route, current) {
        Some(next) if elsewhere => (next, Duration::ZERO),
        _ => {
            let ceiling = policy.backoff_ceiling(job.head.attempts + 1);
            let back = if elsewhere { first_equivalent(&job.body.route, current) } else { current };
            (back, ceiling.mul_f64(jitter.clamp(0.0, 1.0)).max(at_least.unwrap_or_default()))
        }
    };
    Ending::Nack(NackHow::Fail { delay, candidate, error })
}

/// The failure as its owner is told it: when an earlier call may have happened and must not be repeated, that is what counts.
#[must_use]
pub fn told(job: &Job, annotations: Annotations, failure: JobError) -> JobError {
    if !job.head.maybe_called || replay_is_safe(job, annotations) {
        return failure;
    }
    let message = format!(
        "a call may have happened and the tool does not declare that repeating it is safe; check its effect, then retry the task if \
         it is wanted ({})",
        failure.message
    );
    JobError::new(JobErrorCode::OutcomeUnknown, message)
}

/// What a job that a drain cuts off leads to: the attempt is given back.
#[must_use]
pub fn drained(job: &Job, call_was_made: bool) -> Ending {
    Ending::Nack(NackHow::Release { delay: Duration::ZERO, maybe_called: call_was_made || job.head.maybe_called })
}

/// What a job leads to whose call could not even begin, for want of a slot or a store: it is given back for a while.
#[must_use]
pub fn not_begun(job: &Job, pause: Duration) -> Ending {
    Ending::Nack(NackHow::Release { delay: pause, maybe_called: job.head.maybe_called })
}

/// What a tool leads to that its server no longer offers: an equivalent one if there is one, else the end.
#[must_use]
pub fn tool_gone(job: &Job, why: &str, annotations: Annotations, policy: &Policy) -> Ending {
    let error = told(job, annotations, JobError::new(JobErrorCode::ToolGone, why));
    match next_equivalent(&job.body.route, job.head.candidate) {
        Some(_) if job.head.checkpoint.is_none() && !job.head.maybe_called => {
            retry(job, error, None, true, policy, 0.0)
        }
        _ => Ending::Finish(Final::Dead(error)),
    }
}

/// The error of a job whose time is over.
#[must_use]
pub fn deadline_exceeded() -> JobError {
    JobError::new(JobErrorCode::DeadlineExceeded, "the deadline passed before the task was done")
}

/// Whether what comes next may happen twice: the tool says so, or there is only a remote task to be polled.
fn replay_is_safe(job: &Job, annotations: Annotations) -> bool {
    annotations.replay_is_safe() || job.head.checkpoint.as_ref().is_some_and(|at| at.replay_safe)
}

/// Most leases of a job after which it may still be moved: bounds how often it goes from one to another.
const MOVED_LEASES_MAX: u64 = 32;
/// A job is moved when a call would cost this many times as much where it is as elsewhere, and so much more, in milliseconds: a move costs a
/// turn in the queue.
const MOVE_TIMES_MIN: f64 = 2.0;
const MOVE_MS_MIN: f64 = 100.0;

/// The candidate that a leased job is better served by than by its current one: with a clear difference, and only when nothing was called for it
/// yet. `cost_ms` is what a call would cost, in milliseconds of waiting; `None` for a candidate that cannot be taken now. Of two that `draw`
/// picks the cheaper one is compared.
#[must_use]
pub fn moved(job: &Job, cost_ms: &dyn Fn(&Candidate) -> Option<f64>, draw: u64) -> Option<u16> {
    let head = &job.head;
    if head.maybe_called || head.checkpoint.is_some() || head.epoch > MOVED_LEASES_MAX {
        return None;
    }
    let candidates = &job.body.route.candidates;
    let here = candidates.get(usize::from(head.candidate))?;
    let others: Vec<(usize, f64)> = candidates
        .iter()
        .enumerate()
        // In another lane it would count among jobs that it does not wait with.
        .filter(|(at, c)| *at != usize::from(head.candidate) && c.is_equivalent_to(here) && c.lane == here.lane)
        .filter_map(|(at, candidate)| Some((at, cost_ms(candidate)?)))
        .collect();
    let (at, cost) = match two_of(others.len(), draw) {
        Some((one, other)) if others[other].1 < others[one].1 => others[other],
        Some((one, _)) => others[one],
        None => *others.first()?,
    };
    let stays = cost_ms(here).is_some_and(|here| here <= MOVE_TIMES_MIN * cost + MOVE_MS_MIN);
    if stays { None } else { u16::try_from(at).ok() }
}

fn next_equivalent(route: &Route, current: u16) -> Option<u16> {
    let here = route.candidates.get(usize::from(current))?;
    (usize::from(current) + 1..route.candidates.len())
        .find(|&at| route.candidates[at].is_equivalent_to(here))
        .and_then(|at| u16::try_from(at).ok())
}

fn first_equivalent(route: &Route, current: u16) -> u16 {
    let Some(here) = route.candidates.get(usize::from(current)) else { return current };
    route
        .candidates
        .iter()
        .position(|c| c.is_equivalent_to(here))
        .and_then(|at| u16::try_from(at).ok())
        .unwrap_or(current)
}

fn code_of(error: &TransportError) -> JobErrorCode {
    match error.kind {
        TransportErrorKind::Connect
        | TransportErrorKind::Closed
        | TransportErrorKind::Timeout
        | TransportErrorKind::Busy => JobErrorCode::ServerUnavailable,
        TransportErrorKind::Protocol => JobErrorCode::ProtocolViolation,
        TransportErrorKind::TooLarge => JobErrorCode::TooLarge,
        TransportErrorKind::Rejected { .. } | TransportErrorKind::Invalid => JobErrorCode::ServerError,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        auth::Principal,
        id::{JobId, Lane},
        pointer::Digest,
        queue::{Checkpoint, JobBody, JobHead, JobState},
        task::{Need, TaskRecord},
    };

    fn job(definitions: &[&str]) -> Job {
        let candidates = definitions
            .iter()
            .enumerate()
            .map(|(at, definition)| Candidate {
                capability: format!("s{at}/t").parse().unwrap(),
                score: 1.0,
                reasons: Vec::new(),
                lane: None,
                definition: Digest::of(definition.as_bytes()),
                group: None,
            })
            .collect();
        let now = Timestamp::from_millis(1_000);
        let head = JobHead {
            id: JobId::new(now),
            owner: Principal::local(),
            lane: Lane::light(),
            priority: 0,
            state: JobState::Leased,
            created_at: now,
            updated_at: now,
            due_at: now,
            started_at: None,
            finished_at: None,
            deadline: None,
            deadline_at: None,
            retain: Duration::ZERO,
            attempts: 0,
            attempts_max: 4,
            lost: 0,
            lost_max: 3,
            epoch: 1,
            nonce: 1,
            worker: None,
            lease_until: None,
            lease_end: None,
            maybe_called: false,
            cancel_reason: None,
            candidate: 0,
            checkpoint: None,
            requests: Vec::new(),
            answer: None,
            input_until: None,
            progress: None,
            result: None,
            error: None,
            idempotency_key: None,
            request_digest: Digest::of(b""),
            after: Vec::new(),
            waits_on: Vec::new(),
            users: 0,
            concurrency: None,
            blocked: false,
            rate: None,
            admitted: false,
            cached_from: None,
        };
        let task = TaskRecord { need: Need::default(), labels: Default::default(), cache: None };
        Job { head, body: Arc::new(JobBody { task, route: Route { candidates, rejected: Vec::new() } }) }
    }

    const SAFE: Annotations = Annotations {
        read_only_hint: Some(true),
        destructive_hint: None,
        idempotent_hint: None,
        open_world_hint: None,
    };

    fn error(kind: TransportErrorKind, delivered: Delivered) -> TransportError {
        TransportError::new(kind, delivered, "broken")
    }

    fn is_dead(ending: &Ending, code: JobErrorCode) -> bool {
        matches!(ending, Ending::Finish(Final::Dead(e)) if e.code == code)
    }

    #[test]
    fn a_call_that_may_have_happened_is_repeated_only_when_the_tool_says_it_is_safe() {
        let (job, policy) = (job(&["a"]), Policy::default());
        let cut = error(TransportErrorKind::Closed, Delivered::Maybe);
        assert!(is_dead(&failed(&job, &cut, Annotations::default(), &policy, 0.5), JobErrorCode::OutcomeUnknown));
        assert!(matches!(failed(&job, &cut, SAFE, &policy, 0.5), Ending::Nack(NackHow::Fail { .. })));
        let unsent = error(TransportErrorKind::Connect, Delivered::No);
        assert!(matches!(
            failed(&job, &unsent, Annotations::default(), &policy, 0.5),
            Ending::Nack(NackHow::Fail { .. })
        ));
        let refused = error(TransportErrorKind::Rejected { code: -32602 }, Delivered::Yes);
        assert!(is_dead(&failed(&job, &refused, SAFE, &policy, 0.5), JobErrorCode::ServerError));
    }

    #[test]
    fn backoff_doubles_is_capped_and_jitters_over_its_whole_width() {
        let (mut job, policy) = (job(&["a"]), Policy::default());
        let unsent = error(TransportErrorKind::Connect, Delivered::No);
        let delay = |job: &Job, jitter| match failed(job, &unsent, SAFE, &policy, jitter) {
            Ending::Nack(NackHow::Fail { delay, .. }) => delay,
            other => panic!("{other:?}"),
        };
        assert_eq!(delay(&job, 1.0), Duration::from_secs(1));
        assert_eq!(delay(&job, 0.0), Duration::ZERO);
        job.head.attempts = 2;
        assert_eq!(delay(&job, 1.0), Duration::from_secs(4));
        job.head.attempts = 40;
        assert_eq!(delay(&job, 1.0), policy.backoff_max);
        let wait = Duration::from_secs(90);
        let busy = error(TransportErrorKind::Busy, Delivered::Yes).with_retry_after(Some(wait));
        let ending = failed(&job, &busy, Annotations::default(), &policy, 0.0);
        assert!(matches!(ending, Ending::Nack(NackHow::Fail { delay, .. }) if delay == wait));
    }

    #[test]
    fn failover_goes_to_the_next_equivalent_and_round_again_after_a_pause() {
        let (mut job, policy) = (job(&["a", "b", "a"]), Policy::default());
        let unsent = error(TransportErrorKind::Connect, Delivered::No);
        let step = |job: &Job| match failed(job, &unsent, SAFE, &policy, 1.0) {
            Ending::Nack(NackHow::Fail { candidate, delay, .. }) => (candidate, delay.is_zero()),
            other => panic!("{other:?}"),
        };
        assert_eq!(step(&job), (2, true));
        job.head.candidate = 2;
        assert_eq!(step(&job), (0, false));
        job.head.candidate = 1;
        assert_eq!(step(&job), (1, false));
    }

    #[test]
    fn a_job_moves_to_a_clearly_cheaper_equivalent_and_only_before_its_call() {
        let mut job = job(&["a", "b", "a", "a"]);
        let costs = [900.0, 1.0, 500.0, 40.0];
        let cost_of = |costs: [f64; 4]| {
            move |candidate: &Candidate| {
                let at: usize = candidate.capability.server().as_str()[1..].parse().unwrap();
                costs[at].is_finite().then_some(costs[at])
            }
        };
        let goes = |job: &Job, costs| moved(job, &cost_of(costs), 0);
        assert_eq!(goes(&job, costs), Some(3));
        // A little better is not worth a turn in the queue, and what does something else is no way out.
        assert_eq!(goes(&job, [139.0, 1.0, 500.0, 40.0]), None);
        assert_eq!(goes(&job, [f64::NAN, 1.0, 500.0, 40.0]), Some(3), "where there is no room now");
        assert_eq!(goes(&job, [f64::NAN, 1.0, f64::NAN, f64::NAN]), None);
        job.head.candidate = 1;
        assert_eq!(goes(&job, [0.0, 9_000.0, 0.0, 0.0]), None);
        job.head.candidate = 0;
        for touch in [
            |head: &mut JobHead| head.maybe_called = true,
            |head: &mut JobHead| head.checkpoint = Some(Checkpoint { text: "{}".to_owned(), replay_safe: true }),
            |head: &mut JobHead| head.epoch = MOVED_LEASES_MAX + 1,
        ] {
            let mut touched = job.clone();
            touch(&mut touched.head);
            assert_eq!(goes(&touched, costs), None);
        }
        let mut elsewhere = job.clone();
        for at in [2, 3] {
            Arc::make_mut(&mut elsewhere.body).route.candidates[at].lane = Some(Lane::heavy());
        }
        assert_eq!(goes(&elsewhere, costs), None);
    }

    #[test]
    fn failover_goes_to_what_is_declared_to_do_the_same() {
        let (mut job, policy) = (job(&["a", "b", "c"]), Policy::default());
        for at in [0, 2] {
            Arc::make_mut(&mut job.body).route.candidates[at].group = Some("files/read".to_owned());
        }
        let unsent = error(TransportErrorKind::Connect, Delivered::No);
        let ending = failed(&job, &unsent, Annotations::default(), &policy, 1.0);
        assert!(matches!(ending, Ending::Nack(NackHow::Fail { candidate: 2, .. })), "{ending:?}");
    }

    #[test]
    fn a_call_that_may_have_happened_is_repeated_on_its_own_server_only() {
        let (mut job, policy) = (job(&["a", "a"]), Policy::default());
        let idempotent = Annotations { idempotent_hint: Some(true), ..Annotations::default() };
        let step = |job: &Job, delivered, annotations| match failed(
            job,
            &error(TransportErrorKind::Closed, delivered),
            annotations,
            &policy,
            1.0,
        ) {
            Ending::Nack(NackHow::Fail { candidate, .. }) => candidate,
            other => panic!("{other:?}"),
        };
        assert_eq!(step(&job, Delivered::Maybe, idempotent), 0);
        assert_eq!(step(&job, Delivered::No, idempotent), 1);
        assert_eq!(step(&job, Delivered::Maybe, SAFE), 1);
        job.head.maybe_called = true;
        assert_eq!(step(&job, Delivered::No, idempotent), 0);
    }

    #[test]
    fn what_may_have_happened_is_told_whatever_ends_the_job() {
        let (mut job, now) = (job(&["a"]), Timestamp::from_millis(2_000));
        job.head.maybe_called = true;
        job.head.deadline_at = Some(now);
        let unknown =
            |end: Option<Final>| matches!(end, Some(Final::Dead(e)) if e.code == JobErrorCode::OutcomeUnknown);
        assert!(unknown(over(&job, Annotations::default(), now)));
        assert!(!unknown(over(&job, SAFE, now)));
        let gone = tool_gone(&job, "gone", Annotations::default(), &Policy::default());
        assert!(is_dead(&gone, JobErrorCode::OutcomeUnknown));
        let unsent = failed(
            &job,
            &error(TransportErrorKind::Connect, Delivered::No),
            Annotations::default(),
            &Policy::default(),
            0.0,
        );
        assert!(
            matches!(unsent, Ending::Nack(NackHow::Fail { error, .. }) if error.code == JobErrorCode::OutcomeUnknown)
        );
    }

    #[test]
    fn a_lost_lease_without_a_checkpoint_is_unknown_and_with_one_goes_on() {
        let (mut job, now) = (job(&["a"]), Timestamp::from_millis(2_000));
        job.head.maybe_called = true;
        assert!(
            matches!(start(&job, Annotations::default(), now), Start::End(Final::Dead(e)) if e.code == JobErrorCode::OutcomeUnknown)
        );
        assert_eq!(start(&job, SAFE, now), Start::Call);
        job.head.checkpoint = Some(Checkpoint { text: "{}".to_owned(), replay_safe: true });
        assert_eq!(start(&job, Annotations::default(), now), Start::Resume(Resume::Poll));
        job.head.checkpoint = Some(Checkpoint { text: "{}".to_owned(), replay_safe: false });
        assert!(matches!(start(&job, Annotations::default(), now), Start::End(Final::Dead(_))));
        job.head.maybe_called = false;
        assert_eq!(start(&job, Annotations::default(), now), Start::Resume(Resume::Poll));
        job.head.deadline_at = Some(now);
        assert!(
            matches!(start(&job, SAFE, now), Start::End(Final::Dead(e)) if e.code == JobErrorCode::DeadlineExceeded)
        );
        job.head.cancel_reason = Some("no longer wanted".to_owned());
        assert!(matches!(start(&job, SAFE, now), Start::End(Final::Cancelled { .. })));
    }
}
