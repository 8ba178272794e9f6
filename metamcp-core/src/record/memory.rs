//! Records in memory: gone when the process ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Expect, RECORD_PAGE_MAX, Record, RecordKind, RecordStore, Written, check_put};
use crate::{
    error::{StoreError, StoreErrorKind, StoreResult},
    time::{Clock, Timestamp},
};

const STORE: &str = "memory record store";
/// Expired records that one write removes.
const SWEEP_MAX: usize = 8;

/// A [`RecordStore`] in memory.
pub struct MemoryRecordStore {
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
struct Kept {
    version: u64,
    value: Bytes,
    until: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct State {
    records: BTreeMap<(RecordKind, String), Kept>,
    /// By the end of their time; an entry that no longer fits its record is of an earlier version.
    ends: BTreeSet<(Timestamp, RecordKind, String)>,
}

impl MemoryRecordStore {
    /// An empty store.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { state: Mutex::default(), clock }
    }

    fn lock(&self) -> StoreResult<MutexGuard<'_, State>> {
        self.state.lock().map_err(|_| {
            StoreError::new(StoreErrorKind::Closed, STORE, "a call panicked half-way, open a new store".to_owned())
        })
    }
}

impl fmt::Debug for MemoryRecordStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryRecordStore").field("clock", &self.clock).finish_non_exhaustive()
    }
}

impl State {
    fn live(&self, kind: RecordKind, name: &str, now: Timestamp) -> Option<&Kept> {
        self.records.get(&(kind, name.to_owned())).filter(|kept| kept.until.is_none_or(|until| until > now))
    }

    fn remove(&mut self, kind: RecordKind, name: &str) -> Option<Kept> {
        let kept = self.records.remove(&(kind, name.to_owned()))?;
        if let Some(until) = kept.until {
            self.ends.remove(&(until, kind, name.to_owned()));
        }
        Some(kept)
    }

    fn sweep(&mut self, now: Timestamp) {
        for _ in 0..SWEEP_MAX {
            let Some((until, kind, name)) = self.ends.first() else { return };
            if *until > now {
                return;
            }
            let (kind, name) = (*kind, name.clone());
            self.remove(kind, &name);
        }
    }
}

#[async_trait]
impl RecordStore for MemoryRecordStore {
    async fn get(&self, kind: RecordKind, name: &str) -> StoreResult<Option<Record>> {
        let now = self.clock.now();
        let record = |kept: &Kept| Record { name: name.to_owned(), version: kept.version, value: kept.value.clone() };
        Ok(self.lock()?.live(kind, name, now).map(record))
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
        let now = self.clock.now();
        let mut state = self.lock()?;
        state.sweep(now);
        let standing = state.live(kind, name, now).map(|kept| kept.version);
        let fits = match expect {
            Expect::Anything => true,
            Expect::Absent => standing.is_none(),
            Expect::Version(version) => standing == Some(version),
        };
        if !fits {
            return Ok(Written::Conflict { version: standing });
        }
        state.remove(kind, name);
        let (version, until) = (standing.unwrap_or(0) + 1, ttl.map(|ttl| now + ttl));
        state.ends.extend(until.map(|until| (until, kind, name.to_owned())));
        state.records.insert((kind, name.to_owned()), Kept { version, value, until });
        Ok(Written::Ok { version })
    }

    async fn now(&self) -> StoreResult<Timestamp> {
        Ok(self.clock.now())
    }

    async fn delete(&self, kind: RecordKind, name: &str) -> StoreResult<bool> {
        let now = self.clock.now();
        let mut state = self.lock()?;
        let stood = state.live(kind, name, now).is_some();
        state.remove(kind, name);
        Ok(stood)
    }

    async fn list(&self, kind: RecordKind, after: Option<&str>, max: u16) -> StoreResult<Vec<Record>> {
        let now = self.clock.now();
        let state = self.lock()?;
        let from =
            after.map_or(Bound::Included((kind, String::new())), |name| Bound::Excluded((kind, name.to_owned())));
        let of_kind = state.records.range((from, Bound::Unbounded)).take_while(|((of, _), _)| *of == kind);
        let live = of_kind.filter(|(_, kept)| kept.until.is_none_or(|until| until > now));
        let record = |((_, name), kept): (&(RecordKind, String), &Kept)| Record {
            name: name.clone(),
            version: kept.version,
            value: kept.value.clone(),
        };
        Ok(live.take(usize::from(max.min(RECORD_PAGE_MAX))).map(record).collect())
    }
}
