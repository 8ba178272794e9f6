//! A disk that does as it is told, and tells no more than that.

use std::{
    io,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use metamcp_core::{id::Lane, queue::JobStore};

/// Time for the writer, or for callers, to come as far as they can.
const AHEAD: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Default)]
pub(crate) struct MoodyDisk {
    memory: Arc<redb::backends::InMemoryBackend>,
    /// No more room.
    pub(crate) full: Arc<AtomicBool>,
    waits: Arc<(Mutex<bool>, Condvar)>,
}

impl MoodyDisk {
    fn room(&self) -> io::Result<()> {
        drop(self.waits.1.wait_while(self.waits.0.lock().unwrap(), |waits| *waits).unwrap());
        if self.full.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn keep_waiting(&self, waits: bool) {
        *self.waits.0.lock().unwrap() = waits;
        self.waits.1.notify_all();
    }

    /// Keeps the writer at a commit of its own while `calls` come, so that all of them share the next one. They run in the order in which
    /// they are polled first.
    pub(crate) async fn in_one_commit<T>(&self, jobs: &dyn JobStore, calls: impl Future<Output = T>) -> T {
        self.keep_waiting(true);
        let heavy = Lane::heavy();
        let life = async {
            tokio::time::sleep(AHEAD).await;
            let open = async {
                tokio::time::sleep(AHEAD).await;
                self.keep_waiting(false);
            };
            tokio::join!(calls, open).0
        };
        let (paused, answers) = tokio::join!(jobs.pause(&heavy, true), life);
        paused.unwrap();
        answers
    }
}

impl redb::StorageBackend for MoodyDisk {
    fn len(&self) -> io::Result<u64> {
        self.memory.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.memory.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.room()?;
        self.memory.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.room()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.room()?;
        self.memory.write(offset, data)
    }
}
