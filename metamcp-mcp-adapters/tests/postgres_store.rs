//! The stores on PostgreSQL against real servers: every behaviour of each trait, the comparison with the model, and what only a server that
//! many processes share can show.
#![cfg(all(feature = "postgres", feature = "testing"))]
#![expect(clippy::unwrap_used, reason = "a test stops where something is wrong")]

#[path = "postgres_store/check.rs"]
mod check;
#[path = "postgres_store/cost.rs"]
mod cost;
#[path = "postgres_store/durable.rs"]
mod durable;
#[path = "postgres_store/faults.rs"]
mod faults;
#[path = "postgres_store/fixture.rs"]
mod fixture;
#[path = "postgres_store/model.rs"]
mod model;
#[path = "postgres_store/outbox.rs"]
mod outbox;
#[path = "postgres_store/replica.rs"]
mod replica;
#[path = "postgres_store/shared.rs"]
mod shared;
#[path = "postgres_store/suites.rs"]
mod suites;
