//! Workers and API replicas as real processes of the real binary, each behind proxies of its own, and what happens to such processes.

use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use metamcp_mcp_adapters::testing::{CutProxy, ProxyMode};

use crate::{
    engine::Engine,
    support::{METAMCP, python, signal, within},
};

/// Lost leases after which a job is dead.
pub(crate) const LOST_MAX: u32 = 4;
/// Jobs a worker takes on at a time.
const CONCURRENCY: u32 = 6;
/// How long a process may take to stop, in seconds.
const STOP_S_MAX: u64 = 40;
/// A port nobody listens on: where a front proxy leads before its replica is up.
const NOWHERE: u16 = 9;
/// The file that the tools write to.
const TRACE: &str = "trace.jsonl";
/// What a replica says when it serves.
const READY: &str = "metamcp is ready at http://127.0.0.1:";

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Worker,
    Replica,
}

/// One process, dead or alive, and the proxies it is seen through.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) role: Role,
    /// Between it and the store, where the store lets it be.
    pub(crate) back: Option<CutProxy>,
    /// Between callers and a replica.
    pub(crate) front: Option<CutProxy>,
    store: String,
    dir: PathBuf,
    config: PathBuf,
    child: Option<Child>,
    /// Where in its log this life of it began.
    log_from: u64,
    /// The replica's port is still to be told to the front proxy.
    is_new: bool,
    /// When it goes on after a stop, or is started again after a death.
    pub(crate) resumes_at: Option<Instant>,
    pub(crate) deaths: u32,
}

impl Member {
    async fn new(name: String, role: Role, engine: &Engine, dir: &Path, config: &Path) -> Self {
        let back = match engine.port() {
            Some(port) => Some(CutProxy::start(port).await.expect("a proxy starts")),
            None => None,
        };
        let front = match role {
            Role::Replica => Some(CutProxy::start(NOWHERE).await.expect("a proxy starts")),
            Role::Worker => None,
        };
        let store = engine.url(back.as_ref().map(CutProxy::port));
        let (dir, config) = (dir.to_owned(), config.to_owned());
        let mut member = Self {
            name,
            role,
            back,
            front,
            store,
            dir,
            config,
            child: None,
            log_from: 0,
            is_new: false,
            resumes_at: None,
            deaths: 0,
        };
        member.start();
        member
    }

    fn log(&self) -> PathBuf {
        self.dir.join(format!("{}.log", self.name))
    }

    fn start(&mut self) {
        let log: File = OpenOptions::new().create(true).append(true).open(self.log()).expect("a log file");
        self.log_from = log.metadata().expect("a log file").len();
        let mut command = Command::new(METAMCP);
        match self.role {
            Role::Worker => command.arg("worker"),
            Role::Replica => command.args(["serve", "--no-worker", "--listen", "127.0.0.1:0"]),
        };
        command.arg("--store").arg(&self.store).arg("--config").arg(&self.config).args(["--log", "warn"]);
        command.env_clear().env("HOME", &self.dir).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.current_dir(&self.dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().expect("the binary starts"));
        self.is_new = self.role == Role::Replica;
        self.resumes_at = None;
    }

    pub(crate) fn is_up(&self) -> bool {
        self.child.is_some() && self.resumes_at.is_none()
    }

