//! What the session needs of a way to a server: ask and get an answer, tell without one. Streams of bytes and HTTP both offer it.
//!
//! No retry, no knowledge of tools; the one thing both ways must get right is what is known of the delivery when something breaks.

use std::fmt;

use async_trait::async_trait;
use http::{HeaderName, HeaderValue};
use metamcp_core::{
    id::ServerName,
    json::RawJson,
    transport::{Delivered, RelaySide, TransportError, TransportErrorKind},
};
use serde_json::value::RawValue;

use super::news::News;
use crate::wire::{
    era::{Era, INTERNAL_ERROR},
    frame::{self, RpcError},
};

/// Longest error message of a server that is repeated, in bytes.
const MESSAGE_BYTES_MAX: usize = 1_024;

/// One request.
#[derive(Debug)]
pub(super) struct Ask<'a> {
    /// Its id, unique on the connection; also its progress token.
    pub(super) id: u64,
    /// How the server is spoken to.
    pub(super) era: Era,
    /// What is wanted.
    pub(super) method: &'a str,
    /// The whole frame.
    pub(super) frame: String,
    /// The tool, prompt, resource or task it is about, for the headers.
    pub(super) name: Option<&'a str>,
    /// Arguments that go along as headers.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// The client capabilities that questions of a legacy server may use.
    pub(super) capabilities: Option<&'a RawValue>,
    /// Whether the server is told when the answer is no longer wanted.
    pub(super) cancellable: bool,
    /// Whether it stays open for what the server has to tell; then everything on its stream is its own.
    pub(super) standing: bool,
}

/// How far a request has come.
#[derive(Debug)]
pub(super) enum Step {
    /// To its result.
    Done(RawJson),
    /// To questions of a legacy server, which waits for the answers.
    Asked(Asked),
}

/// A question of a server.
#[derive(Debug)]
pub(super) struct Question {
    /// The server's id of it.
    pub(super) id: Box<RawValue>,
    /// `elicitation/create`, `sampling/createMessage` or `roots/list`.
    pub(super) method: String,
    /// As they were written.
    pub(super) params: Option<Box<RawValue>>,
}

impl Question {
    /// The request of a server.
    pub(super) fn read(id: &RawValue, method: &str, params: Option<&RawValue>) -> Self {
        Self { id: id.to_owned(), method: method.to_owned(), params: params.map(ToOwned::to_owned) }
    }

    /// The frame that answers it.
    pub(super) fn answer(&self, result: &RawValue) -> String {
        frame::result(&self.id, result)
    }

    /// The frame that says why there is no answer.
    pub(super) fn refusal(&self, why: &str) -> String {
        frame::error(&self.id, INTERNAL_ERROR, why)
    }

    /// The frame that answers what is not put to the caller.
    pub(super) fn answer_of_ours(&self) -> String {
        frame::answer(&self.id, &self.method)
    }
}

/// What a legacy server asks in the middle of a request. Dropping it cancels the request.
#[derive(Debug)]
pub(super) struct Asked {
    /// At least one.
    pub(super) questions: Vec<Question>,
    /// The request that goes on with the answers.
    pub(super) rest: Box<dyn Rest>,
}

impl Asked {
    /// Ends the request: the server is told so, and why its questions have no answer.
    pub(super) fn give_up(self, why: &str) {
        self.rest.give_up(self.questions.iter().map(|question| question.refusal(why)).collect());
    }
}

/// What is left of a request that stopped at questions. Dropping it cancels the request.
#[async_trait]
pub(super) trait Rest: fmt::Debug + Send {
    /// Sends the answers and waits on. The client behind it may have changed its capabilities.
    async fn go_on(
        self: Box<Self>,
        answers: Vec<String>,
        capabilities: Option<&RawValue>,
        side: &dyn RelaySide,
    ) -> Result<Step, Failure>;

    /// Sends the answers without waiting, and cancels the request.
    fn give_up(self: Box<Self>, answers: Vec<String>);
}

/// Takes nothing.
#[derive(Debug)]
pub(super) struct Deaf;

impl RelaySide for Deaf {
    fn notify(&self, _method: &str, _params: Option<&RawValue>) {}
}

/// Why there is no result.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server answered with an error; over HTTP with this status.
    Rpc(RpcError, Option<u16>),
    /// The server answered with this HTTP status and nothing of JSON-RPC.
    Status(u16, TransportError),
    /// Anything else.
    Other(TransportError),
}

impl Failure {
    /// As the error of a call.
    pub(super) fn into_error(self, server: &ServerName) -> TransportError {
        match self {
            Self::Rpc(error, _) => rejected(server, &error),
            Self::Status(_, error) | Self::Other(error) => error,
        }
    }
}

impl From<TransportError> for Failure {
    fn from(error: TransportError) -> Self {
        Self::Other(error)
    }
}

/// A way to one server.
#[async_trait]
pub(super) trait Way: fmt::Debug + Send + Sync + 'static {
    /// Its kind, as `TransportInfo` has it.
    fn kind(&self) -> &'static str;

    /// Sends a request and waits for its result, or for a question on the way there. Dropping it tells the server, where the request may
    /// have left. Its frame is taken out of it.
    async fn ask(&self, ask: &mut Ask<'_>, side: &dyn RelaySide) -> Result<Step, Failure>;

    /// Sends a notification.
    async fn tell(&self, method: &'static str) -> Result<(), Failure>;

    /// Both sides have agreed on a revision.
    fn agreed(&self, revision: &str);

    /// Listens for what belongs to no request, where that takes more than having agreed. Called once.
    fn listen(&self) {}

    /// What the server tells without being asked.
    fn news(&self) -> &News;

    /// Whether the server was seen to ask without saying for which request.
    fn asks(&self) -> bool {
        false
    }

    /// How often a session was begun anew on it: what was set in one is forgotten in the next.
    fn renewals(&self) -> u64 {
        0
    }

    /// Whether nothing can be asked any more.
    fn is_closed(&self) -> bool;

    /// Ends it; what waits gets an error. Twice is once.
    async fn close(&self);
}

/// A request that lets no question through: its result.
pub(super) async fn plain(way: &dyn Way, ask: Ask<'_>) -> Result<RawJson, Failure> {
    match way.ask(&mut Ask { capabilities: None, ..ask }, &Deaf).await? {
        Step::Done(result) => Ok(result),
        Step::Asked(_) => unreachable!("without capabilities no question is let through"),
    }
}

/// An error that names the server.
pub(super) fn error(
    server: &ServerName,
    kind: TransportErrorKind,
    delivered: Delivered,
    what: impl fmt::Display,
) -> TransportError {
    TransportError::new(kind, delivered, format!("server `{server}`: {what}"))
}

/// A server's JSON-RPC error as the error of a call: it was delivered and refused.
pub(super) fn rejected(server: &ServerName, rpc: &RpcError) -> TransportError {
    let kind = TransportErrorKind::Rejected { code: rpc.code };
    let message = &rpc.message[..rpc.message.floor_char_boundary(MESSAGE_BYTES_MAX)];
    let message = if message.is_empty() { "no message" } else { message };
    error(server, kind, Delivered::Yes, format_args!("refused with {}: {message}", rpc.code))
}

/// What came is not what the protocol says: whether the call had an effect is not known.
pub(super) fn violation(server: &ServerName, what: impl fmt::Display) -> TransportError {
    error(server, TransportErrorKind::Protocol, Delivered::Maybe, format_args!("broke the protocol: {what}"))
}
