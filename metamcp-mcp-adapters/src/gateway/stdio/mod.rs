//! The gateway over standard input and output, one message a line, for one client of either era.
//!
//! Every request runs as a task of its own, so that a slow one holds up no other; all of them share one line out.

mod client;
mod listen;
mod outlet;

use std::{io, sync::Arc, time::Duration};

use futures_util::future::join_all;
use metamcp_core::{auth::Principal, json::RawJson};
use serde_json::value::RawValue;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{client::Client, outlet::Outlet};
use super::{
    Gateway, RpcFault,
    front::{self, Frame},
    incoming::{self, INVALID_REQUEST, Incoming, Message, Refusal},
};
use crate::wire::{
    FRAME_BYTES_MAX,
    line::{Line, LineReader},
};

/// Requests of the client that are answered at the same time; one above it is refused.
const REQUESTS_MAX: usize = 256;
/// Messages to the client that wait for it to read; above it notifications are dropped and answers wait.
const MESSAGES_MAX: usize = 1_024;
/// How long what is being answered may take when the client has closed its end, in seconds.
const LAST_ANSWERS_S: u64 = 2;

/// How the gateway is served over standard input and output.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StdioOptions {
    /// The endpoint that is shown; `None`: the main one.
    pub endpoint: Option<String>,
    /// Who the client is.
    pub principal: Principal,
    /// Longest wait for the answer of a legacy client to a question.
    pub question_wait: Duration,
    /// Cancelled when the process drains.
    pub drain: CancellationToken,
}

impl Default for StdioOptions {
    fn default() -> Self {
        Self {
            endpoint: None,
            principal: Principal::local(),
            question_wait: Duration::from_secs(super::QUESTION_WAIT_S),
            drain: CancellationToken::new(),
        }
    }
}

/// Serves one client until it closes `input`, no longer reads `output`, or the process drains.
///
/// # Errors
/// When the input cannot be read.
///
/// # Cancel safety
/// Dropping the future takes back everything that is being answered.
pub async fn serve_stdio(
    gateway: Gateway,
    input: impl AsyncRead + Unpin + Send,
    output: impl AsyncWrite + Unpin + Send + 'static,
    options: StdioOptions,
) -> io::Result<()> {
    let (out, lines) = mpsc::channel(MESSAGES_MAX);
    let gone = options.drain.child_token();
    let _gone_when_dropped = gone.clone().drop_guard();
    let writer = tokio::spawn(write(output, lines, gone.clone()));
    let tasks = TaskTracker::new();
    let client = Client::new(gateway, options, Outlet::new(out), tasks.clone(), gone.clone());
    let read = tokio::select! {
        read = read(&client, input) => read,
        () = gone.cancelled() => Ok(()),
    };
    client.end();
    tasks.close();
    if timeout(Duration::from_secs(LAST_ANSWERS_S), tasks.wait()).await.is_err() {
        client.stop_all();
        tasks.wait().await;
    }
    // The writer ends when nobody can send any more.
    drop(client);
    // It may have been cut off by a client that does not read.
    let _ = timeout(Duration::from_secs(LAST_ANSWERS_S), writer).await;
    read
}

async fn read(client: &Arc<Client>, input: impl AsyncRead + Unpin) -> io::Result<()> {
    let mut lines = LineReader::new(input, FRAME_BYTES_MAX);
    while let Some(line) = lines.next().await? {
        let text = match line {
            Line::Text(text) if text.iter().all(u8::is_ascii_whitespace) => continue,
            Line::Text(text) => String::from_utf8_lossy(text).into_owned(),
            Line::TooLong { bytes, .. } => {
                let why = format!("a message has at most {FRAME_BYTES_MAX} bytes, this one {bytes}; send less");
                client.send(front::fault(None, &RpcFault::new(INVALID_REQUEST, why))).await;
                continue;
            }
        };
        take(client, text).await;
    }
    Ok(())
}

