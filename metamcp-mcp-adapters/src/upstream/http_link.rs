//! What the requests of one connection over HTTP share: the client, the headers of the session, who is under way, and what is told beside.

use std::{
    convert::Infallible,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::TryFutureExt as _;
use http::{HeaderMap, Method, Response};
use metamcp_core::{
    id::ServerName,
    transport::{Delivered, TransportError, TransportErrorKind},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    http_client::{AnswerBody, Client},
    http_failure::{SendError, innermost},
    http_refusal::refused,
    news::News,
    slot::{Event, Slot},
    under_way::UnderWay,
    way::error,
};
use crate::wire::{era::Era, frame};

/// Longest wait for the answer to what is only told (notifications, the end of a session), in seconds.
pub(super) const TELL_S_MAX: u64 = 5;
/// Most answers to a server's own requests that are under way at a time; further requests stay unanswered.
const ANSWERS_MAX: usize = 8;

/// How long a question on the server's own stream waits for the stream of the request that it is for, in seconds.
const BEGIN_S_MAX: u64 = 5;
/// Why a question on the server's own stream has no answer.
pub(super) const UNADDRESSED: &str = "cannot tell which caller is asked: ask on the stream of the request that it is for, or while exactly one is under way";

/// Shared with what is sent in the background.
pub(super) struct Link {
    pub(super) server: ServerName,
    client: Client,
    /// Longest silence of the server.
    pub(super) idle: Duration,
    /// Short sections, never held over an await.
    state: Mutex<State>,
    /// Held while a forgotten session is begun anew.
    pub(super) renewing: tokio::sync::Mutex<()>,
    /// How often that was done.
    pub(super) renewals: AtomicU64,
    /// Places for answers to the server's own requests.
    answering: Arc<Semaphore>,
    /// The server's own requests that stayed unanswered.
    unanswered: AtomicU64,
    /// What answers there is not what was agreed with: nothing new is asked, what is under way may end.
    pub(super) stale: AtomicBool,
    pub(super) closing: CancellationToken,
    pub(super) news: News,
}

/// What every request of the connection is sent with.
#[derive(Debug)]
pub(super) struct State {
    /// The configured headers; those of a legacy session are added once it has begun.
    pub(super) headers: Arc<HeaderMap>,
    pub(super) era: Era,
    /// The id and the frame of `initialize`, to begin a session anew with.
    pub(super) initialize: Option<(u64, Bytes)>,
    /// The requests to a legacy server.
    under_way: UnderWay,
}

impl Link {
    pub(super) fn new(server: ServerName, client: Client, headers: HeaderMap, idle: Duration) -> Arc<Self> {
        Arc::new(Self {
            server,
            client,
            idle,
            state: Mutex::new(State {
                headers: Arc::new(headers),
                era: Era::Modern,
                initialize: None,
                under_way: UnderWay::default(),
            }),
            renewing: tokio::sync::Mutex::default(),
            renewals: AtomicU64::new(0),
            answering: Arc::new(Semaphore::new(ANSWERS_MAX)),
            unanswered: AtomicU64::new(0),
            stale: AtomicBool::new(false),
            closing: CancellationToken::new(),
            news: News::new(),
        })
    }

    /// The headers of a request from now on.
    pub(super) fn headers(&self) -> HeaderMap {
        let headers = Arc::clone(&self.state().headers);
        HeaderMap::clone(&headers)
    }

    /// Sends one request and waits for the head of its answer.
    pub(super) fn send(
        &self,
        method: Method,
        headers: HeaderMap,
        body: Bytes,
    ) -> impl Future<Output = Result<Response<AnswerBody>, TransportError>> + Send + Unpin + use<'_> {
        self.client.send(method, headers, body, self.idle).map_err(|error| self.unsent(error))
    }

    /// Sends what has no answer.
    pub(super) async fn tell(&self, frame: String) -> Result<(), TransportError> {
        let sending = self.send(Method::POST, self.headers(), Bytes::from(frame));
        match timeout(Duration::from_secs(TELL_S_MAX), sending).await {
            Ok(Ok(response)) if response.status().is_success() => Ok(()),
            Ok(Ok(response)) => Err(refused(&self.server, self.idle, response).await.into_error(&self.server)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(self.silent()),
        }
    }

    /// Gives what has no address to the only request under way; `false` when there is no such, or no room.
    pub(super) fn push_only(&self, event: Event) -> bool {
        self.state().under_way.only().is_some_and(|slot| slot.push(event))
    }

    /// Answers a request that the server sent beside an answer.
    pub(super) fn answer_later(self: &Arc<Self>, answer: String) {
        if let Ok(place) = Arc::clone(&self.answering).try_acquire_owned() {
            self.tell_later(answer, Some(place));
        } else {
            let unanswered = self.unanswered.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::debug!(server = %self.server, unanswered, "too many requests of the server at a time");
        }
    }

    /// `place` is given back once it is told.
    pub(super) fn tell_later(self: &Arc<Self>, frame: String, place: Option<OwnedSemaphorePermit>) {
        // Outside of a runtime nobody can be told any more.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let link = Arc::clone(self);
            runtime.spawn(async move {
                if let Err(error) = link.tell(frame).await {
                    tracing::debug!(server = %link.server, %error, "could not be told");
                }
                drop(place);
            });
        }
    }

    fn unsent(&self, source: SendError) -> TransportError {
        let (kind, delivered, what) = match source {
            SendError::Connect(_) => (TransportErrorKind::Connect, Delivered::No, "cannot be reached"),
            SendError::Broke(_) => (TransportErrorKind::Closed, Delivered::Maybe, "the connection broke"),
            SendError::Silent => return self.silent(),
        };
        let cause = innermost(&source);
        error(&self.server, kind, delivered, format_args!("{what}: {cause}")).with_source(source)
    }

    pub(super) fn silent(&self) -> TransportError {
        let what = format!("was silent for {} s", self.idle.as_secs_f32());
        error(&self.server, TransportErrorKind::Timeout, Delivered::Maybe, what)
    }

    pub(super) fn closed(&self, delivered: Delivered) -> TransportError {
        error(&self.server, TransportErrorKind::Closed, delivered, "connection was closed")
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request under way. Tells a legacy server when its answer is no longer wanted.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) link: Arc<Link>,
    id: u64,
    /// Whether its end is to be told.
    cancel: bool,
    /// Where questions and log messages come that do not say for which request they are; legacy servers send such.
    pub(super) slot: Option<Arc<Slot>>,
}

