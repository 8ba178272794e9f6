//! Runtimes of one thread each, over which connections are spread.
//!
//! Where threads share a runtime, a connection is served now by one and then by another, and what it and its call have in memory moves from
//! core to core with it. Served by one thread for as long as it lasts, it stays where it is.

use std::{io, num::NonZero, thread};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::{CancellationToken, DropGuard};

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
            let (core, end) = (Core(Some(runtime)), end.clone());
            thread::Builder::new().name("metamcp-core".to_owned()).spawn(move || core.drive(&end))?;
        }
        Ok(Self { handles, _end: guard })
    }

    /// Where to spawn, by turns.
    #[must_use]
    pub fn handles(&self) -> &[Handle] {
        &self.handles
    }
}

/// A runtime that may be dropped anywhere: its end waits for no work on blocking threads. `None` only then.
struct Core(Option<Runtime>);

impl Core {
    fn drive(self, end: &CancellationToken) {
        if let Some(runtime) = &self.0 {
            runtime.block_on(end.cancelled());
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
        drop(Core(Some(Builder::new_current_thread().build().unwrap())));
    }
}
