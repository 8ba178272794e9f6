//! Random calls on a job store, an oracle that judges the answers, and the comparison with the model step by step.
//!
//! [`ops`] draws calls, [`Caller`] makes concrete ones of them, [`Oracle`] knows nothing but the calls and the answers, and
//! [`compare_with_model`] runs the same calls on a store and on the in-memory one, [`compare_restored_with_model`] after both took in what
//! another store held, and [`serve_to_the_end`] proves that nothing is stuck after a run.
//!
//! ```
//! use metamcp_core::{queue::MemoryJobStore, testing::{ManualClock, model::{Op, compare_with_model}}};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), String> {
//! let clock = ManualClock::new();
//! let store = MemoryJobStore::new(clock.clone());
//! let ops = [Op::Advance(10), Op::Maintain]; // drawn with `ops(100)` in a property
//! compare_with_model(&store, &clock, &ops).await
//! # }
//! ```

mod call;
mod caller;
mod compare;
mod op;
mod oracle;
mod serve;

pub use self::{
    call::{Call, Reply, act},
    caller::Caller,
    compare::{compare_restored_with_model, compare_with_model},
    op::{Back, End, JOBS_MAX, LANES, Op, Pick, Terms, Which, ops},
    oracle::Oracle,
    serve::serve_to_the_end,
};
