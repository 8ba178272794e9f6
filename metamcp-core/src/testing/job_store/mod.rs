//! The behaviours every [`JobStore`](crate::queue::JobStore) has, one function each, and the macros that make a named test of each.
//!
//! ```
//! use std::sync::Arc;
//!
//! use metamcp_core::{
//!     queue::MemoryJobStore,
//!     testing::{ManualClock, job_store::{JobStoreFixture, suite_limits}},
//! };
//!
//! async fn make() -> JobStoreFixture {
//!     let clock = ManualClock::new();
//!     JobStoreFixture::new(Arc::new(MemoryJobStore::with_limits(clock.clone(), suite_limits())), clock, ())
//! }
//!
//! metamcp_core::job_store_suite!(make);
//! ```
//! A store that can be closed and opened again passes [`durable_job_store_suite!`](crate::durable_job_store_suite) as well.

mod fixture;

#[expect(missing_docs, reason = "the name of each function is the behaviour")]
pub mod concurrent;
#[expect(missing_docs, reason = "the name of each function is the behaviour")]
pub mod depend;
#[expect(missing_docs, reason = "the name of each function is the behaviour")]
pub mod durable;
#[expect(missing_docs, reason = "the name of each function is the behaviour")]
pub mod enqueue;
#[expect(missing_docs, reason = "the name of each function is the behaviour")]
pub mod fence;
#[expect(missing_docs, reason = "the name of each function is the behaviour")]
pub mod give_back;
#[expect(missing_docs, reason = "the name of each function is the behaviour")]
pub mod held;
#[expect(missing_docs, reason = "the name of each function is the behaviour")]
pub mod keep;
#[expect(missing_docs, reason = "the name of each function is the behaviour")]
pub mod lease;
#[expect(missing_docs, reason = "the name of each function is the behaviour")]
pub mod limits;
#[expect(missing_docs, reason = "the name of each function is the behaviour")]
pub mod race;
#[expect(missing_docs, reason = "the name of each function is the behaviour")]
pub mod rate;
#[expect(missing_docs, reason = "the name of each function is the behaviour")]
pub mod read;
#[expect(missing_docs, reason = "the name of each function is the behaviour")]
pub mod reopen;
#[expect(missing_docs, reason = "the name of each function is the behaviour")]
pub mod restore;
#[expect(missing_docs, reason = "the name of each function is the behaviour")]
pub mod shares;
#[expect(missing_docs, reason = "the name of each function is the behaviour")]
pub mod steer;
#[expect(missing_docs, reason = "the name of each function is the behaviour")]
pub mod time;

pub use fixture::{DurableJobStoreFixture, JobStoreFixture, Reopen, SUITE_LANE_JOBS_MAX, new_job, suite_limits};

