//! What the examples share: our own MCP server `code` over the folder of the examples, in this process.

use std::sync::Arc;

use metamcp_core::{id::ServerName, transport::Connector};
use metamcp_mcp_adapters::servers::code::{CodeConfig, CodeServer, in_process};

/// The server `code`, called `name` here.
///
/// # Errors
/// When the folder of the examples is not there.
pub fn code_server(name: ServerName) -> anyhow::Result<Arc<dyn Connector>> {
    let server = CodeServer::new(CodeConfig::new([env!("CARGO_MANIFEST_DIR")]))?;
    Ok(in_process(name, server))
}
