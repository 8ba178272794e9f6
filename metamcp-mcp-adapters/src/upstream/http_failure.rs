//! Why a request over HTTP may have no answer, and how long a connection is waited for and kept.

/// Longest wait for a connection, TLS included, in seconds.
pub(super) const CONNECT_S_MAX: u64 = 10;
/// How long an idle connection is kept, in seconds.
pub(super) const POOL_IDLE_S: u64 = 90;

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// The request never left.
    #[error("no connection")]
    Connect(#[source] BoxError),
    /// It may have.
    #[error("the connection broke")]
    Broke(#[source] BoxError),
    /// Nothing came for too long.
    #[error("nothing came for too long")]
    Silent,
}

pub(super) fn no_connection_in_time() -> BoxError {
    format!("no connection within {CONNECT_S_MAX} s").into()
}

/// The cause at the bottom: the layers above it only say that something failed.
pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |e| (*e).source()).last().map(ToString::to_string).unwrap_or_default()
}
