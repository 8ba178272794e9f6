//! One server process that belongs to us: started on a log file of its own, awaited until it says it is ready, signalled and
//! killed by its pid, and dead at the latest when its owner dies, however that happens. It knows no server by name.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{OnceLock, mpsc},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tokio::time::{Instant, timeout};

use super::{patience::Patience, program::Program};

/// Longest wait for a process to end once asked, in seconds; then it is killed.
const STOP_S_MAX: u64 = 20;
/// Longest wait for a process that is to end at once, in milliseconds, and the pause between two looks.
const QUIT_MS_MAX: u64 = 2_000;
const QUIT_LOOK_MS: u64 = 2;
/// Longest run of a helper program such as `initdb`, in seconds.
const HELPER_S_MAX: u64 = 120;
/// Lines of a log that are shown when a start fails.
const TOLD_LINES_MAX: usize = 20;
/// Bytes of the end of a log that are read for them.
const TOLD_BYTES_MAX: usize = 8 * 1024;
/// What every server writes when another process was faster to take its port.
const PORT_TAKEN: &str = "Address already in use";
/// Accounts a server may run as when we are root, the first that is there; PostgreSQL refuses to run as root.
const HUMBLE: [&str; 2] = ["postgres", "nobody"];

/// An account that is not root.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Account {
    /// The account to step down to, or `None` when we are nobody special already.
    pub(super) fn humble() -> io::Result<Option<Self>> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        let known = fs::read_to_string("/etc/passwd")?;
        let found = HUMBLE.iter().find_map(|name| known.lines().find_map(|line| Self::in_line(line, name)));
        let missing = || io::Error::other(format!("we are root and there is no account {}", HUMBLE.join(" or ")));
        found.map(Some).ok_or_else(missing)
    }

    fn in_line(line: &str, name: &str) -> Option<Self> {
        let mut fields = line.strip_prefix(name)?.strip_prefix(':')?.split(':').skip(1);
        Some(Self { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
    }
}

/// What to start.
#[derive(Clone, Debug)]
pub(super) struct Launch {
    pub(super) program: Program,
    pub(super) args: Vec<OsString>,
    pub(super) account: Option<Account>,
    /// Gets what the process prints, anew at each start.
    pub(super) log: PathBuf,
}

impl Launch {
    /// The line to run. On Linux `setpriv` (of util-linux) asks the kernel to kill the process when its parent dies.
    fn command(&self) -> Command {
        let mut words: Vec<OsString> = Vec::new();
        if cfg!(target_os = "linux") {
            words.extend(["setpriv", "--pdeathsig", "KILL"].map(OsString::from));
            if let Some(Account { uid, gid }) = self.account {
                words.extend(
                    [format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".to_owned()]
                        .map(OsString::from),
                );
            }
            words.push("--".into());
        }
        words.push(self.program.path().into());
        words.extend(self.args.iter().cloned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        if let Some(libraries) = self.program.libraries() {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command
    }

    /// Runs a helper to its end and gives what it printed.
    pub(super) async fn run(&self) -> io::Result<String> {
        run(self.command().into()).await
    }
}

/// Runs a helper program to its end and gives what it printed.
///
/// # Errors
/// When it cannot start, fails, or takes longer than `HELPER_S_MAX`; what it printed is told.
pub(super) async fn run(mut command: tokio::process::Command) -> io::Result<String> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let Ok(output) = timeout(Duration::from_secs(HELPER_S_MAX), command.output()).await else {
        let told = format!("`{program}` took longer than {HELPER_S_MAX} s");
        return Err(io::Error::new(io::ErrorKind::TimedOut, told));
    };
    let output = output?;
    let printed = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() {
        return Ok(printed);
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("`{program}` ended with {}: {printed} {}", output.status, complaint.trim())))
}

/// A running server.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `launch`; the server may need a while until it answers, see [`ready`](Self::ready).
    pub(super) fn start(launch: &Launch) -> io::Result<Self> {
        let log = File::create(&launch.log)?;
        let mut command = launch.command();
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let line = format!("{} {}", command.get_program().display(), launch.program.path().display());
        let named = |error: io::Error| io::Error::new(error.kind(), format!("cannot start `{line}`: {error}"));
        Ok(Self { child: spawn(command).map_err(named)?, log: launch.log.clone() })
    }

    /// Waits until the log says `words`.
    ///
    /// # Errors
    /// `AddrInUse` when another process took the port first; the end of the log when the server died or said nothing in time.
    pub(super) async fn ready(&mut self, words: &str) -> io::Result<()> {
        let patience = Patience::new("a server to be ready");
        loop {
            // Looked at before the log, so that the last words of a dead server are not missed.
            let ended = self.child.try_wait()?;
            let log = fs::read(&self.log)?;
            let log = String::from_utf8_lossy(&log);
            if ended.is_none() && log.contains(words) {
                return Ok(());
            }
            if log.contains(PORT_TAKEN) {
                self.kill().await?;
                return Err(io::Error::new(io::ErrorKind::AddrInUse, tail(&log)));
            }
            if let Some(status) = ended {
                return Err(io::Error::other(format!("the server ended with {status}:\n{}", tail(&log))));
            }
            patience.pause().await.map_err(|late| io::Error::new(late.kind(), format!("{late}:\n{}", tail(&log))))?;
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends one signal; the pid is ours as long as nobody has waited for the child.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        kill_process(Pid::from_child(&self.child), signal).map_err(io::Error::from)
    }

    /// Asks with `signal`, waits for the end, and kills what does not end within `STOP_S_MAX`.
    pub(super) async fn stop(&mut self, signal: Signal) -> io::Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        self.signal(signal)?;
        let end = Instant::now() + Duration::from_secs(STOP_S_MAX);
        let patience = Patience::new("a server to end");
        while self.child.try_wait()?.is_none() {
            if Instant::now() >= end {
                return self.kill().await;
            }
            patience.pause().await?;
        }
        Ok(())
    }

    /// Whether it ends within `QUIT_MS_MAX`. Blocks the thread meanwhile, for where nothing can be awaited.
    #[expect(
        clippy::disallowed_methods,
        reason = "it is called where a value is dropped, for milliseconds, and in tests only"
    )]
    pub(super) fn ends_soon(&mut self) -> bool {
        let end = std::time::Instant::now() + Duration::from_millis(QUIT_MS_MAX);
        loop {
            match self.child.try_wait() {
                Ok(None) if std::time::Instant::now() < end => thread::sleep(Duration::from_millis(QUIT_LOOK_MS)),
                ended => return matches!(ended, Ok(Some(_))),
            }
        }
    }

    /// SIGKILL, and waits until the process is gone.
    pub(super) async fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        let patience = Patience::new("a killed server to be gone");
        while self.child.try_wait()?.is_none() {
            patience.pause().await?;
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The processes that `pid` has started and not yet waited for; empty where the system does not tell.
pub(super) fn children(pid: u32) -> Vec<u32> {
    let told = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    told.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// Waits until none of `pids` runs any more; one that nobody has waited for yet counts as gone.
pub(super) async fn gone(pids: &[u32]) -> io::Result<()> {
    // The command line of a process that has ended is empty, even while its entry stays.
    let runs = |pid: &u32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty());
    let patience = Patience::new("the processes of a killed server to be gone");
    while pids.iter().any(runs) {
        patience.pause().await?;
    }
    Ok(())
}

/// Kills by number what is not a child of ours; one that has ended already is no error.
pub(super) fn kill_by_number(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Starts `command` from a thread that lives as long as this process: the kernel's "parent" that must stay alive is the
/// thread that started the child, and a runtime's threads come and go.
fn spawn(command: Command) -> io::Result<Child> {
    type Order = (Command, mpsc::Sender<io::Result<Child>>);
    static NURSERY: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let nursery = NURSERY.get_or_init(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, answer) in inbox {
                let _ = answer.send(command.spawn());
            }
        });
        orders
    });
    let (answer, started) = mpsc::channel();
    let ended = |_| io::Error::other("the thread that starts servers has ended");
    nursery.send((command, answer)).map_err(|_| ended(mpsc::RecvError))?;
    started.recv().map_err(ended)?
}

/// The last lines of a log.
fn tail(log: &str) -> String {
    let mut from = log.len().saturating_sub(TOLD_BYTES_MAX);
    while !log.is_char_boundary(from) {
        from += 1;
    }
    let lines: Vec<&str> = log[from..].lines().collect();
    lines[lines.len().saturating_sub(TOLD_LINES_MAX)..].join("\n")
}
