//! Random calls on a job store, an oracle that judges the answers, and the comparison with the model step by step.
//!
//! [`ops`] draws calls, [`Caller`] makes concrete ones of them, [`Oracle`] knows nothing but the calls and the answers, and
//! [`compare_with_model`] runs the same calls on a store and on the in-memory one.
//!
//! ```ignore
//! proptest!(|(ops in metamcp_core::testing::model::ops(100))| {
//!     runtime.block_on(async {
//!         let (store, clock) = open_fresh();
//!         compare_with_model(&store, &clock, &ops).await
//!     }).map_err(TestCaseError::fail)?;
//! });
//! ```

mod call;
mod compare;
mod op;
mod oracle;

pub use self::{
    call::{Call, Caller, Reply, act},
    compare::compare_with_model,
    op::{Back, End, JOBS_MAX, LANES, Op, Pick, Terms, Which, ops},
    oracle::Oracle,
};
