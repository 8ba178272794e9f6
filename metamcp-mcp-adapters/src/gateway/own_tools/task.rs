//! Tasks for clients without the extension: submit, look, fetch, cancel.

use std::time::Duration;

use metamcp_core::{
    id::JobId,
    json::RawJson,
    queue::{Job, JobState},
    task::Task,
};
use serde::{Deserialize, Serialize};

use super::{OwnTool, arguments, run};
use crate::gateway::{
    Caller, ClientSide, Gateway, Request, RpcFault,
    bridge::{Bridge, Goes, Origin},
    front,
    members::quoted,
    pointers::{self, Found, Part, Range},
    tasks,
    tool_result::{METHOD, shown, structured},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTask {
    #[serde(default)]
    tool: Option<String>,
    #[serde(default)]
    need: Option<String>,
    #[serde(default)]
    arguments: Option<RawJson>,
    #[serde(default)]
    idempotency_key: Option<String>,
    #[serde(default)]
    deadline_s: Option<u64>,
}

/// `task_submit`.
pub(super) async fn submit(gateway: &Gateway, caller: &Caller, request: &Request<'_>) -> Result<RawJson, RpcFault> {
    match new_task(gateway, caller, request).await {
        Err(refused) => Ok(refused),
        Ok(task) => Ok(match gateway.engine().submit(&caller.principal, task).await {
            Ok(submitted) => told(&submitted.job),
            Err(error) => tasks::refusal(&error),
        }),
    }
}

async fn new_task(gateway: &Gateway, caller: &Caller, request: &Request<'_>) -> Result<Task, RawJson> {
    let new: NewTask = arguments::read(request, "task_submit")?;
    let input = new.arguments.unwrap_or_default();
    let mut task = match (new.tool, new.need) {
        (Some(name), need) => {
            let Some(tool) = gateway.awaited_tool(caller, &name).await else {
                let why = format!("task_submit: unknown tool `{}`; find_tools tells those there are", shown(&name));
                return Err(arguments::refused(&why));
            };
            Task::new(need.unwrap_or_default()).with_input(input).with_tool(tool.capability.id.clone())
        }
        (None, Some(need)) => run::task_of(gateway, caller, &need, input).await?,
        (None, None) => return Err(arguments::refused("task_submit: name a `tool`, or say in words what you `need`")),
    };
    task.deadline = new.deadline_s.map(Duration::from_secs);
    task.idempotency_key = new.idempotency_key;
    Ok(task)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    task_id: String,
    #[serde(default)]
    reason: Option<String>,
}

/// `task_status`.
pub(super) async fn status(gateway: &Gateway, caller: &Caller, request: &Request<'_>) -> Result<RawJson, RpcFault> {
    let named: Result<Named, _> = arguments::read(request, "task_status");
    Ok(match named {
        Err(refused) => refused,
        Ok(named) => job_of(gateway, caller, &named.task_id).await.map_or_else(|refused| refused, |job| told(&job)),
    })
}

/// `task_cancel`.
pub(super) async fn cancel(gateway: &Gateway, caller: &Caller, request: &Request<'_>) -> Result<RawJson, RpcFault> {
    let named: Result<Named, _> = arguments::read(request, "task_cancel");
    let job = match named {
        Err(refused) => return Ok(refused),
        Ok(named) => match job_of(gateway, caller, &named.task_id).await {
            Err(refused) => return Ok(refused),
            Ok(job) => (job.head.id, named.reason),
        },
    };
    let reason = job.1.as_deref().unwrap_or("cancelled by its owner");
    Ok(match gateway.engine().cancel(&caller.principal, job.0, reason).await {
        Ok(job) => told(&job),
        Err(error) => tasks::refusal(&error),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fetch {
    task_id: String,
    #[serde(default)]
    wait_s: Option<u64>,
    #[serde(default)]
    pointer: Option<String>,
    #[serde(default)]
    lines: Option<String>,
    #[serde(default)]
    bytes: Option<String>,
}

/// `task_result`.
pub(super) async fn result(
    gateway: &Gateway,
    caller: &Caller,
    request: &Request<'_>,
    side: &dyn ClientSide,
) -> Result<RawJson, RpcFault> {
    let fetch: Fetch = match arguments::read(request, "task_result") {
        Ok(fetch) => fetch,
        Err(refused) => return Ok(refused),
    };
    let part = match part_of(&fetch) {
        Ok(part) => part,
        Err(why) => return Ok(arguments::refused(&format!("task_result: {why}"))),
    };
    let job = match job_of(gateway, caller, &fetch.task_id).await {
        Ok(job) => job.head.id,
        Err(refused) => return Ok(refused),
    };
    let ours = run::ours();
    let name = OwnTool::TaskResult.name();
    let origin = Origin { who: &caller.principal, server: &ours, method: METHOD, name };
    let mut bridge = Bridge::new(gateway.seal(), gateway.elicitations(), caller, side, origin, request)?;
    if *bridge.goes() == Goes::Job(job) {
        return tasks::go_on(gateway, caller, &mut bridge, job, None).await;
    }
    let wait = run::wait_of(gateway, caller, fetch.wait_s);
    let Some(part) = part else { return tasks::follow(gateway, caller, &mut bridge, job, None, Some(wait)).await };
    let job = gateway.engine().wait(&caller.principal, job, wait).await.map_err(|error| tasks::fault(&error))?;
    let (JobState::Done, Some(pointer)) = (job.head.state, &job.head.result) else {
        return tasks::follow(gateway, caller, &mut bridge, job.head.id, None, Some(Duration::ZERO)).await;
    };
    Ok(match pointers::fetch(gateway, caller, pointer, &part).await {
        Ok(Found::Text { text, .. }) => words(&text),
        Ok(Found::Bytes(bytes)) => words(&String::from_utf8_lossy(&bytes)),
        Err(why) => arguments::refused(&format!("task_result: {why}")),
    })
}

fn part_of(fetch: &Fetch) -> Result<Option<Part>, String> {
    let range = match (&fetch.lines, &fetch.bytes) {
        (Some(_), Some(_)) => return Err("either `lines` or `bytes`, not both".to_owned()),
        (Some(lines), None) => Some(Range::lines(lines)?),
        (None, Some(bytes)) => Some(Range::bytes(bytes)?),
        (None, None) => None,
    };
    let pointer = fetch.pointer.clone().unwrap_or_default();
    if !pointer.is_empty() && !pointer.starts_with('/') {
        return Err("`pointer` must be a JSON pointer, such as /content/0/text".to_owned());
    }
    let part = Part { range, pointer };
    Ok((part != Part::default()).then_some(part))
}

async fn job_of(gateway: &Gateway, caller: &Caller, id: &str) -> Result<Job, RawJson> {
    let missing = || arguments::refused("task_id: there is no such task, or it is no longer kept");
    let id: JobId = id.parse().map_err(|_| missing())?;
    gateway.engine().get(&caller.principal, id).await.map_err(|error| match error {
        metamcp_core::engine::EngineError::NotFound { .. } => missing(),
        other => tasks::refusal(&other),
    })
}

#[derive(Serialize)]
struct Told {
    task_id: String,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    created_at: String,
    updated_at: String,
}

fn told(job: &Job) -> RawJson {
    let head = &job.head;
    let told = Told {
        task_id: head.id.to_string(),
        status: tasks::status(head.state),
        message: tasks::message(head),
        created_at: head.created_at.to_string(),
        updated_at: head.updated_at.to_string(),
    };
    let structure = RawJson::from_value(&told).expect("names and texts are JSON");
    structured(structure.get(), &structure)
}

fn words(text: &str) -> RawJson {
    let text = format!(r#""content":[{{"type":"text","text":{}}}],"isError":false"#, quoted(text));
    RawJson::parse(front::result(&text)).expect("the parts are JSON")
}
