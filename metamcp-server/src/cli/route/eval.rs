//! `metamcp route eval`: how often the right tool comes first, over files, without a server.

use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
};

use clap::Args;
use metamcp_core::{
    auth::Principal,
    matching::eval::{EvalError, Evaluation, Figures, LabelledNeed, ToolSet, evaluate, teach},
};
use serde::Serialize;

use super::{
    super::{
        exit::{Exit, Failure, Outcome},
        log, out,
    },
    settings::MatcherArgs,
};
use crate::{
    config::{Config, Environment, Sources},
    wire,
};

/// Widest need in the list of misses, in characters.
const NEED_CHARS_MAX: usize = 60;

/// `metamcp route eval`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  metamcp route eval --tools tools.jsonl --queries eval.jsonl
  metamcp route eval --tools tools.jsonl --queries eval.jsonl --history history.jsonl --json
  metamcp route eval --tools tools.jsonl --queries eval.jsonl --synonyms \"ticket issue card\" --misses 20

Each file is JSON Lines. A tool: {\"id\", \"server\", \"name\", \"description\", \"inputSchema\"}. A query, and a line of history:
{\"query\", \"tools\": [id, …]}. The tools of the configured servers in that form:
  metamcp servers --tools --json | jq -c '.tools[]'")]
pub(in super::super) struct EvalArgs {
    /// The tools, one a line
    #[arg(long, value_name = "FILE")]
    tools: PathBuf,
    /// Needs with the tools that are right for them, one a line
    #[arg(long, value_name = "FILE")]
    queries: PathBuf,
    /// Past needs with the tools that served them, in their order; the matcher learns from them first
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// Also show up to N needs whose right tool is not in the first place
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    misses: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// TOML file whose [matcher] holds [default: metamcp/config.toml in the user's configuration folder, if it is there]
    #[arg(long, value_name = "FILE", env = "METAMCP_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    matcher: MatcherArgs,
}

/// What is printed as JSON.
#[derive(Debug, Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    figures: Figures,
    /// How many tools there are.
    tools: usize,
    /// How many past needs the matcher learned from.
    history: usize,
    /// With `--misses`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    misses: Vec<Miss<'a>>,
}

/// A need whose right tool is not in the first place.
#[derive(Debug, Serialize)]
struct Miss<'a> {
    query: &'a str,
    /// The tools that are right.
    tools: Vec<&'a str>,
    /// The tool in the first place.
    first: Option<&'a str>,
    /// The place of the first right one, from 1.
    place: Option<usize>,
}

pub(super) async fn run(args: &EvalArgs) -> Outcome {
    let environment = Environment::of_process();
    let mut sources = Sources { file: args.config.clone(), environment, ..Sources::default() };
    args.matcher.lay_over(&mut sources);
    let config = Config::load(&sources)?;
    log::start(&config.log, "warn");
    let tools = read_tools(&args.tools)?;
    let needs = read_needs(&tools, &args.queries)?;
    let history = args.history.as_deref().map(|file| read_needs(&tools, file)).transpose()?.unwrap_or_default();
    let (matcher, who) = (wire::matcher(&config.matcher)?, Principal::local());
    let evaluation = async {
        teach(&*matcher, &who, &history).await?;
        evaluate(&*matcher, &who, tools.catalog(), &needs).await
    };
    let evaluation = evaluation.await.map_err(failure)?;
    let wanted = usize::try_from(args.misses).unwrap_or(usize::MAX);
    let document = Document {
        figures: evaluation.figures,
        tools: tools.catalog().capabilities().len(),
        history: history.len(),
        misses: misses(&tools, &needs, &evaluation).take(wanted).collect(),
    };
    if args.json { out::json(&document) } else { out::text(&text(&document)) }.map_err(anyhow::Error::from)?;
    Ok(Exit::Done)
}

/// Reads a file of tools.
pub(super) fn read_tools(file: &Path) -> Result<ToolSet, Failure> {
    let (name, from) = open(file)?;
    ToolSet::read(&name, from).map_err(failure)
}

fn read_needs(tools: &ToolSet, file: &Path) -> Result<Vec<LabelledNeed>, Failure> {
    let (name, from) = open(file)?;
    tools.needs(&name, from).map_err(failure)
}

fn open(file: &Path) -> Result<(String, BufReader<File>), Failure> {
    let name = file.display().to_string();
    let from = File::open(file).map_err(|error| Failure::refused(format!("{name}: cannot be read: {error}")))?;
    Ok((name, BufReader::new(from)))
}

/// A failure in the words of the command line.
pub(super) fn failure(error: EvalError) -> Failure {
    match error {
        EvalError::Match(error) => Failure::failed(error.to_string()),
        wrong => Failure::refused(wrong.to_string()),
    }
}

fn misses<'a>(
    tools: &'a ToolSet,
    needs: &'a [LabelledNeed],
    evaluation: &'a Evaluation,
) -> impl Iterator<Item = Miss<'a>> {
    let missed = needs.iter().zip(&evaluation.ranked).filter(|(_, ranked)| ranked.place != Some(1));
    missed.map(|(need, ranked)| Miss {
        query: &need.words,
        tools: need.tools.iter().filter_map(|tool| tools.id(tool)).collect(),
        first: ranked.first.as_ref().and_then(|tool| tools.id(tool)),
        place: ranked.place,
    })
}

fn text(document: &Document<'_>) -> String {
    let Figures { n, hit_at_1, hit_at_5, recall_at_10, mrr, p50_us, p99_us, .. } = document.figures;
    let mut text = format!(
        "n          {n}\nhit@1      {hit_at_1:.4}\nhit@5      {hit_at_5:.4}\nrecall@10  {recall_at_10:.4}\nMRR        {mrr:.4}\n\
         p50        {p50_us:.1} µs\np99        {p99_us:.1} µs\n"
    );
    if !document.misses.is_empty() {
        let row = |miss: &Miss<'_>| {
            vec![
                miss.place.map_or_else(|| "-".to_owned(), |place| place.to_string()),
                miss.tools.join(" "),
                miss.first.unwrap_or("-").to_owned(),
                out::short(miss.query, NEED_CHARS_MAX),
            ]
        };
        let rows: Vec<_> = document.misses.iter().map(row).collect();
        text.push('\n');
        text.push_str(&out::table(&["PLACE", "RIGHT", "FIRST", "NEED"], &rows));
    }
    text
}
