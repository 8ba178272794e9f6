//! The job as its owner sees it: where it stands, what serves it, and where the result is.

use metamcp_core::{
    id::{CapabilityId, JobId, Lane},
    json::RawJson,
    pointer::ResultPointer,
    queue::{InputRequest, Job, JobState, Progress},
    task::Labels,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    moment::Moment,
    route::{RouteDocument, current_tool},
    state::{ErrorDocument, TaskState},
};

/// A task that was accepted, as a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobDocument {
    /// The job's one name; ids sort by time of acceptance.
    #[schema(value_type = String, format = "uuid")]
    pub id: JobId,
    /// Where it stands.
    pub state: TaskState,
    /// What is needed, in words.
    pub need: String,
    /// The tool that is, or was, called: `server/name`.
    #[schema(value_type = Option<String>)]
    pub tool: Option<CapabilityId>,
    /// The lane of the queue it stands in.
    #[schema(value_type = String)]
    pub lane: Lane,
    /// 0 to 9.
    pub priority: u8,
    /// The caller's own words.
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub labels: Labels,
    /// The pointer to the result: read it at `/api/results/{pointer}`.
    #[schema(value_type = Option<String>, example = "res://local/01997f3e-5c1a-7d3e-9c55-0a1b2c3d4e5f/9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    pub result: Option<ResultPointer>,
    /// The tools that can serve it, best first, and those that were rejected.
    pub route: RouteDocument,
    /// Attempts that failed.
    pub attempts: u32,
    /// Attempts that ended without word, because their worker was lost.
    pub lost: u32,
    /// How far the call has come.
    pub progress: Option<ProgressDocument>,
    /// What the server asks, in state `input_required`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<InputRequestDocument>,
    /// Why it failed, or why the last attempt did.
    pub error: Option<ErrorDocument>,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Moment,
    /// When it last moved.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Moment,
    /// When it is, or was, due to be started.
    #[schema(value_type = String, format = DateTime)]
    pub due_at: Moment,
    /// When it was first started.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Moment>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Moment>,
    /// When it is given up, running or not.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub deadline_at: Option<Moment>,
    /// It runs, and its owner asked it to stop.
    pub cancel_requested: bool,
    /// The tasks it was to be served after, those its input refers to among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub after: Vec<JobId>,
    /// Those of `after` that it still waits for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub waits_on: Vec<JobId>,
    /// It could be served, and waits for a task with the same concurrency key to end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub blocked: bool,
    /// No call was made: the result is that of the identical call of this task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub cached_from: Option<JobId>,
    /// In the answer to a submission: it was accepted before, with the same idempotency key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub duplicate: bool,
}

impl From<&Job> for JobDocument {
    fn from(job: &Job) -> Self {
        let (head, body) = (&job.head, &job.body);
        Self {
            id: head.id,
            state: TaskState::of(head),
            need: body.task.need.text.clone(),
            tool: current_tool(job),
            lane: head.lane.clone(),
            priority: head.priority,
            labels: body.task.labels.clone(),
            result: head.result.clone(),
            route: (&body.route).into(),
            attempts: head.attempts,
            lost: head.lost,
            progress: head.progress.as_ref().map(Into::into),
            requests: match head.state {
                JobState::Input => head.requests.iter().map(Into::into).collect(),
                _ => Vec::new(),
            },
            error: head.error.as_ref().map(Into::into),
            created_at: head.created_at.into(),
            updated_at: head.updated_at.into(),
            due_at: head.due_at.into(),
            started_at: head.started_at.map(Into::into),
            finished_at: head.finished_at.map(Into::into),
            deadline_at: head.deadline_at.map(Into::into),
            cancel_requested: head.cancel_reason.is_some() && !head.state.is_final(),
            after: head.after.clone(),
            waits_on: head.waits_on.clone(),
            blocked: head.blocked,
            cached_from: head.cached_from,
            duplicate: false,
        }
    }
}

/// How far a call has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProgressDocument {
    /// Units done.
    pub value: f64,
    /// Units in all, when known.
    pub total: Option<f64>,
    /// In words.
    pub message: Option<String>,
}

impl From<&Progress> for ProgressDocument {
    fn from(progress: &Progress) -> Self {
        Self { value: progress.value, total: progress.total, message: progress.message.clone() }
    }
}

/// A question of a server to the task's owner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InputRequestDocument {
    /// Names the question; the answer uses it.
    pub key: String,
    /// The request as the server sent it: `{"method": …, "params": …}`.
    #[schema(value_type = Object)]
    pub request: RawJson,
}

impl From<&InputRequest> for InputRequestDocument {
    fn from(request: &InputRequest) -> Self {
        let raw = RawJson::parse(request.request.as_str());
        Self { key: request.key.clone(), request: raw.unwrap_or_default() }
    }
}

/// One page of tasks, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TaskPage {
    /// The tasks.
    pub tasks: Vec<JobDocument>,
    /// Ask on with `cursor` set to this; null: there are no more. A page may be short, even empty, and still go on.
    pub next_cursor: Option<String>,
}
