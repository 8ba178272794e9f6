//! From a task to an accepted job: bounds, match, enqueue, tell.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::Value;

use super::{
    arguments,
    choice::{self, Seen},
    error::EngineError,
    ports::{Ports, persist},
    servers::Servers,
};
use crate::{
    auth::Principal,
    error::{StoreError, StoreErrorKind},
    event::EventKind,
    id::{JobId, Lane, ServerName},
    matching::{Candidate, MatchError, Route},
    pointer::Digest,
    queue::{Answer, Enqueued, InputRequest, Job, JobBody, NewJob, moves},
    task::{ConcurrencyKey, InvalidTask, Need, RateKey, Task, TaskRecord},
};

/// What idempotency keys of the engine's own begin with.
pub(super) const RESERVED_KEYS: [&str; 2] = ["cron:", "batch/"];

/// An accepted task.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Submitted {
    /// Its job.
    pub job: Job,
    /// It was accepted before, with the same idempotency key.
    pub duplicate: bool,
}

/// What a task is before it is given to the store.
#[derive(Debug)]
pub(super) enum Prepared {
    /// To be enqueued.
    New(Box<NewJob>),
    /// It stands already.
    Standing(Box<Submitted>),
}

pub(super) async fn submit(
    ports: &Ports,
    servers: &Arc<Servers>,
    who: &Principal,
    task: Task,
) -> Result<Submitted, EngineError> {
    let new = match prepare(ports, servers, who, task).await? {
        Prepared::New(new) => new,
        Prepared::Standing(standing) => return Ok(*standing),
    };
    let mut answers = persist("enqueue", || ports.jobs.enqueue(std::slice::from_ref(&*new))).await?;
    let answer = answers.pop();
    // A repeated store call finds its own job: its first answer was lost.
    let own = matches!(answer, Some(Enqueued::Duplicate { job, .. }) if job == new.id);
    if own || matches!(answer, Some(Enqueued::Ok { .. })) {
        ports.tell(new.id, who, EventKind::Queued).await;
    }
    let (id, duplicate) = accepted(&new, answer.as_ref())?;
    // What was accepted is known without asking again, unless it waits for others.
    let job = match answer {
        Some(Enqueued::Ok { at, .. }) if new.after.is_empty() => {
            Job { head: moves::accept(&new, at, Vec::new()), body: Arc::clone(&new.body) }
        }
        _ => ports.jobs.get(id).await?.ok_or(EngineError::NotFound { what: "task" })?,
    };
    Ok(Submitted { job, duplicate })
}

/// Checks a task and matches it. One that cannot be served as things are may have been accepted before, under its idempotency key.
pub(super) async fn prepare(
    ports: &Ports,
    servers: &Arc<Servers>,
    who: &Principal,
    task: Task,
) -> Result<Prepared, EngineError> {
    ports.limits.check(&task)?;
    let again = task.idempotency_key.is_some().then(|| task.clone());
    match (draft(ports, servers, who, task).await, again) {
        (Ok(new), _) => Ok(Prepared::New(Box::new(new))),
        (Err(error @ (EngineError::Store(_) | EngineError::Stopping)), _) | (Err(error), None) => Err(error),
        (Err(error), Some(task)) => match standing(ports, who, &task).await? {
            Some(standing) => Ok(Prepared::Standing(Box::new(standing))),
            None => Err(error),
        },
    }
}

