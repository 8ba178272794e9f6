//! Learning from outcomes: what served past needs well is raised for similar needs, what failed is lowered, each tenant by itself.
//!
//! [`History`] is the memory, [`LearningMatcher`] puts it over another matcher. No model and no training: a lesson counts as soon as it is
//! learned, fades with age, is bounded in number, and can be shown and removed again.

mod fuse;
mod lesson;
mod matcher;
mod meanings;
mod memory;
mod past;
mod reader;
mod recall;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicUsize, Ordering},
    },
};

pub(crate) use self::memory::Memory;
pub use self::{
    lesson::{Lesson, LessonFilter},
    matcher::LearningMatcher,
};
use self::{
    reader::Reader,
    recall::{Recall, Scratch},
};
use super::{Catalog, DenseTable, lexical::misfit};
use crate::{
    id::{CapabilityId, TenantId},
    task::Need,
};

/// Most past needs over all tenants; of more the tenant that has learned nothing for longest is forgotten.
const NEEDS_OF_ALL_MAX: usize = 131_072;
/// Lessons that wait to be written while a store is away; of more the oldest are not kept.
pub(crate) const UNWRITTEN_MAX: usize = 10_000;
/// Scratch memories kept for use again.
const POOL_MAX: usize = 64;

/// What was learned from the jobs of every tenant, in memory. Cheap to share; every call takes a lock for microseconds, or for tens of
/// milliseconds when a full memory forgets a part.
#[derive(Debug)]
pub struct History {
    reader: Reader,
    tenants: RwLock<HashMap<TenantId, Arc<RwLock<Memory>>>>,
    /// Past needs over all tenants.
    needs: AtomicUsize,
    pool: Mutex<Vec<Scratch>>,
    unwritten: Option<Mutex<Unwritten>>,
}

/// Lessons on their way to a store, the oldest first.
pub(crate) type Unwritten = VecDeque<(TenantId, Lesson)>;

impl History {
    /// An empty history that ends with the process.
    #[must_use]
    pub fn new() -> Self {
        let (reader, tenants, needs) = (Reader::new(), RwLock::default(), AtomicUsize::new(0));
        Self { reader, tenants, needs, pool: Mutex::default(), unwritten: None }
    }

    /// An empty history that also remembers what needs were about, by the vectors of this table: near needs are found that share few words.
    #[must_use]
    pub fn with_table(self, table: DenseTable) -> Self {
        let Self { reader, unwritten, .. } = self;
        Self { reader: reader.with_table(table), unwritten: unwritten.map(|_| Mutex::default()), ..Self::new() }
    }

    /// An empty history that notes down what it learns, for somebody who writes it.
    pub(crate) fn noting() -> Self {
        Self { unwritten: Some(Mutex::default()), ..Self::new() }
    }

