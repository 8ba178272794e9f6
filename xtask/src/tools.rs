//! Installs what the tests need beside Rust itself: real MCP servers and clients from npm and PyPI, Redis and PostgreSQL, an S3 server,
//! cargo-nextest, and for `verify` cargo-deny. Everything goes into the tools folder and nothing else on the machine changes, but for
//! root's Redis and PostgreSQL (see `debian`). A stamp per group makes the next run instant. It does not install Node, Python or git:
//! it says how to.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::args::Args;
use crate::debian::provide;
use crate::pins::{self, Server};
use crate::process::{Ended, Place, Run, Step, take};
use crate::stamp::{Stamp, already, lock};

/// `cargo xtask tools`.
pub(crate) fn tools(place: &Place, args: &[String]) -> Result<()> {
    Args::new(args).finish()?;
    let mut steps = steps(place);
    steps.push(Step::work("nextest", "cargo-nextest, if the machine has none", || nextest(place)));
    take(steps)
}

/// The steps that make the servers ready the tests talk to; each is instant when its pins are in place.
pub(crate) fn steps(place: &Place) -> Vec<Step<'_>> {
    let folder = place.shown(&place.tools);
    let mut steps = mcp(place);
    steps.extend([
        Step::work("S3 server", format!("{} into {folder}/moto", listed(pins::S3, "==")), || s3(place)).essential(),
        Step::work("redis", debian(&pins::REDIS), || provide(place, &pins::REDIS)).essential(),
        Step::work("postgres", debian(&pins::POSTGRES), || provide(place, &pins::POSTGRES)).essential(),
    ]);
    steps
}

/// Those of them that speak MCP: servers, clients, the official suite.
pub(crate) fn mcp(place: &Place) -> Vec<Step<'_>> {
    let folder = place.shown(&place.tools);
    vec![
        Step::work("git", "mcp-server-git and its tests need it", || git(place)).essential(),
        Step::work("npm packages", format!("{} into {folder}/node_modules", listed(pins::NPM, "@")), || npm(place))
            .essential(),
        Step::work("python packages", format!("{} into {folder}/venv", listed(pins::PYPI, "==")), || python(place))
            .essential(),
    ]
}

/// Makes `cargo nextest` work, installing it only if the machine has none.
pub(crate) fn nextest(place: &Place) -> Result<Ended> {
    let version = || Run::cargo(place, &["nextest", "--version"]).probe();
    if let Some(found) = version() {
        return Ok(already(found.lines().next().unwrap_or("present")));
    }
    let _lock = lock(place)?;
    install(place, "cargo-nextest", pins::NEXTEST)?;
    match version() {
        Some(_) => Ok(Ended::Done(None)),
        None => bail!("cargo-nextest was installed but `cargo nextest --version` does not work"),
    }
}

/// The pinned cargo-deny, from the tools folder or the machine; installs it if neither has it, which takes minutes.
pub(crate) fn cargo_deny(place: &Place) -> Result<PathBuf> {
    let ours = place.tools.join("cargo").join("bin").join("cargo-deny");
    let right = |program: &Path| {
        let version = Run::program(place, program, &["--version"]).probe();
        version.is_some_and(|version| version.split_whitespace().any(|word| word == pins::CARGO_DENY))
    };
    let theirs = PathBuf::from("cargo-deny");
    if let Some(found) = [&ours, &theirs].into_iter().find(|program| right(program)) {
        return Ok(found.clone());
    }
    let _lock = lock(place)?;
    install(place, "cargo-deny", pins::CARGO_DENY)?;
    Ok(ours)
}

fn install(place: &Place, package: &str, version: &str) -> Result<()> {
    println!("building {package} {version}: this takes minutes, once");
    let root = place.tools.join("cargo");
    let root = root.to_str().context("the path of the tools folder is not text")?;
    Run::cargo(place, &["install", package, "--locked", "--version", version, "--root", root]).status()
}

fn git(place: &Place) -> Result<Ended> {
    match Run::program(place, Path::new("git"), &["--version"]).probe() {
        Some(version) => Ok(already(&version)),
        None => {
            bail!("git is missing: install it (Debian, Ubuntu: apt-get install git; macOS: xcode-select --install)")
        }
    }
}

