//! The way over streamable HTTP: every request a POST, answered by JSON or by a stream of events.
//!
//! What is known of the delivery comes from how far HTTP got: no connection means it never left, a status of refusal that it was not
//! taken, everything in between that it may have happened. A legacy session that the server forgot is begun anew, once a request.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{ACCEPT, CONTENT_TYPE},
};
use metamcp_core::{
    id::ServerName,
    json::RawJson,
    transport::{Delivered, ProgressSink, TransportError, TransportErrorKind},
};
use reqwest::{Client, Url};
use serde_json::value::RawValue;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    http_answer,
    way::{Ask, Failure, Way, error},
};
use crate::wire::{
    era::{Era, MODERN, UNSUPPORTED_REVISION},
    frame, header,
};

/// Longest wait for the answer to what is only told (notifications, the end of a session), in seconds.
const TELL_S_MAX: u64 = 5;
/// The id of the request that begins a forgotten session anew; each POST has its own answer, so it cannot be mixed up.
const RENEW_ID: u64 = 0;
/// Most answers to a server's own requests that are under way at a time; further requests stay unanswered.
const ANSWERS_MAX: usize = 8;

/// A server over HTTP.
#[derive(Debug)]
pub(super) struct Http(Arc<Link>);

/// Shared with what is sent in the background.
pub(super) struct Link {
    pub(super) server: ServerName,
    client: Client,
    url: Url,
    headers: HeaderMap,
    /// Longest silence of the server; the client keeps it, messages tell it.
    idle: Duration,
    /// Short sections, never held over an await.
    legacy: Mutex<Legacy>,
    /// Held while a forgotten session is begun anew.
    renewing: tokio::sync::Mutex<()>,
    /// Places for answers to the server's own requests.
    answering: Arc<Semaphore>,
    /// The server's own requests that stayed unanswered.
    unanswered: AtomicU64,
    /// What answers there is not what was agreed with: nothing new is asked, what is under way may end.
    stale: AtomicBool,
    closing: CancellationToken,
}

/// What a legacy session needs.
#[derive(Debug, Default)]
struct Legacy {
    session: Option<HeaderValue>,
    revision: Option<HeaderValue>,
    /// The parameters of `initialize`, to begin anew with.
    initialize: Option<RawJson>,
}

impl Http {
    pub(super) fn new(server: ServerName, client: Client, url: Url, headers: HeaderMap, idle: Duration) -> Self {
        Self(Arc::new(Link {
            server,
            client,
            url,
            headers,
            idle,
            legacy: Mutex::default(),
            renewing: tokio::sync::Mutex::default(),
            answering: Arc::new(Semaphore::new(ANSWERS_MAX)),
            unanswered: AtomicU64::new(0),
            stale: AtomicBool::new(false),
            closing: CancellationToken::new(),
        }))
    }
}

