//! A private `redis-server`, standalone. The replicated and the clustered kinds are made of the same server with more settings.

use std::{fs, io, path::PathBuf};

use rustix::process::Signal;
use tempfile::TempDir;

use super::{
    port::{STARTS_MAX, free_port},
    process::{Launch, run},
    program::find,
    server::Server,
};

/// What the log of a Redis says once it serves.
const READY: &str = "Ready to accept connections";

/// When Redis brings its append-only file to the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Append {
    /// No file at all: a restart is empty.
    Off,
    /// Written at each command, synced once a second, as the project recommends.
    #[default]
    EverySecond,
    /// Synced at each command.
    Always,
}

/// An ACL account of a private Redis.
#[derive(Clone, Debug)]
pub struct RedisAccount {
    /// Its name.
    pub name: String,
    /// Its password.
    pub password: String,
    /// What it may do, in Redis' words: `~* &* +@all`.
    pub rules: String,
}

/// Files of TLS, all PEM; the certificate should be for `127.0.0.1`.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Who signed the certificate.
    pub ca: PathBuf,
    /// The server's certificate.
    pub cert: PathBuf,
    /// The server's private key.
    pub key: PathBuf,
}

impl TlsFiles {
    /// The lines of a configuration that serve TLS only, to clients and to other servers.
    pub(super) fn conf(&self, port: u16) -> String {
        let Self { ca, cert, key } = self;
        let (ca, cert, key) = (ca.display(), cert.display(), key.display());
        format!(
            "port 0\ntls-port {port}\ntls-auth-clients no\ntls-replication yes\ntls-cluster yes\ntls-ca-cert-file \"{ca}\"\n\
             tls-cert-file \"{cert}\"\ntls-key-file \"{key}\""
        )
    }
}

/// How a private Redis is set up. `..RedisSetup::default()` is durable (append-only file, synced each second) and open.
#[derive(Clone, Debug, Default)]
pub struct RedisSetup {
    /// The append-only file.
    pub append: Append,
    /// Bytes of data at most; none is without bound.
    pub maxmemory_bytes: Option<u64>,
    /// What happens at that bound (`noeviction`, `allkeys-lru`); none is `noeviction`.
    pub maxmemory_policy: Option<String>,
    /// Password of the account `default`.
    pub password: Option<String>,
    /// A second account. Without `password` the account `default` is then switched off.
    pub account: Option<RedisAccount>,
    /// Serve TLS only.
    pub tls: Option<TlsFiles>,
    /// More lines of `redis.conf`.
    pub lines: Vec<String>,
}

impl RedisSetup {
    /// The text of `redis.conf`.
    fn conf(&self, port: u16, dir: &str) -> String {
        let mut lines = vec![
            "bind 127.0.0.1".to_owned(),
            format!("dir \"{dir}\""),
            "save \"\"".to_owned(),
            // The start of a replica must not wait for others that may want the same copy.
            "repl-diskless-sync-delay 0".to_owned(),
        ];
        lines.push(match self.append {
            Append::Off => "appendonly no".to_owned(),
            Append::EverySecond => "appendonly yes\nappendfsync everysec".to_owned(),
            Append::Always => "appendonly yes\nappendfsync always".to_owned(),
        });
        lines.extend(self.maxmemory_bytes.map(|bytes| format!("maxmemory {bytes}")));
        lines.extend(self.maxmemory_policy.as_ref().map(|policy| format!("maxmemory-policy {policy}")));
        if let Some(password) = &self.password {
            lines.push(format!("requirepass \"{password}\"\nmasterauth \"{password}\""));
        }
        if let Some(RedisAccount { name, password, rules }) = &self.account {
            lines.push(format!("user {name} on >{password} {rules}"));
            if self.password.is_none() {
                lines.push("user default off".to_owned());
            }
        }
        lines.push(self.tls.as_ref().map_or_else(|| format!("port {port}"), |tls| tls.conf(port)));
        lines.extend(self.lines.iter().cloned());
        lines.join("\n") + "\n"
    }

    /// Name and password to log in with, if any is needed.
    fn login(&self) -> Option<(&str, &str)> {
        let default = self.password.as_deref().map(|password| ("default", password));
        default.or_else(|| self.account.as_ref().map(|account| (account.name.as_str(), account.password.as_str())))
    }

    /// `NAME:PASSWORD@` for a URL, or nothing.
    pub(super) fn userinfo(&self) -> String {
        self.login().map(|(name, password)| format!("{name}:{password}@")).unwrap_or_default()
    }

