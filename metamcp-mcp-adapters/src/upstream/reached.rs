//! How a request has ended for its caller.

use metamcp_core::{json::RawJson, queue::InputRequest};

/// How a request has ended for its caller.
#[derive(Debug)]
pub(super) enum Reached {
    Result(RawJson),
    /// It waits, alive, for the answers to these questions.
    Parked {
        open: Vec<InputRequest>,
        state: String,
    },
}
