//! How long a call may go on: one deadline and one cancellation token, asked at every file and inside long parses.
//! It counts no results and no bytes; that is the work of `page`.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// Why work was stopped before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Stop {
    /// The caller cancelled, or its connection closed.
    #[error("the call was cancelled")]
    Cancelled,
    /// The time of the call was used up; carries the limit in milliseconds.
    #[error("the call took longer than {0} ms, name a smaller folder or file")]
    OutOfTime(u64),
}

/// The time left to one call.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    deadline: Instant,
    call_ms: u64,
    cancelled: CancellationToken,
}

impl Budget {
    /// Starts the clock of a call.
    pub(super) fn start(call_ms: u64, cancelled: CancellationToken) -> Self {
        let now = Instant::now();
        // A limit beyond what the clock can express is no limit worth the name, yet must not panic.
        let deadline =
            now.checked_add(Duration::from_millis(call_ms)).unwrap_or_else(|| now + Duration::from_secs(86_400));
        Self { deadline, call_ms, cancelled }
    }

    /// `Err` once the work has to stop.
    pub(super) fn check(&self) -> Result<(), Stop> {
        if self.cancelled.is_cancelled() {
            Err(Stop::Cancelled)
        } else if Instant::now() >= self.deadline {
            Err(Stop::OutOfTime(self.call_ms))
        } else {
            Ok(())
        }
    }

    /// The same question in the form tree-sitter's progress callbacks answer.
    pub(super) fn flow(&self) -> ControlFlow<()> {
        if self.check().is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// The reason to give after tree-sitter was halted by [`Budget::flow`].
    pub(super) fn stop(&self) -> Stop {
        self.check().err().unwrap_or(Stop::OutOfTime(self.call_ms))
    }
}
