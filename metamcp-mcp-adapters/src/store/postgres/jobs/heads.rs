//! The heads that one transaction holds, and what follows from a move of one of them: the same as `metamcp_core::queue::Core` does with all
//! heads in memory. Nothing here asks the database: what a move may reach was loaded before (see [`super::hold`]).
//!
//! Beside the heads it knows the ready jobs of some lanes, to see when a lane runs empty: its tenants are level again then.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use metamcp_core::{
    id::{JobId, Lane},
    queue::{
        ConcurrencyKey, JobBody, JobHead, JobState,
        moves::{self, LET_GO_MAX},
    },
    time::Timestamp,
};

use super::codec::Stored;

/// Most waiting jobs that the end of the job they wait for moves by itself; the others are the work of maintenance.
pub(super) const SETTLE_AT_ONCE_MAX: usize = 32;

/// A head as it was read, and as it stands now.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) before: Before,
    pub(super) now: Stored,
}

/// What is stored of a held head.
#[derive(Debug)]
pub(super) enum Before {
    /// It stands there so.
    Stood(Box<Stored>),
    /// Nothing: it is new, with this body.
    New(Arc<JobBody>),
    /// Nothing: another store held it, with this body.
    Restored(Arc<JobBody>),
}

impl Before {
    /// The head that stands there.
    pub(super) fn head(&self) -> Option<&JobHead> {
        match self {
            Self::Stood(stored) => Some(&stored.head),
            Self::New(_) | Self::Restored(_) => None,
        }
    }
}

/// What the moves of one transaction may reach.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// Concurrency keys that may be let go, by the number of their lock, and how often.
    pub(super) keys: BTreeMap<String, usize>,
    /// Jobs that others may wait for and that may end.
    pub(super) parents: Vec<JobId>,
    /// Lanes that ready jobs may leave, and how many.
    pub(super) lanes: BTreeMap<Lane, usize>,
}

/// The heads of one transaction.
#[derive(Debug)]
pub(super) struct Heads {
    now: Timestamp,
    held: BTreeMap<JobId, Held>,
    ready: BTreeMap<Lane, BTreeSet<JobId>>,
    /// Lanes that ran empty.
    emptied: BTreeSet<Lane>,
    unblocked: Vec<JobId>,
}

impl Heads {
    pub(super) const fn new(now: Timestamp) -> Self {
        Self { now, held: BTreeMap::new(), ready: BTreeMap::new(), emptied: BTreeSet::new(), unblocked: Vec::new() }
    }

    /// The instant of the transaction.
    pub(super) const fn now(&self) -> Timestamp {
        self.now
    }

    /// Takes in a head that was read. One that is held already stands as it is.
    pub(super) fn take_in(&mut self, stored: Stored) {
        let id = stored.head.id;
        self.held.entry(id).or_insert_with(|| Held { before: Before::Stood(Box::new(stored.clone())), now: stored });
    }

    /// Takes in a job that is new to the store.
    pub(super) fn add(&mut self, head: JobHead, before: Before) {
        self.joins(&head);
        self.held.insert(head.id, Held { before, now: Stored { head, unsettled: false } });
    }

    /// Takes in ready jobs of a lane: all of them, or more than can leave it in this transaction.
    pub(super) fn watch(&mut self, lane: Lane, ready: impl IntoIterator<Item = JobId>) {
        self.ready.entry(lane).or_default().extend(ready);
    }

