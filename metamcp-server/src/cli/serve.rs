//! `metamcp serve`: the REST API and a worker in one process, until a signal asks it to stop.

use super::{
    args::ServeArgs,
    exit::{Exit, Failure, Outcome},
    log,
    running::{Running, bind},
    signal,
};
use crate::config::Config;

pub(super) async fn run(args: ServeArgs) -> Outcome {
    let config = Config::load(&args.sources())?;
    log::start(&config.log, "info");
    let stop = signal::stop_token().map_err(|error| Failure::failed(format!("cannot listen to signals: {error}")))?;
    let listener = bind(config.server.listen, "--listen").await?;
    if args.no_worker && !config.store.is_shared() {
        let mend = "--no-worker needs a --store that workers share, redis://… or postgres://…; nobody else could work on this one";
        return Err(Failure::refused(mend));
    }
    let starting = Running::start(&config, listener, !args.no_worker);
    let Some(running) = stop.run_until_cancelled(starting).await else { return Ok(Exit::Done) };
    let running = running?;
    tell_ready(&config, &running);
    stop.cancelled().await;
    tracing::info!(grace_s = config.server.drain.as_secs(), "stopping; a second signal ends at once");
    running.stop().await?;
    Ok(Exit::Done)
}

/// The one line that says where the server is, whatever the log's filter lets through.
fn tell_ready(config: &Config, running: &Running) {
    let (url, data) = (&running.url, running.place());
    if config.log.json {
        eprintln!(
            "{}",
            serde_json::json!({ "level": "INFO", "message": "metamcp is ready", "url": url, "data": data })
        );
    } else {
        eprintln!("metamcp is ready at {url} (data: {data})");
    }
}
