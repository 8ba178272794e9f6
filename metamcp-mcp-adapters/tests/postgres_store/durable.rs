//! What outlives the server: it is killed and started again, and the store opened anew. Leases are not over then: their workers live on.

use std::sync::Arc;

use async_trait::async_trait;
use metamcp_core::{
    queue::JobStore,
    testing::{
        ManualClock,
        job_store::{DurableJobStoreFixture, JobStoreFixture, Reopen},
    },
};
use metamcp_mcp_adapters::{
    store::postgres::PostgresStore,
    testing::{PostgresServer, PostgresSetup},
};

use crate::fixture::{at, restart, terms};

struct SameServer {
    server: PostgresServer,
    clock: Arc<ManualClock>,
}

impl SameServer {
    async fn open(&self) -> Arc<dyn JobStore> {
        let options = at(&self.server.url(), "metamcp");
        PostgresStore::open_on_clock(&options, terms(), Arc::clone(&self.clock) as _)
            .await
            .expect("a store opens")
            .jobs()
    }
}

#[async_trait]
impl Reopen for SameServer {
    async fn reopen(&mut self) -> Arc<dyn JobStore> {
        self.server.kill().await.expect("a server can be killed");
        restart(&mut self.server).await;
        self.open().await
    }
}

async fn job_store() -> DurableJobStoreFixture {
    let setup = PostgresSetup { fsync: true, ..PostgresSetup::default() };
    let server = PostgresServer::start(setup).await.expect("a server starts");
    let reopen = SameServer { server, clock: ManualClock::new() };
    let open = JobStoreFixture::new(reopen.open().await, Arc::clone(&reopen.clock) as _, ());
    DurableJobStoreFixture::new(open, reopen)
}

// Of the suite for stores that one process has for itself those that do not count on the end of all its leases.
metamcp_core::behaviours!(job_store, job_store;
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
        counts_are_the_same_after_the_crash
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
        a_concurrency_key_is_kept_to_after_the_crash
        a_slot_survives
        an_end_with_the_result_of_an_earlier_call_survives
        what_was_taken_in_survives
        lanes_are_the_same_after_the_crash
    }
);
