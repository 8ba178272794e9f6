//! A job that kills its worker ends as a dead letter after as many lost leases as it may have, and the fleet goes on.

use metamcp_core::queue::{JobErrorCode, JobState};

use crate::{history::History, plan::Tool};

pub(crate) fn check(history: &History) -> Vec<String> {
    let last_done = history.ends.values().filter(|end| end.head.state == JobState::Done);
    let last_done = last_done.filter_map(|end| end.head.finished_at).max();
    let mut broken = Vec::new();
    for (job, end) in &history.ends {
        if history.plan_of(*job).is_none_or(|plan| plan.tool != Tool::Poison) {
            continue;
        }
        let head = &end.head;
        let code = head.error.as_ref().map(|error| error.code);
        // One that has not ended is told by `all_is_drained`.
        if !head.state.is_final() {
            continue;
        }
        if head.state != JobState::Dead || code != Some(JobErrorCode::Lost) {
            broken.push(format!("poison {job} ended as {:?}, {:?}", head.state, head.error));
        }
        if head.lost != history.lost_max {
            broken.push(format!("poison {job} took {} leases with it, {} is the bound", head.lost, history.lost_max));
        }
        if last_done <= head.finished_at {
            broken.push(format!("nothing was completed after poison {job} had ended"));
        }
    }
    broken
}
