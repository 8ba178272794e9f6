//! The stored form of a job, as pure functions: its head as a line of words, what few jobs have as named parts, its body as JSON. What each
//! word and part is stands in `scripts/parts/heads.lua`, which writes the same form.

use std::{collections::HashMap, sync::Arc, time::Duration};

use metamcp_core::{
    auth::Principal,
    error::StoreResult,
    id::JobId,
    matching::Route,
    queue::{
        Answer, Checkpoint, InputRequest, Job, JobBody, JobError, JobErrorCode, JobHead, JobState, LeaseEnd, NewJob,
    },
    task::{ConcurrencyKey, Labels, Need, RateKey, TaskRecord},
    time::Timestamp,
};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    error::invalid,
    script::ScriptCall,
    store::{corrupt, instant_ms, span_ms},
};

/// What a word cannot hold as it is: what is not visible, and the sign of what is written in its place.
const NOT_IN_WORDS: &AsciiSet = &CONTROLS.add(b' ').add(b'%');
/// The word for nothing.
pub(super) const NONE: &str = "-";
/// The word for an empty text.
const EMPTY: &str = "%";

/// Any text as one word that is not [`NONE`].
pub(super) fn word(text: &str) -> String {
    match text {
        "" => EMPTY.to_owned(),
        NONE => "%2D".to_owned(),
        _ => utf8_percent_encode(text, NOT_IN_WORDS).to_string(),
    }
}

fn unword(word: &str) -> Option<String> {
    if word == EMPTY { Some(String::new()) } else { percent_decode_str(word).decode_utf8().ok().map(Into::into) }
}

fn or_none(word: Option<impl ToString>) -> String {
    word.map_or_else(|| NONE.to_owned(), |word| word.to_string())
}

const STATES: [(&str, JobState); 8] = [
    ("w", JobState::Waiting),
    ("d", JobState::Delayed),
    ("r", JobState::Ready),
    ("l", JobState::Leased),
    ("i", JobState::Input),
    ("D", JobState::Done),
    ("X", JobState::Dead),
    ("C", JobState::Cancelled),
];
/// The state word of a job that is ready and passed over.
const BLOCKED: &str = "b";
const LEASE_ENDS: [(&str, LeaseEnd); 5] = [
    ("F", LeaseEnd::Finished),
    ("f", LeaseEnd::Failed),
    ("r", LeaseEnd::Released),
    ("p", LeaseEnd::Parked),
    ("l", LeaseEnd::Lost),
];

/// The state a script tells.
pub(super) fn state(word: &str) -> StoreResult<JobState> {
    let word = if word == BLOCKED { "r" } else { word };
    let found = STATES.iter().find(|(name, _)| *name == word).map(|(_, state)| *state);
    found.ok_or_else(|| corrupt(format!("a job in the unknown state {word:?}")))
}

/// The word of how a lease ends.
pub(super) fn lease_end(end: LeaseEnd) -> &'static str {
    LEASE_ENDS.iter().find(|(_, known)| *known == end).map_or(NONE, |(name, _)| name)
}

pub(super) fn json<T: Serialize + ?Sized>(value: &T) -> StoreResult<String> {
    serde_json::to_string(value).map_err(|e| invalid("this value has no stored form").with_source(e))
}

fn from_json<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(text).ok()
}

/// An error as one part: its code, then its message.
pub(super) fn error_part(error: &JobError) -> StoreResult<String> {
    Ok(format!("{} {}", json(&error.code)?.trim_matches('"'), error.message))
}

fn error_of(part: &str) -> Option<JobError> {
    let (code, message) = part.split_once(' ')?;
    let code: JobErrorCode = from_json(&format!("\"{code}\""))?;
    Some(JobError { code, message: message.to_owned() })
}

/// A checkpoint as one part: whether it is safe to replay, then its text.
pub(super) fn checkpoint_part(at: &Checkpoint) -> String {
    format!("{}{}", u8::from(at.replay_safe), at.text)
}

