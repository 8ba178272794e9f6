//! The HTTP client below the way: connections without delay that are used again, TLS against the system's authorities, no proxies, no redirects.
//!
//! A plain address is called over [`Wires`]; over TLS, where it may be HTTP/2, connections are pooled by the library.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{TryFutureExt as _, future::Either};
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as Pooled, connect::HttpConnector as Tcp},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, crypto::aws_lc_rs};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::time::timeout;
use tower_service::Service;

use super::{
    http_failure::{BoxError, CONNECT_S_MAX, POOL_IDLE_S, SendError, no_connection_in_time},
    http_wire::{Driven, Wires},
};

/// Sends requests to one address.
#[derive(Debug, Clone)]
pub(super) struct Client {
    /// The whole address over TLS, its path on a plain connection.
    target: Uri,
    way: Way,
}

#[derive(Debug, Clone)]
enum Way {
    Plain(Arc<Wires>),
    Tls(Box<Pooled<Patient, Full<Bytes>>>),
}

impl Client {
    /// A client of this address. A plain one needs no authorities, which a small container may not have.
    ///
    /// # Errors
    /// When the system's authorities cannot be read.
    pub(super) fn new(to: Uri) -> Result<Self, rustls::Error> {
        let mut tcp = Tcp::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        if to.scheme() != Some(&http::uri::Scheme::HTTPS) {
            let target = to.path_and_query().map_or_else(|| Uri::from_static("/"), |path| Uri::from(path.clone()));
            return Ok(Self { target, way: Way::Plain(Wires::new(tcp, to)) });
        }
        // The provider is named, so that it does not depend on what the process has installed.
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let config = config.with_safe_default_protocol_versions()?.with_platform_verifier()?;
        let https = HttpsConnectorBuilder::new().with_tls_config(config.with_no_client_auth()).https_only();
        let connector = Patient(https.enable_all_versions().wrap_connector(tcp));
        let mut builder = Pooled::builder(TokioExecutor::new());
        builder
            .pool_idle_timeout(Duration::from_secs(POOL_IDLE_S))
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new());
        Ok(Self { target: to, way: Way::Tls(Box::new(builder.build(connector))) })
    }

    /// Sends a request and waits for the head of its answer, for as long as the server may be silent.
    pub(super) fn send(
        &self,
        method: Method,
        headers: HeaderMap,
        body: Bytes,
        silence: Duration,
    ) -> impl Future<Output = Result<Response<AnswerBody>, SendError>> + Send + Unpin + use<'_> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = self.target.clone();
        *request.headers_mut() = headers;
        match &self.way {
            Way::Plain(wires) => {
                Either::Left(wires.send(request, silence).map_ok(|answer| answer.map(AnswerBody::Plain)))
            }
            // Boxed: it is large, and the future of every call on a plain connection would carry it.
            Way::Tls(pooled) => Either::Right(Box::pin(async move {
                match timeout(silence, pooled.request(request)).await {
                    Ok(Ok(response)) => Ok(response.map(AnswerBody::Pooled)),
                    Ok(Err(error)) if error.is_connect() => Err(SendError::Connect(error.into())),
                    Ok(Err(error)) => Err(SendError::Broke(error.into())),
                    Err(_) => Err(SendError::Silent),
                }
            })),
        }
    }
}

/// The body of an answer.
#[derive(Debug)]
pub(super) enum AnswerBody {
    Plain(Driven),
    Pooled(Incoming),
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Plain(body) => Pin::new(body).poll_frame(cx),
            Self::Pooled(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Plain(body) => body.is_end_stream(),
            Self::Pooled(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Plain(body) => body.size_hint(),
            Self::Pooled(body) => body.size_hint(),
        }
    }
}

/// Connects, but does not wait for ever.
#[derive(Debug, Clone)]
pub(super) struct Patient(HttpsConnector<Tcp>);

impl Service<Uri> for Patient {
    type Response = <HttpsConnector<Tcp> as Service<Uri>>::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let connecting = timeout(Duration::from_secs(CONNECT_S_MAX), self.0.call(to));
        Box::pin(async move { connecting.await.unwrap_or_else(|_| Err(no_connection_in_time())) })
    }
}
