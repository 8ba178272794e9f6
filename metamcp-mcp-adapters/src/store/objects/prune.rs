//! Removes what is due: expired references, and copies that nothing refers to. Safe from any number of processes at once; an entry stays until
//! its visit has ended, so a crash only means that it is visited again.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU16,
};

use bytes::Bytes;
use futures_util::{
    StreamExt as _, TryStreamExt as _,
    future::{join_all, try_join_all},
};
use metamcp_core::{error::StoreResult, pointer::ResultPointer, time::Timestamp};
use object_store::path::Path;

use super::{
    backend::written_at,
    keys::{CopyId, DueEntry, Reference, copy_of, day_begin, minute_begin, whole_minute},
    results::{LISTED_MAX, ObjectResultStore},
};

/// Most due entries one prune takes up.
const VISITS_MAX: usize = 1_000;
/// Entries visited at the same time.
const VISITS_AT_ONCE: usize = 16;
/// Folders of minutes one prune lists.
const MINUTES_MAX: usize = 256;
/// References of one body that are looked through for one to a copy. A body with more is taken as referred to and looked at again later.
const REFERENCES_SEEN_MAX: usize = 100_000;

/// What a list of copies tells of one.
#[derive(Debug, Default)]
struct Found {
    written_at: Option<Timestamp>,
    closed_at: Option<Timestamp>,
}

impl ObjectResultStore {
    pub(super) async fn prune_due(&self, expired_before: Timestamp, max: NonZeroU16) -> StoreResult<u16> {
        // Several entries of one pointer are one visit.
        let mut due = BTreeMap::<ResultPointer, Vec<DueEntry>>::new();
        for entry in self.due_before(expired_before).await? {
            due.entry(entry.pointer.clone()).or_default().push(entry);
        }
        let mut due: Vec<_> = due.into_iter().collect();
        if due.len() > VISITS_AT_ONCE {
            // Processes that prune at once begin at different ends.
            let start = self.entropy.next_u64() % due.len() as u64;
            due.rotate_left(start as usize);
        }
        let (max, mut removed, mut failed) = (usize::from(max.get()), 0, None);
        let mut due = due.as_slice();
        while removed < max && !due.is_empty() {
            // A visit removes one result at most.
            let (now, later) = due.split_at(due.len().min(VISITS_AT_ONCE).min(max - removed));
            due = later;
            let visits = now.iter().map(|(pointer, entries)| self.visit(pointer, entries, expired_before));
            for visit in join_all(visits).await {
                match visit {
                    Ok(gone) => removed += usize::from(gone),
                    // One that cannot be looked at must not keep the others.
                    Err(error) => failed = failed.or(Some(error)),
                }
            }
        }
        failed.map_or(Ok(u16::try_from(removed).unwrap_or(u16::MAX)), Err)
    }

    /// Entries whose time is before that instant, of the earliest minutes first.
    async fn due_before(&self, before: Timestamp) -> StoreResult<Vec<DueEntry>> {
        let (mut entries, mut minutes) = (Vec::new(), 0);
        let root = self.layout.due();
        for day in self.backend.folders(&root).await? {
            if day_begin(&day).is_none_or(|begin| begin >= before) {
                continue;
            }
            let day = root.clone().join(day);
            for minute in self.backend.folders(&day).await? {
                if minutes == MINUTES_MAX || entries.len() >= VISITS_MAX {
                    return Ok(entries);
                }
                if minute_begin(&minute).is_none_or(|begin| begin >= before) {
                    continue;
                }
                minutes += 1;
                let minute = day.clone().join(minute);
                let objects = self.backend.list_some(&minute, VISITS_MAX - entries.len()).await?;
                if objects.is_empty() {
                    self.backend.remove_unfinished(&minute, self.clock.now()).await;
                }
                let found = objects.iter().filter_map(|object| DueEntry::parse(object.location.filename()?));
                entries.extend(found.filter(|entry| entry.at < before));
            }
        }
        Ok(entries)
    }

