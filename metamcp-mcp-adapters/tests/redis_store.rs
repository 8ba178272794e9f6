//! The stores on Redis against real servers: every behaviour of a queue, of results, of events and of records; the same answers as the memory
//! model; what a server may do to them.
#![cfg(all(feature = "redis", feature = "testing"))]
#![expect(clippy::unwrap_used, reason = "a test stops where something is wrong")]

#[path = "redis_store/cluster.rs"]
mod cluster;
#[path = "redis_store/faults.rs"]
mod faults;
#[path = "redis_store/fixture.rs"]
mod fixture;
#[path = "redis_store/many.rs"]
mod many;
#[path = "redis_store/model.rs"]
mod model;
#[path = "redis_store/results.rs"]
mod results;
#[path = "redis_store/suites.rs"]
mod suites;
