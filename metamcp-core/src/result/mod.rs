//! Results: bodies that are stored once and then only pointed to.

mod cached;
mod memory;
mod tiered;

use std::{fmt, num::NonZeroU16};

use async_trait::async_trait;
use bytes::Bytes;
pub use cached::{CACHE_BYTES_MAX, CACHE_TTL, CacheOptions, CachedResultStore};
pub use memory::MemoryResultStore;
use serde::{Deserialize, Serialize};
pub use tiered::{INLINE_BYTES_MAX, TieredResultStore};

use crate::{error::StoreResult, id::TenantId, pointer::ResultPointer, queue::LeaseKey, time::Timestamp};

/// Largest result, in bytes.
pub const RESULT_BYTES_MAX: usize = 64 << 20;
/// Longest media type, in bytes.
pub const MEDIA_TYPE_BYTES_MAX: usize = 128;

/// What is known of a body beside its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultMeta {
    /// Whose result it is.
    pub tenant: TenantId,
    /// Such as `application/json`.
    pub media_type: String,
    /// When it may be removed; `None`: only by [`ResultStore::delete`].
    pub expires_at: Option<Timestamp>,
}

/// A part of a body: `len` bytes from `start`, cut at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte, from 0.
    pub start: u64,
    /// How many bytes.
    pub len: u64,
}

/// A body or a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultBody {
    /// The bytes asked for.
    pub bytes: Bytes,
    /// Length of the whole body, in bytes.
    pub total: u64,
    /// Such as `application/json`.
    pub media_type: String,
}

/// Keeps result bodies.
///
/// # Contract
/// - [`put`](Self::put) is durable before it returns, as far as the store is durable. The same body for the same job again gives the same
///   pointer; equal bodies within a tenant may share space, never across tenants.
/// - A whole body that is read was checked against the pointer's digest; a damaged one is `Corrupt`, never handed out.
/// - A pointer says nothing about rights: the caller checks them first.
///
/// # Cancel safety
/// A dropped `put` leaves at most an orphan body, which [`prune`](Self::prune) removes.
#[async_trait]
pub trait ResultStore: fmt::Debug + Send + Sync + 'static {
    /// Stores a body that the holder of `key` made. The key's fence is not checked here: what was not acked is never pointed to.
    ///
    /// # Errors
    /// `Invalid` above [`RESULT_BYTES_MAX`].
    async fn put(&self, key: LeaseKey, body: Bytes, meta: ResultMeta) -> StoreResult<ResultPointer>;

    /// Reads a body, or a part of it. A range that starts behind the end is `Invalid`.
    ///
    /// # Errors
    /// `NotFound` when it was never there or was removed.
    async fn get(&self, pointer: &ResultPointer, range: Option<ByteRange>) -> StoreResult<ResultBody>;

    /// Removes one pointer's body; what is not there is fine.
    async fn delete(&self, pointer: &ResultPointer) -> StoreResult<()>;

    /// Removes at most `max` bodies that expired before that instant; answers how many.
    async fn prune(&self, expired_before: Timestamp, max: NonZeroU16) -> StoreResult<u16>;
}

#[cfg(test)]
mod dyn_compatible {
    fn _holds(_: Box<dyn super::ResultStore>) {}
}
