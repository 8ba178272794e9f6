//! The bounds of the HTTP front, and what it is told by the process around it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::gateway::session::{SESSION_IDLE_S, SESSION_LIFETIME_S, SESSIONS_MAX, SessionBounds};

/// Largest request body, in bytes.
pub const BODY_BYTES_MAX: usize = 16 << 20;
/// Longest wait for a request body, in seconds.
pub const BODY_READ_S: u64 = 20;
/// Pause between signs of life on a silent stream, in seconds.
pub const KEEP_ALIVE_S: u64 = 15;
/// Longest wait for the answer of a legacy client to a question, in seconds.
pub const QUESTION_WAIT_S: u64 = 600;

/// How the gateway is served over HTTP. Everything has a default.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HttpOptions {
    /// Where it stands: requests to this path and to one segment behind it are its own. A router that strips the path it nests a service
    /// under needs no change of it.
    pub path: String,
    /// Largest request body, in bytes.
    pub body_bytes_max: usize,
    /// Longest wait for a request body.
    pub body_read: Duration,
    /// The listener is on loopback: pages of loopback names may call, whatever their port.
    pub loopback_only: bool,
    /// Further host names, with or without a port, that are answered to and whose pages may call. Loopback names and IP addresses are always
    /// answered; any other `Host` is refused, since a name of somebody else's may resolve to this machine.
    pub allowed_hosts: Vec<String>,
    /// Pause between signs of life on a silent stream.
    pub keep_alive: Duration,
    /// Longest wait for the answer of a legacy client to a question.
    pub question_wait: Duration,
    /// Legacy sessions held at the same time.
    pub sessions_max: usize,
    /// How long a legacy session is held whose client does not come by; its id stays good.
    pub session_idle: Duration,
    /// How long the id of a legacy session is good.
    pub session_lifetime: Duration,
    /// Cancelled when the process drains: streams without an end of their own end.
    pub drain: CancellationToken,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            path: "/mcp".to_owned(),
            body_bytes_max: BODY_BYTES_MAX,
            body_read: Duration::from_secs(BODY_READ_S),
            loopback_only: true,
            allowed_hosts: Vec::new(),
            keep_alive: Duration::from_secs(KEEP_ALIVE_S),
            question_wait: Duration::from_secs(QUESTION_WAIT_S),
            sessions_max: SESSIONS_MAX,
            session_idle: Duration::from_secs(SESSION_IDLE_S),
            session_lifetime: Duration::from_secs(SESSION_LIFETIME_S),
            drain: CancellationToken::new(),
        }
    }
}

impl HttpOptions {
    /// What sessions are held to.
    pub(super) fn sessions(&self) -> SessionBounds {
        SessionBounds {
            sessions_max: self.sessions_max.max(1),
            idle: self.session_idle,
            lifetime: self.session_lifetime,
        }
    }
}
