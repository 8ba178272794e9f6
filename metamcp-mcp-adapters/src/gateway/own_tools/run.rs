//! `call_tool`: a tool by its name; `run_task`: a need in words, routed by the matcher.

use std::time::Duration;

use metamcp_core::{id::ServerName, json::RawJson, task::Task};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{OwnTool, arguments, named};
use crate::gateway::{
    Caller, ClientSide, Gateway, Request, RpcFault,
    bridge::{Bridge, Goes, Origin},
    members::Members,
    tasks,
    tool_result::METHOD,
};

/// Longest wait that a caller may ask for, in seconds.
pub(super) const WAIT_S_MAX: u64 = 300;
/// How long a need is waited for when its caller does not say.
const WAIT_DEFAULT: Duration = Duration::from_secs(30);

/// The call that one of `call_tool` stands for; else what its caller reads.
pub(super) fn called<'a>(request: &'a Request<'a>) -> Result<Request<'a>, RawJson> {
    let given = request.param("arguments").and_then(|arguments| Members::of(arguments.get()).ok());
    let given = given.unwrap_or_else(|| Members(Vec::new()));
    let Some(name) = given.get("name") else {
        return Err(arguments::refused("call_tool: `name` is required; find_tools tells names"));
    };
    if given.text("name").and_then(|name| named(&name)) == Some(OwnTool::CallTool) {
        return Err(arguments::refused("call_tool: name the tool itself"));
    }
    let mut params: Vec<_> = vec![("name".into(), name)];
    params.extend(given.get("arguments").map(|arguments| ("arguments".into(), arguments)));
    let kept = |key: &'static str| request.param(key).map(|value: &RawValue| (key.into(), value));
    params.extend(kept("inputResponses").into_iter().chain(kept("requestState")));
    Ok(Request { id: request.id, method: request.method.clone(), params, meta: request.meta.clone() })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    need: String,
    #[serde(default)]
    input: Option<RawJson>,
    #[serde(default)]
    wait_s: Option<u64>,
}

/// Serves a need and waits for it.
pub(super) async fn run_task(
    gateway: &Gateway,
    caller: &Caller,
    request: &Request<'_>,
    side: &dyn ClientSide,
) -> Result<RawJson, RpcFault> {
    let Wanted { need, input, wait_s } = match arguments::read(request, "run_task") {
        Ok(wanted) => wanted,
        Err(refused) => return Ok(refused),
    };
    let ours = ours();
    let origin = Origin { who: &caller.principal, server: &ours, method: METHOD, name: OwnTool::RunTask.name() };
    let mut bridge = Bridge::new(gateway.seal(), gateway.elicitations(), caller, side, origin, request)?;
    let wait = wait_of(gateway, caller, wait_s);
    if let Goes::Job(job) = *bridge.goes() {
        return tasks::go_on(gateway, caller, &mut bridge, job, None).await;
    }
    match task_of(gateway, caller, &need, input.unwrap_or_default()).await {
        Ok(task) => tasks::submit_task(gateway, caller, &mut bridge, task, None, Some(Some(wait))).await,
        Err(refused) => Ok(refused),
    }
}

/// The need as a task that an endpoint may serve: on one that does not show every tool, by the best of those it shows.
pub(super) async fn task_of(gateway: &Gateway, caller: &Caller, need: &str, input: RawJson) -> Result<Task, RawJson> {
    let Some(snapshot) = gateway.snapshot(caller).map(arc_swap::Guard::into_inner) else {
        return Err(arguments::refused("there is no such endpoint"));
    };
    let findable = snapshot.findable();
    let engine = gateway.engine();
    if findable.holds(&engine.catalog_for(&caller.principal)) {
        return Ok(Task::new(need).with_input(input));
    }
    let found = engine.find(&caller.principal, need, Some(input.clone()), &findable.catalog).await;
    let route = found.map_err(|error| tasks::refusal(&error))?;
    match route.candidates.first().and_then(|best| findable.catalog.get(&best.capability)) {
        Some(best) => {
            // A task that names its tool speaks of the tool's own arguments.
            let input = best.arguments(&input).map_err(|why| arguments::refused(&why))?;
            Ok(Task::new(need).with_input(input).with_tool(best.id.clone()))
        }
        None => Err(tasks::refusal(&metamcp_core::engine::EngineError::NoMatch(Box::new(route)))),
    }
}

/// How long a caller waits for a task: as it says, within what its client bears.
pub(super) fn wait_of(gateway: &Gateway, caller: &Caller, wait_s: Option<u64>) -> Duration {
    let wanted = wait_s.map_or(WAIT_DEFAULT, |s| Duration::from_secs(s.min(WAIT_S_MAX)));
    tasks::patience(gateway, caller).map_or(wanted, |patience| wanted.min(patience))
}

/// Who serves our own tools.
pub(super) fn ours() -> ServerName {
    ServerName::new("metamcp").expect("the text is a server name")
}
