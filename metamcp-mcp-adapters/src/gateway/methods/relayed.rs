//! A request passed on to the server whose it is: its own words, the caller's capabilities, and the way back for what comes beside the answer.

use metamcp_core::{
    id::ServerName,
    json::RawJson,
    transport::{Delivered, RelayError, RelayMeta, RelayRequest, RelaySide, RelayedError},
};
use serde_json::value::RawValue;

use super::{
    super::{
        bridge::{Bridge, Origin},
        elicitations::REQUIRED,
        members::with_json,
        unanswered::Unanswered,
    },
    Caller, ClientSide, Gateway, Reply, Request, RpcFault,
};
pub(crate) use crate::wire::era::INTERNAL_ERROR;

/// What the protocol itself keeps in `_meta` begins so.
const PROTOCOL_PREFIX: &str = "io.modelcontextprotocol/";

/// Where a request goes and what it says there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forward<'a> {
    pub(crate) server: &'a ServerName,
    /// The tool, prompt or resource it is about, as the server calls it.
    pub(crate) name: Option<&'a str>,
    /// The members of `params`, without `_meta`.
    pub(crate) params: &'a [(&'a str, &'a RawValue)],
}

/// Passes a request on once; what comes beside the answer goes to the caller.
///
/// # Errors
/// The server's own error, or why there is no answer.
pub(crate) async fn ask(
    gateway: &Gateway,
    caller: &Caller,
    request: &Request<'_>,
    forward: Forward<'_>,
    side: &dyn ClientSide,
) -> Result<RawJson, RelayError> {
    let transport = gateway.engine().transport(forward.server).await.map_err(RelayError::Transport)?;
    let relay = transport
        .relay()
        .ok_or_else(|| RelayError::unsupported(format!("server `{}` only serves tools", forward.server)))?;
    let side = Beside::new(request, side);
    let extra: Vec<(&str, &RawValue)> = request
        .meta
        .iter()
        .filter(|(key, _)| key != "progressToken" && !key.starts_with(PROTOCOL_PREFIX))
        .map(|(key, value)| (&**key, *value))
        .collect();
    let meta = RelayMeta {
        capabilities: Some(caller.capabilities.raw()),
        client_info: caller.client_info.as_ref().map(RawJson::raw),
        log_level: caller.log_level.as_ref().map(RawJson::raw),
        progress: side.token.is_some(),
        extra: &extra,
    };
    let Forward { name, params, .. } = forward;
    relay.request(RelayRequest { method: &request.method, name, params, meta }, &side).await
}

/// Passes on a request that the server may answer with questions, and takes them to the caller.
///
/// # Errors
/// What the caller is told in place of a result.
pub(crate) async fn relay(
    gateway: &Gateway,
    caller: &Caller,
    request: &Request<'_>,
    forward: Forward<'_>,
    side: &dyn ClientSide,
) -> Result<Reply, RpcFault> {
    let (server, method) = (forward.server, &*request.method);
    let origin = Origin { who: &caller.principal, server, method, name: forward.name.unwrap_or_default() };
    let mut bridge = Bridge::new(gateway.seal(), gateway.elicitations(), caller, side, origin, request)?;
    // Ends: the bridge bounds how often a client is asked.
    loop {
        let mut params = forward.params.to_vec();
        params.extend(bridge.answers().map(|answers| ("inputResponses", answers.raw())));
        params.extend(bridge.state().map(|state| ("requestState", state.raw())));
        let result = ask(gateway, caller, request, Forward { params: &params, ..forward }, side).await;
        let result = result.map_err(|error| {
            if let RelayError::Rpc(error) = &error {
                note_required(gateway, server, error, side);
            }
            fault(server, error)
        })?;
        let unanswered = Unanswered::of(gateway, server, &result);
        let told = bridge.take(result).await?;
        unanswered.taken();
        if let Some(result) = told {
            return Ok(Reply::Result(result));
        }
    }
}

/// A server's error may send the client to URLs: it is to hear when it is done there.
pub(crate) fn note_required(gateway: &Gateway, server: &ServerName, error: &RelayedError, side: &dyn ClientSide) {
    if error.code == REQUIRED {
        gateway.elicitations().required(server, error.data.as_ref(), side.address());
    }
}

/// What a caller is told when there is no result: the server's own error, or what is known of the attempt.
pub(crate) fn fault(server: &ServerName, error: RelayError) -> RpcFault {
    match error {
        RelayError::Rpc(error) => RpcFault { code: error.code, message: error.message, data: error.data },
        RelayError::Transport(error) => {
            let delivered = match error.delivered {
                Delivered::No => "no",
                Delivered::Maybe => "maybe",
                Delivered::Yes => "yes",
            };
            let data = serde_json::json!({ "server": server.as_str(), "delivered": delivered });
            RpcFault { code: INTERNAL_ERROR, message: error.to_string(), data: Some(data.into()) }
        }
    }
}

/// What comes beside an answer, in the caller's terms.
pub(crate) struct Beside<'a> {
    side: &'a dyn ClientSide,
    /// What the caller knows its progress by.
    token: Option<&'a RawValue>,
}

impl<'a> Beside<'a> {
    /// In the terms of who made `request`.
    pub(crate) fn new(request: &Request<'a>, side: &'a dyn ClientSide) -> Self {
        Self { side, token: request.meta("progressToken") }
    }
}

impl RelaySide for Beside<'_> {
    fn notify(&self, method: &str, params: Option<&RawValue>) {
        if method != "notifications/progress" {
            return self.side.notify(method, params);
        }
        let (Some(token), Some(params)) = (self.token, params) else { return };
        if let Some(renamed) = with_json(params.get(), "progressToken", token.get())
            && let Ok(renamed) = RawJson::parse(renamed)
        {
            self.side.notify(method, Some(renamed.raw()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;

    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    #[async_trait]
    impl ClientSide for Heard {
        fn notify(&self, method: &str, params: Option<&RawValue>) {
            self.0.lock().unwrap().push(format!("{method} {}", params.map_or("", RawValue::get)));
        }

        async fn ask(&self, _: &str, _: &RawJson) -> Result<RawJson, RpcFault> {
            Err(RpcFault::new(0, "nobody is asked"))
        }
    }

    #[test]
    fn progress_and_messages_come_back_in_the_callers_terms() {
        let heard = Heard::default();
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        let token = raw("\"mine\"");
        let side = Beside { side: &heard, token: Some(&token) };
        side.notify("notifications/progress", Some(&raw(r#"{"progress":1.0,"progressToken":7,"x":[]}"#)));
        side.notify("notifications/message", Some(&raw(r#"{"level":"info","data":1}"#)));
        let silent = Beside { side: &heard, token: None };
        silent.notify("notifications/progress", Some(&raw(r#"{"progressToken":7}"#)));
        assert_eq!(
            *heard.0.lock().unwrap(),
            [
                r#"notifications/progress {"progress":1.0,"progressToken":"mine","x":[]}"#,
                r#"notifications/message {"level":"info","data":1}"#,
            ]
        );
    }
}
