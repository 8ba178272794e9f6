//! The result store over objects: put, get and delete. The order of the steps is what keeps pointers true; the folder's page tells why.

use std::{fmt, num::NonZeroU16, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::try_join_all;
use metamcp_core::{
    entropy::{Entropy, OsEntropy},
    error::{StoreError, StoreErrorKind, StoreResult},
    pointer::{Digest, ResultPointer},
    queue::LeaseKey,
    result::{ByteRange, MEDIA_TYPE_BYTES_MAX, RESULT_BYTES_MAX, ResultBody, ResultMeta, ResultStore},
    time::{Clock, Timestamp},
};
use object_store::{ObjectStore, path::Path};

use super::{
    backend::Backend,
    error::{STORE, corrupt, invalid, unavailable},
    keys::{CopyId, DueEntry, Layout, Reference, copy_of},
};

/// How long a body stays after its last reference, unless the options say otherwise: one hour.
pub const GRACE: Duration = Duration::from_secs(3_600);

/// Bodies up to this many bytes are hashed where the call runs; larger ones on a thread that may take its time.
const HASH_HERE_BYTES_MAX: usize = 256 << 10;
/// Copies one put tries before it says that somebody else is removing them too fast.
const COPIES_TRIED_MAX: u32 = 8;
/// Looks one get takes for a reference whose copy is there: a put may be replacing both.
const LOOKS_MAX: u32 = 3;
/// Most references of one pointer, and most copies of one body with their marks, that are looked at; there is one, rarely a few.
pub(super) const LISTED_MAX: usize = 1_000;

/// How results are kept.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ObjectOptions {
    /// How long a body stays after its last reference is gone, and how old an orphan is before it is removed. On a network file system keep
    /// it longer than clients may see an old list, which is a minute by default on NFS. The clocks of the machines and of the backend should
    /// agree better than this.
    pub grace: Duration,
}

impl Default for ObjectOptions {
    fn default() -> Self {
        Self { grace: GRACE }
    }
}

/// A [`ResultStore`] over objects. Clones of its `Arc`, other processes and other machines may use the same place at the same time.
///
/// # Cancel safety
/// A dropped `put` leaves at most a body that nothing points to, which a later prune removes.
pub struct ObjectResultStore {
    pub(super) backend: Backend,
    pub(super) layout: Layout,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) options: ObjectOptions,
}

