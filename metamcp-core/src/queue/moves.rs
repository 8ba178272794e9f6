//! The legal moves of one head, as plain functions: what every store does to a job, whatever it keeps its jobs in.
//!
//! Nothing here looks at another job or at an index; the store does what follows from a move (see `Core::change`). Each move sets what it
//! must and clears what no longer holds, so that [`check`] is true after it.

use std::time::Duration;

use super::{
    bounds::PRIORITY_MAX,
    job::{Answer, Checkpoint, JobError, JobErrorCode, JobHead, JobState, LeaseEnd, LeaseKey, NewJob, Progress},
    lease::{Answered, Beat, Cancelled, Fenced, Final, LeaseRequest, NackHow},
};
use crate::{
    id::{JobId, WorkerId},
    pointer::ResultPointer,
    task::RateKey,
    time::Timestamp,
};

/// Most jobs that one lease lets go on by its end: the first that is passed over in each lane and for each bound of its key.
pub const LET_GO_MAX: usize = 32;
/// Head start of one step of priority, in milliseconds.
const HEAD_START_MS: u64 = 60_000;

/// The place of a job in its tenant's queue: `due − priority · 60 s`, shifted so that it is never negative.
#[must_use]
pub fn place(head: &JobHead) -> u64 {
    let behind = u64::from(PRIORITY_MAX.saturating_sub(head.priority)) * HEAD_START_MS;
    head.due_at.as_millis().saturating_add(behind)
}

/// The first head of a job; it waits for those of its parents that are `undone`. One that comes held is leased, unless it has to wait.
#[must_use]
pub fn accept(job: &NewJob, now: Timestamp, undone: Vec<JobId>) -> JobHead {
    let mut head = JobHead {
        id: job.id,
        owner: job.owner.clone(),
        lane: job.lane.clone(),
        priority: job.priority,
        state: JobState::Ready,
        created_at: now,
        updated_at: now,
        due_at: now,
        started_at: None,
        finished_at: None,
        deadline: job.deadline,
        deadline_at: job.deadline.map(|deadline| now + deadline),
        retain: job.retain,
        attempts: 0,
        attempts_max: job.attempts_max.max(1),
        lost: 0,
        lost_max: job.lost_max.max(1),
        epoch: 0,
        nonce: 0,
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
        idempotency_key: job.idempotency_key.clone(),
        request_digest: job.request_digest,
        after: job.after.clone(),
        waits_on: Vec::new(),
        users: 0,
        concurrency: job.concurrency.clone(),
        blocked: false,
        rate: job.rate.clone(),
        admitted: false,
        cached_from: None,
    };
    requeue(&mut head, now, job.delay);
    wait_on(&mut head, undone);
    if let Some(held) = job.held.as_ref().filter(|_| head.state == JobState::Ready) {
        hold(&mut head, now, &held.worker, held.nonce, held.visibility);
    }
    head
}

/// Makes a queued head wait for these jobs, if there are any.
pub fn wait_on(head: &mut JobHead, undone: Vec<JobId>) {
    if !undone.is_empty() {
        head.state = JobState::Waiting;
    }
    head.waits_on = undone;
}

/// A job that this one waits for has ended as `came`.
pub fn settle(head: &mut JobHead, now: Timestamp, parent: JobId, came: JobState) {
    head.waits_on.retain(|waits_on| *waits_on != parent);
    if came != JobState::Done {
        let how = if came == JobState::Cancelled { "was cancelled" } else { "failed" };
        die(head, now, JobErrorCode::DependencyFailed, format!("task {parent}, which this one waits for, {how}"));
    } else if head.waits_on.is_empty() {
        let left = head.due_at.since(now);
        requeue(head, now, left);
    }
}

/// Delayed → ready.
pub const fn promote(head: &mut JobHead) {
    head.state = JobState::Ready;
}

/// Whether a job that stood so lets others of its concurrency key go on: its lease has ended, or it asks for the key no more. A job that is only
/// passed over did not let go of anything.
#[must_use]
pub const fn lets_go(was: JobState, was_blocked: bool, now: JobState) -> bool {
    match was {
        JobState::Leased => !matches!(now, JobState::Leased),
        JobState::Ready => !was_blocked && !matches!(now, JobState::Ready | JobState::Leased),
        _ => false,
    }
}

/// Passes a ready job over for its concurrency key, or lets it go on.
pub const fn block(head: &mut JobHead, blocked: bool) {
    head.blocked = blocked;
}

