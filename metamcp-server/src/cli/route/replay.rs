//! `metamcp route replay`: what another matcher setting would make of the needs that a store logged. Changes nothing in the store.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use clap::Args;
use metamcp_core::{
    matching::{
        Catalog,
        eval::{Change, LoggedNeed, Replay, replay},
    },
    pointer::Digest,
    queue::{Job, JobQuery, JobState, JobStore, LIST_PAGE_MAX},
};
use serde::Serialize;

use super::{
    super::{
        admin::store::{Folder, open},
        args::ConfigArgs,
        exit::{Exit, Failure, Outcome},
        log, out,
    },
    eval::{failure, read_tools},
    settings::MatcherArgs,
};
use crate::{
    config::{Config, StoreKind},
    wire,
};

/// Widest need in the list, in characters.
const NEED_CHARS_MAX: usize = 60;

/// `metamcp route replay`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  metamcp route replay --config new.toml --data-dir ./state
  metamcp route replay --store redis://10.0.0.5 --tools tools.jsonl --synonyms \"ticket issue card\" --json

The tools are those that the configured servers offer now, which are started for that, or those of --tools. A data folder belongs
to one process at a time: stop the server that has it, or look at a copy. Needs that named their tool are left out.")]
pub(in super::super) struct ReplayArgs {
    /// The tools, as for `route eval`; no server is started then
    #[arg(long, value_name = "FILE")]
    tools: Option<PathBuf>,
    /// Most tasks that are looked at, the newest first
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    tasks: u32,
    /// Most needs that are shown, those that lose most first
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    limit: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    matcher: MatcherArgs,
}

/// What a store logged.
#[derive(Debug, Default)]
struct Log {
    needs: Vec<LoggedNeed>,
    tasks: usize,
    named: usize,
    more: bool,
}

/// What is printed as JSON.
#[derive(Debug, Serialize)]
struct Document {
    /// Tasks that were looked at.
    tasks: usize,
    /// Those of them that named their tool: there is nothing to rank.
    named: usize,
    /// There are older tasks that were not looked at.
    more: bool,
    #[serde(flatten)]
    replay: Replay,
}

pub(super) async fn run(args: &ReplayArgs) -> Outcome {
    let mut sources = args.config.sources();
    args.matcher.lay_over(&mut sources);
    let config = Config::load(&sources)?;
    log::start(&config.log, "warn");
    let stores = open(&sources, Folder::MustExist).await?;
    let log = read(&*stores.jobs, usize::try_from(args.tasks).unwrap_or(usize::MAX)).await;
    stores.close().await;
    let log = log?;
    let catalog = match &args.tools {
        Some(file) => read_tools(file)?.catalog().clone(),
        None => Catalog::clone(&*offered(config.clone()).await?),
    };
    if catalog.capabilities().is_empty() {
        return Err(Failure::refused("there is no tool to rank; configure servers, or name a file with --tools"));
    }
    let mut replay = replay(&*wire::matcher(&config.matcher)?, &catalog, &log.needs).await.map_err(failure)?;
    replay.changes.truncate(usize::try_from(args.limit).unwrap_or(usize::MAX));
    let document = Document { tasks: log.tasks, named: log.named, more: log.more, replay };
    if args.json { out::json(&document) } else { out::text(&text(&document)) }.map_err(anyhow::Error::from)?;
    Ok(Exit::Done)
}

/// The tools that the configured servers offer now, asked by an engine with a store of its own.
async fn offered(mut config: Config) -> Result<Arc<Catalog>, Failure> {
    config.store = StoreKind::Memory;
    config.store_read_url = None;
    config.results.url = None;
    let app = wire::build(&config).await?;
    let catalog = app.tools().await;
    app.close().await;
    Ok(catalog)
}

/// Reads the newest `tasks_max` tasks; of those with one need the newest tells its route, the newest that was served which tool served it.
async fn read(jobs: &dyn JobStore, tasks_max: usize) -> Result<Log, Failure> {
    let mut log = Log::default();
    let mut seen: HashMap<Digest, usize> = HashMap::new();
    let mut query = JobQuery::default();
    loop {
        let left = tasks_max - log.tasks;
        query.limit = u16::try_from(left).unwrap_or(u16::MAX).min(LIST_PAGE_MAX);
        let page = jobs.list(&query).await.map_err(anyhow::Error::from)?;
        log.tasks += page.jobs.len();
        for job in &page.jobs {
            log.take(job, &mut seen);
        }
        query.before = page.next;
        log.more = page.next.is_some();
        if !log.more || log.tasks >= tasks_max {
            return Ok(log);
        }
    }
}

impl Log {
    fn take(&mut self, job: &Job, seen: &mut HashMap<Digest, usize>) {
        let need = &job.body.task.need;
        if need.tool.is_some() {
            self.named += 1;
            return;
        }
        let candidates = &job.body.route.candidates;
        let at = usize::from(job.head.candidate);
        let served = candidates.get(at).filter(|_| job.head.state == JobState::Done);
        let served_by = served.map(|candidate| (candidate.capability.clone(), at + 1));
        let same = serde_json::to_vec(&(&job.head.owner.tenant, need)).expect("names and JSON text are JSON");
        let index = *seen.entry(Digest::of(&same)).or_insert_with(|| {
            self.needs.push(LoggedNeed {
                owner: job.head.owner.clone(),
                need: need.clone(),
                jobs: 0,
                old: candidates.first().map(|candidate| candidate.capability.clone()),
                served_by: None,
            });
            self.needs.len() - 1
        });
        let logged = &mut self.needs[index];
        logged.jobs += 1;
        if logged.served_by.is_none() {
            logged.served_by = served_by;
        }
    }
}

fn text(document: &Document) -> String {
    let Document { tasks, named, more, replay } = document;
    let Replay { needs, served, gone, changed, regret, .. } = replay;
    let mut text = format!(
        "tasks      {tasks}{}, {named} of them named their tool\nneeds      {needs}, {served} of them served by a tool that is still there, \
         {gone} by one that is gone\nchanged    {changed} have another tool in the first place\n\
         regret     {:.4} fall out of the first place, {:.4} out of the first five\nMRR        {:.4}, was {:.4}\n",
        if *more { " (there are older ones; raise --tasks)" } else { "" },
        regret.first,
        regret.top5,
        regret.mrr_new,
        regret.mrr_old,
    );
    if !replay.changes.is_empty() {
        let rows: Vec<_> = replay.changes.iter().map(row).collect();
        text.push('\n');
        text.push_str(&out::table(&["WAS", "WOULD BE", "SERVED BY", "ITS PLACE", "TASKS", "NEED"], &rows));
    }
    text
}

fn row(change: &Change) -> Vec<String> {
    let tool = |id: &Option<_>| id.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
    let place = |place: Option<usize>| place.map_or_else(|| "-".to_owned(), |place| place.to_string());
    vec![
        tool(&change.old),
        tool(&change.new),
        tool(&change.served_by),
        format!("{} -> {}", place(change.old_place), place(change.new_place)),
        change.jobs.to_string(),
        out::short(&change.need, NEED_CHARS_MAX),
    ]
}
