//! Connects to a server that is a child process, one process for all callers, started again with backoff when it died.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fmt,
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use metamcp_core::{
    id::ServerName,
    transport::{Connector, Delivered, McpTransport, TransportError, TransportErrorKind},
};
use tokio::sync::Mutex;

use super::{
    aside::{Another, Beside},
    backoff::Backoff,
    child::{self, Ended, EndedWatch, Program},
    duplex::Duplex,
    handover::Handover,
    handshake::Refusal,
    redact,
    session::Session,
    way::error,
};
use crate::wire::era::Era;

/// A server that is started as a child process and spoken to over its stdin and stdout.
///
/// The child has its configured environment and a few plain variables of ours (`PATH`, `HOME`, locale), nothing else. It leads a process
/// group of its own; closing ends the whole group: stdin closed, SIGTERM, SIGKILL, two seconds between each.
///
/// Without a [`launcher`](Self::launcher), a parent that is killed (SIGKILL) leaves behind what does not end by itself when its stdin
/// is closed.
///
/// ```no_run
/// use metamcp_core::{id::ServerName, transport::Connector};
/// use metamcp_mcp_adapters::upstream::StdioConnector;
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let git = StdioConnector::new(ServerName::new("git")?, "uvx").args(["mcp-server-git"]);
/// let transport = git.connect().await?;
/// for tool in transport.discover().await?.tools {
///     println!("{tool:?}");
/// }
/// transport.close().await;
/// # Ok(())
/// # }
/// ```
pub struct StdioConnector {
    server: ServerName,
    program: Program,
    secret_args: BTreeSet<usize>,
    only: Option<Era>,
    handover: Option<Arc<Handover>>,
    /// Held while connecting, so that all callers share one child.
    life: Mutex<Life>,
}

#[derive(Default)]
struct Life {
    current: Option<(Weak<Session>, EndedWatch)>,
    /// How it was spoken to last time.
    era: Option<Era>,
    backoff: Backoff,
}

impl StdioConnector {
    /// A server that `command` starts: a path, or a name on `PATH`. It is run as it is, by no shell.
    pub fn new(server: ServerName, command: impl Into<String>) -> Self {
        let program = Program { command: command.into(), ..Program::default() };
        Self { server, program, secret_args: BTreeSet::new(), only: None, handover: None, life: Mutex::default() }
    }

    /// With these arguments.
    #[must_use]
    pub fn args<T: Into<String>>(mut self, args: impl IntoIterator<Item = T>) -> Self {
        self.program.args = args.into_iter().map(Into::into).collect();
        self
    }

    /// The arguments at these positions are never shown, whatever they look like.
    #[must_use]
    pub fn secret_args(mut self, positions: impl IntoIterator<Item = usize>) -> Self {
        self.secret_args = positions.into_iter().collect();
        self
    }

    /// With these variables in its environment. Values are never shown.
    #[must_use]
    pub fn envs(mut self, env: impl IntoIterator<Item = (String, String)>) -> Self {
        self.program.env.extend(env);
        self
    }

    /// In this directory instead of ours.
    #[must_use]
    pub fn cwd(mut self, cwd: impl Into<PathBuf>) -> Self {
        self.program.cwd = Some(cwd.into());
        self
    }

    /// Shares the requests that wait for answers with other processes.
    #[must_use]
    pub fn handover(mut self, handover: Arc<Handover>) -> Self {
        self.handover = Some(handover);
        self
    }

    /// Speaks this era only, without asking.
    #[must_use]
    pub const fn era(mut self, era: Era) -> Self {
        self.only = Some(era);
        self
    }

    /// Starts the child by this command line, which ends in [`launch`](super::launch): then nothing of it outlives us, even when we are
    /// killed. Our pid, the command and its arguments are added.
    #[must_use]
    pub fn launcher(mut self, launcher: impl IntoIterator<Item = OsString>) -> Self {
        self.program.launcher = Some(launcher.into_iter().collect());
        self
    }

    async fn attempt(&self, era: Option<Era>) -> Result<(Arc<Session>, EndedWatch), Refusal> {
        let (process, stdin, stdout) = child::spawn(&self.server, &self.program).map_err(Refusal::Final)?;
        let ended = process.ended();
        let way = Duplex::new(self.server.clone(), "stdio", stdout, stdin, Some(process));
        let another = Box::new(AnotherChild { server: self.server.clone(), program: self.program.clone() });
        let handover = self.handover.clone();
        Ok((Session::open(Arc::new(way), self.server.clone(), era, handover, Some(another)).await?, ended))
    }

