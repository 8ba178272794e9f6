//! How a task stands, in the words that every document shares: its state, and why it failed.

use metamcp_core::queue::{JobError, JobErrorCode, JobHead, JobState};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Waits for other tasks, for its time or for a worker.
    Queued,
    /// A worker serves it.
    Working,
    /// The server asks something; see `requests`.
    InputRequired,
    /// Ended with a result.
    Completed,
    /// Ended without one; see `error`. May be retried.
    Failed,
    /// Ended by its owner's wish.
    Cancelled,
}

impl TaskState {
    /// Every state, in the order a task goes through them.
    pub const ALL: [Self; 6] =
        [Self::Queued, Self::Working, Self::InputRequired, Self::Completed, Self::Failed, Self::Cancelled];

    /// The word documents use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Working => "working",
            Self::InputRequired => "input_required",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the task has ended.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// What is told of a job. One whose call has begun is working, also while nobody holds it between two polls of a remote task.
    #[must_use]
    pub fn of(head: &JobHead) -> Self {
        match head.state.into() {
            Self::Queued if head.checkpoint.is_some() => Self::Working,
            state => state,
        }
    }

    /// The queue's states in which a job may be told as this one; [`TaskState::of`] says which it is.
    #[must_use]
    pub const fn of_queue(self) -> &'static [JobState] {
        match self {
            Self::Queued => &[JobState::Waiting, JobState::Delayed, JobState::Ready],
            Self::Working => &[JobState::Leased, JobState::Delayed, JobState::Ready],
            Self::InputRequired => &[JobState::Input],
            Self::Completed => &[JobState::Done],
            Self::Failed => &[JobState::Dead],
            Self::Cancelled => &[JobState::Cancelled],
        }
    }
}

impl From<JobState> for TaskState {
    fn from(state: JobState) -> Self {
        match state {
            JobState::Waiting | JobState::Delayed | JobState::Ready => Self::Queued,
            JobState::Input => Self::InputRequired,
            JobState::Done => Self::Completed,
            JobState::Dead => Self::Failed,
            JobState::Cancelled => Self::Cancelled,
            // A state this server does not know yet is one that has not ended.
            _ => Self::Working,
        }
    }
}

/// Why a task, or one attempt of it, failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorDocument {
    /// The kind.
    #[schema(value_type = String, example = "server_unavailable")]
    pub code: JobErrorCode,
    /// In words.
    pub message: String,
}

impl From<&JobError> for ErrorDocument {
    fn from(error: &JobError) -> Self {
        Self { code: error.code, message: error.message.clone() }
    }
}
