//! `metamcp run`: submit a need, watch it, print its result. Ctrl-C cancels the task; only a second one gives up waiting for that.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{
    args::{RunArgs, TermsArgs, millis},
    backend::Backend,
    client::{Client, ClientError},
    exit::{Exit, Failure, Outcome},
    out, show, signal, watch,
};
use crate::api::doc::{JobDocument, TaskDocument, TaskState};

/// How long a cancelled task may take to end, in seconds.
const CANCEL_S_MAX: u64 = 15;

pub(super) async fn run(args: RunArgs) -> Outcome {
    let task = TaskDocument { idempotency_key: args.idempotency_key.clone(), ..args.terms.task()? };
    let mut backend = Backend::find(&args.backend).await?;
    let stop = signal::stop_token().map_err(|error| Failure::failed(format!("cannot listen to signals: {error}")))?;
    let outcome = submit(&mut backend, &task, &args, &stop).await;
    backend.close().await;
    outcome
}

impl TermsArgs {
    /// The task they say.
    ///
    /// # Errors
    /// When the input cannot be read.
    pub(super) fn task(&self) -> Result<TaskDocument, Failure> {
        Ok(TaskDocument {
            need: self.need.clone().unwrap_or_default(),
            input: self.input.read()?,
            tool: self.tool.clone(),
            lane: self.lane.clone(),
            priority: self.priority.unwrap_or_default(),
            deadline_ms: self.deadline.map(millis),
            labels: self.labels.iter().cloned().collect(),
            after: self.after.clone(),
            concurrency: self.concurrency.clone(),
            rate: self.rate.clone(),
            cache_ms: self.cache.map(millis),
            ..TaskDocument::default()
        })
    }
}

async fn submit(backend: &mut Backend, task: &TaskDocument, args: &RunArgs, stop: &CancellationToken) -> Outcome {
    let Some(accepted) = stop.run_until_cancelled(backend.client.submit(task)).await else {
        eprintln!("cancelled before an answer came; `metamcp tasks list` tells whether the task was accepted");
        return Ok(Exit::Cancelled);
    };
    let job = accepted?;
    let word = if job.duplicate { "known" } else { "task" };
    eprintln!("{word:<7} {}\n{}", job.id, show::matched(&job.route));
    if let Some(waits) = show::waits(&job) {
        eprintln!("{waits}");
    }
    if args.no_wait {
        if !job.state.is_final()
            && let Some(note) = backend.waits_for_a_server()
        {
            eprintln!("note: {note}");
        }
        if args.json {
            out::json(&job).map_err(anyhow::Error::from)?;
        } else {
            out::text(&job.id.to_string()).map_err(anyhow::Error::from)?;
        }
        return Ok(Exit::Done);
    }
    backend.work();
    let job = to_its_end(&backend.client, job, stop).await?;
    told(&backend.client, &job, args.json).await
}

/// Waits for the end of a task; a wish to stop cancels it.
async fn to_its_end(client: &Client, job: JobDocument, stop: &CancellationToken) -> Result<JobDocument, ClientError> {
    let id = job.id.to_string();
    let mut live = show::Live::new();
    let mut news = |news: &_| live.news(news);
    if let Some(ended) = stop.run_until_cancelled(watch::watch(client, &id, &mut news)).await {
        return ended;
    }
    let cancelled = async {
        match client.cancel(&id, "Ctrl-C").await {
            // It may have ended in the meantime.
            Ok(_) | Err(ClientError::Problem(_)) => watch::watch(client, &id, &mut |_| ()).await,
            Err(error) => Err(error),
        }
    };
    let too_long = |_| ClientError::Unreachable(format!("task {id} was asked to stop and has not ended yet"));
    tokio::time::timeout(Duration::from_secs(CANCEL_S_MAX), cancelled).await.map_err(too_long)?
}

/// Prints how a task stands: its document, or its result.
pub(super) async fn told(client: &Client, job: &JobDocument, json: bool) -> Outcome {
    let shown = match &job.result {
        Some(pointer) => Some(show::result(&client.result(&pointer.to_string()).await?)),
        None => None,
    };
    eprintln!("{}", show::ended(job));
    if json {
        out::json(job).map_err(anyhow::Error::from)?;
    } else if let Some(shown) = &shown {
        out::text(&shown.text).map_err(anyhow::Error::from)?;
    }
    Ok(match job.state {
        TaskState::Completed if shown.is_some_and(|shown| shown.is_error) => {
            eprintln!("the tool says that it failed");
            Exit::Failed
        }
        TaskState::Completed => Exit::Done,
        TaskState::Cancelled => Exit::Cancelled,
        TaskState::InputRequired => {
            for request in &job.requests {
                eprintln!("asks    {}  {}", request.key, request.request.get());
            }
            eprintln!("answer  metamcp tasks answer {} --responses '{{\"KEY\": …}}'", job.id);
            Exit::Failed
        }
        TaskState::Queued | TaskState::Working | TaskState::Failed => Exit::Failed,
    })
}
