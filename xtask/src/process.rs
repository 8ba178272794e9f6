//! Runs the steps of a command: the plan first, then each step with its name and seconds, then a summary that hides no failure.
//! Also knows where the repository and the tools folder are and starts child programs there. It decides nothing about what runs.

use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

/// Environment variable that moves the tools folder; children get it too, always absolute.
pub(crate) const TOOLS_DIR: &str = "METAMCP_TOOLS_DIR";

/// Where the repository and its tools folder are.
pub(crate) struct Place {
    /// The workspace root.
    pub(crate) root: PathBuf,
    /// `.xtask`, or what `METAMCP_TOOLS_DIR` says.
    pub(crate) tools: PathBuf,
    /// Where cargo puts what it builds for this profile; xtask itself was built there.
    pub(crate) built: PathBuf,
}

impl Place {
    pub(crate) fn find() -> Result<Self> {
        // Cargo sets the variable when it runs us; the constant serves a binary started by hand.
        let manifest = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&manifest).parent().context("xtask must stand in a folder of the workspace")?.to_owned();
        let tools = match env::var_os(TOOLS_DIR).filter(|dir| !dir.is_empty()) {
            Some(dir) => std::path::absolute(dir).with_context(|| format!("{TOOLS_DIR} is not a path"))?,
            None => root.join(".xtask"),
        };
        let me = env::current_exe().context("cannot tell where xtask was built")?;
        let built = me.parent().context("xtask was built outside a folder")?.to_owned();
        Ok(Self { root, tools, built })
    }

    /// `path` as seen from the root, for people.
    pub(crate) fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }
}

/// A child program with its line as a person would type it.
pub(crate) struct Run {
    command: Command,
    shown: String,
}

impl Run {
    /// `cargo ARGS` at the root, with the tools folder known and its programs on the path.
    pub(crate) fn cargo(place: &Place, args: &[&str]) -> Self {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut run = Self::program(place, Path::new(&cargo), args);
        run.shown = line("cargo", args);
        run
    }

    /// Any program at the root, in the same surroundings.
    pub(crate) fn program(place: &Place, program: &Path, args: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(args).current_dir(&place.root).env(TOOLS_DIR, &place.tools).env("PATH", search_path(place));
        // What cargo told us about xtask's own package would make build scripts that watch these variables run again.
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
                command.env_remove(name);
            }
        }
        Self { command, shown: line(&place.shown(program), args) }
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self.shown = format!("{name}={} {}", quoted(value), self.shown);
        self
    }

    /// More arguments, at the end of the line.
    pub(crate) fn args(mut self, args: &[String]) -> Self {
        for arg in args {
            self.command.arg(arg);
            let _ = write!(self.shown, " {}", quoted(arg));
        }
        self
    }

    /// The command itself, for a program that runs beside others.
    pub(crate) fn into_command(self) -> Command {
        self.command
    }

    /// Prints the line, for a step whose plan could not know it.
    pub(crate) fn announce(&self) {
        println!("{}", self.shown);
    }

    /// Runs it on our terminal; anything but success is an error.
    pub(crate) fn status(mut self) -> Result<()> {
        let status = self.command.status().with_context(|| format!("cannot start `{}`", self.shown))?;
        if !status.success() {
            bail!("`{}` ended with {status}", self.shown);
        }
        Ok(())
    }

    /// Runs it and gives what it printed; its errors still go to our terminal.
    pub(crate) fn output(mut self) -> Result<String> {
        let output = self.command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
        let output = output.with_context(|| format!("cannot start `{}`", self.shown))?;
        if !output.status.success() {
            bail!("`{}` ended with {}", self.shown, output.status);
        }
        String::from_utf8(output.stdout).with_context(|| format!("`{}` printed something that is not text", self.shown))
    }

    /// What it prints to `--version` and the like, or `None` if it is not there or does not work. Says nothing itself.
    pub(crate) fn probe(mut self) -> Option<String> {
        let output = self.command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Becomes the program, so that signals reach it without a process between; comes back only with an error.
    #[cfg(unix)]
    pub(crate) fn replace_us(mut self) -> Result<()> {
        use std::os::unix::process::CommandExt as _;
        let error = self.command.exec();
        Err(error).with_context(|| format!("cannot start `{}`", self.shown))
    }

    /// Runs the program to its end: this system cannot replace a process.
    #[cfg(not(unix))]
    pub(crate) fn replace_us(self) -> Result<()> {
        self.status()
    }
}

fn search_path(place: &Place) -> OsString {
    let old = env::var_os("PATH").unwrap_or_default();
    let ours = place.tools.join("cargo").join("bin");
    env::join_paths(std::iter::once(ours).chain(env::split_paths(&old))).unwrap_or(old)
}

fn line(program: &str, args: &[&str]) -> String {
    let mut line = quoted(program);
    for arg in args {
        let _ = write!(line, " {}", quoted(arg));
    }
    line
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:@,+".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.to_owned() } else { format!("'{word}'") }
}

