//! `cargo xtask conformance`: the official MCP suite, through the gateway. It plays every client against `metamcp serve` with our fixture
//! server and a second real one behind it, in each form an upstream can have; and every server to `metamcp mcp gateway`, driven by a client of
//! ours. First it meets the fixture alone: what fails there is no fault of the gateway. What may fail is written with its reason in
//! `expected_failures.yml`, by scenario, and must then fail.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::args::Args;
use crate::process::{Ended, Place, Run, Step, take};
use crate::tools;

/// What may fail, and why.
const EXPECTED: &str = "metamcp-mcp-adapters/tests/conformance/expected_failures.yml";
/// Tools of a fixture without tasks that are declared to take long: a client that takes tasks gets one of the gateway.
const HEAVY: &str = r#"["slow_compute", "failing_job", "protocol_error_job", "confirm_delete", "multi_input"]"#;
/// Longest time for one scenario of the suite, in milliseconds; as a client it starts all scenarios, and so all gateways, at once.
const SCENARIO_MS_MAX: &str = "120000";
/// Longest wait for a server to start or to stop, in seconds; the machine may be busy.
const SERVER_S_MAX: u64 = 60;
/// Pause between two looks at a server, in milliseconds.
const LOOK_MS: u64 = 50;

/// One run of the suite.
struct Combination {
    /// What it is called on the line it prints.
    name: &'static str,
    way: Way,
    /// The revision whose frozen requirements are run.
    revision: &'static str,
}

/// Whom the suite meets.
#[derive(Clone, Copy)]
enum Way {
    /// The fixture itself, in these eras.
    Fixture(&'static str),
    /// The gateway's HTTP endpoint, with the fixture behind it over HTTP, in these eras.
    Http(&'static str),
    /// The gateway's HTTP endpoint, with the fixture behind it as a child process.
    Stdio,
    /// The gateway as a client, over HTTP, of the suite's own servers.
    Client,
}

const LEGACY: &str = "2025-11-25";
const MODERN: &str = "2026-07-28";

const COMBINATIONS: &[Combination] = &[
    Combination { name: "fixture-legacy", way: Way::Fixture("legacy"), revision: LEGACY },
    Combination { name: "fixture-modern", way: Way::Fixture("modern"), revision: MODERN },
    Combination { name: "legacy-to-legacy-http", way: Way::Http("legacy"), revision: LEGACY },
    Combination { name: "legacy-to-modern-http", way: Way::Http("modern"), revision: LEGACY },
    Combination { name: "legacy-to-stdio", way: Way::Stdio, revision: LEGACY },
    Combination { name: "modern-to-legacy-http", way: Way::Http("legacy"), revision: MODERN },
    Combination { name: "modern-to-modern-http", way: Way::Http("modern"), revision: MODERN },
    Combination { name: "modern-to-stdio", way: Way::Stdio, revision: MODERN },
    Combination { name: "as-client-legacy", way: Way::Client, revision: LEGACY },
    Combination { name: "as-client-modern", way: Way::Client, revision: MODERN },
];

/// `cargo xtask conformance [--only NAME]`.
pub(crate) fn conformance(place: &Place, args: &[String]) -> Result<()> {
    let mut args = Args::new(args);
    let names: Vec<&str> = COMBINATIONS.iter().map(|combination| combination.name).collect();
    let only = args.word("--only", &names)?;
    args.finish()?;
    let mut all = tools::mcp(place);
    all.extend(steps(place, only));
    take(all)
}

/// Builds what is run, then one step for each combination, or for the one that is called `only`.
pub(crate) fn steps<'a>(place: &'a Place, only: Option<&str>) -> Vec<Step<'a>> {
    // With the features of the tests, so that nothing is built twice.
    let build = ["build", "--workspace", "--all-features", "--bin", "metamcp", "--example", "conformance_*"];
    let mut steps = vec![Step::run("build for conformance", Run::cargo(place, &build)).essential()];
    let wanted = COMBINATIONS.iter().filter(|one| only.is_none_or(|name| one.name == name));
    steps.extend(wanted.map(|combination| {
        let about = format!("the official suite, requirements of {}", combination.revision);
        Step::work(combination.name, about, move || run(place, combination))
    }));
    steps
}

