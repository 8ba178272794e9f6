//! How many threads a command has, and running it on them.

use std::{num::NonZero, time::Duration};

use tokio::runtime::Builder;

use super::exit::{Failure, Outcome};

/// Most threads of a kind: the work is waiting, and an idle process stays small.
const THREADS_MAX: NonZero<usize> = NonZero::new(4).unwrap();
/// How long work on blocking threads may hold up the end of the process, in milliseconds.
const RUNTIME_END_MS: u64 = 500;

/// How many threads there are of each kind: those of the engine, and those that serve connections.
pub(super) fn threads() -> NonZero<usize> {
    std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN).min(THREADS_MAX)
}

/// Runs a command to its end. One thread waits for its own work alone; several share a pool.
pub(super) fn on_threads(threads: NonZero<usize>, work: impl Future<Output = Outcome>) -> Outcome {
    let mut builder = match threads.get() {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    let runtime = builder
        .worker_threads(threads.get())
        .thread_name("metamcp")
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start threads: {error}")))?;
    // Boxed: what a command keeps while it runs need not stand on the stack as well.
    let outcome = runtime.block_on(Box::pin(work));
    // A read of standard input cannot be interrupted: its thread must not hold the process.
    runtime.shutdown_timeout(Duration::from_millis(RUNTIME_END_MS));
    outcome
}
