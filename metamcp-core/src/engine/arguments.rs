//! What a task takes from other tasks: checked when it is submitted, put in its place when it is served.
//!
//! Rights are those of the task's owner, both times.

use super::{error::EngineError, ports::Ports};
use crate::{
    auth::Principal,
    error::{StoreError, StoreErrorKind},
    id::JobId,
    json::RawJson,
    queue::{AFTER_MAX, Job, JobError, JobErrorCode},
    task::{
        InvalidTask, Task,
        reference::{Reference, Referred, fill, named_jobs, part_of, references},
    },
};

/// Largest input with everything in its place, in bytes.
const FILLED_BYTES_MAX: usize = 8 << 20;
/// Where a result stands in a result document; beside it a task may want to know how the other one ended.
const RESULT_PARTS: [&str; 2] = ["/content", "/structuredContent"];

/// The jobs a task waits for or takes results from, each once.
pub(super) async fn parents(ports: &Ports, who: &Principal, task: &Task) -> Result<Vec<JobId>, EngineError> {
    let named = references(&task.need.input)?;
    let mut after = named_jobs(&named);
    after.extend(&task.after);
    if after.len() > AFTER_MAX {
        let mend =
            format!("it waits for {} tasks with those its input names, over the bound of {AFTER_MAX}", after.len());
        return Err(InvalidTask::new("after", mend).into());
    }
    for id in &after {
        let field = if task.after.contains(id) { "after" } else { "input" };
        let job = ports.jobs.get(*id).await?.filter(|job| who.may_access(&job.head.owner));
        let Some(job) = job else {
            let mend = format!("task {id} is not there; name tasks of your own that are still kept");
            return Err(InvalidTask::new(field, mend).into());
        };
        if let Some(wrong) = named.iter().find(|reference| points_elsewhere(reference, &job)) {
            return Err(InvalidTask::new("input", format!("$ref `{wrong}`: task {id} has no such result")).into());
        }
    }
    Ok(after.into_iter().collect())
}

fn points_elsewhere(reference: &Reference, job: &Job) -> bool {
    match &reference.to {
        Referred::Result(pointer) => pointer.job == job.head.id && job.head.result.as_ref() != Some(pointer),
        Referred::Task(_) => false,
    }
}

/// Why a job's input cannot be put together.
#[derive(Debug)]
pub(super) enum Unfilled {
    /// It never will.
    Never(JobError),
    /// A store failed; it may work another time.
    Store(StoreError),
}

/// The job's input with the values in the place of its references.
pub(super) async fn filled(ports: &Ports, job: &Job) -> Result<RawJson, Unfilled> {
    filled_for(ports, &job.head.owner, job.body.input()).await
}

/// Arguments of a call that no job stands behind; `None` when a task that they take from has not ended.
pub(super) async fn filled_now(
    ports: &Ports,
    who: &Principal,
    input: &RawJson,
) -> Result<Option<RawJson>, EngineError> {
    let named = references(input)?;
    for id in named_jobs(&named) {
        let job = ports.jobs.get(id).await?;
        if job.is_some_and(|job| who.may_access(&job.head.owner) && !job.head.state.is_final()) {
            return Ok(None);
        }
    }
    filled_for(ports, who, input).await.map(Some).map_err(|unfilled| match unfilled {
        Unfilled::Never(error) => InvalidTask::new("input", error.message).into(),
        Unfilled::Store(error) => error.into(),
    })
}

async fn filled_for(ports: &Ports, who: &Principal, input: &RawJson) -> Result<RawJson, Unfilled> {
    let never = |message: String| Unfilled::Never(JobError::new(JobErrorCode::DependencyFailed, message));
    let named = references(input).map_err(|error| never(error.to_string()))?;
    if named.is_empty() {
        return Ok(input.clone());
    }
    let mut values = Vec::with_capacity(named.len());
    let mut bytes = input.get().len();
    for reference in named {
        let value = value_of(ports, who, &reference).await?;
        bytes += value.len();
        if bytes > FILLED_BYTES_MAX {
            let message = format!(
                "the input has over {FILLED_BYTES_MAX} bytes with `{reference}` in its place; refer to a part of it"
            );
            return Err(Unfilled::Never(JobError::new(JobErrorCode::TooLarge, message)));
        }
        values.push((reference, value));
    }
    let values: Vec<(Reference, &str)> = values.iter().map(|(at, value)| (at.clone(), value.as_str())).collect();
    fill(input, &values).map_err(|error| never(format!("the input is no JSON with its references filled: {error}")))
}

async fn value_of(ports: &Ports, who: &Principal, reference: &Reference) -> Result<String, Unfilled> {
    let never = |why: &str| {
        Unfilled::Never(JobError::new(JobErrorCode::DependencyFailed, format!("$ref `{reference}`: {why}")))
    };
    let from = ports.jobs.get(reference.to.job()).await.map_err(Unfilled::Store)?;
    let from = from.filter(|from| who.may_access(&from.head.owner));
    let result = from.and_then(|from| from.head.result).ok_or_else(|| never("that task has no result"))?;
    if let Referred::Result(pointer) = &reference.to
        && *pointer != result
    {
        return Err(never("that task has another result now"));
    }
    let body = ports.results.get(&result, None).await.map_err(|error| match error.kind() {
        StoreErrorKind::NotFound => never("its result is no longer kept"),
        _ => Unfilled::Store(error),
    })?;
    let text = std::str::from_utf8(&body.bytes).map_err(|_| never("its result is no text"))?;
    // What a tool says of its failure is no result to go on with.
    if RESULT_PARTS.iter().any(|part| reference.part.starts_with(part)) && part_of(text, "/isError") == Some("true") {
        return Err(never("its tool answered with an error"));
    }
    part_of(text, &reference.part).map(str::to_owned).ok_or_else(|| never("its result has nothing there"))
}
