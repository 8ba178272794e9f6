//! Looks at queues, brings dead letters back and drains lanes.

use serde::Serialize;

use super::walk::Jobs;
use crate::{
    error::StoreResult,
    id::{JobId, Lane},
    queue::{Cancelled, Job, JobErrorCode, JobPage, JobQuery, JobState, JobStore, LaneCounts, Redriven},
    time::Timestamp,
};

/// Most stalled jobs that one call tells.
pub const STALLED_MAX: usize = 1_000;
/// Most dead letters that one call redrives: their ids are kept in memory, 16 bytes each.
pub const REDRIVE_MAX: usize = 1_000_000;
/// Jobs between two words of progress.
const WATCH_EVERY: u64 = 100;
/// Why a drained job was cancelled, as its owner reads it.
const DRAINED: &str = "its lane was drained";

/// The lanes of a store with their counts, A to Z, at most [`LANES_TOLD_MAX`](crate::queue::LANES_TOLD_MAX).
///
/// # Errors
/// When the store fails.
pub async fn queues(jobs: &dyn JobStore) -> StoreResult<Vec<(Lane, LaneCounts)>> {
    let mut queues = Vec::new();
    for lane in jobs.lanes().await? {
        let counts = jobs.counts(&lane).await?;
        queues.push((lane, counts));
    }
    Ok(queues)
}

/// Jobs whose lease is over.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stalled {
    /// The first of them, newest first.
    pub jobs: Vec<Job>,
    /// There are more.
    pub more: bool,
}

/// The leased jobs whose lease was over at `now`, at most `max` and [`STALLED_MAX`]. Maintenance takes them back within a second where a
/// worker runs: one that stays tells that none does.
///
/// Leases end by the store's clock, and `now` is the caller's: where they differ, so does the answer.
///
/// # Errors
/// When the store fails.
pub async fn stalled(jobs: &dyn JobStore, now: Timestamp, max: usize) -> StoreResult<Stalled> {
    let max = max.min(STALLED_MAX);
    let mut leased = Jobs::of(jobs, JobQuery { states: vec![JobState::Leased], ..JobQuery::default() });
    let mut stalled = Stalled::default();
    while let Some(job) = leased.next().await? {
        if job.head.lease_until.is_some_and(|until| until <= now) {
            if stalled.jobs.len() == max {
                stalled.more = true;
                break;
            }
            stalled.jobs.push(job);
        }
    }
    Ok(stalled)
}

/// Which dead letters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadFilter {
    /// Only of this lane.
    pub lane: Option<Lane>,
    /// Only those that failed this way.
    pub code: Option<JobErrorCode>,
    /// Only those that died then or later, by the store's clock.
    pub since: Option<Timestamp>,
    /// Only with this label.
    pub label: Option<(String, String)>,
}

impl DeadFilter {
    fn query(&self) -> JobQuery {
        JobQuery {
            states: vec![JobState::Dead],
            lane: self.lane.clone(),
            label: self.label.clone(),
            ..JobQuery::default()
        }
    }

    fn matches(&self, job: &Job) -> bool {
        self.code.is_none_or(|code| job.head.error.as_ref().is_some_and(|error| error.code == code))
            && self.since.is_none_or(|since| job.head.finished_at.is_some_and(|at| at >= since))
    }
}

/// A page of dead letters, newest first, of at most `limit` jobs and [`LIST_PAGE_MAX`](crate::queue::LIST_PAGE_MAX). Ask on with `before` set
/// to the page's `next`; a page may be short, even empty, and still go on.
///
/// # Errors
/// When the store fails.
pub async fn dead_letters(
    jobs: &dyn JobStore,
    filter: &DeadFilter,
    before: Option<JobId>,
    limit: u16,
) -> StoreResult<JobPage> {
    let mut page = jobs.list(&JobQuery { before, limit, ..filter.query() }).await?;
    page.jobs.retain(|job| filter.matches(job));
    Ok(page)
}

/// What became of the dead letters of a filter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RedriveReport {
    /// Dead letters that fit.
    pub found: u64,
    /// Back in the queue.
    pub redriven: u64,
    /// Not redriven: a job that they wait for is no longer kept.
    pub missing: u64,
    /// No longer dead, or removed, by the time it was their turn.
    pub changed: u64,
    /// There are more that fit: call again.
    pub more: bool,
}

/// Brings the dead letters of a filter back into the queue, at most [`REDRIVE_MAX`] of the newest, the oldest of those first: what others wait
/// for goes before them.
///
/// # Errors
/// When the store fails.
pub async fn redrive(
    jobs: &dyn JobStore,
    filter: &DeadFilter,
    watch: &mut (dyn FnMut(&RedriveReport) + Send),
) -> StoreResult<RedriveReport> {
    let (ids, more) = Jobs::of(jobs, filter.query()).ids(REDRIVE_MAX, |job| filter.matches(job)).await?;
    let mut report = RedriveReport { found: ids.len() as u64, more, ..RedriveReport::default() };
    watch(&report);
    for (n, id) in (1_u64..).zip(ids.into_iter().rev()) {
        match jobs.redrive(id).await? {
            Redriven::Ok => report.redriven += 1,
            Redriven::Missing { .. } => report.missing += 1,
            Redriven::NotDead(_) | Redriven::Gone => report.changed += 1,
        }
        if n.is_multiple_of(WATCH_EVERY) || n == report.found {
            watch(&report);
        }
    }
    Ok(report)
}

/// What became of the jobs that waited in a lane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Drained {
    /// Ended as cancelled.
    pub cancelled: u64,
    /// Leased since they were looked at: their workers are asked to stop.
    pub asked: u64,
    /// Ended otherwise, or removed, by the time it was their turn.
    pub changed: u64,
}

/// Cancels what waits in a lane: waiting, delayed, ready and asking for input, the newest first. Held jobs run to their end, and what comes in
/// later stays. Pause the lane first, or a job may be leased just before its turn and is then asked to stop.
///
/// # Errors
/// When the store fails.
pub async fn drain(jobs: &dyn JobStore, lane: &Lane, watch: &mut (dyn FnMut(&Drained) + Send)) -> StoreResult<Drained> {
    let states = vec![JobState::Waiting, JobState::Delayed, JobState::Ready, JobState::Input];
    let mut waiting = Jobs::of(jobs, JobQuery { states, lane: Some(lane.clone()), ..JobQuery::default() });
    let mut report = Drained::default();
    let mut seen = 0_u64;
    while let Some(job) = waiting.next().await? {
        match jobs.cancel(job.head.id, DRAINED).await? {
            Cancelled::Now => report.cancelled += 1,
            Cancelled::Asked => report.asked += 1,
            Cancelled::Already(_) | Cancelled::Gone => report.changed += 1,
        }
        seen += 1;
        if seen.is_multiple_of(WATCH_EVERY) {
            watch(&report);
        }
    }
    watch(&report);
    Ok(report)
}