fn checkpoint_of(part: &str) -> Option<Checkpoint> {
    let text = part.strip_prefix(['0', '1'])?.to_owned();
    Some(Checkpoint { text, replay_safe: part.starts_with('1') })
}

/// Questions as one part; empty when there are none.
pub(super) fn questions_part(requests: &[InputRequest]) -> StoreResult<String> {
    if requests.is_empty() { Ok(String::new()) } else { json(requests) }
}

/// Progress as one part.
pub(super) fn progress_part(progress: &metamcp_core::queue::Progress) -> StoreResult<String> {
    json(progress)
}

fn ids_part(ids: &[JobId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn ids_of(part: &str) -> Option<Vec<JobId>> {
    part.split_ascii_whitespace().map(|id| id.parse().ok()).collect()
}

fn concurrency_word(limit: Option<&ConcurrencyKey>) -> String {
    or_none(limit.map(|limit| format!("{}:{}", limit.max, word(&limit.key))))
}

fn concurrency_of(told: &str) -> Option<ConcurrencyKey> {
    let (max, key) = told.split_once(':')?;
    Some(ConcurrencyKey { max: max.parse().ok()?, key: unword(key)? })
}

fn rate_word(rate: Option<&RateKey>) -> String {
    or_none(rate.map(|rate| format!("{}:{}:{}", span_ms(rate.every), rate.burst, word(&rate.key))))
}

fn rate_of(told: &str) -> Option<RateKey> {
    let mut words = told.splitn(3, ':');
    let every = Duration::from_millis(words.next()?.parse().ok()?);
    Some(RateKey { every, burst: words.next()?.parse().ok()?, key: unword(words.next()?)? })
}

const MAYBE_CALLED: char = 'm';
const ADMITTED: char = 'd';
const LIMITED: char = 'L';
const RATED: char = 'R';
const LARGE: char = 'B';

/// Those flags that hold, as one word.
fn flags<const N: usize>(flags: [(char, bool); N]) -> String {
    let word: String = flags.into_iter().filter(|(_, holds)| *holds).map(|(flag, _)| flag).collect();
    if word.is_empty() { NONE.to_owned() } else { word }
}

fn key_word(key: Option<&str>) -> String {
    or_none(key.map(word))
}

/// The cold words of a new job, which stand behind the others.
fn cold_words(job: &NewJob) -> String {
    let words = [
        word(&job.owner.subject),
        or_none(job.deadline.map(span_ms)),
        0.to_string(),
        job.attempts_max.to_string(),
        0.to_string(),
        job.lost_max.to_string(),
        0.to_string(),
        concurrency_word(job.concurrency.as_ref()),
        rate_word(job.rate.as_ref()),
        key_word(job.idempotency_key.as_deref()),
        job.request_digest.to_string(),
    ];
    words.join(" ")
}

/// The arguments of one new job for `enqueue.lua`; its body is `None` when it is large.
pub(super) fn enqueue_args<'s>(call: ScriptCall<'s>, job: &NewJob, body: Option<&str>) -> ScriptCall<'s> {
    let flags = flags([(LIMITED, job.concurrency.is_some()), (RATED, job.rate.is_some()), (LARGE, body.is_none())]);
    let words = [
        job.id.to_string(),
        job.lane.to_string(),
        job.owner.tenant.to_string(),
        job.priority.to_string(),
        span_ms(job.delay).to_string(),
        or_none(job.deadline.map(span_ms)),
        span_ms(job.retain).to_string(),
        word(&job.owner.subject),
        key_word(job.idempotency_key.as_deref()),
        flags,
        ids_part(&job.after),
    ];
    call.arg(words.join(" ")).arg(cold_words(job)).arg(body.unwrap_or_default())
}

/// A job as `get.lua` tells it: id, head, body unless it is large, parts.
pub(super) type ToldJob = (String, String, Option<Vec<u8>>, Vec<(String, String)>);