/// Makes one test of each behaviour of a job store. `$make` is the path of an async function that makes a fresh [`JobStoreFixture`].
/// The crate that calls it needs tokio with `macros` and `rt-multi-thread`.
#[macro_export]
macro_rules! job_store_suite {
    ($make:path) => {
        $crate::job_store_suite!($make, behaviours);
    };
    ($make:path, $as:ident) => {
        $crate::$as!(job_store, $make;
            enqueue {
                a_new_job_is_ready_and_reads_as_it_was_given
                an_accepted_job_is_as_safe_as_health_says
                the_same_id_again_is_a_duplicate
                the_same_id_twice_in_one_call_is_one_job
                the_same_key_with_the_same_request_is_a_duplicate
                the_same_key_with_another_request_is_a_conflict
                the_same_key_twice_in_one_call_is_one_job
                another_tenant_may_use_the_same_key
                the_key_of_an_ended_job_is_still_taken
                a_key_tells_its_job_from_acceptance_to_removal
                a_full_lane_refuses_and_says_its_bound
                a_full_lane_still_knows_its_duplicates
                a_call_is_answered_entry_by_entry_in_order
                an_empty_call_is_fine
                too_many_jobs_in_one_call_are_invalid
                a_job_with_impossible_terms_is_invalid
                an_unknown_job_is_none
                a_delayed_job_waits_until_it_is_due
            }
            held {
                a_job_that_comes_held_is_leased_with_its_acceptance
                a_job_that_comes_held_is_handed_out_to_nobody
                its_heartbeat_keeps_a_job_that_came_held
                its_key_ends_a_job_that_came_held
                another_nonce_or_epoch_is_stale_for_a_job_that_came_held
                a_job_that_came_held_and_was_lost_goes_on_with_another_worker
                a_job_that_came_held_and_is_given_back_is_queued_like_any_other
                the_holder_of_a_job_that_came_held_is_told_of_a_cancel
                a_job_that_comes_held_again_is_a_duplicate
                jobs_that_come_held_take_no_place_in_a_full_lane
                a_paused_lane_takes_in_a_job_that_comes_held
                a_job_that_came_held_counts_for_the_bound_of_its_lane
                jobs_that_come_held_cost_their_tenant_no_turn
                a_job_that_comes_held_and_has_to_wait_is_invalid
            }
            depend {
                a_child_waits_until_its_parent_is_done
                a_child_of_a_done_parent_does_not_wait
                a_child_waits_for_every_parent
                a_child_keeps_its_delay
                a_child_takes_its_place_when_it_can_go_on
                a_child_in_one_call_with_its_parent_waits_for_it
                an_unknown_parent_is_missing_and_nothing_stands
                a_parent_of_another_tenant_is_missing
                parents_out_of_bounds_are_invalid
                a_waiting_job_counts_against_its_lanes_bound
                a_failed_parent_ends_its_child_through_maintenance
                however_a_parent_fails_its_child_hears_of_it
                a_child_of_a_parent_that_failed_before_is_taken_in_and_ends_dead
                a_failure_goes_down_the_whole_chain
                what_comes_of_the_other_parents_of_a_dead_child_changes_nothing
                settling_keeps_within_the_budget
                many_children_all_go_on
                a_waiting_job_is_cancelled_at_once
                a_waiting_job_past_its_deadline_ends
                a_parent_that_takes_several_attempts_is_waited_for
                waiting_for_work_ends_when_a_parent_is_done
                a_lost_parent_keeps_its_child_waiting_until_it_is_given_up
            }
            keep {
                a_parent_is_kept_past_its_retention_while_a_child_uses_it
                a_parent_within_its_retention_is_kept_without_a_child
                a_parent_is_kept_for_its_last_child_however_the_others_end
                a_failed_parent_is_kept_until_its_child_has_ended
                a_refused_child_keeps_nothing
                the_same_child_again_is_a_duplicate_though_its_parent_is_gone
                a_redriven_child_keeps_its_parent_again
                a_child_whose_parent_is_gone_is_not_redriven
                a_redriven_child_of_a_dead_parent_fails_again
                parent_and_child_are_redriven_together
                a_parent_redriven_before_its_child_hears_keeps_it_waiting
                a_redriven_child_waits_for_those_that_are_not_done
            }
            lease {
                a_lease_brings_the_job_and_its_key
                an_empty_lane_gives_nothing
                a_held_job_is_not_handed_out_again
                each_lease_raises_the_epoch
                no_more_jobs_come_than_were_wanted
                a_wish_over_the_bounds_is_invalid
                lanes_are_served_in_the_order_named
                other_lanes_are_left_alone
                jobs_of_one_instant_come_in_order_of_id
                older_jobs_come_first
                priority_is_a_head_start_of_a_minute_a_step
                an_old_job_is_not_starved_by_urgent_ones
                an_urgent_job_still_waits_until_it_is_due
                tenants_take_turns
                a_quiet_tenant_is_served_beside_a_flood
                a_late_tenant_gets_no_credit_for_its_absence
                the_same_wish_again_gets_the_same_grants
                another_wish_gets_other_jobs
                a_repeated_wish_leaves_out_what_is_no_longer_held
                the_same_request_of_another_worker_is_another_wish
                a_short_batch_tells_when_more_is_due
                a_paused_lane_hands_out_nothing_until_it_is_resumed
                pausing_leaves_held_jobs_and_other_lanes_alone
                a_job_past_its_deadline_is_handed_out_or_told_as_expired
                many_due_jobs_keep_nobody_from_a_lease
                many_jobs_that_are_passed_over_keep_nobody_from_a_lease
                a_lane_named_twice_is_one_lane
            }
            limits {
                a_key_is_held_no_more_often_than_it_may_over_lanes_and_workers
                a_paused_lane_holds_up_no_job_of_another_lane
                a_narrow_bound_in_front_holds_up_no_wider_one
                other_keys_are_apart
                each_end_of_a_lease_lets_the_next_go_on
                a_last_attempt_and_a_cancel_wish_let_the_next_go_on
                a_lost_lease_lets_the_next_go_on
                a_job_given_back_at_once_holds_nobody_up_for_good
                those_passed_over_go_on_in_order_of_place
                a_woken_job_that_is_cancelled_or_expires_wakes_the_next
                a_job_that_was_passed_over_may_be_cancelled_or_expire
                each_job_goes_by_its_own_bound
                a_redriven_job_asks_for_its_key_anew
                a_flood_of_passed_over_jobs_holds_up_no_other_tenant
                limits_out_of_bounds_are_invalid
                keys_of_any_text_are_keys
                waiting_for_work_ends_when_a_holder_lets_go
            }
            rate {
                a_burst_goes_at_once_and_the_others_are_given_slots
                each_slot_brings_one_job_and_is_paid_once
                slots_are_given_in_order_of_place
                each_attempt_takes_a_slot
                an_attempt_that_is_given_back_or_asks_its_owner_keeps_its_slot
                the_slot_of_a_cancelled_job_stays_unused
                after_a_quiet_time_there_is_a_burst_again_and_no_more
                a_rate_holds_over_lanes_and_workers_and_other_keys_are_apart
                a_repeated_wish_takes_no_slot
                a_job_passed_over_for_its_concurrency_key_takes_no_slot
                a_slot_that_came_while_the_concurrency_key_was_held_is_not_lost
                a_job_that_is_given_a_slot_lets_go_of_its_concurrency_key
                a_flood_of_early_jobs_holds_up_no_other_tenant
            }
            shares {
                a_heavier_tenant_gets_more_turns
                weights_hold_over_calls_and_workers
                the_lightest_tenant_is_still_served
                weights_out_of_bounds_are_invalid
                a_lane_is_leased_no_further_than_its_bound_over_all_workers
                a_bound_of_one_lane_leaves_the_others_alone
            }
            fence {
                finish_ends_the_job_with_its_result
                finish_ends_the_job_dead_with_its_error
                the_same_end_again_is_ok_again
                another_end_after_the_end_is_stale
                an_end_with_the_result_of_an_earlier_call_tells_whose_it_is
                a_key_of_an_older_lease_is_stale
                a_key_with_another_nonce_is_stale
                a_key_of_a_lease_yet_to_come_is_stale
                a_key_of_a_job_that_was_never_leased_is_stale
                a_reclaimed_lease_is_stale_before_the_next
                an_expired_lease_that_was_not_reclaimed_may_still_finish
                an_expired_lease_that_was_not_reclaimed_may_be_extended
                a_key_of_an_unknown_job_is_gone
                a_heartbeat_extends_the_lease
                a_heartbeat_brings_progress
                heartbeats_are_answered_one_by_one
                ends_are_answered_one_by_one
                too_many_entries_are_invalid
                a_checkpoint_comes_with_the_next_lease
                a_checkpoint_says_that_the_call_is_known
                too_large_a_checkpoint_is_invalid
            }
            give_back {
                a_failed_attempt_counts_and_comes_back_after_its_delay
                a_job_given_back_without_delay_is_ready
                used_up_attempts_end_the_job_with_the_last_error
                a_failed_attempt_keeps_checkpoint_and_answer_for_the_same_candidate
                a_failed_attempt_drops_checkpoint_and_answer_for_another_candidate
                a_failed_attempt_does_not_undo_what_an_earlier_lease_may_have_done
                a_release_counts_nothing_and_keeps_the_checkpoint
                a_release_says_whether_the_call_may_have_happened
                a_move_goes_to_another_candidate_and_counts_nothing
                the_same_nack_again_is_ok_again_until_the_next_lease
                a_fatal_nack_again_is_ok_again
                another_nack_after_a_nack_is_stale
                a_parked_job_holds_no_worker_and_tells_its_questions
                an_answer_makes_the_job_ready_and_comes_with_its_lease
                the_same_answer_again_is_well
                an_answer_is_gone_when_the_next_call_is_over
                an_answer_nobody_waits_for_is_refused
                an_answer_that_never_comes_ends_the_job
                a_job_may_be_parked_again
                a_redriven_job_starts_over
                an_end_that_a_redrive_undid_is_stale
                only_dead_jobs_are_redriven
                a_job_that_missed_its_deadline_gets_a_new_one_when_it_is_redriven
                each_redrive_gives_the_same_time_again
            }
            steer {
                a_ready_job_is_cancelled_at_once
                a_delayed_job_is_cancelled_at_once
                a_parked_job_is_cancelled_at_once
                the_worker_of_a_held_job_is_told_with_its_heartbeat
                a_job_may_still_complete_after_the_wish
                the_wish_wins_over_a_failed_attempt
                the_wish_wins_over_a_release
                the_wish_wins_over_parking
                the_wish_wins_over_a_lost_lease
                a_second_wish_is_the_same_wish
                an_ended_job_cannot_be_cancelled
                an_unknown_job_cannot_be_cancelled
            }
            time {
                a_lost_lease_counts_and_says_that_the_call_may_have_happened
                a_first_lost_lease_costs_no_backoff_and_wakes_who_waits
                the_backoff_after_a_lost_lease_grows
                a_lease_lost_too_often_ends_the_job
                lost_leases_and_failed_attempts_are_counted_apart
                maintenance_promotes_what_is_due
                maintenance_keeps_within_its_budget
                removals_do_not_hold_up_what_is_due
                maintenance_without_need_does_nothing
                a_deadline_ends_whatever_nobody_holds
                a_deadline_leaves_a_held_job_to_its_worker
                a_death_by_time_says_that_an_earlier_call_may_have_happened
                an_ended_job_is_removed_after_its_retention_with_its_pointer
                retention_counts_from_the_end
                dead_and_cancelled_jobs_are_removed_too
                a_redriven_job_is_not_removed
                the_key_of_a_removed_job_is_free
            }
            read {
                a_list_is_newest_first
                an_empty_store_lists_nothing
                pages_follow_each_other_without_gap_or_double
                a_page_is_bounded
                new_jobs_do_not_shift_the_pages
                a_list_keeps_to_its_filters
                a_list_shows_ended_jobs_as_get_does
                counts_tell_where_jobs_stand
                counts_tell_how_long_the_oldest_ready_job_has_been_due
                counts_tell_that_a_lane_is_paused
                lanes_that_hold_something_are_told_a_to_z
                waiting_ends_when_a_job_comes
                waiting_ends_at_once_when_a_job_is_there
                waiting_ends_when_its_time_is_over
                waiting_ends_when_a_lane_is_resumed
                waiting_ends_in_time_for_a_job_that_is_due_before_all_others
                a_dropped_wait_takes_nothing_with_it
            }
            restore {
                jobs_in_every_state_stand_as_they_stood
                what_stands_already_is_left_as_it_is
                a_job_whose_key_is_taken_is_not_taken_in
                entries_of_one_call_are_taken_in_order
                too_many_to_take_in_are_invalid
                a_lease_that_was_held_there_runs_out_here
                a_lease_that_was_held_there_may_still_end_its_job
                what_was_queued_there_comes_in_order_and_in_time
                families_go_on_whoever_is_taken_in_first
                those_passed_over_there_go_on_when_the_holder_lets_go
                a_slot_that_was_taken_there_is_good_here
                a_dead_letter_with_a_key_is_found_and_redriven
                what_was_parked_there_takes_its_answer_or_runs_out
                what_had_ended_there_is_removed_in_time
            }
            concurrent {
                leases_taken_together_hand_out_each_job_once
                an_end_told_by_many_is_one_end
                a_finish_and_a_nack_of_one_lease_do_not_both_win
                one_key_enqueued_by_many_is_one_job
                maintenance_by_many_moves_each_job_once
                workers_that_crash_and_stall_lose_nothing_and_end_each_job_once
            }
            race {
                workers_that_ask_together_keep_within_a_concurrency_key
                workers_that_ask_together_keep_within_the_bound_of_a_lane
                workers_that_ask_together_keep_within_a_rate
                a_job_looked_at_while_its_key_is_let_go_is_not_stranded
                parents_that_end_together_let_their_child_go_on
                a_child_that_comes_while_its_parent_ends_goes_on
                a_child_that_comes_while_its_parent_is_removed_finds_it_or_is_told
            }
        );
    };
}

