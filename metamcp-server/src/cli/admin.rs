//! `metamcp admin`: what operators do to a whole store, beside any server: look, redrive, pause, drain, back up, restore, migrate.

mod carry;
mod live;
mod look;
mod steer;
pub(super) mod store;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use metamcp_core::{id::Lane, queue::JobErrorCode};

use super::{
    args::{ConfigArgs, duration, pair},
    exit::{Exit, Outcome},
    signal,
};

/// `metamcp admin`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  metamcp admin queues  --store redis://10.0.0.5
  metamcp admin dead    --store redis://10.0.0.5 --code lost
  metamcp admin redrive --store redis://10.0.0.5 --lane heavy --since 1h --yes
  metamcp admin export  backup.jsonl --store ./state
  metamcp admin migrate ./state redis://10.0.0.5

Without --store it is the store of the configuration. A data folder belongs to one process at a time: stop the server that has
it, or use that server (metamcp tasks, metamcp queues). Redis and PostgreSQL may be looked at and steered while workers run.")]
pub(super) struct AdminArgs {
    #[command(subcommand)]
    command: AdminCommand,
}

/// What to do with a store.
#[derive(Debug, Subcommand)]
enum AdminCommand {
    /// Show how many jobs stand where in each lane
    Queues(StoreArgs),
    /// Show held jobs whose lease is over, by this machine's clock
    Stalled(StalledArgs),
    /// Show dead letters
    Dead(DeadArgs),
    /// Bring dead letters back into the queue
    Redrive(RedriveArgs),
    /// Lease nothing more from a lane; held jobs go on
    Pause(LaneArgs),
    /// Lease from a paused lane again
    Resume(LaneArgs),
    /// Cancel what waits in a lane; held jobs run to their end. Pause it first
    Drain(DrainArgs),
    /// Write jobs, results, schedules, batches and pauses to a file, as JSON Lines
    Export(FileArgs),
    /// Take in what `export` wrote; what is there already is left as it is
    Import(FileArgs),
    /// Move everything from one store to another, and check it; nothing may run on either
    Migrate(MigrateArgs),
}

/// A store.
#[derive(Debug, Args)]
struct StoreArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

/// `metamcp admin stalled`.
#[derive(Debug, Args)]
struct StalledArgs {
    /// Most jobs shown
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    limit: u16,
    #[command(flatten)]
    store: StoreArgs,
}

/// Which dead letters.
#[derive(Debug, Args)]
struct FilterArgs {
    /// Only those of this lane
    #[arg(long)]
    lane: Option<Lane>,
    /// Only those that failed this way, such as lost or server_error
    #[arg(long, value_parser = code)]
    code: Option<JobErrorCode>,
    /// Only those that died no longer ago, such as 30m or 2h; by this machine's clock
    #[arg(long, value_name = "TIME", value_parser = duration)]
    since: Option<Duration>,
    /// Only those with this label
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    label: Option<(String, String)>,
}

/// `metamcp admin dead`.
#[derive(Debug, Args)]
struct DeadArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Most jobs shown
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    #[command(flatten)]
    store: StoreArgs,
}

/// `metamcp admin redrive`.
#[derive(Debug, Args)]
struct RedriveArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    store: StoreArgs,
}

/// `metamcp admin pause` and `resume`.
#[derive(Debug, Args)]
struct LaneArgs {
    /// The lane
    lane: Lane,
    #[command(flatten)]
    store: StoreArgs,
}

/// `metamcp admin drain`.
#[derive(Debug, Args)]
struct DrainArgs {
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    lane: LaneArgs,
}

/// `metamcp admin export` and `import`.
#[derive(Debug, Args)]
struct FileArgs {
    /// The file. An export is a new file for its owner alone: it holds all inputs and results
    file: PathBuf,
    #[command(flatten)]
    store: StoreArgs,
}

/// `metamcp admin migrate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Stop every server and worker of both stores first. FROM is not changed. An interrupted move is repeated with the same command:
what stands in TO already is passed over. Exit code 0 when TO holds all that FROM holds and nothing else, else 1. Events are not
moved. Results go where results.url says, or into TO.")]
struct MigrateArgs {
    /// The store that is: embedded:, a directory, redis://… or postgres://…
    from: String,
    /// The store that is to be
    to: String,
    /// Although workers hold jobs; their leases run out in TO
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    store: StoreArgs,
}

/// An error code as documents spell it.
fn code(text: &str) -> Result<JobErrorCode, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_or_told() {
        assert_eq!(code("lost"), Ok(JobErrorCode::Lost));
        assert!(code("Lost").unwrap_err().contains("server_error"));
    }
}
