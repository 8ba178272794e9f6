//! Follows one server for as long as the gateway lives: connects, reads what it offers, reads again what it says has changed, and leaves it
//! out when it has been down for too long. Nobody waits for this task, so a server that hangs costs nobody anything.

use std::{sync::Arc, time::Duration};

use metamcp_core::{
    engine::Orchestrator,
    id::ServerName,
    record::RecordStore,
    transport::{McpTransport, Relay, RelayError, RelayNews, TransportErrorKind},
};
use tokio::{
    sync::{broadcast, watch},
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    Catalog, keep,
    offer::{Lists, Offer},
    read,
};
use crate::gateway::{elicitations, members::Members, subscribe::Hub};

/// How often is looked whether the connection is still the living one, in milliseconds.
const LOOK_MS: u64 = 1_000;
/// Least time between two readings of a server's lists, in milliseconds: some tell of each of many changes.
const READ_MS_MIN: u64 = 500;
/// Least age at which lists are read again because somebody wants them, in seconds, however short their time is.
const STALE_S_MIN: u64 = 5;
/// Pause after lists could not be read, in seconds.
const REREAD_S: u64 = 10;
/// Shortest and longest pause between two attempts to connect, in seconds; in between the engine says how long.
const RECONNECT_S: (u64, u64) = (1, 60);
/// Longest wait for a server to take the list of watched resources, in seconds.
const WATCH_S_MAX: u64 = 30;

/// Follows one server.
#[derive(Debug)]
pub(crate) struct Follower {
    pub(crate) engine: Orchestrator,
    pub(crate) records: Arc<dyn RecordStore>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) server: ServerName,
}

impl Follower {
    /// Runs until it is dropped.
    pub(crate) async fn run(self) {
        match keep::read(&*self.records, &self.server).await {
            Ok(Some(lists)) => self.show(&lists),
            Ok(None) => {}
            Err(error) => tracing::warn!(server = %self.server, %error, "the last known lists cannot be read"),
        }
        let mut down_since = Instant::now();
        let mut kept: Option<(Lists, Instant)> = None;
        loop {
            match self.connect(down_since).await {
                Ok(transport) => {
                    self.stay(&transport, &mut kept).await;
                    down_since = Instant::now();
                    sleep(Duration::from_secs(RECONNECT_S.0)).await;
                }
                Err(pause) => {
                    self.catalog.unreachable(&self.server);
                    self.leave_out_after(down_since, sleep(pause)).await;
                }
            }
        }
    }

    /// The connection to the server, or how long to wait before the next attempt.
    async fn connect(&self, down_since: Instant) -> Result<Arc<dyn McpTransport>, Duration> {
        let connected = self.leave_out_after(down_since, self.engine.transport(&self.server)).await;
        connected.map_err(|error| {
            let (shortest, longest) = RECONNECT_S;
            error.retry_after.unwrap_or_default().clamp(Duration::from_secs(shortest), Duration::from_secs(longest))
        })
    }

    /// Waits for `done`, and leaves the server out when its grace ends before that.
    async fn leave_out_after<T>(&self, down_since: Instant, done: impl Future<Output = T>) -> T {
        let mut done = std::pin::pin!(done);
        match tokio::time::timeout_at(down_since + self.catalog.grace(), &mut done).await {
            Ok(done) => done,
            Err(_) => {
                self.catalog.leave_out(&self.server);
                done.await
            }
        }
    }

    /// Keeps the lists true while the connection lasts.
    async fn stay(&self, transport: &Arc<dyn McpTransport>, kept: &mut Option<(Lists, Instant)>) {
        let relay = transport.relay();
        let mut news = relay.map(|relay| relay.news());
        let mut watched = self.hub.watched(&self.server);
        watched.mark_changed();
        let refresh = self.catalog.options.refresh;
        let (mut read_at, mut stale_at, mut watch_at) = (Instant::now(), None::<Instant>, None::<Instant>);
        let mut tools_known = self.engine.catalog().revision();
        loop {
            tokio::select! {
                () = sleep_until(read_at) => {
                    tools_known = self.engine.catalog().revision();
                    let pause = if self.read(&**transport, kept).await { refresh } else { Duration::from_secs(REREAD_S) };
                    read_at = Instant::now() + pause;
                    stale_at = self.stale_at(kept);
                }
                () = self.catalog.asked.notified() => {
                    if stale_at.is_some_and(|stale| stale <= Instant::now()) {
                        (read_at, stale_at) = (Instant::now(), None);
                    }
                }
                told = next(&mut news) => {
                    if self.take(told) {
                        read_at = read_at.min(Instant::now() + Duration::from_millis(READ_MS_MIN));
                        // Lists are also told to have changed where a session was begun anew, which knows nothing of what is watched.
                        watched.mark_changed();
                    }
                }
                uris = next_watched(&mut watched) => {
                    if let Some(relay) = relay {
                        let again = !self.watch(relay, &uris).await;
                        watch_at = again.then(|| Instant::now() + Duration::from_secs(REREAD_S));
                    }
                }
                () = at(watch_at) => {
                    watch_at = None;
                    watched.mark_changed();
                }
                () = sleep(Duration::from_millis(LOOK_MS)) => {
                    if transport.is_closed() {
                        return;
                    }
                    // Who has no news of its own is followed by the engine.
                    if relay.is_none() && tools_known != self.engine.catalog().revision() {
                        read_at = Instant::now();
                    }
                }
            }
        }
    }

