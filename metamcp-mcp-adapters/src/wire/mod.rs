//! What goes over a wire to an MCP server: frames, lines, events, headers and protocol revisions, all kept as raw as they came.
//!
//! Nothing here connects, waits for answers or knows a tool; that is `upstream`.

pub(crate) mod era;
pub(crate) mod frame;
pub(crate) mod freshness;
pub(crate) mod header;
pub(crate) mod line;
pub(crate) mod object;
pub(crate) mod sse;

/// Largest frame of any wire, in bytes: one line of stdio, one JSON body, one event of a stream.
pub(crate) const FRAME_BYTES_MAX: usize = 64 << 20;
