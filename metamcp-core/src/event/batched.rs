//! An event bus that is told by many at a time: what they publish while a call is under way goes out together with the next.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{EVENT_PAGE_MAX, EventBus, EventPage, NewEvent};
use crate::{
    coalesce::Coalescer,
    error::{StoreError, StoreErrorKind, StoreResult},
};

const STORE: &str = "batched event bus";

/// About what an event weighs, in bytes: it holds no body.
const EVENT_BYTES: usize = 1_024;

/// An [`EventBus`] in front of another. Each publisher is told the cursor of its own last event.
#[derive(Debug)]
pub struct BatchedEventBus {
    inner: Arc<dyn EventBus>,
    publish: Coalescer<NewEvent, u64>,
}

impl BatchedEventBus {
    /// In front of `inner`.
    ///
    /// # Panics
    /// Outside of a tokio runtime, which must live as long as the bus is used.
    #[must_use]
    pub fn new(inner: Arc<dyn EventBus>) -> Self {
        let behind = Arc::clone(&inner);
        let publish = Coalescer::new(
            STORE,
            usize::from(EVENT_PAGE_MAX),
            |_| EVENT_BYTES,
            move |events: Vec<NewEvent>| {
                let bus = Arc::clone(&behind);
                async move { bus.publish(&events).await.map(|last| place(last, events.len())) }
            },
        );
        Self { inner, publish }
    }
}

/// The cursors of `count` events that stand together, the last one at `last`.
fn place(last: u64, count: usize) -> Vec<u64> {
    let count = count as u64;
    (0..count).map(|n| (last + 1 + n).saturating_sub(count)).collect()
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl EventBus for BatchedEventBus {
    async fn publish(&self, events: &[NewEvent]) -> StoreResult<u64> {
        if events.is_empty() {
            return self.inner.latest().await;
        }
        if events.len() > usize::from(EVENT_PAGE_MAX) {
            let why = format!("{} events in one call, split them into calls of at most {EVENT_PAGE_MAX}", events.len());
            return Err(StoreError::new(StoreErrorKind::Invalid, STORE, why));
        }
        let places = self.publish.call(events.to_vec()).await?;
        Ok(places.last().copied().unwrap_or_default())
    }

    async fn read(&self, after: u64, max: u16, wait: Duration) -> StoreResult<EventPage> {
        self.inner.read(after, max, wait).await
    }

    async fn latest(&self) -> StoreResult<u64> {
        self.inner.latest().await
    }
}
