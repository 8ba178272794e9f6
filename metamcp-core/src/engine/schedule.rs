//! Recurring tasks: a task, a timetable, and what became of the last times.
//!
//! There is no leader. Every worker looks what is due and submits it under an idempotency key made of the schedule and the instant, so that
//! any number of them, and one that died half-way, make one job of one instant. The schedule then moves on by comparing versions.
//!
//! A deleted schedule leaves an empty record for a while, so that versions go on when one of its name is made again and a worker that was
//! about to write the old one down finds that out. Another empty record counts the changes that their owners make, so that workers need not
//! read all schedules to see that nothing has changed.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    error::EngineError,
    ports::{Ports, persist},
    timetable::Timetable,
};
use crate::{
    auth::Principal,
    error::{StoreError, StoreErrorKind},
    id::JobId,
    pointer::Digest,
    record::{Expect, RECORD_BYTES_MAX, RECORD_PAGE_MAX, Record, RecordKind, Written},
    task::{InvalidTask, Task},
    time::Timestamp,
};

/// Most schedules of one owner.
pub const SCHEDULES_MAX: usize = 1_000;
/// Longest name of a schedule, in bytes.
pub const SCHEDULE_NAME_BYTES_MAX: usize = 64;
/// Missed instants that are made up for at most, when all are.
pub const MISSED_MAX: usize = 100;
/// How late an instant may be served that is not to be made up for.
pub const MISSED_GRACE: Duration = Duration::from_secs(60);
/// Longest error kept with a schedule, in bytes.
const ERROR_BYTES_MAX: usize = 500;
/// Largest schedule as its owner makes it, in bytes: what is kept of its last time, the error too, has room beside it in the record.
const SCHEDULE_BYTES_MAX: usize = RECORD_BYTES_MAX - (8 << 10);
/// How long the record of a deleted schedule is kept: far longer than a worker takes to fire one.
const DELETED_KEPT: Duration = Duration::from_secs(3_600);
/// The record whose version counts the changes; no schedule has a name without a `/`.
const CHANGES: &str = "changes";

/// What happens to instants at which no worker ran.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missed {
    /// Nothing, but for the last one when it is no older than [`MISSED_GRACE`].
    Skip,
    /// The last one is made up for.
    #[default]
    Last,
    /// All are, at most the last [`MISSED_MAX`].
    All,
}

/// Whether an instant is served while the job of the one before has not ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// It is.
    #[default]
    Allow,
    /// It is left out.
    Skip,
}

/// What a caller says of a recurring task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NewSchedule {
    /// Names it among its owner's: 1 to 64 of `a-z A-Z 0-9 . _ -`.
    pub name: String,
    /// `minute hour day month weekday`, with seconds before them if six.
    pub cron: String,
    /// An IANA time zone.
    pub zone: String,
    /// The task. Its idempotency key is the schedule's to choose.
    pub task: Task,
    /// What happens to missed instants.
    pub missed: Missed,
    /// Whether jobs may overlap.
    pub overlap: Overlap,
    /// It does not fire.
    pub paused: bool,
}

/// A recurring task as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Schedule {
    /// What its owner said of it.
    pub terms: NewSchedule,
    /// Who may read and change it, and whose its jobs are.
    pub owner: Principal,
    /// Drawn when it is made: one that is deleted and made again is another one, and its instants are its own.
    #[serde(default)]
    made: u64,
    /// When it fires next, by the store's clock; `None`: never, as when it is paused.
    pub next_at: Option<Timestamp>,
    /// The last instant that became a job.
    pub last_at: Option<Timestamp>,
    /// That job.
    pub last_job: Option<JobId>,
    /// Why the last instant became none.
    pub last_error: Option<String>,
}

impl Schedule {
    /// The task of one instant.
    pub(super) fn task_at(&self, at: Timestamp) -> Task {
        let subject = Digest::of(self.owner.subject.as_bytes());
        let mut task = self.terms.task.clone();
        task.idempotency_key = Some(format!("cron:{subject}:{}:{:x}:{}", self.terms.name, self.made, at.as_millis()));
        task
    }

