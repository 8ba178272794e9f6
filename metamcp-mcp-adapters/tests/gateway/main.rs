//! The gateway from outside: its fronts, with real servers behind it.
#![cfg(feature = "gateway")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so at once")]

mod calls;
mod catalog;
mod client;
mod clients;
#[path = "../conformance/fixture/mod.rs"]
mod conformance_fixture;
mod elicitations;
mod eras;
#[path = "../fixture/mod.rs"]
mod fixture;
mod framing;
mod http;
mod mutate;
mod principals;
mod raw;
mod real;
mod repeated;
mod served;
mod sessions;
mod shelf;
mod stdio;
mod taken_back;
