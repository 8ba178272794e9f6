//! `metamcp demo`: a real server with its own MCP server over the sources in this folder, three tasks stated in words, and what came of
//! each. The tasks go the way of any client: over HTTP, through the queue, to the tool.

use std::{path::Path, time::Duration};

use metamcp_core::json::RawJson;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    args::DemoArgs,
    client::Client,
    exit::{Exit, Failure, Outcome},
    log, out,
    running::{Running, bind},
    show, signal, watch,
};
use crate::{
    api::doc::{TaskDocument, TaskState},
    config::{Config, Flag},
};

/// Lines of a result that are shown.
const PREVIEW_LINES: usize = 8;
/// Widest line that is shown, in characters.
const PREVIEW_CHARS: usize = 110;
/// A task of the demo may take this long, in seconds: enough for a slow machine.
const TASK_S_MAX: u64 = 120;
/// The sources the demo is about, when it runs in this project's own repository.
const OWN_SOURCES: &str = "metamcp-core/src";

pub(super) async fn run(args: DemoArgs) -> Outcome {
    let folder = tempfile::Builder::new().prefix("metamcp-demo-").tempdir().map_err(anyhow::Error::from)?;
    let config = configure(&args, folder.path())?;
    log::start(&config.log, "warn");
    let stop = signal::stop_token().map_err(|error| Failure::failed(format!("cannot listen to signals: {error}")))?;
    let listener = match bind(config.server.listen, "--listen").await {
        Err(unbound) if unbound.is_taken() => {
            say(&format!("{} is taken by another process; taking a free port", config.server.listen))?;
            bind((config.server.listen.ip(), 0).into(), "--listen").await?
        }
        other => other?,
    };
    let running = Running::start(&config, listener, true).await?;
    let told = present(&running, &args, &stop).await;
    running.stop().await?;
    told
}

fn configure(args: &DemoArgs, folder: &Path) -> Result<Config, Failure> {
    let mut sources = args.config.sources();
    // What the demo shows does not depend on what else this user has configured.
    sources.no_user_file = true;
    let listen = args.listen.clone().map(|value| Flag { name: "--listen", key: "server.listen", value });
    let own_folder = args.config.data_dir.is_none().then(|| Flag {
        name: "demo",
        key: "server.data_dir",
        value: folder.to_string_lossy().into_owned(),
    });
    sources.flags.extend(listen.into_iter().chain(own_folder));
    Ok(Config::load(&sources)?)
}

async fn present(running: &Running, args: &DemoArgs, stop: &CancellationToken) -> Outcome {
    let url = &running.url;
    say(&format!("MetaMCP is up at {url} (data: {}, sources: {})", running.place(), here()))?;
    let client = Client::http(url)?;
    let tasks = tasks();
    let (total, mut completed) = (tasks.len(), 0);
    for (at, task) in tasks.into_iter().enumerate() {
        say(&format!(
            "\n{}/{total}     \"{}\"\ninput   {}",
            at + 1,
            task.need,
            out::short(task.input.get(), PREVIEW_CHARS)
        ))?;
        let shown = tokio::time::timeout(Duration::from_secs(TASK_S_MAX), one(&client, &task));
        match stop.run_until_cancelled(shown).await {
            None => return Ok(Exit::Cancelled),
            Some(Ok(Ok(true))) => completed += 1,
            Some(Ok(Ok(false))) => {}
            Some(Ok(Err(failure))) => say(&format!("failed  {failure}"))?,
            Some(Err(_)) => say(&format!("failed  it did not end within {TASK_S_MAX} s"))?,
        }
    }
    say(&format!("\n{completed} of {total} tasks completed"))?;
    if args.exit {
        return Ok(if completed == total { Exit::Done } else { Exit::Failed });
    }
    say(&format!(
        "the server stays up at {url}; Ctrl-C ends it\n\n  curl {url}/api/tasks\n  metamcp run --server {url} \"which structs are defined here\" --arg path=."
    ))?;
    stop.cancelled().await;
    Ok(Exit::Done)
}

/// Submits one task and shows it to its end; whether it completed.
async fn one(client: &Client, task: &TaskDocument) -> Result<bool, Failure> {
    let accepted = client.submit(task).await?;
    say(&format!("task    {}\n{}", accepted.id, show::matched(&accepted.route)))?;
    let mut live = show::Live::new();
    let job = watch::watch(client, &accepted.id.to_string(), &mut |news| live.news(news)).await?;
    drop(live);
    say(&show::ended(&job))?;
    let Some(pointer) = &job.result else { return Ok(false) };
    let shown = show::result(&client.result(&pointer.to_string()).await?);
    let lines: Vec<&str> = shown.text.lines().collect();
    for line in lines.iter().take(PREVIEW_LINES) {
        say(&format!("  | {}", cut(line)))?;
    }
    if lines.len() > PREVIEW_LINES {
        say(&format!("  | … {} more lines", lines.len() - PREVIEW_LINES))?;
    }
    say(&format!("pointer {pointer}"))?;
    Ok(job.state == TaskState::Completed && !shown.is_error)
}

/// Three needs in words; none names a tool.
fn tasks() -> Vec<TaskDocument> {
    let own = Path::new(OWN_SOURCES).is_dir();
    let (path, name) = if own { (OWN_SOURCES, "JobStore") } else { (".", "main") };
    let snippet = "fn area(width: u32, height: u32) -> u32 {\n    width * height\n}\n";
    let task = |need: String, input: serde_json::Value| TaskDocument {
        need,
        input: RawJson::from(input),
        labels: [("from".to_owned(), "demo".to_owned())].into(),
        ..TaskDocument::default()
    };
    vec![
        task("show the structure of this source tree, its functions and types".to_owned(), json!({ "path": path })),
        task(format!("find every place that uses {name}"), json!({ "path": path, "name": name })),
        task("show the syntax tree of this snippet".to_owned(), json!({ "text": snippet, "language": "rust" })),
    ]
}

fn cut(line: &str) -> String {
    let mut cut: String = line.chars().take(PREVIEW_CHARS).collect();
    if cut.len() < line.len() {
        cut.push('…');
    }
    cut
}

fn here() -> String {
    std::env::current_dir().map_or_else(|_| ".".to_owned(), |dir| dir.display().to_string())
}

fn say(line: &str) -> Result<(), Failure> {
    out::text(line).map_err(|error| anyhow::Error::from(error).into())
}
