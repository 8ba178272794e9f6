//! Makes `redis-server` and `postgres` available to the tests. What the machine has is used as it is; else, on Debian and its kin, root
//! installs the distribution's packages without starting their services, and anybody else gets them unpacked into the tools folder.
//! It starts no server and writes no configuration: the tests do, with data directories of their own.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::pins::Server;
use crate::process::{Ended, Place, Run};
use crate::stamp::{Stamp, already, lock};

/// Folder of the tools folder where packages are unpacked; the tests look there first.
const UNPACKED: &str = "debian";
/// Where Debian keeps PostgreSQL, a folder per major version and none of them in `PATH`.
const POSTGRES_HOMES: &str = "usr/lib/postgresql";
/// Debian asks this program whether a package that is installed may start its service.
const POLICY: &str = "/usr/sbin/policy-rc.d";
/// "No, it may not."
const POLICY_NEVER: &str = "#!/bin/sh\nexit 101\n";
/// How long apt may wait for another package manager to finish, in seconds.
const APT_WAIT_S_MAX: u32 = 600;

/// Makes `server` available.
pub(crate) fn provide(place: &Place, server: &Server) -> Result<Ended> {
    let stamp = Stamp::new(place, &format!("{UNPACKED}-{}", server.program), &server.wanted(), Vec::new());
    let found = find(place, server, &stamp);
    if let Some((version, told)) = &found
        && *version >= server.version_min
    {
        return Ok(already(told));
    }
    let found = found.map_or_else(|| "none".to_owned(), |(_, told)| told);
    let wanted = server.wanted();
    if Run::program(place, Path::new("apt-get"), &["--version"]).probe().is_none() {
        bail!("{wanted} is needed, found {found}: {}", server.elsewhere);
    }
    let _lock = lock(place)?;
    if are_we_root(place) {
        install(place, server)?;
    } else {
        stamp.lift()?;
        unpack(place, server)?;
        stamp.set()?;
    }
    match find(place, server, &stamp) {
        Some((version, told)) if version >= server.version_min => Ok(Ended::Done(Some(format!("installed: {told}")))),
        other => {
            let told = other.map_or_else(|| "does not run".to_owned(), |(_, told)| format!("is {told}"));
            bail!("the packages are in place, yet {} {told}; {wanted} is needed: {}", server.program, server.elsewhere)
        }
    }
}

/// The server the tests would take, by the same search: its version, and that with its path for people.
fn find(place: &Place, server: &Server, stamp: &Stamp) -> Option<((u32, u32), String)> {
    let unpacked = place.tools.join(UNPACKED);
    let ours = [unpacked.join("usr/bin")].into_iter().chain(postgres_homes(&unpacked));
    let search = env::var_os("PATH").unwrap_or_default();
    let theirs = postgres_homes(Path::new("/")).into_iter().chain(env::split_paths(&search));
    let (path, is_ours) = match first(server.program, ours) {
        Some(path) => (path, true),
        None => (first(server.program, theirs)?, false),
    };
    // Beside the program itself, not beside a link to it.
    let folder = path.canonicalize().ok()?.parent()?.to_owned();
    let whole = server.beside.iter().all(|name| folder.join(name).exists() || path.with_file_name(name).exists());
    if !whole || (is_ours && !stamp.holds()) {
        return None;
    }
    let mut run = Run::program(place, &path, &["--version"]);
    if is_ours {
        run = run.env("LD_LIBRARY_PATH", libraries(&unpacked).to_str()?);
    }
    let (major, minor) = version_in(&run.probe()?)?;
    Some(((major, minor), format!("{} {major}.{minor}", place.shown(&path))))
}

