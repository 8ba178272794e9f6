//! The way over streamable HTTP: every request a POST, answered by JSON or by a stream of events.
//!
//! What is known of the delivery comes from how far HTTP got: no connection means it never left, a status of refusal that it was not
//! taken, everything in between that it may have happened. A legacy session that the server forgot is begun anew, once a request.

use std::{
    convert::Infallible,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryFutureExt as _;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use metamcp_core::{
    id::ServerName,
    transport::{Delivered, RelaySide, TransportError, TransportErrorKind},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    http_answer,
    http_client::{AnswerBody, Client, SendError},
    http_listen,
    news::News,
    slot::{Event, Slot},
    under_way::UnderWay,
    way::{Ask, Deaf, Failure, Step, Way, error},
};
use crate::wire::{
    era::{Era, MODERN, UNSUPPORTED_REVISION},
    frame, header,
};

/// Longest wait for the answer to what is only told (notifications, the end of a session), in seconds.
const TELL_S_MAX: u64 = 5;
/// Most answers to a server's own requests that are under way at a time; further requests stay unanswered.
const ANSWERS_MAX: usize = 8;

/// How long a question on the server's own stream waits for the stream of the request that it is for, in seconds.
const BEGIN_S_MAX: u64 = 5;
/// Why a question on the server's own stream has no answer.
pub(super) const UNADDRESSED: &str = "cannot tell which caller is asked: ask on the stream of the request that it is for, or while exactly one is under way";

/// A server over HTTP.
#[derive(Debug)]
pub(super) struct Http {
    link: Arc<Link>,
    /// Ends what runs in the background when nobody holds the connection any more.
    _closing_on_drop: DropGuard,
}

/// Shared with what is sent in the background.
pub(super) struct Link {
    pub(super) server: ServerName,
    client: Client,
    /// Longest silence of the server.
    pub(super) idle: Duration,
    /// Short sections, never held over an await.
    state: Mutex<State>,
    /// Held while a forgotten session is begun anew.
    renewing: tokio::sync::Mutex<()>,
    /// Places for answers to the server's own requests.
    answering: Arc<Semaphore>,
    /// The server's own requests that stayed unanswered.
    unanswered: AtomicU64,
    /// What answers there is not what was agreed with: nothing new is asked, what is under way may end.
    stale: AtomicBool,
    pub(super) closing: CancellationToken,
    pub(super) news: News,
}

/// What every request of the connection is sent with.
#[derive(Debug)]
struct State {
    /// The configured headers; those of a legacy session are added once it has begun.
    headers: Arc<HeaderMap>,
    era: Era,
    /// The id and the frame of `initialize`, to begin a session anew with.
    initialize: Option<(u64, Bytes)>,
    /// The requests to a legacy server.
    under_way: UnderWay,
}

impl Http {
    pub(super) fn new(server: ServerName, client: Client, headers: HeaderMap, idle: Duration) -> Self {
        let closing = CancellationToken::new();
        let link = Arc::new(Link {
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
            answering: Arc::new(Semaphore::new(ANSWERS_MAX)),
            unanswered: AtomicU64::new(0),
            stale: AtomicBool::new(false),
            closing: closing.clone(),
            news: News::new(),
        });
        Self { link, _closing_on_drop: closing.drop_guard() }
    }
}

#[async_trait]
impl Way for Http {
    fn kind(&self) -> &'static str {
        "http"
    }

    async fn ask(&self, ask: &mut Ask<'_>, side: &dyn RelaySide) -> Result<Step, Failure> {
        let link = &self.link;
        if self.is_closed() {
            return Err(link.closed(Delivered::No).into());
        }
        // A server without this to listen to, or to find it out by, may still be the same one.
        let tells_of_it = ask.era == Era::Modern && ask.method != "server/discover" && !ask.standing;
        let answer = tokio::select! {
            biased;
            () = link.closing.cancelled() => Err(link.closed(Delivered::Maybe).into()),
            answer = link.ask(ask, side) => answer,
        };
        if tells_of_it && answer.as_ref().is_err_and(is_another_server) {
            // The next call is to agree anew.
            link.stale.store(true, Ordering::Relaxed);
        }
        answer
    }

    async fn tell(&self, method: &'static str) -> Result<(), Failure> {
        Ok(self.link.tell(frame::notification(method, None)).await?)
    }

    fn agreed(&self, revision: &str) {
        // A modern request says its revision by itself.
        if revision != MODERN
            && let Ok(revision) = HeaderValue::from_str(revision)
        {
            let mut state = self.link.state();
            state.era = Era::Legacy;
            Arc::make_mut(&mut state.headers).insert(header::PROTOCOL_VERSION, revision);
        }
    }

    fn listen(&self) {
        if self.link.state().era == Era::Legacy {
            http_listen::spawn(&self.link);
        }
    }

    fn news(&self) -> &News {
        &self.link.news
    }

    fn is_closed(&self) -> bool {
        self.link.closing.is_cancelled() || self.link.stale.load(Ordering::Relaxed)
    }

    async fn close(&self) {
        let link = &self.link;
        // A stale one is closed to make room for a fresh one: calls of others that it still carries are not to be cut for that.
        if !link.stale.load(Ordering::Relaxed) {
            link.closing.cancel();
        }
        let headers = link.headers();
        let ended = Arc::make_mut(&mut link.state().headers).remove(header::SESSION_ID);
        if ended.is_some() {
            // A server need not know how to end a session; it forgets it in time.
            let end = link.send(Method::DELETE, headers, Bytes::new());
            let _ = timeout(Duration::from_secs(TELL_S_MAX), end).await;
        }
    }
}