impl Guard {
    pub(super) fn unarmed(link: &Arc<Link>) -> Self {
        Self { link: Arc::clone(link), id: 0, cancel: false, slot: None }
    }

    pub(super) fn new(link: &Arc<Link>, id: u64, is_cancellable_legacy: bool) -> Self {
        let slot = is_cancellable_legacy.then(|| Arc::new(Slot::queued(false)));
        if let Some(slot) = &slot {
            link.state().under_way.waiting.insert(id, Arc::clone(slot));
        }
        Self { link: Arc::clone(link), id, cancel: is_cancellable_legacy, slot }
    }

    /// From now on no question is for this request, and those that were are refused.
    pub(super) fn asks_nobody(&self) {
        if let Some(slot) = &self.slot {
            self.link.state().under_way.waiting.remove(&self.id);
            for event in slot.events() {
                if let Event::Question(question) = event {
                    self.link.answer_later(question.refusal(UNADDRESSED));
                }
            }
        }
    }

    /// The same, when a question has waited for too long for the stream to begin.
    pub(super) async fn asks_nobody_later(&self, slot: &Slot) -> Infallible {
        slot.filled().await;
        Box::pin(tokio::time::sleep(Duration::from_secs(BEGIN_S_MAX))).await;
        self.asks_nobody();
        std::future::pending().await
    }

    /// The request has come to its end.
    pub(super) fn over<T>(mut self, end: T) -> T {
        self.cancel = false;
        end
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.slot.is_some() {
            self.asks_nobody();
            if self.cancel {
                self.link.state().under_way.cancelled(self.id);
            }
        }
        if self.cancel {
            self.link.tell_later(frame::cancelled(self.id), None);
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("server", &self.server).finish_non_exhaustive()
    }
}