/// A job as it is told, and the error when its body cannot be read: another one stands in for it then, so that its owner still sees the job
/// and how it ended.
pub(super) fn job(told: ToldJob) -> StoreResult<(Job, Option<serde_json::Error>)> {
    let (id, words, body, parts) = told;
    let head = head(&id, &words, &parts.into_iter().collect())?;
    Ok(match serde_json::from_slice(&body.unwrap_or_default()) {
        Ok(body) => (Job { head, body: Arc::new(body) }, None),
        Err(error) => (Job { head, body: Arc::new(damaged(&error)) }, Some(error)),
    })
}

fn damaged(error: &serde_json::Error) -> JobBody {
    let need = Need::new(format!("(the stored request cannot be read: {error})"));
    JobBody { task: TaskRecord { need, labels: Labels::new(), cache: None }, route: Route::default() }
}

/// The head of these words and parts.
///
/// # Errors
/// `Corrupt` when they make no head.
fn head(id: &str, words: &str, parts: &HashMap<String, String>) -> StoreResult<JobHead> {
    decode(id, words, parts)
        .ok_or_else(|| corrupt(format!("the head of job {id} cannot be read: {words:?}; restore the job from a copy")))
}

fn decode(id: &str, words: &str, parts: &HashMap<String, String>) -> Option<JobHead> {
    let words: Vec<&str> = words.split(' ').collect();
    let &[
        st,
        ln,
        tn,
        pr,
        du,
        ep,
        no,
        wk,
        un,
        le,
        fl,
        us,
        sa,
        up,
        fi,
        da,
        rt,
        cr,
        rs,
        cf, // hot
        ow,
        dl,
        at,
        am,
        lo,
        lm,
        ca,
        cc,
        rk,
        ik,
        dg, // cold
    ] = words.as_slice()
    else {
        return None;
    };
    let state = state(st).ok()?;
    let until = instant_of(un)?;
    let part = |name: &str| parts.get(name);
    Some(JobHead {
        id: id.parse().ok()?,
        owner: Principal::new(tn.parse().ok()?, unword(ow)?),
        lane: ln.parse().ok()?,
        priority: pr.parse().ok()?,
        state,
        created_at: instant_of(cr)??,
        updated_at: instant_of(up)??,
        due_at: instant_of(du)??,
        started_at: instant_of(sa)?,
        finished_at: instant_of(fi)?,
        deadline: optional(dl, |span| span.parse().ok().map(Duration::from_millis))?,
        deadline_at: instant_of(da)?,
        retain: Duration::from_millis(rt.parse().ok()?),
        attempts: at.parse().ok()?,
        attempts_max: am.parse().ok()?,
        lost: lo.parse().ok()?,
        lost_max: lm.parse().ok()?,
        epoch: ep.parse().ok()?,
        nonce: no.parse().ok()?,
        worker: if state == JobState::Leased { Some(wk.parse().ok()?) } else { None },
        lease_until: until.filter(|_| state == JobState::Leased),
        lease_end: LEASE_ENDS.iter().find(|(name, _)| *name == le).map(|(_, end)| *end),
        maybe_called: fl.contains(MAYBE_CALLED),
        cancel_reason: part("k").cloned(),
        candidate: ca.parse().ok()?,
        checkpoint: all(part("c"), |part| checkpoint_of(part))?,
        requests: all(part("q"), |part| from_json(part))?.unwrap_or_default(),
        answer: part("n").map(|responses| Answer { responses: responses.clone() }),
        input_until: until.filter(|_| state == JobState::Input),
        // Only news: one that is no number in JSON costs nothing else.
        progress: part("p").and_then(|part| from_json(part)),
        result: optional(rs, |result| result.parse().ok())?,
        error: all(part("e"), |part| error_of(part))?,
        idempotency_key: optional(ik, unword)?,
        request_digest: dg.parse().ok()?,
        after: all(part("a"), |part| ids_of(part))?.unwrap_or_default(),
        waits_on: all(part("w"), |part| ids_of(part))?.unwrap_or_default(),
        users: us.parse().ok()?,
        concurrency: optional(cc, concurrency_of)?,
        blocked: st == BLOCKED,
        rate: optional(rk, rate_of)?,
        admitted: fl.contains(ADMITTED),
        cached_from: optional(cf, |id| id.parse().ok())?,
    })
}

