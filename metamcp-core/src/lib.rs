//! Core of MetaMCP: a task is a need, a job is a promise, a result is a pointer.

pub mod auth;
pub mod engine;
pub mod entropy;
pub mod error;
pub mod event;
pub mod id;
pub mod json;
pub mod matching;
pub mod pointer;
pub mod queue;
pub mod registry;
pub mod result;
pub mod task;
#[cfg(feature = "testing")]
pub mod testing;
pub mod time;
pub mod transport;
