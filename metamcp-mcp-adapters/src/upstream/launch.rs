//! Stands between us and a child process, so that nothing of it is left behind when we are killed.
//!
//! A program that embeds this crate gives [`StdioConnector::launcher`](super::StdioConnector::launcher) a command line that runs itself
//! and ends in [`launch`]. That process leads the child's process group, starts the real command with the pipes it inherited, and ends
//! with it. When its parent is gone it ends the whole group, also grandchildren that ignore SIGTERM. A process that leaves the group on
//! purpose (`setsid`) is not reached.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Write},
    os::unix::process::ExitStatusExt,
    process::{Command, ExitCode, ExitStatus},
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitOptions, getpgrp, getpid, getppid, kill_process_group, wait};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::sleep,
};

/// How often it looks whether its parent is still there.
const PARENT_POLL_MS: u64 = 100;
/// How long a group may take after SIGTERM when the parent is gone.
const ORPHAN_TERM_MS: u64 = 1_000;
/// How long it may take when we were told to end; our parent usually is faster.
const TERM_MS: u64 = 4_000;
/// How long what a child left behind may take after SIGTERM.
const LEFT_BEHIND_TERM_MS: u64 = 500;
/// The exit code of shells for a command that cannot be run.
const CANNOT_RUN: u8 = 127;

/// Runs a command under supervision, to be called by a process made for nothing else.
///
/// `args` are what follows the launcher's own words on its command line: the pid of its parent, the command, its arguments. The exit code
/// is the command's, 127 when it cannot be started. Blocks until the command has ended; ends this process, with its group, when the
/// parent has.
pub fn launch(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args = args.into_iter();
    let parent = args.next().and_then(|pid| Pid::from_raw(pid.to_str()?.parse().ok()?));
    let (Some(parent), Some(command)) = (parent, args.next()) else {
        tell("expected the pid of the parent and a command");
        return ExitCode::from(CANNOT_RUN);
    };
    match supervise(parent, &command, args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            tell(&format!("cannot start `{}`: {error}; is it installed and on PATH?", command.to_string_lossy()));
            ExitCode::from(CANNOT_RUN)
        }
    }
}

/// Who reads stderr may be gone.
fn tell(what: &str) {
    let _ = writeln!(io::stderr(), "launcher: {what}");
}

fn supervise(parent: Pid, command: &OsString, args: impl Iterator<Item = OsString>) -> io::Result<u8> {
    if getpgrp() != getpid() {
        return Err(io::Error::other("the launcher must lead a process group of its own"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _entered = runtime.enter();
    // Before the child is there: from now on SIGTERM to the group does not end us first.
    let mut told_to_end = signal(SignalKind::terminate())?;
    // What the child leaves behind becomes ours, so that we know when nobody is left.
    #[cfg(target_os = "linux")]
    rustix::process::set_child_subreaper(Some(getpid()))?;
    let child = Command::new(command).args(args).spawn()?;
    // The ends of the pipes are the child's alone.
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;

    let (tell_exit, mut exited) = mpsc::channel(1);
    let child_pid = child.id().cast_signed();
    std::thread::spawn(move || reap(child_pid, &tell_exit));
    runtime.block_on(async {
        tokio::select! {
            status = exited.recv() => return left_behind(status.unwrap_or_default()).await,
            () = orphaned(parent) => {
                end_group(Signal::TERM);
                sleep(Duration::from_millis(ORPHAN_TERM_MS)).await;
            },
            _ = told_to_end.recv() => {
                tokio::select! {
                    status = exited.recv() => return left_behind(status.unwrap_or_default()).await,
                    () = orphaned(parent) => {},
                    () = sleep(Duration::from_millis(TERM_MS)) => {},
                }
            },
        }
        end_group(Signal::KILL);
        Ok(CANNOT_RUN)
    })
}

/// Reaps every child there ever is; tells the status of the one that was started.
fn reap(child: i32, tell_exit: &mpsc::Sender<ExitStatus>) {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_pid() == child => {
                let status = ExitStatus::from_raw(status.as_raw());
                if !status.success() {
                    tell(&format!("the command ended ({status})"));
                }
                let _ = tell_exit.try_send(status);
                return;
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// Waits until the parent is another one than it was.
async fn orphaned(parent: Pid) {
    while getppid() == Some(parent) {
        sleep(Duration::from_millis(PARENT_POLL_MS)).await;
    }
}

/// Ends what a child left behind, and gives its exit code.
async fn left_behind(status: ExitStatus) -> io::Result<u8> {
    let nobody_left = || matches!(wait(WaitOptions::NOHANG), Err(rustix::io::Errno::CHILD));
    if !nobody_left() {
        end_group(Signal::TERM);
        let mut waited_ms = 0;
        while !nobody_left() {
            if waited_ms >= LEFT_BEHIND_TERM_MS {
                end_group(Signal::KILL);
            }
            sleep(Duration::from_millis(20)).await;
            waited_ms += 20;
        }
    }
    // As shells do: a signal is 128 and its number.
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}

/// Signals every process of our group; SIGKILL ends us too.
fn end_group(signal: Signal) {
    let _ = kill_process_group(getpgrp(), signal);
}
