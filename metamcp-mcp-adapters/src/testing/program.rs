//! Finds the programs the private servers are made of: what `cargo xtask tools` has put beside the project, else what the
//! machine has. It installs nothing and asks nobody's version: the tools command has done that.

use std::{
    env,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use tokio::process::Command;

/// Environment variable that moves the tools folder.
const TOOLS_DIR: &str = "METAMCP_TOOLS_DIR";
/// Where Debian and its kin keep PostgreSQL, one folder per major version, none of them in `PATH`.
const POSTGRES_HOMES: &str = "usr/lib/postgresql";

/// A program found, with what it needs around it.
#[derive(Clone, Debug)]
pub(super) struct Program {
    path: PathBuf,
    /// Search path of shared libraries; set for what was unpacked rather than installed.
    libraries: Option<OsString>,
}

impl Program {
    /// A program of the same installation: `initdb` beside `postgres`, or beside what a link to it leads to.
    pub(super) fn sibling(&self, name: &str) -> io::Result<Self> {
        let resolved = self.path.canonicalize()?;
        let beside = [&self.path, &resolved].map(|path| path.with_file_name(name));
        let path = beside.into_iter().find(|path| path.is_file()).ok_or_else(|| missing(name))?;
        Ok(Self { path, libraries: self.libraries.clone() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn libraries(&self) -> Option<&OsString> {
        self.libraries.as_ref()
    }

    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command
    }
}

/// The path of a program by its name, such as `redis-server`, `postgres` or `moto_server`.
///
/// # Errors
/// `NotFound`, naming the command that installs it.
pub fn program(name: &str) -> io::Result<PathBuf> {
    find(name).map(|found| found.path)
}

/// The folder of `cargo xtask tools`: `.xtask` of the workspace, or what `METAMCP_TOOLS_DIR` says.
pub(super) fn tools_dir() -> PathBuf {
    let told = env::var_os(TOOLS_DIR).filter(|dir| !dir.is_empty()).map(PathBuf::from);
    told.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.xtask"))
}

/// Ours first: the tools command unpacks a program only where the machine has none that will do.
pub(super) fn find(name: &str) -> io::Result<Program> {
    let tools = tools_dir();
    let unpacked = tools.join("debian");
    let ours = [unpacked.join("usr/bin")].into_iter().chain(postgres_homes(&unpacked));
    if let Some(path) = first(name, ours) {
        return Ok(Program { path, libraries: Some(libraries(&unpacked)?) });
    }
    let search = env::var_os("PATH").unwrap_or_default();
    let theirs = postgres_homes(Path::new("/")).into_iter().chain([tools.join("moto/bin")]);
    let theirs = theirs.chain(env::split_paths(&search));
    first(name, theirs).map(|path| Program { path, libraries: None }).ok_or_else(|| missing(name))
}

fn first(name: &str, folders: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    folders.map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// The program folders of PostgreSQL under `root`, newest first.
fn postgres_homes(root: &Path) -> Vec<PathBuf> {
    let Ok(homes) = fs::read_dir(root.join(POSTGRES_HOMES)) else {
        return Vec::new();
    };
    let version = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let mut homes: Vec<PathBuf> =
        homes.flatten().map(|home| home.path()).filter(|path| version(path).is_some()).collect();
    homes.sort_by_key(|home| std::cmp::Reverse(version(home)));
    homes.into_iter().map(|home| home.join("bin")).collect()
}

/// The folders of shared libraries in an unpacked tree; they are named after the machine (`x86_64-linux-gnu`).
fn libraries(unpacked: &Path) -> io::Result<OsString> {
    let mut folders = Vec::new();
    for lib in [unpacked.join("usr/lib"), unpacked.join("lib")] {
        let Ok(entries) = fs::read_dir(&lib) else { continue };
        let machines = entries.flatten().map(|entry| entry.path());
        folders.extend(machines.filter(|path| path.is_dir() && path.to_string_lossy().contains("-linux-")));
    }
    env::join_paths(folders).map_err(io::Error::other)
}

fn missing(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("`{name}` is missing: run `cargo xtask tools`"))
}
