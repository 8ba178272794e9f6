//! What the writer's thread owns: the queue, and the records that its next commit changes; and what readers see of it after the commit.
//!
//! Changes of the queue become records here and nowhere else. Jobs that are done or cancelled are in memory as long as live jobs use them;
//! others only between a call that names them and the next commit.

use std::{collections::HashSet, fmt, mem, ops::ControlFlow, sync::Arc};

use metamcp_core::{
    error::{StoreError, StoreResult},
    id::JobId,
    queue::{Change, Core, JobHead, JobState},
    time::{Clock, Timestamp},
};

use super::{
    codec, head,
    journal::{Batch, Journal, View},
    keys::{self, Kind},
    shared::{EventSpan, Shared, closed},
};

/// The writer's state: the queue, and what the next commit changes.
pub(super) struct State {
    /// The queue.
    pub(super) core: Core,
    /// Which events are kept, the next commit included.
    pub(super) events: EventSpan,
    clock: Arc<dyn Clock>,
    journal: Arc<Journal>,
    pub(super) shared: Arc<Shared>,
    batch: Batch,
    view: Option<View>,
    /// Jobs that are done or cancelled: in memory only until the commit.
    ended: Vec<JobId>,
    /// Jobs whose head was stored, and those with a heartbeat after that.
    stored: HashSet<JobId>,
    beats: HashSet<JobId>,
    wakes: bool,
    /// Jobs that the store took from their lease by itself, to be told with the next maintenance.
    untold: Vec<(JobId, JobState)>,
    /// A change of the queue that could not be made a record: memory is ahead of the disk for good.
    broken: Option<StoreError>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("batch", &self.batch.len()).finish_non_exhaustive()
    }
}

impl State {
    /// The state over a queue as it was read from the journal, without any change.
    pub(super) fn new(journal: Arc<Journal>, clock: Arc<dyn Clock>, core: Core, events: EventSpan) -> Self {
        Self {
            core,
            events,
            clock,
            journal,
            shared: Arc::new(Shared::new(events)),
            batch: Batch::new(),
            view: None,
            ended: Vec::new(),
            stored: HashSet::new(),
            beats: HashSet::new(),
            wakes: false,
            untold: Vec::new(),
            broken: None,
        }
    }

    /// How many records the next commit changes.
    pub(super) fn pending(&self) -> usize {
        self.batch.len()
    }

    /// The store's clock.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Adds a record to the next commit.
    pub(super) fn put(&mut self, key: Vec<u8>, record: Vec<u8>) {
        self.batch.insert(key, Some(record));
    }

    /// Removes a record with the next commit.
    pub(super) fn remove(&mut self, key: Vec<u8>) {
        self.batch.insert(key, None);
    }

    /// One record, as the next commit leaves it.
    pub(super) fn get(&mut self, key: &[u8]) -> StoreResult<Option<Vec<u8>>> {
        match self.batch.get(key) {
            Some(record) => Ok(record.clone()),
            None => self.view()?.get(key),
        }
    }

    /// The state of the last commit.
    pub(super) fn view(&mut self) -> StoreResult<&View> {
        match &mut self.view {
            Some(view) => Ok(view),
            view => Ok(view.insert(self.journal.view()?)),
        }
    }

