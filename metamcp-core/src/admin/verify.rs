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
    queue::{Job, JobHead, LaneCounts},
    record::RecordKind,
    result::ByteRange,
};

/// Jobs between two words of progress.
const WATCH_EVERY: u64 = 100;

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// What is the same on both sides.
    pub same: Tally,
    /// Records that one side has no more because their time ran out, as with time all do that are not schedules.
    pub ran_out: u64,
    /// What is not.
    pub findings: Findings,
}

/// Compares two stores at rest: the same jobs with equal heads and bodies, found by their idempotency keys; their results, each read whole and
/// checked by its digest; the same records, but for their versions; the same counts and pauses of lanes. A result that neither side has is no
/// difference, nor is a record that ran out on one side, or whether a ready job is passed over for the time being.
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
    let (mut ours, mut theirs) = (here.next().await?, there.next().await?);
    while let Some(id) = [&ours, &theirs].into_iter().flatten().map(|job| job.head.id).max() {
        let job = ours.take_if(|job| job.head.id == id);
        let copy = theirs.take_if(|copy| copy.head.id == id);
        if job.is_some() {
            ours = here.next().await?;
        }
        if copy.is_some() {
            theirs = there.next().await?;
        }
        match (job, copy) {
            (Some(job), Some(copy)) => {
                one_job(from, to, &job, &copy, found).await?;
                if found.same.jobs.is_multiple_of(WATCH_EVERY) {
                    watch(Step::Verify, &found.same);
                }
            }
            (Some(_), None) => found.findings.add(|| format!("job {id}: is not there")),
            (None, _) => found.findings.add(|| format!("job {id}: is there and not in the source")),
        }
    }
    Ok(())
}

async fn one_job(
    from: &Place<'_>,
    to: &Place<'_>,
    job: &Job,
    copy: &Job,
    found: &mut Verified,
) -> Result<(), AdminError> {
    let id = job.head.id;
    if !same_head(&job.head, &copy.head) {
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

/// Whether two heads are equal, but for what leases find out anew.
fn same_head(head: &JobHead, copy: &JobHead) -> bool {
    head == copy || head.blocked != copy.blocked && *head == JobHead { blocked: head.blocked, ..copy.clone() }
}

/// The fields of the heads that differ, for people.
fn difference(job: &Job, copy: &Job) -> String {
    let fields = |job: &Job| serde_json::to_value(&job.head).ok().and_then(|head| head.as_object().cloned());
    let (Some(left), Some(right)) = (fields(job), fields(copy)) else { return String::new() };
    let differs = left.iter().filter(|(name, value)| right.get(*name) != Some(*value));
    let names: Vec<String> = differs.map(|(name, _)| format!("`{name}`")).collect();
    if names.is_empty() { String::new() } else { format!(" in {}", names.join(", ")) }
}

async fn is_keyed(to: &Place<'_>, job: &Job) -> StoreResult<bool> {
    let Some(key) = &job.head.idempotency_key else { return Ok(true) };
    Ok(to.jobs.keyed(&job.head.owner.tenant, key).await? == Some(job.head.id))
}

/// Whether the source has no such result either.
async fn is_gone(from: &Place<'_>, job: &Job) -> StoreResult<bool> {
    let Some(pointer) = &job.head.result else { return Ok(true) };
    match from.results.get(pointer, Some(ByteRange { start: 0, len: 1 })).await {
        Err(error) if error.is_not_found() => Ok(true),
        Err(error) if error.kind() != StoreErrorKind::Corrupt => Err(error),
        _ => Ok(false),
    }
}

/// Both sides come in order of name.
async fn records(from: &Place<'_>, to: &Place<'_>, kind: RecordKind, found: &mut Verified) -> StoreResult<()> {
    let (mut here, mut there) = (Records::all(from.records, kind), Records::all(to.records, kind));
    let (mut ours, mut theirs) = (here.next().await?, there.next().await?);
    let word = kind.as_str();
    while let Some(name) = [&ours, &theirs].into_iter().flatten().map(|record| record.name.clone()).min() {
        let record = ours.take_if(|record| record.name == name);
        let copy = theirs.take_if(|copy| copy.name == name);
        if record.is_some() {
            ours = here.next().await?;
        }
        if copy.is_some() {
            theirs = there.next().await?;
        }
        match (record, copy) {
            (Some(record), Some(copy)) if record.value == copy.value => found.same.records += 1,
            (Some(_), Some(_)) => found.findings.add(|| format!("{word} record {name:?}: differs")),
            (Some(_), None) if from.records.get(kind, &name).await?.is_some() => {
                found.findings.add(|| format!("{word} record {name:?}: is not there"));
            }
            // It ran out since it was listed, or, on the side where it is kept for less long, since it was copied.
            (Some(_), None) => found.ran_out += 1,
            (None, _) if kind != RecordKind::Schedule => found.ran_out += 1,
            (None, _) => found.findings.add(|| format!("{word} record {name:?}: is there and not in the source")),
        }
    }
    Ok(())
}

async fn lanes(from: &Place<'_>, to: &Place<'_>, found: &mut Verified) -> Result<(), AdminError> {
    // How long the oldest has waited changes while one looks, and who is passed over is found out anew.
    let still = |(lane, counts): (Lane, LaneCounts)| {
        (lane, LaneCounts { oldest_ready_ms: 0, ready: counts.ready + counts.blocked, blocked: 0, ..counts })
    };
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
