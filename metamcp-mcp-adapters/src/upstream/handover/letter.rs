//! What two processes write to each other over a parked request, and under which names.

use metamcp_core::{
    id::ServerName,
    json::RawJson,
    pointer::Digest,
    queue::InputRequest,
    transport::{Delivered, TransportErrorKind},
};
use serde::{Deserialize, Serialize};

use crate::{
    upstream::{
        reached::Reached,
        way::{Failure, error},
    },
    wire::frame::RpcError,
};

/// What is brought to the process that holds a request.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Brought {
    Answer(Answer),
    /// Nobody goes on with it: it is to end.
    End,
}

/// An answer on its way.
#[derive(Serialize, Deserialize)]
pub(super) struct Answer {
    /// The record that is waited for.
    pub(super) told: String,
    pub(super) method: String,
    pub(super) name: Option<String>,
    pub(super) capabilities: Option<RawJson>,
    pub(super) responses: Option<RawJson>,
}

/// What the one who waits is told.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Told {
    /// The request goes on.
    Taken,
    Result(RawJson),
    Parked {
        open: Vec<InputRequest>,
        state: String,
    },
    Rpc(RpcError),
    /// `called`: whether the request may have had its effect.
    Failed {
        called: bool,
        why: String,
    },
}

impl Told {
    pub(super) fn of(server: &ServerName, reached: Result<Reached, Failure>) -> Self {
        match reached {
            Ok(Reached::Result(result)) => Self::Result(result),
            Ok(Reached::Parked { open, state }) => Self::Parked { open, state },
            Err(Failure::Rpc(rpc, _)) => Self::Rpc(rpc),
            Err(failure) => {
                let error = failure.into_error(server);
                Self::Failed { called: error.delivered != Delivered::No, why: error.to_string() }
            }
        }
    }

    pub(super) fn reached(self, server: &ServerName) -> Result<Reached, Failure> {
        let (called, why) = match self {
            Self::Result(result) => return Ok(Reached::Result(result)),
            Self::Parked { open, state } => return Ok(Reached::Parked { open, state }),
            Self::Rpc(rpc) => return Err(Failure::Rpc(rpc, None)),
            Self::Failed { called, why } => (called, why),
            Self::Taken => (true, "the process that held the call ended before it answered".to_owned()),
        };
        let delivered = if called { Delivered::Maybe } else { Delivered::No };
        Err(error(server, TransportErrorKind::Closed, delivered, why).into())
    }
}

pub(super) fn ask_name(state: &str) -> String {
    format!("ask/{}", Digest::of(state.as_bytes()))
}

pub(super) fn left_name(told: &str) -> String {
    format!("left/{told}")
}
