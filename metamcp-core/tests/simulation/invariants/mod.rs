//! One file per invariant. Each reads the ledger and answers what it finds violated.

pub(crate) mod accepted_is_kept;
pub(crate) mod effect_at_most_once;
pub(crate) mod one_final_state;
pub(crate) mod result_is_of_its_lease;
pub(crate) mod stale_is_refused;
