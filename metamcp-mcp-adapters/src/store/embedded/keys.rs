//! The keys of the journal: one byte for the kind, then what names the record, so that every walk is a range in the order of the key.
//!
//! Part of the stored form: a key never changes its meaning. What a record holds is in `codec`.

use metamcp_core::{
    error::{StoreError, StoreErrorKind, StoreResult},
    id::{JobId, Lane, TenantId},
    pointer::{Digest, ResultPointer},
    queue::JobHead,
    record::RecordKind,
    time::Timestamp,
};

use super::STORE;

/// What a key is of: its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// Job id → body.
    Body = b'B',
    /// Record kind, name → record of the record store.
    Record = b'D',
    /// Cursor → event.
    Event = b'E',
    /// Job id → head of a job that is done or cancelled.
    Final = b'F',
    /// Digest of tenant and idempotency key → job id.
    Idempotency = b'I',
    /// Job id → head of any other job; a reopen reads only these.
    Live = b'L',
    /// Facts of the journal itself.
    Meta = b'M',
    /// A paused lane.
    Paused = b'P',
    /// Tenant, digest, job → what is known of a result.
    Result = b'R',
    /// Instant, job id: when an ended job may be removed.
    JobExpiry = b'X',
    /// Instant, result key: when a result may be removed.
    ResultExpiry = b'Y',
    /// Instant, record key: when a record may be removed.
    RecordExpiry = b'Z',
}

impl Kind {
    const ALL: [(Self, &'static str); 12] = [
        (Self::Body, "body"),
        (Self::Record, "record"),
        (Self::Event, "event"),
        (Self::Final, "final"),
        (Self::Idempotency, "idempotency"),
        (Self::Live, "live"),
        (Self::Meta, "meta"),
        (Self::Paused, "paused"),
        (Self::Result, "result"),
        (Self::JobExpiry, "job expiry"),
        (Self::ResultExpiry, "result expiry"),
        (Self::RecordExpiry, "record expiry"),
    ];

    /// The kind of a key, with its name for people.
    pub(super) fn of(key: &[u8]) -> Option<(Self, &'static str)> {
        let byte = *key.first()?;
        Self::ALL.into_iter().find(|(kind, _)| *kind as u8 == byte)
    }

    /// The smallest key of the kind.
    pub(super) fn first(self) -> Vec<u8> {
        vec![self as u8]
    }

    /// The smallest key behind the kind.
    pub(super) fn end(self) -> Vec<u8> {
        vec![self as u8 + 1]
    }
}

fn key(kind: Kind, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + parts.iter().map(|part| part.len()).sum::<usize>());
    key.push(kind as u8);
    parts.iter().for_each(|part| key.extend_from_slice(part));
    key
}

/// The key of a kind that is named by a job: body, live or final head.
pub(super) fn job_key(kind: Kind, job: JobId) -> Vec<u8> {
    key(kind, &[job.as_bytes()])
}

/// The job a key of [`job_key`], or of [`expiry_of`], ends with.
pub(super) fn job_of(key: &[u8]) -> StoreResult<JobId> {
    let bytes = key.last_chunk::<16>().ok_or_else(|| corrupt(key, "the key holds no job id"))?;
    Ok(JobId::from_bytes(*bytes))
}

/// The key of an event.
pub(super) fn event_key(cursor: u64) -> Vec<u8> {
    key(Kind::Event, &[&cursor.to_be_bytes()])
}

/// The cursor a key of [`event_key`] holds.
pub(super) fn cursor_of(key: &[u8]) -> StoreResult<u64> {
    let bytes = key.last_chunk::<8>().ok_or_else(|| corrupt(key, "the key holds no cursor"))?;
    Ok(u64::from_be_bytes(*bytes))
}

/// The key of an idempotency key: keys are long and private, so only a digest of tenant and key is stored.
pub(super) fn idempotency_key(tenant: &TenantId, word: &str) -> Vec<u8> {
    let mut text = Vec::with_capacity(tenant.as_str().len() + 1 + word.len());
    text.extend_from_slice(tenant.as_str().as_bytes());
    text.push(0);
    text.extend_from_slice(word.as_bytes());
    key(Kind::Idempotency, &[Digest::of(&text).as_bytes()])
}

/// The key of a paused lane.
pub(super) fn paused_key(lane: &Lane) -> Vec<u8> {
    key(Kind::Paused, &[lane.as_str().as_bytes()])
}

/// The lane a key of [`paused_key`] names.
pub(super) fn lane_of(key: &[u8]) -> StoreResult<Lane> {
    let name = std::str::from_utf8(&key[1..]).map_err(|e| corrupt(key, "the lane is not text").with_source(e))?;
    Lane::new(name).map_err(|e| corrupt(key, "the lane's name is not valid").with_source(e))
}

