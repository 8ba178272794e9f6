//! One file per promise. Each reads the history and answers, in words, what it finds broken; `twins` shows for each that it finds it.

pub(crate) mod accepted_is_kept;
pub(crate) mod all_is_drained;
pub(crate) mod concurrency_is_bounded;
pub(crate) mod effect_at_most_once;
pub(crate) mod one_execution_per_lease;
pub(crate) mod one_final_state;
pub(crate) mod parents_come_first;
pub(crate) mod poison_is_contained;
pub(crate) mod result_is_of_its_lease;

use crate::history::History;

/// Finds what breaks one promise.
type Check = fn(&History) -> Vec<String>;

/// Every promise with its name, A to Z.
const CHECKS: [(&str, Check); 9] = [
    ("accepted_is_kept", accepted_is_kept::check),
    ("all_is_drained", all_is_drained::check),
    ("concurrency_is_bounded", concurrency_is_bounded::check),
    ("effect_at_most_once", effect_at_most_once::check),
    ("one_execution_per_lease", one_execution_per_lease::check),
    ("one_final_state", one_final_state::check),
    ("parents_come_first", parents_come_first::check),
    ("poison_is_contained", poison_is_contained::check),
    ("result_is_of_its_lease", result_is_of_its_lease::check),
];

/// Everything that is broken, each with the name of its promise.
pub(crate) fn check(history: &History) -> Vec<(&'static str, String)> {
    CHECKS.iter().flat_map(|(name, check)| check(history).into_iter().map(|told| (*name, told))).collect()
}
