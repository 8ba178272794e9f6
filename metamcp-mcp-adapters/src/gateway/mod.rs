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

mod bridge;
mod call;
mod caller;
mod catalog;
mod elicitations;
mod front;
#[allow(clippy::module_inception, reason = "the room's main thing")]
mod gateway;
mod http;
mod incoming;
mod lifecycle;
mod members;
mod message;
mod methods;
mod names;
mod notes;
mod options;
mod own_tools;
mod pattern;
mod pointers;
mod retry;
mod seal;
mod session;
mod stdio;
mod subscribe;
mod tasks;
mod tool_result;
mod unanswered;

pub(crate) use self::{
    caller::{Caller, ClientSide},
    message::{Reply, Request, RpcFault},
};
pub use self::{
    gateway::{Gateway, GatewayBuilder},
    http::{BODY_BYTES_MAX, BODY_READ_S, GatewayBody, GatewayService, HttpOptions, KEEP_ALIVE_S, QUESTION_WAIT_S},
    names::{EXPOSED_NAME_BYTES_MAX, Naming, UnfitName},
    options::{EndpointView, GatewayOptions, ListMode, ServerView},
    pattern::{Pattern, Selection},
    session::{SESSION_IDLE_S, SESSION_LIFETIME_S, SESSIONS_MAX},
    stdio::{StdioOptions, serve_stdio},
};
