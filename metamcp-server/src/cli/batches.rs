//! `metamcp batch`: submits the tasks of a file in one call and, if asked to, waits for all of them. Ctrl-C then cancels what has not ended.

use std::time::Duration;

use clap::Args;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    args::BackendArgs,
    backend::Backend,
    client::{Client, ClientError},
    exit::{Exit, Failure, Outcome},
    input, out, signal,
};
use crate::api::doc::{BatchDocument, BatchStandingDocument, NewBatchDocument, TaskDocument, TaskState};

/// First and longest pause between two looks at a batch, in milliseconds.
const LOOK_MS: (u64, u64) = (50, 1_000);
/// Longest time a server may be away while its batch is followed, in seconds: enough for a restart.
const AWAY_S_MAX: u64 = 30;

/// `metamcp batch`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example of a line, with the fields of POST /api/tasks/create:
  {\"need\": \"list the functions of this file\", \"input\": {\"path\": \"src/main.rs\"}, \"labels\": {\"team\": \"docs\"}}

A batch has 1 to 1000 tasks; each is accepted or refused by itself. The batch's id goes to standard output. With --wait Ctrl-C
cancels what has not ended. Exit code 0: all were accepted and, with --wait, have completed; 2: some were refused.")]
pub(super) struct BatchArgs {
    /// Tasks, one JSON object a line; - for standard input
    #[arg(value_name = "FILE")]
    pub(super) file: String,
    /// Wait until all tasks have ended
    #[arg(long)]
    pub(super) wait: bool,
    /// A second call with the same key and tasks answers with the first one's batch
    #[arg(long, value_name = "KEY")]
    pub(super) idempotency_key: Option<String>,
    /// Print the batch's document
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) backend: BackendArgs,
}

pub(super) async fn run(args: BatchArgs) -> Outcome {
    let tasks = tasks(&args.file, &input::text(&args.file)?)?;
    let new = NewBatchDocument { tasks, idempotency_key: args.idempotency_key.clone() };
    let mut backend = Backend::find(&args.backend).await?;
    let stop = signal::stop_token().map_err(|error| Failure::failed(format!("cannot listen to signals: {error}")))?;
    let outcome = submit(&mut backend, &new, &args, &stop).await;
    backend.close().await;
    outcome
}

/// One task of each line that is not empty.
fn tasks(file: &str, text: &str) -> Result<Vec<TaskDocument>, Failure> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let task = |(n, line): (usize, &str)| {
        serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(line))
            .map_err(|error| Failure::refused(format!("{file}: line {}: {error}", n + 1)))
    };
    lines.map(task).collect()
}

async fn submit(backend: &mut Backend, new: &NewBatchDocument, args: &BatchArgs, stop: &CancellationToken) -> Outcome {
    let Some(accepted) = stop.run_until_cancelled(backend.client.submit_batch(new)).await else {
        eprintln!("cancelled before an answer came; `metamcp tasks list` tells which tasks were accepted");
        return Ok(Exit::Cancelled);
    };
    let mut batch = accepted?;
    eprintln!("batch   {}", batch.id);
    let refused = batch.tasks.iter().enumerate().filter_map(|(n, task)| Some((n + 1, task.refused.as_ref()?)));
    refused.for_each(|(n, why)| eprintln!("refused {n}: {why}"));
    if args.wait {
        backend.work();
        batch = to_its_end(&backend.client, batch, stop).await?;
    } else if let Some(note) = backend.waits_for_a_server() {
        eprintln!("note: {note}");
    }
    if let Some(standing) = &batch.standing {
        eprintln!("{}", told(standing));
    }
    if args.json {
        out::json(&batch).map_err(anyhow::Error::from)?;
    } else {
        out::text(&batch.id.to_string()).map_err(anyhow::Error::from)?;
    }
    Ok(exit(&batch, args.wait, stop.is_cancelled()))
}

fn exit(batch: &BatchDocument, waited: bool, stopped: bool) -> Exit {
    let completed = |standing: &BatchStandingDocument| standing.states.keys().all(|s| *s == TaskState::Completed);
    match &batch.standing {
        _ if stopped => Exit::Cancelled,
        _ if batch.tasks.iter().any(|task| task.refused.is_some()) => Exit::Refused,
        Some(standing) if waited && !completed(standing) => Exit::Failed,
        _ => Exit::Done,
    }
}

/// Waits until nothing of the batch goes on without an answer; a wish to stop cancels it.
pub(super) async fn to_its_end(
    client: &Client,
    batch: BatchDocument,
    stop: &CancellationToken,
) -> Result<BatchDocument, ClientError> {
    let id = batch.id.to_string();
    if let Some(ended) = stop.run_until_cancelled(follow(client, &id)).await {
        return ended;
    }
    // What runs is asked to stop and may take its time: that is not waited for.
    client.cancel_batch(&id, "Ctrl-C").await
}

async fn follow(client: &Client, id: &str) -> Result<BatchDocument, ClientError> {
    let mut away_since = None;
    let mut pause_ms = LOOK_MS.0;
    loop {
        match client.batch(id).await {
            Ok(batch) if batch.standing.as_ref().is_none_or(rests) => return Ok(batch),
            Ok(_) => away_since = None,
            Err(error @ ClientError::Unreachable(_)) => {
                let since = *away_since.get_or_insert_with(Instant::now);
                if since.elapsed() > Duration::from_secs(AWAY_S_MAX) {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        pause_ms = (pause_ms * 2).min(LOOK_MS.1);
    }
}

/// Whether nothing goes on by itself: all have ended or ask for input.
fn rests(standing: &BatchStandingDocument) -> bool {
    standing.states.keys().all(|state| state.is_final() || *state == TaskState::InputRequired)
}

/// How the tasks stand, in a line.
fn told(standing: &BatchStandingDocument) -> String {
    let mut parts: Vec<String> =
        standing.states.iter().map(|(state, count)| format!("{count} {}", state.as_str())).collect();
    let others = [(standing.refused, "refused"), (standing.removed, "no longer kept")];
    parts.extend(others.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")));
    format!("tasks   {}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_no_task_is_told_with_its_number() {
        let read = tasks("f", "{\"need\":\"a\"}\n\n{\"tool\":\"x/y\"}\n").unwrap();
        assert_eq!(read.iter().map(|task| task.need.as_str()).collect::<Vec<_>>(), ["a", ""]);
        let wrong = tasks("f", "{\"need\":\"a\"}\n{\"priority\":\"x\"}").unwrap_err().to_string();
        assert!(wrong.starts_with("f: line 2: priority: "), "{wrong}");
        let unknown = tasks("f", "{\"ned\":\"a\"}").unwrap_err().to_string();
        assert!(unknown.contains("line 1") && unknown.contains("unknown field `ned`"), "{unknown}");
    }

    #[test]
    fn a_batch_rests_when_nothing_goes_on_without_an_answer() {
        let standing = |states: &[TaskState]| BatchStandingDocument {
            states: states.iter().map(|state| (*state, 1)).collect(),
            refused: 0,
            removed: 0,
            ended: false,
        };
        assert!(rests(&standing(&[TaskState::Completed, TaskState::InputRequired])) && rests(&standing(&[])));
        for state in [TaskState::Queued, TaskState::Working] {
            assert!(!rests(&standing(&[TaskState::Failed, state])));
        }
    }
}