    /// `s` for the scheme of a URL with TLS, and the parameter `ca=FILE`; or nothing.
    pub(super) fn tls_url(&self) -> (&'static str, String) {
        self.tls.as_ref().map_or_else(Default::default, |tls| ("s", format!("ca={}", tls.ca.display())))
    }

    /// Refuses what a replicated or clustered Redis of ours cannot do: its servers log in at each other with `password` only.
    pub(super) fn for_many(&self) -> io::Result<()> {
        if self.account.is_none() {
            return Ok(());
        }
        let told = "only a standalone private Redis takes an account: use `password`";
        Err(io::Error::new(io::ErrorKind::InvalidInput, told))
    }
}

/// A running `redis-server` on a loopback port, with a data directory of its own. Dropping it kills it and removes its data.
#[derive(Debug)]
pub struct RedisServer {
    setup: RedisSetup,
    port: u16,
    server: Server,
    _dir: TempDir,
}

impl RedisServer {
    /// Starts a server and waits until it serves.
    ///
    /// # Errors
    /// When `redis-server` is missing or does not start; the end of its log is told.
    pub async fn start(setup: RedisSetup) -> io::Result<Self> {
        for _ in 1..STARTS_MAX {
            match Self::start_on(setup.clone(), free_port()?).await {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                started => return started,
            }
        }
        Self::start_on(setup, free_port()?).await
    }

    /// Starts a server on one port.
    pub(super) async fn start_on(setup: RedisSetup, port: u16) -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        let conf = dir.path().join("redis.conf");
        fs::write(&conf, setup.conf(port, &dir.path().display().to_string()))?;
        let launch = Launch {
            program: find("redis-server")?,
            args: vec![conf.into()],
            account: None,
            log: dir.path().join("redis.log"),
        };
        Ok(Self { setup, port, server: Server::start(launch, READY, Signal::TERM).await?, _dir: dir })
    }

    /// `redis://…/0`, or `rediss://…/0?ca=FILE` with TLS; with name and password if it asks for them.
    pub fn url(&self) -> String {
        let scheme = if self.setup.tls.is_some() { "rediss" } else { "redis" };
        let ca = self.setup.tls.as_ref().map(|tls| format!("?ca={}", tls.ca.display())).unwrap_or_default();
        format!("{scheme}://{}127.0.0.1:{}/0{ca}", self.setup.userinfo(), self.port)
    }

    /// Its port, the same for its whole life.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process, or `None` while it is down.
    pub fn pid(&self) -> Option<u32> {
        self.server.pid()
    }

    /// Ends it as an operator would (SIGTERM) and waits for the end. No error when it is down.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub async fn stop(&mut self) -> io::Result<()> {
        self.server.stop().await
    }

    /// SIGKILL, and waits until it is gone. No error when it is down.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub async fn kill(&mut self) -> io::Result<()> {
        self.server.kill().await
    }

    /// Starts it again on the same port and data, stopping it first if it runs.
    ///
    /// # Errors
    /// When it does not start; the end of its log is told.
    pub async fn restart(&mut self) -> io::Result<()> {
        self.server.restart().await
    }

    /// SIGSTOP: it keeps its connections and answers nothing.
    ///
    /// # Errors
    /// When it is down.
    pub fn pause(&self) -> io::Result<()> {
        self.server.signal(Signal::STOP)
    }

    /// SIGCONT: it goes on.
    ///
    /// # Errors
    /// When it is down.
    pub fn resume(&self) -> io::Result<()> {
        self.server.signal(Signal::CONT)
    }

    /// Sends one command through `redis-cli` and gives the answer in its raw form, one element a line.
    ///
    /// # Errors
    /// When the server is down or answers with an error, which is told.
    pub async fn cli(&self, words: &[&str]) -> io::Result<String> {
        redis_cli(self.port, &self.setup, words).await
    }
}

/// One command through `redis-cli`.
pub(super) async fn redis_cli(port: u16, setup: &RedisSetup, words: &[&str]) -> io::Result<String> {
    let mut command = find("redis-cli")?.command();
    command.args(["-e", "--raw", "-h", "127.0.0.1", "-p"]).arg(port.to_string());
    if let Some((name, password)) = setup.login() {
        command.args(["--user", name]).env("REDISCLI_AUTH", password);
    }
    if let Some(tls) = &setup.tls {
        command.arg("--tls").arg("--cacert").arg(&tls.ca);
    }
    command.args(words);
    run(command).await
}
