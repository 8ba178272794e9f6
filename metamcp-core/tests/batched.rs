//! The stores that bring concurrent calls together pass the behaviour suites, and really make fewer calls.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use metamcp_core::{
    auth::Principal,
    error::{StoreError, StoreErrorKind, StoreResult},
    event::{BatchedEventBus, EVENT_PAGE_MAX, EventBus, EventKind, EventPage, MemoryEventBus, NewEvent},
    id::JobId,
    queue::{BatchedJobStore, MemoryJobStore},
    testing::{
        ManualClock,
        event_bus::{EventBusFixture, SUITE_EVENTS_KEPT},
        job_store::{JobStoreFixture, suite_limits},
    },
};

mod jobs {
    use super::*;

    async fn make() -> JobStoreFixture {
        let clock = ManualClock::new();
        let store = MemoryJobStore::with_limits(clock.clone(), suite_limits());
        JobStoreFixture::new(Arc::new(BatchedJobStore::new(Arc::new(store))), clock, ())
    }

    metamcp_core::job_store_suite!(make);
}

mod events {
    use super::*;

    async fn make() -> EventBusFixture {
        let kept = NonZeroUsize::new(SUITE_EVENTS_KEPT).expect("not zero");
        let bus = MemoryEventBus::with_capacity(ManualClock::new(), kept);
        EventBusFixture::new(Arc::new(BatchedEventBus::new(Arc::new(bus))), ())
    }

    metamcp_core::event_bus_suite!(make);
}

/// A bus whose calls take a moment and are counted; every `fail_every`th fails, when that is not zero.
#[derive(Debug)]
struct Slow {
    inner: MemoryEventBus,
    calls: AtomicUsize,
    fail_every: usize,
}

#[async_trait]
impl EventBus for Slow {
    async fn publish(&self, events: &[NewEvent]) -> StoreResult<u64> {
        assert!(events.len() <= usize::from(EVENT_PAGE_MAX), "a batch keeps the bound of the store behind it");
        let call = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
        if self.fail_every > 0 && call.is_multiple_of(self.fail_every) {
            return Err(StoreError::new(StoreErrorKind::Unavailable, "slow bus", "busy"));
        }
        self.inner.publish(events).await
    }

    async fn read(&self, after: u64, max: u16, wait: Duration) -> StoreResult<EventPage> {
        self.inner.read(after, max, wait).await
    }

    async fn latest(&self) -> StoreResult<u64> {
        self.inner.latest().await
    }
}

fn event(n: u64) -> NewEvent {
    let owner = Principal::new(Principal::local().tenant, n.to_string());
    NewEvent { job: JobId::MIN, owner, kind: EventKind::Queued }
}

async fn publish_all(slow: &Arc<Slow>, callers: u64) -> Vec<(u64, StoreResult<u64>)> {
    let bus = Arc::new(BatchedEventBus::new(Arc::<Slow>::clone(slow)));
    let publish = |n: u64| {
        let bus = Arc::clone(&bus);
        tokio::spawn(async move { (n, bus.publish(&[event(n)]).await) })
    };
    let tasks: Vec<_> = (1..=callers).map(publish).collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.expect("no caller panics"));
    }
    answers
}

#[tokio::test(start_paused = true)]
async fn many_callers_cost_few_calls_and_each_gets_its_own_answer() {
    let slow =
        Arc::new(Slow { inner: MemoryEventBus::new(ManualClock::new()), calls: AtomicUsize::new(0), fail_every: 0 });
    let answers = publish_all(&slow, 2_000).await;
    let calls = slow.calls.load(Ordering::Relaxed);
    assert!(calls <= 12, "{calls} calls for 2,000 callers");
    let mut after = 0;
    let mut told = Vec::new();
    loop {
        let page = slow.read(after, EVENT_PAGE_MAX, Duration::ZERO).await.expect("memory can be read");
        if page.events.is_empty() {
            break;
        }
        after = page.next;
        told.extend(page.events);
    }
    for (n, cursor) in answers {
        let cursor = cursor.expect("the bus does not fail");
        let kept = told.iter().find(|event| event.cursor == cursor);
        if let Some(kept) = kept {
            assert_eq!(kept.event, event(n), "the cursor is that of the caller's own event");
        }
    }
    assert!(!told.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_is_told_to_those_it_was_made_for_and_to_nobody_else() {
    let slow =
        Arc::new(Slow { inner: MemoryEventBus::new(ManualClock::new()), calls: AtomicUsize::new(0), fail_every: 2 });
    let answers = publish_all(&slow, 1_200).await;
    let failed = answers.iter().filter(|(_, answer)| answer.is_err()).count();
    assert!(failed > 0 && failed < answers.len(), "{failed} of {} failed", answers.len());
    let kept = slow.latest().await.expect("memory can be read");
    assert_eq!(usize::try_from(kept), Ok(answers.len() - failed), "what was told well is there, the rest is not");
}
