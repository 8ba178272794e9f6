//! A TCP proxy in front of any local port that does to connections what networks do: delay, refuse, cut, stall, and lose the reply
//! to a request that has arrived.

use std::{
    io,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::sleep,
};

use super::{patience::Patience, port::free_port};

/// Bytes moved at once, in one direction of one connection.
const CHUNK_BYTES_MAX: usize = 16 * 1024;

/// What the proxy does to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyMode {
    /// Moves all bytes at once.
    Pass,
    /// Holds each chunk from the server back for so long; requests pass at once.
    Delay(Duration),
    /// Nobody listens: new connections are refused. Those that are there go on; see [`CutProxy::cut_all`].
    Refuse,
    /// Takes connections and moves nothing; all that is held goes on when the mode changes, as after a healed partition.
    Blackhole,
}

/// What all connections of a proxy look at.
#[derive(Debug)]
struct Shared {
    mode: watch::Sender<ProxyMode>,
    /// Counts the calls of `cut_all`; a connection ends when it changes.
    cuts: watch::Sender<u64>,
    /// The port behind; connections that are there keep theirs.
    target: watch::Sender<u16>,
    /// Replies that are still to be lost.
    replies_to_lose: AtomicU64,
    replies_lost: AtomicU64,
}

/// A proxy on a loopback port. It lives on the runtime it was started on; dropping it cuts everything.
#[derive(Debug)]
pub struct CutProxy {
    port: u16,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl CutProxy {
    /// Starts a proxy in front of `target`, a loopback port, in mode [`Pass`](ProxyMode::Pass).
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(target: u16) -> io::Result<Self> {
        let patience = Patience::new("a port for a proxy");
        let listener = loop {
            match listen(free_port()?).await {
                Ok(listener) => break listener,
                Err(_) => patience.pause().await?,
            }
        };
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            mode: watch::Sender::new(ProxyMode::Pass),
            cuts: watch::Sender::new(0),
            target: watch::Sender::new(target),
            replies_to_lose: AtomicU64::new(0),
            replies_lost: AtomicU64::new(0),
        });
        let task = tokio::spawn(serve(port, listener, Arc::clone(&shared)));
        Ok(Self { port, shared, task })
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on does this, to connections that are there as well (but see [`ProxyMode::Refuse`]).
    pub fn set_mode(&self, mode: ProxyMode) {
        self.shared.mode.send_replace(mode);
    }

    /// New connections go to this port.
    pub fn set_target(&self, port: u16) {
        self.shared.target.send_replace(port);
    }

    /// Cuts every connection there is; new ones are served as the mode says.
    pub fn cut_all(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// The next reply is lost: the request has reached the server, and instead of its answer the connection is cut.
    /// Called twice, two replies are lost. A chunk from the server that no request came before is no reply.
    pub fn cut_after_request_before_reply(&self) {
        self.shared.replies_to_lose.fetch_add(1, Ordering::SeqCst);
    }

    /// Replies lost so far.
    pub fn replies_lost(&self) -> u64 {
        self.shared.replies_lost.load(Ordering::SeqCst)
    }
}

impl Drop for CutProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await
}

/// Takes connections as long as the mode lets it; ends with the proxy, and its connections with it.
async fn serve(port: u16, listener: TcpListener, shared: Arc<Shared>) {
    let mut listener = Some(listener);
    let mut mode = shared.mode.subscribe();
    let mut connections = JoinSet::new();
    loop {
        let refuses = *mode.borrow_and_update() == ProxyMode::Refuse;
        if refuses {
            listener = None;
        } else if listener.is_none() {
            // Taken by another process meanwhile: then it stays refused, and the test that asked for it says so.
            listener = listen(port).await.ok();
        }
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = mode.changed() => if changed.is_err() { return },
            accepted = accepted => if let Ok((client, _)) = accepted {
                connections.spawn(carry(client, Arc::clone(&shared)));
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection from its first byte to its end. A cut is a reset to both sides, a lost reply too.
async fn carry(mut client: TcpStream, shared: Arc<Shared>) {
    let mut cuts = shared.cuts.subscribe();
    // Nothing is asked of the server while nothing may pass.
    let connected = async {
        passing(&shared).await;
        let target = *shared.target.borrow();
        TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await
    };
    let mut server = tokio::select! {
        _ = cuts.changed() => return reset(&client),
        connected = connected => match connected {
            Ok(server) => server,
            Err(_) => return reset(&client),
        }
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let asked = AtomicU64::new(0);
    let ended = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        // One side that is closed must not end the other: whoever asks and closes still gets the reply.
        let carried = async {
            tokio::try_join!(
                requests(from_client, to_server, &shared, &asked),
                replies(from_server, to_client, &shared, &asked)
            )
        };
        tokio::select! {
            _ = cuts.changed() => Err(io::ErrorKind::ConnectionReset.into()),
            ended = carried => ended.map(|_| ()),
        }
    };
    if ended.is_err() {
        reset(&client);
        reset(&server);
    }
}

/// Makes the end of a connection, which is near, a reset.
fn reset(socket: &TcpStream) {
    let _ = socket.set_zero_linger();
}

/// Waits while the mode is [`ProxyMode::Blackhole`].
async fn passing(shared: &Shared) {
    let mut mode = shared.mode.subscribe();
    let _ = mode.wait_for(|mode| *mode != ProxyMode::Blackhole).await;
}

async fn requests(
    mut client: ReadHalf<'_>,
    mut server: WriteHalf<'_>,
    shared: &Shared,
    asked: &AtomicU64,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES_MAX];
    loop {
        let read = client.read(&mut chunk).await?;
        passing(shared).await;
        if read == 0 {
            return server.shutdown().await;
        }
        asked.fetch_add(1, Ordering::SeqCst);
        server.write_all(&chunk[..read]).await?;
    }
}

async fn replies(
    mut server: ReadHalf<'_>,
    mut client: WriteHalf<'_>,
    shared: &Shared,
    asked: &AtomicU64,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES_MAX];
    loop {
        let read = server.read(&mut chunk).await?;
        let mode = *shared.mode.borrow();
        if let ProxyMode::Delay(pause) = mode {
            sleep(pause).await;
        }
        passing(shared).await;
        if read == 0 {
            return client.shutdown().await;
        }
        if asked.swap(0, Ordering::SeqCst) > 0 && take_one(&shared.replies_to_lose) {
            shared.replies_lost.fetch_add(1, Ordering::SeqCst);
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        client.write_all(&chunk[..read]).await?;
    }
}

/// Takes one from a count that is not zero.
fn take_one(count: &AtomicU64) -> bool {
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| count.checked_sub(1)).is_ok()
}
