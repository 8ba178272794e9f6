//! `metamcp worker`: works on the jobs of a shared store until a signal asks it to stop. Any number of them may run, on any machine.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{
    args::WorkerArgs,
    exit::{Exit, Failure, Outcome},
    log,
    running::{self, bind},
    signal,
    threads::on_threads,
};
use crate::{
    config::Config,
    serve::{self, Drained, ServeOptions},
    wire::App,
};

/// Most connections of whoever asks how the worker is, at the same time.
const PROBES_MAX: usize = 16;
/// Longest wait for their answers at the end, in milliseconds.
const PROBES_GRACE_MS: u64 = 1_000;

pub(super) fn run(args: &WorkerArgs) -> Outcome {
    let config = Config::load(&args.sources())?;
    log::start(&config.log, "info");
    if !config.store.is_shared() {
        let mend = "a worker needs a --store that others share, redis://… or postgres://…; on one machine `metamcp serve` works by itself";
        return Err(Failure::refused(mend));
    }
    on_threads(config.worker.threads, work(&config, args.health))
}

async fn work(config: &Config, health: Option<SocketAddr>) -> Outcome {
    let stop = signal::stop_token().map_err(|error| Failure::failed(format!("cannot listen to signals: {error}")))?;
    let health = match health {
        Some(address) => Some(bind(address, "--health").await?),
        None => None,
    };
    let Some(app) = stop.run_until_cancelled(running::open(config)).await else { return Ok(Exit::Done) };
    let app = app?;
    let health = health.map(|listener| Health::start(&app, listener)).transpose()?;
    let worker = app.start_worker();
    let lanes: Vec<&str> = config.worker.lanes.iter().map(|lane| lane.as_str()).collect();
    let about = health.as_ref().map(|health| format!(", health: {}", health.url)).unwrap_or_default();
    eprintln!(
        "metamcp works on {} (lanes: {}, jobs at a time: {}{about})",
        app.place(),
        lanes.join(", "),
        config.worker.concurrency
    );
    stop.cancelled().await;
    tracing::info!(grace_s = config.server.drain.as_secs(), "stopping; a second signal ends at once");
    // While it drains it is alive, and not ready.
    app.drain().cancel();
    worker.drain(config.server.drain).await;
    if let Some(health) = health {
        health.stop().await;
    }
    app.close().await;
    Ok(Exit::Done)
}

/// The listener that tells how the worker is.
struct Health {
    url: String,
    serving: JoinHandle<io::Result<Drained>>,
    stop: CancellationToken,
}

impl Health {
    fn start(app: &App, listener: TcpListener) -> Result<Self, Failure> {
        let url = format!("http://{}", listener.local_addr().map_err(anyhow::Error::from)?);
        let stop = CancellationToken::new();
        let options = ServeOptions {
            connections_max: PROBES_MAX,
            grace: Duration::from_millis(PROBES_GRACE_MS),
            ..ServeOptions::default()
        };
        let serving = tokio::spawn(serve::run(listener, app.health_router(), options, stop.clone().cancelled_owned()));
        Ok(Self { url, serving, stop })
    }

    async fn stop(self) {
        self.stop.cancel();
        // Whatever came of it, the worker has done its work.
        let _ = self.serving.await;
    }
}
