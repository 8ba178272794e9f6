//! The stored form of everything but heads, as pure functions from and to bytes: a record is a version byte, a CRC-32 over key and payload, and
//! the payload. Bodies, events and result references are JSON. Nothing here touches a disk.
//!
//! One version counts for all kinds. Version 2 has other heads than version 1 (see `head`), and the records of [`RecordStore`]; everything else
//! is the same in both. The journal's format record has the version of the newest build that opened it, so that an older one stops there.
//!
//! [`RecordStore`]: metamcp_core::record::RecordStore

use metamcp_core::{
    error::{StoreError, StoreErrorKind, StoreResult},
    id::JobId,
    queue::JobBody,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use super::{STORE, keys::corrupt};

/// The version of every record this build writes, and the newest it reads.
pub(super) const RECORD_VERSION: u8 = 2;
/// Version byte and CRC before the payload, in bytes.
const RECORD_HEADER_BYTES: usize = 5;

/// A record under `key`, its payload as `fill` appends it.
pub(super) fn seal(key: &[u8], fill: impl FnOnce(Vec<u8>) -> StoreResult<Vec<u8>>) -> StoreResult<Vec<u8>> {
    let mut record = Vec::with_capacity(320);
    record.push(RECORD_VERSION);
    record.extend_from_slice(&[0; 4]);
    let mut record = fill(record)?;
    let crc = checksum(key, &record).to_le_bytes();
    record[1..RECORD_HEADER_BYTES].copy_from_slice(&crc);
    Ok(record)
}

/// Over key, version and payload: a record under a key that is not its own is damage too.
fn checksum(key: &[u8], record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(&record[..1]);
    hasher.update(&record[RECORD_HEADER_BYTES..]);
    hasher.finalize()
}

/// The version a record was written with.
pub(super) fn version_of(record: &[u8]) -> u8 {
    record.first().copied().unwrap_or_default()
}

/// The payload of a record that is whole and of a version this build reads.
pub(super) fn open<'r>(key: &[u8], record: &'r [u8]) -> StoreResult<&'r [u8]> {
    if record.len() < RECORD_HEADER_BYTES {
        return Err(corrupt(key, "it is cut short; restore the data directory from a copy"));
    }
    if version_of(record) > RECORD_VERSION {
        let what = format!(
            "version {} is newer than {RECORD_VERSION}, the newest this build reads; run the build that wrote it, or a newer one",
            version_of(record)
        );
        return Err(corrupt(key, &what));
    }
    let stored = u32::from_le_bytes([record[1], record[2], record[3], record[4]]);
    if stored != checksum(key, record) {
        return Err(corrupt(key, "its checksum does not match; restore the data directory from a copy"));
    }
    Ok(&record[RECORD_HEADER_BYTES..])
}

/// A record that says all by its key.
pub(super) fn encode_mark(key: &[u8]) -> StoreResult<Vec<u8>> {
    seal(key, Ok)
}

/// Checks a record of [`encode_mark`].
pub(super) fn decode_mark(key: &[u8], record: &[u8]) -> StoreResult<()> {
    open(key, record).map(drop)
}

/// A record that holds a job id.
pub(super) fn encode_job_id(key: &[u8], job: JobId) -> StoreResult<Vec<u8>> {
    seal(key, |mut record| {
        record.extend_from_slice(job.as_bytes());
        Ok(record)
    })
}

/// The id of a record of [`encode_job_id`].
pub(super) fn decode_job_id(key: &[u8], record: &[u8]) -> StoreResult<JobId> {
    let bytes = <[u8; 16]>::try_from(open(key, record)?).map_err(|_| corrupt(key, "it holds no job id"))?;
    Ok(JobId::from_bytes(bytes))
}

/// A record in JSON: a body, an event, a result reference.
pub(super) fn encode_json<T: Serialize>(key: &[u8], value: &T) -> StoreResult<Vec<u8>> {
    seal(key, |mut record| {
        serde_json::to_writer(&mut record, value).map_err(|e| {
            StoreError::new(StoreErrorKind::Invalid, STORE, "this value has no stored form").with_source(e)
        })?;
        Ok(record)
    })
}

/// The value of a record of [`encode_json`].
pub(super) fn decode_json<'r, T: Deserialize<'r>>(key: &[u8], record: &'r [u8]) -> StoreResult<T> {
    serde_json::from_slice(open(key, record)?).map_err(|e| corrupt(key, "its JSON does not fit").with_source(e))
}

/// The body of a job.
pub(super) fn decode_body(key: &[u8], record: &[u8]) -> StoreResult<JobBody> {
    decode_json(key, record)
}

/// What is stored of a result beside its body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ResultRecord {
    /// Such as `application/json`.
    pub(super) media_type: String,
    /// Length of the body, in bytes.
    pub(super) bytes: u64,
    /// When it may be removed.
    pub(super) expires_at: Option<Timestamp>,
}

/// What is stored of a record before its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct RecordHeader {
    version: u64,
    until_ms: Option<u64>,
}

/// A record of the record store, as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoredRecord<'r> {
    /// Counts its writes.
    pub(super) version: u64,
    /// When it is not there any more.
    pub(super) until: Option<Timestamp>,
    /// The value.
    pub(super) value: &'r [u8],
}

impl StoredRecord<'_> {
    /// Whether its time is not over.
    pub(super) fn is_live(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| until > now)
    }
}

/// A record of the record store.
pub(super) fn encode_record(key: &[u8], stored: &StoredRecord<'_>) -> StoreResult<Vec<u8>> {
    let header = RecordHeader { version: stored.version, until_ms: stored.until.map(Timestamp::as_millis) };
    seal(key, |record| {
        let mut record = postcard::to_extend(&header, record).map_err(|e| {
            StoreError::new(StoreErrorKind::Invalid, STORE, "this record has no stored form").with_source(e)
        })?;
        record.extend_from_slice(stored.value);
        Ok(record)
    })
}

/// The record of [`encode_record`].
pub(super) fn decode_record<'r>(key: &[u8], record: &'r [u8]) -> StoreResult<StoredRecord<'r>> {
    let (header, value) = postcard::take_from_bytes::<RecordHeader>(open(key, record)?)
        .map_err(|e| corrupt(key, "it is not a record with its version").with_source(e))?;
    Ok(StoredRecord { version: header.version, until: header.until_ms.map(Timestamp::from_millis), value })
}
