//! Results on Redis: bodies kept once per tenant and digest, counted by the pointers to them. All of it is in the server's memory, so bodies are
//! small here; larger ones belong into object storage.

use std::{num::NonZeroU16, sync::Arc};

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
    error::{STORE, invalid, unavailable},
    scripts,
    store::{Namespace, corrupt},
    words::NONE,
};

/// Bytes that one command writes or reads: a larger one would hold up everybody else.
const CHUNK_BYTES: usize = 256 << 10;
/// How long the parts of a body stay whose sender died, in seconds.
const UPLOAD_TTL_S: u64 = 600;
/// Most bodies that one script removes.
const REMOVE_MAX: u16 = 100;

/// A [`ResultStore`] on Redis.
#[derive(Debug)]
pub struct RedisResultStore {
    namespace: Arc<Namespace>,
}

fn name(pointer: &ResultPointer) -> String {
    format!("{}/{}/{}", pointer.tenant, pointer.job, pointer.digest)
}

fn not_found(pointer: &ResultPointer) -> StoreError {
    StoreError::new(StoreErrorKind::NotFound, STORE, format!("{pointer} was never here or was removed"))
}

impl RedisResultStore {
    pub(super) const fn new(namespace: Arc<Namespace>) -> Self {
        Self { namespace }
    }

    fn check(&self, body: &Bytes, meta: &ResultMeta) -> StoreResult<()> {
        let (bytes, bytes_max) = (body.len(), self.namespace.options.result_bytes_max);
        if bytes > RESULT_BYTES_MAX {
            return Err(invalid(format!("a body of {bytes} bytes is over the bound of {RESULT_BYTES_MAX}")));
        }
        if bytes > bytes_max {
            return Err(invalid(format!(
                "a body of {bytes} bytes is over the {bytes_max} that are kept in Redis; set up object storage for larger results"
            )));
        }
        if meta.media_type.len() > MEDIA_TYPE_BYTES_MAX {
            return Err(invalid(format!("a media type of over {MEDIA_TYPE_BYTES_MAX} bytes")));
        }
        Ok(())
    }

    /// Points to a body that is sent with it, was uploaded, or is there. `false`: it must be sent first.
    async fn point(&self, pointer: &ResultPointer, meta: &ResultMeta, place: &str, bytes: &[u8]) -> StoreResult<bool> {
        let expires = meta.expires_at.map_or_else(|| NONE.to_owned(), |at| at.as_millis().to_string());
        let call = self
            .namespace
            .call(&scripts::RESULTS_PUT)
            .arg(pointer.tenant.as_str())
            .arg(pointer.job.to_string())
            .arg(pointer.digest.to_string())
            .arg(&meta.media_type)
            .arg(expires)
            .arg(place)
            .arg(bytes);
        let done: u8 = self.namespace.acknowledge(&call).await?;
        Ok(done == 1)
    }

    /// Sends a large body part by part under a name of its own.
    async fn upload(&self, body: &Bytes) -> StoreResult<String> {
        let name = format!("{:032x}", rand::random::<u128>());
        let key = self.namespace.key(&format!("upload:{name}"));
        for (n, chunk) in body.chunks(CHUNK_BYTES).enumerate() {
            let mut command = redis::cmd(if n == 0 { "SET" } else { "APPEND" });
            command.arg(&key).arg(chunk);
            if n == 0 {
                command.arg("EX").arg(UPLOAD_TTL_S);
            }
            self.namespace.pool.query::<()>(&command).await?;
        }
        Ok(name)
    }

    /// The media type and the length of a body.
    async fn facts(&self, pointer: &ResultPointer) -> StoreResult<(String, usize)> {
        let mut commands = redis::pipe();
        commands.cmd("HGET").arg(self.namespace.key(&format!("ptr:{}", name(pointer)))).arg("media");
        commands.cmd("STRLEN").arg(self.body_key(pointer));
        let (media_type, total): (Option<String>, usize) = self.namespace.pool.pipeline(&commands).await?;
        Ok((media_type.ok_or_else(|| not_found(pointer))?, total))
    }

    fn body_key(&self, pointer: &ResultPointer) -> String {
        self.namespace.key(&format!("body:{}:{}", pointer.tenant, pointer.digest))
    }

    async fn bytes(&self, pointer: &ResultPointer, start: usize, end: usize) -> StoreResult<Vec<u8>> {
        let mut bytes = Vec::with_capacity(end - start);
        for from in (start..end).step_by(CHUNK_BYTES) {
            let mut command = redis::cmd("GETRANGE");
            command.arg(self.body_key(pointer)).arg(from).arg(end.min(from + CHUNK_BYTES) - 1);
            bytes.extend(self.namespace.pool.query::<Vec<u8>>(&command).await?);
        }
        Ok(bytes)
    }
}

#[async_trait]
impl ResultStore for RedisResultStore {
    async fn put(&self, key: LeaseKey, body: Bytes, meta: ResultMeta) -> StoreResult<ResultPointer> {
        self.check(&body, &meta)?;
        let pointer = ResultPointer { tenant: meta.tenant.clone(), job: key.job, digest: Digest::of(&body) };
        let stored = if body.len() <= CHUNK_BYTES {
            self.point(&pointer, &meta, "whole", &body).await?
        } else if self.point(&pointer, &meta, "there", &[]).await? {
            true
        } else {
            let upload = self.upload(&body).await?;
            self.point(&pointer, &meta, "uploaded", upload.as_bytes()).await?
        };
        if stored { Ok(pointer) } else { Err(unavailable("the parts of a body were lost on the way; send it again")) }
    }

    async fn get(&self, pointer: &ResultPointer, range: Option<ByteRange>) -> StoreResult<ResultBody> {
        let (media_type, total) = self.facts(pointer).await?;
        let asked = range.unwrap_or(ByteRange { start: 0, len: u64::MAX });
        let Some(start) = usize::try_from(asked.start).ok().filter(|start| *start <= total) else {
            let start = asked.start;
            return Err(invalid(format!("a range from byte {start} of a body of {total}, start it within")));
        };
        let end = usize::try_from(asked.len).map_or(total, |len| start.saturating_add(len).min(total));
        let bytes = self.bytes(pointer, start, end).await?;
        let whole = range.is_none();
        if bytes.len() < end - start || whole && Digest::of(&bytes) != pointer.digest {
            // It may have been removed meanwhile: then that is what is told.
            self.facts(pointer).await?;
            return Err(corrupt(format!("the body of {pointer} is damaged; restore it from a copy")));
        }
        Ok(ResultBody { bytes: bytes.into(), total: total as u64, media_type })
    }

    async fn delete(&self, pointer: &ResultPointer) -> StoreResult<()> {
        let call = self.namespace.call(&scripts::RESULTS_REMOVE).arg("name").arg(name(pointer));
        self.namespace.run(&call).await
    }

    async fn prune(&self, expired_before: Timestamp, max: NonZeroU16) -> StoreResult<u16> {
        let mut removed = 0;
        while removed < max.get() {
            let wanted = REMOVE_MAX.min(max.get() - removed);
            let before = expired_before.as_millis().to_string();
            let call = self.namespace.call(&scripts::RESULTS_REMOVE).arg("before").arg(before).arg(wanted);
            let count: u16 = self.namespace.run(&call).await?;
            removed += count;
            if count < wanted {
                break;
            }
        }
        Ok(removed)
    }
}
