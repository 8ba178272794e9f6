//! An acknowledged enqueue is findable from then on, and in the end stands in a final state.

use metamcp_core::queue::JobStore;

use crate::ledger::Ledger;

pub(crate) async fn check(ledger: &Ledger, store: &dyn JobStore, at_the_end: bool) -> Vec<String> {
    let mut violations = Vec::new();
    for id in ledger.accepted() {
        match store.get(id).await.expect("the true store has no faults") {
            None => violations.push(format!("accepted job {id} is lost")),
            Some(job) if at_the_end && !job.head.state.is_final() => {
                violations.push(format!("job {id} never ended: {:?}, {:?}", job.head.state, job.head.error));
            }
            Some(_) => {}
        }
    }
    violations
}