impl fmt::Debug for ObjectResultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.backend.place();
        f.debug_struct("ObjectResultStore")
            .field("place", &place)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl ObjectResultStore {
    /// A store over any backend of the `object_store` crate, below `prefix` in it. `place` names it in errors and must hold no secret.
    /// A list must show every object that was written before it began, as S3 and its kin do.
    #[must_use]
    pub fn over(
        store: Arc<dyn ObjectStore>,
        prefix: &str,
        place: &str,
        clock: Arc<dyn Clock>,
        options: &ObjectOptions,
    ) -> Self {
        let backend = Backend::new(store, place.to_owned(), "check that it is up and reachable from here", None);
        Self::new(backend, prefix, clock, options)
    }

    pub(super) fn new(backend: Backend, prefix: &str, clock: Arc<dyn Clock>, options: &ObjectOptions) -> Self {
        let (layout, entropy) = (Layout::new(Path::from(prefix)), Arc::new(OsEntropy));
        Self { backend, layout, clock, entropy, options: options.clone() }
    }

    /// The same store that draws its names from `entropy`: for simulations that are run again. Two stores of one place must never draw the
    /// same.
    #[must_use]
    pub fn with_entropy(self, entropy: Arc<dyn Entropy>) -> Self {
        Self { entropy, ..self }
    }

    /// Writes, lists and removes a small object: for the start, so that a wrong bucket, key or right is told before a result needs it.
    ///
    /// # Errors
    /// `Invalid` for what has to be set right, `Unavailable` when the place does not answer.
    pub async fn check(&self) -> StoreResult<()> {
        let probe = self.layout.probe(&*self.entropy);
        self.backend.put(&probe, Bytes::new()).await?;
        let found = self.backend.list_some(&self.layout.probes(), LISTED_MAX).await?;
        self.backend.delete(&probe).await?;
        // With this many others just now ours need not be among the listed.
        if found.len() < LISTED_MAX && !found.iter().any(|object| object.location == probe) {
            let message =
                format!("{} does not list what was just written; it cannot keep results", self.backend.place());
            return Err(invalid(message));
        }
        Ok(())
    }

    /// The references of a pointer, the one that lasts longest first.
    pub(super) async fn references(&self, pointer: &ResultPointer) -> StoreResult<Vec<Reference>> {
        let objects = self.backend.list_some(&self.layout.references(pointer), LISTED_MAX).await?;
        let names = objects.iter().filter_map(|object| object.location.filename());
        let mut references: Vec<Reference> = names.filter_map(Reference::parse).collect();
        references.sort_by_key(|reference| (reference.expires_at.is_some(), std::cmp::Reverse(reference.expires_at)));
        Ok(references)
    }

    /// A copy of the body that may take one more reference, the same one for all who look.
    async fn open_copy(&self, pointer: &ResultPointer, bytes: u64) -> StoreResult<Option<CopyId>> {
        let objects = self.backend.list_some(&self.layout.copies(pointer), LISTED_MAX).await?;
        let found = || objects.iter().filter_map(|object| Some((copy_of(object.location.filename()?)?, object.size)));
        let closed = |copy| found().any(|((other, mark), _)| mark && other == copy);
        // A copy of another length is damaged.
        let whole = found().filter(|((_, mark), size)| !mark && *size == bytes).map(|((copy, _), _)| copy);
        Ok(whole.filter(|copy| !closed(*copy)).min())
    }

    /// Whether a copy that this process has a reference to will stay: it was not closed before, and it is there. In this order: a mark
    /// goes only after its copy.
    async fn holds(&self, pointer: &ResultPointer, copy: CopyId) -> StoreResult<bool> {
        let closed = self.backend.size(&self.layout.closed(pointer, copy)).await?.is_some();
        Ok(!closed && self.backend.size(&self.layout.copy(pointer, copy)).await?.is_some())
    }

    /// Has a prune look after the body at that time.
    pub(super) async fn look_after(&self, pointer: &ResultPointer, at: Timestamp) -> StoreResult<()> {
        let entry = DueEntry { at, nonce: self.entropy.next_u64(), pointer: pointer.clone() };
        self.backend.put(&self.layout.due_entry(&entry), Bytes::new()).await
    }

    pub(super) async fn remove_references(
        &self,
        pointer: &ResultPointer,
        references: impl IntoIterator<Item = &Reference>,
    ) -> StoreResult<()> {
        let paths: Vec<Path> = references.into_iter().map(|old| self.layout.reference(pointer, old)).collect();
        try_join_all(paths.iter().map(|path| self.backend.delete(path))).await.map(drop)
    }
}

#[async_trait]
impl ResultStore for ObjectResultStore {
    async fn put(&self, key: LeaseKey, body: Bytes, meta: ResultMeta) -> StoreResult<ResultPointer> {
        check(&body, &meta)?;
        let pointer = ResultPointer { tenant: meta.tenant, job: key.job, digest: digest_of(body.clone()).await? };
        let (bytes, nonce) = (body.len() as u64, self.entropy.next_u64());
        let due = meta.expires_at.unwrap_or_else(|| self.clock.now() + self.options.grace);
        let (mut copy, before, ()) = tokio::try_join!(
            self.open_copy(&pointer, bytes),
            self.references(&pointer),
            self.look_after(&pointer, due),
        )?;
        let mut missed = Vec::new();
        for _ in 0..COPIES_TRIED_MAX {
            let copy = match copy.take() {
                Some(copy) => copy,
                None => {
                    let copy = CopyId::drawn(&*self.entropy);
                    self.backend.put(&self.layout.copy(&pointer, copy), body.clone()).await?;
                    copy
                }
            };
            let (expires_at, media_type) = (meta.expires_at, meta.media_type.clone());
            let reference = Reference { expires_at, copy, nonce, bytes, media_type };
            self.backend.put(&self.layout.reference(&pointer, &reference), Bytes::new()).await?;
            if self.holds(&pointer, copy).await? {
                // Only those that were there before this put began: of two puts at once none may remove the other's.
                self.remove_references(&pointer, before.iter().chain(&missed)).await?;
                // A prune may have been here for the entry before there was a reference.
                if self.clock.now() + self.options.grace / 2 >= due {
                    self.look_after(&pointer, due).await?;
                }
                return Ok(pointer);
            }
            missed.push(reference);
        }
        Err(unavailable(format!("copies of {pointer} are removed as fast as they are stored; is the grace too short?")))
    }

