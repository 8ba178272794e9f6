//! `metamcp queues`: how many tasks stand where in each lane; pauses and resumes one.

use clap::{Args, Subcommand};
use metamcp_core::id::Lane;

use super::{
    args::BackendArgs,
    backend::Backend,
    exit::{Exit, Outcome},
    out,
};
use crate::api::doc::QueueDocument;

/// `metamcp queues`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct QueuesArgs {
    #[command(subcommand)]
    pub(super) command: Option<QueuesCommand>,
    /// Print the documents
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) backend: BackendArgs,
}

/// What to do with a queue.
#[derive(Debug, Subcommand)]
pub(super) enum QueuesCommand {
    /// Take nothing more from a queue; what runs goes on
    Pause(QueueArgs),
    /// Go on with a queue
    Resume(QueueArgs),
}

/// One queue.
#[derive(Debug, Args)]
pub(super) struct QueueArgs {
    /// The queue's name
    pub(super) lane: Lane,
    /// Print the queue's document
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) backend: BackendArgs,
}

pub(super) async fn run(args: QueuesArgs) -> Outcome {
    let (backend, json, wish) = match &args.command {
        None => (&args.backend, args.json, None),
        Some(QueuesCommand::Pause(queue)) => (&queue.backend, queue.json, Some((&queue.lane, true))),
        Some(QueuesCommand::Resume(queue)) => (&queue.backend, queue.json, Some((&queue.lane, false))),
    };
    let backend = Backend::find(backend).await?;
    let told = match wish {
        None => backend.client.queues().await.map(|list| list.queues),
        Some((lane, paused)) => backend.client.pause_queue(lane.as_str(), paused).await.map(|queue| vec![queue]),
    };
    backend.close().await;
    let told = told?;
    match (json, wish) {
        (true, Some(_)) => out::json(&told[0]),
        (true, None) => out::json(&told),
        (false, _) => out::text(&table(&told)),
    }
    .map_err(anyhow::Error::from)?;
    Ok(Exit::Done)
}

/// Lanes for people.
pub(super) fn table(queues: &[QueueDocument]) -> String {
    let head = ["LANE", "READY", "BLOCKED", "WAITING", "DELAYED", "LEASED", "INPUT", "DEAD", "OLDEST READY", "PAUSED"];
    let row = |queue: &QueueDocument| {
        let counts = [queue.ready, queue.blocked, queue.waiting, queue.delayed, queue.leased, queue.input, queue.dead];
        let mut row = vec![queue.lane.to_string()];
        row.extend(counts.map(|count| count.to_string()));
        row.push(format!("{} ms", queue.oldest_ready_ms));
        row.push(if queue.paused { "yes" } else { "no" }.to_owned());
        row
    };
    out::table(&head, &queues.iter().map(row).collect::<Vec<_>>())
}