/// How a step that did not fail ended.
pub(crate) enum Ended {
    /// It did its work; the note, if any, is for the summary.
    Done(Option<String>),
    /// It was left out, for this reason.
    Skipped(String),
}

/// One line of a plan.
pub(crate) struct Step<'a> {
    name: &'static str,
    about: String,
    essential: bool,
    work: Box<dyn FnOnce() -> Result<Ended> + 'a>,
}

impl<'a> Step<'a> {
    /// A step that is one child program.
    pub(crate) fn run(name: &'static str, run: Run) -> Self {
        let about = run.shown.clone();
        Self::work(name, about, move || {
            run.announce();
            run.status().map(|()| Ended::Done(None))
        })
    }

    /// A step in our own words.
    pub(crate) fn work(
        name: &'static str,
        about: impl Into<String>,
        work: impl FnOnce() -> Result<Ended> + 'a,
    ) -> Self {
        Self { name, about: about.into(), essential: false, work: Box::new(work) }
    }

    /// A step that is left out this time, told rather than dropped.
    pub(crate) fn skipped(name: &'static str, why: &'static str) -> Self {
        Self::work(name, format!("left out: {why}"), move || Ok(Ended::Skipped(why.to_owned())))
    }

    /// Without this one the later steps make no sense.
    pub(crate) fn essential(mut self) -> Self {
        self.essential = true;
        self
    }
}

/// Prints the plan, takes each step, prints how each ended; an error if any failed. Later steps still run unless an essential one failed.
pub(crate) fn take(steps: Vec<Step<'_>>) -> Result<()> {
    let width = steps.iter().map(|step| step.name.len()).max().unwrap_or(0);
    println!("plan");
    for step in &steps {
        println!("  {:width$}  {}", step.name, step.about);
    }
    let (mut summary, mut passed, mut failed, mut skipped) = (String::new(), 0, 0, 0);
    let mut stopped_by = None;
    for step in steps {
        let name = step.name;
        let (word, seconds, note) = if let Some(culprit) = stopped_by {
            skipped += 1;
            ("skip", 0.0, format!("not reached: `{culprit}` failed"))
        } else {
            println!("\n==> {name}");
            let started = Instant::now();
            let ended = (step.work)();
            let seconds = started.elapsed().as_secs_f64();
            match ended {
                Ok(Ended::Done(note)) => {
                    passed += 1;
                    ("ok", seconds, note.unwrap_or_default())
                }
                Ok(Ended::Skipped(why)) => {
                    skipped += 1;
                    ("skip", seconds, why)
                }
                Err(error) => {
                    failed += 1;
                    stopped_by = step.essential.then_some(name);
                    ("FAIL", seconds, format!("{error:#}"))
                }
            }
        };
        let told = format!("{word:4}  {name:width$}  {seconds:7.1} s  {note}");
        println!("{}", told.trim_end());
        let _ = writeln!(summary, "  {}", told.trim_end());
    }
    println!("\nsummary\n{summary}steps: {passed} passed, {failed} failed, {skipped} skipped");
    if failed > 0 {
        bail!("{failed} of {} steps failed", passed + failed + skipped);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn noting<'a>(name: &'static str, seen: &'a RefCell<Vec<&'static str>>, works: bool) -> Step<'a> {
        Step::work(name, "", move || {
            seen.borrow_mut().push(name);
            if works { Ok(Ended::Done(None)) } else { bail!("broken") }
        })
    }

    #[test]
    fn a_failed_step_fails_the_command_but_not_the_steps_after_it() {
        let seen = RefCell::new(Vec::new());
        let steps = vec![noting("one", &seen, false), Step::skipped("two", "because"), noting("three", &seen, true)];
        assert_eq!(take(steps).unwrap_err().to_string(), "1 of 3 steps failed");
        assert_eq!(*seen.borrow(), ["one", "three"]);
    }

    #[test]
    fn a_failed_essential_step_stops_the_rest() {
        let seen = RefCell::new(Vec::new());
        let steps = vec![noting("one", &seen, false).essential(), noting("two", &seen, true)];
        assert_eq!(take(steps).unwrap_err().to_string(), "1 of 2 steps failed");
        assert_eq!(*seen.borrow(), ["one"]);
    }

    #[test]
    fn a_shown_line_can_be_pasted_into_a_shell() {
        let place = Place::find().unwrap();
        let run = Run::cargo(&place, &["doc"]).env("RUSTDOCFLAGS", "-D warnings").args(&["a b".to_owned()]);
        assert_eq!(run.shown, "RUSTDOCFLAGS='-D warnings' cargo doc 'a b'");
    }

    #[test]
    fn a_program_that_fails_or_is_missing_is_an_error_that_names_it() {
        let place = Place::find().unwrap();
        let error = Run::cargo(&place, &["--no-such-flag"]).output().unwrap_err();
        assert!(error.to_string().starts_with("`cargo --no-such-flag` ended with exit status"), "{error}");
        let missing = Run::program(&place, Path::new("no-such-program"), &[]);
        assert_eq!(missing.status().unwrap_err().to_string(), "cannot start `no-such-program`");
    }
}
