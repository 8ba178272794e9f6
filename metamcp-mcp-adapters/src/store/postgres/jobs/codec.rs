//! A head as a row, and the parts of it that have a form of their own. What the columns mean is said in the schema.
//!
//! Everything that is written is read back equal: numbers by their bits, fractions by their shortest text, spans to the nanosecond.

use std::time::Duration;

use metamcp_core::{
    auth::Principal,
    error::{StoreError, StoreErrorKind, StoreResult},
    id::{JobId, Lane, TenantId, WorkerId},
    pointer::Digest,
    queue::{
        Answer, Checkpoint, ConcurrencyKey, InputRequest, JobError, JobHead, JobState, LeaseEnd, Progress, RateKey,
    },
    time::Timestamp,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio_postgres::{Row, types::FromSql};
use uuid::Uuid;

use super::super::{STORE, time::to_instant};

/// The columns of a head of `job j`, in the order in which [`head`] reads them.
macro_rules! head_columns {
    () => {
        "j.id, j.lane, j.tenant, j.subject, j.priority, j.state, j.created_at, j.updated_at, j.due_at, j.started_at, j.finished_at, \
         j.deadline_at, j.attempts, j.attempts_max, j.lost, j.lost_max, j.epoch, j.nonce, j.worker, j.lease_until, j.lease_end, \
         j.maybe_called, j.admitted, j.unsettled, j.users, j.candidate, j.input_until, j.after, j.waits_on, j.concurrency_key, \
         j.concurrency_max, j.idempotency_key, j.request_digest, j.cached_from, j.result, j.cancel_reason::text, j.error::text, \
         j.progress::text, j.talk::text, j.terms::text"
    };
}
pub(super) use head_columns;

/// How many columns a head has: what a query adds stands behind them.
pub(super) const HEAD_COLUMNS: usize = 40;

/// A ready job that is passed over for its concurrency key has a number of its own, so that an index can leave it out.
const BLOCKED: i16 = 3;

const STATES: [(JobState, i16); 8] = [
    (JobState::Waiting, 0),
    (JobState::Delayed, 1),
    (JobState::Ready, 2),
    (JobState::Leased, 4),
    (JobState::Input, 5),
    (JobState::Done, 6),
    (JobState::Dead, 7),
    (JobState::Cancelled, 8),
];

const LEASE_ENDS: [(LeaseEnd, i16); 5] = [
    (LeaseEnd::Finished, 0),
    (LeaseEnd::Failed, 1),
    (LeaseEnd::Released, 2),
    (LeaseEnd::Parked, 3),
    (LeaseEnd::Lost, 4),
];

/// A head and what the store remembers beside it.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) head: JobHead,
    /// It has ended and others may still wait for it.
    pub(super) unsettled: bool,
}

/// The large parts of a head that are seldom there.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Talk {
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoint: Option<Checkpoint>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    requests: Vec<InputRequest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<Answer>,
}

/// What never changes of a head and is only read as a whole.
#[derive(Debug, Serialize, Deserialize)]
struct Terms {
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<Duration>,
    retain: Duration,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<RateKey>,
}

