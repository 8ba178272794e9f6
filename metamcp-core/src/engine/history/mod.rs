//! Keeps lessons in the record store, so that they outlive a process and every process that shares the store learns from all.
//!
//! A tenant's lessons are lines of JSON in segments named `TENANT/TIME-NUMBER`. Whoever has something to add appends to the newest segment by
//! comparing versions; the oldest segments beyond a bound are dropped. One more record, the stamp, changes with every write: a process reads
//! the segments again only when the stamp is not the one it knows. What stands in the store is what holds; memories follow it.

mod segments;

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use self::segments::{Segment, lessons};
use crate::{
    error::{StoreError, StoreErrorKind, StoreResult},
    id::TenantId,
    matching::{DenseTable, History, Lesson, LessonFilter, history::UNWRITTEN_MAX},
    record::{Expect, Record, RecordKind, RecordStore, Written},
};

/// How long lessons are kept that nobody adds to: by then they have faded to a sixty-fourth.
pub(crate) const HISTORY_KEPT: Duration = Duration::from_secs(180 * 24 * 3_600);
/// How often what was learned is written.
const FLUSH_EVERY: Duration = Duration::from_secs(2);
/// How many times as seldom the store is asked for what others learned.
const FLUSHES_PER_REFRESH: u32 = 5;
/// How often a write is tried again that others got in the way of.
const TRIES_MAX: usize = 8;
/// Changes with every write.
const STAMP: &str = "stamp";

/// What of the store is known here.
#[derive(Debug, Default)]
struct Seen {
    /// Version of the stamp; `None`: never read.
    stamp: Option<u64>,
    /// By tenant: its segments with their versions.
    segments: BTreeMap<TenantId, Vec<(String, u64)>>,
    /// Tenants of whom others wrote what the memory has not taken in, although the versions are known.
    behind: HashSet<TenantId>,
    /// By tenant: the newest segment.
    tails: HashMap<TenantId, Segment>,
}

/// Writes what a [`History`] learns to a record store and reads what others learned.
#[derive(Debug)]
pub struct HistoryKeeper {
    history: Arc<History>,
    records: Arc<dyn RecordStore>,
    seen: tokio::sync::Mutex<Seen>,
}

impl HistoryKeeper {
    /// Keeps a history in `records`. Nothing is read or written yet.
    #[must_use]
    pub fn new(records: Arc<dyn RecordStore>) -> Self {
        Self { history: Arc::new(History::noting()), records, seen: tokio::sync::Mutex::default() }
    }

    /// The same keeper of an empty history that also remembers what needs were about, by the vectors of this table.
    #[must_use]
    pub fn with_table(self, table: DenseTable) -> Self {
        let history = Arc::new(History::noting().with_table(table));
        Self { history, records: self.records, seen: tokio::sync::Mutex::default() }
    }

    /// What is kept: what it learns is written by the next [`Self::flush`].
    #[must_use]
    pub const fn history(&self) -> &Arc<History> {
        &self.history
    }

    /// Writes what was learned since the last time.
    ///
    /// # Errors
    /// When the store cannot be used; what is not written is tried again the next time.
    ///
    /// # Cancel safety
    /// What was being written when it is dropped may be lost; nothing is written twice over.
    pub async fn flush(&self) -> StoreResult<()> {
        let mut seen = self.seen.lock().await;
        self.write_pending(&mut seen).await
    }

