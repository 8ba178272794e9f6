//! The HTTP API over a real socket: every endpoint, every class of error, streams, limits and the drain.
//!
//! The engine is real, with stores in memory; its servers are functions of this process and a scripted one. One binary, so that it is
//! linked once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod batches;
mod errors;
mod events;
mod flows;
mod history;
mod house;
mod limits;
mod moody;
mod queues;
mod results;
mod schedules;
mod serve;
mod tasks;
mod tools;
