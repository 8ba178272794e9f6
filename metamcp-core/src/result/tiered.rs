//! Two result stores as one: small bodies stay beside the jobs, large ones go to a store made for them. The pointer is the same for both.
//!
//! A pointer does not say where its body is. Reading asks the small store first, as most results are small and it is the nearer one; a body
//! found in the large store is remembered, so that the next part of it costs one trip.

use std::{
    num::NonZeroU16,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use moka::sync::Cache;

use super::{ByteRange, ResultBody, ResultMeta, ResultStore};
use crate::{
    error::{StoreErrorKind, StoreResult},
    pointer::ResultPointer,
    queue::LeaseKey,
    time::Timestamp,
};

/// Largest body that stays in the small store unless it is told otherwise, in bytes.
pub const INLINE_BYTES_MAX: usize = 16 << 10;
/// Pointers that are remembered to be in the large store.
const KNOWN_LARGE_MAX: u64 = 10_000;

/// A [`ResultStore`] that keeps a body in one of two by its size.
///
/// The bound may differ between processes and change at any time: what was put before is found in either. Only a body that two attempts of
/// one job put on both sides of a changed bound is there twice; deleting it removes one, and the other goes when it expires.
#[derive(Debug)]
pub struct TieredResultStore {
    small: Arc<dyn ResultStore>,
    large: Arc<dyn ResultStore>,
    inline_bytes_max: usize,
    known_large: Cache<ResultPointer, ()>,
    large_is_next: AtomicBool,
}

impl TieredResultStore {
    /// Bodies of up to `inline_bytes_max` bytes in `small`, others in `large`.
    #[must_use]
    pub fn new(small: Arc<dyn ResultStore>, large: Arc<dyn ResultStore>, inline_bytes_max: usize) -> Self {
        let known_large = Cache::new(KNOWN_LARGE_MAX);
        Self { small, large, inline_bytes_max, known_large, large_is_next: AtomicBool::new(false) }
    }

    async fn get_large(&self, pointer: &ResultPointer, range: Option<ByteRange>) -> StoreResult<ResultBody> {
        let body = self.large.get(pointer, range).await?;
        self.known_large.insert(pointer.clone(), ());
        Ok(body)
    }

    /// Whether the small store has the body, damaged or not.
    async fn is_small(&self, pointer: &ResultPointer) -> StoreResult<bool> {
        match self.small.get(pointer, Some(ByteRange { start: 0, len: 0 })).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) if error.kind() == StoreErrorKind::Corrupt => Ok(true),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ResultStore for TieredResultStore {
    async fn put(&self, key: LeaseKey, body: Bytes, meta: ResultMeta) -> StoreResult<ResultPointer> {
        if body.len() <= self.inline_bytes_max {
            return self.small.put(key, body, meta).await;
        }
        let pointer = self.large.put(key, body, meta).await?;
        self.known_large.insert(pointer.clone(), ());
        Ok(pointer)
    }

    async fn get(&self, pointer: &ResultPointer, range: Option<ByteRange>) -> StoreResult<ResultBody> {
        let known_large = self.known_large.contains_key(pointer);
        let (first, then_large) = if known_large {
            (self.large.get(pointer, range).await, false)
        } else {
            (self.small.get(pointer, range).await, true)
        };
        match first {
            Err(error) if error.is_not_found() && then_large => self.get_large(pointer, range).await,
            Err(error) if error.is_not_found() => {
                self.known_large.invalidate(pointer);
                self.small.get(pointer, range).await
            }
            answer => answer,
        }
    }

    async fn delete(&self, pointer: &ResultPointer) -> StoreResult<()> {
        // Asking the near store spares a trip to the far one for each of the many small results.
        if !self.known_large.contains_key(pointer) && self.is_small(pointer).await? {
            return self.small.delete(pointer).await;
        }
        self.large.delete(pointer).await?;
        self.known_large.invalidate(pointer);
        Ok(())
    }

    /// As of [`ResultStore::prune`]; the two stores take turns in who is pruned first. When one fails the other is pruned all the same.
    async fn prune(&self, expired_before: Timestamp, max: NonZeroU16) -> StoreResult<u16> {
        let large_first = self.large_is_next.fetch_xor(true, Ordering::Relaxed);
        let (first, second) = if large_first { (&self.large, &self.small) } else { (&self.small, &self.large) };
        let removed = first.prune(expired_before, max).await;
        let count = removed.as_ref().copied().unwrap_or_default();
        let more = match NonZeroU16::new(max.get().saturating_sub(count)) {
            Some(rest) => second.prune(expired_before, rest).await,
            None => Ok(0),
        };
        Ok(removed?.saturating_add(more?))
    }
}
