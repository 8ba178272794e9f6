//! What is submitted: a task with all that the checker must know of it to judge what became of it.

use metamcp_core::id::JobId;
use rand::{RngExt as _, rngs::StdRng};
use serde_json::{Value, json};

/// The label of a task that names its plan.
pub(crate) const LABEL: &str = "plan";
/// The name of the MCP server whose tools are called.
pub(crate) const SERVER: &str = "tools";
/// How long `slow` works, in milliseconds: longer than a lease, so that only heartbeats keep it.
const SLOW_MS: u64 = 3_800;
/// Kinds of tasks that share a concurrency key, and how many of each may be leased at a time: 1 for the first, 2 for the second, and so on.
const KINDS: u32 = 3;

/// A tool of the server under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tool {
    /// Says that repeating it does no harm.
    Mark,
    /// Says nothing: a call that may have happened must never be repeated.
    Note,
    /// Only reads.
    Look,
    /// Works longer than a lease.
    Slow,
    /// Takes a part of another task's result.
    Join,
    /// Kills the worker that calls it.
    Poison,
}

impl Tool {
    pub(crate) const ALL: [Self; 6] = [Self::Mark, Self::Note, Self::Look, Self::Slow, Self::Join, Self::Poison];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Mark => "mark",
            Self::Note => "note",
            Self::Look => "look",
            Self::Slow => "slow",
            Self::Join => "join",
            Self::Poison => "poison",
        }
    }

    /// Whether it declares that repeating it is safe.
    pub(crate) const fn is_repeatable(self) -> bool {
        !matches!(self, Self::Note)
    }
}

/// At most `max` tasks of this kind may be leased at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bound {
    pub(crate) kind: String,
    pub(crate) max: u32,
}

/// A task as it is to be submitted.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Unique: the argument of the call, the label of the task and, if it is `keyed`, its idempotency key.
    pub(crate) key: String,
    pub(crate) tool: Tool,
    pub(crate) pause_ms: u64,
    /// It may be submitted again when no answer came.
    pub(crate) keyed: bool,
    pub(crate) bound: Option<Bound>,
    /// The task whose result it takes, with that task's key.
    pub(crate) parent: Option<(JobId, String)>,
    pub(crate) priority: u8,
}

impl Plan {
    /// A plain task.
    pub(crate) fn new(key: impl Into<String>, tool: Tool) -> Self {
        Self { key: key.into(), tool, pause_ms: 0, keyed: true, bound: None, parent: None, priority: 0 }
    }

    /// Any task but one that kills or waits for another one.
    pub(crate) fn any(key: String, rng: &mut StdRng) -> Self {
        let mut plan = match rng.random_range(0..20) {
            0 => Self { pause_ms: SLOW_MS, ..Self::new(key, Tool::Slow) },
            1..9 => Self::new(key, Tool::Note),
            9..12 => Self::new(key, Tool::Look),
            _ => Self::new(key, Tool::Mark),
        };
        if plan.tool != Tool::Slow {
            plan.pause_ms = rng.random_range(0..150);
        }
        if plan.tool == Tool::Mark && rng.random_bool(0.5) {
            let max = rng.random_range(1..=KINDS);
            plan.bound = Some(Bound { kind: format!("kind{max}"), max });
        }
        plan.keyed = rng.random_bool(0.7);
        plan.priority = rng.random_range(0..10);
        plan
    }

    /// A task that takes the result of `parent`.
    pub(crate) fn child(key: String, parent: JobId, parent_key: String) -> Self {
        Self { parent: Some((parent, parent_key)), ..Self::new(key, Tool::Join) }
    }

    /// The task document; in a batch it has no key of its own.
    pub(crate) fn document(&self, in_batch: bool) -> Value {
        let mut input = json!({ "key": self.key, "pause_ms": self.pause_ms });
        if let Some((parent, _)) = &self.parent {
            input["of"] = json!({ "$ref": format!("task://{parent}#/structuredContent/key") });
        }
        let mut document = json!({
            "tool": format!("{SERVER}/{}", self.tool.name()),
            "input": input,
            "priority": self.priority,
            "labels": { LABEL: self.key },
        });
        if self.keyed && !in_batch {
            document["idempotency_key"] = json!(self.key);
        }
        if let Some(Bound { kind, max }) = &self.bound {
            document["concurrency"] = json!({ "key": kind, "max": max });
        }
        document
    }
}
