//! Two services on one listener: the gateway gets requests as they come, the routes get the rest.
//!
//! No layer of the routes stands before the gateway: a call through it should cost little more than passing bytes on.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use axum::{Router, body::Body};
use futures_util::future::{Either as Which, FutureExt as _, Map};
use http::{Request, Response};
use http_body_util::Either;
use metamcp_mcp_adapters::gateway::{GatewayBody, GatewayService};
use tower::Service;

/// The body of either service's answer.
type EitherBody = Either<Body, GatewayBody>;
type Answer<B> = Result<Response<B>, Infallible>;
type Mapped<F, B> = Map<F, fn(Answer<B>) -> Answer<EitherBody>>;

/// The routes of the API, and beside them the gateway.
#[derive(Debug, Clone)]
pub struct Mount {
    routes: Router,
    gateway: Option<GatewayService>,
}

impl Mount {
    /// `gateway` where it says that it stands, `routes` everywhere else.
    pub fn new(routes: Router, gateway: Option<GatewayService>) -> Self {
        Self { routes, gateway }
    }
}

impl<B> Service<Request<B>> for Mount
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response<EitherBody>;
    type Error = Infallible;
    type Future = Which<
        Mapped<<Router as Service<Request<B>>>::Future, Body>,
        Mapped<<GatewayService as Service<Request<B>>>::Future, GatewayBody>,
    >;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Both are always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match &mut self.gateway {
            Some(gateway) if gateway.serves(request.uri().path()) => {
                Which::Right(gateway.call(request).map(|answer| answer.map(|it| it.map(Either::Right))))
            }
            _ => Which::Left(self.routes.call(request).map(|answer| answer.map(|it| it.map(Either::Left)))),
        }
    }
}
