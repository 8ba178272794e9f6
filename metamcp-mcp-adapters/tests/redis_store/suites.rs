//! The behaviours that every store has, each on a server of its own.

use std::sync::Arc;

use async_trait::async_trait;
use metamcp_core::{
    queue::JobStore,
    testing::{
        ManualClock,
        event_bus::EventBusFixture,
        job_store::{DurableJobStoreFixture, JobStoreFixture, Reopen},
        record_store::RecordStoreFixture,
        result_store::ResultStoreFixture,
    },
};
use metamcp_mcp_adapters::testing::{Append, RedisServer, RedisSetup};
use tokio::sync::Mutex;

use crate::fixture::{fresh, fresh_with, open};

async fn job_store() -> JobStoreFixture {
    let (server, clock, store) = fresh().await;
    JobStoreFixture::new(store.jobs(), clock, server)
}

async fn result_store() -> ResultStoreFixture {
    let (server, _, store) = fresh().await;
    ResultStoreFixture::new(store.results(), server)
}

async fn event_bus() -> EventBusFixture {
    let (server, _, store) = fresh().await;
    EventBusFixture::new(store.events(), server)
}

async fn record_store() -> RecordStoreFixture {
    let (server, clock, store) = fresh().await;
    RecordStoreFixture::new(store.records(), clock, server)
}

mod jobs {
    metamcp_core::job_store_suite!(super::job_store);
}
mod results {
    metamcp_core::result_store_suite!(super::result_store);
}
mod events {
    metamcp_core::event_bus_suite!(super::event_bus);
}
mod records {
    metamcp_core::record_store_suite!(super::record_store);
    metamcp_core::history_suite!(super::record_store);
}

/// Kills the server and starts it on the same data.
struct Restart {
    server: Arc<Mutex<RedisServer>>,
    clock: Arc<ManualClock>,
}

#[async_trait]
impl Reopen for Restart {
    async fn reopen(&mut self) -> Arc<dyn JobStore> {
        let mut server = self.server.lock().await;
        server.kill().await.unwrap();
        server.restart().await.unwrap();
        open(&server.url(), &self.clock).await.jobs()
    }
}

async fn durable_job_store() -> DurableJobStoreFixture {
    // Synced each second, a server may hold back what it has answered for while the disk is slow, and loses that when it is killed.
    let (server, clock, store) = fresh_with(RedisSetup { append: Append::Always, ..RedisSetup::default() }).await;
    let server = Arc::new(Mutex::new(server));
    let reopen = Restart { server: Arc::clone(&server), clock: Arc::clone(&clock) };
    DurableJobStoreFixture::new(JobStoreFixture::new(store.jobs(), clock, server), reopen)
}

/// What a queue keeps that outlives its server. Leases go on: those who hold them did not die with it.
mod durable_jobs {
    metamcp_core::behaviours!(job_store, super::durable_job_store;
        durable {
            an_accepted_job_survives
            a_delayed_job_survives_and_keeps_its_time
            an_ended_job_survives_and_reads_as_before
            the_same_end_again_is_still_known
            the_same_nack_again_is_still_known
            idempotency_survives_for_live_and_ended_jobs
            a_parked_job_survives_and_takes_its_answer
            a_paused_lane_stays_paused
            a_dead_job_is_redriven_after_the_crash
            failed_attempts_are_still_counted
            retention_goes_on_after_the_crash
            a_deadline_is_kept_after_the_crash
            order_is_the_same_after_the_crash
        }
        reopen {
            a_waiting_job_survives_and_goes_on
            a_child_hears_after_the_crash_that_its_parent_failed_before
            many_children_go_on_after_the_crash
            a_parent_in_use_is_kept_after_the_crash
            a_job_that_ended_before_the_crash_is_a_parent_after_it
            a_child_is_redriven_after_the_crash
            a_slot_survives
            an_end_with_the_result_of_an_earlier_call_survives
            what_was_taken_in_survives
            lanes_are_the_same_after_the_crash
        }
    );
}