    /// The instants to be served now.
    pub(super) fn due(&self, now: Timestamp) -> Result<Vec<Timestamp>, InvalidTask> {
        let Some(first) = self.next_at.filter(|at| *at <= now && !self.terms.paused) else { return Ok(Vec::new()) };
        let table = self.timetable()?;
        Ok(match self.terms.missed {
            Missed::All => table.due(first, now, MISSED_MAX),
            Missed::Last => table.due(first, now, 1),
            Missed::Skip => table.due(first, now, 1).into_iter().filter(|at| now.since(*at) <= MISSED_GRACE).collect(),
        })
    }

    fn timetable(&self) -> Result<Timetable, InvalidTask> {
        Timetable::new(&self.terms.cron, &self.terms.zone)
    }

    /// Moves on to the first instant after `now`.
    pub(super) fn move_on(&mut self, now: Timestamp) {
        let next = self.timetable().ok().and_then(|table| table.next(now));
        self.next_at = next.filter(|_| !self.terms.paused);
    }

    /// Keeps why an instant became no job.
    pub(super) fn failed(&mut self, error: &EngineError) {
        let mut why = error.to_string();
        why.truncate(why.floor_char_boundary(ERROR_BYTES_MAX));
        self.last_error = Some(why);
    }
}

/// A schedule with the version it was read in.
pub(super) struct Kept {
    pub(super) schedule: Schedule,
    pub(super) version: u64,
}

/// Where an owner's schedules stand among all: names of one owner stand together.
fn prefix(owner: &Principal) -> String {
    format!("{}/{}/", owner.tenant, Digest::of(owner.subject.as_bytes()))
}

fn record_name(owner: &Principal, name: &str) -> String {
    prefix(owner) + name
}

/// The schedule in a record; `None` in an empty one.
pub(super) fn read(record: &Record) -> Result<Option<Kept>, StoreError> {
    if record.value.is_empty() {
        return Ok(None);
    }
    let schedule = serde_json::from_slice(&record.value).map_err(|error| {
        let message = format!("schedule {} cannot be read; it may be of a newer version", record.name);
        StoreError::new(StoreErrorKind::Corrupt, "record store", message).with_source(error)
    })?;
    Ok(Some(Kept { schedule, version: record.version }))
}

/// Writes a schedule; false when it was changed by another in between.
pub(super) async fn write(ports: &Ports, schedule: &Schedule, expect: Expect) -> Result<bool, EngineError> {
    let (name, value) = (record_name(&schedule.owner, &schedule.terms.name), text(schedule)?);
    let put = || ports.records.put(RecordKind::Schedule, &name, value.clone(), expect, None);
    Ok(matches!(persist("put", put).await?, Written::Ok { .. }))
}

fn text(schedule: &Schedule) -> Result<Bytes, InvalidTask> {
    let text = serde_json::to_vec(schedule);
    text.map(Bytes::from).map_err(|error| InvalidTask::new("task", format!("cannot be written as JSON: {error}")))
}

/// Writes what an owner has changed, and counts the change.
async fn change(ports: &Ports, schedule: Schedule, expect: Expect) -> Result<Schedule, EngineError> {
    let bytes = text(&schedule)?.len();
    if bytes > SCHEDULE_BYTES_MAX {
        let mend =
            format!("{bytes} bytes with its timetable is over the bound of {SCHEDULE_BYTES_MAX}; give it less input");
        return Err(InvalidTask::new("task", mend).into());
    }
    if !write(ports, &schedule, expect).await? {
        return Err(InvalidTask::new("name", "the schedule was changed at the same moment; try again").into());
    }
    let count = || ports.records.put(RecordKind::Schedule, CHANGES, Bytes::new(), Expect::Anything, None);
    if let Err(error) = persist("put", count).await {
        tracing::warn!(%error, "a change of a schedule is not counted; workers see it when they read all of them");
    }
    Ok(schedule)
}

/// Differs from what it was when an owner has changed a schedule since.
pub(super) async fn changes(ports: &Ports) -> Result<Option<u64>, StoreError> {
    Ok(ports.records.get(RecordKind::Schedule, CHANGES).await?.map(|record| record.version))
}

