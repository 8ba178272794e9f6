//! `metamcp history`: what was learned from the outcomes of tasks; shows, exports, imports and removes it.

use std::io::BufRead as _;

use clap::{Args, Subcommand};
use metamcp_core::id::{CapabilityId, JobId};

use super::{
    args::BackendArgs,
    backend::Backend,
    client::Client,
    exit::{Exit, Failure, Outcome},
    out,
};
use crate::api::doc::{LessonDocument, Moment, NewLessonsDocument, VerdictDocument};

/// Widest need in a list, in characters.
const NEED_CHARS_MAX: usize = 60;
/// Lessons sent at a time: well within the smallest body that a server takes by default.
const SENT_AT_ONCE: usize = 500;
/// Longest line that is imported, in bytes.
const LINE_BYTES_MAX: usize = 64 << 10;

/// `metamcp history`.
#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    #[command(subcommand)]
    pub(super) command: HistoryCommand,
}

/// What to do with what was learned.
#[derive(Debug, Subcommand)]
pub(super) enum HistoryCommand {
    /// List what was learned, the newest first
    List(ListArgs),
    /// Show what one task taught
    Show(ShowArgs),
    /// Remove lessons: needs are routed as if they had never been learned
    Remove(RemoveArgs),
    /// Print all lessons, one JSON document a line
    Export(ExportArgs),
    /// Take in lessons that were exported, from standard input
    Import(ImportArgs),
}

/// Which lessons are meant.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct FilterArgs {
    /// Of this tool, as server/name
    #[arg(long, value_name = "TOOL")]
    pub(super) tool: Option<CapabilityId>,
    /// Of this task
    #[arg(long, value_name = "ID")]
    pub(super) job: Option<JobId>,
    /// Of this subject
    #[arg(long, value_name = "NAME")]
    pub(super) subject: Option<String>,
    /// At this instant or later, such as 2026-01-31T09:30:00Z
    #[arg(long, value_name = "INSTANT", value_parser = moment)]
    pub(super) since: Option<Moment>,
    /// Before this instant
    #[arg(long, value_name = "INSTANT", value_parser = moment)]
    pub(super) before: Option<Moment>,
}

/// `metamcp history list`.
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    pub(super) filter: FilterArgs,
    /// Most lessons
    #[arg(long, default_value_t = 50)]
    pub(super) limit: usize,
    /// Print the documents, one JSON list
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) backend: BackendArgs,
}

/// `metamcp history show`.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// The task
    pub(super) job: JobId,
    /// Print the documents, one JSON list
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) backend: BackendArgs,
}

/// `metamcp history remove`.
#[derive(Debug, Args)]
pub(super) struct RemoveArgs {
    #[command(flatten)]
    pub(super) filter: FilterArgs,
    /// Everything
    #[arg(long, conflicts_with_all = ["tool", "job", "subject", "since", "before"])]
    pub(super) all: bool,
    /// Print the document
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) backend: BackendArgs,
}

/// `metamcp history export`.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    pub(super) backend: BackendArgs,
}

/// `metamcp history import`.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    #[command(flatten)]
    pub(super) backend: BackendArgs,
}

impl FilterArgs {
    /// As parameters of the API.
    fn pairs(&self) -> Vec<(&'static str, String)> {
        let mut pairs = Vec::new();
        let mut pair = |name, value: Option<String>| pairs.extend(value.map(|value| (name, value)));
        pair("tool", self.tool.as_ref().map(ToString::to_string));
        pair("job", self.job.map(|job| job.to_string()));
        pair("subject", self.subject.clone());
        pair("since", self.since.map(|at| at.to_string()));
        pair("before", self.before.map(|at| at.to_string()));
        pairs
    }
}

fn moment(text: &str) -> Result<Moment, String> {
    text.parse::<Moment>().map_err(|error| error.to_string())
}

