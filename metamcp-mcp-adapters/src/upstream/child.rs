//! A server as a child process: started in a process group of its own, its stderr logged, and reaped whatever happens.
//!
//! The end is always the same: stdin is closed, then SIGTERM, then SIGKILL to the whole group, each with its time. Dropping everything
//! kills the group at once. What a killed parent leaves behind is `launch`'s business.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use metamcp_core::{
    id::ServerName,
    transport::{Delivered, TransportError, TransportErrorKind},
};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::way::error;
use crate::wire::line::{Line, LineReader};

/// How long a server may take to end by itself after its stdin was closed.
const STDIN_CLOSED_MS: u64 = 2_000;
/// How long it may take after SIGTERM.
const TERM_MS: u64 = 2_000;
/// How long the kernel may take after SIGKILL.
const KILL_MS: u64 = 5_000;
/// How long the last lines of stderr are waited for.
const LOG_DRAIN_MS: u64 = 200;
/// Longest line of stderr that is logged, in bytes.
const STDERR_LINE_BYTES_MAX: usize = 8 << 10;
/// Lines of stderr logged in a second; more are counted.
const STDERR_LINES_PER_S_MAX: u32 = 50;
/// Most of the last line that an error message repeats, in bytes.
const LAST_LINE_BYTES_MAX: usize = 300;

/// What a child has of our environment besides what its configuration says: enough to find programs, home and language, no secrets.
const ENV_INHERITED: [&str; 12] = [
    "HOME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "LOGNAME",
    "PATH",
    "SHELL",
    "TERM",
    "TMPDIR",
    "TZ",
    "USER",
    "XDG_RUNTIME_DIR",
];

/// What is to be started.
#[derive(Clone, Default)]
pub(super) struct Program {
    pub(super) command: String,
    pub(super) args: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    pub(super) cwd: Option<PathBuf>,
    /// Goes before our pid and the command.
    pub(super) launcher: Option<Vec<OsString>>,
}

/// How a child ended.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    /// In words, with its own last words if nobody wanted it to end.
    pub(super) words: String,
    /// Whether that was not our wish.
    pub(super) by_itself: bool,
    /// How long it ran.
    pub(super) lived: Duration,
}

/// Has a value once the child was reaped.
pub(super) type EndedWatch = watch::Receiver<Option<Ended>>;

/// A running child.
#[derive(Debug)]
pub(super) struct Process {
    closing: CancellationToken,
    wanted: Arc<AtomicBool>,
    ended: EndedWatch,
}

impl Process {
    /// Cancelling it ends the child.
    pub(super) fn closing(&self) -> CancellationToken {
        self.closing.clone()
    }

    /// Tells how it ended.
    pub(super) fn ended(&self) -> EndedWatch {
        self.ended.clone()
    }

    /// Ends the child; it is reaped when this returns.
    pub(super) async fn stop(&self) {
        self.wanted.store(true, Ordering::Release);
        self.closing.cancel();
        // An error means that the runtime dropped the task, and that killed the group.
        let _ = self.ended.clone().wait_for(Option::is_some).await;
    }
}