async fn draft(ports: &Ports, servers: &Arc<Servers>, who: &Principal, task: Task) -> Result<NewJob, EngineError> {
    check_lane(ports, task.need.lane.as_ref())?;
    let after = arguments::parents(ports, who, &task).await?;
    let route = rank(ports, servers, who, &task.need).await?;
    let Some(best) = route.candidates.first() else { return Err(EngineError::NoMatch(Box::new(route))) };
    let lane = task.need.lane.clone().or_else(|| best.lane.clone()).unwrap_or_else(Lane::light);
    check_lane(ports, Some(&lane))?;
    let request_digest = request_digest(who, &task)?;
    let concurrency = match (&task.concurrency, of_server(servers, best)) {
        (Some(_), Some(_)) => {
            let mend = format!("server `{}` has a bound of its own; leave it out", best.capability.server());
            return Err(InvalidTask::new("concurrency", mend).into());
        }
        (Some(limit), None) => Some(of_tenant(who, limit)),
        (None, of_server) => of_server,
    };
    let rate = task.rate.map(|rate| RateKey { key: tenant_key(who, &rate.key), ..rate });
    let record = TaskRecord { need: task.need, labels: task.labels, cache: task.cache };
    Ok(NewJob {
        id: JobId::drawn(ports.clock.now(), &*ports.entropy),
        owner: who.clone(),
        lane,
        priority: task.priority,
        delay: task.delay,
        deadline: Some(task.deadline.unwrap_or(ports.policy.deadline)),
        retain: ports.policy.retain,
        attempts_max: ports.policy.attempts_max,
        lost_max: ports.policy.lost_max,
        idempotency_key: task.idempotency_key,
        request_digest,
        body: Arc::new(JobBody { task: record, route }),
        after,
        concurrency,
        rate,
        held: None,
    })
}

/// What the store's answer to a new job means to its caller: the job that stands, and whether it did before.
pub(super) fn accepted(new: &NewJob, answer: Option<&Enqueued>) -> Result<(JobId, bool), EngineError> {
    match answer {
        Some(Enqueued::Ok { .. }) => Ok((new.id, false)),
        // A repeated store call finds its own job: that is no duplicate to the caller.
        Some(Enqueued::Duplicate { job, .. }) => Ok((*job, *job != new.id)),
        Some(Enqueued::Conflict { job }) => Err(EngineError::Conflict { job: *job }),
        Some(Enqueued::Missing { job }) => {
            let mend = format!("task {job} is not there; name tasks of your own that are still kept");
            Err(InvalidTask::new("after", mend).into())
        }
        Some(Enqueued::Full { limit }) => Err(EngineError::Full { lane: new.lane.clone(), limit: *limit }),
        None => Err(StoreError::new(StoreErrorKind::Corrupt, "job store", "answered no entry for one job").into()),
    }
}

/// Ranks the need over what is known, after servers that were never connected had their bounded chance.
pub(super) async fn rank(
    ports: &Ports,
    servers: &Arc<Servers>,
    who: &Principal,
    need: &Need,
) -> Result<Route, EngineError> {
    let named = need.tool.as_ref();
    if let Some(tool) = named
        && !servers.admits(who, tool.server())
    {
        let known: Vec<_> = servers.statuses_for(who).into_iter().map(|s| s.name.to_string()).collect();
        let mend = format!("server `{}` is not configured; known servers: {}", tool.server(), known.join(", "));
        return Err(InvalidTask::new("tool", mend).into());
    }
    servers.discover(named.map(crate::id::CapabilityId::server), ports.policy.discover_wait).await;
    let catalog = servers.catalog_for(who);
    if let Some(tool) = named
        && catalog.get(tool).is_none()
    {
        let status = servers.statuses().into_iter().find(|s| s.name == *tool.server());
        let mend = match status.and_then(|s| s.last_failure) {
            Some(failure) => format!("server `{}` is down: {failure}", tool.server()),
            None => {
                format!("server `{}` has no tool `{}`; GET /api/tools lists what there is", tool.server(), tool.tool())
            }
        };
        return Err(InvalidTask::new("tool", mend).into());
    }
    let route = ports.matcher.rank(who, need, &catalog).await?;
    let route = choice::with_equivalents(route, need, &catalog);
    let route = choice::order(route, &|server| look(servers, server), ports.entropy.next_u64());
    if route.candidates.is_empty() {
        check_readable(need)?;
    }
    // A score that is no number could be stored and not be read again.
    match route.candidates.iter().find(|candidate| !candidate.score.is_finite()) {
        Some(odd) => Err(MatchError { message: format!("`{}` has the score {}", odd.capability, odd.score) }.into()),
        None => Ok(route),
    }
}

