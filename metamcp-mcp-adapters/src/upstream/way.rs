//! What the session needs of a way to a server: ask and get an answer, tell without one. Streams of bytes and HTTP both offer it.
//!
//! No retry, no knowledge of tools; the one thing both ways must get right is what is known of the delivery when something breaks.

use std::fmt;

use async_trait::async_trait;
use http::{HeaderName, HeaderValue};
use metamcp_core::{
    id::ServerName,
    json::RawJson,
    transport::{Delivered, ProgressSink, TransportError, TransportErrorKind},
};

use crate::wire::{era::Era, frame::RpcError};

/// One request.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    /// Its id, unique on the connection; also its progress token.
    pub(super) id: u64,
    /// How the server is spoken to, for the headers.
    pub(super) era: Era,
    /// What is wanted.
    pub(super) method: &'static str,
    /// The parameters, an object.
    pub(super) params: RawJson,
    /// The tool or task it is about, for the headers.
    pub(super) name: Option<&'a str>,
    /// Arguments that go along as headers.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// Whether the server is told when the answer is no longer wanted.
    pub(super) cancellable: bool,
}

/// Why there is no result.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server answered with an error; over HTTP with this status.
    Rpc(RpcError, Option<u16>),
    /// The server answered with this HTTP status and nothing of JSON-RPC.
    Status(u16, TransportError),
    /// Anything else.
    Other(TransportError),
}

impl Failure {
    /// As the error of a call.
    pub(super) fn into_error(self, server: &ServerName) -> TransportError {
        match self {
            Self::Rpc(error, _) => rejected(server, &error),
            Self::Status(_, error) | Self::Other(error) => error,
        }
    }
}

impl From<TransportError> for Failure {
    fn from(error: TransportError) -> Self {
        Self::Other(error)
    }
}

/// A way to one server.
#[async_trait]
pub(super) trait Way: fmt::Debug + Send + Sync + 'static {
    /// Its kind, as `TransportInfo` has it.
    fn kind(&self) -> &'static str;

    /// Sends a request and waits for its result. Dropping it tells the server, where the request may have left.
    async fn ask(&self, ask: Ask<'_>, progress: &ProgressSink<'_>) -> Result<RawJson, Failure>;

    /// Sends a notification.
    async fn tell(&self, method: &'static str) -> Result<(), Failure>;

    /// Both sides have agreed on a revision.
    fn agreed(&self, revision: &str);

    /// Waits until the server says that its tools changed.
    async fn changed(&self);

    /// Whether nothing can be asked any more.
    fn is_closed(&self) -> bool;

    /// Ends it; what waits gets an error. Twice is once.
    async fn close(&self);
}

/// An error that names the server.
pub(super) fn error(
    server: &ServerName,
    kind: TransportErrorKind,
    delivered: Delivered,
    what: impl fmt::Display,
) -> TransportError {
    TransportError::new(kind, delivered, format!("server `{server}`: {what}"))
}

/// A server's JSON-RPC error as the error of a call: it was delivered and refused.
pub(super) fn rejected(server: &ServerName, rpc: &RpcError) -> TransportError {
    let kind = TransportErrorKind::Rejected { code: rpc.code };
    let message = if rpc.message.is_empty() { "no message" } else { &rpc.message };
    error(server, kind, Delivered::Yes, format_args!("refused with {}: {message}", rpc.code))
}

/// What came is not what the protocol says: whether the call had an effect is not known.
pub(super) fn violation(server: &ServerName, what: impl fmt::Display) -> TransportError {
    error(server, TransportErrorKind::Protocol, Delivered::Maybe, format_args!("broke the protocol: {what}"))
}
