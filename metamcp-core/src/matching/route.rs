//! The answer of a matcher: candidates best first, each with its reasons, and the rejected ones with theirs.
//!
//! A route is stored in the job it was made for: failover goes on to the next candidate without matching again.

use std::{borrow::Cow, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Capability, Locality};
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
        field: Cow<'static, str>,
        /// The word, as the need has it.
        term: Arc<str>,
        /// What it adds to the score.
        score: f32,
    },
    /// What the tool does is near in meaning to the need, whatever the words.
    Similarity {
        /// What it adds to the score.
        score: f32,
    },
    /// What became of similar needs before.
    History {
        /// How many of them it served.
        served: u32,
        /// How many of them it answered with an error.
        failed: u32,
        /// The most similar of them, cut short.
        similar: String,
        /// What it adds to the score; negative when the past speaks against it.
        score: f32,
    },
    /// How its server stood among those that can do the same: the one that costs least of two drawn ones is called first.
    Health {
        /// It could be reached the last time it was tried.
        up: bool,
        /// Calls under way.
        in_flight: u32,
        /// How long a call takes, in milliseconds; recent calls count most.
        latency_ms: f32,
        /// Which part of its calls failed, 0 to 1; recent calls count most.
        failure_rate: f32,
        /// All of it, with what its place and price add, in milliseconds of waiting; lower is better.
        cost_ms: f32,
        /// It was drawn, and the other one drawn costs no less.
        drawn: bool,
    },
    /// What the place where it runs and its price add to its cost among those that can do the same.
    Resource {
        /// Where it runs.
        locality: Locality,
        /// What a call costs, in the operator's unit.
        price: f64,
        /// Of both, in milliseconds of waiting.
        cost_ms: f32,
    },
    /// A reason of another matcher, in words.
    Other {
        /// The reason.
        text: String,
        /// What it adds to the score.
        score: f32,
    },
}

impl Reason {
    /// Which part of the choice it tells of, in one word.
    #[must_use]
    pub const fn part(&self) -> &'static str {
        match self {
            Self::Named => "named",
            Self::Term { .. } => "term",
            Self::Similarity { .. } => "similarity",
            Self::History { .. } => "history",
            Self::Health { .. } => "health",
            Self::Resource { .. } => "resource",
            Self::Other { .. } => "other",
        }
    }

    /// What it adds to the score; `None` when it adds nothing there.
    #[must_use]
    pub const fn score(&self) -> Option<f32> {
        match self {
            Self::Term { score, .. }
            | Self::Similarity { score }
            | Self::History { score, .. }
            | Self::Other { score, .. } => Some(*score),
            Self::Named | Self::Health { .. } | Self::Resource { .. } => None,
        }
    }
}

/// In words, for people and models.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named => f.write_str("the task names this tool"),
            Self::Term { field, term, .. } => write!(f, "`{term}` stands in its {field}"),
            Self::Similarity { .. } => f.write_str("near in meaning to the need"),
            Self::History { served, failed, similar, .. } => {
                write!(f, "served {served} similar needs and failed {failed}, such as \"{similar}\"")
            }
            Self::Health { up, in_flight, latency_ms, failure_rate, cost_ms, drawn } => {
                let up = if *up { "up" } else { "down" };
                let failed = f64::from(*failure_rate) * 100.0;
                write!(
                    f,
                    "server {up}, {in_flight} calls under way, {latency_ms:.0} ms a call, {failed:.0} % failing"
                )?;
                write!(f, ": costs {cost_ms:.0} ms")?;
                if *drawn { f.write_str(", the better of two drawn") } else { Ok(()) }
            }
            Self::Resource { locality, price, cost_ms } => {
                write!(f, "runs {}, price {price}: costs {cost_ms:.0} ms of that", locality.as_str())
            }
            Self::Other { text, .. } => f.write_str(text),
        }
    }
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<Lane>,
    /// Digest of the definition that was matched.
    pub definition: Digest,
    /// What configuration declares it to be; see [`Capability::group`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

impl Candidate {
    /// A capability as a candidate.
    #[must_use]
    pub fn new(capability: &Capability, score: f32, reasons: Vec<Reason>) -> Self {
        Self {
            capability: capability.id.clone(),
            score,
            reasons,
            lane: capability.terms.lane.clone(),
            definition: capability.digest,
            group: capability.group(),
        }
    }

    /// Whether the other one does the same: it has the very same definition, or configuration declares so.
    #[must_use]
    pub fn is_equivalent_to(&self, other: &Self) -> bool {
        self.definition == other.definition || self.group.is_some() && self.group == other.group
    }
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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
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
