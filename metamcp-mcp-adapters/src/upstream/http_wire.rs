//! Connections of HTTP/1.1 to one plain address, each driven by who waits for its answer.
//!
//! No task stands between a call and the socket of its server: nothing has to be woken on the way there and back but the call itself. An idle
//! connection is driven by nobody; one that its server has closed is found before it is used again, and swept soon.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Wake, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    client::conn::{
        TrySendError,
        http1::{self, Connection, SendRequest},
    },
};
use hyper_util::{client::legacy::connect::HttpConnector as Tcp, rt::TokioIo};
use tokio::{
    net::TcpStream,
    runtime::{Handle, Id},
    task::unconstrained,
    time::{Instant, Sleep, sleep, timeout},
};
use tower_service::Service;

use super::http_failure::{CONNECT_S_MAX, POOL_IDLE_S, SendError, no_connection_in_time};

/// Connections that are kept idle for each runtime; further ones are closed when they are done with.
const IDLE_MAX: usize = 1_024;
/// Pause between two looks for idle connections to close, in milliseconds.
const SWEEP_MS: u64 = 1_000;

/// The connections to one address.
#[derive(Debug)]
pub(super) struct Wires {
    tcp: Tcp,
    /// Where they lead.
    to: Uri,
    idle: Mutex<Idle>,
}

/// Those that nobody uses; the last one used is used first. Each is used on the runtime that it was made on, which is told first of what comes.
#[derive(Debug, Default)]
struct Idle {
    wires: Vec<(Id, Kept)>,
    /// Whether somebody looks for those to close.
    is_swept: bool,
}

/// Idle ones with the time from when on.
type Kept = Vec<(Instant, Box<Wire>)>;

/// One connection.
#[derive(Debug)]
struct Wire {
    /// The runtime that it was made on.
    home: Id,
    sender: SendRequest<Full<Bytes>>,
    /// `None` once it has ended.
    connection: Option<Connection<TokioIo<TcpStream>, Full<Bytes>>>,
    /// Who waits for its answer.
    waiting: Arc<Waiting>,
    /// Wakes them.
    waker: Waker,
    /// How long its server may be silent yet. To move it to a later time costs next to nothing, to make a new one takes a lock.
    silence: Pin<Box<Sleep>>,
}

/// Passes a wake on to who waits, if anybody does.
#[derive(Debug, Default)]
struct Waiting(AtomicWaker);

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        self.0.wake();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.wake();
    }
}

impl Idle {
    /// Those of one runtime, if it has had any.
    fn of(&mut self, runtime: Id) -> Option<&mut Kept> {
        self.wires.iter_mut().find(|(id, _)| *id == runtime).map(|(_, kept)| kept)
    }

    fn keep(&mut self, wire: Box<Wire>) {
        let kept = (Instant::now(), wire);
        match self.of(kept.1.home) {
            Some(wires) if wires.len() < IDLE_MAX => wires.push(kept),
            Some(_) => {}
            None => self.wires.push((kept.1.home, vec![kept])),
        }
    }
}

impl Wires {
    /// None yet; they will lead to the host and port of this address.
    pub(super) fn new(tcp: Tcp, to: Uri) -> Arc<Self> {
        Arc::new(Self { tcp, to, idle: Mutex::default() })
    }

