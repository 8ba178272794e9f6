//! The result of a done job resolves, its digest matches, and it was made under the lease that ended the job.

use metamcp_core::{
    pointer::Digest,
    queue::{JobState, JobStore},
    result::ResultStore,
};

use crate::ledger::Ledger;

pub(crate) async fn check(ledger: &Ledger, jobs: &dyn JobStore, results: &dyn ResultStore) -> Vec<String> {
    let mut violations = Vec::new();
    for id in ledger.accepted() {
        let Some(job) = jobs.get(id).await.expect("the true store has no faults") else { continue };
        if job.head.state != JobState::Done {
            if job.head.result.is_some() {
                violations.push(format!("job {id} is {:?} and yet has a result", job.head.state));
            }
            continue;
        }
        let Some(pointer) = &job.head.result else {
            violations.push(format!("job {id} is done without a result"));
            continue;
        };
        match results.get(pointer, None).await {
            Err(error) => violations.push(format!("the result of job {id} is not there: {error}")),
            Ok(body) => {
                if Digest::of(&body.bytes) != pointer.digest {
                    violations.push(format!("the result of job {id} does not match its digest"));
                }
                let made_by = format!("\"epoch\":{}}}", job.head.epoch);
                let text = String::from_utf8_lossy(&body.bytes);
                // A remote task is begun under one lease and may be fetched under a later one.
                if !text.contains("\"remote\":true") && !text.contains(&made_by) {
                    violations.push(format!("job {id} ended under epoch {} with {text}", job.head.epoch));
                }
            }
        }
    }
    violations
}
