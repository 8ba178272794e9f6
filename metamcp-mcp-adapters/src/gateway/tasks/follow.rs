//! Calls that go through the engine's queue, and clients that wait for them: heavy tools, calls with a key of the client's, needs in words.

use std::time::Duration;

use metamcp_core::{
    auth::Principal,
    engine::Orchestrator,
    id::JobId,
    json::RawJson,
    pointer::Digest,
    queue::{Answer, Job, JobState},
    task::Task,
};

use super::{
    refused::{fault, refusal},
    terms::{patience, takes_tasks},
    update,
    view::{self, handle_of},
};
use crate::{
    gateway::{
        Caller, ClientSide, Gateway, Request, RpcFault,
        bridge::{Asked, Bridge, Goes, Origin},
        catalog::ToolRef,
        tool_result::METHOD,
    },
    wire::era::{INTERNAL_ERROR, INVALID_PARAMS},
};

/// What the key of a client's call begins with in the store.
const KEY_PREFIX: &str = "call:";
/// Longest key of a client, in bytes.
const KEY_BYTES_MAX: usize = 256;
/// Longest time between two looks of a client that waits without an end.
const LOOK: Duration = Duration::from_secs(30);

/// Makes a job of a call, and waits for it as long as the client does.
pub(crate) async fn submit_call(
    gateway: &Gateway,
    caller: &Caller,
    side: &dyn ClientSide,
    request: &Request<'_>,
    tool: &ToolRef,
    arguments: RawJson,
    key: Option<&str>,
) -> Result<RawJson, RpcFault> {
    let id = &tool.capability.id;
    let origin = Origin { who: &caller.principal, server: id.server(), method: METHOD, name: id.tool() };
    let mut bridge = Bridge::new(gateway.seal(), gateway.elicitations(), caller, side, origin, request)?;
    if let Goes::Job(job) = *bridge.goes() {
        return go_on(gateway, caller, &mut bridge, job, Some(tool)).await;
    }
    if key.is_some_and(|key| key.is_empty() || key.len() > KEY_BYTES_MAX) {
        return Err(RpcFault::new(INVALID_PARAMS, format!("the idempotency key must be 1 to {KEY_BYTES_MAX} bytes")));
    }
    let mut task = Task::default().with_tool(id.clone()).with_input(arguments);
    task.idempotency_key = key.map(|key| {
        let of = (&caller.principal.subject, id, key);
        format!("{KEY_PREFIX}{}", Digest::of(&serde_json::to_vec(&of).expect("names are JSON")))
    });
    // A client that takes tasks has its handle at once, but for a call that is only to be made once.
    let wait = (key.is_some() || !takes_tasks(caller)).then(|| patience(gateway, caller));
    submit_task(gateway, caller, &mut bridge, task, Some(tool), wait).await
}

/// Submits a task. `wait`: for how long its client waits, `Some(None)` without an end; `None` not at all.
pub(crate) async fn submit_task(
    gateway: &Gateway,
    caller: &Caller,
    bridge: &mut Bridge<'_>,
    task: Task,
    tool: Option<&ToolRef>,
    wait: Option<Option<Duration>>,
) -> Result<RawJson, RpcFault> {
    let keyed = task.idempotency_key.is_some();
    let submitted = match gateway.engine().submit(&caller.principal, task).await {
        Ok(submitted) => submitted,
        Err(error) => return Ok(refusal(&error)),
    };
    let Some(wait) = wait else { return Ok(told(caller, &submitted.job, tool)) };
    let job = submitted.job.head.id;
    // Who goes away before it knows the task wants nothing of it, unless it has a key to come back with.
    let mut unwanted = (!keyed).then(|| Unwanted::new(gateway.engine(), &caller.principal, job));
    let answer = follow(gateway, caller, bridge, job, tool, wait).await;
    if let Some(unwanted) = &mut unwanted {
        unwanted.0 = None;
    }
    answer
}

/// Brings a job the answers it waits for, and waits for it again.
pub(crate) async fn go_on(
    gateway: &Gateway,
    caller: &Caller,
    bridge: &mut Bridge<'_>,
    job: JobId,
    tool: Option<&ToolRef>,
) -> Result<RawJson, RpcFault> {
    let found = gateway.engine().get(&caller.principal, job).await.map_err(|error| fault(&error))?;
    if let Some(answers) = bridge.answers() {
        update::answer(gateway, caller, &found, Some(answers.raw())).await?;
    }
    follow(gateway, caller, bridge, job, tool, patience(gateway, caller)).await
}

/// Waits for a job: its result, what it asks, or after `wait` its handle.
pub(crate) async fn follow(
    gateway: &Gateway,
    caller: &Caller,
    bridge: &mut Bridge<'_>,
    id: JobId,
    tool: Option<&ToolRef>,
    wait: Option<Duration>,
) -> Result<RawJson, RpcFault> {
    let engine = gateway.engine();
    loop {
        let job = engine.wait(&caller.principal, id, wait.unwrap_or(LOOK)).await.map_err(|error| fault(&error))?;
        match job.head.state {
            JobState::Done => {
                let text = view::result_of(gateway, caller, &job).await?;
                return RawJson::parse(text)
                    .map_err(|error| RpcFault::new(INTERNAL_ERROR, format!("the result is no JSON: {error}")));
            }
            JobState::Dead | JobState::Cancelled => return Ok(view::ended_without(&job)),
            JobState::Input if takes_tasks(caller) => return Ok(told(caller, &job, tool)),
            JobState::Input => {
                let open = update::outstanding(gateway, &job).await?;
                let Some(server) = view::server_of(&job) else { return Ok(told(caller, &job, tool)) };
                match bridge.take_job(id, server, &open).await? {
                    Asked::Shown(questions) => return Ok(questions),
                    Asked::Answered(responses) => {
                        let answer = Answer { responses: responses.get().to_owned() };
                        engine.answer(&caller.principal, id, answer).await.map_err(|error| fault(&error))?;
                    }
                }
            }
            // A client that waits without an end goes on waiting.
            _ if wait.is_none() => {}
            _ => return Ok(told(caller, &job, tool)),
        }
    }
}

fn told(caller: &Caller, job: &Job, tool: Option<&ToolRef>) -> RawJson {
    handle_of(caller, job, tool)
}

/// Cancels a job that its client no longer waits for.
struct Unwanted(Option<(Orchestrator, Principal, JobId)>);

impl Unwanted {
    fn new(engine: &Orchestrator, who: &Principal, job: JobId) -> Self {
        Self(Some((engine.clone(), who.clone(), job)))
    }
}

impl Drop for Unwanted {
    fn drop(&mut self) {
        let Some((engine, who, job)) = self.0.take() else { return };
        tokio::spawn(async move {
            if let Err(error) = engine.cancel(&who, job, "its client went away").await {
                tracing::debug!(%job, %error, "a job that nobody waits for was not cancelled");
            }
        });
    }
}
