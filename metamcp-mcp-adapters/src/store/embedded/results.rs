//! The result store: a file for each body, and for each pointer to it a small record in the journal. First the file is durable, then the record.
//!
//! Equal bodies of one tenant share a file, which goes with the last record; bodies of different tenants never share anything.

use std::{io, num::NonZeroU16, ops::ControlFlow, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use metamcp_core::{
    error::{StoreError, StoreErrorKind, StoreResult},
    pointer::{Digest, ResultPointer},
    queue::LeaseKey,
    result::{ByteRange, MEDIA_TYPE_BYTES_MAX, RESULT_BYTES_MAX, ResultBody, ResultMeta, ResultStore},
    time::Timestamp,
};

use super::{
    Engine, STORE,
    blobs::{BlobName, Blobs},
    codec::{self, ResultRecord},
    journal::View,
    keys::{self, Kind},
    state::State,
};

/// Directories that one prune looks through for bodies that a crash has left behind.
const SWEEP_DIRS_MAX: usize = 16;

/// The results of one data directory.
#[derive(Debug)]
pub struct EmbeddedResultStore {
    engine: Arc<Engine>,
    blobs: Arc<Blobs>,
}

impl EmbeddedResultStore {
    pub(super) const fn new(engine: Arc<Engine>, blobs: Arc<Blobs>) -> Self {
        Self { engine, blobs }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Engine, &Arc<Blobs>) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let blobs = Arc::clone(&self.blobs);
        self.engine.blocking(move |engine| work(engine, &blobs)).await
    }

    fn record(&self, pointer: &ResultPointer) -> StoreResult<ResultRecord> {
        self.engine.writer.shared().check_open()?;
        let key = keys::result_key(pointer);
        let record = self.engine.journal.view()?.get(&key)?.ok_or_else(|| not_found(pointer))?;
        codec::decode_json(&key, &record)
    }
}

#[async_trait]
impl ResultStore for EmbeddedResultStore {
    async fn put(&self, key: LeaseKey, body: Bytes, meta: ResultMeta) -> StoreResult<ResultPointer> {
        check(&body, &meta)?;
        let tenant = meta.tenant.clone();
        let (digest, bytes, pin) = self
            .blocking(move |_, blobs| {
                let digest = Digest::of(&body);
                let pin = blobs.pin((tenant, digest));
                blobs.write(&pin, &body).map_err(cannot_write)?;
                Ok((digest, body.len() as u64, pin))
            })
            .await?;
        let pointer = ResultPointer { tenant: meta.tenant, job: key.job, digest };
        let record = ResultRecord { media_type: meta.media_type, bytes, expires_at: meta.expires_at };
        let stored = pointer.clone();
        let engine = &self.engine;
        // The pin goes along: also when this call is dropped, the file stays until the record is committed.
        let _pin = engine.writer.call(move |state| put_record(state, &stored, &record).map(|()| pin)).await?;
        Ok(pointer)
    }

    async fn get(&self, pointer: &ResultPointer, range: Option<ByteRange>) -> StoreResult<ResultBody> {
        let record = self.record(pointer)?;
        if let Some(range) = range
            && range.start > record.bytes
        {
            let message = format!(
                "the range starts at {} and the body has {} bytes, start before its end",
                range.start, record.bytes
            );
            return Err(StoreError::new(StoreErrorKind::Invalid, STORE, message));
        }
        let name = (pointer.tenant.clone(), pointer.digest);
        let total = record.bytes;
        let read = self
            .blocking(move |_, blobs| {
                let read = blobs.read(&name, total, range.map(|range| (range.start, range.len)));
                Ok(read.and_then(|bytes| {
                    let whole = bytes.len() as u64 == total;
                    if whole && Digest::of(&bytes) != name.1 {
                        return Err(io::Error::new(io::ErrorKind::InvalidData, "the body does not match its digest"));
                    }
                    Ok(bytes)
                }))
            })
            .await?;
        match read {
            Ok(bytes) => Ok(ResultBody { bytes: bytes.into(), total, media_type: record.media_type }),
            // It may have been deleted since its record was read.
            Err(e) => Err(self.record(pointer).err().unwrap_or_else(|| cannot_read(pointer, e))),
        }
    }

