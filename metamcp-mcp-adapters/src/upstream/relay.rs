//! A connected server as a [`Relay`]: any request of the protocol, passed on as it was written.

use std::time::Duration;

use async_trait::async_trait;
use metamcp_core::{
    json::RawJson,
    transport::{Introduction, Relay, RelayError, RelayNews, RelayRequest, RelaySide, RelayedError},
};
use serde_json::value::RawValue;
use tokio::{sync::broadcast, time::timeout};

use super::{
    handover::Holder,
    level::{self, Wanted},
    parked,
    reached::Reached,
    session::Session,
    way::Failure,
};
use crate::wire::era::Era;

/// Longest wait until a server has set its log level, in seconds; the request is not held up for longer.
const SET_LEVEL_S_MAX: u64 = 5;

impl Session {
    /// The members of a request to a legacy server that are about an answer it waits for.
    async fn request_legacy(&self, request: RelayRequest<'_>, side: &dyn RelaySide) -> Result<RawJson, Failure> {
        let wanted = level::rank(request.meta.log_level);
        // Boxed, like all the rare ways: the future of every call would carry them.
        if self.agreed.can.logging.is_some() && self.level.lowers(wanted, self.way.renewals()) {
            Box::pin(self.set_level(request.meta.log_level)).await;
        }
        let side = Wanted { side, rank: wanted };
        let member = |key: &str| request.params.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
        let reached = match member("requestState") {
            None => self.make(request, &side).await?,
            Some(state) => {
                // A state that names nothing finds nothing.
                let (state, responses) = (parked::named(state).unwrap_or_default(), member("inputResponses"));
                responses.map_or(Ok(()), parked::check)?;
                self.go_on(&state, responses, request, &side).await?
            }
        };
        Ok(match reached {
            Reached::Result(result) => result,
            Reached::Parked { open, state } => parked::input_required(&open, &state),
        })
    }

    async fn set_level(&self, level: Option<&RawValue>) {
        let level = level.map(|level| ("level", level));
        let set = self.plain("logging/setLevel", None, level.as_slice());
        if let Ok(Err(failure)) = timeout(Duration::from_secs(SET_LEVEL_S_MAX), set).await {
            tracing::debug!(server = %self.info.server, ?failure, "the log level could not be set");
        }
    }

    fn relayed(&self, failure: Failure) -> RelayError {
        match failure {
            Failure::Rpc(error, _) => {
                RelayError::Rpc(RelayedError { code: error.code, message: error.message, data: error.data })
            }
            Failure::Status(_, error) | Failure::Other(error) => RelayError::Transport(error),
        }
    }
}

#[async_trait]
impl Relay for Session {
    fn introduction(&self) -> &Introduction {
        &self.agreed.introduction
    }

    async fn request(&self, request: RelayRequest<'_>, side: &dyn RelaySide) -> Result<RawJson, RelayError> {
        let answered = match self.agreed.era {
            Era::Legacy => self.request_legacy(request, side).await,
            Era::Modern => match self.make(request, side).await {
                Ok(Reached::Result(result)) => Ok(result),
                Ok(Reached::Parked { open, state }) => Ok(parked::input_required(&open, &state)),
                Err(failure) => Err(failure),
            },
        };
        answered.map_err(|failure| self.relayed(failure))
    }

    async fn give_up(&self, state: &RawJson) {
        if let Some(state) = parked::named(state.raw()) {
            self.end_parked(&state).await;
        }
    }

    fn news(&self) -> broadcast::Receiver<RelayNews> {
        self.way.news().receiver()
    }

    async fn watch(&self, uris: &[String]) -> Result<(), RelayError> {
        self.watch_only(uris).await.map_err(|failure| self.relayed(failure))
    }
}