    /// Sends a request, whose target is a path, and waits for the head of its answer, for as long as the server may be silent.
    ///
    /// # Cancel safety
    /// Dropping the future closes the connection.
    pub(super) fn send(self: &Arc<Self>, request: Request<Full<Bytes>>, silence: Duration) -> Sending<'_> {
        Sending { home: self, silence, stage: self.begin(request, silence) }
    }

    /// Sends on a connection that is idle, or makes one.
    fn begin(&self, request: Request<Full<Bytes>>, silence: Duration) -> Stage<'_> {
        match self.take() {
            Some(wire) => Stage::sent(wire, request, silence, false),
            None => Stage::Connecting(Box::pin(self.connect(silence)), Some(Box::new(request))),
        }
    }

    async fn connect(&self, silence: Duration) -> Result<Box<Wire>, SendError> {
        let connecting = self.tcp.clone().call(self.to.clone());
        let connected = timeout(Duration::from_secs(CONNECT_S_MAX), connecting).await;
        let io = match connected {
            Ok(Ok(io)) => io,
            Ok(Err(error)) => return Err(SendError::Connect(error.into())),
            Err(_) => return Err(SendError::Connect(no_connection_in_time())),
        };
        let (sender, connection) = http1::handshake(io).await.map_err(|error| SendError::Connect(error.into()))?;
        let waiting = Arc::new(Waiting::default());
        let waker = Waker::from(Arc::clone(&waiting));
        let silence = Box::pin(sleep(silence));
        let home = Handle::current().id();
        Ok(Box::new(Wire { home, sender, connection: Some(connection), waiting, waker, silence }))
    }

    fn take(&self) -> Option<Box<Wire>> {
        let here = Handle::try_current().ok()?.id();
        self.idle().of(here)?.pop().map(|(_, wire)| wire)
    }

    fn give_back(self: &Arc<Self>, wire: Box<Wire>) {
        let mut idle = self.idle();
        if !idle.is_swept {
            // Without a runtime nobody will use it either.
            let Ok(runtime) = Handle::try_current() else { return };
            idle.is_swept = true;
            runtime.spawn(sweep(Arc::downgrade(self)));
        }
        idle.keep(wire);
    }

    /// Closes those that their server has closed or that were idle for too long; whether there are any left.
    fn sweep(&self) -> bool {
        let now = Instant::now();
        let mut idle = self.idle();
        idle.wires.retain_mut(|(_, wires)| {
            wires.retain_mut(|(since, wire)| {
                now.duration_since(*since) < Duration::from_secs(POOL_IDLE_S) && wire.is_idle()
            });
            !wires.is_empty()
        });
        idle.is_swept = !idle.wires.is_empty();
        idle.is_swept
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One task for all connections to an address, while any are idle.
async fn sweep(wires: Weak<Wires>) {
    loop {
        sleep(Duration::from_millis(SWEEP_MS)).await;
        if !wires.upgrade().is_some_and(|wires| wires.sweep()) {
            return;
        }
    }
}

/// The answer that comes of what a connection does.
type Answering = Pin<Box<dyn Future<Output = Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>>> + Send>>;
type Connecting<'a> = Pin<Box<dyn Future<Output = Result<Box<Wire>, SendError>> + Send + 'a>>;

/// A request on its way, until the head of its answer. It is small: everything large is on the heap from the start.
pub(super) struct Sending<'a> {
    home: &'a Arc<Wires>,
    silence: Duration,
    stage: Stage<'a>,
}

enum Stage<'a> {
    Connecting(Connecting<'a>, Option<Box<Request<Full<Bytes>>>>),
    Sent { wire: Box<Wire>, answer: Answering, is_new: bool },
    Over,
}

impl Stage<'_> {
    fn sent(mut wire: Box<Wire>, request: Request<Full<Bytes>>, silence: Duration, is_new: bool) -> Self {
        wire.silence.as_mut().reset(Instant::now() + silence);
        let answer = Box::pin(unconstrained(wire.sender.try_send_request(request)));
        Self::Sent { wire, answer, is_new }
    }
}

impl Future for Sending<'_> {
    type Output = Result<Response<Driven>, SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        // Ends: a connection that is new is the last.
        loop {
            match &mut this.stage {
                Stage::Connecting(connecting, request) => {
                    let wire = ready!(connecting.as_mut().poll(cx))?;
                    let Some(request) = request.take() else { return Poll::Pending };
                    this.stage = Stage::sent(wire, *request, this.silence, true);
                }
                Stage::Sent { wire, answer, is_new } => {
                    wire.drive(cx);
                    // It comes of that drive or of a later one: to be woken for it too would be to be polled, and scheduled, once more.
                    let Poll::Ready(answered) = answer.as_mut().poll(&mut nobody()) else {
                        ready!(wire.poll_silence());
                        return Poll::Ready(Err(SendError::Silent));
                    };
                    let may_be_stale = !*is_new;
                    match answered {
                        Ok(response) => return Poll::Ready(Ok(this.answered(response))),
                        Err(mut error) => match error.take_message() {
                            // It was closed before the request was written.
                            Some(unsent) if may_be_stale => this.stage = this.home.begin(unsent, this.silence),
                            _ => return Poll::Ready(Err(SendError::Broke(error.into_error().into()))),
                        },
                    }
                }
                Stage::Over => return Poll::Pending,
            }
        }
    }
}

impl Sending<'_> {
    fn answered(&mut self, response: Response<Incoming>) -> Response<Driven> {
        let wire = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Sent { wire, .. } => Some(wire),
            Stage::Connecting(..) | Stage::Over => None,
        };
        response.map(|body| Driven { body: Some(body), wire, home: Arc::clone(self.home) })
    }
}

impl Wire {
    /// Reads and writes what can be, for who is woken when there is more. What becomes of it shows in the answer; a connection that has ended
    /// is dropped, and lets go of what it has not sent.
    fn drive(&mut self, cx: &Context<'_>) {
        self.waiting.0.register(cx.waker());
        self.poll();
    }

    fn poll(&mut self) {
        let cx = &mut Context::from_waker(&self.waker);
        if self.connection.as_mut().is_some_and(|open| Pin::new(open).poll(cx).is_ready()) {
            self.connection = None;
        }
    }

    /// Ready when the server was silent for too long. Who drives it is woken for this too.
    fn poll_silence(&mut self) -> Poll<()> {
        self.silence.as_mut().poll(&mut Context::from_waker(&self.waker))
    }