fn first(program: &str, folders: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    folders.map(|folder| folder.join(program)).find(|path| path.is_file())
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

/// The folders of shared libraries in the unpacked tree, named after the machine (`x86_64-linux-gnu`).
fn libraries(unpacked: &Path) -> OsString {
    let roots = [unpacked.join("usr/lib"), unpacked.join("lib")];
    let entries = roots.iter().filter_map(|root| fs::read_dir(root).ok()).flatten().flatten();
    let folders = entries.map(|entry| entry.path()).filter(|path| path.to_string_lossy().contains("-linux-"));
    env::join_paths(folders).unwrap_or_default()
}

/// The first number of a version text, as (major, minor): `Redis server v=7.0.15 …`, `postgres (PostgreSQL) 15.18`, `5:7.0.15-1`.
fn version_in(told: &str) -> Option<(u32, u32)> {
    // Debian's epoch is no part of the version.
    let told = told.split_once(':').filter(|(epoch, _)| epoch.parse::<u32>().is_ok()).map_or(told, |(_, rest)| rest);
    let mut numbers = told[told.find(|c: char| c.is_ascii_digit())?..].split('.');
    let leading = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    let major_text = numbers.next()?;
    let major = leading(major_text)?;
    let whole = major_text.chars().all(|c| c.is_ascii_digit());
    let minor = if whole { numbers.next().and_then(leading).unwrap_or(0) } else { 0 };
    Some((major, minor))
}

fn are_we_root(place: &Place) -> bool {
    Run::program(place, Path::new("id"), &["-u"]).probe().is_some_and(|uid| uid == "0")
}

/// As root: the distribution's packages, for the whole machine, their services not started.
fn install(place: &Place, server: &Server) -> Result<()> {
    let _policy = NoServices::begin(place)?;
    let lock = format!("DPkg::Lock::Timeout={APT_WAIT_S_MAX}");
    let update = || apt(place, "apt-get", &["-q", "update", "-o", &lock]).status();
    let install = |packages: &[String]| {
        let words = ["-q", "-y", "--no-install-recommends", "-o", &lock, "install"];
        let run = apt(place, "apt-get", &words).env("DEBIAN_FRONTEND", "noninteractive").args(packages);
        run.announce();
        run.status()
    };
    let listed = candidate(place, server, &[]);
    if let Ok(packages) = &listed
        && install(packages).is_ok()
    {
        return Ok(());
    }
    println!("the package lists are missing or stale: updating them");
    update()?;
    install(&candidate(place, server, &[])?)
}

/// As anybody: the same packages and what they need, unpacked. apt keeps lists and archives of its own for it, as the system's are
/// root's and may be missing or stale.
fn unpack(place: &Place, server: &Server) -> Result<()> {
    let own = place.tools.join("apt");
    let (lists, cache) = (own.join("lists"), own.join("cache"));
    let archives = cache.join("archives");
    let _ = fs::remove_dir_all(&archives);
    for folder in [lists.join("partial"), archives.join("partial"), own.join("log")] {
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let options = [
        format!("Dir::State::lists={}", lists.display()),
        format!("Dir::Cache={}", cache.display()),
        format!("Dir::Log={}", own.join("log").display()),
        "Debug::NoLocking=true".to_owned(),
    ];
    let options: Vec<String> = options.into_iter().flat_map(|option| ["-o".to_owned(), option]).collect();
    apt(place, "apt-get", &["-q", "update"]).args(&options).status()?;
    let packages = candidate(place, server, &options)?;
    // Also what the machine has of them: the programs must stand in one folder.
    let words = ["-q", "-y", "--no-install-recommends", "--download-only", "--reinstall", "install"];
    let run = apt(place, "apt-get", &words).args(&packages);
    run.announce();
    run.args(&options).status()?;
    let into = place.tools.join(UNPACKED);
    fs::create_dir_all(&into).with_context(|| format!("cannot make {}", into.display()))?;
    for entry in fs::read_dir(&archives).context("cannot list what apt downloaded")? {
        let archive = entry?.path();
        if archive.extension().is_some_and(|end| end == "deb") {
            let words =
                [archive.to_str(), into.to_str()].map(|word| word.context("the tools folder's path is not text"));
            let [archive, into] = words;
            Run::program(place, Path::new("dpkg-deb"), &["--extract", archive?, into?]).status()?;
        }
    }
    fs::remove_dir_all(&own).context("cannot remove what apt downloaded")
}

/// The packages that bring the server, if the distribution's version will do.
fn candidate(place: &Place, server: &Server, options: &[String]) -> Result<Vec<String>> {
    let run = apt(place, "apt-cache", &["show", "--no-all-versions", server.package]).args(options);
    let told = run.probe().unwrap_or_default();
    let version = told.lines().find_map(|line| line.strip_prefix("Version: "));
    let wanted = server.wanted();
    match version.and_then(|version| Some((version, version_in(version)?))) {
        Some((_, found)) if found >= server.version_min => Ok(server.packages(found.0)),
        Some((version, _)) => {
            bail!("{wanted} is needed and this system's packages have {version}: {}", server.elsewhere)
        }
        None => bail!("apt knows no package `{}`; {wanted} is needed: {}", server.package, server.elsewhere),
    }
}

fn apt(place: &Place, program: &str, words: &[&str]) -> Run {
    // What is parsed must be in the language it is parsed in.
    Run::program(place, Path::new(program), words).env("LC_ALL", "C.UTF-8")
}

/// Forbids packages to start services, for as long as it lives. A rule the machine has already is left alone.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn begin(place: &Place) -> Result<Self> {
        if Path::new(POLICY).exists() {
            return Ok(Self { ours: false });
        }
        fs::write(POLICY, POLICY_NEVER).with_context(|| format!("cannot write {POLICY}"))?;
        let policy = Self { ours: true };
        Run::program(place, Path::new("chmod"), &["755", POLICY]).status()?;
        Ok(policy)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            let _ = fs::remove_file(POLICY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pins;

    #[test]
    fn versions_are_read_from_programs_and_packages_alike() {
        let cases = [
            ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64", (7, 0)),
            ("Valkey server v=8.1.4 sha=00000000:0", (8, 1)),
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", (15, 18)),
            ("postgres (PostgreSQL) 19beta1", (19, 0)),
            ("5:7.0.15-1~deb12u10", (7, 0)),
            ("15+248+deb12u1", (15, 0)),
        ];
        for (told, version) in cases {
            assert_eq!(version_in(told), Some(version), "{told}");
        }
        assert_eq!(version_in("no number"), None);
    }

    #[test]
    fn packages_name_the_major_version_of_the_distribution() {
        assert_eq!(pins::POSTGRES.packages(17), ["postgresql-17", "postgresql-client-17"]);
        assert_eq!(pins::REDIS.wanted(), "redis-server 7.0 or newer");
    }
}
