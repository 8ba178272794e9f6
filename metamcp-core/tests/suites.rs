//! The stores in memory pass the behaviour suites, and every behaviour that is written is in its suite.

use std::{num::NonZeroUsize, sync::Arc};

use metamcp_core::{
    event::MemoryEventBus,
    queue::MemoryJobStore,
    result::MemoryResultStore,
    testing::{
        ManualClock,
        event_bus::{EventBusFixture, SUITE_EVENTS_KEPT},
        job_store::{JobStoreFixture, suite_limits},
        result_store::ResultStoreFixture,
    },
};

mod jobs {
    use super::*;

    async fn make() -> JobStoreFixture {
        let clock = ManualClock::new();
        JobStoreFixture::new(Arc::new(MemoryJobStore::with_limits(clock.clone(), suite_limits())), clock, ())
    }

    metamcp_core::job_store_suite!(make);
}

mod results {
    use super::*;

    async fn make() -> ResultStoreFixture {
        ResultStoreFixture::new(Arc::new(MemoryResultStore::new()), ())
    }

    metamcp_core::result_store_suite!(make);
}

mod events {
    use super::*;

    async fn make() -> EventBusFixture {
        let kept = NonZeroUsize::new(SUITE_EVENTS_KEPT).expect("not zero");
        EventBusFixture::new(Arc::new(MemoryEventBus::with_capacity(ManualClock::new(), kept)), ())
    }

    metamcp_core::event_bus_suite!(make);
}

/// The names of the behaviours written in a file.
fn written(source: &str) -> impl Iterator<Item = &str> {
    source.lines().filter_map(|line| line.trim_start().strip_prefix("pub async fn ")?.split('(').next())
}

/// Whether a macro's list has the name on a line of its own.
fn listed(source: &str, name: &str) -> bool {
    source.lines().any(|line| line.trim() == name)
}

#[test]
fn every_behaviour_that_is_written_is_in_its_suite() {
    let list = include_str!("../src/testing/job_store/mod.rs");
    let rooms = [
        include_str!("../src/testing/job_store/concurrent.rs"),
        include_str!("../src/testing/job_store/durable.rs"),
        include_str!("../src/testing/job_store/enqueue.rs"),
        include_str!("../src/testing/job_store/fence.rs"),
        include_str!("../src/testing/job_store/give_back.rs"),
        include_str!("../src/testing/job_store/lease.rs"),
        include_str!("../src/testing/job_store/read.rs"),
        include_str!("../src/testing/job_store/steer.rs"),
        include_str!("../src/testing/job_store/time.rs"),
    ];
    let results = include_str!("../src/testing/result_store.rs");
    let events = include_str!("../src/testing/event_bus.rs");
    let all = rooms.into_iter().map(|room| (room, list)).chain([(results, results), (events, events)]);
    let mut count = 0;
    for (source, list) in all {
        for name in written(source) {
            assert!(listed(list, name), "`{name}` is in no suite");
            count += 1;
        }
    }
    assert!(count > 150, "only {count} behaviours were found");
}