/// The rate of which a job must take a slot before its lease.
#[must_use]
pub fn slot_wanted(head: &JobHead) -> Option<&RateKey> {
    head.rate.as_ref().filter(|_| !head.admitted)
}

/// The slot of a rate key after those taken up to `taken_until`, and up to when slots are taken then. The slot is `now` at the earliest.
#[must_use]
pub fn slot(rate: &RateKey, now: Timestamp, taken_until: Option<Timestamp>) -> (Timestamp, Timestamp) {
    let arrival = taken_until.map_or(now, |until| until.max(now));
    let burst = rate.every.saturating_mul(rate.burst.saturating_sub(1));
    let slot = arrival.as_millis().saturating_sub(u64::try_from(burst.as_millis()).unwrap_or(u64::MAX));
    (Timestamp::from_millis(slot).max(now), arrival + rate.every)
}

/// Delays a ready job until the slot of its rate.
pub fn admit_later(head: &mut JobHead, now: Timestamp, slot: Timestamp) {
    requeue(head, now, slot.since(now));
    head.admitted = true;
}

/// Ready → leased.
pub fn lease(head: &mut JobHead, now: Timestamp, want: &LeaseRequest) {
    hold(head, now, &want.worker, want.nonce, want.visibility);
}

fn hold(head: &mut JobHead, now: Timestamp, worker: &WorkerId, nonce: u64, visibility: Duration) {
    head.state = JobState::Leased;
    head.epoch += 1;
    head.nonce = nonce;
    head.worker = Some(worker.clone());
    head.lease_until = Some(now + visibility);
    head.lease_end = None;
    // A slot is taken before the lease, and stays with the attempt however often it is given back.
    head.admitted = head.rate.is_some();
    head.started_at.get_or_insert(now);
}

/// Whether `key` is the newest lease of the job, and still held.
#[must_use]
pub fn holds(head: &JobHead, key: LeaseKey) -> bool {
    head.state == JobState::Leased && head.lease_key() == key
}

/// Extends a lease that is held.
pub fn beat(head: &mut JobHead, now: Timestamp, extend: Duration, progress: Option<&Progress>) -> Beat {
    head.lease_until = Some(now + extend);
    if progress.is_some() {
        head.progress = progress.cloned();
    }
    head.cancel_reason.clone().map_or(Beat::Ok, |reason| Beat::CancelAsked { reason })
}

/// Lets only the held newest lease through; its last lease is told whether it is `again` what ended it.
///
/// # Errors
/// The answer to a caller that is not let through.
pub fn fence(head: Option<&JobHead>, lease: LeaseKey, again: impl FnOnce(&JobHead) -> bool) -> Result<(), Fenced> {
    let head = head.ok_or(Fenced::Gone)?;
    match (head.lease_key() == lease, head.state) {
        (true, JobState::Leased) => Ok(()),
        (true, state) if head.epoch > 0 && again(head) => Err(Fenced::OkAgain(state)),
        _ => Err(Fenced::Stale),
    }
}

/// Saves how to go on with a call.
pub fn checkpoint(head: &mut JobHead, at: Checkpoint) {
    head.checkpoint = Some(at);
    head.maybe_called = false;
    head.answer = None;
}

/// Ends a leased job, whoever wished it cancelled in between.
pub fn finish(head: &mut JobHead, now: Timestamp, how: &Final) {
    head.lease_end = Some(LeaseEnd::Finished);
    head.maybe_called = false;
    head.checkpoint = None;
    head.cancel_reason = None;
    match how {
        Final::Done(pointer) => done(head, now, pointer, None),
        Final::Cached { result, from } => done(head, now, result, Some(*from)),
        Final::Dead(error) => {
            head.error = Some(error.clone());
            end(head, now, JobState::Dead);
        }
        Final::Cancelled { reason } => {
            head.cancel_reason = Some(reason.clone());
            end(head, now, JobState::Cancelled);
        }
    }
}

fn done(head: &mut JobHead, now: Timestamp, result: &ResultPointer, from: Option<JobId>) {
    head.result = Some(result.clone());
    head.cached_from = from;
    head.error = None;
    end(head, now, JobState::Done);
}

