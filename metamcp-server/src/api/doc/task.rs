//! What callers send: a task, a need to be routed, a reason to cancel, answers to what a server asked.
//!
//! Unknown fields are refused; bounds are checked by the engine, once for every face.

use std::time::Duration;

use metamcp_core::{
    id::{CapabilityId, Lane},
    json::RawJson,
    task::{Labels, Need, Resources, Task},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::moment::Moment;

/// A need and the terms it is to be served on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TaskDocument {
    /// What is needed, in words. May be left out only when `tool` is given.
    #[schema(example = "list the functions of this file")]
    pub need: String,
    /// The tool's arguments. Kept as they are written: key order and number spelling reach the tool unchanged.
    #[schema(value_type = Object, example = json!({ "path": "src/lib.rs" }))]
    pub input: RawJson,
    /// Exactly this tool, `server/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "code/outline")]
    pub tool: Option<CapabilityId>,
    /// Exactly this lane of the queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "light")]
    pub lane: Option<Lane>,
    /// What the server that serves it must have.
    #[serde(skip_serializing_if = "ResourcesDocument::asks_nothing")]
    pub resources: ResourcesDocument,
    /// Head start of 60 seconds a step, 0 to 9.
    #[schema(maximum = 9)]
    pub priority: u8,
    /// Not to be started before this instant; a past one means now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub not_before: Option<Moment>,
    /// Give up this many milliseconds after acceptance, running or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub deadline_ms: Option<u64>,
    /// A second submission with the same key and the same need answers with the first one's job. The header `Idempotency-Key` says the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// Wait up to this many milliseconds for the end before answering.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
    /// The caller's own words, kept with the job and usable as filter.
    #[serde(skip_serializing_if = "Labels::is_empty")]
    #[schema(value_type = std::collections::BTreeMap<String, String>)]
    pub labels: Labels,
}

impl TaskDocument {
    /// The task as the engine takes it. `not_before` becomes a delay counted from `now`; `wait_ms` is the caller's alone.
    #[must_use]
    pub fn into_task(self, now: Moment) -> Task {
        let mut task = Task::new(self.need);
        task.need.input = self.input;
        task.need.tool = self.tool;
        task.need.lane = self.lane;
        task.need.resources = self.resources.into();
        task.priority = self.priority;
        task.delay = self.not_before.map(|at| at.0.since(now.0)).unwrap_or_default();
        task.deadline = self.deadline_ms.map(Duration::from_millis);
        task.idempotency_key = self.idempotency_key;
        task.labels = self.labels;
        task
    }
}

/// A need to be routed without being served.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NeedDocument {
    /// What is needed, in words. May be left out only when `tool` is given.
    #[schema(example = "what time is it in Tokyo")]
    pub need: String,
    /// The tool's arguments.
    #[schema(value_type = Object)]
    pub input: RawJson,
    /// Exactly this tool, `server/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub tool: Option<CapabilityId>,
    /// Exactly this lane of the queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub lane: Option<Lane>,
    /// What the server that serves it must have.
    #[serde(skip_serializing_if = "ResourcesDocument::asks_nothing")]
    pub resources: ResourcesDocument,
}

impl From<NeedDocument> for Need {
    fn from(document: NeedDocument) -> Self {
        let mut need = Self::new(document.need);
        need.input = document.input;
        need.tool = document.tool;
        need.lane = document.lane;
        need.resources = document.resources.into();
        need
    }
}

/// What the server that serves a need must have; all of it must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ResourcesDocument {
    /// Needs a GPU.
    pub gpu: bool,
    /// Needs at least this much memory, in MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
    /// Must run on this machine.
    pub local: bool,
}

impl ResourcesDocument {
    fn asks_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl From<ResourcesDocument> for Resources {
    fn from(document: ResourcesDocument) -> Self {
        Self { gpu: document.gpu, memory_mib: document.memory_mib, local: document.local }
    }
}

/// Why a task is cancelled. The body may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CancelDocument {
    /// In words, for those who read the task later.
    pub reason: String,
}

/// Answers to what a server asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerDocument {
    /// An object from each request's key to its response; every key must be answered.
    #[schema(value_type = Object, example = json!({ "confirm": { "action": "accept", "content": { "ok": true } } }))]
    pub responses: RawJson,
}