#[async_trait]
impl Way for Http {
    fn kind(&self) -> &'static str {
        "http"
    }

    async fn ask(&self, ask: Ask<'_>, progress: &ProgressSink<'_>) -> Result<RawJson, Failure> {
        let link = &self.0;
        if self.is_closed() {
            return Err(link.closed(Delivered::No).into());
        }
        let answer = link.closing.run_until_cancelled(link.ask(&ask, progress)).await;
        let answer = answer.unwrap_or_else(|| Err(link.closed(Delivered::Maybe).into()));
        if ask.era == Era::Modern && ask.method != "server/discover" && answer.as_ref().is_err_and(is_another_server) {
            // The next call is to agree anew.
            link.stale.store(true, Ordering::Relaxed);
        }
        answer
    }

    async fn tell(&self, method: &'static str) -> Result<(), Failure> {
        Ok(self.0.tell(frame::notification(method, None)).await?)
    }

    fn agreed(&self, revision: &str) {
        // A modern request says its revision by itself.
        self.0.legacy().revision = HeaderValue::from_str(revision).ok().filter(|revision| revision != MODERN);
    }

    async fn changed(&self) {
        std::future::pending().await
    }

    fn is_closed(&self) -> bool {
        self.0.closing.is_cancelled() || self.0.stale.load(Ordering::Relaxed)
    }

    async fn close(&self) {
        // A stale one is closed to make room for a fresh one: calls of others that it still carries are not to be cut for that.
        if !self.0.stale.load(Ordering::Relaxed) {
            self.0.closing.cancel();
        }
        let session = self.0.legacy().session.take();
        if let Some(session) = session {
            let end = self
                .0
                .client
                .delete(self.0.url.clone())
                .headers(self.0.headers.clone())
                .header(header::SESSION_ID, session);
            // A server need not know how to end a session; it forgets it in time.
            let _ = timeout(Duration::from_secs(TELL_S_MAX), end.send()).await;
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
    async fn ask(self: &Arc<Self>, ask: &Ask<'_>, progress: &ProgressSink<'_>) -> Result<RawJson, Failure> {
        let session = self.legacy().session.clone();
        let answer = self.attempt(ask, session.clone(), progress).await;
        match (&answer, session) {
            // The server has forgotten the session, and with it has not taken the request.
            (Err(Failure::Status(404, _) | Failure::Rpc(_, Some(404))), Some(forgotten))
                if ask.method != "initialize" =>
            {
                self.renew(&forgotten).await?;
                let session = self.legacy().session.clone();
                self.attempt(ask, session, progress).await
            }
            _ => answer,
        }
    }

    async fn attempt(
        self: &Arc<Self>,
        ask: &Ask<'_>,
        session: Option<HeaderValue>,
        progress: &ProgressSink<'_>,
    ) -> Result<RawJson, Failure> {
        let mut headers = HeaderMap::new();
        match ask.era {
            Era::Modern => {
                headers.insert(header::PROTOCOL_VERSION, HeaderValue::from_static(MODERN));
                headers.insert(header::METHOD, header::value(ask.method));
                if let Some(name) = ask.name {
                    headers.insert(header::NAME, header::value(name));
                }
                headers.extend(ask.headers.iter().cloned());
            }
            Era::Legacy if ask.method == "initialize" => self.legacy().initialize = Some(ask.params.clone()),
            Era::Legacy => {}
        }
        let session = session.filter(|_| ask.method != "initialize");
        let frame = frame::request(ask.id, ask.method, &ask.params);
        // A modern server is told by the end of the stream, a legacy one in words.
        let tell_end = ask.cancellable && ask.era == Era::Legacy;
        let mut guard = Guard { link: self, cancel: tell_end.then(|| frame::cancelled(ask.id)) };
        let answer = self.post(frame, headers, session, progress, ask).await;
        guard.cancel = None;
        answer
    }

    async fn post(
        self: &Arc<Self>,
        frame: String,
        headers: HeaderMap,
        session: Option<HeaderValue>,
        progress: &ProgressSink<'_>,
        ask: &Ask<'_>,
    ) -> Result<RawJson, Failure> {
        let sent = self.request(frame, headers, session).send().await;
        let response = sent.map_err(|source| self.unsent(source))?;
        let begun = response.headers().get(header::SESSION_ID).cloned();
        let answer = http_answer::read(self, response, ask.id, progress).await?;
        if ask.method == "initialize" {
            self.legacy().session = begun;
        }
        Ok(answer)
    }

    /// A POST of one frame, with what every POST needs.
    fn request(&self, frame: String, headers: HeaderMap, session: Option<HeaderValue>) -> reqwest::RequestBuilder {
        let mut all = self.headers.clone();
        all.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        all.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(revision) = self.legacy().revision.clone() {
            all.insert(header::PROTOCOL_VERSION, revision);
        }
        if let Some(session) = session {
            all.insert(header::SESSION_ID, session);
        }
        // This replaces headers of the same name.
        all.extend(headers);
        self.client.post(self.url.clone()).headers(all).body(frame)
    }

    /// Begins a session anew that the server has forgotten, unless somebody else just did.
    async fn renew(self: &Arc<Self>, forgotten: &HeaderValue) -> Result<(), Failure> {
        let _one_at_a_time = self.renewing.lock().await;
        let params = {
            let legacy = self.legacy();
            if legacy.session.as_ref() != Some(forgotten) {
                return Ok(());
            }
            legacy.initialize.clone()
        };
        let Some(params) = params else { return Err(self.closed(Delivered::No).into()) };
        tracing::debug!(server = %self.server, "the server has forgotten the session, beginning a new one");
        let (method, name, headers) = ("initialize", None, Vec::new());
        let ask = Ask { id: RENEW_ID, era: Era::Legacy, method, params, name, headers, cancellable: false };
        // Boxed: this is the rare way, and the future of every call would carry it.
        let begun = Box::pin(self.attempt(&ask, None, &|_| ())).await;
        let told = match begun {
            Ok(_) => self.tell(frame::notification("notifications/initialized", None)).await.map_err(Failure::Other),
            Err(failure) => Err(failure),
        };
        told.map_err(|failure| {
            let mut error = failure.into_error(&self.server);
            error.delivered = Delivered::No;
            Failure::Other(error)
        })
    }

    /// Sends what has no answer.
    async fn tell(&self, frame: String) -> Result<(), TransportError> {
        let session = self.legacy().session.clone();
        let sent =
            timeout(Duration::from_secs(TELL_S_MAX), self.request(frame, HeaderMap::new(), session).send()).await;
        match sent {
            Ok(Ok(response)) if response.status().is_success() => Ok(()),
            Ok(Ok(response)) => Err(http_answer::refused(self, response).await.into_error(&self.server)),
            Ok(Err(source)) => Err(self.unsent(source)),
            Err(_) => Err(self.silent()),
        }
    }

    /// Answers a request that the server sent beside an answer.
    pub(super) fn answer_later(self: &Arc<Self>, id: &RawValue, method: &str) {
        if let Ok(place) = Arc::clone(&self.answering).try_acquire_owned() {
            self.tell_later(frame::answer(id, method), Some(place));
        } else {
            let unanswered = self.unanswered.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::debug!(server = %self.server, unanswered, "too many requests of the server at a time");
        }
    }

    /// `place` is given back once it is told.
    fn tell_later(self: &Arc<Self>, frame: String, place: Option<OwnedSemaphorePermit>) {
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

    fn unsent(&self, source: reqwest::Error) -> TransportError {
        // The address may hold secrets and is not for the message.
        let source = source.without_url();
        let cause = innermost(&source);
        let (kind, delivered, what) = if source.is_builder() {
            (TransportErrorKind::Invalid, Delivered::No, "the request cannot be made")
        } else if source.is_connect() {
            (TransportErrorKind::Connect, Delivered::No, "cannot be reached")
        } else if source.is_timeout() {
            return self.silent();
        } else {
            (TransportErrorKind::Closed, Delivered::Maybe, "the connection broke")
        };
        error(&self.server, kind, delivered, format_args!("{what}: {cause}")).with_source(source)
    }

    pub(super) fn silent(&self) -> TransportError {
        let what = format!("was silent for {} s", self.idle.as_secs_f32());
        error(&self.server, TransportErrorKind::Timeout, Delivered::Maybe, what)
    }

    fn closed(&self, delivered: Delivered) -> TransportError {
        error(&self.server, TransportErrorKind::Closed, delivered, "connection was closed")
    }

    fn legacy(&self) -> MutexGuard<'_, Legacy> {
        self.legacy.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Tells a legacy server that an answer is no longer wanted.
struct Guard<'a> {
    link: &'a Arc<Link>,
    cancel: Option<String>,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if let Some(cancel) = self.cancel.take() {
            self.link.tell_later(cancel, None);
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("server", &self.server).finish_non_exhaustive()
    }
}