    async fn delete(&self, pointer: &ResultPointer) -> StoreResult<()> {
        let gone = pointer.clone();
        self.engine.writer.call(move |state| remove_record(state, &gone)).await?;
        let name = (pointer.tenant.clone(), pointer.digest);
        self.blocking(move |engine, blobs| blobs.remove(&name, || pointed_to(engine, &name)).map(drop)).await
    }

    async fn prune(&self, expired_before: Timestamp, max: NonZeroU16) -> StoreResult<u16> {
        let expired = self.engine.writer.call(move |state| remove_expired(state, expired_before, max.get())).await?;
        let removed = expired.len();
        self.blocking(move |engine, blobs| {
            for pointer in expired {
                let name = (pointer.tenant, pointer.digest);
                blobs.remove(&name, || pointed_to(engine, &name))?;
            }
            for _ in 0..SWEEP_DIRS_MAX {
                blobs.sweep(|name| pointed_to(engine, name))?;
            }
            Ok(())
        })
        .await?;
        Ok(u16::try_from(removed).unwrap_or(u16::MAX))
    }
}

fn check(body: &Bytes, meta: &ResultMeta) -> StoreResult<()> {
    let refuse = |message: String| Err(StoreError::new(StoreErrorKind::Invalid, STORE, message));
    if body.len() > RESULT_BYTES_MAX {
        return refuse(format!("a result of {} bytes, keep it to {RESULT_BYTES_MAX}", body.len()));
    }
    if meta.media_type.len() > MEDIA_TYPE_BYTES_MAX {
        return refuse(format!("a media type of {} bytes, keep it to {MEDIA_TYPE_BYTES_MAX}", meta.media_type.len()));
    }
    Ok(())
}

fn put_record(state: &mut State, pointer: &ResultPointer, record: &ResultRecord) -> StoreResult<()> {
    remove_record(state, pointer)?;
    let key = keys::result_key(pointer);
    let bytes = codec::encode_json(&key, record)?;
    state.put(key, bytes);
    if let Some(at) = record.expires_at {
        let expiry = keys::result_expiry_key(at, pointer);
        let mark = codec::encode_mark(&expiry)?;
        state.put(expiry, mark);
    }
    Ok(())
}

fn remove_record(state: &mut State, pointer: &ResultPointer) -> StoreResult<()> {
    let key = keys::result_key(pointer);
    let Some(record) = state.get(&key)? else { return Ok(()) };
    let record: ResultRecord = codec::decode_json(&key, &record)?;
    if let Some(at) = record.expires_at {
        state.remove(keys::result_expiry_key(at, pointer));
    }
    state.remove(key);
    Ok(())
}

fn remove_expired(state: &mut State, before: Timestamp, max: u16) -> StoreResult<Vec<ResultPointer>> {
    let Some(last) = before.as_millis().checked_sub(1) else { return Ok(Vec::new()) };
    let expired = state.expired(Kind::ResultExpiry, Timestamp::from_millis(last), usize::from(max))?;
    let expired = expired.iter().map(|key| keys::expired_result_of(key)).collect::<StoreResult<Vec<_>>>()?;
    expired.iter().try_for_each(|pointer| remove_record(state, pointer))?;
    Ok(expired)
}

/// Whether a record, as of the last commit, points to the body.
fn pointed_to(engine: &Engine, (tenant, digest): &BlobName) -> StoreResult<bool> {
    let first = keys::blob_key(tenant, digest);
    let mut end = first.clone();
    end.extend_from_slice(&[u8::MAX; 17]);
    let mut found = false;
    let view: View = engine.journal.view()?;
    view.scan(&(first..end), |_, _| {
        found = true;
        Ok(ControlFlow::Break(()))
    })?;
    Ok(found)
}

fn not_found(pointer: &ResultPointer) -> StoreError {
    StoreError::new(StoreErrorKind::NotFound, STORE, format!("there is no result {pointer}; it may have expired"))
}

fn cannot_write(e: io::Error) -> StoreError {
    let message = "cannot write a result; check the data directory for space and rights";
    StoreError::new(StoreErrorKind::Unavailable, STORE, message).with_source(e)
}

fn cannot_read(pointer: &ResultPointer, e: io::Error) -> StoreError {
    let (kind, message) = match e.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::NotFound => {
            (StoreErrorKind::Corrupt, format!("the body of {pointer} is damaged; restore it from a copy"))
        }
        _ => (StoreErrorKind::Unavailable, format!("cannot read the body of {pointer}; check the disk")),
    };
    StoreError::new(kind, STORE, message).with_source(e)
}
