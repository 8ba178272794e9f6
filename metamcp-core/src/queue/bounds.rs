//! What every store refuses as `Invalid` before it changes anything: batches, names and texts over their documented bounds.

use super::{
    job::{AFTER_MAX, CHECKPOINT_BYTES_MAX, Checkpoint, NewJob},
    lease::{LANES_MAX, LEASE_BATCH_MAX, LeaseRequest, Nack, NackHow, WEIGHT_MAX, WEIGHTS_MAX},
};
use crate::{
    error::{StoreError, StoreErrorKind, StoreResult},
    id::Lane,
    task::LIMIT_KEY_BYTES_MAX,
};

/// The highest priority of a job.
pub const PRIORITY_MAX: u8 = 9;

fn refuse_unless(holds: bool, store: &'static str, why: impl FnOnce() -> String) -> StoreResult<()> {
    if holds { Ok(()) } else { Err(StoreError::new(StoreErrorKind::Invalid, store, why())) }
}

/// Checks the length of a batch.
///
/// # Errors
/// `Invalid` above [`LEASE_BATCH_MAX`] entries.
pub fn check_batch(store: &'static str, entries: usize) -> StoreResult<()> {
    refuse_unless(entries <= usize::from(LEASE_BATCH_MAX), store, || {
        format!("{entries} entries in one call, split them into calls of at most {LEASE_BATCH_MAX}")
    })
}

/// Checks new jobs.
///
/// # Errors
/// `Invalid` for too many, a priority above [`PRIORITY_MAX`], a job that may never be attempted or lost, limits and dependencies out of
/// their bounds, or one that is held from the start and has something to wait for.
pub fn check_new(store: &'static str, jobs: &[NewJob]) -> StoreResult<()> {
    check_batch(store, jobs.len())?;
    for job in jobs {
        refuse_unless(job.priority <= PRIORITY_MAX, store, || {
            format!("job {}: priority {} is not within 0 to {PRIORITY_MAX}", job.id, job.priority)
        })?;
        refuse_unless(job.attempts_max > 0 && job.lost_max > 0, store, || {
            format!("job {}: attempts_max and lost_max must be at least 1", job.id)
        })?;
        check_after(store, job)?;
        check_limits(store, job)?;
        check_held(store, job)?;
    }
    Ok(())
}

fn check_after(store: &'static str, job: &NewJob) -> StoreResult<()> {
    refuse_unless(job.after.len() <= AFTER_MAX, store, || {
        format!("job {}: waits for {} jobs, name at most {AFTER_MAX}", job.id, job.after.len())
    })?;
    job.after.iter().enumerate().try_for_each(|(n, parent)| {
        refuse_unless(*parent != job.id && !job.after[..n].contains(parent), store, || {
            format!("job {}: `after` names {parent} twice, or the job itself", job.id)
        })
    })
}

fn check_limits(store: &'static str, job: &NewJob) -> StoreResult<()> {
    let fits = |key: &str| (1..=LIMIT_KEY_BYTES_MAX).contains(&key.len());
    refuse_unless(job.concurrency.as_ref().is_none_or(|c| fits(&c.key) && c.max > 0), store, || {
        format!("job {}: a concurrency key has 1 to {LIMIT_KEY_BYTES_MAX} bytes and a bound of at least 1", job.id)
    })?;
    refuse_unless(
        job.rate.as_ref().is_none_or(|r| fits(&r.key) && r.every.as_millis() > 0 && r.burst > 0),
        store,
        || {
            format!(
                "job {}: a rate key has 1 to {LIMIT_KEY_BYTES_MAX} bytes, at least 1 millisecond and a burst of at least 1",
                job.id
            )
        },
    )
}

fn check_held(store: &'static str, job: &NewJob) -> StoreResult<()> {
    let Some(held) = &job.held else { return Ok(()) };
    let waits = !job.delay.is_zero() || !job.after.is_empty() || job.concurrency.is_some() || job.rate.is_some();
    refuse_unless(!waits && held.visibility.as_millis() > 0, store, || {
        format!(
            "job {}: one that is held from the start has no delay, no `after`, no concurrency key and no rate, and a lease of at least 1 \
             millisecond",
            job.id
        )
    })
}

/// Checks a wish for work.
///
/// # Errors
/// `Invalid` for more than [`LEASE_BATCH_MAX`] jobs or [`LANES_MAX`] lanes, a lease that would be over at once, or weights out of bounds.
pub fn check_lease(store: &'static str, want: &LeaseRequest) -> StoreResult<()> {
    check_batch(store, usize::from(want.max))?;
    check_lanes(store, &want.lanes)?;
    let weights = &want.shares.weights;
    refuse_unless(
        weights.len() <= WEIGHTS_MAX && weights.values().all(|weight| (1..=WEIGHT_MAX).contains(weight)),
        store,
        || format!("weights must be 1 to {WEIGHT_MAX}, for at most {WEIGHTS_MAX} tenants"),
    )?;
    refuse_unless(want.visibility.as_millis() > 0, store, || "visibility must be at least 1 millisecond".to_owned())
}

/// Checks the number of lanes.
///
/// # Errors
/// `Invalid` above [`LANES_MAX`].
pub fn check_lanes(store: &'static str, lanes: &[Lane]) -> StoreResult<()> {
    refuse_unless(lanes.len() <= LANES_MAX, store, || {
        format!("{} lanes in one call, name at most {LANES_MAX}", lanes.len())
    })
}

/// Checks a checkpoint.
///
/// # Errors
/// `Invalid` above [`CHECKPOINT_BYTES_MAX`].
pub fn check_checkpoint(store: &'static str, at: &Checkpoint) -> StoreResult<()> {
    refuse_unless(at.text.len() <= CHECKPOINT_BYTES_MAX, store, || {
        format!("a checkpoint of {} bytes, keep it to {CHECKPOINT_BYTES_MAX}", at.text.len())
    })
}

/// Checks jobs that are given back.
///
/// # Errors
/// `Invalid` for too many, or a checkpoint that is too large.
pub fn check_nacks(store: &'static str, back: &[Nack]) -> StoreResult<()> {
    check_batch(store, back.len())?;
    back.iter().try_for_each(|nack| match &nack.how {
        NackHow::Park { checkpoint, .. } => check_checkpoint(store, checkpoint),
        NackHow::Fail { .. } | NackHow::Release { .. } | NackHow::Move { .. } => Ok(()),
    })
}