    /// Nobody waits for it any more.
    fn leave(&self) {
        self.waiting.0.take();
    }

    /// Whether it was open, and done with all that was asked on it, when it was last driven.
    fn is_done(&self) -> bool {
        self.connection.is_some() && self.sender.is_ready()
    }

    /// Whether it is so now.
    fn is_idle(&mut self) -> bool {
        self.poll();
        self.is_done()
    }
}

/// The context of who is not to be woken.
fn nobody() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// The body of an answer, which drives its connection and gives it back at its end.
#[derive(Debug)]
pub(super) struct Driven {
    /// Both `None` only while it is dropped.
    body: Option<Incoming>,
    wire: Option<Box<Wire>>,
    home: Arc<Wires>,
}

impl Body for Driven {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let (Some(body), Some(wire)) = (&mut this.body, &mut this.wire) else { return Poll::Ready(None) };
        // What has come with the head needs no look at the connection, and whoever takes it is not to be woken for having done so.
        wire.leave();
        let come = Pin::new(&mut *body).poll_frame(&mut nobody());
        if come.is_ready() {
            return come;
        }
        wire.drive(cx);
        Pin::new(body).poll_frame(&mut nobody())
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        let Some(mut wire) = self.wire.take() else { return };
        wire.leave();
        // Of a body that was not read to its end the connection is closed, unless the rest is there already.
        self.body = None;
        if wire.is_done() || wire.is_idle() {
            self.home.give_back(wire);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::BodyExt as _;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        runtime::Builder,
    };

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    async fn wires() -> (TcpListener, Arc<Wires>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        (listener, Wires::new(Tcp::new(), to))
    }

    fn request(body: &'static str) -> Request<Full<Bytes>> {
        Request::post("/mcp").header("host", "test").body(Full::from(body)).unwrap()
    }

    /// Reads a request whose body ends with a dot, and answers it.
    async fn serve_one(stream: &mut TcpStream, answer: &str) {
        let mut read = Vec::new();
        while read.last() != Some(&b'.') {
            assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0, "{}", String::from_utf8_lossy(&read));
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
    }

    async fn text(response: Response<Driven>) -> Bytes {
        response.into_body().collect().await.unwrap().to_bytes()
    }

    const WHOLE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    const CHUNKS: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n";

    #[tokio::test]
    async fn a_connection_is_used_again_and_a_closed_one_is_replaced() {
        let (listener, wires) = wires().await;
        let server = tokio::spawn(async move {
            let (mut first, _) = listener.accept().await.unwrap();
            serve_one(&mut first, WHOLE).await;
            serve_one(&mut first, CHUNKS).await;
            drop(first);
            let (mut second, _) = listener.accept().await.unwrap();
            serve_one(&mut second, WHOLE).await;
            second
        });
        for body in ["a.", "b.", "c."] {
            assert_eq!(text(wires.send(request(body), LONG).await.unwrap()).await, "ok");
        }
        assert_eq!(wires.idle().wires.iter().map(|(_, wires)| wires.len()).sum::<usize>(), 1);
        drop(server.await.unwrap());
        timeout(LONG, async {
            while wires.idle().is_swept {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("what the server closed is swept");
        assert!(wires.idle().wires.is_empty());
    }

    #[test]
    fn a_connection_is_used_on_the_runtime_that_made_it() {
        let server = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (listener, wires) = server.block_on(wires());
        let accepted = Arc::<AtomicUsize>::default();
        let counting = Arc::clone(&accepted);
        server.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counting.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    loop {
                        serve_one(&mut stream, WHOLE).await;
                    }
                });
            }
        });
        let [first, second] = [(); 2].map(|()| Builder::new_current_thread().enable_all().build().unwrap());
        for runtime in [&first, &second, &first, &second] {
            let answer = runtime.block_on(async { text(wires.send(request("a."), LONG).await.unwrap()).await });
            assert_eq!(answer, "ok");
        }
        assert_eq!(accepted.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn an_answer_that_is_left_in_the_middle_closes_its_connection() {
        let (listener, wires) = wires().await;
        let sent = wires.send(request("a."), LONG);
        let served = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            serve_one(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no").await;
            stream
        };
        let (response, mut stream) = tokio::join!(sent, served);
        drop(response.unwrap());
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0, "closed");
        assert!(wires.idle().wires.is_empty());
    }

    #[tokio::test]
    async fn silence_and_an_address_where_nobody_is_are_told_apart() {
        let (listener, wires) = wires().await;
        let silent = wires.send(request("a."), Duration::from_millis(50)).await;
        assert!(matches!(silent, Err(SendError::Silent)));
        drop(listener);
        assert!(matches!(wires.send(request("a."), LONG).await, Err(SendError::Connect(_))));
    }
}
