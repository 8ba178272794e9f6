//! A key stands for one job, and a call that is not declared safe to repeat is made at most once, whatever became of its worker.

use std::collections::{BTreeMap, BTreeSet};

use metamcp_core::id::JobId;

use crate::history::{Event, History};

pub(crate) fn check(history: &History) -> Vec<String> {
    let mut jobs = BTreeMap::<&str, BTreeSet<JobId>>::new();
    for event in &history.events {
        if let Event::Accepted { key, job } = event {
            jobs.entry(key).or_default().insert(*job);
        }
    }
    for (job, end) in &history.ends {
        jobs.entry(end.key.as_deref().unwrap_or_default()).or_default().insert(*job);
    }
    let mut broken: Vec<String> = jobs
        .iter()
        .filter(|(_, jobs)| jobs.len() > 1)
        .map(|(key, jobs)| format!("{key} was asked for once and is {} jobs: {jobs:?}", jobs.len()))
        .collect();
    for (job, calls) in history.executions_by_job() {
        if let Some(call) = calls.iter().find(|call| !call.tool.is_repeatable())
            && calls.len() > 1
        {
            broken.push(format!("{} ({job}) is not safe to repeat and was called {} times", call.key, calls.len()));
        }
    }
    broken
}
