//! A cache in memory in front of any result store: whole small bodies, and aligned blocks of large ones. Many readers of one block wait for
//! one read.

use std::{fmt, num::NonZeroU16, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use moka::future::Cache;

use super::{ByteRange, RESULT_BYTES_MAX, ResultBody, ResultMeta, ResultStore};
use crate::{
    error::{StoreError, StoreErrorKind, StoreResult},
    pointer::{Digest, ResultPointer},
    queue::LeaseKey,
    time::Timestamp,
};

const STORE: &str = "result cache";

/// Bytes of bodies that a cache keeps unless it is told otherwise.
pub const CACHE_BYTES_MAX: u64 = 64 << 20;
/// How long a cache serves what it has read unless it is told otherwise.
pub const CACHE_TTL: Duration = Duration::from_secs(60);

/// Length of a block: what is read at once of a large body, and the largest body that is kept whole.
const BLOCK_BYTES: u64 = 256 << 10;
/// Blocks of the largest body.
const BLOCKS_MAX: u64 = (RESULT_BYTES_MAX as u64).div_ceil(BLOCK_BYTES);
/// Most blocks one read is put together from; a longer part goes past the cache, which it would only sweep clean.
const BLOCKS_OF_READ_MAX: u64 = 4;
/// What one block costs beside its bytes, about: key, media type, the cache's own records.
const BLOCK_OVERHEAD_BYTES: u32 = 512;

/// How much is cached and how long.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CacheOptions {
    /// Most bytes kept, each block counted with what it costs beside.
    pub bytes_max: u64,
    /// How long something is served after it was read. So long a body may still be read here that another process has removed.
    pub ttl: Duration,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self { bytes_max: CACHE_BYTES_MAX, ttl: CACHE_TTL }
    }
}

/// A [`ResultStore`] that remembers what it read from another.
///
/// What is removed through this value is not served any more, but for a read that was under way just then. What is removed elsewhere is served
/// until [`ttl`](CacheOptions::ttl) has passed since it was read, and never longer; so is a media type that a later put changed. Nothing is
/// remembered of a body that was not found. Bodies never change, and one that is served whole was checked against its digest.
pub struct CachedResultStore {
    inner: Arc<dyn ResultStore>,
    blocks: Cache<(ResultPointer, u64), Block>,
}

#[derive(Debug, Clone)]
struct Block {
    bytes: Bytes,
    /// Length of the whole body.
    total: u64,
    media_type: Arc<str>,
}

impl Block {
    fn is_whole(&self) -> bool {
        self.bytes.len() as u64 == self.total
    }

    fn body(&self, bytes: Bytes) -> ResultBody {
        ResultBody { bytes, total: self.total, media_type: self.media_type.as_ref().to_owned() }
    }
}

