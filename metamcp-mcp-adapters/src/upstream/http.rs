//! The way over streamable HTTP: every request a POST, answered by JSON or by a stream of events.
//!
//! What is known of the delivery comes from how far HTTP got: no connection means it never left, a status of refusal that it was not
//! taken, everything in between that it may have happened. A legacy session that the server forgot is begun anew, once a request.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, header::CONTENT_TYPE};
use metamcp_core::{
    id::ServerName,
    transport::{Delivered, RelaySide},
};
use tokio::time::timeout;
use tokio_util::sync::DropGuard;

use super::{
    http_answer,
    http_body::{EVENTS, is_media},
    http_client::{AnswerBody, Client},
    http_events,
    http_link::{Guard, Link, TELL_S_MAX},
    http_listen,
    http_refusal::{excerpt, refused},
    news::News,
    way::{Ask, Deaf, Failure, Step, Way, violation},
};
use crate::wire::{
    era::{Era, MODERN, UNSUPPORTED_REVISION},
    frame, header,
};

/// A server over HTTP.
#[derive(Debug)]
pub(super) struct Http {
    link: Arc<Link>,
    /// Ends what runs in the background when nobody holds the connection any more.
    _closing_on_drop: DropGuard,
}

impl Http {
    pub(super) fn new(server: ServerName, client: Client, headers: HeaderMap, idle: Duration) -> Self {
        let link = Link::new(server, client, headers, idle);
        Self { _closing_on_drop: link.closing.clone().drop_guard(), link }
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

    fn renewals(&self) -> u64 {
        self.link.renewals.load(Ordering::Relaxed)
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
        let step = read(Guard::unarmed(self), response, ask, &Deaf).await?;
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
                Ok(response) => Box::pin(read(guard, response, ask, side)).await,
                Err(error) => guard.over(Err(error.into())),
            }
        }
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
        // What was told to the old session is told to nobody, and what was set in it is set no more.
        self.renewals.fetch_add(1, Ordering::Relaxed);
        self.news.missed();
        begun.map_err(|failure| {
            let mut error = failure.into_error(&self.server);
            error.delivered = Delivered::No;
            Failure::Other(error)
        })
    }
}

/// The result of a request, or the question on the way there.
async fn read(
    guard: Guard,
    response: Response<AnswerBody>,
    ask: &Ask<'_>,
    side: &dyn RelaySide,
) -> Result<Step, Failure> {
    let status = response.status();
    if !status.is_success() {
        let refused = refused(&guard.link.server, guard.link.idle, response).await;
        return guard.over(Err(refused));
    }
    if is_media(response.headers(), EVENTS) {
        return http_events::read(guard, response, ask, side).await;
    }
    if http_answer::is_json(&response) {
        return http_answer::read_json(guard, status, response.into_body(), ask.id).await;
    }
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("no content");
    let what = format!("HTTP {status} with {} in place of an answer", excerpt(kind));
    let error = violation(&guard.link.server, what);
    guard.over(Err(error.into()))
}
