//! The way over two streams of bytes, one frame a line: a child's stdin and stdout, or a pipe within the process.
//!
//! One task writes, one reads. The reader never waits for the writer, so a server that stops reading cannot stop its answers from being read.
//! The writer keeps a busy server's pace.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use metamcp_core::{id::ServerName, transport::RelaySide};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufWriter},
    sync::mpsc,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    child::{EndedWatch, Process},
    news::News,
    pace::{Pace, Said},
    peer::{Out, Peer},
    way::{Ask, Failure, Step, Way},
};
use crate::wire::{
    FRAME_BYTES_MAX, frame,
    line::{self, Line, LineReader},
};

/// After the far side ended, how long what it still wrote is read, and its exit status waited for.
const LAST_WORDS_MS: u64 = 500;

/// A connection over two streams.
#[derive(Debug)]
pub(super) struct Duplex {
    kind: &'static str,
    peer: Arc<Peer>,
    closing: CancellationToken,
    /// Ends both tasks, and with them the child, when nobody holds the connection any more.
    _closing_on_drop: DropGuard,
    process: Option<Process>,
}

impl Duplex {
    /// Frames over `reader` and `writer`; with the process behind them, if it is one of ours.
    pub(super) fn new<R, W>(
        server: ServerName,
        kind: &'static str,
        reader: R,
        writer: W,
        process: Option<Process>,
    ) -> Self
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let (peer, frames) = Peer::new(server);
        let closing = process.as_ref().map_or_else(CancellationToken::new, Process::closing);
        let ended = process.as_ref().map(Process::ended);
        let said = Arc::new(Said::default());
        tokio::spawn(write(writer, frames, Arc::clone(&said), Arc::clone(&peer), closing.clone()));
        tokio::spawn(read(LineReader::new(reader, FRAME_BYTES_MAX), ended, said, Arc::clone(&peer), closing.clone()));
        Self { kind, peer, _closing_on_drop: closing.clone().drop_guard(), closing, process }
    }
}

/// Writes what is asked.
async fn write<W>(
    writer: W,
    mut frames: mpsc::Receiver<Out>,
    said: Arc<Said>,
    peer: Arc<Peer>,
    closing: CancellationToken,
) where
    W: AsyncWrite + Send + Unpin + 'static,
{
    let mut writer = BufWriter::new(writer);
    let mut pace = Pace::new(said);
    let work = async {
        while let Some(out) = frames.recv().await {
            // Where nobody wants this one any more, those before it still have to leave.
            if out.slot.is_none_or(|slot| slot.send()) {
                writer.write_all(&line::of_frame(out.frame)).await?;
                pace.hold();
            }
            if pace.holds() && frames.is_empty() {
                // Whoever asks in the same turn shares the write.
                tokio::task::yield_now().await;
                if frames.is_empty() {
                    pace.keep(peer.under_way()).await;
                }
                if frames.is_empty() {
                    writer.flush().await?;
                    pace.has_written();
                }
            }
        }
        writer.flush().await
    };
    let broken = closing.run_until_cancelled(work).await;
    if let Some(Err(error)) = broken {
        let why = format!("cannot be written to: {error}");
        peer.fail_queued(&why);
        // Answers to what was written may still come.
        if closing.run_until_cancelled(tokio::time::sleep(Duration::from_millis(LAST_WORDS_MS))).await.is_some() {
            peer.fail(&why);
            closing.cancel();
        }
    }
    // The writer is dropped here: a child sees the end of its stdin.
}

async fn read<R>(
    mut reader: LineReader<R>,
    mut ended: Option<EndedWatch>,
    said: Arc<Said>,
    peer: Arc<Peer>,
    closing: CancellationToken,
) where
    R: AsyncRead + Send + Unpin + 'static,
{
    let last_words = Duration::from_millis(LAST_WORDS_MS);
    let mut exit = ended.clone();
    // The process may be gone while a grandchild still holds its stdout.
    let gone = async {
        if let Some(exit) = &mut exit
            && exit.wait_for(Option::is_some).await.is_ok()
        {
            tokio::time::sleep(last_words).await;
        } else {
            std::future::pending().await
        }
    };
    tokio::select! {
        () = closing.cancelled() => return peer.fail("connection was closed"),
        () = gone => {},
        () = lines(&mut reader, &said, &peer) => {},
    }
    peer.refuse("the server ended its output");
    let why = match &mut ended {
        None => None,
        Some(ended) => match tokio::time::timeout(last_words, ended.wait_for(Option::is_some)).await {
            Ok(Ok(ended)) => ended.as_ref().map(|ended| ended.words.clone()),
            Ok(Err(_)) | Err(_) => None,
        },
    };
    peer.fail(why.as_deref().unwrap_or("the server ended its output"));
    closing.cancel();
}

/// Reads until the end of the stream.
async fn lines<R: AsyncRead + Send + Unpin>(reader: &mut LineReader<R>, said: &Said, peer: &Peer) {
    loop {
        if !reader.has_line() {
            said.all_read();
        }
        let line = reader.next().await;
        said.line();
        match line {
            Ok(Some(Line::Text(text))) => match std::str::from_utf8(text) {
                Ok(text) if text.trim().is_empty() => {}
                Ok(text) => peer.receive(text),
                Err(error) => peer.garbage(&error.to_string(), &String::from_utf8_lossy(text)),
            },
            Ok(Some(Line::TooLong { bytes, id })) => peer.too_long(bytes, id),
            Ok(None) => return,
            Err(error) => return peer.garbage(&error.to_string(), ""),
        }
    }
}

#[async_trait]
impl Way for Duplex {
    fn kind(&self) -> &'static str {
        self.kind
    }

    async fn ask(&self, ask: &mut Ask<'_>, side: &dyn RelaySide) -> Result<Step, Failure> {
        self.peer.ask(ask, side).await
    }

    async fn tell(&self, method: &'static str) -> Result<(), Failure> {
        Ok(self.peer.tell(frame::notification(method, None)).await?)
    }

    fn agreed(&self, _revision: &str) {}

    fn news(&self) -> &News {
        &self.peer.news
    }

    fn asks(&self) -> bool {
        self.peer.asks()
    }

    fn is_closed(&self) -> bool {
        self.peer.is_closed()
    }

    async fn close(&self) {
        self.peer.fail("connection was closed");
        self.closing.cancel();
        if let Some(process) = &self.process {
            process.stop().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;
    use crate::upstream::slot::Slot;

    #[tokio::test(start_paused = true)]
    async fn a_request_leaves_also_when_the_one_behind_it_is_given_up() {
        let (peer, _) = Peer::new(ServerName::new("s").unwrap());
        let (send, frames) = mpsc::channel(8);
        let given_up = Arc::new(Slot::queued(false));
        assert!(given_up.abandon());
        for (frame, slot) in [("wanted", Some(Arc::new(Slot::queued(false)))), ("given up", Some(given_up))] {
            send.send(Out { frame: frame.to_owned(), slot }).await.unwrap();
        }
        let (near, mut far) = tokio::io::duplex(1_024);
        let closing = CancellationToken::new();
        tokio::spawn(write(near, frames, Arc::default(), peer, closing.clone()));
        let mut came = [0; 7];
        let in_time = tokio::time::timeout(Duration::from_secs(1), far.read_exact(&mut came)).await;
        assert!(in_time.is_ok_and(|read| read.is_ok()) && came == *b"wanted\n", "{:?}", String::from_utf8_lossy(&came));
        closing.cancel();
    }
}
