//! Slow calls as tasks: views of the job store, for clients with the extension and for those without.
//!
//! A client that declares `io.modelcontextprotocol/tasks` gets `resultType: "task"` and asks with `tasks/get`, `tasks/update` and
//! `tasks/cancel`. Any other waits up to a set time and then reads in plain words which task goes on and how to ask for it. Either way a task
//! is a job: durable before its id is told, and readable by its owner alone.

mod follow;
mod news;
mod refused;
mod terms;
mod update;
mod view;

use metamcp_core::{engine::EngineError, id::JobId, json::RawJson};
use serde_json::value::RawValue;

pub(crate) use self::{
    follow::{follow, go_on, submit_call, submit_task},
    news::TaskNews,
    refused::{fault, refusal},
    terms::patience,
    view::{handle_of, message, status},
};
use self::{refused::not_found, terms::takes_tasks};
use super::{Caller, Gateway, Reply, Request, RpcFault, front};
use crate::wire::era::{METHOD_NOT_FOUND, MISSING_CAPABILITY, TASKS_EXTENSION};

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
