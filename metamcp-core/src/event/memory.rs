//! The event bus in memory: a ring of the newest events, read by cursor.
//!
//! Gone when the process ends. Nobody is waited for: who falls behind the ring is told so and reads on from what is kept.

use std::{
    collections::VecDeque,
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::Notify;

use super::{EVENT_PAGE_MAX, Event, EventBus, EventPage, NewEvent};
use crate::{
    error::{StoreError, StoreErrorKind, StoreResult},
    time::Clock,
};

const STORE: &str = "memory event bus";
/// Events that are kept unless it is told otherwise.
const MEMORY_EVENTS_KEPT_MAX: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");

/// An [`EventBus`] in memory.
pub struct MemoryEventBus {
    // A std lock: every section is short and none awaits.
    ring: Mutex<Ring>,
    clock: Arc<dyn Clock>,
    capacity: usize,
    news: Notify,
}

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<Event>,
    latest: u64,
}

impl MemoryEventBus {
    /// An empty bus that keeps the newest 10 000 events.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::with_capacity(clock, MEMORY_EVENTS_KEPT_MAX)
    }

    /// An empty bus that keeps this many events.
    #[must_use]
    pub fn with_capacity(clock: Arc<dyn Clock>, capacity: NonZeroUsize) -> Self {
        Self { ring: Mutex::default(), clock, capacity: capacity.get(), news: Notify::new() }
    }

    fn lock(&self) -> StoreResult<MutexGuard<'_, Ring>> {
        self.ring.lock().map_err(|_| {
            StoreError::new(StoreErrorKind::Closed, STORE, "a call panicked half-way, open a new bus".to_owned())
        })
    }
}

impl Ring {
    /// What is kept after the cursor; `None` when there is nothing to tell yet.
    fn page(&self, after: u64, max: usize) -> Option<EventPage> {
        // A cursor ahead of the bus is of another life of it: the gap is told, and the reader starts over.
        let ahead = after > self.latest;
        let oldest = self.events.front().map_or(self.latest + 1, |event| event.cursor);
        let missed = ahead || after + 1 < oldest;
        let skip = if ahead { 0 } else { (after + 1).saturating_sub(oldest) };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let events: Vec<Event> = self.events.iter().skip(skip).take(max).cloned().collect();
        if events.is_empty() && !missed {
            return None;
        }
        let next = events.last().map_or(self.latest, |event| event.cursor);
        Some(EventPage { events, next, missed })
    }
}

impl fmt::Debug for MemoryEventBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryEventBus").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

#[async_trait]
impl EventBus for MemoryEventBus {
    async fn publish(&self, events: &[NewEvent]) -> StoreResult<u64> {
        if events.len() > usize::from(EVENT_PAGE_MAX) {
            let message =
                format!("{} events in one call, split them into calls of at most {EVENT_PAGE_MAX}", events.len());
            return Err(StoreError::new(StoreErrorKind::Invalid, STORE, message));
        }
        let latest = {
            let mut ring = self.lock()?;
            let at = self.clock.now();
            for event in events {
                ring.latest += 1;
                let cursor = ring.latest;
                if ring.events.len() == self.capacity {
                    ring.events.pop_front();
                }
                ring.events.push_back(Event { cursor, at, event: event.clone() });
            }
            ring.latest
        };
        self.news.notify_waiters();
        Ok(latest)
    }

    async fn read(&self, after: u64, max: u16, wait: Duration) -> StoreResult<EventPage> {
        let max = usize::from(max.clamp(1, EVENT_PAGE_MAX));
        let found = async {
            loop {
                let mut news = std::pin::pin!(self.news.notified());
                // Listens before it looks: what comes in between is not missed.
                news.as_mut().enable();
                match self.lock().map(|ring| ring.page(after, max)) {
                    Ok(None) => news.await,
                    Ok(Some(page)) => return Ok(page),
                    Err(error) => return Err(error),
                }
            }
        };
        // A wait of zero still looks once: a time-out polls what it bounds before it asks the time.
        let nothing = EventPage { events: Vec::new(), next: after, missed: false };
        tokio::time::timeout(wait, found).await.unwrap_or(Ok(nothing))
    }

    async fn latest(&self) -> StoreResult<u64> {
        Ok(self.lock()?.latest)
    }
}
