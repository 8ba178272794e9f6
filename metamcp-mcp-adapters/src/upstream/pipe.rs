//! A server within this process, reached over any two streams of bytes: the same frames as over stdio, without a child.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use metamcp_core::{
    id::ServerName,
    transport::{Connector, McpTransport, TransportError},
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{duplex::Duplex, handshake::Refusal, session::Session};
use crate::wire::era::Era;

/// The kind that transports of this file report.
const KIND: &str = "pipe";

/// Connects to a server over two streams of bytes, one frame a line. The streams are dropped when the transport is.
///
/// # Errors
/// When both sides cannot agree on a revision. A server that ends over the modern question cannot be asked again here:
/// [`IoConnector`] can, because it makes its streams anew.
pub async fn io_transport<R, W>(
    server: ServerName,
    reader: R,
    writer: W,
) -> Result<Arc<dyn McpTransport>, TransportError>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let way = Arc::new(Duplex::new(server.clone(), KIND, reader, writer, None));
    match Session::open(way, server, None, None, None).await {
        Ok(session) => Ok(session),
        Err(Refusal::Died(error) | Refusal::Final(error)) => Err(error),
    }
}

/// Connects to a server within this process.
///
/// ```
/// use metamcp_core::id::ServerName;
/// use metamcp_mcp_adapters::upstream::IoConnector;
///
/// let connector = IoConnector::new(ServerName::new("inside")?, || {
///     let (ours, theirs) = tokio::io::duplex(64 << 10);
///     tokio::spawn(async move { /* serve MCP over */ drop(theirs) });
///     ours
/// });
/// # let _ = connector;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct IoConnector<F> {
    server: ServerName,
    era: Option<Era>,
    open: F,
}

impl<F, S> IoConnector<F>
where
    F: Fn() -> S + Send + Sync + 'static,
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    /// `open` starts the server, or finds it, and gives our end of a fresh stream. It is called within a tokio runtime.
    pub const fn new(server: ServerName, open: F) -> Self {
        Self { server, era: None, open }
    }

    /// Speaks this era only, without asking.
    #[must_use]
    pub const fn era(mut self, era: Era) -> Self {
        self.era = Some(era);
        self
    }

    async fn attempt(&self, era: Option<Era>) -> Result<Arc<Session>, Refusal> {
        let (reader, writer) = tokio::io::split((self.open)());
        let way = Duplex::new(self.server.clone(), KIND, reader, writer, None);
        Session::open(Arc::new(way), self.server.clone(), era, None, None).await
    }
}

impl<F> fmt::Debug for IoConnector<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IoConnector").field("server", &self.server).finish_non_exhaustive()
    }
}

#[async_trait]
impl<F, S> Connector for IoConnector<F>
where
    F: Fn() -> S + Send + Sync + 'static,
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    async fn connect(&self) -> Result<Arc<dyn McpTransport>, TransportError> {
        let refusal = match self.attempt(self.era).await {
            Ok(session) => return Ok(session),
            Err(refusal) => refusal,
        };
        match refusal {
            Refusal::Final(error) => Err(error),
            // It ended over a question it did not know: a fresh one is spoken to as of old.
            Refusal::Died(error) if self.era.is_some() => Err(error),
            Refusal::Died(_) => match self.attempt(Some(Era::Legacy)).await {
                Ok(session) => Ok(session),
                Err(Refusal::Died(error) | Refusal::Final(error)) => Err(error),
            },
        }
    }

    fn target(&self) -> String {
        "in process".to_owned()
    }
}
