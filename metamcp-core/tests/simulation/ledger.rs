//! What really happened, kept apart from everything under test: acknowledgements, leases, endings, effects.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use metamcp_core::{
    id::JobId,
    queue::{JobState, LeaseKey},
};

#[derive(Debug, Default)]
struct Book {
    accepted: Vec<JobId>,
    newest: BTreeMap<JobId, LeaseKey>,
    finals: BTreeMap<JobId, Vec<JobState>>,
    stale: Vec<String>,
    effects: BTreeMap<JobId, u32>,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Book>);

impl Ledger {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap()
    }

    /// A caller was told that the job is accepted.
    pub(crate) fn accept(&self, id: JobId) {
        self.book().accepted.push(id);
    }

    pub(crate) fn leased(&self, key: LeaseKey) {
        self.book().newest.insert(key.job, key);
    }

    /// The store has accepted a write under `key` that left the job in `state`.
    pub(crate) fn wrote(&self, key: LeaseKey, state: JobState, what: &str) {
        let mut book = self.book();
        let newest = book.newest.get(&key.job).copied();
        if newest != Some(key) {
            book.stale.push(format!("{what} accepted under {key:?}, the newest lease is {newest:?}"));
        }
        if state.is_final() {
            book.finals.entry(key.job).or_default().push(state);
        }
    }

    pub(crate) fn ended(&self, id: JobId, state: JobState) {
        self.book().finals.entry(id).or_default().push(state);
    }

    /// A tool that may act only once has acted.
    pub(crate) fn acted(&self, id: JobId) {
        *self.book().effects.entry(id).or_default() += 1;
    }

    pub(crate) fn accepted(&self) -> Vec<JobId> {
        self.book().accepted.clone()
    }

    pub(crate) fn finals(&self) -> Vec<(JobId, Vec<JobState>)> {
        self.book().finals.clone().into_iter().collect()
    }

    pub(crate) fn stale_accepted(&self) -> Vec<String> {
        self.book().stale.clone()
    }

    pub(crate) fn effects(&self) -> Vec<(JobId, u32)> {
        self.book().effects.clone().into_iter().collect()
    }
}
