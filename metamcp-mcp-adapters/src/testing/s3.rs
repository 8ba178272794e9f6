//! A private server that speaks the S3 protocol (`moto_server`), with one bucket. It keeps objects in memory: down is empty.

use std::{io, net::Ipv4Addr};

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    port::{STARTS_MAX, free_port},
    process::Launch,
    program::find,
    server::Server,
};

/// What its log says once it serves.
const READY: &str = "Running on http://";
/// The bucket that is there from the start.
const BUCKET: &str = "metamcp";
/// Bytes of an answer that are looked at.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// A running S3 server on a loopback port. Dropping it kills it.
#[derive(Debug)]
pub struct S3Server {
    port: u16,
    server: Server,
    _dir: TempDir,
}

impl S3Server {
    /// Starts a server, waits until it serves and makes the bucket.
    ///
    /// # Errors
    /// When `moto_server` is missing or does not start; the end of its log is told.
    pub async fn start() -> io::Result<Self> {
        for _ in 1..STARTS_MAX {
            match Self::start_on(free_port()?).await {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                started => return started,
            }
        }
        Self::start_on(free_port()?).await
    }

    async fn start_on(port: u16) -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        let args = ["-H", "127.0.0.1", "-p", &port.to_string()].map(Into::into).into();
        let launch = Launch { program: find("moto_server")?, args, account: None, log: dir.path().join("s3.log") };
        let server = Self { port, server: Server::start(launch, READY, Signal::TERM).await?, _dir: dir };
        server.make_bucket(BUCKET).await?;
        Ok(server)
    }

    /// Makes one more bucket.
    ///
    /// # Errors
    /// When the server is down or refuses the name.
    pub async fn make_bucket(&self, name: &str) -> io::Result<()> {
        let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await?;
        let host = format!("127.0.0.1:{}", self.port);
        let ask = format!("PUT /{name} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        socket.write_all(ask.as_bytes()).await?;
        let mut answer = Vec::new();
        socket.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
        let answer = String::from_utf8_lossy(&answer);
        if answer.starts_with("HTTP/1.1 200") {
            return Ok(());
        }
        Err(io::Error::other(format!("cannot make the bucket `{name}`: {answer}")))
    }

    /// `http://127.0.0.1:PORT`; buckets are in the path.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The bucket that is there from the start.
    pub fn bucket(&self) -> &'static str {
        BUCKET
    }

    /// A region the server knows.
    pub fn region(&self) -> &'static str {
        "us-east-1"
    }

    /// The id of a key it takes; it takes any.
    pub fn access_key_id(&self) -> &'static str {
        "metamcp-test"
    }

    /// The secret of that key.
    pub fn secret_access_key(&self) -> &'static str {
        "metamcp-test-secret"
    }

    /// Its port, the same for its whole life.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// SIGKILL, and waits until it is gone; its objects are gone with it.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub async fn kill(&mut self) -> io::Result<()> {
        self.server.kill().await
    }

    /// Starts it again on the same port with an empty bucket, stopping it first if it runs.
    ///
    /// # Errors
    /// When it does not start; the end of its log is told.
    pub async fn restart(&mut self) -> io::Result<()> {
        self.server.restart().await?;
        self.make_bucket(BUCKET).await
    }

    /// SIGSTOP: it keeps its connections and answers nothing.
    ///
    /// # Errors
    /// When it is down.
    pub fn pause(&self) -> io::Result<()> {
        self.server.signal(Signal::STOP)
    }

    /// SIGCONT: it goes on.
    ///
    /// # Errors
    /// When it is down.
    pub fn resume(&self) -> io::Result<()> {
        self.server.signal(Signal::CONT)
    }
}
