//! The result store: a row for each pointer, with the body in it. For small bodies; large ones belong into an object store.

use std::{num::NonZeroU16, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use metamcp_core::{
    error::{StoreError, StoreErrorKind, StoreResult},
    pointer::{Digest, ResultPointer},
    queue::LeaseKey,
    result::{ByteRange, MEDIA_TYPE_BYTES_MAX, ResultBody, ResultMeta, ResultStore},
    time::Timestamp,
};
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::{Engine, STORE, time::from_instant};

/// Largest body that is kept, in bytes: more would fill the server's cache and its log.
pub const POSTGRES_RESULT_BYTES_MAX: usize = 1 << 20;

const PUT: &str = "
insert into result (tenant, job, digest, media_type, expires_at, body) values ($1, $2, $3, $4, $5, $6)
on conflict (tenant, job, digest) do update set media_type = excluded.media_type, expires_at = excluded.expires_at";
const GET: &str = "
select media_type, length(body)::bigint, case when $4::integer is null then body else substring(body from $4 + 1 for $5::integer) end
from result where tenant = $1 and job = $2 and digest = $3";
const DELETE: &str = "delete from result where tenant = $1 and job = $2 and digest = $3";
const PRUNE: &str = "
with old as materialized (
    select tenant, job, digest from result where expires_at < $1 order by expires_at limit $2 for update skip locked
)
delete from result r using old o where r.tenant = o.tenant and r.job = o.job and r.digest = o.digest";

/// The results of one schema.
#[derive(Debug)]
pub struct PostgresResultStore {
    engine: Arc<Engine>,
}

impl PostgresResultStore {
    pub(super) const fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }
}

/// A body or a part of it, as it was read.
struct Read {
    media_type: Vec<u8>,
    total: u64,
    bytes: Vec<u8>,
}

impl Read {
    fn of(row: &Row) -> Result<Self, Error> {
        let total = u64::try_from(row.try_get::<_, i64>(1)?).unwrap_or_default();
        Ok(Self { media_type: row.try_get(0)?, total, bytes: row.try_get(2)? })
    }
}

#[async_trait]
impl ResultStore for PostgresResultStore {
    async fn put(&self, key: LeaseKey, body: Bytes, meta: ResultMeta) -> StoreResult<ResultPointer> {
        check(&body, &meta)?;
        let digest = Digest::of(&body);
        let (job, expires_at) = (Uuid::from_bytes(*key.job.as_bytes()), meta.expires_at.map(from_instant));
        let (tenant, media_type) = (meta.tenant.as_str(), meta.media_type.as_bytes());
        let write = self.engine.pools.write();
        write.execute(PUT, &[&tenant, &job, &&digest.as_bytes()[..], &media_type, &expires_at, &&body[..]]).await?;
        Ok(ResultPointer { tenant: meta.tenant, job: key.job, digest })
    }

    async fn get(&self, pointer: &ResultPointer, range: Option<ByteRange>) -> StoreResult<ResultBody> {
        let (tenant, job, digest) = parts(pointer);
        // No body is longer than an integer: what is asked for beyond that is cut, and told as beyond the end below.
        let cut = |bytes: u64| i32::try_from(bytes).unwrap_or(i32::MAX).min(i32::MAX - 1);
        let (start, len) = (range.map(|range| cut(range.start)), range.map(|range| cut(range.len)));
        let rows = self.engine.pools.write().query(GET, &[&tenant, &job, &digest, &start, &len]).await?;
        let row = rows.first().ok_or_else(|| {
            let message = format!("there is no result {pointer}; it may have expired");
            StoreError::new(StoreErrorKind::NotFound, STORE, message)
        })?;
        let Read { media_type, total, bytes } = Read::of(row).map_err(|e| self.engine.failed(e))?;
        if let Some(range) = range
            && range.start > total
        {
            let message =
                format!("the range starts at {} and the body has {total} bytes, start before its end", range.start);
            return Err(StoreError::new(StoreErrorKind::Invalid, STORE, message));
        }
        if bytes.len() as u64 == total && Digest::of(&bytes) != pointer.digest {
            let message = format!("the body of {pointer} is damaged; restore it from a backup");
            return Err(StoreError::new(StoreErrorKind::Corrupt, STORE, message));
        }
        Ok(ResultBody { bytes: bytes.into(), total, media_type: String::from_utf8_lossy(&media_type).into_owned() })
    }

    async fn delete(&self, pointer: &ResultPointer) -> StoreResult<()> {
        let (tenant, job, digest) = parts(pointer);
        self.engine.pools.write().execute(DELETE, &[&tenant, &job, &digest]).await.map(drop)
    }

    async fn prune(&self, expired_before: Timestamp, max: NonZeroU16) -> StoreResult<u16> {
        let (before, max) = (from_instant(expired_before), i64::from(max.get()));
        let removed = self.engine.pools.write().execute(PRUNE, &[&before, &max]).await?;
        Ok(u16::try_from(removed).unwrap_or(u16::MAX))
    }
}

fn parts(pointer: &ResultPointer) -> (&str, Uuid, &[u8]) {
    (pointer.tenant.as_str(), Uuid::from_bytes(*pointer.job.as_bytes()), &pointer.digest.as_bytes()[..])
}

fn check(body: &Bytes, meta: &ResultMeta) -> StoreResult<()> {
    let refuse = |message: String| Err(StoreError::new(StoreErrorKind::Invalid, STORE, message));
    if body.len() > POSTGRES_RESULT_BYTES_MAX {
        return refuse(format!(
            "a result of {} bytes, PostgreSQL keeps up to {POSTGRES_RESULT_BYTES_MAX}; configure an object store or a shared \
             directory for larger ones",
            body.len()
        ));
    }
    if meta.media_type.len() > MEDIA_TYPE_BYTES_MAX {
        return refuse(format!("a media type of {} bytes, keep it to {MEDIA_TYPE_BYTES_MAX}", meta.media_type.len()));
    }
    Ok(())
}
