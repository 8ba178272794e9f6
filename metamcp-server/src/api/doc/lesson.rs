//! What was learned from the outcomes of tasks.

use metamcp_core::{
    id::{CapabilityId, JobId},
    matching::{Lesson, Verdict},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::moment::Moment;

/// What a call came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerdictDocument {
    /// The tool served the need.
    Served,
    /// The tool answered with an error.
    Refused,
}

/// One need that a tool served, or answered with an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LessonDocument {
    /// The need in words, cut to 512 bytes.
    pub need: String,
    /// `server/name`.
    #[schema(value_type = String)]
    pub tool: CapabilityId,
    /// What the call came to.
    pub verdict: VerdictDocument,
    /// When the call ended.
    #[schema(value_type = String, format = "date-time")]
    pub at: Moment,
    /// The task that made the call.
    #[schema(value_type = String, format = "uuid")]
    pub job: JobId,
    /// Who submitted the task, cut to 64 bytes.
    pub subject: String,
}

impl From<Lesson> for LessonDocument {
    fn from(lesson: Lesson) -> Self {
        let Lesson { need, capability, verdict, at, job, subject } = lesson;
        let verdict = if verdict == Verdict::Served { VerdictDocument::Served } else { VerdictDocument::Refused };
        Self { need, tool: capability, verdict, at: at.into(), job, subject }
    }
}

impl From<LessonDocument> for Lesson {
    fn from(document: LessonDocument) -> Self {
        let LessonDocument { need, tool, verdict, at, job, subject } = document;
        let verdict = match verdict {
            VerdictDocument::Served => Verdict::Served,
            VerdictDocument::Refused => Verdict::Refused,
        };
        Self { need, capability: tool, verdict, at: at.0, job, subject }
    }
}

/// A page of lessons.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LessonPage {
    /// The newest first.
    pub lessons: Vec<LessonDocument>,
    /// Asks for the next page; null on the last one.
    pub next_cursor: Option<String>,
}

/// Lessons to take in, such as another server's pages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewLessonsDocument {
    /// In any order; what is known already changes nothing.
    pub lessons: Vec<LessonDocument>,
}

/// How many lessons a request changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LessonsChanged {
    /// The number.
    pub lessons: usize,
}
