//! `metamcp route`: which tools could serve a need, with scores and reasons, and which were rejected. Runs none.
//!
//! Its commands measure the router itself: [`eval`] over labelled needs, [`replay`] over those that a store logged.

mod eval;
mod replay;
mod settings;

use clap::{Args, Subcommand};

use super::{
    args::{BackendArgs, InputArgs},
    backend::Backend,
    exit::{Exit, Outcome},
    out,
};
use crate::api::doc::{CandidateDocument, NeedDocument, ReasonDocument, RouteDocument};

/// `metamcp route`.
#[derive(Debug, Args)]
#[command(
    after_help = "\
Examples:
  metamcp route \"find every place that uses JobStore\" --arg name=JobStore
  metamcp route eval --tools tools.jsonl --queries eval.jsonl
  metamcp route replay --config new.toml --data-dir ./state",
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub(super) struct RouteArgs {
    #[command(subcommand)]
    pub(super) command: Option<RouteCommand>,
    /// What is needed, in words; `eval` and `replay` alone are commands
    #[arg(value_name = "NEED", required = true)]
    pub(super) need: Option<String>,
    #[command(flatten)]
    pub(super) input: InputArgs,
    /// Print the route's document
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) backend: BackendArgs,
}

/// What to measure.
#[derive(Debug, Subcommand)]
pub(super) enum RouteCommand {
    /// Rank labelled needs over a file of tools; print how often the right tool comes first, and how long a need takes
    Eval(eval::EvalArgs),
    /// Rank the needs a store logged anew, with these settings; print what would change
    Replay(replay::ReplayArgs),
}

pub(super) async fn run(args: RouteArgs) -> Outcome {
    match args.command {
        Some(RouteCommand::Eval(args)) => return eval::run(&args).await,
        Some(RouteCommand::Replay(args)) => return replay::run(&args).await,
        None => {}
    }
    let need = NeedDocument {
        need: args.need.clone().unwrap_or_default(),
        input: args.input.read()?,
        ..NeedDocument::default()
    };
    let backend = Backend::find(&args.backend).await?;
    let route = backend.client.route(&need).await;
    backend.close().await;
    let route = route?;
    if args.json {
        out::json(&route).map_err(anyhow::Error::from)?;
    } else {
        out::text(&text(&route)).map_err(anyhow::Error::from)?;
    }
    if route.candidates.is_empty() {
        eprintln!("nothing fits; say it in other words, or see `metamcp servers --tools` for what there is");
        return Ok(Exit::Failed);
    }
    Ok(Exit::Done)
}

fn text(route: &RouteDocument) -> String {
    let mut text = String::new();
    if !route.candidates.is_empty() {
        let rows: Vec<_> = route.candidates.iter().flat_map(parts).collect();
        text.push_str(&out::table(&["SCORE", "TOOL", "PART", "ADDS", "WHY"], &rows));
    }
    if !route.rejected.is_empty() {
        let rows: Vec<_> = route.rejected.iter().map(|r| vec![r.tool.to_string(), r.reason.clone()]).collect();
        text.push_str(&out::table(&["REJECTED", "WHY"], &rows));
    }
    text
}

/// A row for each part of a candidate; the first has its score and name.
fn parts(candidate: &CandidateDocument) -> Vec<Vec<String>> {
    let row = |reason: Option<&ReasonDocument>, head: [String; 2]| {
        let adds = reason.and_then(|r| r.score).map_or_else(String::new, |score| format!("{score:.2}"));
        let (kind, text) = reason.map(|r| (r.kind.clone(), r.text.clone())).unwrap_or_default();
        let [score, tool] = head;
        vec![score, tool, kind, adds, text]
    };
    let mut reasons = candidate.reasons.iter();
    let first = row(reasons.next(), [format!("{:.2}", candidate.score), candidate.tool.to_string()]);
    let more = reasons.map(|reason| row(Some(reason), [String::new(), String::new()]));
    [first].into_iter().chain(more).collect()
}
