//! Plans of several steps: asked for, proposed, given back and run.

use std::collections::BTreeMap;

use metamcp_core::{
    engine::{MissingInput, Plan, PlanStep},
    id::{CapabilityId, Lane},
    json::RawJson,
    pointer::Digest,
    task::Need,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{batch::BatchDocument, task::ResourcesDocument};

/// Whether a plan is run as soon as it is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunDocument {
    /// It is only proposed; whoever accepts it gives it back to `/api/plans/run`.
    #[default]
    Ask,
    /// It is run if nothing is missing, and only proposed otherwise.
    Auto,
}

/// A need that may take several steps.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewPlanDocument {
    /// What is needed, in words: "read this page and then translate it".
    #[schema(example = "read this page and then translate it")]
    pub need: String,
    /// What the steps may take as arguments, by name. Nothing is read out of the words.
    #[schema(value_type = Object)]
    pub input: RawJson,
    /// Exactly this lane of the queue, for every step.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub lane: Option<Lane>,
    /// What the servers must have.
    pub resources: ResourcesDocument,
    /// Whether it is run as soon as it is made.
    pub run: RunDocument,
    /// With `auto`: a second call with the same key and plan answers with the first one's batch. The header `Idempotency-Key` says the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

impl NewPlanDocument {
    /// The need as the engine takes it.
    #[must_use]
    pub fn into_need(self) -> Need {
        let mut need = Need::new(self.need);
        need.input = self.input;
        need.lane = self.lane;
        need.resources = self.resources.into();
        need
    }
}

/// What became of a need that may take several steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PlanAnswer {
    /// The plan.
    pub plan: PlanDocument,
    /// Its tasks, if it was run.
    pub batch: Option<BatchDocument>,
}

/// A plan that its caller accepts, as it was proposed or changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RunPlanDocument {
    /// The plan. Its steps count, and they are checked as if they were new; the rest is for people.
    pub plan: PlanDocument,
    /// A second call with the same key and plan answers with the first one's batch. The header `Idempotency-Key` says the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

/// A chain of calls, each of which may take from the results of those before it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PlanDocument {
    /// The need it was made for.
    pub need: String,
    /// The steps in their order; none: nothing fits.
    #[schema(max_items = 4)]
    pub steps: Vec<PlanStepDocument>,
    /// How well the steps' tools serve their parts of the need, 0 to 1.
    pub score: f32,
    /// What a step asks for and nobody gives; it runs once that stands in the step's `input`.
    pub missing: Vec<MissingDocument>,
    /// Members of the input that no step takes.
    pub unused: Vec<String>,
}

/// One call of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanStepDocument {
    /// The words of the need that it serves.
    #[serde(default)]
    pub need: String,
    /// The tool, `server/name`.
    #[schema(value_type = String)]
    pub tool: CapabilityId,
    /// SHA-256 of the definition that was looked at; when the tool has changed since, the plan is refused. Left out: whatever it is now will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub digest: Option<Digest>,
    /// The arguments. `{"$ref": "step://1#/content/0/text"}` stands for a part of the result of step 1, as `task://` does in a task.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub input: BTreeMap<String, RawJson>,
    /// Why it is there and where its arguments come from.
    #[serde(default)]
    pub reasons: Vec<String>,
}

/// An argument that is required and not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MissingDocument {
    /// The step that asks for it, from 1.
    pub step: usize,
    /// Its name.
    pub property: String,
    /// Its type, if the schema says it.
    #[serde(rename = "type")]
    pub kind: Option<String>,
}

impl From<Plan> for PlanDocument {
    fn from(plan: Plan) -> Self {
        Self {
            need: plan.need,
            steps: plan.steps.into_iter().map(Into::into).collect(),
            score: plan.score,
            missing: plan.missing.into_iter().map(Into::into).collect(),
            unused: plan.unused,
        }
    }
}

impl From<PlanDocument> for Plan {
    fn from(document: PlanDocument) -> Self {
        Self {
            need: document.need,
            steps: document.steps.into_iter().map(Into::into).collect(),
            score: document.score,
            missing: document.missing.into_iter().map(Into::into).collect(),
            unused: document.unused,
        }
    }
}

impl From<PlanStep> for PlanStepDocument {
    fn from(step: PlanStep) -> Self {
        let PlanStep { words, capability, definition, input, reasons } = step;
        Self { need: words, tool: capability, digest: definition, input, reasons }
    }
}

impl From<PlanStepDocument> for PlanStep {
    fn from(document: PlanStepDocument) -> Self {
        let PlanStepDocument { need, tool, digest, input, reasons } = document;
        Self { words: need, capability: tool, definition: digest, input, reasons }
    }
}

impl From<MissingInput> for MissingDocument {
    fn from(missing: MissingInput) -> Self {
        Self { step: missing.step, property: missing.property, kind: missing.kind }
    }
}

impl From<MissingDocument> for MissingInput {
    fn from(document: MissingDocument) -> Self {
        Self { step: document.step, property: document.property, kind: document.kind }
    }
}
