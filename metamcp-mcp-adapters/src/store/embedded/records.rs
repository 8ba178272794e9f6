//! The record store: small documents in the journal, each with an entry in the order of expiry when its time is bounded.
//!
//! Time is the store's clock when a call is made. What is past its time is not there for any reader; it is removed bit by bit, with writes and
//! with the queue's maintenance.

use std::{
    ops::{ControlFlow, Range},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use metamcp_core::{
    error::StoreResult,
    record::{Expect, RECORD_PAGE_MAX, Record, RecordKind, RecordStore, Written, check_put},
    time::Timestamp,
};

use super::{
    Engine, STORE,
    codec::{self, StoredRecord},
    keys::{self, Kind},
    state::State,
};

/// Expired records that one write removes: more than it may add.
const SWEEP_MAX: u16 = 8;

/// The records of one data directory.
#[derive(Debug)]
pub struct EmbeddedRecordStore {
    engine: Arc<Engine>,
}

impl EmbeddedRecordStore {
    pub(super) const fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }
}

#[async_trait]
impl RecordStore for EmbeddedRecordStore {
    async fn get(&self, kind: RecordKind, name: &str) -> StoreResult<Option<Record>> {
        self.engine.writer.shared().check_open()?;
        let key = keys::record_key(kind, name);
        let Some(record) = self.engine.journal.view()?.get(&key)? else { return Ok(None) };
        let stored = codec::decode_record(&key, &record)?;
        Ok(stored.is_live(self.engine.clock.now()).then(|| told(name, &stored)))
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
        let key = keys::record_key(kind, name);
        self.engine.writer.call(move |state| write(state, key, &value, expect, ttl)).await
    }

    async fn now(&self) -> StoreResult<Timestamp> {
        Ok(self.engine.clock.now())
    }

    async fn delete(&self, kind: RecordKind, name: &str) -> StoreResult<bool> {
        let key = keys::record_key(kind, name);
        let work = move |state: &mut State| {
            let standing = Standing::of(state, &key)?;
            standing.remove(state, &key);
            Ok(standing.version().is_some())
        };
        self.engine.writer.call(work).await
    }

    async fn list(&self, kind: RecordKind, after: Option<&str>, max: u16) -> StoreResult<Vec<Record>> {
        self.engine.writer.shared().check_open()?;
        let first = after.map_or_else(
            || keys::record_key(kind, ""),
            // The smallest key behind that of the name.
            |name| [keys::record_key(kind, name), vec![0]].concat(),
        );
        let max = usize::from(max.min(RECORD_PAGE_MAX));
        self.engine.blocking(move |engine| page(engine, &(first..keys::records_end(kind)), max)).await
    }
}

fn told(name: &str, stored: &StoredRecord<'_>) -> Record {
    Record { name: name.to_owned(), version: stored.version, value: Bytes::copy_from_slice(stored.value) }
}

fn page(engine: &Engine, range: &Range<Vec<u8>>, max: usize) -> StoreResult<Vec<Record>> {
    let now = engine.clock.now();
    let mut page = Vec::new();
    if max == 0 {
        return Ok(page);
    }
    engine.journal.view()?.scan(range, |key, record| {
        let stored = codec::decode_record(key, record)?;
        if stored.is_live(now) {
            page.push(told(keys::record_name(key)?, &stored));
        }
        Ok(if page.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    Ok(page)
}

fn write(state: &mut State, key: Vec<u8>, value: &[u8], expect: Expect, ttl: Option<Duration>) -> StoreResult<Written> {
    sweep(state, SWEEP_MAX)?;
    let standing = Standing::of(state, &key)?;
    let version = standing.version();
    let fits = match expect {
        Expect::Anything => true,
        Expect::Absent => version.is_none(),
        Expect::Version(expected) => version == Some(expected),
    };
    if !fits {
        return Ok(Written::Conflict { version });
    }
    standing.remove(state, &key);
    let stored = StoredRecord { version: version.unwrap_or(0) + 1, until: ttl.map(|ttl| state.now() + ttl), value };
    if let Some(until) = stored.until {
        let expiry = keys::record_expiry_key(until, &key);
        let mark = codec::encode_mark(&expiry)?;
        state.put(expiry, mark);
    }
    let record = codec::encode_record(&key, &stored)?;
    state.put(key, record);
    Ok(Written::Ok { version: stored.version })
}

/// What is stored under a key when a call changes it: version, end of its time, and whether that has come.
struct Standing(Option<(u64, Option<Timestamp>, bool)>);

impl Standing {
    fn of(state: &mut State, key: &[u8]) -> StoreResult<Self> {
        let now = state.now();
        let Some(record) = state.get(key)? else { return Ok(Self(None)) };
        let stored = codec::decode_record(key, &record)?;
        Ok(Self(Some((stored.version, stored.until, stored.is_live(now)))))
    }

    /// The version, if the record is there for a caller.
    fn version(&self) -> Option<u64> {
        self.0.filter(|(_, _, live)| *live).map(|(version, _, _)| version)
    }

    fn remove(&self, state: &mut State, key: &[u8]) {
        let Some((_, until, _)) = self.0 else { return };
        if let Some(until) = until {
            state.remove(keys::record_expiry_key(until, key));
        }
        state.remove(key.to_vec());
    }
}

/// Removes records past their time, the longest past first, at most `max`.
pub(super) fn sweep(state: &mut State, max: u16) -> StoreResult<()> {
    let now = state.now();
    for expiry in state.expired(Kind::RecordExpiry, now, usize::from(max))? {
        state.remove(keys::expired_record_of(&expiry)?);
        state.remove(expiry);
    }
    Ok(())
}
