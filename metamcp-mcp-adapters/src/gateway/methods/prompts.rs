//! `prompts/get`: to the server whose prompt it is, under the name it has there.

use metamcp_core::json::RawJson;

use super::{Caller, ClientSide, Gateway, Reply, Request, RpcFault, found, relayed, text, with};
use crate::wire::era::INVALID_PARAMS;

/// Passes a prompt on.
pub(super) async fn get(
    gateway: &Gateway,
    caller: &Caller,
    request: &Request<'_>,
    side: &dyn ClientSide,
) -> Result<Reply, RpcFault> {
    let name = text(request, "name")?;
    let prompt = found(gateway, caller, |snapshot| {
        snapshot.prompt(&name).map(|prompt| (prompt.server.clone(), prompt.own_name.clone()))
    });
    let (server, own_name) = prompt.await?.ok_or_else(|| unknown(&name))?;
    let own = RawJson::from_value(&*own_name).expect("a string is JSON");
    let params = with(request, "name", own.raw());
    let forward = relayed::Forward { server: &server, name: Some(&own_name), params: &params };
    relayed::relay(gateway, caller, request, forward, side).await
}

/// That there is no such prompt.
pub(super) fn unknown(name: &str) -> RpcFault {
    RpcFault::new(INVALID_PARAMS, format!("there is no prompt `{name}`; `prompts/list` tells those that are there"))
}