fn npm(place: &Place) -> Result<Ended> {
    let manifest = package_json(pins::NPM);
    let programs = pins::NPM_PROGRAMS.iter().map(|name| place.tools.join("node_modules").join(".bin").join(name));
    let stamp = Stamp::new(place, "npm", &manifest, programs.collect());
    if stamp.holds() {
        return Ok(already("present"));
    }
    let node = Run::program(place, Path::new("node"), &["--version"]).probe();
    let major =
        node.as_deref().and_then(|version| version.trim_start_matches('v').split('.').next()?.parse::<u32>().ok());
    if major.is_none_or(|major| major < pins::NODE_MAJOR_MIN) {
        let found = node.unwrap_or_else(|| "none".to_owned());
        bail!(
            "Node {} or newer with npm is needed, found {found}: install it from nodejs.org or your packages",
            pins::NODE_MAJOR_MIN
        );
    }
    let _lock = lock(place)?;
    stamp.lift()?;
    fs::write(place.tools.join("package.json"), &manifest).context("cannot write package.json")?;
    let prefix = place.tools.to_str().context("the path of the tools folder is not text")?;
    let quiet = ["--no-audit", "--no-fund", "--no-progress", "--loglevel=error"];
    Run::program(place, Path::new("npm"), &["install", "--prefix", prefix]).args(&quiet.map(str::to_owned)).status()?;
    stamp.set()
}

/// What is in Python; each package brings a program of its own name.
fn python(place: &Place) -> Result<Ended> {
    let programs: Vec<&str> = pins::PYPI.iter().map(|(name, _)| *name).collect();
    venv(place, "venv", pins::PYPI, &programs)
}

fn s3(place: &Place) -> Result<Ended> {
    venv(place, "moto", pins::S3, &[pins::S3_PROGRAM])
}

/// A virtual environment with exactly these packages, which must bring these programs.
pub(crate) fn venv(place: &Place, name: &str, packages: &[(&str, &str)], programs: &[&str]) -> Result<Ended> {
    let venv = place.tools.join(name);
    let bin = venv.join("bin");
    let python = bin.join("python");
    let programs = programs.iter().map(|program| bin.join(program)).chain([python.clone()]);
    let wanted: Vec<String> = packages.iter().map(|(name, version)| format!("{name}=={version}")).collect();
    let stamp = Stamp::new(place, name, &wanted.join("\n"), programs.collect());
    if stamp.holds() {
        return Ok(already("present"));
    }
    let found = Run::program(place, Path::new("python3"), &["--version"]).probe();
    let minor =
        found.as_deref().and_then(|version| version.strip_prefix("Python 3.")?.split('.').next()?.parse::<u32>().ok());
    if minor.is_none_or(|minor| minor < pins::PYTHON_MINOR_MIN) {
        let found = found.unwrap_or_else(|| "none".to_owned());
        bail!("Python 3.{} or newer is needed as `python3`, found {found}", pins::PYTHON_MINOR_MIN);
    }
    let _lock = lock(place)?;
    stamp.lift()?;
    let folder = venv.to_str().context("the path of the tools folder is not text")?;
    Run::program(place, Path::new("python3"), &["-m", "venv", "--clear", folder])
        .status()
        .context("cannot make a virtual environment (Debian, Ubuntu: apt-get install python3-venv)")?;
    let pip = ["-m", "pip", "install", "--disable-pip-version-check", "--quiet"];
    Run::program(place, &python, &pip).args(&wanted).status()?;
    stamp.set()
}

fn debian(server: &Server) -> String {
    format!("{}; from Debian's packages if the machine has none", server.wanted())
}

fn listed(pins: &[(&str, &str)], between: &str) -> String {
    let words: Vec<String> = pins.iter().map(|(name, version)| format!("{name}{between}{version}")).collect();
    words.join(" ")
}

fn package_json(pins: &[(&str, &str)]) -> String {
    let lines: Vec<String> = pins.iter().map(|(name, version)| format!("    \"{name}\": \"{version}\"")).collect();
    format!(
        "{{\n  \"name\": \"metamcp-tools\",\n  \"private\": true,\n  \"dependencies\": {{\n{}\n  }}\n}}\n",
        lines.join(",\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_json_pins_each_package_exactly() {
        let expected = r#"{
  "name": "metamcp-tools",
  "private": true,
  "dependencies": {
    "a": "1.0.0",
    "@b/c": "2.0.0"
  }
}
"#;
        assert_eq!(package_json(&[("a", "1.0.0"), ("@b/c", "2.0.0")]), expected);
    }

    #[test]
    fn a_stamp_holds_only_for_the_same_pins_and_while_the_files_are_there() {
        let root = std::env::temp_dir().join(format!("metamcp-xtask-stamp-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        let place = Place { root: root.clone(), tools: root.clone(), built: root.clone() };
        let program = root.join("program");
        let stamp = |pins: &str| Stamp::new(&place, "group", pins, vec![program.clone()]);

        assert!(!stamp("1").holds());
        assert!(stamp("1").set().is_err(), "a stamp must not be set while the program is missing");
        fs::write(&program, "").unwrap();
        stamp("1").set().unwrap();
        assert!(stamp("1").holds());
        assert!(!stamp("2").holds());
        fs::remove_file(&program).unwrap();
        assert!(!stamp("1").holds());
        fs::write(&program, "").unwrap();
        stamp("1").lift().unwrap();
        stamp("1").lift().unwrap();
        assert!(!stamp("1").holds());
        fs::remove_dir_all(&root).unwrap();
    }
}