    /// Does what is due for one pointer and its body, and removes these entries. Answers whether the pointer is gone by this.
    async fn visit(
        &self,
        pointer: &ResultPointer,
        entries: &[DueEntry],
        expired_before: Timestamp,
    ) -> StoreResult<bool> {
        let (expired, living): (Vec<_>, Vec<_>) = self
            .references(pointer)
            .await?
            .into_iter()
            .partition(|reference| reference.expires_at.is_some_and(|at| at < expired_before));
        self.remove_references(pointer, &expired).await?;
        let freed: BTreeSet<CopyId> = expired.iter().map(|reference| reference.copy).collect();
        if !self.remove_copies(pointer, &freed).await? {
            self.look_after(pointer, whole_minute(self.clock.now() + self.options.grace)).await?;
        }
        let paths: Vec<Path> = entries.iter().map(|entry| self.layout.due_entry(entry)).collect();
        try_join_all(paths.iter().map(|path| self.backend.delete(path))).await?;
        Ok(!expired.is_empty() && living.is_empty())
    }

    /// Takes each copy without a reference one step on: open, closed, gone. `freed` are copies that have just lost one; others may belong to
    /// a put that is under way, as long as they are young. Answers whether nothing is left to do.
    async fn remove_copies(&self, pointer: &ResultPointer, freed: &BTreeSet<CopyId>) -> StoreResult<bool> {
        let (now, grace) = (self.clock.now(), self.options.grace);
        for folder in [self.layout.copies(pointer), self.layout.references(pointer)] {
            self.backend.remove_unfinished(&folder, now).await;
        }
        let copies = self.copies(pointer).await?;
        // Looked for after the marks were seen: a reference that is not found now was not there when a mark already stood.
        let Some(unreferenced) = self.without_reference(pointer, &copies).await? else { return Ok(false) };
        let mut done = true;
        for copy in unreferenced {
            let Found { written_at, closed_at } = copies[&copy];
            let is_old = |at: Timestamp| now.since(at) >= grace;
            match (written_at, closed_at) {
                // A mark that was left behind.
                (None, _) => self.backend.delete(&self.layout.closed(pointer, copy)).await?,
                (Some(_), Some(closed_at)) if is_old(closed_at) => {
                    self.backend.delete(&self.layout.copy(pointer, copy)).await?;
                    self.backend.delete(&self.layout.closed(pointer, copy)).await?;
                }
                (Some(written_at), None) if is_old(written_at) || freed.contains(&copy) => {
                    self.backend.put(&self.layout.closed(pointer, copy), Bytes::new()).await?;
                    done = false;
                }
                _ => done = false,
            }
        }
        Ok(done)
    }

    async fn copies(&self, pointer: &ResultPointer) -> StoreResult<BTreeMap<CopyId, Found>> {
        let mut copies = BTreeMap::<CopyId, Found>::new();
        for object in self.backend.list_some(&self.layout.copies(pointer), LISTED_MAX).await? {
            let Some((copy, mark)) = object.location.filename().and_then(copy_of) else { continue };
            let found = copies.entry(copy).or_default();
            let at = if mark { &mut found.closed_at } else { &mut found.written_at };
            *at = Some(written_at(&object));
        }
        Ok(copies)
    }

    /// Those of the copies that no reference names; `None` when there are too many references to say.
    async fn without_reference(
        &self,
        pointer: &ResultPointer,
        copies: &BTreeMap<CopyId, Found>,
    ) -> StoreResult<Option<BTreeSet<CopyId>>> {
        let mut without: BTreeSet<CopyId> = copies.keys().copied().collect();
        let mut seen = 0;
        let body = self.layout.body(pointer);
        let mut objects = self.backend.list(&body).take(REFERENCES_SEEN_MAX);
        // In a body that many share, the first reference usually settles it.
        while !without.is_empty()
            && let Some(object) = objects.try_next().await?
        {
            seen += 1;
            if let Some(reference) = object.location.filename().and_then(Reference::parse) {
                without.remove(&reference.copy);
            }
        }
        Ok((seen < REFERENCES_SEEN_MAX || without.is_empty()).then_some(without))
    }
}
