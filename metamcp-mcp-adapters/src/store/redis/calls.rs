//! What is said to the scripts of the queue, and what they answer. Each script's file tells its side of it.

use std::time::Duration;

use metamcp_core::{
    error::StoreResult,
    id::JobId,
    queue::{
        Answered, Beat, Cancelled, Enqueued, Fenced, Final, Finish, JobState, LaneCounts, LeaseKey, Maintained, Nack,
        NackHow, Redriven, Restored, Shares, moves::nacked_as,
    },
    time::Timestamp,
};

use super::{
    error::{corrupt, invalid, unavailable},
    namespace::Namespace,
    pointer::{result_of, result_word},
    script::ScriptCall,
    words::{NONE, checkpoint_part, error_part, lease_end, optional, questions_part, span_ms, state},
};

/// The first word of an answer, and the rest.
pub(super) fn split(answer: &str) -> (&str, &str) {
    answer.split_once(' ').unwrap_or((answer, ""))
}

pub(super) fn not_understood<T>(answer: &str) -> StoreResult<T> {
    Err(corrupt(format!("a script answers {answer:?}; is another version writing to this namespace?")))
}

pub(super) fn id(told: &str) -> StoreResult<JobId> {
    told.parse().or_else(|_| not_understood(told))
}

pub(super) fn id_and_state(told: &str) -> StoreResult<(JobId, JobState)> {
    let (job, at) = split(told);
    Ok((id(job)?, state(at)?))
}

pub(super) fn fenced(answer: &str) -> StoreResult<Fenced> {
    Ok(match split(answer) {
        ("ok", at) => Fenced::Ok(state(at)?),
        ("again", at) => Fenced::OkAgain(state(at)?),
        ("stale", _) => Fenced::Stale,
        ("gone", _) => Fenced::Gone,
        _ => return not_understood(answer),
    })
}

/// One answer for each entry.
pub(super) fn each<T>(
    answers: &[String],
    entries: usize,
    read: impl Fn(&str) -> StoreResult<T>,
) -> StoreResult<Vec<T>> {
    if answers.len() != entries {
        return not_understood(&format!("{} entries to {entries}", answers.len()));
    }
    answers.iter().map(|answer| read(answer)).collect()
}

pub(super) fn wait_of(told_ms: i64) -> Option<Duration> {
    u64::try_from(told_ms).ok().map(Duration::from_millis)
}

/// The weights that are not 1, each as `tenant=weight` between spaces.
pub(super) fn weights_word(shares: &Shares) -> String {
    let heavier = shares.weights.iter().filter(|(_, weight)| **weight != 1);
    heavier.fold(" ".to_owned(), |words, (tenant, weight)| format!("{words}{tenant}={weight} "))
}

/// A lease as words.
pub(super) fn lease_words(key: LeaseKey) -> String {
    format!("{} {} {}", key.job, key.epoch, key.nonce)
}

pub(super) fn finish_args<'s>(call: ScriptCall<'s>, done: &Finish) -> StoreResult<ScriptCall<'s>> {
    let LeaseKey { job, epoch, nonce } = done.lease;
    let (how, what) = match &done.end {
        Final::Done(result) => ("D", format!("{} {NONE}", result_word(result, job))),
        Final::Cached { result, from } => ("D", format!("{} {from}", result_word(result, job))),
        Final::Dead(error) => ("X", error_part(error)?),
        Final::Cancelled { reason } => ("C", reason.clone()),
    };
    Ok(call.arg(job.to_string()).arg(format!("{epoch} {nonce}")).arg(how).arg(what))
}

pub(super) fn nack_args<'s>(call: ScriptCall<'s>, back: &Nack) -> StoreResult<ScriptCall<'s>> {
    let words = format!("{} {}", lease_words(back.lease), lease_end(nacked_as(&back.how)));
    let with_span = |span| call.arg(format!("{words} {}", span_ms(span)));
    Ok(match &back.how {
        NackHow::Fail { delay, candidate, error } => {
            with_span(*delay).arg(candidate.to_string()).arg(error_part(error)?)
        }
        NackHow::Release { delay, maybe_called } => with_span(*delay).arg(u8::from(*maybe_called)).arg(""),
        NackHow::Move { candidate } => with_span(Duration::ZERO).arg("").arg(candidate.to_string()),
        NackHow::Park { requests, checkpoint, ttl } => {
            with_span(*ttl).arg(checkpoint_part(checkpoint)).arg(questions_part(requests)?)
        }
        _ => return Err(invalid("this way of giving a job back is newer than the Redis store")),
    })
}

