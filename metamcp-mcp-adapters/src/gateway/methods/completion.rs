//! `completion/complete`: to the server whose prompt or resource template it is about.

use metamcp_core::json::RawJson;

use super::{Caller, ClientSide, Gateway, Reply, Request, RpcFault, found, prompts, relayed, with};
use crate::{
    gateway::members::{Members, with_text},
    wire::era::INVALID_PARAMS,
};

/// Passes a request for completions on.
pub(super) async fn complete(
    gateway: &Gateway,
    caller: &Caller,
    request: &Request<'_>,
    side: &dyn ClientSide,
) -> Result<Reply, RpcFault> {
    let invalid = |what: &str| RpcFault::new(INVALID_PARAMS, format!("`completion/complete`: {what}"));
    let reference = request.param("ref").ok_or_else(|| invalid("needs the object `ref`"))?;
    let members = Members::of(reference.get()).map_err(|_| invalid("needs the object `ref`"))?;
    let kind = members.text("type").unwrap_or_default();
    let (server, renamed) = match &*kind {
        "ref/prompt" => {
            let name = members.text("name").ok_or_else(|| invalid("`ref` needs a `name`"))?;
            let prompt = found(gateway, caller, |snapshot| {
                let prompt = snapshot.prompt(&name)?;
                Some((prompt.server.clone(), with_text(reference.get(), "name", &prompt.own_name)))
            });
            prompt.await?.ok_or_else(|| prompts::unknown(&name))?
        }
        "ref/resource" => {
            let uri = members.text("uri").ok_or_else(|| invalid("`ref` needs a `uri`"))?;
            let owner = found(gateway, caller, |snapshot| snapshot.template_owner(&uri).cloned());
            let owner = owner.await?.ok_or_else(|| invalid(&format!("no server has the template `{uri}`")))?;
            (owner, None)
        }
        other => return Err(invalid(&format!("`{other}` is neither `ref/prompt` nor `ref/resource`"))),
    };
    let renamed = renamed.and_then(|text| RawJson::parse(text).ok());
    let params = with(request, "ref", renamed.as_ref().map_or(reference, RawJson::raw));
    let forward = relayed::Forward { server: &server, name: None, params: &params };
    let answered = relayed::ask(gateway, caller, request, forward, side).await;
    answered.map(Reply::Result).map_err(|error| relayed::fault(&server, error))
}
