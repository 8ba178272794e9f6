//! Tasks that are submitted in one call and followed as one.

use std::collections::BTreeMap;

use metamcp_core::{
    engine::{Batch, BatchId, BatchState, BatchTask},
    id::JobId,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{moment::Moment, state::TaskState, task::TaskDocument};

/// Tasks to be accepted in one call, each by itself: one that is refused holds no other one back.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewBatchDocument {
    /// The tasks. None may say `wait_ms`; with an `idempotency_key` of the batch, their own ones are not used.
    #[schema(min_items = 1, max_items = 1000)]
    pub tasks: Vec<TaskDocument>,
    /// A second call with the same key and tasks answers with the first one's batch. The header `Idempotency-Key` says the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

/// A batch: what became of each of its tasks, and how they stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchDocument {
    /// The batch's one name.
    #[schema(value_type = String)]
    pub id: BatchId,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Moment,
    /// Its tasks, in the order they were given.
    pub tasks: Vec<BatchTaskDocument>,
    /// How they stand. Missing in the answer to a submission only, when it was accepted and could not be read just then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<BatchStandingDocument>,
}

impl BatchDocument {
    /// The document of a batch that stands so.
    #[must_use]
    pub fn of(batch: &Batch, state: Option<&BatchState>) -> Self {
        Self {
            id: batch.id.clone(),
            created_at: batch.created_at.into(),
            tasks: batch.tasks.iter().map(Into::into).collect(),
            standing: state.map(Into::into),
        }
    }
}

/// What became of one task of a batch: it is a task now, or was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchTaskDocument {
    /// The task it is; read it at `/api/tasks/{id}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub job: Option<JobId>,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

impl From<&BatchTask> for BatchTaskDocument {
    fn from(task: &BatchTask) -> Self {
        match task {
            BatchTask::Accepted(id) => Self { job: Some(*id), refused: None },
            BatchTask::Refused(why) => Self { job: None, refused: Some(why.clone()) },
        }
    }
}

/// How the tasks of a batch stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BatchStandingDocument {
    /// How many are in which state; a state that none is in is left out. A task of a server that is asked again from time to time counts as
    /// queued in between.
    #[schema(value_type = BTreeMap<String, u64>)]
    pub states: BTreeMap<TaskState, u64>,
    /// How many were refused.
    pub refused: u64,
    /// How many have ended and are no longer kept.
    pub removed: u64,
    /// Nothing of it is still to come.
    pub ended: bool,
}

impl From<&BatchState> for BatchStandingDocument {
    fn from(state: &BatchState) -> Self {
        let mut states = BTreeMap::new();
        for (state, count) in &state.states {
            *states.entry(TaskState::from(*state)).or_default() += *count as u64;
        }
        Self { states, refused: state.refused as u64, removed: state.removed as u64, ended: state.ended }
    }
}
