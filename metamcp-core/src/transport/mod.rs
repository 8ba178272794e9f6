//! The way to one MCP server, or to a service that answers like one.
//!
//! [`McpTransport`] makes one attempt per call and reports what is known of its delivery; whether to try again is decided in the engine.

mod call;
mod error;
mod local;
mod relay;

use std::fmt;

use async_trait::async_trait;
pub use call::{
    CallContext, Discovered, Freshness, ProgressSink, Resume, ToolCall, ToolOutput, ToolReply, TransportInfo,
};
pub use error::{Delivered, TransportError, TransportErrorKind};
pub use local::{LocalProgress, LocalTools, ToolError};
pub use relay::{Introduction, Relay, RelayError, RelayMeta, RelayNews, RelayRequest, RelaySide, RelayedError};

use crate::queue::Checkpoint;

/// One connected MCP server.
///
/// # Contract
/// - One attempt per call: it never retries inside. What happened to the attempt is told by [`TransportError::delivered`].
/// - Answers after an end, second answers and unknown messages are dropped, not errors of another call.
/// - Bodies come back as they went over the wire: unknown fields, content types and number spelling survive.
///
/// # Cancel safety
/// Dropping [`call`](Self::call) or [`resume`](Self::resume) tells the far side that the answer is no longer wanted (best effort); the call
/// may have happened. Other methods have no effect when dropped.
#[async_trait]
pub trait McpTransport: fmt::Debug + Send + Sync + 'static {
    /// What is known of the far side.
    fn info(&self) -> &TransportInfo;

    /// Everything the server offers, all pages.
    async fn discover(&self) -> Result<Discovered, TransportError>;

    /// Calls a tool, once.
    async fn call(&self, call: &ToolCall, cx: &CallContext<'_>) -> Result<ToolReply, TransportError>;

    /// Goes on with an unfinished call: polls a remote task, or answers its questions.
    async fn resume(&self, from: &Checkpoint, with: Resume, cx: &CallContext<'_>) -> Result<ToolReply, TransportError>;

    /// Asks the far side to stop what the checkpoint stands for.
    async fn cancel(&self, from: &Checkpoint) -> Result<(), TransportError>;

    /// Waits until the far side says that its tools have changed; then [`discover`](Self::discover) again. Waits for ever when it never does,
    /// or has no way to say so. A change between two waits is not lost.
    async fn changed(&self) {
        std::future::pending().await
    }

    /// The server as one that takes any request of the protocol; `None` when it only serves tools.
    fn relay(&self) -> Option<&dyn Relay> {
        None
    }

    /// Whether it is known to be unusable: the engine then connects anew.
    fn is_closed(&self) -> bool;

    /// Ends the connection; a child process is reaped before this returns. Twice is once.
    async fn close(&self);
}

/// Makes the transport of one configured server. Called lazily, and again when a transport has closed.
#[async_trait]
pub trait Connector: fmt::Debug + Send + Sync + 'static {
    /// Connects once; no retry inside.
    async fn connect(&self) -> Result<std::sync::Arc<dyn McpTransport>, TransportError>;

    /// Where it connects to, for people; secrets redacted.
    fn target(&self) -> String;
}

#[cfg(test)]
mod dyn_compatible {
    fn _holds(_: Box<dyn super::McpTransport>, _: Box<dyn super::Connector>) {}
}
