//! The protocol revisions and the two eras they fall into: with a handshake (`initialize`) and without one (every request says all).

use serde::Serialize;
use serde_json::value::RawValue;

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
/// Modern: a header does not say what the body says.
pub(crate) const HEADER_MISMATCH: i64 = -32020;
/// Modern: the client lacks a capability that the request needs.
pub(crate) const MISSING_CAPABILITY: i64 = -32021;
/// Modern: the revision is not spoken; `data.supported` lists those that are.
pub(crate) const UNSUPPORTED_REVISION: i64 = -32022;

/// The extension by which a server may answer a call with a task.
pub(crate) const TASKS_EXTENSION: &str = "io.modelcontextprotocol/tasks";

/// What we call ourselves.
#[derive(Debug, Serialize)]
pub(crate) struct ClientInfo {
    name: &'static str,
    version: &'static str,
}

/// Our name and version.
pub(crate) const CLIENT_INFO: ClientInfo = ClientInfo { name: "metamcp", version: env!("CARGO_PKG_VERSION") };

/// `_meta` of a request; fields that do not apply to the era are left out.
#[derive(Debug, Default, Serialize)]
pub(crate) struct RequestMeta {
    #[serde(rename = "io.modelcontextprotocol/protocolVersion", skip_serializing_if = "Option::is_none")]
    revision: Option<&'static str>,
    #[serde(rename = "io.modelcontextprotocol/clientCapabilities", skip_serializing_if = "Option::is_none")]
    capabilities: Option<Box<RawValue>>,
    #[serde(rename = "io.modelcontextprotocol/clientInfo", skip_serializing_if = "Option::is_none")]
    info: Option<ClientInfo>,
    /// What progress reports of this request are marked with.
    #[serde(rename = "progressToken", skip_serializing_if = "Option::is_none")]
    pub(crate) progress_token: Option<u64>,
    /// The job a call is made for: a server that sees it twice knows a repeated call.
    #[serde(rename = "io.github.metamcp/job", skip_serializing_if = "Option::is_none")]
    pub(crate) job: Option<String>,
    /// Which lease of the job makes the call.
    #[serde(rename = "io.github.metamcp/epoch", skip_serializing_if = "Option::is_none")]
    pub(crate) epoch: Option<u64>,
}

impl RequestMeta {
    /// What every request of this era carries.
    pub(crate) fn of(era: Era) -> Self {
        match era {
            Era::Legacy => Self::default(),
            Era::Modern => Self {
                revision: Some(MODERN),
                capabilities: Some(capabilities()),
                info: Some(CLIENT_INFO),
                ..Self::default()
            },
        }
    }

    /// Whether there is nothing to say.
    pub(crate) const fn is_empty(&self) -> bool {
        self.revision.is_none() && self.progress_token.is_none() && self.job.is_none()
    }
}

/// What a modern server may answer with: questions to a person, and tasks.
fn capabilities() -> Box<RawValue> {
    let text = format!(r#"{{"elicitation":{{"form":{{}},"url":{{}}}},"extensions":{{"{TASKS_EXTENSION}":{{}}}}}}"#);
    RawValue::from_string(text).expect("the text above is JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_modern_request_says_all_and_a_legacy_one_nothing() {
        let modern = serde_json::to_value(RequestMeta::of(Era::Modern)).unwrap();
        assert_eq!(modern["io.modelcontextprotocol/protocolVersion"], MODERN);
        assert!(modern["io.modelcontextprotocol/clientCapabilities"]["extensions"][TASKS_EXTENSION].is_object());
        assert!(RequestMeta::of(Era::Legacy).is_empty());
    }
}
