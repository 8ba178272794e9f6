//! The grammar of `metamcp admin`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use metamcp_core::{id::Lane, queue::JobErrorCode};

use super::super::args::{ConfigArgs, duration, pair};

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
pub(in super::super) struct AdminArgs {
    #[command(subcommand)]
    pub(super) command: AdminCommand,
}

/// What to do with a store.
#[derive(Debug, Subcommand)]
pub(super) enum AdminCommand {
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
pub(super) struct StoreArgs {
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) config: ConfigArgs,
}

/// `metamcp admin stalled`.
#[derive(Debug, Args)]
pub(super) struct StalledArgs {
    /// Most jobs shown
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub(super) limit: u16,
    #[command(flatten)]
    pub(super) store: StoreArgs,
}

/// Which dead letters.
#[derive(Debug, Args)]
pub(super) struct FilterArgs {
    /// Only those of this lane
    #[arg(long)]
    pub(super) lane: Option<Lane>,
    /// Only those that failed this way, such as lost or server_error
    #[arg(long, value_parser = code)]
    pub(super) code: Option<JobErrorCode>,
    /// Only those that died no longer ago, such as 30m or 2h; by this machine's clock
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) since: Option<Duration>,
    /// Only those with this label
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub(super) label: Option<(String, String)>,
}

/// `metamcp admin dead`.
#[derive(Debug, Args)]
pub(super) struct DeadArgs {
    #[command(flatten)]
    pub(super) filter: FilterArgs,
    /// Most jobs shown
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) limit: u32,
    #[command(flatten)]
    pub(super) store: StoreArgs,
}

/// `metamcp admin redrive`.
#[derive(Debug, Args)]
pub(super) struct RedriveArgs {
    #[command(flatten)]
    pub(super) filter: FilterArgs,
    /// Do not ask
    #[arg(long)]
    pub(super) yes: bool,
    #[command(flatten)]
    pub(super) store: StoreArgs,
}

/// `metamcp admin pause` and `resume`.
#[derive(Debug, Args)]
pub(super) struct LaneArgs {
    /// The lane
    pub(super) lane: Lane,
    #[command(flatten)]
    pub(super) store: StoreArgs,
}

/// `metamcp admin drain`.
#[derive(Debug, Args)]
pub(super) struct DrainArgs {
    /// Do not ask
    #[arg(long)]
    pub(super) yes: bool,
    #[command(flatten)]
    pub(super) lane: LaneArgs,
}

/// `metamcp admin export` and `import`.
#[derive(Debug, Args)]
pub(super) struct FileArgs {
    /// The file. An export is a new file for its owner alone: it holds all inputs and results
    pub(super) file: PathBuf,
    #[command(flatten)]
    pub(super) store: StoreArgs,
}

/// `metamcp admin migrate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Stop every server and worker of both stores first. FROM is not changed. An interrupted move is repeated with the same command:
what stands in TO already is passed over. Exit code 0 when TO holds all that FROM holds and nothing else, else 1. Events are not
moved. Results go where results.url says, or into TO.")]
pub(super) struct MigrateArgs {
    /// The store that is: embedded:, a directory, redis://… or postgres://…
    pub(super) from: String,
    /// The store that is to be
    pub(super) to: String,
    /// Although workers hold jobs; their leases run out in TO
    #[arg(long)]
    pub(super) force: bool,
    #[command(flatten)]
    pub(super) store: StoreArgs,
}

/// An error code as documents spell it.
fn code(text: &str) -> Result<JobErrorCode, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
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
