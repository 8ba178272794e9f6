//! Where a command finds its engine: a server that was named, the server that owns the data folder, or an engine in this process.

use std::{pin::pin, time::Duration};

use metamcp_core::engine::Worker;
use tokio::time::timeout;

use super::{
    args::{BackendArgs, ConfigArgs},
    client::Client,
    exit::Failure,
    log,
    presence::Presence,
};
use crate::{
    config::{Config, Sources, StoreKind},
    wire::{self, App},
};

/// How long a server that left a note may take to say that it is there, in milliseconds.
const ALIVE_MS_MAX: u64 = 1_000;
/// Most jobs at a time of a command with an engine of its own: it came for one, but others that wait in the data folder go first.
const LOCAL_JOBS_MAX: u16 = 4;
/// How long such a command waits for calls of other tasks before it says so, in milliseconds.
const QUIET_MS: u64 = 200;

/// An engine with the client that speaks to it.
pub(super) struct Backend {
    pub(super) client: Client,
    local: Option<Local>,
}

struct Local {
    app: App,
    worker: Option<Worker>,
    durable: bool,
    /// Others work on the same store: their jobs are not this command's to take.
    shared: bool,
    /// How long calls that run may go on when the command ends.
    grace: Duration,
}

impl Backend {
    /// Finds a server, or builds an engine in this process. The log is started on the way.
    ///
    /// # Errors
    /// When the configuration cannot be used, or the data folder belongs to a process that is no server.
    pub(super) async fn find(args: &BackendArgs) -> Result<Self, Failure> {
        if let Some(address) = args.server.as_ref().filter(|_| !args.config.memory) {
            start_log(&args.config)?;
            return Ok(Self { client: Client::http(address)?, local: None });
        }
        let config = Config::load(&args.config.sources())?;
        log::start(&config.log, "warn");
        if config.store == StoreKind::Embedded
            && let Some(presence) = Presence::read(&config.server.data_dir)
        {
            let client = Client::http(&presence.url)?;
            if client.is_alive(Duration::from_millis(ALIVE_MS_MAX)).await {
                if args.config.config.is_some() || !args.config.mcp_config.is_empty() {
                    eprintln!(
                        "note: using the server at {}, which has a configuration of its own; --memory runs it in this process",
                        presence.url
                    );
                }
                return Ok(Self { client, local: None });
            }
        }
        let app = wire::build(&config).await?;
        let client = Client::in_process(app.router());
        let durable = config.store != StoreKind::Memory;
        Ok(Self {
            client,
            local: Some(Local {
                app,
                worker: None,
                durable,
                shared: config.store.is_shared(),
                grace: config.server.drain,
            }),
        })
    }

    /// Lets an engine in this process work on its jobs; a server does that by itself.
    pub(super) fn work(&mut self) {
        if let Some(local) = self.local.as_mut().filter(|local| !local.shared) {
            local.worker.get_or_insert_with(|| local.app.start_small_worker(LOCAL_JOBS_MAX));
        }
    }

    /// What becomes of a task that nobody here waits for, when no server works on it.
    pub(super) fn waits_for_a_server(&self) -> Option<&'static str> {
        let local = self.local.as_ref()?;
        Some(if local.durable {
            "nobody works here: the task waits in the store until `metamcp serve`, `metamcp worker` or the next `metamcp run`"
        } else {
            "with --memory and nobody waiting, the task is gone when this command ends"
        })
    }

    /// Ends an engine in this process as a server ends: no further job is taken, calls that run may end within the grace, what does not is
    /// given back, and its children end.
    pub(super) async fn close(self) {
        let Some(Local { app, worker, grace, .. }) = self.local else { return };
        drop(self.client);
        if let Some(worker) = worker {
            let mut draining = pin!(worker.drain(grace));
            if timeout(Duration::from_millis(QUIET_MS), &mut draining).await.is_err() {
                let seconds = grace.as_secs();
                eprintln!(
                    "note: other tasks of the data folder run here; they have up to {seconds} s to end (server.drain_s)"
                );
                draining.await;
            }
        }
        app.close().await;
    }
}

/// With a named server only the log is of interest here: the rest of the configuration is the server's.
fn start_log(args: &ConfigArgs) -> Result<(), Failure> {
    let sources = Sources { file: None, no_user_file: true, mcp_files: Vec::new(), ..args.sources() };
    log::start(&Config::load(&sources)?.log, "warn");
    Ok(())
}
