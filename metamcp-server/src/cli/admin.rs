//! `metamcp admin`: what operators do to a whole store, beside any server: look, redrive, pause, drain, back up, restore, migrate.

mod args;
mod carry;
mod live;
mod look;
mod steer;
pub(super) mod store;

pub(super) use self::args::AdminArgs;
use self::args::AdminCommand;
use super::{
    exit::{Exit, Outcome},
    signal,
};

pub(super) async fn run(args: AdminArgs) -> Outcome {
    let stop = signal::stop_token().map_err(anyhow::Error::from)?;
    let done = async {
        match &args.command {
            AdminCommand::Queues(args) => look::queues(args).await,
            AdminCommand::Stalled(args) => look::stalled(args).await,
            AdminCommand::Dead(args) => look::dead(args).await,
            AdminCommand::Redrive(args) => steer::redrive(args).await,
            AdminCommand::Pause(args) => steer::pause(args, true).await,
            AdminCommand::Resume(args) => steer::pause(args, false).await,
            AdminCommand::Drain(args) => steer::drain(args).await,
            AdminCommand::Export(args) => carry::export(args).await,
            AdminCommand::Import(args) => carry::import(args).await,
            AdminCommand::Migrate(args) => carry::migrate(args).await,
        }
    };
    stop.run_until_cancelled(Box::pin(done)).await.unwrap_or_else(|| {
        eprintln!("interrupted; the same command goes on from here");
        Ok(Exit::Cancelled)
    })
}