    /// SIGKILL; it is started again after `down`.
    pub(crate) fn kill(&mut self, down: Duration) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
            self.resumes_at = Some(Instant::now() + down);
        }
    }

    /// SIGSTOP; it goes on after `time`.
    pub(crate) fn stop_for(&mut self, time: Duration) {
        if let Some(child) = &self.child {
            signal(child.id(), "STOP");
            self.resumes_at = Some(Instant::now() + time);
        }
    }

    /// Notices a death, starts or resumes what is due, and tells the front proxy where the replica is.
    fn look(&mut self) {
        if self.child.as_mut().is_some_and(|child| child.try_wait().expect("it is our child").is_some()) {
            // Poison, not us.
            self.deaths += 1;
            self.child = None;
            self.resumes_at = Some(Instant::now());
        }
        if self.resumes_at.is_some_and(|at| at <= Instant::now()) {
            self.resume();
        }
        if self.is_new
            && let Some(front) = &self.front
        {
            let log = fs::read(self.log()).expect("a log file");
            let log = String::from_utf8_lossy(&log[usize::try_from(self.log_from).expect("small")..]).into_owned();
            let port = log.split_once(READY).map(|(_, rest)| rest.chars().take_while(char::is_ascii_digit).collect());
            if let Some(port) = port.and_then(|port: String| port.parse().ok()) {
                front.set_target(port);
                self.is_new = false;
            }
        }
    }

    fn resume(&mut self) {
        self.resumes_at = None;
        match &self.child {
            Some(child) => signal(child.id(), "CONT"),
            None => self.start(),
        }
    }

    /// Nothing stands between it and the others any more.
    fn heal(&mut self) {
        for proxy in self.back.iter().chain(&self.front) {
            proxy.set_mode(ProxyMode::Pass);
        }
        if self.resumes_at.is_some() {
            self.resume();
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// All processes.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) members: Vec<Member>,
    dir: PathBuf,
}

impl Fleet {
    /// Starts all; they may need a while until they serve.
    pub(crate) async fn start(engine: &Engine, dir: &Path, workers: usize, replicas: usize) -> Self {
        let config = dir.join("metamcp.toml");
        fs::write(&config, settings(&dir.join(TRACE))).expect("a configuration");
        let mut members = Vec::new();
        let roles = [(Role::Worker, "worker", workers), (Role::Replica, "replica", replicas)];
        for (role, word, count) in roles {
            for number in 1..=count {
                members.push(Member::new(format!("{word}{number}"), role, engine, dir, &config).await);
            }
        }
        Self { members, dir: dir.to_owned() }
    }

    /// Where callers find the replicas.
    pub(crate) fn urls(&self) -> Vec<String> {
        let fronts = self.members.iter().filter_map(|member| member.front.as_ref());
        fronts.map(|front| format!("http://127.0.0.1:{}", front.port())).collect()
    }

    pub(crate) fn look(&mut self) {
        self.members.iter_mut().for_each(Member::look);
    }

    pub(crate) fn heal(&mut self) {
        self.members.iter_mut().for_each(Member::heal);
    }

    /// Workers that died without our doing.
    pub(crate) fn deaths(&self) -> u32 {
        self.members.iter().map(|member| member.deaths).sum()
    }

    /// What the tools left behind.
    pub(crate) fn trace(&self) -> String {
        fs::read_to_string(self.dir.join(TRACE)).unwrap_or_default()
    }

    /// SIGTERM to all. Answers who did not end well.
    pub(crate) fn stop(mut self) -> Vec<String> {
        for member in &self.members {
            if let Some(child) = &member.child {
                signal(child.id(), "TERM");
            }
        }
        let mut wrong = Vec::new();
        for member in &mut self.members {
            let Some(mut child) = member.child.take() else { continue };
            let ended = within(Duration::from_secs(STOP_S_MAX), || child.try_wait().expect("it is our child"));
            if !ended.is_some_and(|status| status.success()) {
                wrong.push(format!("{} ended with {ended:?}", member.name));
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        wrong
    }
}

/// Short leases, few losses, quick retries: what takes minutes elsewhere is to happen here in seconds.
fn settings(trace: &Path) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chaos/tools.py");
    format!(
        "[server]\ndrain_s = 5\n[worker]\nconcurrency = {CONCURRENCY}\n\
         [jobs]\nlease_s = 3\nlost_max = {LOST_MAX}\nattempts_max = 10\nbackoff_base_ms = 50\nbackoff_max_s = 1\n\
         [builtin.code]\nenabled = false\n\
         [servers.tools]\ncommand = {python:?}\nargs = [{script:?}]\nenv = {{ TRACE = {trace:?} }}\n",
        python = python(),
    )
}
