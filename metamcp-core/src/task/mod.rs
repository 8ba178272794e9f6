//! What is wanted: a [`Task`] is a need in words with its input, as a caller states it. It does not say where or how it runs.

mod limits;
mod need;

use std::{collections::BTreeMap, time::Duration};

pub use limits::{InvalidTask, Limits};
pub use need::{Need, Resources};
use serde::{Deserialize, Serialize};

/// A need with the terms it is to be served on.
///
/// ```
/// use metamcp_core::task::Task;
///
/// let task = Task::new("list the functions of this file").with_input(serde_json::json!({ "path": "src/lib.rs" }));
/// assert_eq!(task.need.text, "list the functions of this file");
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
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
    #[serde(default)]
    pub labels: Labels,
}