/// The key of the journal's format record.
pub(super) fn format_key() -> Vec<u8> {
    key(Kind::Meta, &[b"format"])
}

/// The first key of all results with this tenant and digest. Tenant names hold no zero byte, so the parts cannot run into each other.
pub(super) fn blob_key(tenant: &TenantId, digest: &Digest) -> Vec<u8> {
    key(Kind::Result, &[tenant.as_str().as_bytes(), &[0], digest.as_bytes()])
}

/// The key of one result.
pub(super) fn result_key(pointer: &ResultPointer) -> Vec<u8> {
    let mut key = blob_key(&pointer.tenant, &pointer.digest);
    key.extend_from_slice(pointer.job.as_bytes());
    key
}

/// The key that says when an ended job may be removed.
pub(super) fn expiry_of(head: &JobHead) -> Vec<u8> {
    let at = head.finished_at.unwrap_or(head.updated_at) + head.retain;
    key(Kind::JobExpiry, &[&at.as_millis().to_be_bytes(), head.id.as_bytes()])
}

/// The key that says when a result may be removed.
pub(super) fn result_expiry_key(at: Timestamp, pointer: &ResultPointer) -> Vec<u8> {
    key(Kind::ResultExpiry, &[&at.as_millis().to_be_bytes(), &result_key(pointer)[1..]])
}

/// The key of a record. Names of kinds hold no zero byte, so the parts cannot run into each other.
pub(super) fn record_key(kind: RecordKind, name: &str) -> Vec<u8> {
    key(Kind::Record, &[kind.as_str().as_bytes(), &[0], name.as_bytes()])
}

/// The smallest key behind all records of a kind.
pub(super) fn records_end(kind: RecordKind) -> Vec<u8> {
    key(Kind::Record, &[kind.as_str().as_bytes(), &[1]])
}

/// The name that a key of [`record_key`] holds.
pub(super) fn record_name(key: &[u8]) -> StoreResult<&str> {
    let bad = || corrupt(key, "the key names no record");
    let zero = key.iter().position(|byte| *byte == 0).ok_or_else(bad)?;
    std::str::from_utf8(&key[zero + 1..]).map_err(|_| bad())
}

/// The key that says when a record may be removed.
pub(super) fn record_expiry_key(at: Timestamp, record_key: &[u8]) -> Vec<u8> {
    key(Kind::RecordExpiry, &[&at.as_millis().to_be_bytes(), &record_key[1..]])
}

/// The key of the record that a key of [`record_expiry_key`] is of.
pub(super) fn expired_record_of(expiry: &[u8]) -> StoreResult<Vec<u8>> {
    let name = expiry.get(9..).ok_or_else(|| corrupt(expiry, "the key names no record"))?;
    Ok(key(Kind::Record, &[name]))
}

/// The first key of the kind (an expiry) that is later than `at`.
pub(super) fn expiry_end(kind: Kind, at: Timestamp) -> Vec<u8> {
    key(kind, &[&at.as_millis().saturating_add(1).to_be_bytes()])
}

/// The result that a key of [`result_expiry_key`] is of.
pub(super) fn expired_result_of(key: &[u8]) -> StoreResult<ResultPointer> {
    let bad = || corrupt(key, "the key names no result");
    let name = key.get(9..).ok_or_else(bad)?;
    let zero = name.iter().position(|byte| *byte == 0).ok_or_else(bad)?;
    let (tenant, rest) = name.split_at(zero);
    let (digest, job) = rest[1..].split_first_chunk::<32>().ok_or_else(bad)?;
    let tenant = std::str::from_utf8(tenant).map_err(|_| bad())?;
    Ok(ResultPointer {
        tenant: TenantId::new(tenant).map_err(|_| bad())?,
        job: JobId::from_bytes(job.try_into().map_err(|_| bad())?),
        digest: Digest::from_bytes(*digest),
    })
}

/// An error about the record under `key`, which it names.
pub(super) fn corrupt(key: &[u8], what: &str) -> StoreError {
    let kind = Kind::of(key).map_or("unknown", |(_, name)| name);
    let name = key.get(1..).unwrap_or_default();
    let name = match (kind, <[u8; 16]>::try_from(name)) {
        ("body" | "final" | "live", Ok(id)) => JobId::from_bytes(id).to_string(),
        _ => name.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    StoreError::new(StoreErrorKind::Corrupt, STORE, format!("record {kind}/{name}: {what}"))
}
