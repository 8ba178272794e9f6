//! The real binary as tests use it: in a home of its own, with a bound on every wait, and a server that is stopped by its pid.

#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader, Read, Write as _},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// The binary under test.
pub(crate) const METAMCP: &str = env!("CARGO_BIN_EXE_metamcp");
/// Longest wait for anything that is sure to happen, in seconds; generous, as machines may be busy.
pub(crate) const WAIT_S_MAX: u64 = 60;
/// Pause between two looks, in milliseconds.
const LOOK_MS: u64 = 20;

/// A home folder with a data folder in it; nothing of the user who runs the tests is seen.
pub(crate) struct Home {
    dir: tempfile::TempDir,
}

/// What a command did.
#[derive(Debug)]
pub(crate) struct Done {
    /// `None`: a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    /// Standard output as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e} in {self:#?}"))
    }

    /// The same, but only with this exit code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }
}

impl Home {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary folder") }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.path().join("data")
    }

    /// Writes a file of the home and answers its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, text).expect("the home is writable");
        path
    }

    /// A configuration with the server `notes`, whose trace is in `notes.txt`.
    pub(crate) fn notes_config(&self, more: &str) -> PathBuf {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/notes.py");
        let text = format!(
            "{more}\n[servers.notes]\ncommand = {python:?}\nargs = [{script:?}]\nenv = {{ NOTES = {notes:?}, MARK = \"${{MARK:-none}}\" }}\n",
            python = python(),
            notes = self.path().join("notes.txt"),
        );
        self.file("metamcp.toml", &text)
    }

    /// Every call that left a trace, as `tool key`.
    pub(crate) fn notes(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path().join("notes.txt")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(METAMCP);
        command.args(args).env_clear().current_dir(self.path());
        command.env("HOME", self.path()).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
    }

    /// Runs a command to its end, with nothing on its standard input.
    #[track_caller]
    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Done {
        self.run_with(args, "")
    }

    /// Runs a command to its end, with this text on its standard input.
    #[track_caller]
    pub(crate) fn run_with<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>, input: &str) -> Done {
        finish(spawn(&mut self.command(args)), input)
    }
}

/// Starts a command with all its streams piped.
#[track_caller]
pub(crate) fn spawn(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts")
}

/// Waits for the end of a child; one that does not end is killed, and the test fails.
#[track_caller]
pub(crate) fn finish(mut child: Child, input: &str) -> Done {
    let mut stdin = child.stdin.take().expect("piped");
    // It may end without reading.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let stdout = read_all(child.stdout.take().expect("piped"));
    let stderr = read_all(child.stderr.take().expect("piped"));
    let ended = within(Duration::from_secs(WAIT_S_MAX), || child.try_wait().expect("it is our child"));
    if ended.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let (stdout, stderr) = (stdout.join().expect("no panic"), stderr.join().expect("no panic"));
    let Some(status) = ended else {
        panic!("it did not end within {WAIT_S_MAX} s\nstdout: {stdout}\nstderr: {stderr}")
    };
    Done { code: status.code(), signal: status.signal(), stdout, stderr }
}

fn read_all(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Looks until something is there, or the time is over.
pub(crate) fn within<T>(time: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + time;
    let (_never, pause) = mpsc::channel::<()>();
    loop {
        let found = look();
        if found.is_some() || Instant::now() >= end {
            return found;
        }
        let _ = pause.recv_timeout(Duration::from_millis(LOOK_MS));
    }
}

/// Waits for something that is sure to happen.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(Duration::from_secs(WAIT_S_MAX), look).unwrap_or_else(|| panic!("{what}: not within {WAIT_S_MAX} s"))
}

/// A running `metamcp serve`.
pub(crate) struct Serve {
    pub(crate) child: Child,
    pub(crate) url: String,
    stderr: mpsc::Receiver<String>,
}

impl Serve {
    /// Starts a server on a free port and waits until it is ready.
    #[track_caller]
    pub(crate) fn start(home: &Home, args: &[&str]) -> Self {
        let data = home.data_dir();
        let mut command = home.command(["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--data-dir"]);
        command.arg(data).args(args);
        Self::of(&mut command)
    }

    /// Waits until this server is ready.
    #[track_caller]
    pub(crate) fn of(command: &mut Command) -> Self {
        let mut child = spawn(command);
        let stderr = lines(child.stderr.take().expect("piped"));
        let mut said = Vec::new();
        let end = Instant::now() + Duration::from_secs(WAIT_S_MAX);
        while let Ok(line) = stderr.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if let Some(url) = line.split_whitespace().find(|word| word.starts_with("http://"))
                && line.contains("is ready at")
            {
                return Self { url: url.to_owned(), child, stderr };
            }
            said.push(line);
        }
        let _ = child.kill();
        let _ = child.wait();
        panic!("the server did not become ready; it said:\n{}", said.join("\n"));
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Waits for the end; answers the exit code and what was said since the server was ready.
    #[track_caller]
    pub(crate) fn wait(mut self) -> (Option<i32>, String) {
        let status = eventually("the server's end", || self.child.try_wait().expect("it is our child"));
        let said: Vec<String> = self.stderr.iter().collect();
        (status.code(), said.join("\n"))
    }

    /// Kills it as a power cut would, and reaps it.
    pub(crate) fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(from: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    told
}

/// Sends a signal by its name to one process.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().expect("kill is there");
    assert!(status.success(), "no signal to {pid}");
}

/// A mark that no other test, nor another run of this one, uses.
pub(crate) fn own(mark: &str) -> String {
    format!("{mark}-{}", std::process::id())
}

/// The pids of processes that have `MARK=mark` in their environment; Linux tells, elsewhere nobody has.
pub(crate) fn marked(mark: &str) -> Vec<u32> {
    let wanted = format!("MARK={mark}");
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let has_mark = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    };
    pids.filter(has_mark).collect()
}

/// The interpreter itself, not a launcher script that stands before it on PATH.
pub(crate) fn python() -> String {
    let found = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
    let found = found.expect("python3 is there, as the README asks");
    String::from_utf8_lossy(&found.stdout).trim().to_owned()
}