    async fn get(&self, pointer: &ResultPointer, range: Option<ByteRange>) -> StoreResult<ResultBody> {
        for _ in 0..LOOKS_MAX {
            let references = self.references(pointer).await?;
            if references.is_empty() {
                return Err(not_found(pointer));
            }
            for reference in &references {
                if let Some(body) = self.read(pointer, reference, range).await? {
                    return Ok(body);
                }
            }
        }
        Err(corrupt(format!("the body of {pointer} is missing at {}; restore it from a copy", self.backend.place())))
    }

    async fn delete(&self, pointer: &ResultPointer) -> StoreResult<()> {
        let references = self.references(pointer).await?;
        let now = self.clock.now();
        let soon = now + self.options.grace;
        // What expires soon has an entry that will come soon.
        if references.iter().any(|reference| reference.expires_at.is_none_or(|at| at > soon)) {
            self.look_after(pointer, now).await?;
        }
        self.remove_references(pointer, &references).await
    }

    /// Removes at most `max` results that expired before that instant, and what bodies and orphans are due, a bounded number of them.
    /// Of several processes that prune at once each counts what it saw, so one result may be counted by each.
    async fn prune(&self, expired_before: Timestamp, max: NonZeroU16) -> StoreResult<u16> {
        self.prune_due(expired_before, max).await
    }
}

impl ObjectResultStore {
    /// Reads by a reference; `None` when its copy is not there.
    async fn read(
        &self,
        pointer: &ResultPointer,
        reference: &Reference,
        range: Option<ByteRange>,
    ) -> StoreResult<Option<ResultBody>> {
        let total = reference.bytes;
        let ByteRange { start, len } = range.unwrap_or(ByteRange { start: 0, len: total });
        if start > total {
            let message = format!("the range starts at {start} and the body has {total} bytes, start before its end");
            return Err(invalid(message));
        }
        let end = start.saturating_add(len).min(total);
        let whole = (start, end) == (0, total);
        let copy = self.layout.copy(pointer, reference.copy);
        let bytes = if start == end && !whole {
            // HTTP has no empty range.
            self.backend.size(&copy).await?.map(|_| Bytes::new())
        } else {
            self.backend.read(&copy, (!whole).then_some(start..end), total).await?
        };
        let Some(bytes) = bytes else { return Ok(None) };
        if whole && digest_of(bytes.clone()).await? != pointer.digest {
            return Err(corrupt(format!("the body of {pointer} is damaged; restore it from a copy")));
        }
        Ok(Some(ResultBody { bytes, total, media_type: reference.media_type.clone() }))
    }
}

fn check(body: &Bytes, meta: &ResultMeta) -> StoreResult<()> {
    if body.len() > RESULT_BYTES_MAX {
        return Err(invalid(format!("a result of {} bytes, keep it to {RESULT_BYTES_MAX}", body.len())));
    }
    if meta.media_type.len() > MEDIA_TYPE_BYTES_MAX {
        let message = format!("a media type of {} bytes, keep it to {MEDIA_TYPE_BYTES_MAX}", meta.media_type.len());
        return Err(invalid(message));
    }
    Ok(())
}

async fn digest_of(body: Bytes) -> StoreResult<Digest> {
    if body.len() <= HASH_HERE_BYTES_MAX {
        return Ok(Digest::of(&body));
    }
    tokio::task::spawn_blocking(move || Digest::of(&body))
        .await
        .map_err(|e| unavailable("the call was interrupted; the runtime is shutting down").with_source(e))
}

fn not_found(pointer: &ResultPointer) -> StoreError {
    StoreError::new(StoreErrorKind::NotFound, STORE, format!("there is no result {pointer}; it may have expired"))
}
