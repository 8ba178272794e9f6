//! When the fleet has had its time, nothing waits, is held or is left over: every job has ended, and the store counts none that has not.

use crate::history::History;

pub(crate) fn check(history: &History) -> Vec<String> {
    let mut broken = Vec::new();
    for (job, end) in &history.ends {
        let head = &end.head;
        if !head.state.is_final() {
            broken.push(format!("job {job} never ended: {:?}, {:?}", head.state, head.error));
        }
    }
    for (lane, counts) in &history.lanes {
        let left = [
            ("ready", counts.ready),
            ("blocked", counts.blocked),
            ("waiting", counts.waiting),
            ("delayed", counts.delayed),
            ("leased", counts.leased),
            ("input", counts.input),
        ];
        for (name, count) in left.into_iter().filter(|(_, count)| *count > 0) {
            broken.push(format!("lane {lane} counts {count} jobs as {name}"));
        }
    }
    broken
}
