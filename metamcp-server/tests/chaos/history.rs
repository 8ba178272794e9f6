//! The record of a run, only ever added to: what callers asked and were told, what they saw, what the tools did, and how all of it stood
//! at the end. The invariants read nothing else.

use std::{collections::BTreeMap, fmt::Write as _};

use metamcp_core::{
    id::{JobId, Lane},
    queue::{JobHead, LaneCounts},
};
use serde_json::Value;

use crate::plan::{Plan, Tool};

/// What a caller was told, or saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// The task with this key is this job.
    Accepted { key: String, job: JobId },
    /// The task with this key is not wanted: nothing may come of it.
    Refused { key: String, why: String },
    /// No answer, or one that says nothing: the task may be accepted or not.
    Unknown { key: String },
    /// The job stood so.
    Saw { job: JobId, stand: Stand },
    /// There was no such job.
    Missing { job: JobId },
    /// The result of the job was read.
    Read { job: JobId, answer: Answer },
    /// What was done to the fleet or to its store.
    Fault { what: String },
}

/// How a job stood, as far as that must not change once it has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stand {
    /// In the words of the API.
    pub(crate) state: String,
    pub(crate) result: Option<String>,
    pub(crate) code: Option<String>,
}

impl Stand {
    pub(crate) fn of(document: &Value) -> Self {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Self {
            state: text(&document["state"]).unwrap_or_default(),
            result: text(&document["result"]),
            code: text(&document["error"]["code"]),
        }
    }

    pub(crate) fn is_final(&self) -> bool {
        matches!(self.state.as_str(), "completed" | "failed" | "cancelled")
    }
}

/// What a tool answered: whose call it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) job: String,
    pub(crate) epoch: u64,
    pub(crate) key: String,
    /// What it was given of its parent.
    pub(crate) of: Option<String>,
}

impl Answer {
    /// Reads the body of a result.
    pub(crate) fn of(body: &[u8]) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let told = &body["structuredContent"];
        Some(Self {
            job: told["job"].as_str()?.to_owned(),
            epoch: told["epoch"].as_u64()?,
            key: told["key"].as_str()?.to_owned(),
            of: told["of"].as_str().map(str::to_owned),
        })
    }
}

/// One call that reached the tool.
#[derive(Debug, Clone)]
pub(crate) struct Execution {
    pub(crate) tool: Tool,
    pub(crate) key: String,
    pub(crate) job: JobId,
    /// The lease it was made under.
    pub(crate) epoch: u64,
    /// On the one clock of the machine, in nanoseconds.
    pub(crate) began: u64,
    /// `None`: it was cut off.
    pub(crate) ended: Option<u64>,
}

/// How a job stood in the store when all had come to rest.
#[derive(Debug, Clone)]
pub(crate) struct End {
    pub(crate) head: JobHead,
    /// The key of its plan, from its label.
    pub(crate) key: Option<String>,
    /// What its result says, if it has one that can be read.
    pub(crate) answer: Option<Answer>,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// By key: what callers set out to submit.
    pub(crate) plans: BTreeMap<String, Plan>,
    pub(crate) events: Vec<Event>,
    /// By job: the key of the plan that callers were told it is.
    keys: BTreeMap<JobId, String>,
    pub(crate) executions: Vec<Execution>,
    pub(crate) ends: BTreeMap<JobId, End>,
    pub(crate) lanes: Vec<(Lane, LaneCounts)>,
    /// Lost leases after which a job is dead.
    pub(crate) lost_max: u32,
}

impl History {
    pub(crate) fn new(lost_max: u32) -> Self {
        Self { lost_max, ..Self::default() }
    }

    pub(crate) fn plan(&mut self, plan: &Plan) {
        self.plans.insert(plan.key.clone(), plan.clone());
    }

    pub(crate) fn add(&mut self, event: Event) {
        if let Event::Accepted { key, job } = &event {
            self.keys.entry(*job).or_insert_with(|| key.clone());
        }
        self.events.push(event);
    }

    /// Each job that a caller was told is accepted, with the key of its plan.
    pub(crate) fn accepted(&self) -> impl Iterator<Item = (JobId, &str)> {
        self.keys.iter().map(|(job, key)| (*job, key.as_str()))
    }

    /// The plan of a job, by what callers were told or by its label.
    pub(crate) fn plan_of(&self, job: JobId) -> Option<&Plan> {
        let label = || self.ends.get(&job).and_then(|end| end.key.as_ref());
        self.plans.get(self.keys.get(&job).or_else(label)?)
    }

    /// The calls made for each job.
    pub(crate) fn executions_by_job(&self) -> BTreeMap<JobId, Vec<&Execution>> {
        let mut by_job = BTreeMap::<_, Vec<_>>::new();
        for execution in &self.executions {
            by_job.entry(execution.job).or_default().push(execution);
        }
        by_job
    }

    /// All of it as text, a line each, for whoever looks for the cause of a violation.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for event in &self.events {
            let _ = writeln!(text, "{event:?}");
        }
        for execution in &self.executions {
            let _ = writeln!(text, "{execution:?}");
        }
        for end in self.ends.values() {
            let _ = writeln!(text, "{end:?}");
        }
        for lane in &self.lanes {
            let _ = writeln!(text, "{lane:?}");
        }
        text
    }
}

/// Reads what the tools left behind: begin and end of each call, matched by job and lease.
pub(crate) fn executions(trace: &str) -> Vec<Execution> {
    let mut executions = Vec::<Execution>::new();
    let mut open = BTreeMap::<(JobId, u64), Vec<usize>>::new();
    for line in trace.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in the trace: {line}"));
        let job: JobId = line["job"].as_str().expect("a job").parse().expect("a job's id");
        let epoch = line["epoch"].as_u64().expect("an epoch");
        let at = line["at"].as_u64().expect("an instant");
        let open = open.entry((job, epoch)).or_default();
        if line["what"] == "begin" {
            let tool = Tool::ALL.into_iter().find(|tool| line["tool"] == tool.name()).expect("a known tool");
            let key = line["key"].as_str().expect("a key").to_owned();
            open.push(executions.len());
            executions.push(Execution { tool, key, job, epoch, began: at, ended: None });
        } else {
            // Two calls under one lease would be a violation by themselves; which of them ended first does not matter then.
            let begun = open.pop().expect("what ends has begun");
            executions[begun].ended = Some(at);
        }
    }
    executions
}
