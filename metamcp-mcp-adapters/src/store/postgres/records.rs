//! The record store: a row for each record, changed by one statement that compares and writes.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use metamcp_core::{
    error::{StoreError, StoreErrorKind, StoreResult},
    record::{Expect, RECORD_PAGE_MAX, Record, RecordKind, RecordStore, Written, check_put},
    time::Timestamp,
};
use tokio_postgres::{Error, Row};

use super::{Engine, Parameters, STORE, time::to_instant};

/// How often a write is tried again because another one came in between.
const RACES_MAX: usize = 8;
/// Expired records that one write removes.
const SWEEP_MAX: i64 = 8;

/// The instant of a statement.
macro_rules! now {
    ($given:literal) => {
        concat!("(select coalesce(", $given, "::bigint, floor(extract(epoch from clock_timestamp()) * 1000)::bigint))")
    };
}

const NOW: &str = concat!("select ", now!("$1"));
const GET: &str = concat!(
    "select version, value from record where kind = $1 and name = $2 and (until is null or until > ",
    now!("$3"),
    ")"
);
/// Writes what stands as expected, or what stands no more; `$4` is 0 for anything, -1 for absent, or the version. Answers the new version,
/// and the one that stood. Neither: another write came in between.
const PUT: &str = concat!(
    "
with t as materialized (select ",
    now!("$6"),
    " as now), old as (
    select version, until is null or until > t.now as live from record, t where kind = $1 and name = $2 for no key update
), swept as (
    delete from record r using (
        select kind, name from record, t where until <= t.now and not (kind = $1 and name = $2) limit $7 for update skip locked
    ) x where r.kind = x.kind and r.name = x.name
), changed as (
    update record r
    set version = case when o.live then o.version + 1 else 1 end, value = $3, until = t.now + $5::bigint
    from old o, t
    where r.kind = $1 and r.name = $2 and ($4::bigint = 0 or ($4 = -1 and not o.live) or ($4 > 0 and o.live and o.version = $4))
    returning r.version
), added as (
    insert into record (kind, name, version, value, until)
    select $1, $2, 1, $3, t.now + $5::bigint from t where not exists (select from old) and $4::bigint <= 0
    on conflict do nothing returning version
)
select coalesce((select version from changed), (select version from added)), (select version from old where live),
    exists (select from old) or $4::bigint > 0"
);
const DELETE: &str =
    concat!("delete from record where kind = $1 and name = $2 returning until is null or until > ", now!("$3"));
const LIST: &str = concat!(
    "select version, value, name from record where kind = $1 and ($2::bytea is null or name > $2) and (until is null or until > ",
    now!("$3"),
    ") order by name limit $4"
);

/// The records of one schema.
#[derive(Debug)]
pub struct PostgresRecordStore {
    engine: Arc<Engine>,
}

impl PostgresRecordStore {
    pub(super) const fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }
}

fn record(row: &Row, name: String) -> Result<Record, Error> {
    let value: Vec<u8> = row.try_get(1)?;
    Ok(Record { name, version: version(row.try_get(0)?), value: value.into() })
}

fn version(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or_default()
}

/// What a write met: the version it made, the one that stood, and whether that is the last word.
fn met(row: &Row) -> Result<(Option<i64>, Option<i64>, bool), Error> {
    Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
}

#[async_trait]
impl RecordStore for PostgresRecordStore {
    async fn get(&self, kind: RecordKind, name: &str) -> StoreResult<Option<Record>> {
        let parameters: Parameters<'_> = &[&kind.as_str(), &name.as_bytes(), &self.engine.time.now()];
        let rows = self.engine.pools.write().query(GET, parameters).await?;
        let found = rows.first().map(|row| record(row, name.to_owned())).transpose();
        found.map_err(|e| self.engine.failed(e))
    }

    async fn put(
        &self,
        kind: RecordKind,
        name: &str,
        value: Bytes,
        expect: Expect,
        ttl: Option<Duration>,
    ) -> StoreResult<Written> {
        check_put(STORE, name, &value, ttl)?;
        let expected = match expect {
            Expect::Anything => 0,
            Expect::Absent => -1,
            // No record stands in a version that the column cannot hold, nor in version 0.
            Expect::Version(version) => i64::try_from(version).ok().filter(|version| *version > 0).unwrap_or(i64::MAX),
        };
        let ttl = ttl.map(|ttl| i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX).min(i64::MAX / 2));
        for _ in 0..RACES_MAX {
            let now = self.engine.time.now();
            let parameters: Parameters<'_> =
                &[&kind.as_str(), &name.as_bytes(), &&value[..], &expected, &ttl, &now, &SWEEP_MAX];
            let rows = self.engine.pools.write().query(PUT, parameters).await?;
            let met = rows.first().map(met).transpose().map_err(|e| self.engine.failed(e))?;
            match met {
                Some((Some(made), ..)) => return Ok(Written::Ok { version: version(made) }),
                Some((None, standing, true)) => return Ok(Written::Conflict { version: standing.map(version) }),
                _ => {}
            }
        }
        let message = format!("others wrote record {name} {RACES_MAX} times meanwhile; repeat the call");
        Err(StoreError::new(StoreErrorKind::Unavailable, STORE, message))
    }

    async fn now(&self) -> StoreResult<Timestamp> {
        let rows = self.engine.pools.write().query(NOW, &[&self.engine.time.now()]).await?;
        let now = rows.first().map(|row| row.try_get(0)).transpose().map_err(|e| self.engine.failed(e))?;
        now.map(to_instant).ok_or_else(|| StoreError::new(StoreErrorKind::Corrupt, STORE, "the time has no row"))
    }

    async fn delete(&self, kind: RecordKind, name: &str) -> StoreResult<bool> {
        let parameters: Parameters<'_> = &[&kind.as_str(), &name.as_bytes(), &self.engine.time.now()];
        let rows = self.engine.pools.write().query(DELETE, parameters).await?;
        let stood = rows.first().map(|row| row.try_get(0)).transpose().map_err(|e| self.engine.failed(e))?;
        Ok(stood.unwrap_or_default())
    }

    async fn list(&self, kind: RecordKind, after: Option<&str>, max: u16) -> StoreResult<Vec<Record>> {
        let (after, max) = (after.map(str::as_bytes), i64::from(max.min(RECORD_PAGE_MAX)));
        let parameters: Parameters<'_> = &[&kind.as_str(), &after, &self.engine.time.now(), &max];
        let rows = self.engine.pools.read().query(LIST, parameters).await?;
        let read = |row: &Row| {
            let name: &[u8] = row.try_get(2).map_err(|e| self.engine.failed(e))?;
            let name = std::str::from_utf8(name).map_err(|e| {
                StoreError::new(StoreErrorKind::Corrupt, STORE, "the name of a record cannot be read").with_source(e)
            })?;
            record(row, name.to_owned()).map_err(|e| self.engine.failed(e))
        };
        rows.iter().map(read).collect()
    }
}