pub(super) async fn run(command: HistoryCommand) -> Outcome {
    let args = match &command {
        HistoryCommand::List(args) => &args.backend,
        HistoryCommand::Show(args) => &args.backend,
        HistoryCommand::Remove(args) => &args.backend,
        HistoryCommand::Export(args) => &args.backend,
        HistoryCommand::Import(args) => &args.backend,
    };
    let backend = Backend::find(args).await?;
    let outcome = on(&backend.client, &command).await;
    backend.close().await;
    outcome
}

async fn on(client: &Client, command: &HistoryCommand) -> Outcome {
    match command {
        HistoryCommand::List(args) => {
            let lessons = client.lessons(&args.filter.pairs(), args.limit).await?;
            told(&lessons, args.json)
        }
        HistoryCommand::Show(args) => {
            let filter = FilterArgs { job: Some(args.job), ..FilterArgs::default() };
            let lessons = client.lessons(&filter.pairs(), usize::MAX).await?;
            if lessons.is_empty() {
                return Err(Failure::failed(format!("nothing is known from task {}", args.job)));
            }
            told(&lessons, args.json)
        }
        HistoryCommand::Remove(args) => remove(client, args).await,
        HistoryCommand::Export(_) => {
            for lesson in client.lessons(&[], usize::MAX).await? {
                let line = serde_json::to_vec(&lesson).map_err(anyhow::Error::from)?;
                out::bytes(&line, true).map_err(anyhow::Error::from)?;
            }
            Ok(Exit::Done)
        }
        HistoryCommand::Import(_) => import(client).await,
    }
}

async fn remove(client: &Client, args: &RemoveArgs) -> Outcome {
    let mut pairs = args.filter.pairs();
    if args.all {
        pairs.push(("all", "true".to_owned()));
    }
    if pairs.is_empty() {
        return Err(Failure::refused("say which lessons: --tool, --job, --subject, --since, --before, or --all"));
    }
    let removed = client.remove_lessons(&pairs).await?;
    if args.json {
        out::json(&removed).map_err(anyhow::Error::from)?;
    } else {
        out::text(&format!("removed {}", removed.lessons)).map_err(anyhow::Error::from)?;
    }
    Ok(Exit::Done)
}

async fn import(client: &Client) -> Outcome {
    let (mut learned, mut batch) = (0, Vec::new());
    for (number, line) in (1..).zip(std::io::stdin().lock().lines()) {
        let line = line.map_err(anyhow::Error::from)?;
        if line.trim().is_empty() {
            continue;
        }
        if line.len() > LINE_BYTES_MAX {
            return Err(Failure::refused(format!("line {number}: longer than {LINE_BYTES_MAX} bytes")));
        }
        let lesson: LessonDocument =
            serde_json::from_str(&line).map_err(|error| Failure::refused(format!("line {number}: {error}")))?;
        batch.push(lesson);
        if batch.len() == SENT_AT_ONCE {
            learned += client.add_lessons(&NewLessonsDocument { lessons: std::mem::take(&mut batch) }).await?.lessons;
        }
    }
    if !batch.is_empty() {
        learned += client.add_lessons(&NewLessonsDocument { lessons: batch }).await?.lessons;
    }
    out::text(&format!("learned {learned}")).map_err(anyhow::Error::from)?;
    Ok(Exit::Done)
}

fn told(lessons: &[LessonDocument], json: bool) -> Outcome {
    if json {
        out::json(lessons).map_err(anyhow::Error::from)?;
        return Ok(Exit::Done);
    }
    let row = |lesson: &LessonDocument| {
        let verdict = if lesson.verdict == VerdictDocument::Served { "served" } else { "failed" };
        vec![
            lesson.at.to_string(),
            verdict.to_owned(),
            lesson.tool.to_string(),
            lesson.job.to_string(),
            lesson.subject.clone(),
            out::short(&lesson.need, NEED_CHARS_MAX),
        ]
    };
    let rows: Vec<_> = lessons.iter().map(row).collect();
    out::text(&out::table(&["AT", "OUTCOME", "TOOL", "TASK", "SUBJECT", "NEED"], &rows))
        .map_err(anyhow::Error::from)?;
    Ok(Exit::Done)
}
