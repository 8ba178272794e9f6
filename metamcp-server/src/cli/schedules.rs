//! `metamcp schedules`: tasks that recur.

use clap::{Args, Subcommand, ValueEnum};

use super::{
    args::{BackendArgs, TermsArgs},
    backend::Backend,
    exit::{Exit, Outcome},
    out,
};
use crate::api::doc::{MissedInstants, OverlapDocument, ScheduleDocument, ScheduleTerms};

/// Widest need in a list, in characters.
const NEED_CHARS_MAX: usize = 60;

/// `metamcp schedules`.
#[derive(Debug, Args)]
pub(super) struct SchedulesArgs {
    #[command(subcommand)]
    pub(super) command: SchedulesCommand,
}

/// What to do with schedules.
#[derive(Debug, Subcommand)]
pub(super) enum SchedulesCommand {
    /// List schedules by name
    List(ScheduleListArgs),
    /// Show one schedule
    Show(ScheduleArgs),
    /// Make a schedule, or change the one of this name
    Put(Box<SchedulePutArgs>),
    /// Stop a schedule from firing
    Pause(ScheduleArgs),
    /// Let a paused schedule fire again
    Resume(ScheduleArgs),
    /// Submit a schedule's task now
    Fire(ScheduleArgs),
    /// Delete a schedule; its tasks stay
    Delete(ScheduleArgs),
}

/// `metamcp schedules list`.
#[derive(Debug, Args)]
pub(super) struct ScheduleListArgs {
    /// Print the documents, one JSON list
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) backend: BackendArgs,
}

/// One schedule.
#[derive(Debug, Args)]
pub(super) struct ScheduleArgs {
    /// The schedule's name
    pub(super) name: String,
    /// Print the document
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) backend: BackendArgs,
}

/// `metamcp schedules put`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  metamcp schedules put nightly --cron \"30 2 * * *\" --zone Europe/Berlin \"show what changed in the last commits\"

A schedule fires while a `metamcp serve` or a `metamcp worker` runs on its store.")]
pub(super) struct SchedulePutArgs {
    #[command(flatten)]
    pub(super) schedule: ScheduleArgs,
    /// When: minute hour day month weekday, with seconds before them if six
    #[arg(long, value_name = "EXPRESSION")]
    pub(super) cron: String,
    /// Time zone it is read in
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    pub(super) zone: String,
    /// What happens to times at which nobody worked
    #[arg(long, value_enum, default_value_t = MissedArg::Last)]
    pub(super) missed: MissedArg,
    /// Leave a time out while the task of the one before has not ended
    #[arg(long)]
    pub(super) no_overlap: bool,
    /// Make it without letting it fire
    #[arg(long)]
    pub(super) paused: bool,
    #[command(flatten)]
    pub(super) terms: TermsArgs,
}

/// What happens to missed times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum MissedArg {
    /// Nothing
    Skip,
    /// The last one is made up for
    Last,
    /// All are, at most the last 100
    All,
}

pub(super) async fn run(command: SchedulesCommand) -> Outcome {
    let args = match &command {
        SchedulesCommand::List(args) => &args.backend,
        SchedulesCommand::Put(args) => &args.schedule.backend,
        SchedulesCommand::Show(one)
        | SchedulesCommand::Pause(one)
        | SchedulesCommand::Resume(one)
        | SchedulesCommand::Fire(one)
        | SchedulesCommand::Delete(one) => &one.backend,
    };
    let backend = Backend::find(args).await?;
    let outcome = on(&backend, &command).await;
    backend.close().await;
    outcome
}

async fn on(backend: &Backend, command: &SchedulesCommand) -> Outcome {
    let client = &backend.client;
    match command {
        SchedulesCommand::List(args) => list(&client.schedules().await?, args.json),
        SchedulesCommand::Show(one) => stands(&client.schedule(&one.name).await?, one),
        SchedulesCommand::Put(args) => put(backend, args).await,
        SchedulesCommand::Pause(one) => stands(&client.pause_schedule(&one.name, true).await?, one),
        SchedulesCommand::Resume(one) => stands(&client.pause_schedule(&one.name, false).await?, one),
        SchedulesCommand::Fire(one) => fire(backend, one).await,
        SchedulesCommand::Delete(one) => {
            client.delete_schedule(&one.name).await?;
            eprintln!("deleted {}", one.name);
            Ok(Exit::Done)
        }
    }
}

fn list(schedules: &[ScheduleDocument], json: bool) -> Outcome {
    if json {
        out::json(schedules).map_err(anyhow::Error::from)?;
    } else {
        out::text(&table(schedules)).map_err(anyhow::Error::from)?;
    }
    Ok(Exit::Done)
}

fn table(schedules: &[ScheduleDocument]) -> String {
    let row = |schedule: &ScheduleDocument| {
        let task = &schedule.task;
        let need = if task.need.is_empty() { task.tool.as_ref().map(ToString::to_string) } else { None };
        vec![
            schedule.name.clone(),
            schedule.cron.clone(),
            schedule.zone.clone(),
            schedule.next_at.map_or_else(|| paused_word(schedule).to_owned(), |at| at.to_string()),
            schedule.last_job.map_or_else(String::new, |job| job.to_string()),
            out::short(&need.unwrap_or_else(|| task.need.clone()), NEED_CHARS_MAX),
        ]
    };
    let rows: Vec<_> = schedules.iter().map(row).collect();
    out::table(&["NAME", "CRON", "ZONE", "NEXT", "LAST TASK", "NEED"], &rows)
}

const fn paused_word(schedule: &ScheduleDocument) -> &'static str {
    if schedule.paused { "paused" } else { "never" }
}

/// Prints how a schedule stands.
fn stands(schedule: &ScheduleDocument, args: &ScheduleArgs) -> Outcome {
    if args.json {
        out::json(schedule).map_err(anyhow::Error::from)?;
        return Ok(Exit::Done);
    }
    out::text(&table(std::slice::from_ref(schedule))).map_err(anyhow::Error::from)?;
    if let Some(error) = &schedule.last_error {
        eprintln!("the last time became no task: {error}");
    }
    Ok(Exit::Done)
}

async fn put(backend: &Backend, args: &SchedulePutArgs) -> Outcome {
    let terms = ScheduleTerms {
        cron: args.cron.clone(),
        zone: args.zone.clone(),
        task: args.terms.task()?,
        missed: match args.missed {
            MissedArg::Skip => MissedInstants::Skip,
            MissedArg::Last => MissedInstants::Last,
            MissedArg::All => MissedInstants::All,
        },
        overlap: if args.no_overlap { OverlapDocument::Skip } else { OverlapDocument::Allow },
        paused: args.paused,
    };
    let schedule = backend.client.put_schedule(&args.schedule.name, &terms).await?;
    if backend.waits_for_a_server().is_some() {
        eprintln!("note: nobody works here: it fires while `metamcp serve` or `metamcp worker` runs on this store");
    }
    stands(&schedule, &args.schedule)
}

/// Submits the task of a schedule and prints its id.
async fn fire(backend: &Backend, args: &ScheduleArgs) -> Outcome {
    let job = backend.client.fire_schedule(&args.name).await?;
    if let Some(note) = backend.waits_for_a_server() {
        eprintln!("note: {note}");
    }
    if args.json {
        out::json(&job).map_err(anyhow::Error::from)?;
    } else {
        out::text(&job.id.to_string()).map_err(anyhow::Error::from)?;
    }
    Ok(Exit::Done)
}
