//! What the engine refuses, as clients are told it: a fault where they name a task, words for a model where they make a call.

use metamcp_core::{engine::EngineError, json::RawJson};

use crate::{
    gateway::{RpcFault, tool_result::failed},
    wire::era::{INTERNAL_ERROR, INVALID_PARAMS},
};

/// A task that is not there, or is not the caller's.
pub(super) fn not_found() -> RpcFault {
    RpcFault::new(INVALID_PARAMS, "taskId: there is no such task, or it is no longer kept")
}

/// An error of the engine on a task that a client names. Not there and not the caller's are the same.
pub(crate) fn fault(error: &EngineError) -> RpcFault {
    match error {
        EngineError::NotFound { what: "task" } => not_found(),
        EngineError::NotFound { .. } | EngineError::Invalid(_) | EngineError::Name(_) | EngineError::State { .. } => {
            RpcFault::new(INVALID_PARAMS, error.to_string())
        }
        _ => RpcFault::new(INTERNAL_ERROR, error.to_string()),
    }
}

/// A call that the engine does not take, in words for a model: it can say something else.
pub(crate) fn refusal(error: &EngineError) -> RawJson {
    let code = match error {
        EngineError::Invalid(_) | EngineError::Name(_) => "invalid_arguments",
        EngineError::NoMatch(_) => "no_match",
        EngineError::Conflict { .. } => "conflict",
        EngineError::Full { .. } => "full",
        EngineError::NotFound { .. } => "not_found",
        EngineError::State { .. } => "state",
        EngineError::Stopping => "stopping",
        _ => "internal",
    };
    failed(&error.to_string(), code, "")
}