pub(super) async fn put(ports: &Ports, who: &Principal, terms: NewSchedule) -> Result<Schedule, EngineError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if terms.name.is_empty() || terms.name.len() > SCHEDULE_NAME_BYTES_MAX || !terms.name.chars().all(fits) {
        let mend = format!("must be 1 to {SCHEDULE_NAME_BYTES_MAX} of a-z A-Z 0-9 . _ -");
        return Err(InvalidTask::new("name", mend).into());
    }
    if terms.task.idempotency_key.is_some() {
        return Err(InvalidTask::new("idempotency_key", "leave it out: each time it fires has a key of its own").into());
    }
    ports.limits.check(&terms.task)?;
    let now = persist("now", || ports.records.now()).await?;
    if Timetable::new(&terms.cron, &terms.zone)?.next(now).is_none() {
        return Err(InvalidTask::new("cron", "it never comes due; name a day that there is").into());
    }
    let standing = ports.records.get(RecordKind::Schedule, &record_name(who, &terms.name)).await?;
    let expect = standing.as_ref().map_or(Expect::Absent, |record| Expect::Version(record.version));
    let mut schedule = match standing.as_ref().map(read).transpose()?.flatten() {
        Some(kept) => Schedule { terms, ..kept.schedule },
        None => {
            if count(ports, who).await? >= SCHEDULES_MAX {
                let mend = format!("there are {SCHEDULES_MAX} schedules already; delete one first");
                return Err(InvalidTask::new("name", mend).into());
            }
            let (owner, made) = (who.clone(), ports.entropy.next_u64());
            Schedule { terms, owner, made, next_at: None, last_at: None, last_job: None, last_error: None }
        }
    };
    schedule.move_on(now);
    change(ports, schedule, expect).await
}

/// How many schedules there are, at least up to the bound.
async fn count(ports: &Ports, who: &Principal) -> Result<usize, EngineError> {
    let prefix = prefix(who);
    let (mut found, mut after) = (0, prefix.clone());
    while found < SCHEDULES_MAX {
        let page = own(ports, &prefix, &after, RECORD_PAGE_MAX).await?;
        found += page.iter().filter(|record| !record.value.is_empty()).count();
        match page.last() {
            Some(last) if page.len() == usize::from(RECORD_PAGE_MAX) => after.clone_from(&last.name),
            _ => break,
        }
    }
    Ok(found)
}

/// Records of one owner after `after`, those of deleted schedules too; a short page is the last.
async fn own(ports: &Ports, prefix: &str, after: &str, max: u16) -> Result<Vec<Record>, StoreError> {
    let mut page = ports.records.list(RecordKind::Schedule, Some(after), max).await?;
    page.retain(|record| record.name.starts_with(prefix));
    Ok(page)
}

pub(super) async fn get(ports: &Ports, who: &Principal, name: &str) -> Result<Kept, EngineError> {
    let record = ports.records.get(RecordKind::Schedule, &record_name(who, name)).await?;
    let kept = record.as_ref().map(read).transpose()?.flatten();
    kept.ok_or(EngineError::NotFound { what: "schedule" })
}

pub(super) async fn list(
    ports: &Ports,
    who: &Principal,
    after: Option<&str>,
    max: u16,
) -> Result<Vec<Schedule>, EngineError> {
    let (prefix, max) = (prefix(who), max.min(RECORD_PAGE_MAX));
    let mut from = prefix.clone() + after.unwrap_or_default();
    let mut found = Vec::new();
    loop {
        let page = own(ports, &prefix, &from, max).await?;
        for record in &page {
            found.extend(read(record)?.map(|kept| kept.schedule));
        }
        match page.last() {
            Some(last) if found.len() < usize::from(max) && page.len() == usize::from(max) => {
                from.clone_from(&last.name);
            }
            _ => break,
        }
    }
    found.truncate(max.into());
    Ok(found)
}

pub(super) async fn pause(ports: &Ports, who: &Principal, name: &str, paused: bool) -> Result<Schedule, EngineError> {
    let Kept { mut schedule, version } = get(ports, who, name).await?;
    schedule.terms.paused = paused;
    schedule.move_on(persist("now", || ports.records.now()).await?);
    change(ports, schedule, Expect::Version(version)).await
}

pub(super) async fn delete(ports: &Ports, who: &Principal, name: &str) -> Result<(), EngineError> {
    get(ports, who, name).await?;
    let name = record_name(who, name);
    let empty = || ports.records.put(RecordKind::Schedule, &name, Bytes::new(), Expect::Anything, Some(DELETED_KEPT));
    persist("put", empty).await?;
    Ok(())
}
