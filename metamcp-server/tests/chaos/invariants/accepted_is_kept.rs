//! What a caller was told is accepted is there; what was only ever refused, and what nobody asked for, is not.

use std::collections::BTreeSet;

use metamcp_core::id::JobId;

use crate::history::{Event, History};

pub(crate) fn check(history: &History) -> Vec<String> {
    let mut broken: Vec<String> = lost(history).iter().map(|job| format!("accepted job {job} is lost")).collect();
    for event in &history.events {
        if let Event::Missing { job } = event {
            broken.push(format!("accepted job {job} was not found"));
        }
    }
    let may_be: BTreeSet<&str> = history
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Accepted { key, .. } | Event::Unknown { key } => Some(key.as_str()),
            _ => None,
        })
        .collect();
    for (job, end) in &history.ends {
        match &end.key {
            Some(key) if may_be.contains(key.as_str()) => {}
            Some(key) if history.plans.contains_key(key) => {
                broken.push(format!("{key} was refused, and yet job {job} is there"));
            }
            other => broken.push(format!("nobody asked for job {job} ({other:?})")),
        }
    }
    broken
}

/// Accepted jobs that are gone.
pub(crate) fn lost(history: &History) -> Vec<JobId> {
    history.accepted().map(|(job, _)| job).filter(|job| !history.ends.contains_key(job)).collect()
}
