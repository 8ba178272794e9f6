//! The words and parts of which the stored form of a job is made, as pure functions: any text as one word, states, flags, errors, keys. What
//! each word and part stands for is in `scripts/parts/heads.lua`.

use std::time::Duration;

use metamcp_core::{
    error::StoreResult,
    id::JobId,
    queue::{Checkpoint, InputRequest, JobError, JobErrorCode, JobState, LeaseEnd, Progress},
    task::{ConcurrencyKey, RateKey},
    time::Timestamp,
};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde::{Serialize, de::DeserializeOwned};

use super::error::{corrupt, invalid};

/// Longest span and, ten times that, latest instant that is kept, in milliseconds: 317 years. Lua prints no more digits in full.
const SPAN_MS_MAX: u64 = 10_000_000_000_000;
/// What a word cannot hold as it is: what is not visible, and the sign of what is written in its place.
const NOT_IN_WORDS: &AsciiSet = &CONTROLS.add(b' ').add(b'%');
/// The word for nothing.
pub(super) const NONE: &str = "-";
/// The word for an empty text.
const EMPTY: &str = "%";

/// A span as it is kept.
pub(super) fn span_ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX).min(SPAN_MS_MAX)
}

/// An instant as it is kept.
pub(super) fn instant_ms(at: Timestamp) -> u64 {
    at.as_millis().min(SPAN_MS_MAX * 10 - 1)
}

/// Any text as one word that is not [`NONE`].
pub(super) fn word(text: &str) -> String {
    match text {
        "" => EMPTY.to_owned(),
        NONE => "%2D".to_owned(),
        _ => utf8_percent_encode(text, NOT_IN_WORDS).to_string(),
    }
}

pub(super) fn unword(word: &str) -> Option<String> {
    if word == EMPTY { Some(String::new()) } else { percent_decode_str(word).decode_utf8().ok().map(Into::into) }
}

pub(super) fn or_none(word: Option<impl ToString>) -> String {
    word.map_or_else(|| NONE.to_owned(), |word| word.to_string())
}

pub(super) const STATES: [(&str, JobState); 8] = [
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
pub(super) const BLOCKED: &str = "b";
pub(super) const LEASE_ENDS: [(&str, LeaseEnd); 5] = [
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

pub(super) fn from_json<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(text).ok()
}

/// An error as one part: its code, then its message.
pub(super) fn error_part(error: &JobError) -> StoreResult<String> {
    Ok(format!("{} {}", json(&error.code)?.trim_matches('"'), error.message))
}

pub(super) fn error_of(part: &str) -> Option<JobError> {
    let (code, message) = part.split_once(' ')?;
    let code: JobErrorCode = from_json(&format!("\"{code}\""))?;
    Some(JobError { code, message: message.to_owned() })
}

/// A checkpoint as one part: whether it is safe to replay, then its text.
pub(super) fn checkpoint_part(at: &Checkpoint) -> String {
    format!("{}{}", u8::from(at.replay_safe), at.text)
}

pub(super) fn checkpoint_of(part: &str) -> Option<Checkpoint> {
    let text = part.strip_prefix(['0', '1'])?.to_owned();
    Some(Checkpoint { text, replay_safe: part.starts_with('1') })
}

/// Questions as one part; empty when there are none.
pub(super) fn questions_part(requests: &[InputRequest]) -> StoreResult<String> {
    if requests.is_empty() { Ok(String::new()) } else { json(requests) }
}

/// Progress as one part.
pub(super) fn progress_part(progress: &Progress) -> StoreResult<String> {
    json(progress)
}

pub(super) fn ids_part(ids: &[JobId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

pub(super) fn ids_of(part: &str) -> Option<Vec<JobId>> {
    part.split_ascii_whitespace().map(|id| id.parse().ok()).collect()
}

pub(super) fn concurrency_word(limit: Option<&ConcurrencyKey>) -> String {
    or_none(limit.map(|limit| format!("{}:{}", limit.max, word(&limit.key))))
}

pub(super) fn concurrency_of(told: &str) -> Option<ConcurrencyKey> {
    let (max, key) = told.split_once(':')?;
    Some(ConcurrencyKey { max: max.parse().ok()?, key: unword(key)? })
}

pub(super) fn rate_word(rate: Option<&RateKey>) -> String {
    or_none(rate.map(|rate| format!("{}:{}:{}", span_ms(rate.every), rate.burst, word(&rate.key))))
}

pub(super) fn rate_of(told: &str) -> Option<RateKey> {
    let mut words = told.splitn(3, ':');
    let every = Duration::from_millis(words.next()?.parse().ok()?);
    Some(RateKey { every, burst: words.next()?.parse().ok()?, key: unword(words.next()?)? })
}

pub(super) const MAYBE_CALLED: char = 'm';
pub(super) const ADMITTED: char = 'd';
pub(super) const LIMITED: char = 'L';
pub(super) const RATED: char = 'R';
pub(super) const LARGE: char = 'B';

/// Those flags that hold, as one word.
pub(super) fn flags<const N: usize>(flags: [(char, bool); N]) -> String {
    let word: String = flags.into_iter().filter(|(_, holds)| *holds).map(|(flag, _)| flag).collect();
    if word.is_empty() { NONE.to_owned() } else { word }
}

pub(super) fn key_word(key: Option<&str>) -> String {
    or_none(key.map(word))
}

/// `None` when the word is there and makes no sense.
pub(super) fn optional<T>(word: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
    all((word != NONE).then_some(word), read)
}

pub(super) fn all<P, T>(part: Option<P>, read: impl FnOnce(P) -> Option<T>) -> Option<Option<T>> {
    part.map_or(Some(None), |part| read(part).map(Some))
}

pub(super) fn instant_of(word: &str) -> Option<Option<Timestamp>> {
    optional(word, |at| at.parse().ok().map(Timestamp::from_millis))
}
