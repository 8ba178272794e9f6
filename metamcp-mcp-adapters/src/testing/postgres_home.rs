//! The folder of one private PostgreSQL server, and whose it is.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt as _, chown},
    path::PathBuf,
};

use tempfile::TempDir;

use super::{
    process::Account,
    program::{Program, find},
};

/// The account every private server has; it may do everything.
pub(super) const OWNER: &str = "metamcp";

/// The folder of one server and the programs it is made of.
#[derive(Debug)]
pub(super) struct Home {
    dir: TempDir,
    pub(super) program: Program,
    pub(super) account: Option<Account>,
}

impl Home {
    /// An empty one.
    pub(super) fn new() -> io::Result<Self> {
        let account = Account::humble()?;
        // Open to read, as the server that goes through it may run as somebody else; its own data directory is closed.
        let dir = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir()?;
        if let Some(Account { uid, gid }) = account {
            chown(dir.path(), Some(uid), Some(gid))?;
        }
        Ok(Self { dir, program: find("postgres")?, account })
    }

    /// Where its data is.
    pub(super) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Where the server writes what happens.
    pub(super) fn log(&self) -> PathBuf {
        self.dir.path().join("postgres.log")
    }

    /// Puts a file into the data directory that the server alone may read.
    pub(super) fn put(&self, name: &str, text: &[u8]) -> io::Result<()> {
        let path = self.data().join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        let Some(Account { uid, gid }) = self.account else { return Ok(()) };
        chown(&path, Some(uid), Some(gid))
    }
}