/// Makes one test of each behaviour of a job store that outlives its process. `$make` is the path of an async function that makes a fresh
/// [`DurableJobStoreFixture`]. The crate that calls it needs tokio with `macros` and `rt-multi-thread`.
#[macro_export]
macro_rules! durable_job_store_suite {
    ($make:path) => {
        $crate::behaviours!(job_store, $make;
            durable {
                an_accepted_job_survives
                a_delayed_job_survives_and_keeps_its_time
                a_held_lease_is_over_at_once
                the_first_maintenance_tells_whose_lease_the_crash_ended
                a_job_that_crashes_its_process_ends_dead
                epochs_never_repeat
                a_cancel_wish_survives
                an_ended_job_survives_and_reads_as_before
                the_same_end_again_is_still_known
                the_same_nack_again_is_still_known
                idempotency_survives_for_live_and_ended_jobs
                a_checkpoint_survives
                a_parked_job_survives_and_takes_its_answer
                a_paused_lane_stays_paused
                a_dead_job_is_redriven_after_the_crash
                counts_are_the_same_after_the_crash
                failed_attempts_are_still_counted
                retention_goes_on_after_the_crash
                a_deadline_is_kept_after_the_crash
                order_is_the_same_after_the_crash
                an_old_wish_for_work_gets_nothing_after_the_crash
            }
            reopen {
                a_waiting_job_survives_and_goes_on
                a_child_hears_after_the_crash_that_its_parent_failed_before
                many_children_go_on_after_the_crash
                a_parent_in_use_is_kept_after_the_crash
                a_job_that_ended_before_the_crash_is_a_parent_after_it
                a_child_is_redriven_after_the_crash
                a_concurrency_key_is_kept_to_after_the_crash
                a_slot_survives
                an_end_with_the_result_of_an_earlier_call_survives
                what_was_taken_in_survives
                lanes_are_the_same_after_the_crash
                a_job_that_came_held_survives
            }
        );
    };
}
