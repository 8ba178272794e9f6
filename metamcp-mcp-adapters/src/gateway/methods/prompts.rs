//! `prompts/get`: to the server whose prompt it is, under the name it has there.

use metamcp_core::json::RawJson;

use super::{Caller, ClientSide, Gateway, Reply, Request, RpcFault, no_endpoint, relayed, text, with};
use crate::wire::era::INVALID_PARAMS;

/// Passes a prompt on.
pub(super) async fn get(
    gateway: &Gateway,
    caller: &Caller,
    request: &Request<'_>,
    side: &dyn ClientSide,
) -> Result<Reply, RpcFault> {
    let name = text(request, "name")?;
    let (server, own_name) = {
        let snapshot = gateway.snapshot(caller.endpoint.as_deref()).ok_or_else(|| no_endpoint(caller))?;
        let prompt = snapshot.prompt(&name).ok_or_else(|| unknown(&name))?;
        (prompt.server.clone(), prompt.own_name.clone())
    };
    let own = RawJson::from_value(&*own_name).expect("a string is JSON");
    let params = with(request, "name", own.raw());
    let forward = relayed::Forward { server: &server, name: Some(&own_name), params: &params };
    relayed::relay(gateway, caller, request, forward, side).await
}

/// That there is no such prompt.
pub(super) fn unknown(name: &str) -> RpcFault {
    RpcFault::new(INVALID_PARAMS, format!("there is no prompt `{name}`; `prompts/list` tells those that are there"))
}
