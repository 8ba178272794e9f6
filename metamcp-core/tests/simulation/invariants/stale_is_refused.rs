//! No write is accepted whose key is not that of the newest lease the store gave for the job.

use crate::ledger::Ledger;

pub(crate) fn check(ledger: &Ledger) -> Vec<String> {
    ledger.stale_accepted()
}
