//! A good end of a run: everything that is left is served, and then every job must have ended.

use std::{num::NonZeroU16, sync::Arc, time::Duration};

use super::caller::Caller;
use crate::{
    error::StoreResult,
    id::WorkerId,
    pointer::{Digest, ResultPointer},
    queue::{Answer, Final, Finish, JobHead, JobStore, LeaseRequest, Leased},
    testing::ManualClock,
};

/// Rounds of serving after which all jobs of a run must have ended: each waits for others and for a slot, and one round ends at least one.
const ROUNDS_MAX: u64 = 64;
/// Longer than any backoff and any gap between two slots of a run.
const ROUND: Duration = Duration::from_secs(120);

/// Resumes all lanes, answers what is asked, and serves what can be leased, again and again: a job that has not ended then is one that the
/// store has lost sight of. Not so jobs that wait for each other: a caller that uses the id of a removed job again can close a circle.
///
/// # Errors
/// The jobs that never end, or the call that fails.
pub async fn serve_to_the_end(store: &dyn JobStore, clock: &ManualClock) -> Result<(), String> {
    for lane in Caller::lanes() {
        store.pause(&lane, false).await.map_err(|error| error.to_string())?;
    }
    for round in 0..ROUNDS_MAX {
        clock.advance(ROUND);
        serve(store, round).await.map_err(|error| format!("a call fails: {error}"))?;
        if live(store).await?.is_empty() {
            return Ok(());
        }
    }
    let live = live(store).await?;
    let waits = |head: &JobHead| live.iter().any(|other| head.waits_on.contains(&other.id));
    let stuck: Vec<&JobHead> = live.iter().filter(|head| !waits(head)).collect();
    if stuck.is_empty() { Ok(()) } else { Err(format!("these never end: {stuck:?}")) }
}

async fn serve(store: &dyn JobStore, round: u64) -> StoreResult<()> {
    store.maintain(NonZeroU16::MAX).await?;
    for id in Caller::jobs() {
        store.answer(id, Answer { responses: "{}".to_owned() }).await?;
    }
    let want = LeaseRequest {
        lanes: Caller::lanes().collect(),
        max: 1,
        visibility: ROUND,
        worker: WorkerId::new("last-worker").expect("a valid name"),
        request: round,
        nonce: round,
        shares: Arc::default(),
    };
    let finish = |leased: &Leased| {
        let (tenant, job) = (leased.job.head.owner.tenant.clone(), leased.key.job);
        Finish { lease: leased.key, end: Final::Done(ResultPointer { tenant, job, digest: Digest::of(b"served") }) }
    };
    let done: Vec<Finish> = store.lease(&want).await?.jobs.iter().map(finish).collect();
    store.finish(&done).await.map(|_| ())
}

/// The jobs that have not ended.
async fn live(store: &dyn JobStore) -> Result<Vec<JobHead>, String> {
    let mut live = Vec::new();
    for id in Caller::jobs() {
        let job = store.get(id).await.map_err(|error| format!("a read fails: {error}"))?;
        live.extend(job.map(|job| job.head).filter(|head| !head.state.is_final()));
    }
    Ok(live)
}
