//! The gateway over HTTP: one URL for both eras, as a tower service that runs under axum or bare hyper.
//!
//! ```text
//!  request ─▶ guard ─▶ post ─┬▶ modern ─┐
//!                            └▶ legacy ─┴▶ Gateway ─▶ front ─▶ one text, or a stream from the first news on (call)
//!             get, delete ───▶ session
//! ```
//!
//! Who asks is what a layer before this one put into the request's extensions as a `Principal`; without one it is the local principal.

mod body;
mod call;
mod get;
mod guard;
mod headers;
mod legacy;
mod modern;
mod options;
mod outbox;
mod post;
mod rouse;

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use metamcp_core::auth::Principal;
use tower_service::Service;

pub(super) use self::modern::{acknowledged, listened};
pub use self::{
    body::GatewayBody,
    options::{BODY_BYTES_MAX, BODY_READ_S, HttpOptions, KEEP_ALIVE_S, QUESTION_WAIT_S},
};
use self::{
    body::Unread,
    call::{Answer, Call, First},
    guard::Guard,
    headers::Accepts,
    outbox::Outbox,
    post::Head,
};
use super::{Gateway, session::Sessions};
use crate::wire::header::SESSION_ID;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache, no-transform");
/// Asks proxies not to hold events back.
const ACCEL_BUFFERING: header::HeaderName = header::HeaderName::from_static("x-accel-buffering");

/// A [`Gateway`] as a tower service over HTTP. Cheap to clone; clones share their sessions.
#[derive(Debug, Clone)]
pub struct GatewayService(Arc<Front>);

#[derive(Debug)]
struct Front {
    gateway: Gateway,
    options: HttpOptions,
    sessions: Arc<Sessions>,
    guard: Guard,
}

impl GatewayService {
    /// Serves `gateway` so.
    #[must_use]
    pub fn new(gateway: Gateway, options: HttpOptions) -> Self {
        let sessions = Sessions::new(gateway.seal().clone(), Arc::clone(gateway.records()), options.sessions());
        Self(Arc::new(Front { gateway, options, sessions, guard: Guard::default() }))
    }

    /// Whether a request to this path is for the gateway.
    #[must_use]
    pub fn serves(&self, path: &str) -> bool {
        let rest = path.strip_prefix(&*self.0.options.path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// How many legacy sessions are held in this process.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.0.sessions.len()
    }
}

impl<B> Service<Request<B>> for GatewayService
where
    B: Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<GatewayBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let front = Arc::clone(&self.0);
        Box::pin(async move { Ok(front.serve(request).await) })
    }
}

impl Front {
    async fn serve<B: Body<Data = Bytes>>(self: Arc<Self>, request: Request<B>) -> Response<GatewayBody> {
        let (mut parts, body) = request.into_parts();
        if let Err(why) = self.guard.check(&self.options, &parts.uri, &parts.headers) {
            return respond(post::invalid(StatusCode::FORBIDDEN, why));
        }
        let Some(endpoint) = self.endpoint(parts.uri.path()) else {
            return respond(post::invalid(StatusCode::NOT_FOUND, "there is no such endpoint; see [gateway.endpoints]"));
        };
        let principal = parts.extensions.remove::<Principal>().unwrap_or_else(Principal::local);
        let accepts = Accepts::of(&parts.headers);
        let head = Head { principal, endpoint, headers: parts.headers, accepts };
        match parts.method {
            Method::POST => self.post(head, body).await,
            // The modern revision has neither; its clients may ask which era this is.
            Method::GET | Method::DELETE if head.is_modern() => not_allowed("POST"),
            Method::GET => respond(Box::pin(get::stream(&self, &head)).await),
            Method::DELETE => respond(Box::pin(get::end(&self, &head)).await),
            _ => not_allowed("DELETE, GET, POST"),
        }
    }

    async fn post<B: Body<Data = Bytes>>(self: Arc<Self>, head: Head, body: B) -> Response<GatewayBody> {
        if !headers::is_json(&head.headers) {
            return respond(post::invalid(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send `Content-Type: application/json`"));
        }
        if !head.accepts.json && !head.accepts.events {
            let why = "accept `application/json` and `text/event-stream`";
            return respond(post::invalid(StatusCode::NOT_ACCEPTABLE, why));
        }
        let bytes_max = self.options.body_bytes_max;
        let body = match body::read_in_time(body, bytes_max, self.options.body_read).await {
            Ok(body) => body,
            Err(Unread::TooLarge) => {
                let why = format!("a request has at most {bytes_max} bytes; send less");
                return respond(post::invalid(StatusCode::PAYLOAD_TOO_LARGE, why));
            }
            Err(Unread::Broken) => {
                return respond(post::invalid(StatusCode::BAD_REQUEST, "the body broke off; send it again"));
            }
            Err(Unread::Late) => {
                return respond(post::invalid(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"));
            }
        };
        let events_only = !head.accepts.json;
        let outbox = Arc::new(Outbox::new(head.accepts.events));
        let keep_alive = self.options.keep_alive;
        let work = Box::pin(post::answer(self, head, body, Arc::clone(&outbox)));
        match Call::new(work, outbox, keep_alive).first().await {
            First::Events(call) => events(Box::pin(call)),
            First::Answer(Answer::Whole { status: StatusCode::OK, frame, session: None }) if events_only => {
                let event = outbox::event(None, &frame.into_pieces());
                events(Box::pin(futures_util::stream::iter([event])))
            }
            First::Answer(answer) => respond(answer),
        }
    }

    /// The endpoint of a path: the main one, or that of its last segment. A router may have stripped what it is nested under.
    #[allow(clippy::option_option, reason = "no endpoint, the main one, and one with a name")]
    fn endpoint(&self, path: &str) -> Option<Option<Arc<str>>> {
        let rest = path.strip_prefix(&*self.options.path).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        match rest.unwrap_or(path).trim_matches('/') {
            "" => Some(None),
            name if self.gateway.options().endpoints.contains_key(name) => Some(Some(name.into())),
            _ => None,
        }
    }
}

fn not_allowed(allowed: &'static str) -> Response<GatewayBody> {
    let mut response = respond(post::invalid(StatusCode::METHOD_NOT_ALLOWED, format!("use one of: {allowed}")));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

fn respond(answer: Answer) -> Response<GatewayBody> {
    match answer {
        Answer::Accepted => with(StatusCode::ACCEPTED, GatewayBody::empty()),
        Answer::Events(stream) => events(stream),
        Answer::Whole { status, frame, session } => {
            let mut response = with(status, GatewayBody::whole(frame.into_pieces()));
            response.headers_mut().insert(header::CONTENT_TYPE, JSON);
            if let Some(session) = session {
                response.headers_mut().insert(SESSION_ID, session);
            }
            response
        }
    }
}

fn events(stream: body::Events) -> Response<GatewayBody> {
    let mut response = with(StatusCode::OK, GatewayBody::events(stream));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, EVENTS);
    headers.insert(header::CACHE_CONTROL, NO_CACHE);
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

fn with(status: StatusCode, body: GatewayBody) -> Response<GatewayBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}