    /// The entries of a kind of expiry that are not later than `at`, the earliest first, at most `max`. Those that a call before in the same
    /// commit has removed or renewed are left out.
    pub(super) fn expired(&mut self, kind: Kind, at: Timestamp, max: usize) -> StoreResult<Vec<Vec<u8>>> {
        let mut expired = Vec::new();
        if max == 0 {
            return Ok(expired);
        }
        self.view()?;
        let Some(view) = &self.view else { return Ok(expired) };
        view.scan(&(kind.first()..keys::expiry_end(kind, at)), |key, mark| {
            codec::decode_mark(key, mark)?;
            if !self.batch.contains_key(key) {
                expired.push(key.to_vec());
            }
            Ok(if expired.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok(expired)
    }

    /// Brings a job that has left memory back for the rest of this commit.
    pub(super) fn page_in(&mut self, id: JobId) -> StoreResult<()> {
        if self.core.contains(id) {
            return Ok(());
        }
        let key = keys::job_key(Kind::Final, id);
        if let Some(record) = self.get(&key)? {
            self.core.load(head::decode_head(&key, &record)?);
            self.ended.push(id);
        }
        Ok(())
    }

    /// Brings all of these back.
    pub(super) fn page_in_all(&mut self, ids: &[JobId]) -> StoreResult<()> {
        ids.iter().try_for_each(|id| self.page_in(*id))
    }

    /// Brings back what a job that is to be taken in may meet: one with its id, the one that has its idempotency key, and those it waits for.
    pub(super) fn page_in_around(&mut self, id: JobId, word: Option<&[u8]>, after: &[JobId]) -> StoreResult<()> {
        self.page_in(id)?;
        if let Some(word) = word
            && let Some(record) = self.get(word)?
        {
            self.page_in(codec::decode_job_id(word, &record)?)?;
        }
        self.page_in_all(after)
    }

    /// Stores what never changes of a job that was taken in: its body, and the idempotency key under which it is found.
    pub(super) fn put_job(&mut self, id: JobId, word: Option<Vec<u8>>, body: Vec<u8>) -> StoreResult<()> {
        if let Some(word) = word {
            let record = codec::encode_job_id(&word, id)?;
            self.put(word, record);
        }
        self.put(keys::job_key(Kind::Body, id), body);
        Ok(())
    }

    /// Remembers what became of a job that the store took from its lease by itself.
    pub(super) fn tell_later(&mut self, id: JobId, state: JobState) {
        self.untold.push((id, state));
    }

    /// How many such jobs are to be told.
    pub(super) fn untold(&self) -> usize {
        self.untold.len()
    }

    /// What is to be told of them, at most `max`.
    pub(super) fn take_untold(&mut self, max: usize) -> Vec<(JobId, JobState)> {
        let told = self.untold.len().min(max);
        self.untold.drain(..told).collect()
    }

    /// Remembers that a heartbeat has moved a head without a change to be stored.
    pub(super) fn beat(&mut self, id: JobId) {
        self.beats.insert(id);
    }

    /// Turns what the queue has changed into records.
    pub(super) fn absorb(&mut self) {
        if let Err(e) = self.try_absorb() {
            self.broken = Some(e);
        }
    }

    fn try_absorb(&mut self) -> StoreResult<()> {
        for change in self.core.take_changes() {
            match change {
                Change::Put(head) => self.store_head(&head)?,
                Change::Removed(id) => self.remove_job(id)?,
                Change::Paused(lane, paused) => {
                    let key = keys::paused_key(&lane);
                    if paused {
                        let mark = codec::encode_mark(&key)?;
                        self.put(key, mark);
                    } else {
                        self.remove(key);
                        self.wakes = true;
                    }
                }
            }
        }
        Ok(())
    }

    fn store_head(&mut self, head: &JobHead) -> StoreResult<()> {
        let live = keys::job_key(Kind::Live, head.id);
        self.stored.insert(head.id);
        self.beats.remove(&head.id);
        match head.state {
            JobState::Done | JobState::Cancelled => {
                let ended = keys::job_key(Kind::Final, head.id);
                let record = head::encode_head(&ended, head)?;
                let expiry = keys::expiry_of(head);
                self.remove(live);
                self.put(ended, record);
                // What others still use is kept.
                if head.users == 0 {
                    let mark = codec::encode_mark(&expiry)?;
                    self.put(expiry, mark);
                } else {
                    self.remove(expiry);
                }
                self.ended.push(head.id);
            }
            state => {
                let record = head::encode_head(&live, head)?;
                self.put(live, record);
                self.wakes |= matches!(state, JobState::Ready | JobState::Delayed) && !head.blocked;
            }
        }
        Ok(())
    }

    /// Removes every record of a job.
    fn remove_job(&mut self, id: JobId) -> StoreResult<()> {
        self.stored.insert(id);
        self.beats.remove(&id);
        for kind in [Kind::Live, Kind::Final] {
            let key = keys::job_key(kind, id);
            let Some(record) = self.get(&key)? else { continue };
            let head = head::decode_head(&key, &record)?;
            self.remove(key);
            if kind == Kind::Final {
                self.remove(keys::expiry_of(&head));
            }
            if let Some(word) = &head.idempotency_key {
                self.remove(keys::idempotency_key(&head.owner.tenant, word));
            }
        }
        self.remove(keys::job_key(Kind::Body, id));
        Ok(())
    }

    /// Commits in the middle of a call, for one that reads the journal itself.
    pub(super) fn commit_now(&mut self) -> StoreResult<()> {
        self.commit().inspect_err(|e| {
            let why = describe(e);
            self.broken = Some(closed(&why));
        })
    }

    /// Commits what has gathered and shows it to readers.
    pub(super) fn commit(&mut self) -> StoreResult<()> {
        if let Some(e) = self.broken.take() {
            return Err(e);
        }
        // An open view would keep the pages it sees from being used again.
        self.view = None;
        if !self.batch.is_empty() {
            self.journal.commit(&self.batch)?;
            self.batch.clear();
        }
        for id in mem::take(&mut self.ended) {
            // A dead job stays: it is counted, and may be redriven. So does one that live jobs use; it comes by here again with its last user.
            if self.core.head(id).is_some_and(|head| matches!(head.state, JobState::Done | JobState::Cancelled)) {
                self.core.evict(id);
            }
        }
        self.show_beats();
        self.shared.events.send_if_modified(|span| mem::replace(span, self.events) != self.events);
        if mem::take(&mut self.wakes) {
            self.shared.ready.notify_waiters();
        }
        Ok(())
    }

    fn show_beats(&mut self) {
        if self.stored.is_empty() && self.beats.is_empty() {
            return;
        }
        let beaten = self.beats.drain().filter_map(|id| self.core.head(id).cloned());
        self.shared.show_beaten(beaten, self.stored.drain());
    }
}

/// An error with its causes in one line: it is told many times, to whoever calls.
pub(super) fn describe(e: &StoreError) -> String {
    let mut text = e.to_string();
    text.drain(..text.find(": ").map_or(0, |at| at + 2));
    let mut source = std::error::Error::source(e);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
