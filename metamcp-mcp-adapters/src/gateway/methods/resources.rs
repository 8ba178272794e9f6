//! `resources/read`: to the server whose resource it is. URIs are nobody's to change, so they go through as they are.

use metamcp_core::json::RawJson;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Caller, ClientSide, Gateway, Reply, Request, RpcFault, found, relayed, route, servers, text, with};
use crate::{
    gateway::{catalog::SERVERS_URI, pointers},
    wire::era::{Era, INVALID_PARAMS},
};

/// What servers of the legacy era answer for a resource that is not there.
const LEGACY_NOT_FOUND: i64 = -32002;

/// Reads a resource.
pub(super) async fn read(
    gateway: &Gateway,
    caller: &Caller,
    request: &Request<'_>,
    side: &dyn ClientSide,
) -> Result<Reply, RpcFault> {
    let uri = text(request, "uri")?;
    if uri == SERVERS_URI {
        return servers::read(gateway, caller);
    }
    if let Some(job) = route::job_of(&uri) {
        return route::read(gateway, caller, &uri, job).await;
    }
    if uri.starts_with(pointers::SCHEME) {
        return pointers::read(gateway, caller, &uri).await.map(Reply::Result);
    }
    let owner = found(gateway, caller, |snapshot| snapshot.owner(&uri).cloned());
    let server = owner.await?.ok_or_else(|| not_found(&uri))?;
    let written = request.param("uri").ok_or_else(|| not_found(&uri))?;
    let params = with(request, "uri", written);
    let forward = relayed::Forward { server: &server, name: Some(&uri), params: &params };
    match relayed::relay(gateway, caller, request, forward, side).await {
        Ok(Reply::Result(result)) if caller.era == Era::Modern => Ok(Reply::Result(cacheable(result))),
        Err(fault) if fault.code == LEGACY_NOT_FOUND => Err(RpcFault { code: INVALID_PARAMS, ..fault }),
        other => other,
    }
}

fn not_found(uri: &str) -> RpcFault {
    let message = format!("no server has the resource `{uri}`; `resources/list` tells those that are there");
    let data = serde_json::json!({ "uri": uri });
    RpcFault { code: INVALID_PARAMS, message, data: Some(data.into()) }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Hints<'a> {
    #[serde(borrow, default)]
    result_type: Option<&'a RawValue>,
    #[serde(borrow, default)]
    ttl_ms: Option<&'a RawValue>,
    #[serde(borrow, default)]
    cache_scope: Option<&'a RawValue>,
}

/// A complete result tells for how long it may be kept; a server of the legacy era says nothing of that.
fn cacheable(result: RawJson) -> RawJson {
    let Ok(hints) = serde_json::from_str::<Hints<'_>>(result.get()) else { return result };
    let complete = hints.result_type.is_none_or(|kind| kind.get() == "\"complete\"");
    let missing =
        [(hints.ttl_ms.is_none(), "\"ttlMs\":0,"), (hints.cache_scope.is_none(), "\"cacheScope\":\"private\",")];
    let added: String = missing.iter().filter(|(missing, _)| *missing).map(|(_, text)| *text).collect();
    let Some(rest) = result.get().strip_prefix('{').filter(|_| complete && !added.is_empty()) else { return result };
    let added = if rest.trim_start().starts_with('}') { added.trim_end_matches(',') } else { &added };
    RawJson::parse(format!("{{{added}{rest}")).unwrap_or(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_without_hints_is_not_to_be_kept() {
        let told = |text: &str| cacheable(RawJson::parse(text).unwrap()).get().to_owned();
        assert_eq!(told(r#"{"contents":[ ]}"#), r#"{"ttlMs":0,"cacheScope":"private","contents":[ ]}"#);
        assert_eq!(told("{}"), r#"{"ttlMs":0,"cacheScope":"private"}"#);
        assert_eq!(told(r#"{"ttlMs":5,"x":1}"#), r#"{"cacheScope":"private","ttlMs":5,"x":1}"#);
        for same in [r#"{"ttlMs":5,"cacheScope":"public"}"#, r#"{"resultType":"input_required"}"#] {
            assert_eq!(told(same), same);
        }
    }
}
