//! `metamcp serve`: the REST API and a worker in one process, until a signal asks it to stop.

use super::{
    args::ServeArgs,
    exit::{Exit, Failure, Outcome},
    log,
    running::{Running, bind, place},
    signal,
};
use crate::config::Config;

pub(super) async fn run(args: ServeArgs) -> Outcome {
    let config = Config::load(&args.sources())?;
    log::start(&config.log, "info");
    let stop = signal::stop_token().map_err(|error| Failure::failed(format!("cannot listen to signals: {error}")))?;
    let listener = bind(config.server.listen).await?;
    let running = Running::start(&config, listener)?;
    eprintln!("metamcp is ready at {} (data: {})", running.url, place(&config));
    stop.cancelled().await;
    eprintln!("stopping: running calls have {} s; a second signal ends at once", config.server.drain.as_secs());
    running.stop().await?;
    Ok(Exit::Done)
}
