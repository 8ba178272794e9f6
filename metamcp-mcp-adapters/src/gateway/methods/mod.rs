//! What answers each method of a client. Lists come out of the snapshot; everything else goes to whose it is.

mod completion;
mod discover;
mod lists;
mod prompts;
pub(crate) mod relayed;
mod resources;
mod route;
mod servers;

use serde_json::value::RawValue;

pub(super) use self::route::template as route_template;

use super::{Caller, ClientSide, Gateway, Reply, Request, RpcFault, call, catalog::Snapshot, tasks};
use crate::wire::era::{INVALID_PARAMS, METHOD_NOT_FOUND};

/// Answers a request of a client.
pub(super) async fn handle(gateway: &Gateway, caller: &Caller, request: &Request<'_>, side: &dyn ClientSide) -> Reply {
    // Boxed, all but what is called most: the future of every call would carry the largest.
    let answered = match &*request.method {
        "server/discover" => Box::pin(discover::discover(gateway, caller)).await,
        "tools/list" => Box::pin(lists::list(gateway, caller, request, |snapshot| &snapshot.tools)).await,
        "prompts/list" => Box::pin(lists::list(gateway, caller, request, |snapshot| &snapshot.prompts)).await,
        "resources/list" => Box::pin(lists::list(gateway, caller, request, |snapshot| &snapshot.resources)).await,
        "resources/templates/list" => {
            Box::pin(lists::list(gateway, caller, request, |snapshot| &snapshot.templates)).await
        }
        "prompts/get" => Box::pin(prompts::get(gateway, caller, request, side)).await,
        "resources/read" => Box::pin(resources::read(gateway, caller, request, side)).await,
        "completion/complete" => Box::pin(completion::complete(gateway, caller, request, side)).await,
        "tools/call" => call::answer(gateway, caller, request, side).await.map(Reply::Result),
        "tasks/get" | "tasks/update" | "tasks/cancel" => {
            return Box::pin(tasks::handle(gateway, caller, request)).await;
        }
        other => Err(RpcFault::new(METHOD_NOT_FOUND, format!("there is no method `{other}`"))),
    };
    answered.unwrap_or_else(Reply::Fault)
}

/// A parameter that must be a string.
fn text(request: &Request<'_>, key: &str) -> Result<String, RpcFault> {
    let missing = || RpcFault::new(INVALID_PARAMS, format!("`{}` needs the string `{key}`", request.method));
    serde_json::from_str(request.param(key).ok_or_else(missing)?.get()).map_err(|_| missing())
}

/// The parameters of a request with one of them replaced, without what belongs to a question.
fn with<'a>(request: &'a Request<'_>, key: &'a str, value: &'a RawValue) -> Vec<(&'a str, &'a RawValue)> {
    let kept = request.params.iter().filter(|(name, _)| !matches!(&**name, "inputResponses" | "requestState"));
    kept.map(|(name, kept)| (&**name, if name == key { value } else { *kept })).collect()
}

/// What `find` finds among what an endpoint shows. Just after the start not all is known: what is missing is waited for as long as a list would
/// be.
async fn found<T>(
    gateway: &Gateway,
    caller: &Caller,
    find: impl Fn(&Snapshot) -> Option<T>,
) -> Result<Option<T>, RpcFault> {
    let look = || match gateway.snapshot(caller) {
        Some(snapshot) => Ok(find(&snapshot)),
        None => Err(no_endpoint(caller)),
    };
    if let Some(found) = look()? {
        return Ok(Some(found));
    }
    gateway.settled().await;
    look()
}

/// That there is no such endpoint.
fn no_endpoint(caller: &Caller) -> RpcFault {
    let name = caller.endpoint.as_deref().unwrap_or_default();
    RpcFault::new(INVALID_PARAMS, format!("there is no endpoint `{name}`; name one of [gateway.endpoints]"))
}
