//! Compares two stores: whether one holds what the other holds.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    AdminError, Findings, Place, Step, Tally, Watch,
    walk::{self, Jobs, KINDS, Records},
};
use crate::{
    error::{StoreErrorKind, StoreResult},
    id::Lane,
    pointer::Digest,
    queue::{Job, LaneCounts},
    record::{Record, RecordKind},
};

/// Jobs between two words of progress.
const WATCH_EVERY: u64 = 100;

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// What is the same on both sides.
    pub same: Tally,
    /// What is not.
    pub findings: Findings,
}

/// Compares two stores at rest: the same jobs with equal heads and bodies, found by their idempotency keys; their results, each read whole and
/// checked by its digest; the same records, but for their versions; the same counts and pauses of lanes. A result that neither side has is no
/// difference.
///
/// # Errors
/// When a store fails, and for more lanes than a store tells of.
pub async fn verify(from: Place<'_>, to: Place<'_>, watch: &mut Watch<'_>) -> Result<Verified, AdminError> {
    let mut found = Verified::default();
    jobs(&from, &to, &mut found, watch).await?;
    for kind in KINDS {
        records(&from, &to, kind, &mut found).await?;
    }
    lanes(&from, &to, &mut found).await?;
    watch(Step::Verify, &found.same);
    Ok(found)
}

/// Both sides come newest first: the one that is ahead waits for the other.
async fn jobs(from: &Place<'_>, to: &Place<'_>, found: &mut Verified, watch: &mut Watch<'_>) -> Result<(), AdminError> {
    let (mut here, mut there) = (Jobs::all(from.jobs), Jobs::all(to.jobs));
    let (mut a, mut b) = (here.next().await?, there.next().await?);
    loop {
        match (&a, &b) {
            (None, None) => return Ok(()),
            (Some(job), Some(copy)) if job.head.id == copy.head.id => {
                one_job(from, to, job, copy, found).await?;
                if found.same.jobs % WATCH_EVERY == 0 {
                    watch(Step::Verify, &found.same);
                }
                (a, b) = (here.next().await?, there.next().await?);
            }
            (Some(job), copy) if copy.as_ref().is_none_or(|copy| copy.head.id < job.head.id) => {
                found.findings.add(|| format!("job {}: is not there", job.head.id));
                a = here.next().await?;
            }
            (_, Some(copy)) => {
                found.findings.add(|| format!("job {}: is there and not in the source", copy.head.id));
                b = there.next().await?;
            }
            (Some(_), None) => unreachable!("the arm before takes a job that nothing stands beside"),
        }
    }
}

async fn one_job(
    from: &Place<'_>,
    to: &Place<'_>,
    job: &Job,
    copy: &Job,
    found: &mut Verified,
) -> Result<(), AdminError> {
    let id = job.head.id;
    if job.head != copy.head {
        found.findings.add(|| format!("job {id}: its head differs{}", difference(job, copy)));
    } else if job.body != copy.body {
        found.findings.add(|| format!("job {id}: its request differs"));
    } else if !is_keyed(to, job).await? {
        found.findings.add(|| format!("job {id}: is not found by its idempotency key"));
    } else {
        found.same.jobs += 1;
    }
    let Some(pointer) = &job.head.result else { return Ok(()) };
    match to.results.get(pointer, None).await {
        Ok(body) if Digest::of(&body.bytes) == pointer.digest => {
            found.same.results += 1;
            found.same.result_bytes += body.bytes.len() as u64;
        }
        Ok(_) => found.findings.add(|| format!("job {id}: its result does not match its digest")),
        Err(error) if error.is_not_found() && is_gone(from, job).await? => {}
        Err(error) if matches!(error.kind(), StoreErrorKind::NotFound | StoreErrorKind::Corrupt) => {
            found.findings.add(|| format!("job {id}: its result cannot be read: {error}"));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// The first field of the heads that differs, for people.
fn difference(job: &Job, copy: &Job) -> String {
    let fields = |job: &Job| serde_json::to_value(&job.head).ok().and_then(|head| head.as_object().cloned());
    let (Some(left), Some(right)) = (fields(job), fields(copy)) else { return String::new() };
    let differs = left.iter().find(|(name, value)| right.get(*name) != Some(*value));
    differs.map_or_else(String::new, |(name, _)| format!(" in `{name}`"))
}

async fn is_keyed(to: &Place<'_>, job: &Job) -> StoreResult<bool> {
    let Some(key) = &job.head.idempotency_key else { return Ok(true) };
    Ok(to.jobs.keyed(&job.head.owner.tenant, key).await? == Some(job.head.id))
}

/// Whether the source has no such result either.
async fn is_gone(from: &Place<'_>, job: &Job) -> StoreResult<bool> {
    let Some(pointer) = &job.head.result else { return Ok(true) };
    match from.results.get(pointer, Some(crate::result::ByteRange { start: 0, len: 1 })).await {
        Err(error) if error.is_not_found() => Ok(true),
        Err(error) if error.kind() != StoreErrorKind::Corrupt => Err(error),
        _ => Ok(false),
    }
}

/// Both sides come in order of name.
async fn records(from: &Place<'_>, to: &Place<'_>, kind: RecordKind, found: &mut Verified) -> StoreResult<()> {
    let (mut here, mut there) = (Records::all(from.records, kind), Records::all(to.records, kind));
    let (mut a, mut b) = (here.next().await?, there.next().await?);
    let word = kind.as_str();
    loop {
        match (&a, &b) {
            (None, None) => return Ok(()),
            (Some(record), Some(copy)) if record.name == copy.name => {
                if record.value == copy.value {
                    found.same.records += 1;
                } else {
                    found.findings.add(|| format!("{word} record {:?}: differs", record.name));
                }
                (a, b) = (here.next().await?, there.next().await?);
            }
            (record, Some(copy)) if record.as_ref().is_none_or(|record: &Record| record.name > copy.name) => {
                found.findings.add(|| format!("{word} record {:?}: is there and not in the source", copy.name));
                b = there.next().await?;
            }
            (Some(record), _) => {
                // It may have run out since it was listed.
                if from.records.get(kind, &record.name).await?.is_some() {
                    found.findings.add(|| format!("{word} record {:?}: is not there", record.name));
                }
                a = here.next().await?;
            }
            (None, Some(_)) => unreachable!("the arm before takes a record that nothing stands beside"),
        }
    }
}

async fn lanes(from: &Place<'_>, to: &Place<'_>, found: &mut Verified) -> Result<(), AdminError> {
    // How long the oldest has waited changes while one looks.
    let still = |(lane, counts): (Lane, LaneCounts)| (lane, LaneCounts { oldest_ready_ms: 0, ..counts });
    let here: BTreeMap<Lane, LaneCounts> = walk::lanes(from).await?.into_iter().map(still).collect();
    let there: BTreeMap<Lane, LaneCounts> = walk::lanes(to).await?.into_iter().map(still).collect();
    for (lane, counts) in &here {
        match there.get(lane) {
            Some(copy) if copy == counts => found.same.paused += u64::from(counts.paused),
            Some(copy) => found.findings.add(|| format!("lane {lane}: {counts:?} in the source, {copy:?} there")),
            None => found.findings.add(|| format!("lane {lane}: is not there")),
        }
    }
    for lane in there.keys().filter(|lane| !here.contains_key(*lane)) {
        found.findings.add(|| format!("lane {lane}: is there and not in the source"));
    }
    Ok(())
}
