//! The bounds of the HTTP API, and what it is told by the process around it.

use std::{fmt, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

/// Largest request body, in bytes.
pub const BODY_BYTES_MAX: usize = 2 << 20;
/// Longest wait for a request body, in milliseconds.
pub const BODY_READ_MS: u64 = 20_000;
/// Longest time one answer may take, waits that callers ask for not counted, in milliseconds.
pub const ANSWER_MS: u64 = 30_000;
/// Most entries of one page.
pub const PAGE_MAX: u16 = 200;
/// Longest `wait_ms`.
pub const WAIT_MS_MAX: u64 = 60_000;
/// Pause between signs of life on a silent stream, in milliseconds.
pub const HEARTBEAT_MS: u64 = 15_000;
/// Streams open at the same time.
pub const STREAMS_MAX: usize = 256;

/// Asked by `/readyz`: an error says in words why the process is not ready.
pub type ReadyCheck = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Bounds of the API.
#[derive(Clone)]
pub struct ApiOptions {
    /// Largest request body, in bytes.
    pub body_bytes_max: usize,
    /// Longest wait for a request body.
    pub body_read: Duration,
    /// Longest time one answer may take, waits that callers ask for not counted.
    pub answer: Duration,
    /// Most entries of one page.
    pub page_max: u16,
    /// Longest `wait_ms`, in milliseconds.
    pub wait_ms_max: u64,
    /// Pause between signs of life on a silent stream.
    pub heartbeat: Duration,
    /// Streams open at the same time.
    pub streams_max: usize,
    /// The listener is on loopback: pages of loopback names may call this server, whatever their port.
    pub loopback_only: bool,
    /// Further host names, with or without a port, that this server answers to and whose pages may call it. Loopback names and IP
    /// addresses are always answered, any other `Host` is refused: a name of somebody else's may resolve to this machine.
    pub allowed_hosts: Vec<String>,
    /// Cancelled when the process drains: waits and streams end.
    pub drain: CancellationToken,
    /// What else must hold before the process is ready.
    pub ready: Option<ReadyCheck>,
}

impl Default for ApiOptions {
    fn default() -> Self {
        Self {
            body_bytes_max: BODY_BYTES_MAX,
            body_read: Duration::from_millis(BODY_READ_MS),
            answer: Duration::from_millis(ANSWER_MS),
            page_max: PAGE_MAX,
            wait_ms_max: WAIT_MS_MAX,
            heartbeat: Duration::from_millis(HEARTBEAT_MS),
            streams_max: STREAMS_MAX,
            loopback_only: true,
            allowed_hosts: Vec::new(),
            drain: CancellationToken::new(),
            ready: None,
        }
    }
}

impl fmt::Debug for ApiOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiOptions")
            .field("body_bytes_max", &self.body_bytes_max)
            .field("wait_ms_max", &self.wait_ms_max)
            .field("streams_max", &self.streams_max)
            .field("loopback_only", &self.loopback_only)
            .field("allowed_hosts", &self.allowed_hosts)
            .finish_non_exhaustive()
    }
}
