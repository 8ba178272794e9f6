//! The answer of a matcher: candidates best first, each with its reasons, and the rejected ones with theirs.
//!
//! A route is stored in the job it was made for: failover goes on to the next candidate without matching again.

use serde::{Deserialize, Serialize};

use crate::{
    auth::Principal,
    id::{CapabilityId, JobId, Lane},
    pointer::Digest,
    task::Need,
    time::Timestamp,
};

/// Most candidates a route holds.
pub const ROUTE_CANDIDATES_MAX: usize = 10;
/// Most rejections a route tells.
pub const REJECTED_MAX: usize = 20;

/// Why a candidate stands where it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "part", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// The task named this tool.
    Named,
    /// A word of the need stands in a field of the tool.
    Term {
        /// `name`, `title`, `description`, `schema`, `labels` or `server`.
        field: String,
        /// The word, as the need has it.
        term: String,
        /// What it adds to the score.
        score: f32,
    },
    /// What the tool does is near in meaning to the need, whatever the words.
    Similarity {
        /// What it adds to the score.
        score: f32,
    },
    /// A reason of another matcher, in words.
    Other {
        /// The reason.
        text: String,
        /// What it adds to the score.
        score: f32,
    },
}

/// A capability that can serve the need.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// `server/tool`.
    pub capability: CapabilityId,
    /// Higher is better; comparable within one route only.
    pub score: f32,
    /// Why, the weightiest first.
    pub reasons: Vec<Reason>,
    /// The lane its server's jobs go to; `None`: the default lane.
    pub lane: Option<Lane>,
    /// Digest of the definition that was matched.
    pub definition: Digest,
}

/// A capability that cannot serve the need, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// `server/tool`.
    pub capability: CapabilityId,
    /// What does not fit, in words.
    pub reason: String,
}

/// Candidates best first, and the rejected ones that would have ranked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Best first; empty when nothing fits.
    pub candidates: Vec<Candidate>,
    /// Best first among the rejected; the rest is not told.
    pub rejected: Vec<Rejection>,
}

/// What a call came to, as a matcher learns from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Completed without a tool error: it served the need.
    Served,
    /// The tool answered with an error: it may not be what the need was about.
    Refused,
    /// The server could not be called or did not answer: tells of the server, not of the need.
    Unreached,
}

/// How a call of a job went, for a matcher that learns.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The job.
    pub job: JobId,
    /// Whose job it is: what is learned from it stays with its tenant.
    pub owner: Principal,
    /// The need that was served.
    pub need: Need,
    /// The capability that was called.
    pub capability: CapabilityId,
    /// What the call came to.
    pub verdict: Verdict,
    /// When it ended.
    pub at: Timestamp,
    /// How long the call took.
    pub took: std::time::Duration,
}
