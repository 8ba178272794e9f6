//! The stored form of heads, version by version, in postcard.
//!
//! Each version has a struct of its own, so that a change of [`JobHead`] cannot change the format unseen. Field order and types are the format:
//! they never change, a new version gets a new struct. This build writes the newest and reads all.

use std::{borrow::Cow, time::Duration};

use metamcp_core::{
    auth::Principal,
    error::{StoreError, StoreErrorKind, StoreResult},
    id::{JobId, Lane, TenantId, WorkerId},
    pointer::{Digest, ResultPointer},
    queue::{
        Answer, Checkpoint, ConcurrencyKey, InputRequest, JobError, JobErrorCode, JobHead, JobState, LeaseEnd,
        Progress, RateKey,
    },
    time::Timestamp,
};
use serde::{Deserialize, Serialize, de::IntoDeserializer};

use super::{STORE, codec, keys::corrupt};

const NO_STORED_FORM: &str = "this head has no stored form";

/// Version 1.
#[derive(Debug, Serialize, Deserialize)]
struct HeadV1<'a> {
    id: [u8; 16],
    #[serde(borrow)]
    tenant: &'a str,
    subject: &'a str,
    lane: &'a str,
    priority: u8,
    state: u8,
    created_ms: u64,
    updated_ms: u64,
    due_ms: u64,
    started_ms: Option<u64>,
    finished_ms: Option<u64>,
    deadline_ms: Option<u64>,
    deadline: Option<(u64, u32)>,
    retain_s: u64,
    retain_subsec_ns: u32,
    attempts: u32,
    attempts_max: u32,
    lost: u32,
    lost_max: u32,
    epoch: u64,
    nonce: u64,
    worker: Option<&'a str>,
    lease_until_ms: Option<u64>,
    lease_end: Option<u8>,
    maybe_called: bool,
    cancel_reason: Option<&'a str>,
    candidate: u16,
    checkpoint: Option<(&'a str, bool)>,
    requests: Vec<(&'a str, &'a str)>,
    answer: Option<&'a str>,
    input_until_ms: Option<u64>,
    progress: Option<(f64, Option<f64>, Option<&'a str>)>,
    result: Option<(&'a str, [u8; 16], [u8; 32])>,
    error: Option<ErrorV1<'a>>,
    idempotency_key: Option<&'a str>,
    request_digest: [u8; 32],
}

/// Version 2: all of version 1, then what came with jobs that wait for jobs, and with concurrency and rate keys.
#[derive(Debug, Serialize, Deserialize)]
struct HeadV2<'a> {
    #[serde(borrow)]
    first: HeadV1<'a>,
    after: Vec<[u8; 16]>,
    waits_on: Vec<[u8; 16]>,
    users: u32,
    concurrency: Option<(&'a str, u32)>,
    blocked: bool,
    rate: Option<(&'a str, (u64, u32), u32)>,
    admitted: bool,
    cached_from: Option<[u8; 16]>,
}

/// The code by its name, so that the order of codes is no part of the format.
#[derive(Debug, Serialize, Deserialize)]
struct ErrorV1<'a> {
    #[serde(borrow)]
    code: Cow<'a, str>,
    message: &'a str,
}

const STATES: [(JobState, u8); 8] = [
    (JobState::Delayed, 0),
    (JobState::Ready, 1),
    (JobState::Leased, 2),
    (JobState::Input, 3),
    (JobState::Done, 4),
    (JobState::Dead, 5),
    (JobState::Cancelled, 6),
    (JobState::Waiting, 7),
];

const LEASE_ENDS: [(LeaseEnd, u8); 5] = [
    (LeaseEnd::Finished, 0),
    (LeaseEnd::Failed, 1),
    (LeaseEnd::Released, 2),
    (LeaseEnd::Parked, 3),
    (LeaseEnd::Lost, 4),
];

/// A span as seconds and nanoseconds.
const fn parts_of(span: Duration) -> (u64, u32) {
    (span.as_secs(), span.subsec_nanos())
}

/// Seconds and nanoseconds as a span. Nanoseconds of a second or more would carry over and may overflow: only damage writes them.
fn span_of((seconds, nanoseconds): (u64, u32)) -> Option<Duration> {
    (nanoseconds < 1_000_000_000).then(|| Duration::new(seconds, nanoseconds))
}

/// The code of a value that is stored by number.
fn code_of<T: PartialEq>(codes: &[(T, u8)], value: &T) -> Option<u8> {
    codes.iter().find(|(known, _)| known == value).map(|(_, code)| *code)
}

/// The value of a code.
fn value_of<T: Copy>(codes: &[(T, u8)], code: u8) -> Option<T> {
    codes.iter().find(|(_, known)| *known == code).map(|(value, _)| *value)
}

impl<'a> HeadV1<'a> {
    fn of(head: &'a JobHead) -> StoreResult<Self> {
        let unknown = || StoreError::new(StoreErrorKind::Invalid, STORE, NO_STORED_FORM);
        let error = head
            .error
            .as_ref()
            .map(|error| match serde_json::to_value(error.code) {
                Ok(serde_json::Value::String(code)) => Ok(ErrorV1 { code: Cow::Owned(code), message: &error.message }),
                _ => Err(unknown()),
            })
            .transpose()?;
        Ok(Self {
            id: *head.id.as_bytes(),
            tenant: head.owner.tenant.as_str(),
            subject: &head.owner.subject,
            lane: head.lane.as_str(),
            priority: head.priority,
            state: code_of(&STATES, &head.state).ok_or_else(unknown)?,
            created_ms: head.created_at.as_millis(),
            updated_ms: head.updated_at.as_millis(),
            due_ms: head.due_at.as_millis(),
            started_ms: head.started_at.map(Timestamp::as_millis),
            finished_ms: head.finished_at.map(Timestamp::as_millis),
            deadline_ms: head.deadline_at.map(Timestamp::as_millis),
            deadline: head.deadline.map(parts_of),
            retain_s: head.retain.as_secs(),
            retain_subsec_ns: head.retain.subsec_nanos(),
            attempts: head.attempts,
            attempts_max: head.attempts_max,
            lost: head.lost,
            lost_max: head.lost_max,
            epoch: head.epoch,
            nonce: head.nonce,
            worker: head.worker.as_ref().map(WorkerId::as_str),
            lease_until_ms: head.lease_until.map(Timestamp::as_millis),
            lease_end: head.lease_end.map(|how| code_of(&LEASE_ENDS, &how).ok_or_else(unknown)).transpose()?,
            maybe_called: head.maybe_called,
            cancel_reason: head.cancel_reason.as_deref(),
            candidate: head.candidate,
            checkpoint: head.checkpoint.as_ref().map(|at| (at.text.as_str(), at.replay_safe)),
            requests: head.requests.iter().map(|asked| (asked.key.as_str(), asked.request.as_str())).collect(),
            answer: head.answer.as_ref().map(|answer| answer.responses.as_str()),
            input_until_ms: head.input_until.map(Timestamp::as_millis),
            progress: head.progress.as_ref().map(|p| (p.value, p.total, p.message.as_deref())),
            result: head.result.as_ref().map(|at| (at.tenant.as_str(), *at.job.as_bytes(), *at.digest.as_bytes())),
            error,
            idempotency_key: head.idempotency_key.as_deref(),
            request_digest: *head.request_digest.as_bytes(),
        })
    }

    fn into_head(self, key: &[u8]) -> StoreResult<JobHead> {
        let bad = |what: &str| corrupt(key, &format!("{what} is not valid"));
        let code = |name: &str| {
            let name: serde::de::value::StrDeserializer<'_, serde::de::value::Error> = name.into_deserializer();
            JobErrorCode::deserialize(name).map_err(|_| bad("the error code"))
        };
        let result = self
            .result
            .map(|(tenant, job, digest)| {
                Ok::<_, StoreError>(ResultPointer {
                    tenant: TenantId::new(tenant).map_err(|_| bad("the result's tenant"))?,
                    job: JobId::from_bytes(job),
                    digest: Digest::from_bytes(digest),
                })
            })
            .transpose()?;
        let error = self
            .error
            .map(|error| Ok::<_, StoreError>(JobError { code: code(&error.code)?, message: error.message.to_owned() }))
            .transpose()?;
        let tenant = TenantId::new(self.tenant).map_err(|_| bad("the tenant"))?;
        Ok(JobHead {
            id: JobId::from_bytes(self.id),
            owner: Principal::new(tenant, self.subject),
            lane: Lane::new(self.lane).map_err(|_| bad("the lane"))?,
            priority: self.priority,
            state: value_of(&STATES, self.state).ok_or_else(|| bad("the state"))?,
            created_at: Timestamp::from_millis(self.created_ms),
            updated_at: Timestamp::from_millis(self.updated_ms),
            due_at: Timestamp::from_millis(self.due_ms),
            started_at: self.started_ms.map(Timestamp::from_millis),
            finished_at: self.finished_ms.map(Timestamp::from_millis),
            deadline_at: self.deadline_ms.map(Timestamp::from_millis),
            deadline: self.deadline.map(|span| span_of(span).ok_or_else(|| bad("the deadline"))).transpose()?,
            retain: span_of((self.retain_s, self.retain_subsec_ns)).ok_or_else(|| bad("the retention"))?,
            attempts: self.attempts,
            attempts_max: self.attempts_max,
            lost: self.lost,
            lost_max: self.lost_max,
            epoch: self.epoch,
            nonce: self.nonce,
            worker: self.worker.map(WorkerId::new).transpose().map_err(|_| bad("the worker"))?,
            lease_until: self.lease_until_ms.map(Timestamp::from_millis),
            lease_end: self
                .lease_end
                .map(|code| value_of(&LEASE_ENDS, code).ok_or_else(|| bad("the lease's end")))
                .transpose()?,
            maybe_called: self.maybe_called,
            cancel_reason: self.cancel_reason.map(str::to_owned),
            candidate: self.candidate,
            checkpoint: self.checkpoint.map(|(text, replay_safe)| Checkpoint { text: text.to_owned(), replay_safe }),
            requests: self
                .requests
                .into_iter()
                .map(|(key, request)| InputRequest { key: key.to_owned(), request: request.to_owned() })
                .collect(),
            answer: self.answer.map(|responses| Answer { responses: responses.to_owned() }),
            input_until: self.input_until_ms.map(Timestamp::from_millis),
            progress: self.progress.map(|(value, total, message)| Progress {
                value,
                total,
                message: message.map(str::to_owned),
            }),
            result,
            error,
            idempotency_key: self.idempotency_key.map(str::to_owned),
            request_digest: Digest::from_bytes(self.request_digest),
            after: Vec::new(),
            waits_on: Vec::new(),
            users: 0,
            concurrency: None,
            blocked: false,
            rate: None,
            admitted: false,
            cached_from: None,
        })
    }
}

impl<'a> HeadV2<'a> {
    fn of(head: &'a JobHead) -> StoreResult<Self> {
        let ids = |jobs: &[JobId]| jobs.iter().map(|job| *job.as_bytes()).collect();
        Ok(Self {
            first: HeadV1::of(head)?,
            after: ids(&head.after),
            waits_on: ids(&head.waits_on),
            users: head.users,
            concurrency: head.concurrency.as_ref().map(|limit| (limit.key.as_str(), limit.max)),
            blocked: head.blocked,
            rate: head.rate.as_ref().map(|rate| (rate.key.as_str(), parts_of(rate.every), rate.burst)),
            admitted: head.admitted,
            cached_from: head.cached_from.map(|job| *job.as_bytes()),
        })
    }

    fn into_head(self, key: &[u8]) -> StoreResult<JobHead> {
        let jobs = |ids: Vec<[u8; 16]>| ids.into_iter().map(JobId::from_bytes).collect();
        let rate = |(name, every, burst): (&str, (u64, u32), u32)| {
            let every = span_of(every).ok_or_else(|| corrupt(key, "the rate is not valid"))?;
            Ok::<_, StoreError>(RateKey { key: name.to_owned(), every, burst })
        };
        Ok(JobHead {
            after: jobs(self.after),
            waits_on: jobs(self.waits_on),
            users: self.users,
            concurrency: self.concurrency.map(|(name, max)| ConcurrencyKey { key: name.to_owned(), max }),
            blocked: self.blocked,
            rate: self.rate.map(rate).transpose()?,
            admitted: self.admitted,
            cached_from: self.cached_from.map(JobId::from_bytes),
            ..self.first.into_head(key)?
        })
    }
}

/// A head as a record, in the newest version.
pub(super) fn encode_head(key: &[u8], head: &JobHead) -> StoreResult<Vec<u8>> {
    let stored = HeadV2::of(head)?;
    codec::seal(key, |record| {
        postcard::to_extend(&stored, record)
            .map_err(|e| StoreError::new(StoreErrorKind::Invalid, STORE, NO_STORED_FORM).with_source(e))
    })
}

/// The head of a record of any version.
pub(super) fn decode_head(key: &[u8], record: &[u8]) -> StoreResult<JobHead> {
    let payload = codec::open(key, record)?;
    match codec::version_of(record) {
        1 => whole::<HeadV1<'_>>(key, payload)?.into_head(key),
        _ => whole::<HeadV2<'_>>(key, payload)?.into_head(key),
    }
}

/// A payload that is this and nothing more.
fn whole<'r, T: Deserialize<'r>>(key: &[u8], payload: &'r [u8]) -> StoreResult<T> {
    let (stored, rest) = postcard::take_from_bytes::<T>(payload)
        .map_err(|e| corrupt(key, "it is not a head of its version").with_source(e))?;
    if rest.is_empty() { Ok(stored) } else { Err(corrupt(key, "it is longer than a head of its version")) }
}
