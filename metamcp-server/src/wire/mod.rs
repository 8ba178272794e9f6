//! The one room that names concrete adapters: configuration goes in, an engine with its stores, servers and API comes out.
//!
//! Nothing here connects to a server: connectors are made, and used when a task first needs them.

mod learning;
mod matcher;
mod stores;

use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context as _, Result};
use axum::Router;
use metamcp_core::{
    engine::{Orchestrator, Policy, ServerEntry, Worker, WorkerOptions},
    id::ServerName,
    matching::{Catalog, ServerTerms},
    queue::Shares,
    task::Resources,
    time::{Clock, SystemClock},
};
use metamcp_mcp_adapters::{
    discover::ServerSpec,
    gateway::{Gateway, GatewayService, HttpOptions},
    servers::code::{CodeConfig, CodeServer, in_process, serve_stdio},
    upstream::{Handover, launch},
};
use tokio_util::sync::CancellationToken;

use self::learning::Learning;
pub use self::matcher::matcher;
use self::matcher::{table, words};
pub use self::stores::{Stores, is_down, open as open_stores};

use crate::{
    api::{self, ApiOptions, ApiState},
    config::{BUILTIN_CODE, Config, GatewaySection},
    serve::Mount,
};

/// The word by which this program runs itself between it and a child process, so that no child outlives it.
pub const SUPERVISE: &str = "supervise-child";

/// Heartbeats in the time a lease lasts: two may be lost without losing the lease.
const HEARTBEATS_PER_LEASE: u32 = 3;

/// An engine that is ready to take tasks, with what belongs to it.
#[derive(Debug)]
pub struct App {
    engine: Orchestrator,
    stores: Stores,
    worker: WorkerOptions,
    api: ApiOptions,
    gateway: GatewaySection,
    learning: Learning,
}

/// Builds everything that `config` asks for.
///
/// # Errors
/// When the store cannot be opened, as when another process owns its folder, or our own server cannot be set up. [`is_down`] tells whether
/// the store may be there later.
pub async fn build(config: &Config) -> Result<App> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let stores = open_stores(config).await?;
    let mut builder = Orchestrator::builder()
        .clock(clock)
        .policy(policy(config))
        .jobs(Arc::clone(&stores.jobs))
        .results(Arc::clone(&stores.results))
        .events(Arc::clone(&stores.events))
        .records(Arc::clone(&stores.records));
    let table = table(&config.matcher)?;
    let learning = Learning::start(&config.matcher, &stores, table.clone()).await;
    builder = builder.matcher(learning.matcher(words(&config.matcher, table)));
    if let Some(roots) = &config.code_roots {
        builder = builder.servers([code(roots)?]);
    }
    let launcher = launcher()?;
    // A data folder belongs to one process: nobody else could bring an answer.
    let handover = stores.directory.is_none().then(|| Arc::new(Handover::new(Arc::clone(&stores.records))));
    for server in config.enabled_servers() {
        builder = builder.servers([entry(&server.spec, &launcher, handover.as_ref())?]);
    }
    let limits = &config.server.limits;
    let api = ApiOptions {
        body_bytes_max: limits.body_bytes_max,
        wait_ms_max: limits.wait_ms_max,
        loopback_only: config.server.listen.ip().is_loopback(),
        allowed_hosts: config.server.allowed_hosts.clone(),
        ..ApiOptions::default()
    };
    Ok(App { engine: builder.build(), stores, worker: worker(config), api, gateway: config.gateway.clone(), learning })
}

impl App {
    /// The REST API over the engine.
    pub fn router(&self) -> Router {
        let state = ApiState::new(self.engine.clone(), self.api.clone());
        api::router(state.with_history(Arc::clone(self.learning.keeper())))
    }