/// The answers of a server that does not speak the modern revision any more.
fn is_another_server(failure: &Failure) -> bool {
    match failure {
        Failure::Rpc(rpc, _) => rpc.code == UNSUPPORTED_REVISION,
        Failure::Status(status, _) => matches!(status, 400 | 404 | 405),
        Failure::Other(_) => false,
    }
}

impl Link {
    async fn ask(self: &Arc<Self>, ask: &mut Ask<'_>, side: &dyn RelaySide) -> Result<Step, Failure> {
        let frame = Bytes::from(std::mem::take(&mut ask.frame));
        if ask.method == "initialize" {
            self.state().initialize = Some((ask.id, frame.clone()));
            // Boxed, as below: these are the rare ways, and the future of every call would carry them.
            return Box::pin(self.initialize(ask, frame)).await;
        }
        let headers = self.headers();
        let session = headers.get(header::SESSION_ID).map(|session| (session.clone(), frame.clone()));
        let answer = self.attempt(ask, frame, headers, side).await;
        let forgotten = session.filter(|_| matches!(answer, Err(Failure::Status(404, _) | Failure::Rpc(_, Some(404)))));
        // A server that has forgotten the session has not taken the request.
        let Some((forgotten, frame)) = forgotten else { return answer };
        let again = async {
            self.renew(&forgotten).await?;
            self.attempt(ask, frame, self.headers(), side).await
        };
        Box::pin(again).await
    }

    /// Begins a session.
    async fn initialize(self: &Arc<Self>, ask: &Ask<'_>, frame: Bytes) -> Result<Step, Failure> {
        let mut headers = self.headers();
        headers.remove(header::SESSION_ID);
        let response = self.send(Method::POST, headers, frame).await?;
        let begun = response.headers().get(header::SESSION_ID).cloned();
        let step = http_answer::read(Guard::unarmed(self), response, ask, &Deaf).await?;
        let mut state = self.state();
        let headers = Arc::make_mut(&mut state.headers);
        match begun {
            Some(session) => headers.insert(header::SESSION_ID, session),
            None => headers.remove(header::SESSION_ID),
        };
        Ok(step)
    }

