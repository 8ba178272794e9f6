//! Slow calls as tasks: views of the job store, for clients with the extension and for those without.
//!
//! A client that declares `io.modelcontextprotocol/tasks` gets `resultType: "task"` and asks with `tasks/get`, `tasks/update` and
//! `tasks/cancel`. Any other waits up to a set time and then reads in plain words which task goes on and how to ask for it. Either way a task
//! is a job: durable before its id is told, and readable by its owner alone.

mod follow;
mod news;
mod update;
mod view;

use std::time::Duration;

use metamcp_core::{engine::EngineError, id::JobId, json::RawJson, queue::Job};
use serde_json::value::RawValue;

pub(crate) use self::{
    follow::{follow, go_on, submit_call, submit_task},
    news::TaskNews,
    view::{message, status},
};
use super::{Caller, Gateway, Reply, Request, RpcFault, call::failed, catalog::ToolRef, front, members::Members};
use crate::wire::era::{Era, INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND, MISSING_CAPABILITY, TASKS_EXTENSION};

/// Whether the client takes tasks in the place of results.
pub(crate) fn takes_tasks(caller: &Caller) -> bool {
    let text = caller.capabilities.get();
    caller.era == Era::Modern && text.contains(TASKS_EXTENSION) && {
        let extensions = Members::of(text).ok().and_then(|can| can.get("extensions"));
        extensions.and_then(|map| Members::of(map.get()).ok()).is_some_and(|map| map.get(TASKS_EXTENSION).is_some())
    }
}

/// How long the client waits before a call becomes a task; `None`: as long as it takes.
pub(crate) fn patience(gateway: &Gateway, caller: &Caller) -> Option<Duration> {
    let options = gateway.options();
    if takes_tasks(caller) { options.upgrade_after } else { options.detach_after }
}

/// What a client is told of a job that goes on.
pub(crate) fn handle_of(caller: &Caller, job: &Job, tool: Option<&ToolRef>) -> RawJson {
    if takes_tasks(caller) {
        let text = format!(r#"{{"resultType":"task",{}}}"#, view::task_members(job));
        return RawJson::parse(text).expect("the parts are JSON");
    }
    view::detached(job, tool)
}

/// Answers `tasks/get`, `tasks/update` and `tasks/cancel`.
pub(crate) async fn handle(gateway: &Gateway, caller: &Caller, request: &Request<'_>) -> Reply {
    match answer(gateway, caller, request).await {
        Ok(result) => Reply::Result(result),
        Err(fault) => Reply::Fault(fault),
    }
}

async fn answer(gateway: &Gateway, caller: &Caller, request: &Request<'_>) -> Result<RawJson, RpcFault> {
    let method = &*request.method;
    if !matches!(method, "tasks/get" | "tasks/update" | "tasks/cancel") {
        return Err(RpcFault::new(METHOD_NOT_FOUND, format!("`{method}` is not a method of the tasks extension")));
    }
    if !takes_tasks(caller) {
        let message = format!("`{method}` needs the client to declare the extension `{TASKS_EXTENSION}`");
        let needed = format!(r#"{{"requiredCapabilities":{{"extensions":{{"{TASKS_EXTENSION}":{{}}}}}}}}"#);
        return Err(RpcFault { code: MISSING_CAPABILITY, message, data: RawJson::parse(needed).ok() });
    }
    let id = id_of(request.param("taskId"))?;
    let job = gateway.engine().get(&caller.principal, id).await.map_err(|error| fault(&error))?;
    match method {
        "tasks/get" => view::detailed(gateway, caller, &job).await,
        "tasks/update" => {
            update::answer(gateway, caller, &job, request.param("inputResponses")).await?;
            Ok(acknowledged())
        }
        _ => match gateway.engine().cancel(&caller.principal, id, "the client cancelled the task").await {
            // It is only a wish: what has ended has ended.
            Ok(_) | Err(EngineError::State { .. }) => Ok(acknowledged()),
            Err(error) => Err(fault(&error)),
        },
    }
}

fn acknowledged() -> RawJson {
    RawJson::parse(front::result("")).expect("the text is JSON")
}

/// The id of a task; one that is no id is a task that is not there.
pub(crate) fn id_of(id: Option<&RawValue>) -> Result<JobId, RpcFault> {
    let text = id.and_then(|id| serde_json::from_str::<String>(id.get()).ok());
    text.and_then(|text| text.parse().ok()).ok_or_else(not_found)
}

fn not_found() -> RpcFault {
    RpcFault::new(INVALID_PARAMS, "taskId: there is no such task, or it is no longer kept")
}

/// An error of the engine on a task that a client names. Not there and not the caller's are the same.
pub(crate) fn fault(error: &EngineError) -> RpcFault {
    match error {
        EngineError::NotFound { what: "task" } => not_found(),
        EngineError::NotFound { .. } | EngineError::Invalid(_) | EngineError::Name(_) | EngineError::State { .. } => {
            RpcFault::new(INVALID_PARAMS, error.to_string())
        }
        _ => RpcFault::new(INTERNAL_ERROR, error.to_string()),
    }
}

/// A call that the engine does not take, in words for a model: it can say something else.
pub(crate) fn refusal(error: &EngineError) -> RawJson {
    let code = match error {
        EngineError::Invalid(_) | EngineError::Name(_) => "invalid_arguments",
        EngineError::NoMatch(_) => "no_match",
        EngineError::Conflict { .. } => "conflict",
        EngineError::Full { .. } => "full",
        EngineError::NotFound { .. } => "not_found",
        EngineError::State { .. } => "state",
        EngineError::Stopping => "stopping",
        _ => "internal",
    };
    failed(&error.to_string(), code, "")
}
