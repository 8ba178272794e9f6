//! The protocol revisions and the two eras they fall into: with a handshake (`initialize`) and without one (every request says all).

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Era {
    /// Revisions up to 2025-11-25: `initialize` first, then requests of that session.
    Legacy,
    /// Revision 2026-07-28: stateless, every request carries revision and capabilities in `_meta`.
    Modern,
}

/// The modern revision that is spoken.
pub(crate) const MODERN: &str = "2026-07-28";
/// The legacy revision that is asked for.
pub(crate) const LEGACY_LATEST: &str = "2025-11-25";
/// Every legacy revision that is accepted.
pub(crate) const LEGACY: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", LEGACY_LATEST];

/// JSON-RPC: no such method.
pub(crate) const METHOD_NOT_FOUND: i64 = -32601;
/// JSON-RPC: the parameters are wrong; MCP's answer to an unknown tool, cursor or task.
pub(crate) const INVALID_PARAMS: i64 = -32602;
/// JSON-RPC: something went wrong within.
pub(crate) const INTERNAL_ERROR: i64 = -32603;
/// Modern: a header does not say what the body says.
pub(crate) const HEADER_MISMATCH: i64 = -32020;
/// Modern: the client lacks a capability that the request needs.
pub(crate) const MISSING_CAPABILITY: i64 = -32021;
/// Modern: the revision is not spoken; `data.supported` lists those that are.
pub(crate) const UNSUPPORTED_REVISION: i64 = -32022;

/// The extension by which a server may answer a call with a task.
pub(crate) const TASKS_EXTENSION: &str = "io.modelcontextprotocol/tasks";

/// What we call ourselves, a JSON object.
pub(crate) const CLIENT_INFO: &str = concat!(r#"{"name":"metamcp","version":""#, env!("CARGO_PKG_VERSION"), r#""}"#);

/// `_meta`: the revision of a modern request.
pub(crate) const META_REVISION: &str = "io.modelcontextprotocol/protocolVersion";
/// `_meta`: the client capabilities of a modern request.
pub(crate) const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
/// `_meta`: the client of a modern request.
pub(crate) const META_CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
/// `_meta`: the least severe log level that a modern request wants.
pub(crate) const META_LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
/// `_meta`: what progress reports of a request are marked with.
pub(crate) const META_PROGRESS_TOKEN: &str = "progressToken";
/// `_meta`: the listening that a modern notification belongs to.
#[cfg(feature = "gateway")]
pub(crate) const META_SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
/// `_meta`: who a modern server is.
#[cfg(feature = "gateway")]
pub(crate) const META_SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
/// What the names of the protocol's own `_meta` fields begin with.
pub(crate) const META_PREFIX: &str = "io.modelcontextprotocol/";
