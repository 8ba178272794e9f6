//! A server that runs in this process: accept loop, worker, and the note by which other commands find it. It ends gently, and in order.

use std::{
    io,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use metamcp_core::engine::Worker;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{exit::Failure, presence::Note, threads::threads};
use crate::{
    config::{Config, StoreKind},
    serve::{self, Cores, Drained, ServeOptions},
    wire::{self, App},
};

/// A listener, or words for why there is none; `flag` chooses the address.
///
/// # Errors
/// When the address cannot be listened on; `is_taken` tells whether another process does.
pub(super) async fn bind(address: SocketAddr, flag: &'static str) -> Result<TcpListener, Unbound> {
    TcpListener::bind(address).await.map_err(|error| Unbound { address, flag, error })
}

/// An address that cannot be listened on.
#[derive(Debug)]
pub(super) struct Unbound {
    address: SocketAddr,
    flag: &'static str,
    error: io::Error,
}

impl Unbound {
    /// Whether another process listens there.
    pub(super) fn is_taken(&self) -> bool {
        self.error.kind() == io::ErrorKind::AddrInUse
    }
}

impl From<Unbound> for Failure {
    fn from(unbound: Unbound) -> Self {
        let Unbound { address, flag, error } = &unbound;
        let mend = if unbound.is_taken() {
            format!(
                "another process listens there; stop it, or choose another {flag}, such as 127.0.0.1:0 for a free port"
            )
        } else {
            format!("choose another {flag}")
        };
        Self::failed(format!("cannot listen on {address}: {error}; {mend}"))
    }
}

/// Longest wait for a shared store that is not there yet, in seconds.
const STORE_WAIT_S_MAX: u64 = 60;
/// First and longest pause between two tries, in milliseconds.
const STORE_PAUSE_MS: (u64, u64) = (250, 5_000);

/// Builds the engine; waits for a shared store that is not there yet, as when all machines start at once.
///
/// # Errors
/// When the store cannot be opened.
pub(super) async fn open(config: &Config) -> Result<App, Failure> {
    let end = Instant::now() + Duration::from_secs(STORE_WAIT_S_MAX);
    let mut pause_ms = STORE_PAUSE_MS.0;
    loop {
        // Boxed: connecting to a store keeps 16 KiB of state that who waits for it need not carry.
        match Box::pin(wire::build(config)).await {
            Err(error) if config.store.is_shared() && wire::is_down(&error) && Instant::now() < end => {
                tracing::warn!(error = format!("{error:#}"), pause_ms, "the store is not there yet");
                // Not all machines at the same instant.
                let jitter = rand::random_range(0.5..1.5);
                tokio::time::sleep(Duration::from_millis(pause_ms).mul_f64(jitter)).await;
                pause_ms = (pause_ms * 2).min(STORE_PAUSE_MS.1);
            }
            outcome => return Ok(outcome?),
        }
    }
}

/// A server that runs.
pub(super) struct Running {
    /// Where it is.
    pub(super) url: String,
    app: App,
    worker: Option<Worker>,
    serving: JoinHandle<io::Result<Drained>>,
    stop: CancellationToken,
    grace: Duration,
    note: Option<Note>,
    /// Last: what runs on them is closed with the rest before.
    _cores: Cores,
}

impl Running {
    /// Opens the store, starts the worker if there is to be one, and serves on the listener. No MCP server is waited for; the
    /// gateway starts them in the background.
    ///
    /// # Errors
    /// When the store cannot be opened, or does not come up within [`STORE_WAIT_S_MAX`].
    pub(super) async fn start(config: &Config, listener: TcpListener, works: bool) -> Result<Self, Failure> {
        let address = listener.local_addr().map_err(anyhow::Error::from)?;
        let url = format!("http://{address}");
        let app = open(config).await?;
        app.describe(&format!("metamcp serve, {url}"));
        let note =
            (config.store == StoreKind::Embedded).then(|| leave_note(&config.server.data_dir, address)).flatten();
        let worker = works.then(|| app.start_worker());
        let (stop, grace) = (CancellationToken::new(), config.server.drain);
        let cores =
            Cores::start(threads()).map_err(|error| Failure::failed(format!("cannot start threads: {error}")))?;
        let options = ServeOptions {
            connections_max: config.server.limits.connections_max,
            grace,
            drain: app.drain(),
            runtimes: cores.handles().to_vec(),
            ..ServeOptions::default()
        };
        let mount = app.mount().await?;
        let serving = tokio::spawn(serve::run(listener, mount, options, stop.clone().cancelled_owned()));
        Ok(Self { url, app, worker, serving, stop, grace, note, _cores: cores })
    }

    /// Where jobs are kept, for people.
    pub(super) fn place(&self) -> &str {
        self.app.place()
    }

    /// Stops accepting, lets running calls end within the grace, gives the rest back, ends children, and closes the store.
    ///
    /// # Errors
    /// When the accept loop had failed.
    pub(super) async fn stop(self) -> Result<(), Failure> {
        drop(self.note);
        self.stop.cancel();
        let drained = async {
            if let Some(worker) = self.worker {
                worker.drain(self.grace).await;
            }
        };
        let (served, ()) = tokio::join!(self.serving, drained);
        self.app.close().await;
        match served {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(Failure::failed(format!("the server failed: {error}"))),
            Err(error) => Err(Failure::failed(format!("the server failed: {error}"))),
        }
    }
}

/// Other commands find the server by it; without it they need `--server`.
fn leave_note(data_dir: &Path, address: SocketAddr) -> Option<Note> {
    let reachable = match (address.ip().is_unspecified(), address.ip()) {
        (true, std::net::IpAddr::V4(_)) => SocketAddr::from(([127, 0, 0, 1], address.port())),
        (true, std::net::IpAddr::V6(_)) => SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, address.port())),
        (false, _) => address,
    };
    Note::leave(data_dir, &format!("http://{reachable}"))
        .inspect_err(|error| tracing::warn!(%error, "other commands will not find this server by its data folder"))
        .ok()
}
