//! MCP servers as transports: child processes over stdio, streamable HTTP, and streams of bytes within the process.
//!
//! Each connector finds out by itself whether a server is of the modern era (2026-07-28) or of a legacy one (2024-11-05 to 2025-11-25).
//! One attempt per call, nothing is retried here; bodies come back as they went over the wire.
//!
//! ```text
//!  StdioConnector ─▶ child ─┐
//!  IoConnector ─────────────┴▶ duplex ─▶ peer ─┐
//!  HttpConnector ────────────▶ http ───────────┴▶ way ─▶ handshake ─▶ session ─┬▶ jobs = McpTransport
//!                                                                 parked, news ┴▶ relay = Relay
//! ```

mod abilities;
mod aside;
mod backoff;
mod child;
mod duplex;
mod gather;
mod handover;
mod handshake;
mod http;
mod http_answer;
mod http_body;
mod http_client;
mod http_connector;
mod http_events;
mod http_failure;
mod http_link;
mod http_listen;
mod http_refusal;
mod http_wire;
mod jobs;
mod launch;
mod level;
mod list;
mod listen;
mod meta;
mod news;
mod pace;
mod parked;
mod peer;
mod pipe;
mod rare;
mod reached;
pub mod redact;
mod relay;
mod reply;
mod session;
mod slot;
mod stdio;
mod under_way;
mod usable;
mod watch;
mod watched;
mod way;

pub use self::{
    handover::Handover,
    http_connector::HttpConnector,
    launch::launch,
    pipe::{IoConnector, io_transport},
    stdio::StdioConnector,
};
#[cfg(feature = "gateway")]
pub(crate) use self::{reply::of_relayed as tool_reply, usable::tool as usable_tool};
pub use crate::wire::era::Era;