fn run(place: &Place, combination: &Combination) -> Result<Ended> {
    let folder = place.built.join("conformance").join(combination.name);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot clear {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let expected = fs::read_to_string(place.root.join(EXPECTED)).with_context(|| format!("cannot read {EXPECTED}"))?;
    let expected = expected_of(&expected, combination.name)?;

    let text = |path: PathBuf| path.into_os_string().into_string().ok().context("a path of the project is not text");
    let suite = match combination.way {
        Way::Fixture(eras) => {
            let fixture = Background::fixture(place, &folder, eras)?;
            suite(place, &folder, combination, &["server", "--url", &fixture.url])?
        }
        Way::Http(eras) => {
            let fixture = Background::fixture(place, &folder, eras)?;
            // A server that has tasks itself says which of its tools become some.
            let heavy = if eras == "legacy" { format!("\ntools.heavy = {HEAVY}") } else { String::new() };
            let upstream = format!("url = {:?}{heavy}", fixture.url);
            let gateway = Background::gateway(place, &folder, &upstream)?;
            suite(place, &folder, combination, &["server", "--url", &format!("{}/mcp", gateway.url)])?
        }
        Way::Stdio => {
            let program = text(example(place, "conformance_server"))?;
            let upstream = format!("command = {program:?}\nargs = [\"stdio\", \"both\"]");
            let gateway = Background::gateway(place, &folder, &upstream)?;
            suite(place, &folder, combination, &["server", "--url", &format!("{}/mcp", gateway.url)])?
        }
        Way::Client => {
            let words = [example(place, "conformance_client"), program(place, "metamcp"), folder.join("gateway")];
            let words = words.into_iter().map(text).collect::<Result<Vec<_>>>()?;
            if let Some(word) = words.iter().find(|word| word.contains(char::is_whitespace)) {
                bail!("the suite cannot start a client whose path has a blank in it: {word}");
            }
            suite(place, &folder, combination, &["client", "--command", &words.join(" ")])?
        }
    };
    let verdict = judge(&suite, &expected)?;
    println!("{}: {} passed, {} failed", combination.name, verdict.passed, verdict.failed);
    if !verdict.wrong.is_empty() {
        bail!("{}; see {}", verdict.wrong.join("; "), place.shown(&folder));
    }
    let known = if expected.is_empty() { String::new() } else { format!(", {} expected to fail", expected.len()) };
    Ok(Ended::Done(Some(format!("{} passed, {} failed{known}", verdict.passed, verdict.failed))))
}

fn program(place: &Place, name: &str) -> PathBuf {
    place.built.join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

fn example(place: &Place, name: &str) -> PathBuf {
    place.built.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

/// Runs the suite to its end and gives what it printed, which is kept in `suite.log`; its particulars are in `checks`.
fn suite(place: &Place, folder: &Path, combination: &Combination, words: &[&str]) -> Result<String> {
    let bin = place.tools.join("node_modules").join(".bin");
    let script = bin.join("conformance");
    let script = script.to_str().context("the path of the tools folder is not text")?;
    let checks = folder.join("checks");
    let checks = checks.to_str().context("the path of the target folder is not text")?;
    let about = ["--requirements", combination.revision, "--timeout", SCENARIO_MS_MAX, "--output-dir", checks];
    let args: Vec<&str> = [script].iter().chain(words).chain(&about).copied().collect();
    let run = Run::program(place, &bin.join("node"), &args);
    run.announce();
    let log = folder.join("suite.log");
    let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let errors = file.try_clone().context("cannot share a file")?;
    // How it ends is no verdict: it does not count what it calls not scored, and we do.
    let mut command = run.into_command();
    command.stdin(Stdio::null()).stdout(file).stderr(errors).status().context("cannot start the suite")?;
    fs::read_to_string(&log).with_context(|| format!("cannot read {}", log.display()))
}

/// A server that runs while the suite looks at it.
struct Background {
    child: Child,
    url: String,
}

impl Background {
    /// The fixture over HTTP.
    fn fixture(place: &Place, folder: &Path, eras: &str) -> Result<Self> {
        let mut command = Run::program(place, &example(place, "conformance_server"), &["http", eras]).into_command();
        let log = File::create(folder.join("fixture.log")).context("cannot write a log")?;
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn();
        let mut started = Self { child: child.context("cannot start the fixture server")?, url: String::new() };
        let stdout = started.child.stdout.take().context("the fixture server has no standard output")?;
        BufReader::new(stdout).read_line(&mut started.url).context("cannot read the fixture server's address")?;
        started.url.truncate(started.url.trim_end().len());
        if started.url.is_empty() {
            bail!("the fixture server did not start; see {}", place.shown(&folder.join("fixture.log")));
        }
        Ok(started)
    }

    /// The gateway, with this upstream under the names it has itself, and a second real server beside it.
    fn gateway(place: &Place, folder: &Path, upstream: &str) -> Result<Self> {
        let time = place.tools.join("venv").join("bin").join("mcp-server-time");
        let config = format!(
            "builtin.code.enabled = false\n\n[servers.fixture]\n{upstream}\nnaming = \"none\"\n\n\
             [servers.time]\ncommand = {time:?}\n"
        );
        let file = folder.join("metamcp.toml");
        fs::write(&file, config).with_context(|| format!("cannot write {}", file.display()))?;
        let file = file.to_str().context("the path of the target folder is not text")?;
        let args = ["serve", "--memory", "--listen", "127.0.0.1:0", "--config", file];
        let mut command = Run::program(place, &program(place, "metamcp"), &args).into_command();
        let log = folder.join("gateway.log");
        let said = File::create(&log).context("cannot write a log")?;
        // Nothing of the user who runs this is seen.
        command.env("HOME", folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
        let child = command.spawn().context("cannot start metamcp")?;
        let mut started = Self { child, url: String::new() };
        let address = || {
            let said = fs::read_to_string(&log).ok()?;
            let line = said.lines().find(|line| line.contains("is ready at"))?;
            line.split_whitespace().find(|word| word.starts_with("http://")).map(str::to_owned)
        };
        match within(|| address().map(Ok).or_else(|| started.child.try_wait().ok()?.map(Err))) {
            Some(Ok(url)) => started.url = url,
            Some(Err(status)) => bail!("metamcp ended with {status}; see {}", place.shown(&log)),
            None => bail!("metamcp was not ready within {SERVER_S_MAX} s; see {}", place.shown(&log)),
        }
        Ok(started)
    }
}

impl Drop for Background {
    /// Stops it the gentle way first, so that it can stop its own children.
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        if within(|| self.child.try_wait().ok()?).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Looks until something is there; `None` when the time is over.
fn within<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + Duration::from_secs(SERVER_S_MAX);
    let (_never, pause) = mpsc::channel::<()>();
    loop {
        let found = look();
        if found.is_some() || Instant::now() >= end {
            return found;
        }
        let _ = pause.recv_timeout(Duration::from_millis(LOOK_MS));
    }
}

/// What became of a run.
#[derive(Debug, Default, PartialEq)]
struct Verdict {
    passed: u64,
    failed: u64,
    /// What was not to be: failures nobody expects, and passes where a failure is written down.
    wrong: Vec<String>,
}

/// Judges what the suite printed: one line for each scenario, `✓ ping: 2 passed, 0 failed`, scored or not.
fn judge(printed: &str, expected: &BTreeMap<String, String>) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    let mut seen = 0;
    for line in printed.lines() {
        let Some((good, rest)) =
            line.strip_prefix("✓ ").map(|rest| (true, rest)).or_else(|| Some((false, line.strip_prefix("✗ ")?)))
        else {
            continue;
        };
        let Some((scenario, counts)) = rest.split_once(": ") else { continue };
        let count = |word: &str| {
            let part = counts.split(", ").find_map(|part| part.strip_suffix(word)?.trim().parse::<u64>().ok());
            part.with_context(|| format!("the suite's line `{line}` says nothing of what {word}"))
        };
        seen += 1;
        verdict.passed += count("passed")?;
        verdict.failed += count("failed")?;
        match (good, expected.contains_key(scenario)) {
            (false, false) => verdict.wrong.push(format!("{scenario} fails ({counts})")),
            (true, true) => verdict.wrong.push(format!("{scenario} passes: take it out of {EXPECTED}")),
            (true, false) | (false, true) => {}
        }
    }
    if seen == 0 {
        let mut tail = String::new();
        for line in printed.lines().rev().take(5).collect::<Vec<_>>().into_iter().rev() {
            let _ = write!(tail, "\n  {line}");
        }
        bail!("the suite came to no summary; it ended with:{tail}");
    }
    Ok(verdict)
}

/// The scenarios that are expected to fail in a combination, with the reason of each. The file has a list under each combination's name:
/// `- scenario # reason`.
fn expected_of(file: &str, combination: &str) -> Result<BTreeMap<String, String>> {
    let mut within = None;
    let mut expected = BTreeMap::new();
    for line in file.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_suffix(':').filter(|name| !name.starts_with(' ')) {
            if !COMBINATIONS.iter().any(|combination| combination.name == name) {
                bail!("{EXPECTED} names a combination `{name}` that is not run");
            }
            within = Some(name);
        } else if let Some((scenario, reason)) =
            line.trim_start().strip_prefix("- ").and_then(|it| it.split_once(" # "))
        {
            if within == Some(combination) {
                expected.insert(scenario.trim().to_owned(), reason.trim().to_owned());
            }
        } else {
            bail!("{EXPECTED} has a line that is neither `combination:` nor `- scenario # reason`: {line}");
        }
    }
    Ok(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "Running…\n=== SUMMARY ===\n✓ ping: 2 passed, 0 failed\n✗ caching: 7 passed, 1 failed\n\
                           ✓ tasks-lifecycle: 9 passed, 0 failed, 0 warnings\n\nTotal: 18 passed, 1 failed\n\
                           \n  ✓ tasks-lifecycle (extension)\n";

    #[test]
    fn every_scenario_counts_and_only_what_is_written_down_may_fail() {
        let caching = expected_of("fixture-modern:\n  - caching # because\n", "fixture-modern").unwrap();
        let verdict = judge(PRINTED, &caching).unwrap();
        assert_eq!(verdict, Verdict { passed: 18, failed: 1, wrong: Vec::new() });

        let verdict = judge(PRINTED, &BTreeMap::new()).unwrap();
        assert_eq!(verdict.wrong, ["caching fails (7 passed, 1 failed)"]);

        let ping = expected_of("fixture-modern:\n  - caching # because\n  - ping # so\n", "fixture-modern").unwrap();
        let wrong = judge(PRINTED, &ping).unwrap().wrong;
        assert_eq!(wrong, [format!("ping passes: take it out of {EXPECTED}")]);
    }

    #[test]
    fn a_suite_that_did_not_run_is_no_success() {
        let error = judge("SyntaxError: no globSync\n", &BTreeMap::new()).unwrap_err();
        assert_eq!(error.to_string(), "the suite came to no summary; it ended with:\n  SyntaxError: no globSync");
    }

    #[test]
    fn an_expected_failure_needs_a_reason_and_a_combination_that_is_run() {
        assert!(expected_of("fixture-modern:\n  - caching\n", "fixture-modern").is_err());
        assert!(expected_of("nobody:\n", "fixture-modern").is_err());
        assert!(expected_of("fixture-legacy:\n  - ping # so\n", "fixture-modern").unwrap().is_empty());
    }

    #[test]
    fn the_file_of_expected_failures_can_be_read() {
        let place = Place::find().unwrap();
        let file = fs::read_to_string(place.root.join(EXPECTED)).unwrap();
        for combination in COMBINATIONS {
            expected_of(&file, combination.name).unwrap();
        }
    }
}
