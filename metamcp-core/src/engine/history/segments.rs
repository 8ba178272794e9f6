//! The segments that a tenant's lessons stand in: appended to, taken from and dropped by comparing versions.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{HISTORY_KEPT, HistoryKeeper, Seen, TRIES_MAX};
use crate::{
    error::{StoreError, StoreErrorKind, StoreResult},
    id::TenantId,
    matching::{Lesson, LessonFilter},
    record::{Expect, Record, RecordKind, Written},
};

/// Largest segment, in bytes; well below what a record may have.
const SEGMENT_BYTES_MAX: usize = 128 << 10;
/// Most segments of one tenant.
const SEGMENTS_MAX: usize = 48;
/// Segments read at a time.
const PAGE: u16 = 16;

/// A segment as it was last seen.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) name: String,
    pub(super) version: u64,
    pub(super) value: Bytes,
}

impl HistoryKeeper {
    /// Appends as many lessons as one segment takes, and takes them off.
    pub(super) async fn append(
        &self,
        seen: &mut Seen,
        tenant: &TenantId,
        lessons: &mut VecDeque<Lesson>,
    ) -> StoreResult<()> {
        for tried in 0..TRIES_MAX {
            let tail = seen.tails.get(tenant).filter(|tail| tail.value.len() < SEGMENT_BYTES_MAX / 2).cloned();
            let new = tail.is_none();
            let tail = tail.unwrap_or_else(|| Segment {
                name: format!("{tenant}/{:012x}-{tried}", lessons[0].at.as_millis()),
                version: 0,
                value: Bytes::new(),
            });
            let mut value = tail.value.to_vec();
            let mut taken = 0;
            for lesson in lessons.iter() {
                let line = line(lesson);
                if taken > 0 && value.len() + line.len() > SEGMENT_BYTES_MAX {
                    break;
                }
                value.extend(line);
                taken += 1;
            }
            let (value, expect) =
                (Bytes::from(value), if new { Expect::Absent } else { Expect::Version(tail.version) });
            match self.put(&tail.name, value.clone(), expect).await? {
                Written::Ok { version } => {
                    lessons.drain(..taken);
                    self.written(seen, tenant, Segment { name: tail.name, version, value }).await?;
                    return Ok(());
                }
                // Others wrote or removed: what stands now is appended to, or a segment begun.
                Written::Conflict { .. } => {
                    seen.stamp = None;
                    seen.behind.insert(tenant.clone());
                    match self.records.get(RecordKind::History, &tail.name).await? {
                        Some(Record { name, version, value }) => {
                            seen.tails.insert(tenant.clone(), Segment { name, version, value });
                        }
                        None => _ = seen.tails.remove(tenant),
                    }
                }
            }
        }
        let message = "others keep writing to the newest segment of the history; it is tried again";
        Err(StoreError::new(StoreErrorKind::Unavailable, "history", message))
    }

    /// Notes a segment as it was written, and drops the oldest when it is one too many.
    async fn written(&self, seen: &mut Seen, tenant: &TenantId, tail: Segment) -> StoreResult<()> {
        let known = seen.segments.entry(tenant.clone()).or_default();
        match known.iter_mut().find(|(name, _)| *name == tail.name) {
            Some((_, version)) => *version = tail.version,
            None => known.push((tail.name.clone(), tail.version)),
        }
        known.sort_unstable();
        let excess = known.len().saturating_sub(SEGMENTS_MAX);
        let oldest: Vec<(String, u64)> = known.drain(..excess).collect();
        seen.tails.insert(tenant.clone(), tail);
        for (name, _) in oldest {
            self.records.delete(RecordKind::History, &name).await?;
        }
        Ok(())
    }

    /// Removes lessons from one segment; answers how many.
    pub(super) async fn remove_from(&self, mut segment: Record, filter: &LessonFilter) -> StoreResult<usize> {
        for _ in 0..TRIES_MAX {
            let lessons = lessons(&segment.value);
            let kept: Vec<&Lesson> = lessons.iter().filter(|lesson| !filter.admits(lesson)).collect();
            if kept.len() == lessons.len() {
                return Ok(0);
            }
            let value: Vec<u8> = kept.iter().flat_map(|lesson| line(lesson)).collect();
            match self.put(&segment.name, value.into(), Expect::Version(segment.version)).await? {
                Written::Ok { .. } => return Ok(lessons.len() - kept.len()),
                Written::Conflict { .. } => match self.records.get(RecordKind::History, &segment.name).await? {
                    Some(now) => segment = now,
                    None => return Ok(0),
                },
            }
        }
        tracing::warn!(segment = segment.name, "others keep writing to a segment of the history; remove again");
        Ok(0)
    }

    pub(super) async fn put(&self, name: &str, value: Bytes, expect: Expect) -> StoreResult<Written> {
        self.records.put(RecordKind::History, name, value, expect, Some(HISTORY_KEPT)).await
    }

    /// The records behind `after` whose name begins with `prefix`.
    pub(super) async fn list(&self, mut after: String, prefix: &str) -> StoreResult<Vec<Record>> {
        let mut all = Vec::new();
        loop {
            let from = Some(after.as_str()).filter(|after| !after.is_empty());
            let page = self.records.list(RecordKind::History, from, PAGE).await?;
            let last = page.len() < usize::from(PAGE);
            for record in page {
                if !record.name.starts_with(prefix) {
                    return Ok(all);
                }
                after.clone_from(&record.name);
                all.push(record);
            }
            if last {
                return Ok(all);
            }
        }
    }
}

fn line(lesson: &Lesson) -> Vec<u8> {
    let mut line = serde_json::to_vec(lesson).expect("a lesson is JSON");
    line.push(b'\n');
    line
}

/// The lessons of a segment; a line that is none is passed over.
pub(super) fn lessons(value: &[u8]) -> Vec<Lesson> {
    value.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}
