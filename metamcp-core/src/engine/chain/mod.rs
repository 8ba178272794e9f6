//! Plans of several steps: a need that no single capability covers, answered by a short chain in which one step hands its result to the next.
//!
//! [`propose`](propose::propose) makes a [`Plan`] and calls nothing; [`run`](run::run) makes a batch of tasks of one that its caller accepts.
//! A plan is data: the caller may change it, and everything in it is checked again before it runs.
//!
//! The need is split where its words part it, each part is ranked, and steps are chosen so that what a tool asks for is in the caller's
//! input or in an earlier step's result. Nothing is read out of the words: what neither has is told as missing.

mod clauses;
mod link;
pub(super) mod propose;
pub(super) mod run;
mod shape;

use std::collections::BTreeMap;

use crate::{id::CapabilityId, json::RawJson, pointer::Digest};

/// Most steps of a plan.
pub const PLAN_STEPS_MAX: usize = 4;
/// What a value begins with that an earlier step hands over: `{"$ref": "step://1#/structuredContent/path"}`. Steps count from 1.
pub const STEP_REFERENCE: &str = "step://";

/// A chain of steps that is proposed for a need.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// The need it was made for.
    pub need: String,
    /// The steps in their order, at most [`PLAN_STEPS_MAX`]; none: nothing fits.
    pub steps: Vec<PlanStep>,
    /// How well the steps' tools serve their parts of the need, 0 to 1: 1 when each is the best that is known for its part.
    pub score: f32,
    /// What a step asks for and nobody gives. Such a plan cannot run as it is.
    pub missing: Vec<MissingInput>,
    /// Members of the caller's input that no step takes.
    pub unused: Vec<String>,
}

/// One call of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanStep {
    /// The words of the need that it serves.
    pub words: String,
    /// The tool.
    pub capability: CapabilityId,
    /// Digest of the definition that was looked at: a tool that changed since is planned anew. `None`: whatever it is now will do.
    pub definition: Option<Digest>,
    /// The arguments by name; `{"$ref": "step://…"}` stands for a part of an earlier step's result.
    pub input: BTreeMap<String, RawJson>,
    /// Why it is there and where its arguments come from.
    pub reasons: Vec<String>,
}

/// An argument that is required and not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingInput {
    /// The step that asks for it, from 1.
    pub step: usize,
    /// Its name.
    pub property: String,
    /// Its type as the schema says it, if it does.
    pub kind: Option<String>,
}

impl Plan {
    /// Whether it can run as it is: it has steps, and nothing is missing.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.steps.is_empty() && self.missing.is_empty()
    }
}
