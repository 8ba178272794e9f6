//! What a gateway needs of a connected server beyond jobs: any request of the protocol, passed on as it was written.
//!
//! A relay shows every server as one of the modern era: a question that a legacy server asks in the middle of a call becomes an
//! `input_required` result, and the retry that brings the answers goes on with the very same call.

use std::fmt;

use async_trait::async_trait;
use serde_json::value::RawValue;
use tokio::sync::broadcast;

use super::{TransportError, TransportErrorKind};
use crate::{json::RawJson, transport::Delivered};

/// What a server said of itself when it was connected.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Introduction {
    /// Whether it needs no handshake (revision 2026-07-28 or newer).
    pub modern: bool,
    /// Its `capabilities` object.
    pub capabilities: RawJson,
    /// Its `serverInfo` object, if it told one.
    pub server_info: Option<RawJson>,
    /// Its instructions for models.
    pub instructions: Option<String>,
}

/// What the caller of a relayed request says of itself, whatever its era.
#[derive(Debug, Clone, Copy, Default)]
pub struct RelayMeta<'a> {
    /// The client capabilities that questions of the server may use; `None`: none.
    pub capabilities: Option<&'a RawValue>,
    /// Its `clientInfo` object.
    pub client_info: Option<&'a RawValue>,
    /// The least severe log level it wants on this request, a JSON string; `None`: no log.
    pub log_level: Option<&'a RawValue>,
    /// Whether it takes progress reports.
    pub progress: bool,
    /// Its other `_meta` fields (trace context, fields we do not know), in its order.
    pub extra: &'a [(&'a str, &'a RawValue)],
}

/// One request to be passed on.
#[derive(Debug, Clone, Copy)]
pub struct RelayRequest<'a> {
    /// The method.
    pub method: &'a str,
    /// The tool, prompt, resource or task it is about, as the server calls it.
    pub name: Option<&'a str>,
    /// The members of `params` as they are to be written, without `_meta`.
    pub params: &'a [(&'a str, &'a RawValue)],
    /// What goes into `_meta`.
    pub meta: RelayMeta<'a>,
}

/// A JSON-RPC error of the server, as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct RelayedError {
    /// The kind of error.
    pub code: i64,
    /// In the server's words.
    pub message: String,
    /// Particulars.
    pub data: Option<RawJson>,
}

/// Why a relayed request has no result.
#[derive(Debug)]
pub enum RelayError {
    /// The server answered with an error.
    Rpc(RelayedError),
    /// There is no answer.
    Transport(TransportError),
}

impl RelayError {
    /// The server cannot be asked this way.
    #[must_use]
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::Transport(TransportError::new(TransportErrorKind::Invalid, Delivered::No, message))
    }
}

/// Takes what comes for the caller of a request beside its answer. Must not block.
pub trait RelaySide: Send + Sync {
    /// A notification on the request's own stream: `notifications/progress` (its `progressToken` is the relay's, not the caller's),
    /// `notifications/message`, and whatever else a server sends there.
    fn notify(&self, method: &str, params: Option<&RawValue>);
}

/// News of a server that belongs to no request.
#[derive(Debug, Clone)]
pub struct RelayNews {
    /// `notifications/tools/list_changed`, `notifications/resources/updated`, …
    pub method: String,
    /// As it was written.
    pub params: Option<RawJson>,
}

/// A connected server that takes any request.
///
/// # Contract
/// - One attempt per request; nothing is cached; results come back as they were written.
/// - Dropping [`request`](Self::request) tells the far side that the answer is no longer wanted; it may have happened.
/// - An `input_required` result is valid only for who asked; whoever shows it to somebody signs its `requestState` first.
#[async_trait]
pub trait Relay: fmt::Debug + Send + Sync {
    /// What the server said of itself.
    fn introduction(&self) -> &Introduction;

    /// Passes a request on.
    ///
    /// # Errors
    /// The server's own error, or why there is no answer.
    async fn request(&self, request: RelayRequest<'_>, side: &dyn RelaySide) -> Result<RawJson, RelayError>;

    /// Nobody will go on with the `input_required` result that came with this `requestState`: what waits for it is ended, in whichever
    /// process it waits. Best effort; what is not known is left alone.
    async fn give_up(&self, _state: &RawJson) {}

    /// News from now on. A receiver that lags loses the oldest and should look at everything again.
    fn news(&self) -> broadcast::Receiver<RelayNews>;

    /// Asks the server to tell when these resources change, and no others. Best effort; a server that cannot is not asked.
    ///
    /// # Errors
    /// When the server refuses or cannot be reached.
    async fn watch(&self, uris: &[String]) -> Result<(), RelayError>;
}
