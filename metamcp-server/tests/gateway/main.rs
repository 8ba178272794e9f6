//! The gateway as people run it: processes of the real binary, alone and as replicas on one Redis behind a balancer that knows no sessions,
//! with real MCP servers of both eras that count what they do.

mod balancer;
mod client;
mod deaths;
mod fleet;
mod hangs;
mod https;
mod killed;
mod replicas;
mod restart;
mod sessions;
mod shared_child;
#[path = "../support/mod.rs"]
mod support;
mod upstream;

use std::time::{Duration, Instant};

/// Pause between two looks, in milliseconds.
const LOOK_MS: u64 = 50;

/// Looks until something is there; it is sure to come.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(support::WAIT_S_MAX);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {} s", support::WAIT_S_MAX);
        tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
    }
}