/// Starts the program.
///
/// # Errors
/// When it cannot be started; nothing was delivered.
pub(super) fn spawn(
    server: &ServerName,
    program: &Program,
) -> Result<(Process, ChildStdin, ChildStdout), TransportError> {
    let refuse = |what: String| error(server, TransportErrorKind::Connect, Delivered::No, what);
    if let Some(cwd) = &program.cwd
        && !cwd.is_dir()
    {
        return Err(refuse(format!("`cwd` {} is not a directory", cwd.display())));
    }
    let mut command = match program.launcher.as_deref() {
        Some([launcher, rest @ ..]) => {
            let mut command = Command::new(launcher);
            command.args(rest).arg(std::process::id().to_string()).arg(&program.command);
            command
        }
        Some([]) | None => Command::new(&program.command),
    };
    command.args(&program.args).env_clear();
    command.envs(ENV_INHERITED.iter().filter_map(|name| Some((*name, std::env::var_os(name)?))));
    command.envs(&program.env);
    if let Some(cwd) = &program.cwd {
        command.current_dir(cwd);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.process_group(0).kill_on_drop(true).spawn().map_err(|source| {
        refuse(format!("cannot start `{}`: {source}; is it installed and on PATH?", program.command))
            .with_source(source)
    })?;
    let group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (stdin, stdout) = (stdin.expect("stdin is piped"), stdout.expect("stdout is piped"));
    let log = tokio::spawn(log(server.clone(), stderr.expect("stderr is piped")));
    let (closing, wanted) = (CancellationToken::new(), Arc::<AtomicBool>::default());
    let (tell, ended) = watch::channel(None);
    let reaper = Reaper { server: server.clone(), group, child, wanted: Arc::clone(&wanted), log };
    tokio::spawn(reaper.run(closing.clone(), tell));
    Ok((Process { closing, wanted, ended }, stdin, stdout))
}

/// The child's process group; what is left of it is killed on drop.
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // An error means that nobody is left.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

struct Reaper {
    server: ServerName,
    group: Group,
    child: Child,
    wanted: Arc<AtomicBool>,
    /// Gives the last line of stderr.
    log: JoinHandle<String>,
}

impl Reaper {
    async fn run(mut self, closing: CancellationToken, ended: watch::Sender<Option<Ended>>) {
        let born = Instant::now();
        let status = match closing.run_until_cancelled(self.child.wait()).await {
            Some(status) => status.ok(),
            None => self.end().await,
        };
        // The child may have left children of its own.
        drop(self.group);
        let by_itself = !self.wanted.load(Ordering::Acquire);
        let mut words = match status {
            Some(status) => format!("the process ended ({status})"),
            None => "the process cannot be reaped".to_owned(),
        };
        if by_itself {
            // Who left the group may hold stderr open.
            if let Ok(Ok(last)) = timeout(Duration::from_millis(LOG_DRAIN_MS), self.log).await
                && !last.is_empty()
            {
                words = format!("{words}; its last words: {last}");
            }
            tracing::warn!(server = %self.server, words, "child process ended by itself");
        } else {
            tracing::debug!(server = %self.server, words, "child process ended");
        }
        ended.send_replace(Some(Ended { words, by_itself, lived: born.elapsed() }));
    }

    /// Ends the child, ever less gently.
    async fn end(&mut self) -> Option<ExitStatus> {
        for (signal, grace_ms) in
            [(None, STDIN_CLOSED_MS), (Some(Signal::TERM), TERM_MS), (Some(Signal::KILL), KILL_MS)]
        {
            if let Some(signal) = signal {
                self.group.signal(signal);
            }
            if let Ok(status) = timeout(Duration::from_millis(grace_ms), self.child.wait()).await {
                return status.ok();
            }
        }
        None
    }
}

/// Puts stderr into the log, line by line; gives the last one.
async fn log(server: ServerName, stderr: ChildStderr) -> String {
    let mut last = String::new();
    let mut lines = LineReader::new(stderr, STDERR_LINE_BYTES_MAX);
    let (mut second, mut told, mut dropped) = (Instant::now(), 0_u32, 0_u64);
    while let Ok(Some(line)) = lines.next().await {
        let line = match line {
            Line::Text(text) => String::from_utf8_lossy(text).trim_end().to_owned(),
            Line::TooLong { bytes, .. } => format!("(a line of {bytes} bytes)"),
        };
        if line.is_empty() {
            continue;
        }
        if second.elapsed() >= Duration::from_secs(1) {
            if dropped > 0 {
                tracing::warn!(target: "metamcp::stderr", %server, dropped, "lines of stderr were not logged");
            }
            (second, told, dropped) = (Instant::now(), 0, 0);
        }
        if told < STDERR_LINES_PER_S_MAX {
            told += 1;
            tracing::info!(target: "metamcp::stderr", %server, "{line}");
        } else {
            dropped += 1;
        }
        last = line;
        last.truncate(last.floor_char_boundary(LAST_LINE_BYTES_MAX));
    }
    last
}
