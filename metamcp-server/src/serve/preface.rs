//! Bounds the time a client may take for its first bytes.
//!
//! The connection builder looks at the first bytes to tell HTTP/1.1 from HTTP/2, and has no time-out for that look: a silent client would
//! hold its place for ever. Once that many bytes have come, or an answer was begun, this is a plain stream and hyper's own bounds hold.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

/// Length of the HTTP/2 connection preface, in bytes: after so many the version is known.
const PREFACE_BYTES: usize = 24;

/// A TCP stream whose first bytes must come in time.
pub(super) struct PrefaceTimeout {
    stream: TcpStream,
    /// `None` once the version must be known.
    waiting: Option<Pin<Box<Sleep>>>,
    read: usize,
}

impl PrefaceTimeout {
    pub(super) fn new(stream: TcpStream, limit: Duration) -> Self {
        Self { stream, waiting: Some(Box::pin(sleep(limit))), read: 0 }
    }
}

impl AsyncRead for PrefaceTimeout {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(sleep) = &mut self.waiting
            && sleep.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "no request came in time")));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.read = self.read.saturating_add(buf.filled().len() - before);
        if self.read >= PREFACE_BYTES {
            self.waiting = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for PrefaceTimeout {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.waiting = None;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.waiting = None;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
