//! The Redis connection layer against real servers: how it connects, refuses, heals, runs scripts, follows failovers and wakes.
#![cfg(all(feature = "redis", feature = "testing"))]
#![expect(clippy::unwrap_used, reason = "a test stops where something is wrong")]

#[path = "redis/calls.rs"]
mod calls;
#[path = "redis/check.rs"]
mod check;
#[path = "redis/connect.rs"]
mod connect;
#[path = "redis/fixture.rs"]
mod fixture;
#[path = "redis/heal.rs"]
mod heal;
#[path = "redis/many.rs"]
mod many;
#[path = "redis/wake.rs"]
mod wake;
