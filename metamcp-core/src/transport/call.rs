//! One call to one tool and the three answers it can get, mirroring those of MCP's `tools/call`.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    id::{JobId, ServerName},
    json::RawJson,
    queue::{Answer, Checkpoint, InputRequest, Progress},
};

/// What is known of a connected server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransportInfo {
    /// What configuration calls it.
    pub server: ServerName,
    /// The kind of way: `stdio`, `http`, `local`.
    pub kind: &'static str,
    /// The protocol revision that was agreed on.
    pub protocol: String,
    /// What it calls itself, with its version.
    pub implementation: String,
}

impl TransportInfo {
    /// Facts of a connected server.
    #[must_use]
    pub fn new(
        server: ServerName,
        kind: &'static str,
        protocol: impl Into<String>,
        implementation: impl Into<String>,
    ) -> Self {
        Self { server, kind, protocol: protocol.into(), implementation: implementation.into() }
    }
}

/// What a server offers.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Discovered {
    /// Raw tool definitions, in the server's order.
    pub tools: Vec<RawJson>,
    /// The server's own instructions, or its description.
    pub instructions: Option<String>,
    /// How long the tools may be taken for current; `None`: the server does not say.
    pub freshness: Option<Freshness>,
}

/// How long and for whom what a server said may be kept, by its own account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freshness {
    /// From when it was said, in milliseconds; 0: not at all.
    pub ttl_ms: u64,
    /// Whether it is the same for everybody.
    pub public: bool,
}

impl Freshness {
    /// What holds for both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { ttl_ms: self.ttl_ms.min(other.ttl_ms), public: self.public && other.public }
    }
}

impl Discovered {
    /// These tools.
    #[must_use]
    pub const fn new(tools: Vec<RawJson>, instructions: Option<String>) -> Self {
        Self { tools, instructions, freshness: None }
    }

    /// To be kept for so long.
    #[must_use]
    pub const fn with_freshness(mut self, freshness: Option<Freshness>) -> Self {
        self.freshness = freshness;
        self
    }
}

/// A call to a tool.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ToolCall {
    /// The tool's name on its server.
    pub tool: String,
    /// A JSON object.
    pub arguments: RawJson,
    /// The job it is made for; goes along in `_meta`, so that a server can know a repeated call.
    pub job: Option<JobId>,
    /// Which lease of the job makes it; goes along beside the job.
    pub epoch: u64,
}

impl ToolCall {
    /// A call that no job stands behind.
    #[must_use]
    pub fn new(tool: impl Into<String>, arguments: RawJson) -> Self {
        Self { tool: tool.into(), arguments, job: None, epoch: 0 }
    }

    /// On behalf of this lease of this job.
    #[must_use]
    pub const fn for_job(mut self, job: JobId, epoch: u64) -> Self {
        self.job = Some(job);
        self.epoch = epoch;
        self
    }
}

/// Takes progress as it comes; must not block.
pub type ProgressSink<'a> = dyn Fn(Progress) + Send + Sync + 'a;

/// What goes along with a call without being part of it.
pub struct CallContext<'a> {
    /// Where progress goes.
    pub progress: &'a ProgressSink<'a>,
}

impl CallContext<'_> {
    /// A context that drops progress.
    #[must_use]
    pub fn quiet() -> CallContext<'static> {
        CallContext { progress: &|_| () }
    }
}

impl fmt::Debug for CallContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallContext").finish_non_exhaustive()
    }
}

/// The three answers to a call.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ToolReply {
    /// The tool has answered.
    Done(ToolOutput),
    /// The server works on; ask again with the checkpoint after the delay.
    Working {
        /// How to ask again.
        checkpoint: Checkpoint,
        /// When to ask again.
        poll_after: Duration,
        /// What it says of its progress.
        progress: Option<Progress>,
    },
    /// The server needs answers first.
    NeedsInput {
        /// How to go on.
        checkpoint: Checkpoint,
        /// What it asks.
        requests: Vec<InputRequest>,
    },
}

/// What a tool answered: the raw `result` object of `tools/call`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ToolOutput {
    /// The result object as it came.
    pub body: RawJson,
    /// Whether the tool says that it failed; the job is completed all the same.
    pub is_error: bool,
}

impl ToolOutput {
    /// A result object.
    #[must_use]
    pub const fn new(body: RawJson, is_error: bool) -> Self {
        Self { body, is_error }
    }
}

/// How to go on with an unfinished call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resume {
    /// Ask how it stands.
    Poll,
    /// Bring the answers it waits for.
    Answer(Answer),
}
