//! The requests of a client that are being answered, so that it can take one back.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Requests by their id as it is spelled, each with what ends it.
#[derive(Debug)]
pub(crate) struct Running<T>(Mutex<State<T>>);

#[derive(Debug)]
struct State<T> {
    by_id: HashMap<Box<str>, (u64, T)>,
    count: u64,
    /// The count when it was last asked which requests last.
    asked: u64,
}

/// Takes its request out when it is dropped.
#[derive(Debug)]
pub(crate) struct Listed<'a, T> {
    running: &'a Running<T>,
    id: &'a str,
    number: u64,
}

impl<T> Default for Running<T> {
    fn default() -> Self {
        Self(Mutex::new(State { by_id: HashMap::new(), count: 0, asked: 0 }))
    }
}

impl<T> Running<T> {
    /// Lists a request. A client must not use an id twice at a time; when it does, the later request is the one that is taken back.
    pub(crate) fn list<'a>(&'a self, id: &'a str, end: T) -> Listed<'a, T> {
        Listed { running: self, id, number: self.add(id, end) }
    }

    /// Lists a request until it is [removed](Self::remove) by the number that is given back.
    pub(crate) fn add(&self, id: &str, end: T) -> u64 {
        let mut state = self.lock();
        state.count += 1;
        let number = state.count;
        state.by_id.insert(id.into(), (number, end));
        number
    }

    /// The request of this id and number has ended.
    pub(crate) fn remove(&self, id: &str, number: u64) {
        let mut state = self.lock();
        if state.by_id.get(id).is_some_and(|(listed, _)| *listed == number) {
            state.by_id.remove(id);
        }
        if state.by_id.is_empty() {
            // An idle session holds nothing.
            state.by_id.shrink_to(RESERVED);
        }
    }

    /// What ends the request of this id, which is listed no more.
    pub(crate) fn take(&self, id: &str) -> Option<T> {
        self.lock().by_id.remove(id).map(|(_, end)| end)
    }

    /// What ends all of them.
    pub(crate) fn take_all(&self) -> Vec<T> {
        self.lock().by_id.drain().map(|(_, (_, end))| end).collect()
    }

    /// The requests that were there already when this was asked last.
    pub(crate) fn lasting(&self) -> Vec<Box<str>> {
        let mut state = self.lock();
        let (asked, count) = (state.asked, state.count);
        state.asked = count;
        state.by_id.iter().filter(|(_, (number, _))| *number <= asked).map(|(id, _)| id.clone()).collect()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.lock().by_id.len()
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Listed<'_, T> {
    fn drop(&mut self) {
        self.running.remove(self.id, self.number);
    }
}

/// Room that an idle session keeps.
const RESERVED: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_listed_as_long_as_it_runs() {
        let running = Running::default();
        let first = running.list("1", 'a');
        let second = running.list("1", 'b');
        drop(first);
        assert_eq!(running.take("1"), Some('b'));
        drop(second);
        assert!(running.len() == 0 && running.take("1").is_none());
        let listed = running.list("\"x\"", 'c');
        assert_eq!(running.take_all(), ['c']);
        drop(listed);
    }
}
