//! The data directory every private PostgreSQL begins with. `initdb` takes a second, a copy a tenth of it: it is made once and
//! kept in the tools folder, one per version of PostgreSQL.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
};

use super::{
    postgres_home::{Home, OWNER},
    process::{Account, Launch, run},
    program::tools_dir,
};

/// Raised when the arguments of `initdb` change, so that a kept template of before is not used.
const REVISION: u32 = 1;
/// How deep a data directory goes; `pg_wal/archive_status` and the like are two.
const DEPTH_MAX: u32 = 4;

/// Makes the data directory of `home`.
///
/// # Errors
/// When `initdb` fails or files cannot be written.
pub(super) async fn copy(home: &Home) -> io::Result<()> {
    let mut version = home.program.command();
    version.arg("--version");
    let version = run(version).await?;
    let kept = tools_dir().join(name(&version));
    if !kept.is_dir() {
        make(home, &kept).await?;
    }
    copy_folder(&kept, &home.data(), home.account, DEPTH_MAX)
}

/// The folder name for one version, told as `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn name(version: &str) -> PathBuf {
    let number = version.split_whitespace().find(|word| word.starts_with(|first: char| first.is_ascii_digit()));
    format!("postgres-{}-template-{REVISION}", number.unwrap_or("unknown")).into()
}

/// Runs `initdb` and keeps what it made. Several processes may do so at once: the first to finish wins.
async fn make(home: &Home, kept: &Path) -> io::Result<()> {
    let scratch = Home::new()?;
    let words = ["--no-sync", "--no-instructions", "--auth=trust", "--no-locale", "--encoding=UTF8"];
    let mut args: Vec<OsString> = words.map(OsString::from).into();
    args.extend([format!("--username={OWNER}").into(), "--pgdata".into(), scratch.data().into_os_string()]);
    let program = home.program.sibling("initdb")?;
    Launch { program, args, account: home.account, log: PathBuf::new() }.run().await?;

    let tools = tools_dir();
    fs::create_dir_all(&tools)?;
    let beside = tempfile::tempdir_in(&tools)?;
    copy_folder(&scratch.data(), &beside.path().join("data"), None, DEPTH_MAX)?;
    match fs::rename(beside.path().join("data"), kept) {
        Err(_) if kept.is_dir() => Ok(()),
        moved => moved,
    }
}

/// Copies a folder of plain files and folders, for the server's account alone.
fn copy_folder(from: &Path, to: &Path, account: Option<Account>, depth: u32) -> io::Result<()> {
    if depth == 0 {
        return Err(io::Error::other(format!("{} is deeper than a data directory is", from.display())));
    }
    fs::create_dir(to)?;
    own(to, account, 0o700)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_folder(&from, &to, account, depth - 1)?;
        } else {
            fs::copy(&from, &to)?;
            own(&to, account, 0o600)?;
        }
    }
    Ok(())
}

fn own(path: &Path, account: Option<Account>, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    let Some(Account { uid, gid }) = account else { return Ok(()) };
    chown(path, Some(uid), Some(gid))
}
