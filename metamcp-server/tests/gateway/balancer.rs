//! A balancer that sends each request to the next replica, whoever it comes from. It sends none twice: only one that could not be connected
//! goes on to the replica after it.

use std::{
    future::IntoFuture as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    response::{IntoResponse as _, Response},
};
use http::{StatusCode, header};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

/// Largest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Serves until it is dropped.
pub(crate) struct Balancer {
    pub(crate) url: String,
    _serving: AbortOnDropHandle<std::io::Result<()>>,
}

struct Turns {
    http: reqwest::Client,
    replicas: Vec<String>,
    next: AtomicUsize,
}

impl Balancer {
    /// In front of replicas at these addresses.
    pub(crate) async fn start(replicas: Vec<String>) -> Self {
        // A connection of its own for each request: one that is kept may lead to a replica that is gone.
        let http = reqwest::Client::builder().pool_max_idle_per_host(0).build().expect("a client");
        let turns = Arc::new(Turns { http, replicas, next: AtomicUsize::new(0) });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let serving = axum::serve(listener, Router::new().fallback(pass).with_state(turns));
        Self { url, _serving: AbortOnDropHandle::new(tokio::spawn(serving.into_future())) }
    }
}

async fn pass(State(turns): State<Arc<Turns>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let body = to_bytes(body, BODY_BYTES_MAX).await.expect("a small body");
    parts.headers.remove(header::HOST);
    for _ in 0..turns.replicas.len() {
        let replica = &turns.replicas[turns.next.fetch_add(1, Ordering::Relaxed) % turns.replicas.len()];
        let request = turns.http.request(parts.method.clone(), format!("{replica}{}", parts.uri.path()));
        match request.headers(parts.headers.clone()).body(body.clone()).send().await {
            Ok(answer) => return http::Response::from(answer).map(Body::new),
            Err(error) if error.is_connect() => {}
            Err(error) => return (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
        }
    }
    StatusCode::SERVICE_UNAVAILABLE.into_response()
}
