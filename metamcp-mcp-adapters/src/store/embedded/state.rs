//! What the writer's thread owns: the queue, and the records that its next commit changes; and what readers see of it after the commit.
//!
//! Changes of the queue become records here and nowhere else. Jobs that are done or cancelled are in memory only between a call that names
//! them and the next commit.

use std::{
    collections::{HashMap, HashSet},
    fmt, mem,
    ops::ControlFlow,
    sync::{Arc, OnceLock, RwLock},
};

use metamcp_core::{
    error::{StoreError, StoreErrorKind, StoreResult},
    id::JobId,
    queue::{Change, Core, CoreLimits, JobHead, JobState},
    time::{Clock, Timestamp},
};
use tokio::sync::{Notify, watch};

use super::{
    STORE, codec,
    journal::{Batch, Journal, View},
    keys::{self, Kind},
};

/// The cursors of the oldest and the newest kept event; `oldest` is one more than `newest` when there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EventSpan {
    pub(super) oldest: u64,
    pub(super) newest: u64,
}

/// What callers read beside the journal, as of the last commit.
#[derive(Debug)]
pub(super) struct Shared {
    /// Heads that a heartbeat has moved past what is stored: a heartbeat is not worth a commit.
    beaten: RwLock<HashMap<JobId, JobHead>>,
    /// Told when a job may have become ready.
    pub(super) ready: Notify,
    /// Which events are kept.
    pub(super) events: watch::Sender<EventSpan>,
    failed: OnceLock<String>,
}

impl Shared {
    /// The head of a job as a heartbeat left it, if that is news to the journal.
    pub(super) fn beaten(&self, id: JobId) -> Option<JobHead> {
        self.beaten.read().expect("nothing panics while it holds the heads").get(&id).cloned()
    }

    /// Closes the store for good; the first reason stays.
    pub(super) fn fail(&self, why: impl Into<String>) {
        let _ = self.failed.set(why.into());
        self.ready.notify_waiters();
    }

    /// Nothing, once the store has failed, may be read or written.
    pub(super) fn check_open(&self) -> StoreResult<()> {
        match self.failed.get() {
            None => Ok(()),
            Some(why) => Err(closed(why)),
        }
    }
}

/// What a caller of a store that is not open any more is told.
pub(super) fn closed(why: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Closed, STORE, why)
}

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
    /// Reads the journal. Every lease of before is reclaimed: the lock proves that its holder is gone with its process.
    pub(super) fn load(journal: Arc<Journal>, clock: Arc<dyn Clock>, limits: CoreLimits) -> StoreResult<Self> {
        let mut core = Core::new(limits);
        let view = journal.view()?;
        view.scan(&(Kind::Live.first()..Kind::Live.end()), |key, record| {
            core.load(codec::decode_head(key, record)?);
            Ok(ControlFlow::Continue(()))
        })?;
        view.scan(&(Kind::Paused.first()..Kind::Paused.end()), |key, record| {
            codec::decode_mark(key, record)?;
            core.load_paused(&keys::lane_of(key)?);
            Ok(ControlFlow::Continue(()))
        })?;
        let kept = Kind::Event.first()..Kind::Event.end();
        let newest = view.backwards(&kept)?.next().transpose()?.map(|(key, _)| keys::cursor_of(&key)).transpose()?;
        let newest = newest.unwrap_or_default();
        let mut oldest = newest + 1;
        view.scan(&kept, |key, _| {
            oldest = keys::cursor_of(key)?;
            Ok(ControlFlow::Break(()))
        })?;
        let events = EventSpan { oldest, newest };
        let shared = Arc::new(Shared {
            beaten: RwLock::default(),
            ready: Notify::new(),
            events: watch::Sender::new(events),
            failed: OnceLock::new(),
        });
        let mut state = Self {
            core,
            events,
            clock,
            journal,
            shared,
            batch: Batch::new(),
            view: None,
            ended: Vec::new(),
            stored: HashSet::new(),
            beats: HashSet::new(),
            wakes: false,
            untold: Vec::new(),
            broken: None,
        };
        let now = state.now();
        state.untold = state.core.reclaim_all(now);
        state.absorb();
        state.commit()?;
        Ok(state)
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

    /// Whether the next commit removes the record.
    pub(super) fn removes(&self, key: &[u8]) -> bool {
        self.batch.get(key).is_some_and(Option::is_none)
    }

    /// The state of the last commit.
    pub(super) fn view(&mut self) -> StoreResult<&View> {
        match &mut self.view {
            Some(view) => Ok(view),
            view => Ok(view.insert(self.journal.view()?)),
        }
    }

    /// Brings a job that has left memory back for the rest of this commit.
    pub(super) fn page_in(&mut self, id: JobId) -> StoreResult<()> {
        if self.core.contains(id) {
            return Ok(());
        }
        let key = keys::job_key(Kind::Final, id);
        if let Some(record) = self.get(&key)? {
            self.core.load(codec::decode_head(&key, &record)?);
            self.ended.push(id);
        }
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
                let record = codec::encode_head(&ended, head)?;
                let expiry = keys::expiry_of(head);
                let mark = codec::encode_mark(&expiry)?;
                self.remove(live);
                self.put(ended, record);
                self.put(expiry, mark);
                self.ended.push(head.id);
            }
            state => {
                let record = codec::encode_head(&live, head)?;
                self.put(live, record);
                self.wakes |= matches!(state, JobState::Ready | JobState::Delayed);
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
            let head = codec::decode_head(&key, &record)?;
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
            // A dead job stays: it is counted, and may be redriven.
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
        let mut beaten = self.shared.beaten.write().expect("nothing panics while it holds the heads");
        for id in self.stored.drain() {
            beaten.remove(&id);
        }
        for id in self.beats.drain() {
            if let Some(head) = self.core.head(id) {
                beaten.insert(id, head.clone());
            }
        }
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
