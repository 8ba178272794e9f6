//! Runs a plan that its caller accepts: everything in it is checked again, then each step becomes a task of one batch, in its order.

use std::sync::Arc;

use serde::Deserialize;

use super::{PLAN_STEPS_MAX, Plan, PlanStep, STEP_REFERENCE};
use crate::{
    auth::Principal,
    engine::{
        arguments,
        batch::{self, Batch, BatchTask, Made},
        batch_id::BatchId,
        error::EngineError,
        ports::{Ports, persist},
        servers::Servers,
        submit::{Submitted, rank, submit},
    },
    id::JobId,
    json::RawJson,
    pointer::Digest,
    queue::Cancelled,
    task::{InvalidTask, Task, reference::references},
};

/// Why the steps that were accepted are cancelled when a later one is not.
const BROKEN_OFF: &str = "a later step of the plan was refused";
/// Most calls with one idempotency key that may have broken off before one that does not.
const TRIES_MAX: u32 = 32;

/// Accepts every step of a plan, or none.
pub(in crate::engine) async fn run(
    ports: &Ports,
    servers: &Arc<Servers>,
    who: &Principal,
    plan: &Plan,
    key: Option<&str>,
) -> Result<Batch, EngineError> {
    if plan.steps.is_empty() || plan.steps.len() > PLAN_STEPS_MAX {
        let mend = format!("a plan has 1 to {PLAN_STEPS_MAX} steps, this one {}", plan.steps.len());
        return Err(wrong(mend));
    }
    let mut drafts = Vec::with_capacity(plan.steps.len());
    for (at, step) in plan.steps.iter().enumerate() {
        drafts.push(task(step, |_| Some(JobId::MIN)).map_err(|mend| wrong(format!("step {}: {mend}", at + 1)))?);
        names_earlier_steps(step, at)?;
    }
    let id = key.map_or_else(|| BatchId::drawn(ports), |key| BatchId::keyed(who, key));
    let asked = asked(plan);
    if key.is_some()
        && let Some(standing) = batch::read(ports, &id).await?
    {
        return batch::same(standing, asked);
    }
    for (step, draft) in plan.steps.iter().zip(&drafts) {
        check(ports, servers, who, step, draft).await?;
    }
    let jobs = match accept(ports, servers, who, plan, key.map(|_| &id)).await {
        Ok(jobs) => jobs,
        // Another call with this key may have succeeded meanwhile.
        Err(error) if key.is_some() => {
            return batch::read(ports, &id).await?.map_or(Err(error), |standing| batch::same(standing, asked));
        }
        Err(error) => return Err(error),
    };
    let longest = ports.policy.deadline.saturating_mul(u32::try_from(jobs.len()).unwrap_or(u32::MAX));
    let tasks = jobs.into_iter().map(BatchTask::Accepted).collect();
    batch::keep(ports, who, Made { id, asked, tasks, longest }).await
}

/// The jobs of the steps. What an earlier call with this key broke off stays cancelled: each try has keys of its own.
async fn accept(
    ports: &Ports,
    servers: &Arc<Servers>,
    who: &Principal,
    plan: &Plan,
    id: Option<&BatchId>,
) -> Result<Vec<JobId>, EngineError> {
    for attempt in 0..TRIES_MAX {
        let mut accepted: Vec<Submitted> = Vec::new();
        for (at, step) in plan.steps.iter().enumerate() {
            let submitted = async {
                let mut task = task(step, |n| accepted.get(n - 1).map(|step| step.job.head.id)).map_err(wrong)?;
                task.after.extend(accepted.last().map(|step| step.job.head.id));
                task.idempotency_key = id.map(|id| format!("batch/{id}/{attempt}/{at}"));
                submit(ports, servers, who, task).await
            };
            match submitted.await {
                Ok(submitted) => accepted.push(submitted),
                Err(error) => {
                    break_off(ports, &accepted).await;
                    return Err(error);
                }
            }
            if accepted.last().is_some_and(is_broken_off) {
                break;
            }
        }
        if !accepted.last().is_some_and(is_broken_off) {
            return Ok(accepted.into_iter().map(|step| step.job.head.id).collect());
        }
        break_off(ports, &accepted).await;
    }
    Err(wrong(format!("it was broken off {TRIES_MAX} times under this idempotency key; use another")))
}

