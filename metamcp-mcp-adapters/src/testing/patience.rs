//! Waiting for a server to get somewhere: look, pause, look again, and a named end to it.

use std::{io, time::Duration};

use tokio::time::{Instant, sleep};

/// Longest wait for anything, in seconds; a busy machine is slow.
const WAIT_S_MAX: u64 = 60;
/// Pause between two looks, in milliseconds.
const LOOK_MS: u64 = 5;

/// One wait.
#[derive(Debug)]
pub(super) struct Patience {
    awaited: &'static str,
    end: Instant,
}

impl Patience {
    /// Begins to wait for `awaited`, a phrase like "the replica to catch up".
    pub(super) fn new(awaited: &'static str) -> Self {
        Self { awaited, end: Instant::now() + Duration::from_secs(WAIT_S_MAX) }
    }

    /// Pauses before the next look.
    ///
    /// # Errors
    /// `TimedOut` when `WAIT_S_MAX` has passed.
    pub(super) async fn pause(&self) -> io::Result<()> {
        if Instant::now() >= self.end {
            let told = format!("waited {WAIT_S_MAX} s for {}", self.awaited);
            return Err(io::Error::new(io::ErrorKind::TimedOut, told));
        }
        sleep(Duration::from_millis(LOOK_MS)).await;
        Ok(())
    }
}
