//! Lists: a page of the snapshot, as it is kept. Nothing is read from any server, nothing is made.

use super::{Caller, Gateway, Reply, Request, RpcFault, no_endpoint};
use crate::{
    gateway::catalog::{Pages, Snapshot},
    wire::era::INVALID_PARAMS,
};

/// One page of a list.
pub(super) async fn list(
    gateway: &Gateway,
    caller: &Caller,
    request: &Request<'_>,
    of: fn(&Snapshot) -> &Pages,
) -> Result<Reply, RpcFault> {
    let unknown = || RpcFault::new(INVALID_PARAMS, "the list has no such `cursor`, or has changed; begin without one");
    let cursor = match request.param("cursor").map(|cursor| cursor.get()) {
        None | Some("null") => None,
        Some(text) => Some(serde_json::from_str::<String>(text).map_err(|_| unknown())?),
    };
    gateway.settled().await;
    gateway.asked_for_lists();
    let snapshot = gateway.snapshot(caller).ok_or_else(|| no_endpoint(caller))?;
    of(&snapshot).page(caller.era, cursor.as_deref()).map(Reply::Kept).ok_or_else(unknown)
}
