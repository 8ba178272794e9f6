//! The server `code` within this process, as an upstream like any other: the same protocol over a pipe in memory.

use std::sync::Arc;

use metamcp_core::{id::ServerName, transport::Connector};

use super::{CodeServer, serve_io};
use crate::upstream::IoConnector;

/// Buffer of the pipe, in bytes.
const PIPE_BYTES: usize = 64 << 10;

/// Connects to `server` under the name `name`; each connection is a session of its own that ends when it is closed.
#[must_use]
pub fn in_process(name: ServerName, server: CodeServer) -> Arc<dyn Connector> {
    Arc::new(IoConnector::new(name.clone(), move || {
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let (server, name) = (server.clone(), name.clone());
        tokio::spawn(async move {
            if let Err(error) = serve_io(server, theirs).await {
                tracing::warn!(server = %name, %error, "in-process server ended");
            }
        });
        ours
    }))
}
