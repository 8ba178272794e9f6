//! Fires what is due by the store's time: the part of a worker that turns instants of schedules into jobs.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    error::EngineError,
    ports::Ports,
    schedule::{self, Kept, Overlap, Schedule},
    servers::Servers,
    store_clock::StoreClock,
    submit,
};
use crate::{
    id::JobId,
    record::{Expect, RECORD_PAGE_MAX, RecordKind},
    time::Timestamp,
};

/// Pause between two looks whether a schedule was changed: a new one is seen no later.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// How long all schedules are not read again when nobody told of a change: whoever changed one may have died before it was counted.
const READ_ALL_EVERY: Duration = Duration::from_secs(600);
/// Records of schedules that are read at most, in order of their names.
const READ_MAX: usize = 100_000;

/// What one worker knows of the schedules.
#[derive(Debug, Default)]
pub(super) struct Firing {
    looked: Option<Instant>,
    /// The store's time, as of the last look.
    clock: Option<StoreClock>,
    /// When all were read, and how many changes were counted then.
    read: Option<(Instant, Option<u64>)>,
    /// When each fires next, by its record's name.
    next: BTreeMap<String, Timestamp>,
}

impl Firing {
    /// Fires what is due. A schedule that cannot be fired holds no other one up.
    pub(super) async fn round(&mut self, ports: &Ports, servers: &Arc<Servers>) {
        if self.looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY) {
            match self.look(ports).await {
                Ok(()) => self.looked = Some(Instant::now()),
                Err(error) => tracing::warn!(%error, "schedules not read"),
            }
        }
        let Some(now) = self.clock.map(|clock| clock.now()) else { return };
        let due: Vec<String> = self.next.iter().filter(|(_, at)| **at <= now).map(|(name, _)| name.clone()).collect();
        for name in due {
            match fire(ports, servers, &name, now).await {
                Ok(Some(next)) => {
                    self.next.insert(name, next);
                }
                Ok(None) => {
                    self.next.remove(&name);
                }
                Err(error) => tracing::warn!(schedule = name, %error, "schedule not fired"),
            }
        }
    }

    /// Reads all schedules, unless none has changed.
    async fn look(&mut self, ports: &Ports) -> Result<(), EngineError> {
        self.clock = Some(StoreClock::told(ports.records.now().await?));
        // Counted before they are read: what changes meanwhile is seen the next time.
        let changes = schedule::changes(ports).await?;
        if self.read.is_some_and(|(at, seen)| seen == changes && at.elapsed() < READ_ALL_EVERY) {
            return Ok(());
        }
        let (mut next, mut records) = (BTreeMap::new(), 0);
        let mut after: Option<String> = None;
        while records < READ_MAX {
            let page = ports.records.list(RecordKind::Schedule, after.as_deref(), RECORD_PAGE_MAX).await?;
            for record in &page {
                match schedule::read(record) {
                    Ok(kept) => {
                        let at = kept.and_then(|kept| kept.schedule.next_at);
                        next.extend(at.map(|at| (record.name.clone(), at)));
                    }
                    Err(error) => tracing::warn!(%error, "schedule left out"),
                }
            }
            records += page.len();
            match page.last() {
                Some(last) if page.len() == usize::from(RECORD_PAGE_MAX) => after = Some(last.name.clone()),
                _ => break,
            }
        }
        if records >= READ_MAX {
            tracing::warn!(records, "more schedules than a worker reads; those with the last names do not fire");
        }
        self.next = next;
        self.read = Some((Instant::now(), changes));
        Ok(())
    }
}

/// Fires one schedule if it is due, and answers when it is due next.
async fn fire(
    ports: &Ports,
    servers: &Arc<Servers>,
    name: &str,
    now: Timestamp,
) -> Result<Option<Timestamp>, EngineError> {
    let Some(record) = ports.records.get(RecordKind::Schedule, name).await? else { return Ok(None) };
    let Some(Kept { mut schedule, version }) = schedule::read(&record)? else { return Ok(None) };
    if schedule.next_at.is_none_or(|at| at > now) {
        return Ok(schedule.next_at);
    }
    for at in schedule.due(now)? {
        if schedule.terms.overlap == Overlap::Skip && still_runs(ports, schedule.last_job).await? {
            schedule.last_error = Some("left out: the task of the time before had not ended".to_owned());
            continue;
        }
        match submit_at(ports, servers, &schedule, at).await {
            Ok(job) => {
                (schedule.last_at, schedule.last_job, schedule.last_error) = (Some(at), Some(job), None);
            }
            // The instant is not lost: it is tried again with the next round.
            Err(error @ (EngineError::Store(_) | EngineError::Stopping)) => return Err(error),
            Err(error) => schedule.failed(&error),
        }
    }
    schedule.move_on(now);
    // When another worker was first it fired the very same jobs.
    schedule::write(ports, &schedule, Expect::Version(version)).await?;
    Ok(schedule.next_at)
}

async fn still_runs(ports: &Ports, job: Option<JobId>) -> Result<bool, EngineError> {
    let Some(id) = job else { return Ok(false) };
    Ok(ports.jobs.get(id).await?.is_some_and(|job| !job.head.state.is_final()))
}

async fn submit_at(
    ports: &Ports,
    servers: &Arc<Servers>,
    schedule: &Schedule,
    at: Timestamp,
) -> Result<JobId, EngineError> {
    match submit::submit(ports, servers, &schedule.owner, schedule.task_at(at)).await {
        Ok(submitted) => Ok(submitted.job.head.id),
        // Another worker fired this instant from an earlier form of the schedule.
        Err(EngineError::Conflict { job }) => Ok(job),
        Err(error) => Err(error),
    }
}
