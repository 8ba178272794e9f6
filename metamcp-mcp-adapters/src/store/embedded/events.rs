//! The event bus: a ring of records in the journal, written by the writer's thread, read from the last commit.
//!
//! A cursor that was answered or read is on disk, so it is never given again. Readers that wait are told of each commit.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use async_trait::async_trait;
use metamcp_core::{
    error::{StoreError, StoreErrorKind, StoreResult},
    event::{EVENT_PAGE_MAX, Event, EventBus, EventPage, NewEvent},
};

use super::{
    Engine, STORE, codec,
    keys::{self, Kind},
    state::State,
};

/// How far the ring may grow over its bound before it is cut back to it: one cut of many costs less than many of one.
const TRIM_EVENTS_MAX: u64 = 1_000;

/// The event bus of one data directory.
#[derive(Debug)]
pub struct EmbeddedEventBus {
    engine: Arc<Engine>,
}

impl EmbeddedEventBus {
    pub(super) const fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    /// What is kept after the cursor. One that is ahead of the bus is of another life of it: the gap is told, and the reader starts over.
    fn page(&self, after: u64, max: u16) -> StoreResult<EventPage> {
        let newest = self.engine.writer.shared().events.borrow().newest;
        let ahead = after > newest;
        let first = if ahead { 0 } else { after + 1 };
        let mut events = Vec::new();
        self.engine.journal.view()?.scan(&(keys::event_key(first)..Kind::Event.end()), |key, record| {
            events.push(codec::decode_json::<Event>(key, record)?);
            Ok(if events.len() < usize::from(max) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        let missed = ahead || events.first().is_some_and(|event| event.cursor > first);
        let next = events.last().map_or(after.min(newest), |event| event.cursor);
        Ok(EventPage { events, next, missed })
    }
}

#[async_trait]
impl EventBus for EmbeddedEventBus {
    async fn publish(&self, events: &[NewEvent]) -> StoreResult<u64> {
        if events.len() > usize::from(EVENT_PAGE_MAX) {
            let message =
                format!("{} events in one publish, split them into calls of at most {EVENT_PAGE_MAX}", events.len());
            return Err(StoreError::new(StoreErrorKind::Invalid, STORE, message));
        }
        let events = events.to_vec();
        let kept_max = self.engine.events_kept_max;
        self.engine.writer.call(move |state| append(state, events, kept_max)).await
    }

    async fn read(&self, after: u64, max: u16, wait: Duration) -> StoreResult<EventPage> {
        let shared = self.engine.writer.shared();
        shared.check_open()?;
        let mut kept = shared.events.subscribe();
        // The only error is that the bus was dropped, and it is borrowed here.
        let _ = tokio::time::timeout(wait, kept.wait_for(|span| span.newest != after)).await;
        self.page(after, max.clamp(1, EVENT_PAGE_MAX))
    }

    async fn latest(&self) -> StoreResult<u64> {
        let shared = self.engine.writer.shared();
        shared.check_open()?;
        Ok(shared.events.borrow().newest)
    }
}

fn append(state: &mut State, events: Vec<NewEvent>, kept_max: u64) -> StoreResult<u64> {
    let at = state.now();
    let mut span = state.events;
    let mut records = Vec::with_capacity(events.len());
    for event in events {
        span.newest += 1;
        let key = keys::event_key(span.newest);
        let record = codec::encode_json(&key, &Event { cursor: span.newest, at, event })?;
        records.push((key, record));
    }
    for (key, record) in records {
        state.put(key, record);
    }
    let kept = span.newest + 1 - span.oldest;
    if kept > kept_max + kept_max.min(TRIM_EVENTS_MAX) {
        let oldest = span.newest + 1 - kept_max;
        (span.oldest..oldest).for_each(|cursor| state.remove(keys::event_key(cursor)));
        span.oldest = oldest;
    }
    state.events = span;
    Ok(span.newest)
}
