//! The two kinds of failure: `CodeServerError` when a server cannot be built or served (for the embedder), and
//! `ToolError` when a call cannot be answered (for the caller, as text of a tool error).

use std::path::PathBuf;

use super::budget::Stop;

/// Why a code server could not be built or served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodeServerError {
    /// No root was configured, so nothing could ever be read.
    #[error("no root is configured, name at least one folder that may be read")]
    NoRoots,
    /// A root does not exist or cannot be read.
    #[error("root {} cannot be used, create it or name another folder", root.display())]
    Root {
        /// The root as it was configured.
        root: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// A root is not a folder.
    #[error("root {} is not a folder, name the folder that holds it", root.display())]
    RootNotFolder {
        /// The root as it was configured.
        root: PathBuf,
    },
    /// A limit has a value with which no call can be served.
    #[error("limit {name} {why}")]
    Limit {
        /// The field of `CodeLimits`.
        name: &'static str,
        /// What the value has to be.
        why: String,
    },
    /// The connection failed: the peer did not speak MCP, or the stream broke before the session began.
    #[error("the mcp session could not be served")]
    Session(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why a call was not answered, in words for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct ToolError(pub(super) String);

impl ToolError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl From<Stop> for ToolError {
    fn from(stop: Stop) -> Self {
        Self(stop.to_string())
    }
}
