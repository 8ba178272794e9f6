//! Recurring tasks: a task, a timetable, and what became of the last time.

use metamcp_core::{
    engine::{Missed, NewSchedule, Overlap, Schedule},
    id::JobId,
    task::Task,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{moment::Moment, task::TaskDocument};

/// What happens to instants at which no worker ran.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MissedInstants {
    /// Nothing, but for the last one when it is no older than a minute.
    Skip,
    /// The last one is made up for.
    #[default]
    Last,
    /// All are, at most the last 100.
    All,
}

impl From<MissedInstants> for Missed {
    fn from(missed: MissedInstants) -> Self {
        match missed {
            MissedInstants::Skip => Self::Skip,
            MissedInstants::Last => Self::Last,
            MissedInstants::All => Self::All,
        }
    }
}

impl From<Missed> for MissedInstants {
    fn from(missed: Missed) -> Self {
        match missed {
            Missed::Skip => Self::Skip,
            Missed::Last => Self::Last,
            Missed::All => Self::All,
        }
    }
}

/// Whether an instant is served while the task of the one before has not ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OverlapDocument {
    /// It is.
    #[default]
    Allow,
    /// It is left out.
    Skip,
}

impl From<OverlapDocument> for Overlap {
    fn from(overlap: OverlapDocument) -> Self {
        match overlap {
            OverlapDocument::Allow => Self::Allow,
            OverlapDocument::Skip => Self::Skip,
        }
    }
}

impl From<Overlap> for OverlapDocument {
    fn from(overlap: Overlap) -> Self {
        match overlap {
            Overlap::Allow => Self::Allow,
            Overlap::Skip => Self::Skip,
        }
    }
}

/// What a caller says of a recurring task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleTerms {
    /// When: `minute hour day month weekday`, with seconds before them if six.
    #[schema(example = "*/15 8-18 * * MON-FRI")]
    pub cron: String,
    /// The time zone it is read in, an IANA name; UTC unless given.
    #[serde(default = "utc")]
    #[schema(default = "UTC", example = "Europe/Berlin")]
    pub zone: String,
    /// What is submitted each time. It has no `not_before`, no `wait_ms` and no `idempotency_key`.
    pub task: TaskDocument,
    /// What happens to missed instants.
    #[serde(default)]
    pub missed: MissedInstants,
    /// Whether its tasks may overlap.
    #[serde(default)]
    pub overlap: OverlapDocument,
    /// It does not fire.
    #[serde(default)]
    pub paused: bool,
}

fn utc() -> String {
    "UTC".to_owned()
}

impl ScheduleTerms {
    /// The schedule of this name, with this task, as the engine takes it.
    #[must_use]
    pub fn into_schedule(self, name: String, task: Task) -> NewSchedule {
        NewSchedule {
            name,
            cron: self.cron,
            zone: self.zone,
            task,
            missed: self.missed.into(),
            overlap: self.overlap.into(),
            paused: self.paused,
        }
    }
}

/// A recurring task as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ScheduleDocument {
    /// Names it among its owner's.
    pub name: String,
    /// When it fires.
    pub cron: String,
    /// In which time zone.
    pub zone: String,
    /// What is submitted each time.
    pub task: TaskDocument,
    /// What happens to missed instants.
    pub missed: MissedInstants,
    /// Whether its tasks may overlap.
    pub overlap: OverlapDocument,
    /// It does not fire.
    pub paused: bool,
    /// When it fires next; null: never, as when it is paused.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_at: Option<Moment>,
    /// The last time that became a task.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_at: Option<Moment>,
    /// That task.
    #[schema(value_type = Option<String>, format = "uuid")]
    pub last_job: Option<JobId>,
    /// Why the last time became none.
    pub last_error: Option<String>,
}

impl From<&Schedule> for ScheduleDocument {
    fn from(schedule: &Schedule) -> Self {
        let terms = &schedule.terms;
        Self {
            name: terms.name.clone(),
            cron: terms.cron.clone(),
            zone: terms.zone.clone(),
            task: (&terms.task).into(),
            missed: terms.missed.into(),
            overlap: terms.overlap.into(),
            paused: terms.paused,
            next_at: schedule.next_at.map(Into::into),
            last_at: schedule.last_at.map(Into::into),
            last_job: schedule.last_job,
            last_error: schedule.last_error.clone(),
        }
    }
}

/// One page of recurring tasks, ordered by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SchedulePage {
    /// The schedules.
    pub schedules: Vec<ScheduleDocument>,
    /// Ask on with `cursor` set to this; null: there are no more. A page may be empty.
    pub next_cursor: Option<String>,
}
