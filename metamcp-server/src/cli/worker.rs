//! `metamcp worker`: works on the jobs of a shared store until a signal asks it to stop. Any number of them may run, on any machine.

use super::{
    args::WorkerArgs,
    exit::{Exit, Failure, Outcome},
    log, running, signal,
};
use crate::config::Config;

pub(super) async fn run(args: WorkerArgs) -> Outcome {
    let config = Config::load(&args.sources())?;
    log::start(&config.log, "info");
    if !config.store.is_shared() {
        let mend = "a worker needs a --store that others share, redis://… or postgres://…; on one machine `metamcp serve` works by itself";
        return Err(Failure::refused(mend));
    }
    let stop = signal::stop_token().map_err(|error| Failure::failed(format!("cannot listen to signals: {error}")))?;
    let Some(app) = stop.run_until_cancelled(running::open(&config)).await else { return Ok(Exit::Done) };
    let app = app?;
    let worker = app.start_worker();
    let lanes: Vec<&str> = config.worker.lanes.iter().map(|lane| lane.as_str()).collect();
    eprintln!(
        "metamcp works on {} (lanes: {}, jobs at a time: {})",
        app.place(),
        lanes.join(", "),
        config.worker.concurrency
    );
    stop.cancelled().await;
    tracing::info!(grace_s = config.server.drain.as_secs(), "stopping; a second signal ends at once");
    worker.drain(config.server.drain).await;
    app.close().await;
    Ok(Exit::Done)
}
