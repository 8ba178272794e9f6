//! Small documents of the engine itself that must outlive a process and be seen by all of them: schedules, batches, cached calls.
//!
//! Not a database for users: values are small, found by kind and name, and changed by comparing versions.

mod memory;

use std::{fmt, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
pub use memory::MemoryRecordStore;
use serde::{Deserialize, Serialize};

use crate::{
    error::{StoreError, StoreErrorKind, StoreResult},
    time::Timestamp,
};

/// Longest name, in bytes.
pub const RECORD_NAME_BYTES_MAX: usize = 256;
/// Largest value, in bytes.
pub const RECORD_BYTES_MAX: usize = 256 << 10;
/// Most records on one page of a list.
pub const RECORD_PAGE_MAX: u16 = 200;

/// What a record is. A closed set: each kind belongs to one room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RecordKind {
    /// A recurring task.
    Schedule,
    /// Tasks that were submitted together.
    Batch,
    /// The result of a call that may be served again.
    Call,
    /// What the replicas of a gateway share: the key of their seals, answers of clients on their way to the replica that asked.
    Gateway,
    /// What a server offered when it was last asked, so that a gateway can list it before the server is up.
    Catalog,
    /// What a tenant's jobs taught the matcher.
    History,
    /// Answers to requests that wait in another process, on their way there, and what came of them.
    Handover,
}

impl RecordKind {
    /// The kind as stores write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Batch => "batch",
            Self::Call => "call",
            Self::Gateway => "gateway",
            Self::Catalog => "catalog",
            Self::History => "history",
            Self::Handover => "handover",
        }
    }
}

/// A record as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its name, 1 to [`RECORD_NAME_BYTES_MAX`] bytes.
    pub name: String,
    /// Counts its writes, from 1; begins anew when it was removed in between.
    pub version: u64,
    /// The value, at most [`RECORD_BYTES_MAX`] bytes.
    pub value: Bytes,
}

/// What must be true of a record for it to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Anything,
    /// It is not there.
    Absent,
    /// It stands in this version.
    Version(u64),
}

/// What a write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It stands in this version now.
    Ok {
        /// The version.
        version: u64,
    },
    /// It was not as expected; nothing was changed.
    Conflict {
        /// The version that stands; `None` when it is not there.
        version: Option<u64>,
    },
}

/// Keeps records.
///
/// # Contract
/// - A write is durable before it returns, as far as the store is durable, and atomic: of two writers that expect the same version one is
///   told of the conflict.
/// - A record past its time is not there. Time is the store's.
///
/// # Cancel safety
/// Dropping a future may leave its write done or undone; read to know.
#[async_trait]
pub trait RecordStore: fmt::Debug + Send + Sync + 'static {
    /// One record.
    async fn get(&self, kind: RecordKind, name: &str) -> StoreResult<Option<Record>>;

    /// Writes a record, kept for `ttl` or until it is deleted.
    ///
    /// # Errors
    /// `Invalid` for a name or a value out of bounds, or a `ttl` below one millisecond.
    async fn put(
        &self,
        kind: RecordKind,
        name: &str,
        value: Bytes,
        expect: Expect,
        ttl: Option<Duration>,
    ) -> StoreResult<Written>;

    /// What time it is for the store.
    async fn now(&self) -> StoreResult<Timestamp>;

    /// Removes a record; answers whether it was there.
    async fn delete(&self, kind: RecordKind, name: &str) -> StoreResult<bool>;

    /// Records of a kind in order of name (bytewise), after `after`, at most `max` and never more than [`RECORD_PAGE_MAX`]. A short page is the last.
    async fn list(&self, kind: RecordKind, after: Option<&str>, max: u16) -> StoreResult<Vec<Record>>;
}

/// Checks what is to be written.
///
/// # Errors
/// `Invalid` for a name or a value out of bounds, or a `ttl` below one millisecond.
pub fn check_put(store: &'static str, name: &str, value: &Bytes, ttl: Option<Duration>) -> StoreResult<()> {
    let refuse = |why: String| Err(StoreError::new(StoreErrorKind::Invalid, store, why));
    if name.is_empty() || name.len() > RECORD_NAME_BYTES_MAX {
        return refuse(format!("a record's name has 1 to {RECORD_NAME_BYTES_MAX} bytes, this one {}", name.len()));
    }
    if value.len() > RECORD_BYTES_MAX {
        return refuse(format!("a record has at most {RECORD_BYTES_MAX} bytes, this one {}", value.len()));
    }
    match ttl {
        Some(ttl) if ttl.as_millis() == 0 => refuse("a record is kept for at least 1 millisecond".to_owned()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod dyn_compatible {
    fn _holds(_: Box<dyn super::RecordStore>) {}
}