/// `None` when the word is there and makes no sense.
fn optional<T>(word: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
    all((word != NONE).then_some(word), read)
}

fn all<P, T>(part: Option<P>, read: impl FnOnce(P) -> Option<T>) -> Option<Option<T>> {
    part.map_or(Some(None), |part| read(part).map(Some))
}

fn instant_of(word: &str) -> Option<Option<Timestamp>> {
    optional(word, |at| at.parse().ok().map(Timestamp::from_millis))
}

/// The words of a head, and its parts by name: the other way round than [`head`].
///
/// # Errors
/// `Invalid` when a part has no stored form.
pub(super) fn encode(head: &JobHead, large: bool) -> StoreResult<(String, Vec<(&'static str, String)>)> {
    let mut parts = vec![];
    parts.extend(head.checkpoint.as_ref().map(|at| ("c", checkpoint_part(at))));
    parts.extend((!head.requests.is_empty()).then(|| json(&head.requests)).transpose()?.map(|part| ("q", part)));
    parts.extend(head.answer.as_ref().map(|answer| ("n", answer.responses.clone())));
    parts.extend(head.progress.as_ref().map(progress_part).transpose()?.map(|part| ("p", part)));
    parts.extend(head.error.as_ref().map(error_part).transpose()?.map(|part| ("e", part)));
    parts.extend(head.cancel_reason.as_ref().map(|reason| ("k", reason.clone())));
    parts.extend((!head.after.is_empty()).then(|| ("a", ids_part(&head.after))));
    parts.extend((!head.waits_on.is_empty()).then(|| ("w", ids_part(&head.waits_on))));

    let state = STATES.iter().find(|(_, state)| *state == head.state).map_or(NONE, |(name, _)| name);
    let flags = flags([
        (MAYBE_CALLED, head.maybe_called),
        (ADMITTED, head.admitted),
        (LIMITED, head.concurrency.is_some()),
        (RATED, head.rate.is_some()),
        (LARGE, large),
    ]);
    let instant = |at: Option<Timestamp>| or_none(at.map(instant_ms));
    let words = [
        if head.blocked { BLOCKED } else { state }.to_owned(),
        head.lane.to_string(),
        head.owner.tenant.to_string(),
        head.priority.to_string(),
        instant_ms(head.due_at).to_string(),
        head.epoch.to_string(),
        head.nonce.to_string(),
        or_none(head.worker.as_ref()),
        instant(head.lease_until.or(head.input_until)),
        head.lease_end.map_or(NONE, lease_end).to_owned(),
        flags,
        head.users.to_string(),
        instant(head.started_at),
        instant_ms(head.updated_at).to_string(),
        instant(head.finished_at),
        instant(head.deadline_at),
        span_ms(head.retain).to_string(),
        instant_ms(head.created_at).to_string(),
        or_none(head.result.as_ref()),
        or_none(head.cached_from),
        word(&head.owner.subject),
        or_none(head.deadline.map(span_ms)),
        head.attempts.to_string(),
        head.attempts_max.to_string(),
        head.lost.to_string(),
        head.lost_max.to_string(),
        head.candidate.to_string(),
        concurrency_word(head.concurrency.as_ref()),
        rate_word(head.rate.as_ref()),
        key_word(head.idempotency_key.as_deref()),
        head.request_digest.to_string(),
    ];
    Ok((words.join(" "), parts))
}