    /// What was learned and not yet taken from here to be written.
    pub(crate) fn unwritten(&self) -> Option<MutexGuard<'_, Unwritten>> {
        self.unwritten.as_ref().map(|unwritten| unwritten.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Learns a lesson of a tenant; answers whether it is new. The same lessons in any order make the same history.
    pub fn learn(&self, tenant: &TenantId, lesson: Lesson) -> bool {
        let lesson = lesson.bounded();
        // Held over both, so that what is read from a store meanwhile does not displace the lesson.
        let unwritten = self.unwritten();
        let memory = match self.memory(tenant) {
            Some(memory) => memory,
            None => Arc::clone(write(&self.tenants).entry(tenant.clone()).or_default()),
        };
        if !self.change(&memory, |memory| memory.learn(lesson.clone(), &self.reader)) {
            return false;
        }
        if let Some(mut unwritten) = unwritten {
            if unwritten.len() == UNWRITTEN_MAX {
                unwritten.pop_front();
            }
            unwritten.push_back((tenant.clone(), lesson));
        }
        self.bound(tenant);
        true
    }

    /// What these lessons come to, to be put in a tenant's place.
    pub(crate) fn prepare(&self, lessons: impl IntoIterator<Item = Lesson>) -> Memory {
        Memory::of(lessons.into_iter().map(Lesson::bounded), &self.reader)
    }

    /// Puts `fresh` with the lessons that wait to be written in the place of all that is known of a tenant.
    pub(crate) fn replace(&self, tenant: &TenantId, mut fresh: Memory) {
        let unwritten = self.unwritten();
        let waiting = unwritten.iter().flat_map(|unwritten| unwritten.iter()).filter(|(of, _)| of == tenant);
        waiting.for_each(|(_, lesson)| _ = fresh.learn(lesson.clone(), &self.reader));
        let memory = Arc::clone(write(&self.tenants).entry(tenant.clone()).or_default());
        self.change(&memory, |memory| *memory = fresh);
        self.bound(tenant);
    }

    /// Removes lessons of a tenant and answers how many: needs are routed as if they had never been learned.
    pub fn remove(&self, tenant: &TenantId, filter: &LessonFilter) -> usize {
        let Some(memory) = self.memory(tenant) else { return 0 };
        self.change(&memory, |memory| memory.remove(|lesson| filter.admits(lesson), &self.reader))
    }

    /// The lessons of a tenant that count, the newest first.
    #[must_use]
    pub fn lessons(&self, tenant: &TenantId) -> Vec<Lesson> {
        let Some(memory) = self.memory(tenant) else { return Vec::new() };
        let mut lessons: Vec<Lesson> = read(&memory).lessons().cloned().collect();
        lessons.sort_by(|a, b| (b.at, b.job, &b.capability).cmp(&(a.at, a.job, &a.capability)));
        lessons
    }

    /// The tenants of whom anything is known, in order.
    #[must_use]
    pub fn tenants(&self) -> Vec<TenantId> {
        let mut tenants: Vec<TenantId> = read(&self.tenants).keys().cloned().collect();
        tenants.sort_unstable();
        tenants
    }

    /// What a tenant's past says of a need, about capabilities of the catalogue that fit it: those it remembers and those `asked` about.
    fn recall(&self, tenant: &TenantId, need: &Need, catalog: &Catalog, asked: &[&CapabilityId]) -> Recall {
        let Some(memory) = self.memory(tenant) else { return Recall::default() };
        let mut scratch = self.pool().pop().unwrap_or_default();
        let fits = |capability: &super::Capability| misfit(need, capability).is_none();
        let heard = self.reader.read(&need.text);
        let recall = scratch.recall(&read(&memory), &heard, (catalog, &fits), asked);
        let mut pool = self.pool();
        if pool.len() < POOL_MAX {
            pool.push(scratch);
        }
        recall
    }

    fn memory(&self, tenant: &TenantId) -> Option<Arc<RwLock<Memory>>> {
        read(&self.tenants).get(tenant).cloned()
    }

    /// Changes a memory and counts the needs it won or lost.
    fn change<T>(&self, memory: &RwLock<Memory>, change: impl FnOnce(&mut Memory) -> T) -> T {
        let mut memory = write(memory);
        let before = memory.needs();
        let done = change(&mut memory);
        self.needs.fetch_add(memory.needs(), Ordering::Relaxed);
        self.needs.fetch_sub(before, Ordering::Relaxed);
        done
    }

    /// Forgets whole tenants until all together are within the bound; `but` learned last and stays.
    fn bound(&self, but: &TenantId) {
        while self.needs.load(Ordering::Relaxed) > NEEDS_OF_ALL_MAX {
            let mut tenants = write(&self.tenants);
            let others = tenants.iter().filter(|(tenant, _)| *tenant != but);
            let oldest = others.min_by_key(|(tenant, memory)| (read(memory).newest(), (*tenant).clone()));
            let Some(memory) = oldest.map(|(tenant, _)| tenant.clone()).and_then(|oldest| tenants.remove(&oldest))
            else {
                return;
            };
            self.change(&memory, |memory| *memory = Memory::default());
        }
    }

    fn pool(&self) -> MutexGuard<'_, Vec<Scratch>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for History {
    fn default() -> Self {
        Self::new()
    }
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