/// No tool takes an input that cannot be read, so only a need that nothing fits is looked at again.
fn check_readable(need: &Need) -> Result<(), InvalidTask> {
    let unreadable = |error| {
        let mend = "keep numbers within the range of a double, surrogates in pairs, and at most 127 levels deep";
        InvalidTask::new("input", format!("is JSON that cannot be read: {error}; {mend}"))
    };
    need.input.view::<Value>().map(drop).map_err(unreadable)
}

/// How a server stands for a choice; one that is down is tried again on the occasion.
pub(super) fn look(servers: &Arc<Servers>, server: &ServerName) -> Seen {
    let seen = servers.seen(server);
    if seen.down.is_some() {
        servers.revive(server);
    }
    seen
}

/// The job that stands already for this idempotency key: a repeated submission must find it also when nothing fits the need any more.
async fn standing(ports: &Ports, who: &Principal, task: &Task) -> Result<Option<Submitted>, EngineError> {
    let Some(key) = &task.idempotency_key else { return Ok(None) };
    let Some(id) = ports.jobs.keyed(&who.tenant, key).await? else { return Ok(None) };
    let Some(job) = ports.jobs.get(id).await? else { return Ok(None) };
    if job.head.request_digest != request_digest(who, task)? {
        return Err(EngineError::Conflict { job: id });
    }
    Ok(Some(Submitted { job, duplicate: true }))
}

fn check_lane(ports: &Ports, lane: Option<&Lane>) -> Result<(), EngineError> {
    let served = &ports.policy.lanes;
    match lane {
        Some(lane) if !served.contains(lane) => {
            let known = served.iter().map(Lane::as_str).collect::<Vec<_>>().join(", ");
            Err(InvalidTask::new("lane", format!("no worker serves `{lane}`; the lanes are {known}")).into())
        }
        _ => Ok(()),
    }
}

/// A key of the caller's: other tenants have their own.
fn tenant_key(who: &Principal, key: &str) -> String {
    format!("tenant/{}/{key}", who.tenant)
}

fn of_tenant(who: &Principal, limit: &ConcurrencyKey) -> ConcurrencyKey {
    ConcurrencyKey { key: tenant_key(who, &limit.key), max: limit.max }
}

/// The bound of the server that is to serve the task, if configuration sets one.
fn of_server(servers: &Servers, best: &Candidate) -> Option<ConcurrencyKey> {
    let name = best.capability.server();
    let max = servers.catalog().get(&best.capability)?.terms.concurrency?;
    Some(ConcurrencyKey { key: format!("server/{name}"), max })
}

/// Two requests are the same when the same caller asks the same on the same terms.
fn request_digest(who: &Principal, task: &Task) -> Result<Digest, EngineError> {
    let Task { need, labels, priority, after, .. } = task;
    let text = serde_json::to_vec(&(who, need, labels, priority, after));
    let text = text.map_err(|error| InvalidTask::new("input", format!("cannot be written as JSON: {error}")))?;
    Ok(Digest::of(&text))
}

/// Answers must be an object whose keys are among those that are asked for; partial answers are refused, so that nothing is guessed.
pub(super) fn check_answer(requests: &[InputRequest], answer: &Answer) -> Result<(), EngineError> {
    let asked: BTreeSet<&str> = requests.iter().map(|r| r.key.as_str()).collect();
    let wanted = || asked.iter().copied().collect::<Vec<_>>().join(", ");
    let Ok(Value::Object(given)) = serde_json::from_str::<Value>(&answer.responses) else {
        return Err(InvalidTask::new("responses", format!("must be an object with the keys {}", wanted())).into());
    };
    if let Some(unknown) = given.keys().find(|key| !asked.contains(key.as_str())) {
        return Err(
            InvalidTask::new("responses", format!("`{unknown}` is not asked for; the keys are {}", wanted())).into()
        );
    }
    if let Some(missing) = asked.iter().find(|key| !given.contains_key(**key)) {
        return Err(InvalidTask::new("responses", format!("`{missing}` is missing; the keys are {}", wanted())).into());
    }
    Ok(())
}
