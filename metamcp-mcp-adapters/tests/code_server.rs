//! The MCP server `code` as its callers meet it: every test speaks newline-delimited JSON with a served `CodeServer`,
//! and every structured answer is checked against the schema that the server announces. No part of it is faked.
#![cfg(feature = "server-code")]

#[path = "code/client.rs"]
mod client;
#[path = "code/limits.rs"]
mod limits;
#[path = "code/paging.rs"]
mod paging;
#[path = "code/paths.rs"]
mod paths;
#[path = "code/protocol.rs"]
mod protocol;
#[path = "code/random.rs"]
mod random;
#[path = "code/tools.rs"]
mod tools;
