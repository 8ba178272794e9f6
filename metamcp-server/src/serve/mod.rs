//! The accept loop: bound the connections, serve each over HTTP/1.1 or HTTP/2, and drain when asked to stop.
//!
//! It knows nothing of routes: what it serves is any tower service, what stops it is any future.

mod again;
mod calls;
mod cores;
mod head_timer;
mod mount;
mod preface;

use std::{convert::Infallible, future::Future, io, pin::pin, sync::Arc, time::Duration};

use axum::BoxError;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tower::Service;

use self::{again::Again, calls::Calls, head_timer::HeadTimer, preface::PrefaceTimeout};
pub use self::{cores::Cores, mount::Mount};

/// Connections served at the same time, unless options say otherwise; further ones wait in the kernel's queue.
pub const CONNECTIONS_MAX: usize = 1_024;
/// Longest wait for the head of a request, in milliseconds; also how long an idle HTTP/1.1 connection is kept.
pub const HEADER_READ_MS: u64 = 30_000;
/// Longest wait at drain for requests that are being answered, in milliseconds.
pub const DRAIN_GRACE_MS: u64 = 10_000;
/// First and longest pause after an accept error, in milliseconds. Such errors are mostly a lack of file descriptors, which passes.
const ACCEPT_PAUSE_MS: (u64, u64) = (5, 1_000);
/// Largest head of a request, in bytes.
const HEADER_BYTES_MAX: u16 = 32 << 10;
/// Streams one HTTP/2 connection may have open.
const H2_STREAMS_MAX: u32 = 128;
/// Pause between pings on an idle HTTP/2 connection, and the wait for their answer, in seconds.
const H2_PING_S: (u64, u64) = (20, 20);

/// Bounds of the accept loop.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Connections served at the same time.
    pub connections_max: usize,
    /// Longest wait for the head of a request.
    pub header_read: Duration,
    /// Longest wait at drain; what is not answered then is cut off.
    pub grace: Duration,
    /// Cancelled when drain begins, so that streams without an end of their own can end.
    pub drain: CancellationToken,
    /// Where connections are served, by turns; empty: where they are accepted.
    pub runtimes: Vec<Handle>,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            connections_max: CONNECTIONS_MAX,
            header_read: Duration::from_millis(HEADER_READ_MS),
            grace: Duration::from_millis(DRAIN_GRACE_MS),
            drain: CancellationToken::new(),
            runtimes: Vec::new(),
        }
    }
}

/// How a drain went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were cut off because the grace was over.
    pub cut: usize,
}

/// Serves `app` until `shutdown` resolves, then drains: nothing new is accepted, what was begun is answered within the grace.
///
/// # Errors
/// When the listener has no address: it is not usable.
///
/// # Cancel safety
/// Dropping the future stops accepting and cuts every connection.
pub async fn run<S, B>(
    listener: TcpListener,
    app: S,
    options: ServeOptions,
    shutdown: impl Future<Output = ()>,
) -> io::Result<Drained>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send> + Clone + Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    tracing::info!(address = %listener.local_addr()?, "listening");
    let places = Arc::new(Semaphore::new(options.connections_max));
    let graceful = GracefulShutdown::new();
    // Cut when they are dropped. A token that says so would be a lock that every poll of every connection takes.
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    let mut turns = options.runtimes.iter().cycle();
    loop {
        let (stream, place) = tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            next = accept(&listener, &places) => next,
        };
        let serving = serve_one(stream, place, app.clone(), options.header_read, graceful.watcher());
        match turns.next() {
            Some(runtime) => connections.spawn_on(serving, runtime),
            None => connections.spawn(serving),
        };
    }
    drop(listener);
    options.drain.cancel();
    tracing::info!(connections = connections.len(), "draining");
    let calm = tokio::time::timeout(options.grace, graceful.shutdown()).await.is_ok();
    while connections.try_join_next().is_some() {}
    let left = if calm { 0 } else { connections.len() };
    if !calm {
        connections.abort_all();
    }
    while connections.join_next().await.is_some() {}
    if left > 0 {
        tracing::warn!(connections = left, "grace is over, connections cut");
    }
    Ok(Drained { cut: left })
}

/// Serves one connection to its end, on the runtime that polls this.
async fn serve_one<S, B>(
    stream: std::net::TcpStream,
    place: OwnedSemaphorePermit,
    app: S,
    header_read: Duration,
    graceful: Watcher,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send> + Clone + Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let stream = match TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => return tracing::warn!(%error, "a connection cannot be waited for"),
    };
    let io = TokioIo::new(PrefaceTimeout::new(stream, header_read));
    let server = builder(header_read);
    let connection = server.serve_connection_with_upgrades(io, Calls::new(app)).into_owned();
    if let Err(error) = Again::new(graceful.watch(connection)).await {
        tracing::debug!(%error, "connection ended with an error");
    }
    drop(place);
}

/// The next connection with its place; a failing accept is paused on and tried again. Cancel-safe.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> (std::net::TcpStream, OwnedSemaphorePermit) {
    let place = Arc::clone(places).acquire_owned().await.expect("the semaphore is never closed");
    let mut pause_ms = ACCEPT_PAUSE_MS.0;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Small answers must not wait for more; without it they are only slower.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY not set");
                }
                // Let go of by the runtime that accepts, to be taken up by the one that serves.
                match stream.into_std() {
                    Ok(stream) => return (stream, place),
                    Err(error) => tracing::debug!(%error, "connection lost after accept"),
                }
            }
            Err(error) if is_of_the_connection(&error) => tracing::debug!(%error, "connection lost before accept"),
            Err(error) => {
                tracing::warn!(%error, pause_ms, "accept failed");
                tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                pause_ms = (pause_ms * 2).min(ACCEPT_PAUSE_MS.1);
            }
        }
    }
}

fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

/// The protocols of one connection.
fn builder(header_read: Duration) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(HeadTimer::default())
        .header_read_timeout(header_read)
        .max_buf_size(usize::from(HEADER_BYTES_MAX));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(H2_STREAMS_MAX)
        .max_header_list_size(u32::from(HEADER_BYTES_MAX))
        .keep_alive_interval(Duration::from_secs(H2_PING_S.0))
        .keep_alive_timeout(Duration::from_secs(H2_PING_S.1));
    builder
}