/// Whether the last lease ended the job in just this way.
#[must_use]
pub fn ended_so(head: &JobHead, wanted: &Final) -> bool {
    let done_with = |result: &ResultPointer, from: Option<JobId>| {
        head.state == JobState::Done && head.result.as_ref() == Some(result) && head.cached_from == from
    };
    head.lease_end == Some(LeaseEnd::Finished)
        && match wanted {
            Final::Done(pointer) => done_with(pointer, None),
            Final::Cached { result, from } => done_with(result, Some(*from)),
            Final::Dead(error) => head.state == JobState::Dead && head.error.as_ref() == Some(error),
            Final::Cancelled { reason } => {
                head.state == JobState::Cancelled && head.cancel_reason.as_ref() == Some(reason)
            }
        }
}

/// How a nack ends its lease.
#[must_use]
pub const fn nacked_as(how: &NackHow) -> LeaseEnd {
    match how {
        NackHow::Fail { .. } => LeaseEnd::Failed,
        NackHow::Release { .. } | NackHow::Move { .. } => LeaseEnd::Released,
        NackHow::Park { .. } => LeaseEnd::Parked,
    }
}

/// Gives a leased job back. A cancel wish wins.
pub fn nack(head: &mut JobHead, now: Timestamp, how: &NackHow) {
    head.lease_end = Some(nacked_as(how));
    if head.cancel_reason.is_some() {
        head.maybe_called = false;
        return end(head, now, JobState::Cancelled);
    }
    match how {
        NackHow::Fail { delay, candidate, error } => {
            head.attempts += 1;
            head.admitted = false;
            head.error = Some(error.clone());
            go_to(head, *candidate);
            head.progress = None;
            if head.attempts >= head.attempts_max {
                end(head, now, JobState::Dead);
            } else {
                requeue(head, now, *delay);
            }
        }
        NackHow::Release { delay, maybe_called } => {
            head.maybe_called = *maybe_called;
            requeue(head, now, *delay);
        }
        NackHow::Move { candidate } => {
            go_to(head, *candidate);
            requeue(head, now, Duration::ZERO);
        }
        NackHow::Park { requests, checkpoint, ttl } => {
            head.maybe_called = false;
            head.checkpoint = Some(checkpoint.clone());
            head.answer = None;
            requeue(head, now, Duration::ZERO);
            head.state = JobState::Input;
            head.requests.clone_from(requests);
            head.input_until = Some(now + *ttl);
        }
    }
}

/// What was begun with one candidate is nothing to another one.
fn go_to(head: &mut JobHead, candidate: u16) {
    if head.candidate != candidate {
        head.candidate = candidate;
        head.checkpoint = None;
        head.answer = None;
    }
}

/// Brings an owner's answer; whether anything changed is told with it. The same answer again, before the next call is over, is well too.
pub fn answer(head: &mut JobHead, now: Timestamp, answer: &Answer) -> (Answered, bool) {
    if head.state != JobState::Input {
        let again = !head.state.is_final() && head.answer.as_ref() == Some(answer);
        return (if again { Answered::Ok } else { Answered::NotWaiting(head.state) }, false);
    }
    head.answer = Some(answer.clone());
    requeue(head, now, Duration::ZERO);
    (Answered::Ok, true)
}

/// Dead → ready, or waiting for those of its parents that are `undone`. The job gets the same time again that it had from its acceptance; its
/// last error stays until the next outcome.
pub fn redrive(head: &mut JobHead, now: Timestamp, undone: Vec<JobId>) {
    head.attempts = 0;
    head.lost = 0;
    head.candidate = 0;
    head.maybe_called = false;
    head.checkpoint = None;
    head.finished_at = None;
    // The end is undone: its holder saying it again is stale, even if the job comes to end in just that way.
    head.lease_end = head.lease_end.filter(|end| *end != LeaseEnd::Finished);
    head.deadline_at = head.deadline.map(|span| now + span);
    requeue(head, now, Duration::ZERO);
    wait_on(head, undone);
}

/// Ends a job that nobody holds, flags one that somebody does; whether anything changed is told with it. The first reason stays.
pub fn cancel(head: &mut JobHead, now: Timestamp, reason: &str) -> (Cancelled, bool) {
    if head.state.is_final() {
        return (Cancelled::Already(head.state), false);
    }
    let held = head.state == JobState::Leased;
    if held && head.cancel_reason.is_some() {
        return (Cancelled::Asked, false);
    }
    head.cancel_reason = Some(reason.to_owned());
    if held {
        return (Cancelled::Asked, true);
    }
    end(head, now, JobState::Cancelled);
    (Cancelled::Now, true)
}

