//! A server's question on its way to a client: when the client cannot be asked, or takes its request back, the server's call is ended and not
//! left to wait for an answer that never comes.

use metamcp_core::{id::ServerName, json::RawJson};

use super::{Gateway, bridge::asks, members::Members};

/// A question without an answer. Dropping it ends the call that waits for it.
#[derive(Debug)]
pub(crate) struct Unanswered(Option<(Gateway, ServerName, RawJson)>);

impl Unanswered {
    /// The question that a result is, if it is one that a call waits for.
    pub(crate) fn of(gateway: &Gateway, server: &ServerName, result: &RawJson) -> Self {
        if !asks(result) {
            return Self(None);
        }
        let state =
            Members::of(result.get()).ok().and_then(|members| members.get("requestState").map(ToOwned::to_owned));
        Self(state.map(|state| (gateway.clone(), server.clone(), state.into())))
    }

    /// The client has answered, or goes on in its own time.
    pub(crate) fn taken(mut self) {
        self.0 = None;
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        let (Some((gateway, server, state)), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        runtime.spawn(async move {
            // Who is not connected any more has nothing that waits.
            if let Ok(transport) = gateway.engine().transport(&server).await
                && let Some(relay) = transport.relay()
            {
                relay.give_up(&state).await;
            }
        });
    }
}
