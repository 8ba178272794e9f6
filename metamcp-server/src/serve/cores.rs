//! Runtimes of one thread each, over which connections are spread.
//!
//! Where threads share a runtime, a connection is served now by one and then by another, and what it and its call have in memory moves from
//! core to core with it. Served by one thread for as long as it lasts, it stays where it is.

use std::{io, num::NonZero, thread, time::Duration};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long work on blocking threads may hold up the end of a runtime, in milliseconds.
const END_MS: u64 = 500;

/// As many runtimes as there are threads to be; they end when it is dropped, and what was spawned on them with them.
#[derive(Debug)]
pub struct Cores {
    handles: Vec<Handle>,
    _end: DropGuard,
}

impl Cores {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system gives no thread or no way to wait for connections.
    pub fn start(threads: NonZero<usize>) -> io::Result<Self> {
        let end = CancellationToken::new();
        let mut handles = Vec::with_capacity(threads.get());
        // From here on those that were started end when one cannot be.
        let guard = end.clone().drop_guard();
        for _ in 0..threads.get() {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            handles.push(runtime.handle().clone());
            let end = end.clone();
            thread::Builder::new().name("metamcp-core".to_owned()).spawn(move || drive(runtime, &end))?;
        }
        Ok(Self { handles, _end: guard })
    }

    /// Where to spawn, by turns.
    #[must_use]
    pub fn handles(&self) -> &[Handle] {
        &self.handles
    }
}

fn drive(runtime: Runtime, end: &CancellationToken) {
    runtime.block_on(end.cancelled());
    runtime.shutdown_timeout(Duration::from_millis(END_MS));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_runs_on_a_core_stays_on_its_thread_and_ends_with_it() {
        let cores = Cores::start(NonZero::new(2).unwrap()).unwrap();
        let thread = async || {
            let before = thread::current().id();
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert_eq!(thread::current().id(), before);
            before
        };
        let [first, second] = cores.handles() else { panic!("two were asked for") };
        let (a, b, c) = (first.spawn(thread()), second.spawn(thread()), first.spawn(thread()));
        let (a, b, c) = (a.await.unwrap(), b.await.unwrap(), c.await.unwrap());
        assert!(a == c && a != b);
        let endless = first.spawn(std::future::pending::<()>());
        drop(cores);
        assert!(endless.await.unwrap_err().is_cancelled());
    }
}