    /// Has a server told what to watch; `false` when that may go better later.
    async fn watch(&self, relay: &dyn Relay, uris: &[String]) -> bool {
        let error = match timeout(Duration::from_secs(WATCH_S_MAX), relay.watch(uris)).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        tracing::warn!(server = %self.server, ?error, "does not take the resources to watch");
        match error {
            // What was refused would be refused again.
            Some(RelayError::Rpc(_)) => true,
            Some(RelayError::Transport(error)) => error.kind == TransportErrorKind::Invalid,
            None => false,
        }
    }

    /// From when on the lists that were just read are to be read again once somebody wants them, if their server says so.
    fn stale_at(&self, kept: &Option<(Lists, Instant)>) -> Option<Instant> {
        let ttl = Duration::from_millis(kept.as_ref()?.0.fresh.ttl_ms()?);
        Some(Instant::now() + ttl.max(Duration::from_secs(STALE_S_MIN)))
    }

    /// Whether the lists have to be read again.
    fn take(&self, told: Option<RelayNews>) -> bool {
        // Some news were lost: what they told of is looked at again.
        let Some(RelayNews { method, params }) = told else { return true };
        match &*method {
            "notifications/tools/list_changed"
            | "notifications/prompts/list_changed"
            | "notifications/resources/list_changed" => true,
            "notifications/resources/updated" => {
                let uri = params.as_ref().and_then(|params| Members::of(params.get()).ok()?.text("uri"));
                if let Some(uri) = uri.map(String::from) {
                    self.hub.updated(&self.server, &uri);
                }
                false
            }
            elicitations::COMPLETE => {
                if let Some(params) = &params {
                    self.hub.elicitations.completed(&self.server, params);
                }
                false
            }
            other => {
                tracing::debug!(server = %self.server, method = other, "news that is for nobody");
                false
            }
        }
    }

    /// Reads, shows and keeps the lists; whether that went well.
    async fn read(&self, transport: &dyn McpTransport, kept: &mut Option<(Lists, Instant)>) -> bool {
        let lists = match read::read(transport).await {
            Ok(lists) => lists,
            Err(error) => {
                tracing::warn!(server = %self.server, %error, "lists not read");
                self.catalog.not_read(&self.server, error.to_string());
                return false;
            }
        };
        self.show(&lists);
        if kept.as_ref().is_none_or(|(last, at)| *last != lists || at.elapsed() > keep::RENEW_AFTER) {
            match keep::write(&*self.records, &self.server, &lists).await {
                Ok(()) => *kept = Some((lists, Instant::now())),
                Err(error) => tracing::warn!(server = %self.server, %error, "lists not kept for a restart"),
            }
        }
        true
    }

    fn show(&self, lists: &Lists) {
        let terms = self.engine.terms(&self.server).unwrap_or_default();
        self.catalog.offers(&self.server, Arc::new(Offer::read(&self.server, &terms, lists)));
    }
}

/// The next news; `None` when some were lost. Waits for ever when there are none to come. Cancel safe.
async fn next(news: &mut Option<broadcast::Receiver<RelayNews>>) -> Option<RelayNews> {
    let Some(receiver) = news else { return std::future::pending().await };
    match receiver.recv().await {
        Ok(told) => Some(told),
        Err(broadcast::error::RecvError::Lagged(_)) => None,
        Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
    }
}

/// Waits until then; for ever when there is no such instant. Cancel safe.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// The resources to be watched, when they have changed. Cancel safe.
async fn next_watched(watched: &mut watch::Receiver<Vec<String>>) -> Vec<String> {
    if watched.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
    watched.borrow_and_update().clone()
}
