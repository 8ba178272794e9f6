//! What is wanted: a [`Task`] is a need in words with its input, as a caller states it. It does not say where or how it runs.

mod limit;
mod limits;
mod need;
pub mod reference;

use std::{collections::BTreeMap, time::Duration};

pub use self::limit::{ConcurrencyKey, LIMIT_KEY_BYTES_MAX, RateKey};
pub use limits::{AFTER_MAX, InvalidTask, Limits};
pub use need::{Need, Resources};
use serde::{Deserialize, Serialize};

use crate::id::JobId;

/// A need with the terms it is to be served on.
///
/// ```
/// use metamcp_core::task::Task;
///
/// let task = Task::new("list the functions of this file").with_input(serde_json::json!({ "path": "src/lib.rs" }));
/// assert_eq!(task.need.text, "list the functions of this file");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Task {
    /// What is needed, and with which input.
    pub need: Need,
    /// Head start of 60 seconds a step, 0 to 9; 0 is usual.
    pub priority: u8,
    /// Start no sooner than this after acceptance.
    pub delay: Duration,
    /// Give up this long after acceptance, running or not; `None`: the engine's default.
    pub deadline: Option<Duration>,
    /// A second submission with the same key and the same need answers with the first one's job.
    pub idempotency_key: Option<String>,
    /// Free words of the caller, kept with the job and usable as filter.
    pub labels: Labels,
    /// Not before these tasks of the caller are done; those that `input` refers to need not be named. When one fails, so does this one.
    pub after: Vec<JobId>,
    /// At most so many of the tenant's tasks with the same key run at a time.
    pub concurrency: Option<ConcurrencyKey>,
    /// The tenant's tasks with the same key start no more often than this.
    pub rate: Option<RateKey>,
    /// The result of an identical call, made for the caller no longer ago than this, will do, if the tool only reads or may be repeated.
    pub cache: Option<Duration>,
}

/// The caller's own key-value words.
pub type Labels = BTreeMap<String, String>;

impl Task {
    /// A task that states `need` in words.
    pub fn new(need: impl Into<String>) -> Self {
        Self { need: Need::new(need), ..Self::default() }
    }

    /// With this input, a JSON object.
    #[must_use]
    pub fn with_input(mut self, input: impl Into<crate::json::RawJson>) -> Self {
        self.need.input = input.into();
        self
    }

    /// To be served by exactly this tool, `server/name`.
    #[must_use]
    pub fn with_tool(mut self, tool: crate::id::CapabilityId) -> Self {
        self.need.tool = Some(tool);
        self
    }

    /// With this idempotency key.
    #[must_use]
    pub fn with_idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// With this priority, 0 to 9.
    #[must_use]
    pub const fn with_priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// Not before this delay has passed.
    #[must_use]
    pub const fn with_delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Not before that task is done.
    #[must_use]
    pub fn with_after(mut self, task: JobId) -> Self {
        self.after.push(task);
        self
    }

    /// At most `max` of the tenant's tasks with this key at a time.
    #[must_use]
    pub fn with_concurrency(mut self, key: impl Into<String>, max: u32) -> Self {
        self.concurrency = Some(ConcurrencyKey { key: key.into(), max });
        self
    }

    /// No more of the tenant's tasks with this key than one in `every`, after a burst of `burst`.
    #[must_use]
    pub fn with_rate(mut self, key: impl Into<String>, every: Duration, burst: u32) -> Self {
        self.rate = Some(RateKey { key: key.into(), every, burst });
        self
    }

    /// Content with the result of an identical call that is no older than `age_max`.
    #[must_use]
    pub const fn with_cache(mut self, age_max: Duration) -> Self {
        self.cache = Some(age_max);
        self
    }

    /// With this deadline, counted from acceptance.
    #[must_use]
    pub const fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }
}

/// The parts of a task that stay with its job for as long as it lives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskRecord {
    /// What is needed.
    pub need: Need,
    /// The caller's labels.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// How old a result of an identical call may be that serves this task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Duration>,
}