    async fn start(&self, life: &mut Life) -> Result<(Arc<Session>, EndedWatch), TransportError> {
        let known = self.only.or(life.era);
        let refusal = match self.attempt(known).await {
            Ok(started) => return Ok(started),
            Err(refusal) => refusal,
        };
        let (error, again) = match refusal {
            // It died of a question it did not know: a fresh one is spoken to as of old.
            Refusal::Died(error) if self.only.is_none() => (error, Some(Some(Era::Legacy))),
            // What it was last time it need not be any more.
            Refusal::Final(error) if self.only.is_none() && life.era.take().is_some() => (error, Some(None)),
            Refusal::Died(error) | Refusal::Final(error) => (error, None),
        };
        let Some(era) = again else { return Err(error) };
        tracing::debug!(server = %self.server, %error, ?era, "starting it once more");
        match self.attempt(era).await {
            Ok(started) => Ok(started),
            Err(Refusal::Died(error) | Refusal::Final(error)) => Err(error),
        }
    }
}

/// Starts the same program once more.
struct AnotherChild {
    server: ServerName,
    program: Program,
}

#[async_trait]
impl Another for AnotherChild {
    async fn open(&self) -> Result<Arc<dyn Beside>, TransportError> {
        let (process, stdin, stdout) = child::spawn(&self.server, &self.program)?;
        let way = Duplex::new(self.server.clone(), "stdio", stdout, stdin, Some(process));
        let opened = Session::open(Arc::new(way), self.server.clone(), Some(Era::Legacy), None, None).await;
        match opened {
            Ok(session) => Ok(session),
            Err(Refusal::Died(error) | Refusal::Final(error)) => Err(error),
        }
    }
}

impl fmt::Debug for AnotherChild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnotherChild").field("server", &self.server).finish_non_exhaustive()
    }
}

#[async_trait]
impl Connector for StdioConnector {
    /// The one child of this connector, started if there is none. Fails at once while a child that died is in its pause.
    async fn connect(&self) -> Result<Arc<dyn McpTransport>, TransportError> {
        let mut life = self.life.lock().await;
        if let Some((current, ended)) = &mut life.current {
            if let Some(session) = current.upgrade().filter(|session| !session.is_closed()) {
                return Ok(session);
            }
            // The one before is ending, within bounds; two at once could be in each other's way.
            let ended = ended.wait_for(Option::is_some).await.ok().and_then(|ended| ended.clone());
            life.current = None;
            if let Some(Ended { by_itself: true, lived, .. }) = ended {
                life.backoff.died(lived);
            }
        }
        if let Some(wait) = life.backoff.remaining() {
            let what = format!("died, and is started again in {} ms", wait.as_millis().max(1));
            let down = error(&self.server, TransportErrorKind::Connect, Delivered::No, what);
            return Err(down.with_retry_after(Some(wait)));
        }
        match self.start(&mut life).await {
            Ok((session, ended)) => {
                life.era = Some(session.era());
                life.current = Some((Arc::downgrade(&session), ended));
                Ok(session)
            }
            Err(mut error) => {
                life.backoff.died(Duration::ZERO);
                // Nothing was called yet, whatever broke.
                if error.kind == TransportErrorKind::Closed {
                    error.kind = TransportErrorKind::Connect;
                }
                error.delivered = Delivered::No;
                let pause = life.backoff.remaining();
                Err(error.with_retry_after(pause))
            }
        }
    }

    fn target(&self) -> String {
        redact::command_line(&self.program.command, &self.program.args, &self.secret_args)
    }
}

/// Shows no value of the environment.
impl fmt::Debug for StdioConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Program { env, cwd, launcher, .. } = &self.program;
        let env: BTreeMap<_, _> = env.keys().map(|name| (name, "…")).collect();
        f.debug_struct("StdioConnector")
            .field("server", &self.server)
            .field("target", &self.target())
            .field("env", &env)
            .field("cwd", cwd)
            .field("launcher", launcher)
            .finish_non_exhaustive()
    }
}