/// Ends a job that nobody holds because its time is over.
pub fn expire(head: &mut JobHead, now: Timestamp, code: JobErrorCode) {
    let message = match code {
        JobErrorCode::InputExpired => "no answer came in time",
        _ => "the deadline passed before a worker could end the job",
    };
    die(head, now, code, message.to_owned());
}

/// Takes a lease back that ran out.
pub fn reclaim(head: &mut JobHead, now: Timestamp, delay: Duration) {
    head.lost += 1;
    head.admitted = false;
    head.maybe_called = true;
    head.lease_end = Some(LeaseEnd::Lost);
    if head.cancel_reason.is_some() {
        end(head, now, JobState::Cancelled);
    } else if head.lost >= head.lost_max {
        let message = format!("{} leases ran out without word of their worker", head.lost);
        die(head, now, JobErrorCode::Lost, message);
    } else {
        requeue(head, now, delay);
    }
}

/// How long a job waits after a lost lease, when `lost` were lost before: not at all after the first, which is as a rule its worker's end and
/// not its own doing, then `base · 2^(lost − 1)`, bounded.
#[must_use]
pub fn lost_backoff(base: Duration, max: Duration, lost: u32) -> Duration {
    let Some(doublings) = lost.checked_sub(1) else { return Duration::ZERO };
    base.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(max)
}

/// Ends a job that no worker will look at again: its error is the last word on what may have happened.
fn die(head: &mut JobHead, now: Timestamp, code: JobErrorCode, mut message: String) {
    if head.maybe_called {
        message.push_str("; an earlier call may have happened");
    }
    head.error = Some(JobError::new(code, message));
    end(head, now, JobState::Dead);
}

/// Ends a job. What went before (result, error, checkpoint) is the caller's.
fn end(head: &mut JobHead, now: Timestamp, state: JobState) {
    off_the_queue(head);
    head.admitted = false;
    head.state = state;
    head.finished_at = Some(now);
    head.answer = None;
    head.progress = None;
    head.waits_on = Vec::new();
}

/// Puts a job back into its queue.
fn requeue(head: &mut JobHead, now: Timestamp, delay: Duration) {
    off_the_queue(head);
    head.due_at = now + delay;
    head.state = if head.due_at > now { JobState::Delayed } else { JobState::Ready };
}

/// Clears what belongs to one stay in the queue, with a worker, or with its owner.
fn off_the_queue(head: &mut JobHead) {
    head.worker = None;
    head.lease_until = None;
    head.input_until = None;
    head.requests = Vec::new();
    head.blocked = false;
}

/// What must be true of every head, whatever moves led to it.
///
/// # Errors
/// The rule that does not hold.
pub fn check(head: &JobHead) -> Result<(), &'static str> {
    let leased = head.state == JobState::Leased;
    let rules = [
        (
            head.finished_at.is_some() == head.state.is_final(),
            "an end without its instant, or an instant without an end",
        ),
        (head.lease_until.is_some() == leased && head.worker.is_some() == leased, "a lease outside of state leased"),
        (head.input_until.is_some() == (head.state == JobState::Input), "a wait for input outside of state input"),
        (
            head.deadline.is_some() == head.deadline_at.is_some(),
            "a deadline without its instant, or the other way round",
        ),
        (head.result.is_some() == (head.state == JobState::Done), "a result outside of state done"),
        (head.state != JobState::Dead || head.error.is_some(), "dead without an error"),
        (head.state.is_final() || head.attempts < head.attempts_max, "attempts used up and not over"),
        (head.state.is_final() || head.lost < head.lost_max, "leases used up and not over"),
        (head.attempts <= head.attempts_max && head.lost <= head.lost_max, "more attempts or losses than allowed"),
        ((head.epoch == 0) == head.started_at.is_none(), "leased and not started, or started and not leased"),
        (!leased || head.lease_end.is_none(), "a held lease that has ended"),
        (head.waits_on.is_empty() != (head.state == JobState::Waiting), "waiting for nothing, or not in state waiting"),
        (head.waits_on.iter().all(|parent| head.after.contains(parent)), "waiting for a job that is not its parent"),
        (!head.blocked || head.state == JobState::Ready && head.concurrency.is_some(), "blocked without cause"),
        (!head.admitted || head.rate.is_some() && !head.state.is_final(), "a slot without a rate, or after the end"),
        (head.cached_from.is_none() || head.state == JobState::Done, "a cached result outside of state done"),
    ];
    rules.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, what)| Err(what))
}