    /// The gateway to all servers. It begins to connect to them in the background.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn gateway(&self) -> Result<Gateway> {
        let records = Arc::clone(&self.stores.records);
        let gateway = Gateway::builder(self.engine.clone(), records).options(self.gateway.options.clone());
        gateway.build().await.context("the gateway cannot be set up")
    }

    /// The API, and beside it the gateway if there is to be one.
    ///
    /// # Errors
    /// When the store cannot be used.
    pub async fn mount(&self) -> Result<Mount> {
        if !self.gateway.enabled {
            return Ok(Mount::new(self.router(), None));
        }
        let mut options = HttpOptions::default();
        options.body_bytes_max = self.api.body_bytes_max;
        options.body_read = self.api.body_read;
        options.loopback_only = self.api.loopback_only;
        options.allowed_hosts.clone_from(&self.api.allowed_hosts);
        options.drain = self.api.drain.clone();
        Ok(Mount::new(self.router(), Some(GatewayService::new(self.gateway().await?, options))))
    }

    /// `/livez` and `/readyz` alone, for a process without the API.
    pub fn health_router(&self) -> Router {
        api::health_router(ApiState::new(self.engine.clone(), self.api.clone()))
    }

    /// The tools that the configured servers offer; those that were never connected are, for a bounded time.
    pub async fn tools(&self) -> Arc<Catalog> {
        self.engine.tools().await
    }

    /// Cancelled when the process drains: streams and waits of the API end.
    pub fn drain(&self) -> CancellationToken {
        self.api.drain.clone()
    }

    /// Starts to work on jobs in this process.
    pub fn start_worker(&self) -> Worker {
        self.engine.worker(self.worker.clone())
    }

    /// The same, with at most so many jobs at a time.
    pub fn start_small_worker(&self, jobs_max: u16) -> Worker {
        let options = self.worker.clone();
        let jobs = options.concurrency.min(jobs_max);
        self.engine.worker(options.with_concurrency(jobs))
    }

    /// Where jobs are kept, for people.
    pub fn place(&self) -> &str {
        &self.stores.place
    }

    /// Changes what another process is told when it wants the same data folder.
    pub fn describe(&self, about: &str) {
        if let Some(store) = &self.stores.directory
            && let Err(error) = store.describe_owner(about)
        {
            tracing::warn!(%error, "the owner of the data folder is not described");
        }
    }

    /// Ends connections and children, then lets go of the store. Drain the worker first.
    pub async fn close(self) {
        self.engine.close().await;
        let Self { engine, stores, learning, .. } = self;
        drop(engine);
        learning.stop().await;
        stores.close().await;
    }
}

/// Runs as the supervisor of a child process; `words` is what the connector put behind [`SUPERVISE`].
pub fn supervise(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    launch(words)
}

/// Serves our own server `code` on standard input and output until the input ends.
///
/// # Errors
/// When a root is no folder, or the session breaks.
pub async fn serve_code_over_stdio(roots: Vec<PathBuf>) -> Result<()> {
    serve_stdio(CodeServer::new(CodeConfig::new(roots))?).await?;
    Ok(())
}

fn worker(config: &Config) -> WorkerOptions {
    let section = &config.worker;
    let mut options = WorkerOptions::default().with_lanes(section.lanes.clone()).with_concurrency(section.concurrency);
    options.lane_concurrency.clone_from(&section.lane_concurrency);
    options.server_concurrency = section.server_concurrency;
    options
}

fn policy(config: &Config) -> Policy {
    let jobs = &config.jobs;
    let mut policy = Policy::default();
    policy.lanes.clone_from(&config.worker.lanes);
    let (weights, leased_max) = (config.worker.weights.clone(), config.worker.leased_max.clone());
    policy.shares = Arc::new(Shares { weights, leased_max });
    policy.attempts_max = jobs.attempts_max;
    policy.lost_max = jobs.lost_max;
    policy.backoff_base = jobs.backoff_base;
    policy.backoff_max = jobs.backoff_max.max(jobs.backoff_base);
    policy.visibility = jobs.lease;
    policy.heartbeat = jobs.lease / HEARTBEATS_PER_LEASE;
    policy.deadline = jobs.deadline;
    policy.retain = jobs.retain;
    policy.input_ttl = jobs.input_wait;
    policy.discover_wait = jobs.discover_wait;
    policy
}

/// Our own server, spoken to over a pipe within this process as any other is over a wire.
fn code(roots: &[PathBuf]) -> Result<ServerEntry> {
    let name = ServerName::new(BUILTIN_CODE)?;
    let server = CodeServer::new(CodeConfig::new(roots)).context("builtin.code")?;
    let connector = in_process(name.clone(), server);
    let resources = Resources { local: true, ..Resources::default() };
    let terms = ServerTerms { resources, ..ServerTerms::default() };
    Ok(ServerEntry { name, terms, connector })
}

fn entry(spec: &ServerSpec, launcher: &[OsString], handover: Option<&Arc<Handover>>) -> Result<ServerEntry> {
    let connector = spec.connector(Some(launcher), handover).with_context(|| format!("servers.{}", spec.name))?;
    Ok(ServerEntry { name: spec.name.clone(), terms: spec.terms(), connector })
}

/// This very program, as the supervisor of children.
fn launcher() -> Result<Vec<OsString>> {
    let program =
        std::env::current_exe().context("cannot find this program's own file, which starts child processes")?;
    Ok(vec![program.into_os_string(), OsStr::new(SUPERVISE).to_owned()])
}
