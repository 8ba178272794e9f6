//! A tool that does not declare that repeating it is safe acts at most once per job.

use crate::ledger::Ledger;

pub(crate) fn check(ledger: &Ledger) -> Vec<String> {
    ledger
        .effects()
        .into_iter()
        .filter(|(_, times)| *times > 1)
        .map(|(id, times)| format!("the effect of job {id} happened {times} times"))
        .collect()
}
