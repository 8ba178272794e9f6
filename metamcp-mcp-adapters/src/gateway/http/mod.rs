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
mod head;
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
    call::{Answer, Call, First},
    guard::Guard,
    head::Head,
    headers::Accepts,
    outbox::Outbox,
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
        // What is known at once is done here: a future would hold the whole request beside what is made of it.
        match self.0.begin(request) {
            Begun::Refused(answer) => Box::pin(std::future::ready(Ok(answer))),
            Begun::Post(call, accepts) => Box::pin(async move { Ok(first(call, accepts).await) }),
            Begun::Get(head) => {
                let front = Arc::clone(&self.0);
                Box::pin(async move { Ok(respond(get::stream(&front, &head).await)) })
            }
            Begun::Delete(head) => {
                let front = Arc::clone(&self.0);
                Box::pin(async move { Ok(respond(get::end(&front, &head).await)) })
            }
        }
    }
}

/// What becomes of a request, as its head says.
enum Begun {
    Refused(Response<GatewayBody>),
    Post(Call, Accepts),
    Get(Head),
    Delete(Head),
}

impl Front {
    fn begin<B: Body<Data = Bytes> + Send + 'static>(self: &Arc<Self>, request: Request<B>) -> Begun {
        let refused = |answer| Begun::Refused(respond(answer));
        let (mut parts, body) = request.into_parts();
        if let Err(why) = self.guard.check(&self.options, &parts.uri, &parts.headers) {
            return refused(head::invalid(StatusCode::FORBIDDEN, why));
        }
        let Some(endpoint) = self.endpoint(parts.uri.path()) else {
            return refused(head::invalid(StatusCode::NOT_FOUND, "there is no such endpoint; see [gateway.endpoints]"));
        };
        let principal = parts.extensions.remove::<Principal>();
        let accepts = Accepts::of(&parts.headers);
        let head = Head { principal, endpoint, headers: parts.headers, accepts };
        match parts.method {
            Method::POST if !headers::is_json(&head.headers) => {
                refused(head::invalid(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send `Content-Type: application/json`"))
            }
            Method::POST if !accepts.json && !accepts.events => {
                let why = "accept `application/json` and `text/event-stream`";
                refused(head::invalid(StatusCode::NOT_ACCEPTABLE, why))
            }
            Method::POST => {
                let outbox = Arc::new(Outbox::new(accepts.events));
                let work = Box::pin(post::answer(Arc::clone(self), head, body, Arc::clone(&outbox)));
                Begun::Post(Call::new(work, outbox, self.options.keep_alive), accepts)
            }
            // The modern revision has neither; its clients may ask which era this is.
            Method::GET | Method::DELETE if head.is_modern() => Begun::Refused(not_allowed("POST")),
            Method::GET => Begun::Get(head),
            Method::DELETE => Begun::Delete(head),
            _ => Begun::Refused(not_allowed("DELETE, GET, POST")),
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

/// The answer to a POST, or the stream that ends with it.
async fn first(call: Call, accepts: Accepts) -> Response<GatewayBody> {
    match call.first().await {
        First::Events(call) => events(Box::pin(call)),
        First::Answer(Answer::Whole { status: StatusCode::OK, frame, session: None }) if !accepts.json => {
            let event = outbox::event(None, &frame.into_pieces());
            events(Box::pin(futures_util::stream::iter([event])))
        }
        First::Answer(answer) => respond(answer),
    }
}

fn not_allowed(allowed: &'static str) -> Response<GatewayBody> {
    let mut response = respond(head::invalid(StatusCode::METHOD_NOT_ALLOWED, format!("use one of: {allowed}")));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

fn respond(answer: Answer) -> Response<GatewayBody> {
    match answer {
        Answer::Accepted => with(StatusCode::ACCEPTED, GatewayBody::empty()),
        Answer::Ended => with(StatusCode::NO_CONTENT, GatewayBody::empty()),
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
