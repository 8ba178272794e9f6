//! Reads all that a store holds, page by page.

use std::collections::VecDeque;

use super::{AdminError, Place};
use crate::{
    error::StoreResult,
    id::{JobId, Lane},
    queue::{Job, JobQuery, JobStore, LANES_TOLD_MAX, LEASE_BATCH_MAX, LaneCounts},
    record::{RECORD_PAGE_MAX, Record, RecordKind, RecordStore},
};

/// Every kind of record that is carried to another store. Those of gateways are not: a seal's key is a secret, the rest lives for seconds.
pub(super) const KINDS: [RecordKind; 4] =
    [RecordKind::Schedule, RecordKind::Batch, RecordKind::Call, RecordKind::History];

/// All jobs that a query asks for, the newest first.
pub(super) struct Jobs<'a> {
    store: &'a dyn JobStore,
    query: JobQuery,
    page: VecDeque<Job>,
    more: bool,
}

impl<'a> Jobs<'a> {
    /// All jobs of a store.
    pub(super) fn all(store: &'a dyn JobStore) -> Self {
        Self::of(store, JobQuery::default())
    }

    /// The jobs that `query` asks for.
    pub(super) fn of(store: &'a dyn JobStore, mut query: JobQuery) -> Self {
        // As many as one call takes in elsewhere.
        query.limit = LEASE_BATCH_MAX;
        Self { store, query, page: VecDeque::new(), more: true }
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> StoreResult<Option<Job>> {
        while self.page.is_empty() && self.more {
            let page = self.store.list(&self.query).await?;
            self.more = page.next.is_some();
            self.query.before = page.next;
            self.page = page.jobs.into();
        }
        Ok(self.page.pop_front())
    }

    /// The ids of all that are left, at most `max`, and whether there are more.
    pub(super) async fn ids(
        mut self,
        max: usize,
        mut wanted: impl FnMut(&Job) -> bool + Send,
    ) -> StoreResult<(Vec<JobId>, bool)> {
        let mut ids = Vec::new();
        while let Some(job) = self.next().await? {
            if wanted(&job) {
                if ids.len() == max {
                    return Ok((ids, true));
                }
                ids.push(job.head.id);
            }
        }
        Ok((ids, false))
    }
}

/// All records of a kind, in order of name.
pub(super) struct Records<'a> {
    store: &'a dyn RecordStore,
    kind: RecordKind,
    last: Option<String>,
    page: VecDeque<Record>,
    more: bool,
}

impl<'a> Records<'a> {
    /// All records of `kind`.
    pub(super) fn all(store: &'a dyn RecordStore, kind: RecordKind) -> Self {
        Self { store, kind, last: None, page: VecDeque::new(), more: true }
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> StoreResult<Option<Record>> {
        if self.page.is_empty() && self.more {
            self.page = self.store.list(self.kind, self.last.as_deref(), RECORD_PAGE_MAX).await?.into();
            self.more = self.page.len() == usize::from(RECORD_PAGE_MAX);
            self.last = self.page.back().map(|record| record.name.clone());
        }
        Ok(self.page.pop_front())
    }
}

/// All lanes with their counts.
///
/// # Errors
/// [`AdminError::Lanes`] when there may be more than are told.
pub(super) async fn lanes(place: &Place<'_>) -> Result<Vec<(Lane, LaneCounts)>, AdminError> {
    let lanes = super::queues(place.jobs).await?;
    if lanes.len() >= LANES_TOLD_MAX { Err(AdminError::Lanes) } else { Ok(lanes) }
}
