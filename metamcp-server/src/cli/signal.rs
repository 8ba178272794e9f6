//! Signals that ask the process to stop: the first asks gently, the second ends it at once.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What a shell tells of a process that a signal ended: 128 and the number of SIGINT.
const ENDED_AT_ONCE: i32 = 130;

/// A token that the first SIGTERM or SIGINT cancels. The second ends the process there and then; supervised children end with it.
///
/// # Errors
/// When the signals cannot be listened to.
pub(super) fn stop_token() -> io::Result<CancellationToken> {
    let mut signals = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        next(&mut signals).await;
        stop.cancel();
        next(&mut signals).await;
        eprintln!("ended at once");
        std::process::exit(ENDED_AT_ONCE);
    });
    Ok(token)
}

async fn next((terminate, interrupt): &mut (Signal, Signal)) {
    tokio::select! {
        _ = terminate.recv() => {},
        _ = interrupt.recv() => {},
    }
}
