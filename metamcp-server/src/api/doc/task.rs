//! What callers send: a task, a need to be routed, a reason to cancel, answers to what a server asked.
//!
//! Unknown fields are refused; bounds are checked by the engine, once for every face.

use std::time::Duration;

use metamcp_core::{
    id::{CapabilityId, JobId, Lane},
    json::RawJson,
    task::{ConcurrencyKey, Labels, Need, RateKey, Resources, Task},
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
    /// The tool's arguments. Kept as they are written: key order and number spelling reach the tool unchanged. `{"$ref": "task://ID#/content/0/text"}`
    /// stands for a part of another task's result and is filled in once that task has completed.
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
    /// Not before these tasks have completed; those that `input` refers to need not be named. When one fails, so does this one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>, max_items = 32)]
    pub after: Vec<JobId>,
    /// At most so many tasks with the same key run at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<ConcurrencyDocument>,
    /// Tasks with the same key start no more often than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateDocument>,
    /// The result of an identical call of the caller's that is no older than this many milliseconds will do, if the tool only reads or may be
    /// repeated; none older than a day does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_ms: Option<u64>,
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
        task.after = self.after;
        task.concurrency = self.concurrency.map(Into::into);
        task.rate = self.rate.map(Into::into);
        task.cache = self.cache_ms.map(Duration::from_millis);
        task
    }
}

/// As a caller would send it; a delay has no instant of its own and is left out.
impl From<&Task> for TaskDocument {
    fn from(task: &Task) -> Self {
        Self {
            need: task.need.text.clone(),
            input: task.need.input.clone(),
            tool: task.need.tool.clone(),
            lane: task.need.lane.clone(),
            resources: (&task.need.resources).into(),
            priority: task.priority,
            not_before: None,
            deadline_ms: task.deadline.map(millis),
            idempotency_key: task.idempotency_key.clone(),
            wait_ms: None,
            labels: task.labels.clone(),
            after: task.after.clone(),
            concurrency: task.concurrency.as_ref().map(Into::into),
            rate: task.rate.as_ref().map(Into::into),
            cache_ms: task.cache.map(millis),
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// How many tasks of a kind may run at a time, over all lanes and workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConcurrencyDocument {
    /// Names the kind among the caller's tenant's; 1 to 128 bytes.
    pub key: String,
    /// How many.
    #[schema(minimum = 1)]
    pub max: u32,
}

impl From<ConcurrencyDocument> for ConcurrencyKey {
    fn from(document: ConcurrencyDocument) -> Self {
        Self { key: document.key, max: document.max }
    }
}

impl From<&ConcurrencyKey> for ConcurrencyDocument {
    fn from(limit: &ConcurrencyKey) -> Self {
        Self { key: limit.key.clone(), max: limit.max }
    }
}

/// How often tasks of a kind may start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RateDocument {
    /// Names the kind among the caller's tenant's; 1 to 128 bytes.
    pub key: String,
    /// One in so many milliseconds.
    #[schema(minimum = 1)]
    pub every_ms: u64,
    /// How many may go at once after a quiet time; 1 unless given.
    #[serde(default = "one")]
    #[schema(minimum = 1, default = 1)]
    pub burst: u32,
}

const fn one() -> u32 {
    1
}

impl From<RateDocument> for RateKey {
    fn from(document: RateDocument) -> Self {
        Self { key: document.key, every: Duration::from_millis(document.every_ms), burst: document.burst }
    }
}

impl From<&RateKey> for RateDocument {
    fn from(rate: &RateKey) -> Self {
        Self { key: rate.key.clone(), every_ms: millis(rate.every), burst: rate.burst }
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
    /// Must run on this machine or at a place of the operator's own, such as a Space of theirs.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub owned: bool,
}

impl ResourcesDocument {
    fn asks_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl From<ResourcesDocument> for Resources {
    fn from(document: ResourcesDocument) -> Self {
        let ResourcesDocument { gpu, memory_mib, local, owned } = document;
        Self { gpu, memory_mib, local, owned }
    }
}

impl From<&Resources> for ResourcesDocument {
    fn from(resources: &Resources) -> Self {
        let Resources { gpu, memory_mib, local, owned } = *resources;
        Self { gpu, memory_mib, local, owned }
    }
}

/// Why a task or a batch is cancelled. The body may be left out.
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
