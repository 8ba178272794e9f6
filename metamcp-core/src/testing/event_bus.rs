//! The behaviours every [`EventBus`] has, and the macro that makes a named test of each.

use std::{any::Any, fmt, sync::Arc, time::Duration};

use crate::{
    auth::Principal,
    error::StoreErrorKind,
    event::{EVENT_PAGE_MAX, Event, EventBus, EventKind, NewEvent},
    id::JobId,
    time::Timestamp,
};

/// Makes one test of each behaviour of an event bus. `$make` is the path of an async function that makes a fresh [`EventBusFixture`].
/// The crate that calls it needs tokio with `macros` and `rt-multi-thread`.
#[macro_export]
macro_rules! event_bus_suite {
    ($make:path) => {
        $crate::event_bus_suite!($make, behaviours);
    };
    ($make:path, $as:ident) => {
        $crate::$as!(@flat event_bus, $make;
            an_empty_bus_has_nothing_to_tell
            events_get_consecutive_cursors_from_one
            an_event_reads_as_it_was_published
            a_read_goes_on_after_its_cursor
            a_read_is_bounded
            a_page_is_bounded
            too_many_events_are_invalid
            an_empty_publish_changes_nothing
            reading_changes_nothing
            a_reader_waits_for_the_first_event
            a_reader_waits_no_longer_than_asked
            a_reader_that_is_behind_does_not_wait
            all_readers_are_woken
            a_dropped_read_takes_nothing_with_it
            who_is_too_slow_is_told
            what_is_kept_is_bounded
            a_cursor_ahead_of_the_bus_is_told_and_starts_over
            the_largest_cursor_is_one_ahead_of_the_bus
            events_of_one_publish_stay_together
        );
    };
}

/// The number of events that a bus under test keeps. It may keep more, at most twice as many.
pub const SUITE_EVENTS_KEPT: usize = 100;
/// Longest real time that one step may take, in seconds.
const STEP_S_MAX: u64 = 20;
/// A wait that nobody sees the end of.
const LONG: Duration = Duration::from_secs(3_600);

/// A fresh, empty bus for one behaviour.
pub struct EventBusFixture {
    /// The bus, keeping [`SUITE_EVENTS_KEPT`] events.
    pub bus: Arc<dyn EventBus>,
    /// Dropped last: a directory, a connection, a process.
    pub guard: Box<dyn Any + Send + Sync>,
}

impl fmt::Debug for EventBusFixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventBusFixture").field("bus", &self.bus).finish_non_exhaustive()
    }
}

impl EventBusFixture {
    /// A bus, and what is to be dropped after it.
    pub fn new(bus: Arc<dyn EventBus>, guard: impl Any + Send + Sync) -> Self {
        Self { bus, guard: Box::new(guard) }
    }

    async fn publish(&self, events: &[NewEvent]) -> u64 {
        self.bus.publish(events).await.expect("the bus answers")
    }

    async fn publish_many(&self, count: usize) {
        for batch in many(count).chunks(50) {
            self.publish(batch).await;
        }
    }

    async fn read(&self, after: u64, max: u16) -> crate::event::EventPage {
        bounded("a read", self.bus.read(after, max, Duration::ZERO)).await.expect("the bus answers")
    }
}

async fn bounded<T>(what: &str, step: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(STEP_S_MAX), step).await {
        Ok(done) => done,
        Err(_) => panic!("{what} took longer than {STEP_S_MAX} s"),
    }
}

fn event(n: u64) -> NewEvent {
    let kind = EventKind::Retrying {
        error: crate::queue::JobError::new(crate::queue::JobErrorCode::ServerError, "x"),
        delay_ms: n,
    };
    NewEvent { job: JobId::new(Timestamp::from_millis(n)), owner: Principal::local(), kind }
}

fn many(count: usize) -> Vec<NewEvent> {
    (0..count as u64).map(event).collect()
}

fn cursors(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.cursor).collect()
}

fn reader(fx: &EventBusFixture, after: u64) -> tokio::task::JoinHandle<crate::event::EventPage> {
    let bus = Arc::clone(&fx.bus);
    tokio::spawn(async move { bus.read(after, 10, LONG).await.expect("the bus answers") })
}