pub(super) fn instant(told: &str) -> StoreResult<Timestamp> {
    told.parse().map(Timestamp::from_millis).or_else(|_| not_understood(told))
}

pub(super) fn enqueued(answer: &str, namespace: &Namespace) -> StoreResult<Enqueued> {
    Ok(match split(answer) {
        ("ok", at) => Enqueued::Ok { durability: namespace.durability(), at: instant(at)? },
        ("duplicate", told) => {
            let (job, state) = id_and_state(told)?;
            Enqueued::Duplicate { job, state }
        }
        ("conflict", told) => Enqueued::Conflict { job: id(told)? },
        ("full", _) => Enqueued::Full { limit: namespace.options.limits.lane_jobs_max },
        ("missing", told) => Enqueued::Missing { job: id(told)? },
        ("resend", _) => return Err(unavailable("a large body was lost on the way; enqueue the job again")),
        _ => return not_understood(answer),
    })
}

pub(super) fn maintained(done: &mut Maintained, told: &str) -> StoreResult<()> {
    match split(told) {
        ("promoted", _) => done.promoted += 1,
        ("reclaimed", told) => done.reclaimed.push(id_and_state(told)?),
        ("expired", told) => done.expired.push(id(told)?),
        ("settled", told) => done.settled.push(id_and_state(told)?),
        ("removed", told) => {
            let (job, result) = split(told);
            let job = id(job)?;
            let Some(result) = optional(result, |result| result_of(result, job)) else { return not_understood(result) };
            done.removed.push((job, result));
        }
        _ => return not_understood(told),
    }
    Ok(())
}

/// The answer to a heartbeat.
pub(super) fn beat(answer: &str) -> StoreResult<Beat> {
    Ok(match split(answer) {
        ("ok", _) => Beat::Ok,
        ("lost", _) => Beat::Lost,
        ("cancel", reason) => Beat::CancelAsked { reason: reason.to_owned() },
        _ => return not_understood(answer),
    })
}

/// The answer to an owner's answer.
pub(super) fn answered(answer: &str) -> StoreResult<Answered> {
    Ok(match split(answer) {
        ("ok", _) => Answered::Ok,
        ("not_waiting", at) => Answered::NotWaiting(state(at)?),
        ("gone", _) => Answered::Gone,
        _ => return not_understood(answer),
    })
}

/// The answer to a redrive.
pub(super) fn redriven(answer: &str) -> StoreResult<Redriven> {
    Ok(match split(answer) {
        ("ok", _) => Redriven::Ok,
        ("not_dead", at) => Redriven::NotDead(state(at)?),
        ("missing", job) => Redriven::Missing { job: id(job)? },
        ("gone", _) => Redriven::Gone,
        _ => return not_understood(answer),
    })
}

/// The answer to a wish to cancel.
pub(super) fn cancelled(answer: &str) -> StoreResult<Cancelled> {
    Ok(match split(answer) {
        ("now", _) => Cancelled::Now,
        ("asked", _) => Cancelled::Asked,
        ("already", at) => Cancelled::Already(state(at)?),
        ("gone", _) => Cancelled::Gone,
        _ => return not_understood(answer),
    })
}

/// The answer for one job that is taken in.
pub(super) fn restored(answer: &str) -> StoreResult<Restored> {
    Ok(match split(answer) {
        ("ok", _) => Restored::Ok,
        ("exists", _) => Restored::Exists,
        ("taken", job) => Restored::KeyTaken { job: id(job)? },
        ("resend", _) => return Err(unavailable("a large body was lost on the way; restore the job again")),
        _ => return not_understood(answer),
    })
}

/// The counts of a lane, in the order of `counts.lua`.
pub(super) fn counts(told: [u64; 9]) -> LaneCounts {
    let [ready, blocked, waiting, delayed, leased, input, dead, oldest_ready_ms, paused] = told;
    let paused = paused == 1;
    LaneCounts { ready, blocked, waiting, delayed, leased, input, dead, oldest_ready_ms, paused }
}