    pub(super) fn get(&self, id: JobId) -> Option<&JobHead> {
        self.held.get(&id).map(|held| &held.now.head)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Held> {
        self.held.values()
    }

    /// Lanes that ran empty on the way.
    pub(super) const fn emptied(&self) -> &BTreeSet<Lane> {
        &self.emptied
    }

    /// Jobs that a holder of their key let go on since the last time, in order of place.
    pub(super) fn take_unblocked(&mut self) -> Vec<JobId> {
        std::mem::take(&mut self.unblocked)
    }

    /// What a move of any of the held heads may reach.
    pub(super) fn reach(&self) -> Reach {
        let mut reach = Reach { lanes: self.lanes_at_risk(), ..Reach::default() };
        for head in self.held.values().map(|held| &held.now.head) {
            if let Some(limit) = head.concurrency.as_ref().filter(|_| in_play(head)) {
                *reach.keys.entry(limit.key.clone()).or_default() += 1;
            }
            if head.users > 0 && !head.state.is_final() {
                reach.parents.push(head.id);
            }
        }
        // A blocked job among them may end before its turn: the one behind it goes on then.
        for limit in self.held.values().map(|held| &held.now.head).filter(|head| head.blocked).filter_map(limit_of) {
            reach.keys.entry(limit.key.clone()).and_modify(|often| *often += 1);
        }
        reach
    }

    /// Lanes that held jobs may leave.
    pub(super) fn lanes_at_risk(&self) -> BTreeMap<Lane, usize> {
        let mut lanes = BTreeMap::new();
        for head in self.held.values().map(|held| &held.now.head).filter(|head| is_ready(head)) {
            *lanes.entry(head.lane.clone()).or_default() += 1;
        }
        lanes
    }

    /// Changes a head and everything that depends on it.
    pub(super) fn change(&mut self, id: JobId, edit: impl FnOnce(&mut JobHead)) -> Option<JobState> {
        let held = self.held.get_mut(&id)?;
        let before = held.now.head.clone();
        edit(&mut held.now.head);
        held.now.head.updated_at = self.now;
        let after = held.now.head.clone();
        self.leaves(&before);
        self.joins(&after);
        let lets_go = moves::lets_go(before.state, before.blocked, after.state);
        if let Some(limit) = after.concurrency.as_ref().filter(|_| lets_go) {
            self.let_go(&limit.key);
        }
        if after.state.is_final() && !before.state.is_final() {
            self.ended(&after);
        }
        Some(after.state)
    }

    /// Changes a head if `edit` says that it did, and answers what it answers. `None`: there is no such job.
    pub(super) fn change_if<T>(&mut self, id: JobId, edit: impl FnOnce(&mut JobHead) -> (T, bool)) -> Option<T> {
        let mut edited = self.get(id)?.clone();
        let (answer, changed) = edit(&mut edited);
        if changed {
            self.change(id, |head| *head = edited);
        }
        Some(answer)
    }

    /// Those of the parents that are not done.
    pub(super) fn undone(&self, parents: &[JobId]) -> Vec<JobId> {
        let undone = |parent: &&JobId| self.get(**parent).is_none_or(|parent| parent.state != JobState::Done);
        parents.iter().filter(undone).copied().collect()
    }

    /// Keeps the parents of a new or redriven job until that job ends.
    pub(super) fn keep_parents(&mut self, parents: &[JobId]) {
        for parent in parents {
            self.count_user(*parent, true);
            let Some(held) = self.held.get_mut(parent) else { continue };
            let state = held.now.head.state;
            held.now.unsettled |= state.is_final() && state != JobState::Done;
        }
    }

    /// Moves a waiting job whose parent has ended.
    pub(super) fn settle(&mut self, child: JobId, parent: JobId, came: JobState) -> Option<JobState> {
        let now = self.now;
        self.change(child, |head| moves::settle(head, now, parent, came))
    }

    /// The held jobs that wait for this one, in order of id.
    pub(super) fn waiters(&self, parent: JobId) -> impl Iterator<Item = JobId> {
        let waits = move |held: &&Held| held.now.head.waits_on.contains(&parent);
        self.held.values().filter(waits).map(|held| held.now.head.id)
    }

    /// Whether the job has ended and others may still wait for it.
    pub(super) fn is_unsettled(&self, id: JobId) -> bool {
        self.held.get(&id).is_some_and(|held| held.now.unsettled)
    }

    /// Nobody waits for an ended job any more.
    pub(super) fn forget_unsettled(&mut self, id: JobId) {
        if let Some(held) = self.held.get_mut(&id) {
            held.now.unsettled = false;
        }
    }

    /// Lets the first jobs that are passed over for this key go on: one of each lane and bound.
    fn let_go(&mut self, key: &str) {
        let mut firsts = BTreeMap::<(&Lane, u32), (u64, JobId)>::new();
        for head in self.held.values().map(|held| &held.now.head).filter(|head| head.blocked) {
            let Some(limit) = limit_of(head).filter(|limit| limit.key == key) else { continue };
            let position = (moves::place(head), head.id);
            let first = firsts.entry((&head.lane, limit.max)).or_insert(position);
            *first = position.min(*first);
        }
        let firsts: BTreeSet<(u64, JobId)> = firsts.into_values().collect();
        for (_, next) in firsts.into_iter().take(LET_GO_MAX) {
            self.change(next, |head| moves::block(head, false));
            self.unblocked.push(next);
        }
    }

    /// A job has ended: its parents have one user less, and those that wait for it move.
    fn ended(&mut self, head: &JobHead) {
        for parent in &head.after {
            self.count_user(*parent, false);
        }
        if head.users == 0 {
            return;
        }
        if head.state == JobState::Done {
            let children: Vec<JobId> = self.waiters(head.id).take(SETTLE_AT_ONCE_MAX).collect();
            for child in children {
                self.settle(child, head.id, head.state);
            }
        }
        let waited_for = head.state != JobState::Done || self.waiters(head.id).next().is_some();
        if let Some(held) = self.held.get_mut(&head.id) {
            held.now.unsettled = waited_for;
        }
    }

    fn count_user(&mut self, parent: JobId, more: bool) {
        let Some(held) = self.held.get_mut(&parent) else { return };
        let head = &mut held.now.head;
        head.users = if more { head.users.saturating_add(1) } else { head.users.saturating_sub(1) };
        // As the state machine does it: the job leaves its lane for a moment, which is told from the outside when it was the only one.
        let head = head.clone();
        self.leaves(&head);
        self.joins(&head);
    }

    fn leaves(&mut self, head: &JobHead) {
        let Some(ready) = self.ready.get_mut(&head.lane).filter(|_| is_ready(head)) else { return };
        if ready.remove(&head.id) && ready.is_empty() {
            self.emptied.insert(head.lane.clone());
        }
    }

    fn joins(&mut self, head: &JobHead) {
        if let Some(ready) = self.ready.get_mut(&head.lane).filter(|_| is_ready(head)) {
            ready.insert(head.id);
        }
    }
}

const fn limit_of(head: &JobHead) -> Option<&ConcurrencyKey> {
    head.concurrency.as_ref()
}

/// Whether the job can be leased.
pub(super) const fn is_ready(head: &JobHead) -> bool {
    matches!(head.state, JobState::Ready) && !head.blocked
}

/// Whether the job holds its concurrency key, or is about to ask for it.
const fn in_play(head: &JobHead) -> bool {
    matches!(head.state, JobState::Leased) || is_ready(head)
}
