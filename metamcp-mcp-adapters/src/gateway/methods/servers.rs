//! The resource `metamcp://servers`: which servers are behind an endpoint, whether each is there and why not, and which names clash.

use metamcp_core::{json::RawJson, registry::ServerState};
use serde::Serialize;

use super::{Caller, Gateway, Reply, RpcFault, no_endpoint};
use crate::gateway::catalog::{Clash, SERVERS_URI};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    servers: Vec<Server>,
    clashes: &'a [Clash],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Server {
    name: String,
    state: ServerState,
    /// Milliseconds since 1970.
    since: u64,
    /// Not in the lists: it has been down for too long.
    left_out: bool,
    tools: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    implementation: Option<String>,
    /// Why it could not be reached, or its lists not be read, the last time.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReadResult {
    result_type: &'static str,
    contents: [Contents; 1],
    ttl_ms: u64,
    cache_scope: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Contents {
    uri: &'static str,
    mime_type: &'static str,
    text: String,
}

/// Reads it as it stands now.
pub(super) fn read(gateway: &Gateway, caller: &Caller) -> Result<Reply, RpcFault> {
    let snapshot = gateway.snapshot(caller).ok_or_else(|| no_endpoint(caller))?;
    let chosen = gateway.options().endpoint(caller.endpoint.as_deref()).ok_or_else(|| no_endpoint(caller))?;
    let statuses = gateway.engine().servers_for(&caller.principal).into_iter();
    let servers = statuses.filter(|status| chosen.shows(&status.name)).map(|status| Server {
        left_out: gateway.is_left_out(&status.name),
        reason: status.last_failure.or_else(|| gateway.unread(&status.name)),
        name: status.name.to_string(),
        state: status.state,
        since: status.since.as_millis(),
        tools: status.tools,
        protocol: status.protocol,
        implementation: status.implementation,
    });
    let report = Report { servers: servers.collect(), clashes: &snapshot.clashes };
    let text = serde_json::to_string_pretty(&report).expect("a report has string keys only");
    let result = ReadResult {
        result_type: "complete",
        contents: [Contents { uri: SERVERS_URI, mime_type: "application/json", text }],
        ttl_ms: 0,
        cache_scope: "private",
    };
    Ok(Reply::Result(RawJson::from_value(&result).expect("a result has string keys only")))
}