/// The behaviours. The name of each is what it says.
mod behaviours {
    #![expect(missing_docs, reason = "the name of each function is the behaviour")]

    use super::*;

    pub async fn an_empty_bus_has_nothing_to_tell(fx: EventBusFixture) {
        assert_eq!(fx.bus.latest().await.expect("the bus answers"), 0);
        let page = fx.read(0, 10).await;
        assert!(page.events.is_empty() && page.next == 0 && !page.missed);
    }

    pub async fn events_get_consecutive_cursors_from_one(fx: EventBusFixture) {
        assert_eq!(fx.publish(&many(3)).await, 3);
        assert_eq!(fx.publish(&many(2)).await, 5);
        assert_eq!(fx.bus.latest().await.expect("the bus answers"), 5);
        let page = fx.read(0, 10).await;
        assert_eq!((cursors(&page.events), page.next, page.missed), (vec![1, 2, 3, 4, 5], 5, false));
    }

    pub async fn an_event_reads_as_it_was_published(fx: EventBusFixture) {
        let kinds = [
            EventKind::Queued,
            EventKind::Progress(crate::queue::Progress { value: 1.5, total: None, message: Some("so far".to_owned()) }),
            EventKind::InputRequired { keys: vec!["q1".to_owned()] },
            EventKind::Cancelled { reason: "enough".to_owned() },
        ];
        let published: Vec<NewEvent> = kinds.into_iter().map(|kind| NewEvent { kind, ..event(7) }).collect();
        fx.publish(&published).await;
        let read: Vec<NewEvent> = fx.read(0, 10).await.events.into_iter().map(|event| event.event).collect();
        assert_eq!(read, published);
    }

    pub async fn a_read_goes_on_after_its_cursor(fx: EventBusFixture) {
        fx.publish(&many(5)).await;
        let page = fx.read(3, 10).await;
        assert_eq!((cursors(&page.events), page.next, page.missed), (vec![4, 5], 5, false));
        let page = fx.read(5, 10).await;
        assert_eq!((cursors(&page.events), page.next, page.missed), (vec![], 5, false));
    }

    pub async fn a_read_is_bounded(fx: EventBusFixture) {
        fx.publish(&many(5)).await;
        let page = fx.read(1, 2).await;
        assert_eq!((cursors(&page.events), page.next), (vec![2, 3], 3));
    }

    pub async fn a_page_is_bounded(fx: EventBusFixture) {
        fx.publish_many(90).await;
        let page = fx.read(0, u16::MAX).await;
        assert!(page.events.len() <= usize::from(EVENT_PAGE_MAX));
        assert_eq!(page.next, page.events.len() as u64);
    }

    pub async fn too_many_events_are_invalid(fx: EventBusFixture) {
        let refused = fx.bus.publish(&many(usize::from(EVENT_PAGE_MAX) + 1)).await.expect_err("too many");
        assert_eq!(refused.kind(), StoreErrorKind::Invalid);
        assert_eq!(fx.bus.latest().await.expect("the bus answers"), 0, "nothing was taken");
    }

    pub async fn an_empty_publish_changes_nothing(fx: EventBusFixture) {
        fx.publish(&many(2)).await;
        assert_eq!(fx.publish(&[]).await, 2);
    }

    pub async fn reading_changes_nothing(fx: EventBusFixture) {
        fx.publish(&many(4)).await;
        assert_eq!(fx.read(1, 10).await, fx.read(1, 10).await);
    }

