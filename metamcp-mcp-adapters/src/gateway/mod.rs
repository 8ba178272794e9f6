//! The aggregated MCP endpoint: every server behind one address, for agents of both eras.
//!
//! ```text
//!  http (POST, GET, DELETE) ─┐                        ┌▶ catalog (kept serialised; no upstream I/O)
//!  stdio (one line a frame) ─┴▶ message ─▶ Gateway ───┼▶ relay ─▶ Orchestrator::transport ─▶ server
//!       ▲ ClientSide: notifications, questions        └▶ tasks, own tools ─▶ Orchestrator
//! ```
//!
//! Inside, everything has the form of the modern era: `upstream` shows legacy servers so, and `http` and `stdio` show it to legacy clients in
//! theirs. What goes in unrewritten comes out as it was written.

mod caller;
mod message;

pub(crate) use self::{
    caller::{Caller, ClientSide},
    message::{Reply, Request, RpcFault},
};
