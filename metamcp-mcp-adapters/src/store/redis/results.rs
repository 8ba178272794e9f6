//! Results on Redis: bodies kept once per tenant and digest, counted by the pointers to them. All of it is in the server's memory, so bodies are
//! small here; larger ones belong into object storage. What many callers put at a time goes out in one script.

use std::{num::NonZeroU16, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use metamcp_core::{
    coalesce::Coalescer,
    error::{StoreError, StoreErrorKind, StoreResult},
    pointer::{Digest, ResultPointer},
    queue::LeaseKey,
    result::{ByteRange, MEDIA_TYPE_BYTES_MAX, RESULT_BYTES_MAX, ResultBody, ResultMeta, ResultStore},
    time::Timestamp,
};

use super::{
    error::{STORE, corrupt, invalid, unavailable},
    namespace::Namespace,
    pointer::{digest_word, full_word},
    script::ScriptCall,
    scripts,
    words::{instant_ms, unword, word},
};

/// Bytes that one command writes or reads: a larger one would hold up everybody else.
const CHUNK_BYTES: usize = 256 << 10;
/// How long the parts of a body stay whose sender died, in seconds.
const UPLOAD_TTL_S: u64 = 600;
/// Most bodies that one script takes.
const PUT_MAX: usize = 100;
/// About what a pointer weighs beside its body, in bytes.
const POINTER_BYTES: usize = 512;
/// Most bodies that one script removes.
const REMOVE_MAX: u16 = 100;

/// The media type that is not kept, as most results have it.
const JSON: &str = "application/json";
/// The score of a pointer that is never removed by itself.
const NEVER: &str = "inf";

/// A [`ResultStore`] on Redis.
#[derive(Debug)]
pub struct RedisResultStore {
    namespace: Arc<Namespace>,
    /// `false`: the body must be sent first.
    puts: Coalescer<Put, bool>,
}

/// A pointer to be kept, and where its body is.
#[derive(Debug)]
struct Put {
    pointer: ResultPointer,
    meta: ResultMeta,
    body: Body,
}

/// Where a body is.
#[derive(Debug)]
enum Body {
    /// Sent with its pointer.
    Whole(Bytes),
    /// Under this name, sent before part by part.
    Uploaded(String),
    /// In its place already, perhaps.
    There,
}

impl Put {
    fn weight(&self) -> usize {
        let sent = if let Body::Whole(bytes) = &self.body { bytes.len() } else { 0 };
        POINTER_BYTES + sent
    }

    /// The arguments of one pointer for `results_put.lua`.
    fn args<'s>(&self, call: ScriptCall<'s>) -> ScriptCall<'s> {
        let (place, bytes): (_, &[u8]) = match &self.body {
            Body::Whole(bytes) => ("whole", bytes),
            Body::Uploaded(name) => ("uploaded", name.as_bytes()),
            Body::There => ("there", &[]),
        };
        let ResultPointer { tenant, digest, .. } = &self.pointer;
        let expires = self.meta.expires_at.map_or_else(|| NEVER.to_owned(), |at| instant_ms(at).to_string());
        let media_type = if self.meta.media_type == JSON { String::new() } else { word(&self.meta.media_type) };
        call.arg(format!("{tenant}:{}", digest_word(digest)))
            .arg(full_word(&self.pointer))
            .arg(expires)
            .arg(media_type)
            .arg(place)
            .arg(bytes)
    }
}

fn not_found(pointer: &ResultPointer) -> StoreError {
    StoreError::new(StoreErrorKind::NotFound, STORE, format!("{pointer} was never here or was removed"))
}

impl RedisResultStore {
    pub(super) fn new(namespace: Arc<Namespace>) -> Self {
        let shared = Arc::clone(&namespace);
        let put = move |puts: Vec<Put>| {
            let namespace = Arc::clone(&shared);
            async move {
                let call = puts.iter().fold(namespace.call(&scripts::RESULTS_PUT), |call, put| put.args(call));
                namespace.acknowledge(&call).await
            }
        };
        Self { namespace, puts: Coalescer::new(STORE, PUT_MAX, Put::weight, put) }
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

    /// Points to a body. `false`: it must be sent first.
    async fn point(&self, pointer: &ResultPointer, meta: &ResultMeta, body: Body) -> StoreResult<bool> {
        let put = Put { pointer: pointer.clone(), meta: meta.clone(), body };
        Ok(self.puts.call(vec![put]).await?.contains(&true))
    }

    /// Sends a large body part by part under a name of its own.
    async fn upload(&self, body: &Bytes) -> StoreResult<String> {
        let name = format!("{:032x}", rand::random::<u128>());
        for (n, chunk) in body.chunks(CHUNK_BYTES).enumerate() {
            let part = self.namespace.call(&scripts::RESULTS_UPLOAD).arg(&name).arg(chunk);
            let part = if n == 0 { part.arg(UPLOAD_TTL_S) } else { part };
            self.namespace.run::<()>(&part).await?;
        }
        Ok(name)
    }

    /// The media type and the length of a body.
    async fn facts(&self, pointer: &ResultPointer) -> StoreResult<(String, usize)> {
        let mut commands = redis::pipe();
        let name = full_word(pointer);
        commands.cmd("ZSCORE").arg(self.namespace.key("ptrs")).arg(&name);
        commands.cmd("HGET").arg(self.namespace.key("media")).arg(&name);
        commands.cmd("STRLEN").arg(self.body_key(pointer));
        let (expires, media_type, total): (Option<String>, Option<String>, usize) =
            self.namespace.pool.pipeline(&commands).await?;
        expires.ok_or_else(|| not_found(pointer))?;
        let Some(told) = media_type else { return Ok((JSON.to_owned(), total)) };
        let media_type = unword(&told)
            .ok_or_else(|| corrupt(format!("{pointer} has an unreadable media type; restore it from a copy")))?;
        Ok((media_type, total))
    }

    fn body_key(&self, pointer: &ResultPointer) -> String {
        self.namespace.key(&format!("body:{}:{}", pointer.tenant, digest_word(&pointer.digest)))
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
            self.point(&pointer, &meta, Body::Whole(body)).await?
        } else if self.point(&pointer, &meta, Body::There).await? {
            true
        } else {
            let upload = self.upload(&body).await?;
            self.point(&pointer, &meta, Body::Uploaded(upload)).await?
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
        let call = self.namespace.call(&scripts::RESULTS_REMOVE).arg("name").arg(full_word(pointer));
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
