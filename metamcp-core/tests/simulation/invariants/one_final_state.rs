//! A job reaches one final state and never leaves it: nothing is redriven here.

use crate::ledger::Ledger;

pub(crate) fn check(ledger: &Ledger) -> Vec<String> {
    ledger
        .finals()
        .into_iter()
        .filter(|(_, states)| states.len() > 1)
        .map(|(id, states)| format!("job {id} ended more than once: {states:?}"))
        .collect()
}
