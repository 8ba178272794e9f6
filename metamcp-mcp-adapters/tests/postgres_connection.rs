//! The PostgreSQL connection layer against real servers: how it connects, refuses, migrates, heals and tells other processes.
#![cfg(all(feature = "postgres", feature = "testing"))]

#[path = "postgres/calls.rs"]
mod calls;
#[path = "postgres/connect.rs"]
mod connect;
#[path = "postgres/fixture.rs"]
mod fixture;
#[path = "postgres/heal.rs"]
mod heal;
#[path = "postgres/health.rs"]
mod health;
#[path = "postgres/migrate.rs"]
mod migrate;
#[path = "postgres/notify.rs"]
mod notify;
