//! Each promise is really checked: a small fleet whose store breaks just one of them has a history in which just that one is found broken,
//! and one whose store is sound has none.

mod broken;
mod small;

use std::collections::BTreeSet;

use broken::Bug;

use crate::invariants;

/// The promises that a fleet with this bug is found to break.
async fn found(bug: Bug) -> BTreeSet<&'static str> {
    let history = small::run(bug).await;
    let broken = invariants::check(&history);
    println!("{bug:?}: {broken:#?}");
    broken.into_iter().map(|(name, _)| name).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sound_store_breaks_nothing() {
    assert_eq!(found(Bug::None).await, BTreeSet::new());
}

macro_rules! caught {
    ($($name:ident: $bug:ident breaks $promise:ident;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                assert_eq!(found(Bug::$bug).await, BTreeSet::from([stringify!($promise)]));
            }
        )*
    };
}

caught! {
    a_job_acknowledged_and_not_written_is_caught: AckBeforeWrite breaks accepted_is_kept;
    a_lease_that_is_never_taken_back_is_caught: NeverReclaims breaks all_is_drained;
    a_concurrency_key_that_bounds_nothing_is_caught: IgnoresConcurrency breaks concurrency_is_bounded;
    a_call_that_is_made_again_blindly_is_caught: LossForgotten breaks effect_at_most_once;
    a_key_that_stands_for_two_jobs_is_caught: KeyForgotten breaks effect_at_most_once;
    a_lease_given_to_two_workers_is_caught: HandedOutTwice breaks one_execution_per_lease;
    a_cancel_that_is_told_and_not_done_is_caught: CancelForgotten breaks one_final_state;
    a_child_that_does_not_wait_is_caught: IgnoresAfter breaks parents_come_first;
    a_poison_that_goes_on_killing_is_caught: PoisonTolerated breaks poison_is_contained;
    a_result_of_a_stale_lease_is_caught: FinishById breaks result_is_of_its_lease;
}
