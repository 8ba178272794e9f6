//! `metamcp tasks`: list, show, cancel, retry and answer tasks.

use super::{
    args::{AnswerArgs, CancelArgs, ListArgs, TaskArgs, TasksCommand},
    backend::Backend,
    client::{Client, ListQuery},
    exit::{Exit, Outcome},
    input, out,
    run::told,
    show,
};
use crate::api::doc::{AnswerDocument, JobDocument};

/// Widest need in a list, in characters.
const NEED_CHARS_MAX: usize = 60;

pub(super) async fn run(command: TasksCommand) -> Outcome {
    let args = match &command {
        TasksCommand::List(args) => &args.backend,
        TasksCommand::Show(task) | TasksCommand::Retry(task) => &task.backend,
        TasksCommand::Cancel(args) => &args.task.backend,
        TasksCommand::Answer(args) => &args.task.backend,
    };
    let backend = Backend::find(args).await?;
    let outcome = match &command {
        TasksCommand::List(args) => list(&backend.client, args).await,
        TasksCommand::Show(task) => show(&backend.client, task).await,
        TasksCommand::Cancel(args) => cancel(&backend.client, args).await,
        TasksCommand::Retry(task) => retry(&backend, task).await,
        TasksCommand::Answer(args) => answer(&backend, args).await,
    };
    backend.close().await;
    outcome
}

async fn list(client: &Client, args: &ListArgs) -> Outcome {
    let query = ListQuery {
        state: args.state.clone(),
        lane: args.lane.as_ref().map(ToString::to_string),
        label: args.label.clone(),
        limit: args.limit,
    };
    let tasks = client.tasks(&query).await?;
    if args.json {
        out::json(&tasks).map_err(anyhow::Error::from)?;
        return Ok(Exit::Done);
    }
    let rows: Vec<_> = tasks
        .iter()
        .map(|job| {
            vec![
                job.id.to_string(),
                job.state.as_str().to_owned(),
                job.tool.as_ref().map_or_else(String::new, ToString::to_string),
                job.created_at.to_string(),
                out::short(&job.need, NEED_CHARS_MAX),
            ]
        })
        .collect();
    out::text(&out::table(&["ID", "STATE", "TOOL", "CREATED", "NEED"], &rows)).map_err(anyhow::Error::from)?;
    Ok(Exit::Done)
}

async fn show(client: &Client, args: &TaskArgs) -> Outcome {
    let job = client.task(&args.id).await?;
    if args.json {
        out::json(&job).map_err(anyhow::Error::from)?;
        return Ok(Exit::Done);
    }
    eprintln!("task    {}\nneed    {}\n{}", job.id, job.need, show::matched(&job.route));
    if let Some(waits) = show::waits(&job) {
        eprintln!("{waits}");
    }
    if let Some(pointer) = &job.result {
        eprintln!("result  {pointer}");
    }
    // Showing a task that failed is no failure.
    told(client, &job, false).await.map(|_| Exit::Done)
}

async fn cancel(client: &Client, args: &CancelArgs) -> Outcome {
    let job = client.cancel(&args.task.id, &args.reason).await?;
    stands(&job, args.task.json)
}

async fn retry(backend: &Backend, args: &TaskArgs) -> Outcome {
    let job = backend.client.retry(&args.id).await?;
    if let Some(note) = backend.waits_for_a_server() {
        eprintln!("note: {note}");
    }
    stands(&job, args.json)
}

async fn answer(backend: &Backend, args: &AnswerArgs) -> Outcome {
    let answer = AnswerDocument { responses: input::json("--responses", &args.responses)? };
    let job = backend.client.answer(&args.task.id, &answer).await?;
    if let Some(note) = backend.waits_for_a_server() {
        eprintln!("note: {note}");
    }
    stands(&job, args.task.json)
}

fn stands(job: &JobDocument, json: bool) -> Outcome {
    if json {
        out::json(job).map_err(anyhow::Error::from)?;
    } else {
        let asked = if job.cancel_requested { ", asked to stop" } else { "" };
        out::text(&format!("{} {}{asked}", job.id, job.state.as_str())).map_err(anyhow::Error::from)?;
    }
    Ok(Exit::Done)
}
