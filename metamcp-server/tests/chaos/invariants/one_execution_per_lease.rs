//! One call is one execution unless a lease expired: a lease makes at most one call, and a job is called again only after a lease that was
//! lost or an attempt that failed.

use std::collections::BTreeMap;

use crate::history::History;

pub(crate) fn check(history: &History) -> Vec<String> {
    let mut broken = Vec::new();
    for (job, calls) in history.executions_by_job() {
        let mut by_lease = BTreeMap::<u64, usize>::new();
        for call in &calls {
            *by_lease.entry(call.epoch).or_default() += 1;
        }
        for (epoch, times) in by_lease.into_iter().filter(|(_, times)| *times > 1) {
            broken.push(format!("lease {epoch} of job {job} made {times} calls"));
        }
        let Some(end) = history.ends.get(&job) else { continue };
        let head = &end.head;
        let allowed = 1 + u64::from(head.lost) + u64::from(head.attempts);
        if calls.len() as u64 > allowed {
            broken.push(format!(
                "job {job} was called {} times, with {} lost leases and {} failed attempts",
                calls.len(),
                head.lost,
                head.attempts
            ));
        }
        for call in calls.iter().filter(|call| call.epoch > head.epoch) {
            broken.push(format!("job {job} was called under lease {}, and has had {}", call.epoch, head.epoch));
        }
    }
    broken
}
