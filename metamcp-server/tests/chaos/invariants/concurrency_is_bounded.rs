//! No more jobs of a kind are at work under a lease than their concurrency key allows.
//!
//! Only calls count whose lease was surely held from begin to end: those of the lease that completed the job. A call that outlives its lease,
//! as when its worker is stopped, may overlap with the next one, and is not what the key bounds.

use std::collections::BTreeMap;

use metamcp_core::queue::JobState;

use crate::history::History;

pub(crate) fn check(history: &History) -> Vec<String> {
    let mut steps = BTreeMap::<_, Vec<(u64, i64)>>::new();
    for call in &history.executions {
        let Some(bound) = history.plan_of(call.job).and_then(|plan| plan.bound.as_ref()) else { continue };
        let Some(end) = history.ends.get(&call.job) else { continue };
        if let Some(ended) = call.ended
            && end.head.state == JobState::Done
            && end.head.epoch == call.epoch
        {
            steps.entry(bound).or_default().extend([(call.began, 1), (ended, -1)]);
        }
    }
    let mut broken = Vec::new();
    for (bound, mut steps) in steps {
        // At the same instant the end comes first.
        steps.sort_unstable();
        let (mut now, mut most) = (0, 0);
        for (_, step) in steps {
            now += step;
            most = most.max(now);
        }
        if most > i64::from(bound.max) {
            broken.push(format!("{most} jobs of {} were at work at a time, {} may be", bound.kind, bound.max));
        }
    }
    broken
}