/// Takes what came on one line. What must be seen before the next line is done here, the rest in a task.
async fn take(client: &Arc<Client>, text: String) {
    match incoming::read(&text) {
        Ok(Incoming::One(Message::Request(request))) => {
            if client.requests() >= REQUESTS_MAX {
                let why = format!("{REQUESTS_MAX} requests are being answered; send this one again later");
                let fault = RpcFault::new(crate::wire::era::INTERNAL_ERROR, why);
                return client.send(front::fault(Some(request.id), &fault)).await;
            }
            if request.method == "initialize" && super::lifecycle::revision(&request).is_none() {
                return client.initialize(&request).await;
            }
            let id: Box<str> = request.id.get().into();
            Arc::clone(client).spawn(&id, text);
        }
        Ok(Incoming::One(Message::Notification(notification))) => client.notified(&notification),
        Ok(Incoming::One(Message::Response { id, outcome })) => client.answered(id, outcome),
        Ok(Incoming::Batch(batch)) => {
            let texts: Vec<Box<RawValue>> = batch.into_iter().map(ToOwned::to_owned).collect();
            Arc::clone(client).spawn_batch(texts);
        }
        Err(refusal) => client.send(refused(&refusal)).await,
    }
}

fn refused(refusal: &Refusal) -> Frame {
    front::fault(refusal.id.as_ref().map(RawJson::raw), &refusal.fault)
}

impl Client {
    /// Answers a request in a task of its own.
    fn spawn(self: Arc<Self>, id: &str, text: String) {
        let stop = self.gone.child_token();
        let number = self.running.add(id, stop.clone());
        let id: Box<str> = id.into();
        self.tasks.clone().spawn(async move {
            let answering = async {
                if let Ok(Message::Request(request)) = incoming::message(&text)
                    && let Some(answer) = self.answer(&request, &stop).await
                {
                    self.send(answer).await;
                }
            };
            // Nothing more is said of a request that was taken back.
            let _ = stop.run_until_cancelled(answering).await;
            self.running.remove(&id, number);
        });
    }

    /// Answers a batch (revision 2025-03-26): all answers together, when the last is there.
    fn spawn_batch(self: Arc<Self>, batch: Vec<Box<RawValue>>) {
        let stop = self.gone.child_token();
        self.tasks.clone().spawn(async move {
            let each = batch.iter().map(async |text| match incoming::message(text.get()) {
                Ok(Message::Request(request)) => self.answer(&request, &stop).await,
                Ok(Message::Notification(notification)) => {
                    self.notified(&notification);
                    None
                }
                Ok(Message::Response { id, outcome }) => {
                    self.answered(id, outcome);
                    None
                }
                Err(refusal) => Some(refused(&refusal)),
            });
            let Some(answers) = stop.run_until_cancelled(join_all(each)).await else { return };
            let frames: Vec<Frame> = answers.into_iter().flatten().collect();
            if !frames.is_empty() {
                self.send(Frame::batch(frames)).await;
            }
        });
    }
}

async fn write(mut output: impl AsyncWrite + Unpin, mut lines: mpsc::Receiver<Frame>, gone: CancellationToken) {
    while let Some(frame) = lines.recv().await {
        let written = async {
            for piece in frame.into_pieces() {
                output.write_all(&one_line(&piece)).await?;
            }
            output.write_all(b"\n").await?;
            // What waits goes out together.
            if lines.is_empty() { output.flush().await } else { Ok(()) }
        };
        if let Err(error) = written.await {
            tracing::debug!(%error, "the client no longer reads");
            gone.cancel();
            return;
        }
    }
}

/// Line ends within JSON text are white space between tokens: a blank in their place changes nothing.
fn one_line(piece: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    if !piece.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return piece.into();
    }
    piece.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect::<Vec<u8>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_one_line() {
        assert_eq!(&*one_line(b"{\n\"a\":\r\n\"\\n\"}"), b"{ \"a\":  \"\\n\"}");
        assert!(matches!(one_line(b"{}"), std::borrow::Cow::Borrowed(_)));
    }
}