/// Whether a step was accepted by an earlier call that cancelled it then.
fn is_broken_off(step: &Submitted) -> bool {
    step.duplicate && step.job.head.cancel_reason.as_deref() == Some(BROKEN_OFF)
}

/// What makes two plans the same: their calls.
fn asked(plan: &Plan) -> Digest {
    let calls: Vec<_> = plan.steps.iter().map(|step| (&step.words, &step.capability, &step.input)).collect();
    Digest::of(&serde_json::to_vec(&("plan", calls)).expect("names and JSON text are JSON"))
}

/// Cancels the steps that this call has made: each waits for the one before, and the first may run. Those that it found are another call's.
async fn break_off(ports: &Ports, accepted: &[Submitted]) {
    for step in accepted.iter().rev().filter(|step| !step.duplicate) {
        let job = step.job.head.id;
        match persist("cancel", || ports.jobs.cancel(job, BROKEN_OFF)).await {
            Ok(Cancelled::Asked) => {
                ports.nudge.send_replace(());
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%job, %error, "step of a refused plan not cancelled"),
        }
    }
}

/// A plan comes from its caller: rights, bounds and schemas are looked at as if it were new.
async fn check(
    ports: &Ports,
    servers: &Arc<Servers>,
    who: &Principal,
    step: &PlanStep,
    draft: &Task,
) -> Result<(), EngineError> {
    ports.limits.check(draft)?;
    references(&draft.need.input)?;
    let route = rank(ports, servers, who, &draft.need).await?;
    // Servers that can do the same may stand before it; the definition that was looked at is its own.
    let Some(candidate) = route.candidates.iter().find(|c| c.capability == step.capability) else {
        return Err(EngineError::NoMatch(Box::new(route)));
    };
    if step.definition.is_some_and(|definition| definition != candidate.definition) {
        let mend = format!("`{}` has changed since the plan was made; ask for a plan again", step.capability);
        return Err(wrong(mend));
    }
    // What it takes from tasks that are there already; the steps of the plan are not yet.
    let outside = task(step, |_| None).map_err(wrong)?;
    arguments::parents(ports, who, &outside).await.map(|_| ())
}

/// The task of a step. `job` tells which job an earlier step is; what comes of `None` is left out.
fn task(step: &PlanStep, job: impl Fn(usize) -> Option<JobId>) -> Result<Task, String> {
    let mut members = Vec::with_capacity(step.input.len());
    for (name, value) in &step.input {
        let value = match handed(value)? {
            None => value.clone(),
            Some((n, part)) => match job(n) {
                Some(job) => serde_json::json!({ "$ref": format!("task://{job}{part}") }).into(),
                None => continue,
            },
        };
        members.push(format!("{}:{}", serde_json::Value::from(name.as_str()), value.get()));
    }
    let input = RawJson::parse(format!("{{{}}}", members.join(","))).map_err(|error| format!("input: {error}"))?;
    Ok(Task::new(step.words.clone()).with_input(input).with_tool(step.capability.clone()))
}

/// The step that a value comes from, with the part of its result that it is; `None` when it is a value.
fn handed(value: &RawJson) -> Result<Option<(usize, String)>, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Handed {
        #[serde(rename = "$ref")]
        to: String,
    }
    let Ok(Handed { to }) = value.view::<Handed>() else { return Ok(None) };
    let Some(rest) = to.strip_prefix(STEP_REFERENCE) else { return Ok(None) };
    let (step, part) = rest.split_at(rest.find('#').unwrap_or(rest.len()));
    let step = step.parse().ok().filter(|step| (1..=PLAN_STEPS_MAX).contains(step));
    step.map(|step| Some((step, part.to_owned())))
        .ok_or_else(|| format!("$ref: write {STEP_REFERENCE}N with the number of an earlier step, from 1"))
}

fn names_earlier_steps(step: &PlanStep, at: usize) -> Result<(), EngineError> {
    for value in step.input.values() {
        if let Some((n, _)) = handed(value).map_err(wrong)?
            && n > at
        {
            let mend = format!("step {}: $ref `{STEP_REFERENCE}{n}` must name an earlier step", at + 1);
            return Err(wrong(mend));
        }
    }
    Ok(())
}

fn wrong(mend: String) -> EngineError {
    InvalidTask::new("plan", mend).into()
}
