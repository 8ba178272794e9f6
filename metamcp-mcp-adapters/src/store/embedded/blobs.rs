//! Bodies of results as files named by their digest, one tree for each tenant. It knows no records: who calls it says what is still pointed to.
//!
//! ```text
//! results/tmp/…                 written here first
//! results/t-<tenant>/ab/abcd…   whole and synced once it has this name
//! ```

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use metamcp_core::{id::TenantId, pointer::Digest};

use super::journal::sync_dir;

const TEMP_DIR: &str = "tmp";
/// Before each tenant's name: a tenant may be called `..` or `tmp`.
const TENANT_PREFIX: &str = "t-";

/// A body's name.
pub(super) type BlobName = (TenantId, Digest);

/// The files of all bodies.
#[derive(Debug)]
pub(super) struct Blobs {
    root: PathBuf,
    /// Bodies that are being put and not yet pointed to, with the number of puts: nobody removes them.
    pinned: Mutex<HashMap<BlobName, usize>>,
    /// Directories whose names are known to be on disk.
    synced: Mutex<HashSet<PathBuf>>,
    /// Where the last sweep stopped.
    swept: Mutex<Option<PathBuf>>,
}

/// Keeps a body's file from being removed.
#[derive(Debug)]
pub(super) struct Pin {
    blobs: Arc<Blobs>,
    name: BlobName,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut pinned = self.blobs.pinned.lock().expect(UNPOISONED);
        if let Some(count) = pinned.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                pinned.remove(&self.name);
            }
        }
    }
}

const UNPOISONED: &str = "nothing panics while it holds this lock";

impl Blobs {
    /// Opens the tree at `root` and makes it where there is none. Half-written files of before are removed.
    pub(super) fn open(root: PathBuf) -> io::Result<Self> {
        let temp = root.join(TEMP_DIR);
        match fs::remove_dir_all(&temp) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        fs::create_dir_all(&temp)?;
        if let Some(parent) = root.parent() {
            sync_dir(parent)?;
        }
        Ok(Self { root, pinned: Mutex::default(), synced: Mutex::default(), swept: Mutex::default() })
    }

    /// Keeps a body from being removed until the pin is dropped.
    pub(super) fn pin(self: &Arc<Self>, name: BlobName) -> Pin {
        *self.pinned.lock().expect(UNPOISONED).entry(name.clone()).or_default() += 1;
        Pin { blobs: Arc::clone(self), name }
    }

    /// Writes a body, durable before it returns. Needs a pin.
    pub(super) fn write(&self, pin: &Pin, body: &[u8]) -> io::Result<()> {
        let path = self.path(&pin.name);
        let dir = path.parent().unwrap_or(&self.root);
        self.make_dir(dir)?;
        // A body of that name and length was whole when it got the name. Its name may not be on disk yet: another put may be at it.
        let there = fs::metadata(&path).is_ok_and(|meta| meta.len() == body.len() as u64);
        if !there {
            let mut file = tempfile::NamedTempFile::new_in(self.root.join(TEMP_DIR))?;
            file.write_all(body)?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
        }
        sync_dir(dir)
    }

    /// Reads a body, or `len` bytes of it from `start`, cut at its end. A body of another length than `total` is damage.
    pub(super) fn read(&self, name: &BlobName, total: u64, part: Option<(u64, u64)>) -> io::Result<Vec<u8>> {
        let mut file = File::open(self.path(name))?;
        if file.metadata()?.len() != total {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file has another length than its record"));
        }
        let (start, len) = part.unwrap_or((0, total));
        let len = len.min(total.saturating_sub(start));
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or_default());
        file.take(len).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Removes a body that nothing points to, unless it is being put just now.
    pub(super) fn remove<E>(&self, name: &BlobName, pointed_to: impl FnOnce() -> Result<bool, E>) -> Result<bool, E> {
        let pinned = self.pinned.lock().expect(UNPOISONED);
        // Under the lock: a put that begins now waits, and finds no file.
        if pinned.contains_key(name) || pointed_to()? {
            return Ok(false);
        }
        Ok(fs::remove_file(self.path(name)).is_ok())
    }

    /// Looks for bodies that nothing points to: a crash may have left them. Each call looks through one directory after the last one's.
    pub(super) fn sweep<E>(&self, pointed_to: impl Fn(&BlobName) -> Result<bool, E>) -> Result<usize, E> {
        let last = self.swept.lock().expect(UNPOISONED).clone();
        let dir = self.dir_after(last.as_deref());
        let mut removed = 0;
        // What cannot be listed now is listed the next time round.
        for file in dir.iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten().filter_map(Result::ok) {
            let Some(name) = blob_name(&file.path()) else { continue };
            removed += usize::from(self.remove(&name, || pointed_to(&name))?);
        }
        *self.swept.lock().expect(UNPOISONED) = dir;
        Ok(removed)
    }

    /// The directory of bodies that follows `last` by name; `None` after the last one.
    fn dir_after(&self, last: Option<&Path>) -> Option<PathBuf> {
        let children = |dir: &Path| -> Vec<PathBuf> {
            let mut paths: Vec<_> =
                fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path()).collect();
            paths.sort();
            paths
        };
        let from = last.and_then(Path::parent);
        let tenants = children(&self.root).into_iter().filter(|path| from.is_none_or(|from| path.as_path() >= from));
        tenants
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(TENANT_PREFIX)))
            .flat_map(|tenant| children(&tenant))
            .find(|dir| last.is_none_or(|last| dir.as_path() > last))
    }

    fn path(&self, (tenant, digest): &BlobName) -> PathBuf {
        let digest = digest.to_string();
        self.root.join(format!("{TENANT_PREFIX}{tenant}")).join(&digest[..2]).join(digest)
    }

    /// Makes a directory for bodies, its name and its tenant's on disk before it returns.
    fn make_dir(&self, dir: &Path) -> io::Result<()> {
        if self.synced.lock().expect(UNPOISONED).contains(dir) {
            return Ok(());
        }
        fs::create_dir_all(dir)?;
        sync_dir(dir.parent().unwrap_or(&self.root))?;
        sync_dir(&self.root)?;
        self.synced.lock().expect(UNPOISONED).insert(dir.to_owned());
        Ok(())
    }
}

/// The body that a file holds, by its path.
fn blob_name(path: &Path) -> Option<BlobName> {
    let digest = path.file_name()?.to_str()?.parse().ok()?;
    let tenant = path.parent()?.parent()?.file_name()?.to_str()?.strip_prefix(TENANT_PREFIX)?;
    Some((TenantId::new(tenant).ok()?, digest))
}