    fn attempt<'a>(
        self: &'a Arc<Self>,
        ask: &'a Ask<'_>,
        frame: Bytes,
        mut headers: HeaderMap,
        side: &'a dyn RelaySide,
    ) -> impl Future<Output = Result<Step, Failure>> + Send + use<'a> {
        if ask.era == Era::Modern {
            headers.insert(header::PROTOCOL_VERSION, HeaderValue::from_static(MODERN));
            headers.insert(header::METHOD, header::value(ask.method));
            if let Some(name) = ask.name {
                headers.insert(header::NAME, header::value(name));
            }
            headers.extend(ask.headers.iter().cloned());
        }
        // A modern server is told by the end of the stream, a legacy one in words.
        let tell_end = ask.cancellable && ask.era == Era::Legacy;
        let guard = Guard::new(self, ask.id, tell_end);
        // Begun here and not in the future, which would hold all parts of the request beside it.
        let mut sending = self.send(Method::POST, headers, frame);
        async move {
            let sent = match &guard.slot {
                None => (&mut sending).await,
                Some(slot) => tokio::select! {
                    biased;
                    sent = &mut sending => sent,
                    never = guard.asks_nobody_later(slot) => match never {},
                },
            };
            match sent {
                Ok(response) if http_answer::is_json(&response) => {
                    http_answer::read_json(guard, response.status(), response.into_body(), ask.id).await
                }
                // Boxed: the future of every call would carry all kinds of answers.
                Ok(response) => Box::pin(http_answer::read(guard, response, ask, side)).await,
                Err(error) => guard.over(Err(error.into())),
            }
        }
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

    /// Begins a session anew that the server has forgotten, unless somebody else just did.
    async fn renew(self: &Arc<Self>, forgotten: &HeaderValue) -> Result<(), Failure> {
        let _one_at_a_time = self.renewing.lock().await;
        let initialize = {
            let state = self.state();
            if state.headers.get(header::SESSION_ID) != Some(forgotten) {
                return Ok(());
            }
            state.initialize.clone()
        };
        let Some((id, frame)) = initialize else { return Err(self.closed(Delivered::No).into()) };
        tracing::debug!(server = %self.server, "the server has forgotten the session, beginning a new one");
        let (era, method, name, headers, capabilities) = (Era::Legacy, "initialize", None, Vec::new(), None);
        let (cancellable, standing) = (false, false);
        let ask = Ask { id, era, method, frame: String::new(), name, headers, capabilities, cancellable, standing };
        let begun = match self.initialize(&ask, frame).await {
            Ok(_) => self.tell(frame::notification("notifications/initialized", None)).await.map_err(Failure::Other),
            Err(failure) => Err(failure),
        };
        // What was told to the old session is told to nobody.
        self.news.missed();
        begun.map_err(|failure| {
            let mut error = failure.into_error(&self.server);
            error.delivered = Delivered::No;
            Failure::Other(error)
        })
    }

    /// Sends what has no answer.
    pub(super) async fn tell(&self, frame: String) -> Result<(), TransportError> {
        let sending = self.send(Method::POST, self.headers(), Bytes::from(frame));
        match timeout(Duration::from_secs(TELL_S_MAX), sending).await {
            Ok(Ok(response)) if response.status().is_success() => Ok(()),
            Ok(Ok(response)) => Err(http_answer::refused(self, response).await.into_error(&self.server)),
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

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The cause at the bottom: the layers above it only say that something failed.
pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |e| (*e).source()).last().map(ToString::to_string).unwrap_or_default()
}

/// Whether a status says that the request was not taken and may be sent again.
pub(super) fn not_taken(status: StatusCode, has_retry_after: bool) -> bool {
    // A 503 without a time is also what proxies answer when a server broke off in the middle.
    status == StatusCode::TOO_MANY_REQUESTS || (status == StatusCode::SERVICE_UNAVAILABLE && has_retry_after)
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
    fn unarmed(link: &Arc<Link>) -> Self {
        Self { link: Arc::clone(link), id: 0, cancel: false, slot: None }
    }

    fn new(link: &Arc<Link>, id: u64, is_cancellable_legacy: bool) -> Self {
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
    async fn asks_nobody_later(&self, slot: &Slot) -> Infallible {
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
