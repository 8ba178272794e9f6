//! A job that takes another one's result is called after that one has completed, and with its result; when that one fails, so does it.

use metamcp_core::queue::{JobErrorCode, JobState};

use crate::history::History;

pub(crate) fn check(history: &History) -> Vec<String> {
    let calls = history.executions_by_job();
    let mut broken = Vec::new();
    for (job, end) in &history.ends {
        let Some((parent, parent_key)) = history.plan_of(*job).and_then(|plan| plan.parent.as_ref()) else { continue };
        let Some(parent_end) = history.ends.get(parent) else {
            broken.push(format!("job {job} waits for {parent}, which is gone"));
            continue;
        };
        let done = parent_end.head.state == JobState::Done;
        let begun = calls.get(job).into_iter().flatten().map(|call| call.began).min();
        let ready = calls.get(parent).into_iter().flatten().filter_map(|call| call.ended).min();
        if begun.is_some() && (!done || begun < ready) {
            broken.push(format!("job {job} was called before its parent {parent} had completed"));
        }
        let told = end.answer.as_ref().map(|answer| answer.of.as_deref());
        if told.is_some_and(|of| of != Some(parent_key)) {
            broken.push(format!("job {job} was given {told:?} of its parent {parent}, not {parent_key}"));
        }
        let code = end.head.error.as_ref().map(|error| error.code);
        if end.head.state == JobState::Dead && done && code == Some(JobErrorCode::DependencyFailed) {
            broken.push(format!("job {job} failed for its parent {parent}, which has completed"));
        }
    }
    broken
}