/// Progress with its fractions as text: a JSON number may come back as its neighbour.
#[derive(Debug, Serialize, Deserialize)]
struct ProgressText {
    value: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

/// What time does next to a job: its kind as the column says it, in the order in which kinds of one instant run, and when.
pub(super) fn wake(head: &JobHead) -> Option<(i16, Timestamp)> {
    let queued = matches!(head.state, JobState::Waiting | JobState::Delayed | JobState::Ready | JobState::Input);
    [
        head.deadline_at.filter(|_| queued).map(|at| (at, WAKE_DEADLINE)),
        head.input_until.map(|at| (at, WAKE_INPUT)),
        head.lease_until.map(|at| (at, WAKE_LEASE)),
        (head.state == JobState::Delayed).then_some((head.due_at, WAKE_DUE)),
        // What others still use is kept.
        head.finished_at.filter(|_| head.users == 0).map(|at| (at + head.retain, WAKE_REMOVAL)),
    ]
    .into_iter()
    .flatten()
    .min()
    .map(|(at, kind)| (kind, at))
}

/// Given up, unless somebody holds it.
pub(super) const WAKE_DEADLINE: i16 = 0;
/// The wait for an answer is over.
pub(super) const WAKE_INPUT: i16 = 1;
/// The lease is over.
pub(super) const WAKE_LEASE: i16 = 2;
/// Delayed no more.
pub(super) const WAKE_DUE: i16 = 3;
/// Kept no more.
pub(super) const WAKE_REMOVAL: i16 = 4;

/// The number of a state, for heads.
pub(super) fn state_number(head: &JobHead) -> i16 {
    if head.blocked { BLOCKED } else { number_of(head.state) }
}

/// The numbers of a state: a ready job has two.
pub(super) fn state_numbers(state: JobState) -> impl Iterator<Item = i16> {
    [Some(number_of(state)), (state == JobState::Ready).then_some(BLOCKED)].into_iter().flatten()
}

fn number_of(state: JobState) -> i16 {
    let known = STATES.iter().find(|(known, _)| *known == state);
    known.map_or_else(|| unreachable!("every state has a number"), |(_, number)| *number)
}

/// The state of a number.
pub(super) fn state_of(number: i16) -> StoreResult<JobState> {
    let number = if number == BLOCKED { number_of(JobState::Ready) } else { number };
    let known = STATES.iter().find(|(_, known)| *known == number);
    known.map(|(state, _)| *state).ok_or_else(|| corrupt(&format!("a job is in a state of number {number}")))
}

pub(super) fn lease_end_number(end: LeaseEnd) -> i16 {
    let known = LEASE_ENDS.iter().find(|(known, _)| *known == end);
    known.map_or_else(|| unreachable!("every end has a number"), |(_, number)| *number)
}

pub(super) fn talk(head: &JobHead) -> Option<String> {
    let talk =
        Talk { checkpoint: head.checkpoint.clone(), requests: head.requests.clone(), answer: head.answer.clone() };
    let blank = talk.checkpoint.is_none() && talk.requests.is_empty() && talk.answer.is_none();
    (!blank).then(|| json(&talk))
}

pub(super) fn terms(head: &JobHead) -> String {
    json(&Terms { deadline: head.deadline, retain: head.retain, rate: head.rate.clone() })
}

pub(super) fn progress(progress: &Progress) -> String {
    let total = progress.total.map(|total| total.to_string());
    json(&ProgressText { value: progress.value.to_string(), total, message: progress.message.clone() })
}

/// As JSON text. What is given here has a form in JSON.
pub(super) fn json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|e| unreachable!("plain values have a form in JSON: {e}"))
}

/// The reason of a cancel wish.
pub(super) fn reason(text: &str) -> StoreResult<String> {
    serde_json::from_str(text).map_err(|e| corrupt("the reason of a cancel wish is not valid").with_source(e))
}

/// Ids as the text of an array, as arrays of arrays must all be of one length.
pub(super) fn id_array(ids: &[JobId]) -> Option<String> {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    (!ids.is_empty()).then(|| format!("{{{}}}", ids.join(",")))
}

pub(super) const fn uuid(id: JobId) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}

pub(super) const fn job_id(uuid: Uuid) -> JobId {
    JobId::from_bytes(*uuid.as_bytes())
}

