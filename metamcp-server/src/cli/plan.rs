//! `metamcp plan`: proposes how to serve a need in several steps, and runs a plan that is accepted.

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::{
    args::{BackendArgs, InputArgs},
    backend::Backend,
    batches,
    exit::{Exit, Failure, Outcome},
    input, out, run as task, signal,
};
use crate::api::doc::{NewPlanDocument, PlanDocument, RunPlanDocument};

/// `metamcp plan`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  metamcp plan \"read this page and then translate it\" --arg url=http://127.0.0.1:8000/
  metamcp plan \"read this page and then translate it\" --arg url=http://127.0.0.1:8000/ --run
  metamcp plan \"close the account of this person\" --json > plan.json
  metamcp plan --from plan.json --run

What a step takes is in the input or in an earlier step's result; nothing is read out of the words. Without --run no tool is called.
With it the steps are tasks of one batch, the result of the last one goes to standard output, and Ctrl-C cancels what has not ended.")]
pub(super) struct PlanArgs {
    /// What is needed, in words
    #[arg(value_name = "NEED", required_unless_present = "from")]
    need: Option<String>,
    #[command(flatten)]
    input: InputArgs,
    /// A plan that --json wrote, as it was or changed; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["need", "input", "fields"])]
    from: Option<String>,
    /// Run the plan and wait for its end
    #[arg(long)]
    run: bool,
    /// A second run of the same plan with the same key is the same batch
    #[arg(long, value_name = "KEY", requires = "run")]
    idempotency_key: Option<String>,
    /// Print the plan's document; with --run that of the last step's task
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    backend: BackendArgs,
}

pub(super) async fn run(args: PlanArgs) -> Outcome {
    let given = match &args.from {
        Some(file) => Some(read(file)?),
        None => None,
    };
    let need = args.need.clone().unwrap_or_default();
    let new = NewPlanDocument { need, input: args.input.read()?, ..NewPlanDocument::default() };
    let mut backend = Backend::find(&args.backend).await?;
    let stop = signal::stop_token().map_err(|error| Failure::failed(format!("cannot listen to signals: {error}")))?;
    let outcome = serve(&mut backend, given, &new, &args, &stop).await;
    backend.close().await;
    outcome
}

fn read(file: &str) -> Result<PlanDocument, Failure> {
    let text = input::text(file)?;
    serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(&text))
        .map_err(|error| Failure::refused(format!("{file}: is no plan: {error}")))
}

async fn serve(
    backend: &mut Backend,
    given: Option<PlanDocument>,
    new: &NewPlanDocument,
    args: &PlanArgs,
    stop: &CancellationToken,
) -> Outcome {
    let plan = match given {
        Some(plan) => plan,
        None => match stop.run_until_cancelled(backend.client.plan(new)).await {
            Some(answer) => answer?.plan,
            None => return Ok(Exit::Cancelled),
        },
    };
    if args.run {
        eprintln!("{}", text(&plan));
    } else if args.json {
        out::json(&plan).map_err(anyhow::Error::from)?;
    } else {
        out::text(&text(&plan)).map_err(anyhow::Error::from)?;
    }
    if plan.steps.is_empty() {
        eprintln!("nothing fits; say it in other words, or see `metamcp servers --tools` for what there is");
        return Ok(Exit::Failed);
    }
    if !args.run {
        return Ok(if plan.missing.is_empty() { Exit::Done } else { Exit::Failed });
    }
    let wish = RunPlanDocument { plan, idempotency_key: args.idempotency_key.clone() };
    let Some(accepted) = stop.run_until_cancelled(backend.client.run_plan(&wish)).await else {
        eprintln!("cancelled before an answer came; `metamcp tasks list` tells which tasks were accepted");
        return Ok(Exit::Cancelled);
    };
    let batch = accepted?;
    eprintln!("batch   {}", batch.id);
    backend.work();
    let batch = batches::to_its_end(&backend.client, batch, stop).await?;
    let mut last = None;
    for id in batch.tasks.iter().filter_map(|task| task.job) {
        let job = backend.client.task(&id.to_string()).await?;
        let tool = job.tool.as_ref().map_or_else(String::new, ToString::to_string);
        eprintln!("step    {id} {tool} {}", job.state.as_str());
        last = Some(job);
    }
    match last {
        Some(job) => task::told(&backend.client, &job, args.json).await,
        None => Ok(Exit::Failed),
    }
}

fn text(plan: &PlanDocument) -> String {
    let row = |(at, step): (usize, &crate::api::doc::PlanStepDocument)| {
        vec![(at + 1).to_string(), step.tool.to_string(), step.reasons.join("; ")]
    };
    let rows: Vec<_> = plan.steps.iter().enumerate().map(row).collect();
    let mut text = out::table(&["STEP", "TOOL", "WHY"], &rows);
    for missing in &plan.missing {
        let kind = missing.kind.as_deref().unwrap_or("any type");
        text.push_str(&format!("missing  `{}` ({kind}) of step {}\n", missing.property, missing.step));
    }
    if !plan.unused.is_empty() {
        text.push_str(&format!("unused   {}\n", plan.unused.join(", ")));
    }
    text
}
