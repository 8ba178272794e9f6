//! The MCP server `code`: reads source files below allowed roots with tree-sitter and answers outlines, definitions,
//! references, tree queries and syntax errors. It never writes, never runs code, and resolves names by syntax alone,
//! not by types or imports.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use metamcp_mcp_adapters::servers::code::{CodeConfig, CodeServer, serve_stdio};
//!
//! let server = CodeServer::new(CodeConfig::new(["/srv/project"]))?;
//! serve_stdio(server).await?;
//! # Ok(())
//! # }
//! ```

mod budget;
mod config;
mod definitions;
mod error;
#[cfg(feature = "upstream")]
mod in_process;
mod input;
mod language;
mod outline;
mod page;
mod parse;
mod query;
mod references;
mod roots;
mod scan;
mod server;
mod source;
mod symbols;
mod syntax;
mod tools;

pub use config::{CodeConfig, CodeLimits};
pub use error::CodeServerError;
#[cfg(feature = "upstream")]
pub use in_process::in_process;
pub use server::{CodeServer, serve_io, serve_stdio};
