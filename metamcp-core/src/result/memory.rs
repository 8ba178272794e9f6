//! Results in memory: bodies kept once per tenant and digest, counted by the pointers to them, bounded in bytes.
//!
//! A body is hashed when it comes in and never changes after; it is not hashed again when it is read.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    num::NonZeroU16,
    sync::{Mutex, MutexGuard},
};

use async_trait::async_trait;
use bytes::Bytes;

use super::{ByteRange, MEDIA_TYPE_BYTES_MAX, RESULT_BYTES_MAX, ResultBody, ResultMeta, ResultStore};
use crate::{
    error::{StoreError, StoreErrorKind, StoreResult},
    id::TenantId,
    pointer::{Digest, ResultPointer},
    queue::LeaseKey,
    time::Timestamp,
};

const STORE: &str = "memory result store";
/// Most bytes of bodies a store keeps unless it is told otherwise.
const MEMORY_RESULTS_BYTES_MAX: u64 = 512 << 20;

fn fail<T>(kind: StoreErrorKind, message: String) -> StoreResult<T> {
    Err(StoreError::new(kind, STORE, message))
}

/// A [`ResultStore`] in memory.
pub struct MemoryResultStore {
    // A std lock: every section is short and none awaits; hashing is done outside.
    state: Mutex<State>,
    bytes_max: u64,
}

#[derive(Debug, Default)]
struct State {
    bodies: HashMap<(TenantId, Digest), Body>,
    pointers: BTreeMap<ResultPointer, Meta>,
    expiring: BTreeSet<(Timestamp, ResultPointer)>,
    bytes: u64,
}

#[derive(Debug)]
struct Body {
    bytes: Bytes,
    pointers: u64,
}

#[derive(Debug)]
struct Meta {
    media_type: String,
    expires_at: Option<Timestamp>,
}

impl MemoryResultStore {
    /// An empty store that keeps 512 MiB of bodies.
    #[must_use]
    pub fn new() -> Self {
        Self::with_bytes_max(MEMORY_RESULTS_BYTES_MAX)
    }

    /// An empty store that keeps at most this many bytes of bodies, each distinct one of a tenant counted once.
    #[must_use]
    pub fn with_bytes_max(bytes_max: u64) -> Self {
        Self { state: Mutex::default(), bytes_max }
    }

    /// How many bytes of bodies are kept.
    ///
    /// # Errors
    /// `Closed` after a panic inside the store.
    pub fn bytes_kept(&self) -> StoreResult<u64> {
        Ok(self.lock()?.bytes)
    }

    fn lock(&self) -> StoreResult<MutexGuard<'_, State>> {
        self.state
            .lock()
            .or_else(|_| fail(StoreErrorKind::Closed, "a call panicked half-way, open a new store".to_owned()))
    }
}

impl Default for MemoryResultStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryResultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryResultStore").field("bytes_max", &self.bytes_max).finish_non_exhaustive()
    }
}

impl State {
    fn remove(&mut self, pointer: &ResultPointer) {
        let Some(meta) = self.pointers.remove(pointer) else { return };
        if let Some(at) = meta.expires_at {
            self.expiring.remove(&(at, pointer.clone()));
        }
        let key = (pointer.tenant.clone(), pointer.digest);
        let Some(body) = self.bodies.get_mut(&key) else { return };
        body.pointers -= 1;
        if body.pointers == 0 {
            self.bytes -= body.bytes.len() as u64;
            self.bodies.remove(&key);
        }
    }

    fn insert(&mut self, pointer: &ResultPointer, bytes: Bytes, meta: Meta) {
        let len = bytes.len() as u64;
        let kept = self.bodies.entry((pointer.tenant.clone(), pointer.digest));
        let body = kept.or_insert_with(|| {
            self.bytes += len;
            Body { bytes, pointers: 0 }
        });
        body.pointers += 1;
        if let Some(at) = meta.expires_at {
            self.expiring.insert((at, pointer.clone()));
        }
        self.pointers.insert(pointer.clone(), meta);
    }
}

#[async_trait]
impl ResultStore for MemoryResultStore {
    async fn put(&self, key: LeaseKey, body: Bytes, meta: ResultMeta) -> StoreResult<ResultPointer> {
        if body.len() > RESULT_BYTES_MAX {
            let message = format!("a body of {} bytes is over the bound of {RESULT_BYTES_MAX}", body.len());
            return fail(StoreErrorKind::Invalid, message);
        }
        if meta.media_type.len() > MEDIA_TYPE_BYTES_MAX {
            let message = format!("a media type of over {MEDIA_TYPE_BYTES_MAX} bytes");
            return fail(StoreErrorKind::Invalid, message);
        }
        let pointer = ResultPointer { tenant: meta.tenant, job: key.job, digest: Digest::of(&body) };
        let mut state = self.lock()?;
        let known = state.bodies.contains_key(&(pointer.tenant.clone(), pointer.digest));
        if !known && state.bytes + body.len() as u64 > self.bytes_max {
            let message =
                format!("{} bytes of {} are taken, remove results or raise the bound", state.bytes, self.bytes_max);
            return fail(StoreErrorKind::Unavailable, message);
        }
        state.remove(&pointer);
        state.insert(&pointer, body, Meta { media_type: meta.media_type, expires_at: meta.expires_at });
        Ok(pointer)
    }

    async fn get(&self, pointer: &ResultPointer, range: Option<ByteRange>) -> StoreResult<ResultBody> {
        let state = self.lock()?;
        let body = state.bodies.get(&(pointer.tenant.clone(), pointer.digest));
        let (Some(meta), Some(body)) = (state.pointers.get(pointer), body) else {
            return fail(StoreErrorKind::NotFound, format!("{pointer} was never here or was removed"));
        };
        let total = body.bytes.len();
        let range = range.unwrap_or(ByteRange { start: 0, len: total as u64 });
        let Some(start) = usize::try_from(range.start).ok().filter(|start| *start <= total) else {
            let message = format!("a range from byte {} of a body of {total}, start it within", range.start);
            return fail(StoreErrorKind::Invalid, message);
        };
        let end = usize::try_from(range.len).map_or(total, |len| start.saturating_add(len).min(total));
        let bytes = body.bytes.slice(start..end);
        Ok(ResultBody { bytes, total: total as u64, media_type: meta.media_type.clone() })
    }

    async fn delete(&self, pointer: &ResultPointer) -> StoreResult<()> {
        self.lock()?.remove(pointer);
        Ok(())
    }

    async fn prune(&self, expired_before: Timestamp, max: NonZeroU16) -> StoreResult<u16> {
        let mut state = self.lock()?;
        let mut removed = 0;
        while removed < max.get() {
            let Some((at, pointer)) = state.expiring.first().cloned() else { break };
            if at >= expired_before {
                break;
            }
            state.remove(&pointer);
            removed += 1;
        }
        Ok(removed)
    }
}
