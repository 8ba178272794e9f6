//! The ranked route with its reasons and rejections, alone (a dry run), inside a job, and as the explanation of a job.

use metamcp_core::{
    id::{CapabilityId, JobId, Lane},
    matching::{Candidate, Reason, Rejection, Route},
    queue::Job,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::state::{ErrorDocument, TaskState};

/// Which tools can serve a need, best first, and which cannot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RouteDocument {
    /// Best first; empty when nothing fits.
    pub candidates: Vec<CandidateDocument>,
    /// Best first among the rejected.
    pub rejected: Vec<RejectionDocument>,
}

impl From<&Route> for RouteDocument {
    fn from(route: &Route) -> Self {
        Self {
            candidates: route.candidates.iter().map(Into::into).collect(),
            rejected: route.rejected.iter().map(Into::into).collect(),
        }
    }
}

/// A tool that can serve the need.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CandidateDocument {
    /// `server/name`.
    #[schema(value_type = String)]
    pub tool: CapabilityId,
    /// Higher is better; comparable within one route only.
    pub score: f32,
    /// Why, the weightiest first.
    pub reasons: Vec<ReasonDocument>,
    /// The lane its server's tasks go to; null: the default lane.
    #[schema(value_type = Option<String>)]
    pub lane: Option<Lane>,
    /// What configuration declares it to be; tools of one group, like those of one definition, do the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

impl From<&Candidate> for CandidateDocument {
    fn from(candidate: &Candidate) -> Self {
        Self {
            tool: candidate.capability.clone(),
            score: candidate.score,
            reasons: candidate.reasons.iter().map(Into::into).collect(),
            lane: candidate.lane.clone(),
            group: candidate.group.clone(),
        }
    }
}

/// Why a candidate stands where it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReasonDocument {
    /// `named`: the task named this tool; `term`: a word of the need stands in a field of the tool; `history`: what became of similar needs;
    /// `health` and `resource`: how its server stands and where it runs, when several can do the same; others: see the text.
    pub kind: String,
    /// In words.
    pub text: String,
    /// The field of the tool: `name`, `title`, `description`, `schema`, `labels` or `server`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The word of the need.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<String>,
    /// What it adds to the score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f32>,
    /// What a call costs there, in milliseconds of waiting: of those that can do the same the lowest is called first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_ms: Option<f32>,
}

impl From<&Reason> for ReasonDocument {
    fn from(reason: &Reason) -> Self {
        let (field, term) = match reason {
            Reason::Term { field, term, .. } => (Some(field.to_string()), Some(term.to_string())),
            _ => (None, None),
        };
        let cost_ms = match reason {
            Reason::Health { cost_ms, .. } | Reason::Resource { cost_ms, .. } => Some(*cost_ms),
            _ => None,
        };
        let (kind, text) = (reason.part().to_owned(), reason.to_string());
        Self { kind, text, field, term, score: reason.score(), cost_ms }
    }
}

/// A tool that cannot serve the need, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RejectionDocument {
    /// `server/name`.
    #[schema(value_type = String)]
    pub tool: CapabilityId,
    /// What does not fit, in words.
    pub reason: String,
}

impl From<&Rejection> for RejectionDocument {
    fn from(rejection: &Rejection) -> Self {
        Self { tool: rejection.capability.clone(), reason: rejection.reason.clone() }
    }
}

/// Why a task went where it went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExplainDocument {
    /// The task.
    #[schema(value_type = String, format = "uuid")]
    pub id: JobId,
    /// Where it stands.
    pub state: TaskState,
    /// What is needed, in words.
    pub need: String,
    /// The tool that is, or was, called.
    #[schema(value_type = Option<String>)]
    pub tool: Option<CapabilityId>,
    /// Its place in `candidates`, from 0: more than 0 after a failover.
    pub candidate: u16,
    /// The ranking with its reasons, best first.
    pub candidates: Vec<CandidateDocument>,
    /// The tools that were rejected, with the reason.
    pub rejected: Vec<RejectionDocument>,
    /// Attempts that failed.
    pub attempts: u32,
    /// Failed attempts after which it is given up.
    pub attempts_max: u32,
    /// Attempts that ended without word, because their worker was lost.
    pub lost: u32,
    /// Lost attempts after which it is given up.
    pub lost_max: u32,
    /// Why it failed, or why the last attempt did.
    pub error: Option<ErrorDocument>,
}

impl From<&Job> for ExplainDocument {
    fn from(job: &Job) -> Self {
        let RouteDocument { candidates, rejected } = (&job.body.route).into();
        Self {
            id: job.head.id,
            state: TaskState::of(&job.head),
            need: job.body.task.need.text.clone(),
            tool: current_tool(job),
            candidate: job.head.candidate,
            candidates,
            rejected,
            attempts: job.head.attempts,
            attempts_max: job.head.attempts_max,
            lost: job.head.lost,
            lost_max: job.head.lost_max,
            error: job.head.error.as_ref().map(Into::into),
        }
    }
}

/// The tool that is, or was, called for a job.
pub(super) fn current_tool(job: &Job) -> Option<CapabilityId> {
    job.body.route.candidates.get(usize::from(job.head.candidate)).map(|candidate| candidate.capability.clone())
}
