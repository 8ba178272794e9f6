//! Which resources a server is asked to tell about: listened for anew in the modern era, one by one in the legacy one.

use std::{collections::BTreeSet, time::Duration};

use metamcp_core::transport::{Delivered, TransportErrorKind};
use tokio::time::timeout;

use super::{
    session::{Session, raw},
    watched::Watching,
    way::{Failure, error},
};
use crate::wire::era::Era;

/// Resources of one server that can be watched.
const WATCHED_MAX: usize = 4_096;
/// Longest wait for the server to agree to one change, in seconds.
const WATCH_S_MAX: u64 = 30;

impl Session {
    /// Watches these resources and no others.
    pub(super) async fn watch_only(&self, uris: &[String]) -> Result<(), Failure> {
        if !self.agreed.can.resources.as_ref().is_some_and(|resources| resources.subscribe) {
            return Ok(());
        }
        if uris.len() > WATCHED_MAX {
            let what = format_args!("{} resources cannot be watched, the bound is {WATCHED_MAX}", uris.len());
            return Err(self.invalid(what).into());
        }
        let wanted: BTreeSet<String> = uris.iter().cloned().collect();
        let mut state = self.watched.lock().await;
        let renewals = self.way.renewals();
        if state.renewals != renewals {
            // The server has forgotten them with the session.
            state.renewals = renewals;
            state.uris.clear();
        }
        if state.uris == wanted {
            return Ok(());
        }
        match self.agreed.era {
            Era::Modern => {
                let stream =
                    if wanted.is_empty() { None } else { Some(self.bounded(self.ear().resources(uris)).await?) };
                // The stream before ends only now: nothing is missed in between.
                *state = Watching { uris: wanted, renewals, _stream: stream };
            }
            Era::Legacy => {
                // One that is refused costs the others nothing; the first refusal is told.
                let mut told = Ok(());
                for uri in state.uris.difference(&wanted).cloned().collect::<Vec<_>>() {
                    state.uris.remove(&uri);
                    told = told.and(self.tell_about("resources/unsubscribe", &uri).await);
                }
                for uri in wanted.difference(&state.uris.clone()) {
                    match self.tell_about("resources/subscribe", uri).await {
                        Ok(()) => {
                            state.uris.insert(uri.clone());
                        }
                        Err(refused) => told = told.and(Err(refused)),
                    }
                }
                told?;
            }
        }
        Ok(())
    }

    async fn tell_about(&self, method: &'static str, uri: &str) -> Result<(), Failure> {
        self.bounded(self.plain(method, Some(uri), &[("uri", &raw(uri))])).await.map(drop)
    }

    async fn bounded<T>(&self, step: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        timeout(Duration::from_secs(WATCH_S_MAX), step).await.unwrap_or_else(|_| {
            let what = format!("did not agree to watch its resources within {WATCH_S_MAX} s");
            Err(error(&self.info.server, TransportErrorKind::Timeout, Delivered::Maybe, what).into())
        })
    }
}
