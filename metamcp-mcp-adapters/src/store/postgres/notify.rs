//! LISTEN and NOTIFY over one connection for each process, so that a job enqueued anywhere is found at once and not by the next poll.
//!
//! NOTIFY takes a lock that all committers of a database share: it is never part of a caller's transaction. What was told is gathered and
//! sent, at most once in [`NOTIFY_GAP_MS`], after the callers have their answers. While the connection is down hints are lost, except for
//! those that this process still has to send; after each reconnect everybody here is woken once.

use std::{convert::Infallible, future::poll_fn, sync::Arc, time::Duration};

use metamcp_core::{
    error::{StoreError, StoreErrorKind, StoreResult},
    id::Lane,
};
use tokio::sync::watch;
use tokio_postgres::{AsyncMessage, Client, Error};
use tokio_util::task::AbortOnDropHandle;

use super::{
    STORE,
    backoff::full_jitter,
    connector::{Connector, Wire},
    error,
    wakes::{Hints, Waiter, Wakes},
};

/// Least time between two notifications of one process, in milliseconds: at most 20 in a second.
pub const NOTIFY_GAP_MS: u64 = 50;
/// A connection that had nothing to say for this long is asked whether it lives, in milliseconds.
pub const LISTEN_PING_MS: u64 = 15_000;
/// How long one statement on this connection may take, in milliseconds.
const ANSWER_TIMEOUT_MS: u64 = 5_000;
/// The first pause before a reconnect is drawn below this, in milliseconds.
const RECONNECT_BASE_MS: u64 = 100;
/// No pause before a reconnect is longer, in milliseconds.
const RECONNECT_CAP_MS: u64 = 10_000;

/// Tells other processes of ready jobs and new events, and hears from them. Stops when it is dropped.
#[derive(Debug)]
pub struct Notifier {
    wakes: Arc<Wakes>,
    listening: watch::Receiver<bool>,
    _task: AbortOnDropHandle<()>,
}

impl Notifier {
    /// Starts to listen on the channel `channel`, a plain name.
    pub(super) fn start(connector: Connector, channel: &str) -> Self {
        let wakes = Arc::new(Wakes::new());
        let (up, listening) = watch::channel(false);
        let line = Line {
            connector,
            listen: format!("listen {channel}"),
            channel: channel.to_owned(),
            sender: rand::random(),
            wakes: Arc::clone(&wakes),
            up,
        };
        Self { wakes, listening, _task: AbortOnDropHandle::new(tokio::spawn(line.keep())) }
    }

    /// Jobs of these lanes became ready. To be called when that is committed; returns at once.
    pub fn ready<'a>(&self, lanes: impl IntoIterator<Item = &'a Lane>) {
        self.wakes.ready(lanes);
    }

    /// There are new events. To be called when they are committed; returns at once.
    pub fn news(&self) {
        self.wakes.news();
    }

    /// Waits for jobs of these lanes. Hints count from now on: make it, ask the tables, then wait.
    #[must_use]
    pub fn waiter(&self, lanes: &[Lane]) -> Waiter {
        self.wakes.waiter(lanes)
    }

    /// Changes each time when there may be new events.
    #[must_use]
    pub fn events(&self) -> watch::Receiver<u64> {
        self.wakes.events()
    }

    /// Whether the connection is up. While it is not, only polling finds what other processes did.
    #[must_use]
    pub fn listening(&self) -> watch::Receiver<bool> {
        self.listening.clone()
    }
}

/// The connection and what it needs to come back.
struct Line {
    connector: Connector,
    listen: String,
    channel: String,
    /// Random, drawn at the start: by it a process knows what it sent itself.
    sender: u64,
    wakes: Arc<Wakes>,
    up: watch::Sender<bool>,
}

impl Line {
    /// Holds the connection and makes it again for as long as somebody wants it.
    async fn keep(self) {
        let mut failures = 0;
        loop {
            let Err(error) = self.serve().await;
            let was_up = self.up.send_replace(false);
            if was_up || failures == 0 {
                tracing::warn!(%error, "no notifications from other processes until the connection is back; polling goes on");
            }
            failures = if was_up { 0 } else { failures + 1 };
            let (base, cap) = (Duration::from_millis(RECONNECT_BASE_MS), Duration::from_millis(RECONNECT_CAP_MS));
            tokio::time::sleep(full_jitter(base, cap, failures)).await;
        }
    }

    async fn serve(&self) -> StoreResult<Infallible> {
        let (client, wire) = self.connector.connect_wire().await?;
        // The answers of `tell` come through the wire that `hear` reads: both run until one of them fails.
        let (_, never) = tokio::try_join!(self.hear(wire), self.tell(&client))?;
        match never {}
    }

    async fn hear(&self, mut wire: Wire) -> StoreResult<Infallible> {
        while let Some(message) = poll_fn(|cx| wire.poll_message(cx)).await {
            if let AsyncMessage::Notification(heard) = message.map_err(|e| self.lost(e))? {
                let (sender, hints) = Hints::read(heard.payload());
                // Its own waiters were woken when it was told.
                if sender != Some(self.sender) {
                    self.wakes.wake(&hints);
                }
            }
        }
        let message = format!("{} closed the connection that listens", self.connector.place());
        Err(StoreError::new(StoreErrorKind::Unavailable, STORE, message))
    }

    async fn tell(&self, client: &Client) -> StoreResult<Infallible> {
        let notify = self.answered(async {
            self.connector.prepare(client).await?;
            client.batch_execute(&self.listen).await.map_err(|e| self.lost(e))?;
            client.prepare("select pg_notify($1, $2)").await.map_err(|e| self.lost(e))
        });
        let notify = notify.await?;
        // What came while nobody listened is not known.
        self.wakes.wake(&Hints::everything());
        self.up.send_replace(true);
        loop {
            if tokio::time::timeout(Duration::from_millis(LISTEN_PING_MS), self.wakes.told.notified()).await.is_err() {
                self.answered(async { client.check_connection().await.map_err(|e| self.lost(e)) }).await?;
            }
            let Some(untold) = self.wakes.untold() else { continue };
            let payload = untold.payload(self.sender);
            self.answered(async {
                client.execute(&notify, &[&self.channel, &payload]).await.map_err(|e| self.lost(e))
            })
            .await?;
            untold.told();
            tokio::time::sleep(Duration::from_millis(NOTIFY_GAP_MS)).await;
        }
    }

    async fn answered<T>(&self, call: impl Future<Output = StoreResult<T>>) -> StoreResult<T> {
        let bound = Duration::from_millis(ANSWER_TIMEOUT_MS);
        let answer = tokio::time::timeout(bound, call).await;
        answer.unwrap_or_else(|_| Err(error::timed_out("gave no answer", self.connector.place(), bound)))
    }

    fn lost(&self, error: Error) -> StoreError {
        error::of_call(error, self.connector.place())
    }
}
