//! What implementations of the traits are tested with: one suite of behaviours for each trait, a manual clock, a comparer with the model.
//!
//! A suite is a macro that makes one named test of each behaviour, each on a fresh fixture:
//! `metamcp_core::job_store_suite!(make);` where `make` is an async function without arguments that makes the fixture.

mod clock;

pub use clock::{ManualClock, StoreTime};