/// The head of a row that begins with its columns.
pub(super) fn head(row: &Row) -> StoreResult<Stored> {
    let mut row = Reader { row, at: 0 };
    let id = job_id(row.take()?);
    let lane = Lane::new(row.take::<&str>()?).map_err(|_| bad(id, "lane"))?;
    let tenant = TenantId::new(row.take::<&str>()?).map_err(|_| bad(id, "tenant"))?;
    let owner = Principal::new(tenant, row.text(id, "subject")?.unwrap_or_default());
    let priority = u8::try_from(row.take::<i16>()?).map_err(|_| bad(id, "priority"))?;
    let number: i16 = row.take()?;
    let mut head = JobHead {
        id,
        owner,
        lane,
        priority,
        state: state_of(number)?,
        blocked: number == BLOCKED,
        created_at: row.instant()?,
        updated_at: row.instant()?,
        due_at: row.instant()?,
        started_at: row.instant_if()?,
        finished_at: row.instant_if()?,
        deadline_at: row.instant_if()?,
        attempts: row.count(id, "attempts")?,
        attempts_max: row.count(id, "attempts_max")?,
        lost: row.count(id, "lost")?,
        lost_max: row.count(id, "lost_max")?,
        epoch: row.take::<i64>()?.cast_unsigned(),
        nonce: row.take::<i64>()?.cast_unsigned(),
        worker: row.take::<Option<&str>>()?.map(WorkerId::new).transpose().map_err(|_| bad(id, "worker"))?,
        lease_until: row.instant_if()?,
        lease_end: row.take::<Option<i16>>()?.map(|number| lease_end_of(id, number)).transpose()?,
        maybe_called: row.take()?,
        admitted: row.take()?,
        deadline: None,
        retain: Duration::ZERO,
        rate: None,
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
        request_digest: Digest::from_bytes([0; 32]),
        after: Vec::new(),
        waits_on: Vec::new(),
        users: 0,
        concurrency: None,
        cached_from: None,
    };
    let unsettled = row.take()?;
    head.users = row.count(id, "users")?;
    head.candidate = u16::try_from(row.take::<i32>()?).map_err(|_| bad(id, "candidate"))?;
    head.input_until = row.instant_if()?;
    head.after = row.ids()?;
    head.waits_on = row.ids()?;
    let key = row.text(id, "concurrency_key")?;
    let max = row.take::<Option<i64>>()?.map(u32::try_from).transpose().map_err(|_| bad(id, "concurrency_max"))?;
    head.concurrency = key.zip(max).map(|(key, max)| ConcurrencyKey { key, max });
    head.idempotency_key = row.text(id, "idempotency_key")?;
    let digest = <[u8; 32]>::try_from(row.take::<&[u8]>()?).map_err(|_| bad(id, "request_digest"))?;
    head.request_digest = Digest::from_bytes(digest);
    head.cached_from = row.take::<Option<Uuid>>()?.map(job_id);
    let result = row.take::<Option<&str>>()?.map(str::parse).transpose();
    head.result = result.map_err(|_| bad(id, "result"))?;
    head.cancel_reason = row.json(id, "cancel_reason")?;
    head.error = row.json::<JobError>(id, "error")?;
    head.progress = row.json(id, "progress")?.map(read_progress).transpose().map_err(|()| bad(id, "progress"))?;
    let talk: Talk = row.json(id, "talk")?.unwrap_or_default();
    (head.checkpoint, head.requests, head.answer) = (talk.checkpoint, talk.requests, talk.answer);
    let terms: Terms = row.json(id, "terms")?.ok_or_else(|| bad(id, "terms"))?;
    (head.deadline, head.retain, head.rate) = (terms.deadline, terms.retain, terms.rate);
    Ok(Stored { head, unsettled })
}

fn lease_end_of(id: JobId, number: i16) -> StoreResult<LeaseEnd> {
    let known = LEASE_ENDS.iter().find(|(_, known)| *known == number);
    known.map(|(end, _)| *end).ok_or_else(|| bad(id, "lease_end"))
}

fn read_progress(text: ProgressText) -> Result<Progress, ()> {
    let number = |text: String| text.parse().map_err(|_| ());
    Ok(Progress { value: number(text.value)?, total: text.total.map(number).transpose()?, message: text.message })
}

/// Takes the columns of a row one after the other.
struct Reader<'r> {
    row: &'r Row,
    at: usize,
}

impl<'r> Reader<'r> {
    fn take<T: FromSql<'r>>(&mut self) -> StoreResult<T> {
        let at = self.at;
        self.at += 1;
        self.row.try_get(at).map_err(|e| corrupt(&format!("column {at} of a job cannot be read")).with_source(e))
    }

    fn instant(&mut self) -> StoreResult<Timestamp> {
        self.take().map(to_instant)
    }

    fn instant_if(&mut self) -> StoreResult<Option<Timestamp>> {
        Ok(self.take::<Option<i64>>()?.map(to_instant))
    }

    fn count(&mut self, id: JobId, column: &'static str) -> StoreResult<u32> {
        u32::try_from(self.take::<i64>()?).map_err(|_| bad(id, column))
    }

    fn ids(&mut self) -> StoreResult<Vec<JobId>> {
        Ok(self.take::<Option<Vec<Uuid>>>()?.unwrap_or_default().into_iter().map(job_id).collect())
    }

    fn text(&mut self, id: JobId, column: &'static str) -> StoreResult<Option<String>> {
        let text = self.take::<Option<&[u8]>>()?.map(|bytes| std::str::from_utf8(bytes).map(str::to_owned));
        text.transpose().map_err(|_| bad(id, column))
    }

    fn json<T: DeserializeOwned>(&mut self, id: JobId, column: &'static str) -> StoreResult<Option<T>> {
        let value = self.take::<Option<&str>>()?.map(serde_json::from_str);
        value.transpose().map_err(|e| bad(id, column).with_source(e))
    }
}

pub(super) fn bad(id: JobId, column: &str) -> StoreError {
    corrupt(&format!("`{column}` of job {id} is not valid"))
}

fn corrupt(what: &str) -> StoreError {
    StoreError::new(
        StoreErrorKind::Corrupt,
        STORE,
        format!("{what}; restore it from a backup, or run the program that wrote it"),
    )
}
