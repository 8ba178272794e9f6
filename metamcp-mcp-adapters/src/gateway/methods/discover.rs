//! `server/discover`: what the endpoint says of itself, in the modern era.

use metamcp_core::json::RawJson;
use serde::Serialize;

use super::{Caller, Gateway, Reply, RpcFault, no_endpoint};
use crate::wire::era::{LEGACY, MODERN};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DiscoverResult<'a> {
    result_type: &'static str,
    supported_versions: Vec<&'static str>,
    capabilities: &'a RawJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    instructions: Option<&'a str>,
    ttl_ms: u64,
    cache_scope: &'static str,
}

/// Every revision, capabilities, instructions.
pub(super) async fn discover(gateway: &Gateway, caller: &Caller) -> Result<Reply, RpcFault> {
    gateway.settled().await;
    let told = gateway.discover(caller.endpoint.as_deref(), &caller.principal).ok_or_else(|| no_endpoint(caller))?;
    let result = DiscoverResult {
        result_type: "complete",
        supported_versions: [MODERN].into_iter().chain(LEGACY.into_iter().rev()).collect(),
        capabilities: &told.capabilities,
        instructions: told.instructions.as_deref(),
        ttl_ms: u64::try_from(gateway.options().list_ttl.as_millis()).unwrap_or(u64::MAX),
        cache_scope: "private",
    };
    Ok(Reply::Result(RawJson::from_value(&result).expect("the result has string keys only")))
}
