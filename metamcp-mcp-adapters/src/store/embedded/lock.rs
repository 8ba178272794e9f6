//! The owner's lock: one data directory belongs to one process, and a second one is told whose it is and what to do instead.
//!
//! The operating system holds the lock and drops it with the process, however that ends; the file's text is only for people. The file is never
//! removed: two processes could then each hold a lock of the same name.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Mutex,
};

use metamcp_core::{
    error::{StoreError, StoreErrorKind, StoreResult},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use super::STORE;

/// The file's name in the data directory.
const FILE_NAME: &str = "owner.lock";
/// Longest text of an owner that is read, in bytes.
const OWNER_BYTES_MAX: u64 = 4_096;

/// Who owns a data directory, as the lock file tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Owner {
    pid: u32,
    started_ms: u64,
    about: String,
}

/// The lock, held until it is dropped.
#[derive(Debug)]
pub(super) struct OwnerLock {
    file: Mutex<File>,
    started: Timestamp,
    path: PathBuf,
}

impl OwnerLock {
    /// Takes the lock of `dir`, or says who has it.
    pub(super) fn take(dir: &Path, now: Timestamp, about: &str) -> StoreResult<Self> {
        let path = dir.join(FILE_NAME);
        let failed = |e: std::io::Error| {
            StoreError::new(
                StoreErrorKind::Unavailable,
                STORE,
                format!("cannot lock {}; make it writable for this user, or choose another --data-dir", path.display()),
            )
            .with_source(e)
        };
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(dir, &file, now)),
            Err(TryLockError::Error(e)) => return Err(failed(e)),
        }
        let lock = Self { file: Mutex::new(file), started: now, path };
        lock.describe(about)?;
        Ok(lock)
    }

    /// Changes what others read of the owner.
    pub(super) fn describe(&self, about: &str) -> StoreResult<()> {
        let owner = Owner { pid: std::process::id(), started_ms: self.started.as_millis(), about: about.to_owned() };
        let text = serde_json::to_vec(&owner).expect("an owner is JSON");
        let mut file = self.file.lock().expect("nothing panics while it holds the lock file");
        file.seek(SeekFrom::Start(0)).and_then(|_| file.set_len(0)).and_then(|()| file.write_all(&text)).map_err(|e| {
            let message = format!("cannot write {}; is the disk full?", self.path.display());
            StoreError::new(StoreErrorKind::Unavailable, STORE, message).with_source(e)
        })
    }
}

fn in_use(dir: &Path, mut file: &File, now: Timestamp) -> StoreError {
    let mut text = String::new();
    // Best effort: the owner may be writing it just now.
    let read = file.take(OWNER_BYTES_MAX).read_to_string(&mut text).map(drop);
    let _ = file.rewind();
    let owner = read.ok().and_then(|()| serde_json::from_str::<Owner>(&text).ok());
    let who = owner.map_or_else(
        || "another process".to_owned(),
        |owner| {
            let age_s = now.since(Timestamp::from_millis(owner.started_ms)).as_secs();
            let about = if owner.about.is_empty() { String::new() } else { format!(" ({})", owner.about) };
            format!("process {}{about} for {age_s} s", owner.pid)
        },
    );
    let message = format!(
        "data directory {} is in use by {who}; use that running server, stop it first, or choose another --data-dir",
        dir.display()
    );
    StoreError::new(StoreErrorKind::Unavailable, STORE, message)
}
