//! Who asks: the principal, the endpoint it came to, and what its client said it can do.

use std::sync::Arc;

use async_trait::async_trait;
use metamcp_core::{auth::Principal, json::RawJson};
use serde_json::value::RawValue;

use super::{elicitations::Address, message::RpcFault};
use crate::wire::era::Era;

/// The client behind a request, the same for all requests of a legacy session.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// Who it is; every right hangs on it.
    pub(crate) principal: Principal,
    /// The endpoint it came to: `None` is `/mcp`, else the `{name}` of `/mcp/{name}`.
    pub(crate) endpoint: Option<Arc<str>>,
    /// How it speaks.
    pub(crate) era: Era,
    /// The revision it speaks.
    pub(crate) revision: Arc<str>,
    /// Its client capabilities, an object.
    pub(crate) capabilities: RawJson,
    /// Its `clientInfo`.
    pub(crate) client_info: Option<RawJson>,
    /// The least severe log level it wants: of the request in the modern era, of the session in the legacy one. A JSON string.
    pub(crate) log_level: Option<RawJson>,
}

/// The way back to the client, beside the answer to one request. Must not block.
#[async_trait]
pub(crate) trait ClientSide: Send + Sync {
    /// Sends a notification on the stream of this request; dropped when there is none or the client does not read.
    fn notify(&self, method: &str, params: Option<&RawValue>);

    /// Where the client is told of what comes when this request is over; modern clients are not.
    fn address(&self) -> Option<Arc<dyn Address>> {
        None
    }

    /// Asks a legacy client (`elicitation/create`, `sampling/createMessage`, `roots/list`) and waits for its answer. A modern client is never
    /// asked: it gets `input_required`.
    async fn ask(&self, method: &str, params: &RawJson) -> Result<RawJson, RpcFault>;
}