    /// Reads what others learned or removed, if anything changed.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn refresh(&self) -> StoreResult<()> {
        let mut seen = self.seen.lock().await;
        let stamp = self.records.get(RecordKind::History, STAMP).await?.map_or(0, |record| record.version);
        if seen.stamp == Some(stamp) {
            return Ok(());
        }
        let mut tenants: BTreeMap<TenantId, Vec<Record>> = BTreeMap::new();
        for record in self.list(String::new(), "").await? {
            if let Some(tenant) = record.name.split_once('/').and_then(|(tenant, _)| TenantId::new(tenant).ok()) {
                tenants.entry(tenant).or_default().push(record);
            }
        }
        let gone: Vec<TenantId> =
            seen.segments.keys().filter(|tenant| !tenants.contains_key(tenant)).cloned().collect();
        tenants.extend(gone.into_iter().map(|tenant| (tenant, Vec::new())));
        for (tenant, segments) in tenants {
            self.take_in(&mut seen, &tenant, segments).await?;
        }
        // Written before the stamp was read: what came after it is read the next time.
        seen.stamp = Some(stamp);
        Ok(())
    }

    /// Removes lessons of a tenant, here and in the store; answers how many. Other processes follow within seconds.
    ///
    /// # Errors
    /// When the store cannot be used; a part may be removed then.
    pub async fn remove(&self, tenant: &TenantId, filter: &LessonFilter) -> StoreResult<usize> {
        let mut seen = self.seen.lock().await;
        self.write_pending(&mut seen).await?;
        let mut removed = 0;
        for segment in self.list(format!("{tenant}/"), &format!("{tenant}/")).await? {
            removed += self.remove_from(segment, filter).await?;
        }
        if removed > 0 {
            self.stamp(&mut seen).await?;
        }
        let segments = self.list(format!("{tenant}/"), &format!("{tenant}/")).await?;
        self.take_in(&mut seen, tenant, segments).await?;
        Ok(removed)
    }

    /// Writes and reads in turn until `stop`, then writes once more. A store that is away is tried again.
    pub async fn run(&self, stop: CancellationToken) {
        let mut turn = 0_u32;
        while !stop.is_cancelled() {
            if turn.is_multiple_of(FLUSHES_PER_REFRESH) {
                log("read", self.refresh().await);
            }
            log("written", self.flush().await);
            turn = turn.wrapping_add(1);
            _ = tokio::time::timeout(FLUSH_EVERY, stop.cancelled()).await;
        }
        log("written", self.flush().await);
    }

    /// Makes these segments what is known of a tenant, with what waits to be written.
    async fn take_in(&self, seen: &mut Seen, tenant: &TenantId, segments: Vec<Record>) -> StoreResult<()> {
        let versions: Vec<(String, u64)> = segments.iter().map(|s| (s.name.clone(), s.version)).collect();
        if seen.segments.get(tenant) == Some(&versions) && !seen.behind.contains(tenant) {
            return Ok(());
        }
        let (history, values) =
            (Arc::clone(&self.history), segments.iter().map(|s| s.value.clone()).collect::<Vec<_>>());
        let read = move || history.prepare(values.iter().flat_map(|value| lessons(value)));
        let fresh = tokio::task::spawn_blocking(read).await.map_err(|error| {
            let message = format!("what others learned could not be read: {error}");
            StoreError::new(StoreErrorKind::Unavailable, "history", message)
        })?;
        self.history.replace(tenant, fresh);
        seen.behind.remove(tenant);
        match segments.into_iter().next_back() {
            Some(Record { name, version, value }) => {
                seen.tails.insert(tenant.clone(), Segment { name, version, value });
                seen.segments.insert(tenant.clone(), versions);
            }
            None => {
                seen.tails.remove(tenant);
                seen.segments.remove(tenant);
            }
        }
        Ok(())
    }

    async fn write_pending(&self, seen: &mut Seen) -> StoreResult<()> {
        let taken = self.history.unwritten().map(|mut unwritten| std::mem::take(&mut *unwritten)).unwrap_or_default();
        if taken.is_empty() {
            return Ok(());
        }
        let mut tenants: BTreeMap<TenantId, VecDeque<Lesson>> = BTreeMap::new();
        for (tenant, lesson) in taken {
            tenants.entry(tenant).or_default().push_back(lesson);
        }
        let mut failed = None;
        for (tenant, mut lessons) in tenants {
            while failed.is_none() && !lessons.is_empty() {
                failed = self.append(seen, &tenant, &mut lessons).await.err();
            }
            if let Some(mut unwritten) = self.history.unwritten() {
                let room = UNWRITTEN_MAX.saturating_sub(unwritten.len());
                lessons.into_iter().rev().take(room).for_each(|lesson| unwritten.push_front((tenant.clone(), lesson)));
            }
        }
        let stamped = self.stamp(seen).await;
        failed.map_or(stamped, Err)
    }

    /// Tells the other processes that something changed.
    async fn stamp(&self, seen: &mut Seen) -> StoreResult<()> {
        let written = self.put(STAMP, Bytes::new(), Expect::Anything).await?;
        if let (Written::Ok { version }, Some(known)) = (written, seen.stamp)
            && version == known + 1
        {
            seen.stamp = Some(version);
        }
        Ok(())
    }
}

fn log(what: &'static str, done: StoreResult<()>) {
    if let Err(error) = done {
        tracing::warn!(%error, "what was learned from outcomes could not be {what}; it is tried again");
    }
}
