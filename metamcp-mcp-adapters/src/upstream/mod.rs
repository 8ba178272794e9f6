//! MCP servers as transports: child processes over stdio, streamable HTTP, and streams of bytes within the process.
//!
//! Each connector finds out by itself whether a server is of the modern era (2026-07-28) or of a legacy one (2024-11-05 to 2025-11-25).
//! One attempt per call, nothing is retried here; bodies come back as they went over the wire.
//!
//! ```text
//!  StdioConnector ─▶ child ─┐
//!  IoConnector ─────────────┴▶ duplex ─▶ peer ─┐
//!  HttpConnector ────────────▶ http ───────────┴▶ way ─▶ handshake ─▶ session = McpTransport
//! ```

mod backoff;
mod child;
mod duplex;
mod handshake;
mod http;
mod http_answer;
mod http_connector;
mod launch;
mod list;
mod peer;
mod pipe;
mod rare;
pub mod redact;
mod reply;
mod session;
mod stdio;
mod way;

pub use self::{
    http_connector::HttpConnector,
    launch::launch,
    pipe::{IoConnector, io_transport},
    stdio::StdioConnector,
};
pub use crate::wire::era::Era;
