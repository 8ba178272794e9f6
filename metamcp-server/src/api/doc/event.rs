//! News of tasks as they are streamed. An event is news, not the truth: after a gap, read the task.

use metamcp_core::{
    event::{Event, EventKind},
    id::{CapabilityId, JobId},
    pointer::ResultPointer,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{job::ProgressDocument, moment::Moment, state::ErrorDocument};

/// Something that happened to a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EventDocument {
    /// Its place in the stream: grows, never given twice. Read on after it with `Last-Event-ID` or `after`.
    pub cursor: u64,
    /// When it was told.
    #[schema(value_type = String, format = DateTime)]
    pub at: Moment,
    /// The task it is about.
    #[schema(value_type = String, format = "uuid")]
    pub job: JobId,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKindDocument,
}

impl EventDocument {
    /// The document of an event; `None` for a kind that this server does not know.
    #[must_use]
    pub fn of(event: &Event) -> Option<Self> {
        let kind = EventKindDocument::of(&event.event.kind)?;
        Some(Self { cursor: event.cursor, at: event.at.into(), job: event.event.job, kind })
    }
}

/// What happened. New kinds may come: skip those you do not know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventKindDocument {
    /// The task was accepted.
    Queued,
    /// A worker called a tool for it.
    Started {
        /// The tool, `server/name`.
        #[schema(value_type = String)]
        tool: CapabilityId,
        /// Attempts that failed so far.
        attempts: u32,
    },
    /// The call has come further.
    Progress(ProgressDocument),
    /// The server asks something.
    InputRequired {
        /// The keys of what is asked.
        keys: Vec<String>,
    },
    /// It was answered or retried: it is queued again.
    Resumed,
    /// An attempt failed; there will be another.
    Retrying {
        /// Why it failed.
        error: ErrorDocument,
        /// When the next one is due, in milliseconds from the event.
        delay_ms: u64,
    },
    /// It was given back without counting.
    Released,
    /// It ended with a result.
    Completed {
        /// The pointer to it.
        #[schema(value_type = String)]
        result: ResultPointer,
    },
    /// It ended without one.
    Failed {
        /// Why.
        error: ErrorDocument,
    },
    /// It ended by its owner's wish.
    Cancelled {
        /// Why.
        reason: String,
    },
}

impl EventKindDocument {
    fn of(kind: &EventKind) -> Option<Self> {
        Some(match kind {
            EventKind::Queued => Self::Queued,
            EventKind::Started { capability, attempts } => {
                Self::Started { tool: capability.clone(), attempts: *attempts }
            }
            EventKind::Progress(progress) => Self::Progress(progress.into()),
            EventKind::InputRequired { keys } => Self::InputRequired { keys: keys.clone() },
            EventKind::Resumed => Self::Resumed,
            EventKind::Retrying { error, delay_ms } => Self::Retrying { error: error.into(), delay_ms: *delay_ms },
            EventKind::Released => Self::Released,
            EventKind::Completed { result } => Self::Completed { result: result.clone() },
            EventKind::Failed { error } => Self::Failed { error: error.into() },
            EventKind::Cancelled { reason } => Self::Cancelled { reason: reason.clone() },
            _ => return None,
        })
    }

    /// The word that names the kind, in `type` and in the `event` line of a stream.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Started { .. } => "started",
            Self::Progress(_) => "progress",
            Self::InputRequired { .. } => "input_required",
            Self::Resumed => "resumed",
            Self::Retrying { .. } => "retrying",
            Self::Released => "released",
            Self::Completed { .. } => "completed",
            Self::Failed { .. } => "failed",
            Self::Cancelled { .. } => "cancelled",
        }
    }
}

/// Events were dropped before they could be read: read the tasks anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename = "missed")]
pub struct MissedDocument {
    /// The place that was asked for.
    pub after: u64,
    /// The stream goes on after this place.
    pub next: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_of_an_event_is_its_name_and_it_reads_back() {
        let text = r#"{"cursor":7,"at":"2026-01-01T00:00:00.000Z","job":"01997f3e-5c1a-7d3e-9c55-0a1b2c3d4e5f","type":"retrying","error":{"code":"server_unavailable","message":"gone"},"delay_ms":1500}"#;
        let event: EventDocument = serde_json::from_str(text).unwrap();
        assert_eq!(event.kind.name(), "retrying");
        assert_eq!(serde_json::to_string(&event).unwrap(), text);
        let missed = MissedDocument { after: 1, next: 5 };
        assert_eq!(serde_json::to_string(&missed).unwrap(), r#"{"type":"missed","after":1,"next":5}"#);
    }
}