impl fmt::Debug for CachedResultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedResultStore").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl CachedResultStore {
    /// A cache in front of `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn ResultStore>, options: &CacheOptions) -> Self {
        let weigh = |_: &(ResultPointer, u64), block: &Block| {
            u32::try_from(block.bytes.len()).unwrap_or(u32::MAX).saturating_add(BLOCK_OVERHEAD_BYTES)
        };
        let blocks = Cache::builder().max_capacity(options.bytes_max).weigher(weigh).time_to_live(options.ttl).build();
        Self { inner, blocks }
    }

    async fn whole(&self, pointer: &ResultPointer) -> StoreResult<ResultBody> {
        let mut large = None;
        let read = async {
            let body = self.inner.get(pointer, None).await?;
            let (total, media_type) = (body.total, body.media_type.as_str().into());
            let bytes = if total <= BLOCK_BYTES {
                body.bytes
            } else {
                // A copy: a slice would keep all of it in memory.
                let first = Bytes::copy_from_slice(&body.bytes[..body.bytes.len().min(BLOCK_BYTES as usize)]);
                large = Some(body);
                first
            };
            Ok(Block { bytes, total, media_type })
        };
        let block = self.blocks.try_get_with((pointer.clone(), 0), read).await.map_err(own)?;
        match large {
            Some(body) => Ok(body),
            None if block.is_whole() => Ok(block.body(block.bytes.clone())),
            None => self.inner.get(pointer, None).await,
        }
    }

    async fn block(&self, pointer: &ResultPointer, number: u64) -> StoreResult<Block> {
        let read = async {
            let range = ByteRange { start: number * BLOCK_BYTES, len: BLOCK_BYTES };
            let body = self.inner.get(pointer, Some(range)).await?;
            let block = Block { bytes: body.bytes, total: body.total, media_type: body.media_type.into() };
            // Read as a part, and it will be served as the whole.
            if block.is_whole() && Digest::of(&block.bytes) != pointer.digest {
                return Err(damaged(pointer));
            }
            Ok(block)
        };
        self.blocks.try_get_with((pointer.clone(), number), read).await.map_err(own)
    }

    async fn part(&self, pointer: &ResultPointer, range: ByteRange) -> StoreResult<ResultBody> {
        let ByteRange { start, len } = range;
        let number = start / BLOCK_BYTES;
        if number >= BLOCKS_MAX {
            // Behind the end of any body, or just at it.
            return self.inner.get(pointer, Some(range)).await;
        }
        let first = self.block(pointer, number).await?;
        let total = first.total;
        if start > total {
            let message = format!("the range starts at {start} and the body has {total} bytes, start before its end");
            return Err(StoreError::new(StoreErrorKind::Invalid, STORE, message));
        }
        let end = start.saturating_add(len).min(total);
        let blocks = end.div_ceil(BLOCK_BYTES).saturating_sub(number);
        if blocks > BLOCKS_OF_READ_MAX {
            return self.inner.get(pointer, Some(range)).await;
        }
        let cut = |block: &Block, number: u64| {
            let offset = number * BLOCK_BYTES;
            let from = start.saturating_sub(offset) as usize;
            let to = (end.saturating_sub(offset).min(BLOCK_BYTES) as usize).max(from);
            if to <= block.bytes.len() { Ok(block.bytes.slice(from..to)) } else { Err(damaged(pointer)) }
        };
        if blocks <= 1 {
            return Ok(first.body(cut(&first, number)?));
        }
        let mut bytes = BytesMut::with_capacity((end - start) as usize);
        bytes.extend_from_slice(&cut(&first, number)?);
        for number in number + 1..number + blocks {
            bytes.extend_from_slice(&cut(&self.block(pointer, number).await?, number)?);
        }
        Ok(first.body(bytes.freeze()))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl ResultStore for CachedResultStore {
    async fn put(&self, key: LeaseKey, body: Bytes, meta: ResultMeta) -> StoreResult<ResultPointer> {
        self.inner.put(key, body, meta).await
    }

    async fn get(&self, pointer: &ResultPointer, range: Option<ByteRange>) -> StoreResult<ResultBody> {
        match range {
            None => self.whole(pointer).await,
            Some(range) => self.part(pointer, range).await,
        }
    }

    async fn delete(&self, pointer: &ResultPointer) -> StoreResult<()> {
        let deleted = self.inner.delete(pointer).await;
        // Also after an error: it may have been deleted all the same.
        for number in 0..BLOCKS_MAX {
            self.blocks.invalidate(&(pointer.clone(), number)).await;
        }
        deleted
    }

    /// As of [`ResultStore::prune`]. As it is not told what was removed, the cache forgets everything when anything was.
    async fn prune(&self, expired_before: Timestamp, max: NonZeroU16) -> StoreResult<u16> {
        let removed = self.inner.prune(expired_before, max).await;
        if !matches!(removed, Ok(0)) {
            self.blocks.invalidate_all();
        }
        removed
    }
}

fn damaged(pointer: &ResultPointer) -> StoreError {
    let message = format!("the body of {pointer} is damaged; restore it from a copy");
    StoreError::new(StoreErrorKind::Corrupt, STORE, message)
}

/// The error of a read; others may have waited for the same one.
fn own(error: Arc<StoreError>) -> StoreError {
    Arc::try_unwrap(error)
        .unwrap_or_else(|shared| StoreError::new(shared.kind(), STORE, shared.to_string()).with_source(shared))
}