    pub async fn a_reader_waits_for_the_first_event(fx: EventBusFixture) {
        fx.publish(&many(1)).await;
        let waits = reader(&fx, 1);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!waits.is_finished(), "there is nothing to tell");
        fx.publish(&many(1)).await;
        let page = bounded("the wake-up", waits).await.expect("the read does not panic");
        assert_eq!((cursors(&page.events), page.next), (vec![2], 2));
    }

    pub async fn a_reader_waits_no_longer_than_asked(fx: EventBusFixture) {
        fx.publish(&many(1)).await;
        let page = bounded("the read", fx.bus.read(1, 10, Duration::from_millis(20))).await.expect("the bus answers");
        assert!(page.events.is_empty() && page.next == 1 && !page.missed);
    }

    pub async fn a_reader_that_is_behind_does_not_wait(fx: EventBusFixture) {
        fx.publish(&many(2)).await;
        let page = bounded("the read", fx.bus.read(1, 10, LONG)).await.expect("the bus answers");
        assert_eq!(cursors(&page.events), [2]);
    }

    pub async fn all_readers_are_woken(fx: EventBusFixture) {
        let readers: Vec<_> = (0..5).map(|_| reader(&fx, 0)).collect();
        tokio::time::sleep(Duration::from_millis(20)).await;
        fx.publish(&many(1)).await;
        for waits in readers {
            let page = bounded("the wake-up", waits).await.expect("the read does not panic");
            assert_eq!(cursors(&page.events), [1]);
        }
    }

    pub async fn a_dropped_read_takes_nothing_with_it(fx: EventBusFixture) {
        let waits = reader(&fx, 0);
        tokio::time::sleep(Duration::from_millis(20)).await;
        waits.abort();
        fx.publish(&many(1)).await;
        assert_eq!(cursors(&fx.read(0, 10).await.events), [1]);
    }

    pub async fn who_is_too_slow_is_told(fx: EventBusFixture) {
        fx.publish(&many(1)).await;
        fx.publish_many(SUITE_EVENTS_KEPT * 3).await;
        let page = fx.read(1, 5).await;
        assert!(page.missed, "events after the first are no longer kept");
        let first = page.events.first().expect("the newest are kept").cursor;
        assert!(first > 2);
        assert_eq!(cursors(&page.events), (first..first + 5).collect::<Vec<_>>());
        let on = fx.read(page.next, 5).await;
        assert!(!on.missed && on.events[0].cursor == page.next + 1, "from there it goes on without a gap");
    }

    pub async fn what_is_kept_is_bounded(fx: EventBusFixture) {
        fx.publish_many(SUITE_EVENTS_KEPT * 4).await;
        let latest = fx.bus.latest().await.expect("the bus answers");
        let kept = latest - fx.read(0, 1).await.events[0].cursor + 1;
        assert!(kept >= SUITE_EVENTS_KEPT as u64, "{kept} are fewer than promised");
        assert!(kept <= 2 * SUITE_EVENTS_KEPT as u64, "{kept} are more than bounded");
    }

    pub async fn a_cursor_ahead_of_the_bus_is_told_and_starts_over(fx: EventBusFixture) {
        fx.publish(&many(2)).await;
        let page = bounded("the read", fx.bus.read(9, 10, LONG)).await.expect("the bus answers");
        assert!(page.missed, "the cursor is of another life of the bus");
        assert_eq!((cursors(&page.events), page.next), (vec![1, 2], 2));
    }

    pub async fn the_largest_cursor_is_one_ahead_of_the_bus(fx: EventBusFixture) {
        fx.publish(&many(2)).await;
        for ahead in [u64::MAX, u64::MAX - 1] {
            let page = fx.read(ahead, 10).await;
            assert!(page.missed, "{ahead} is of another life of the bus");
            assert_eq!((cursors(&page.events), page.next), (vec![1, 2], 2), "{ahead}");
        }
    }

    pub async fn events_of_one_publish_stay_together(fx: EventBusFixture) {
        let publishers: Vec<_> = (0..8_u64)
            .map(|n| {
                let bus = Arc::clone(&fx.bus);
                tokio::spawn(
                    async move { bus.publish(&[event(n), event(n), event(n)]).await.expect("the bus answers") },
                )
            })
            .collect();
        for publisher in publishers {
            bounded("a publish", publisher).await.expect("no publish panics");
        }
        let events = fx.read(0, 100).await.events;
        assert_eq!(cursors(&events), (1..=24).collect::<Vec<_>>());
        for three in events.chunks(3) {
            assert!(three.iter().all(|event| event.event.kind == three[0].event.kind), "{three:?}");
        }
    }
}

pub use behaviours::*;
