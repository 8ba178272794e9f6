//! What one call taught: the unit that is kept, exported, shown and removed.

use serde::{Deserialize, Serialize};

use crate::{
    id::{CapabilityId, JobId},
    matching::{Outcome, Verdict},
    time::Timestamp,
};

/// As much of a need is remembered, in bytes.
const LESSON_NEED_BYTES_MAX: usize = 512;
/// As much of the subject's name is remembered, in bytes.
const LESSON_SUBJECT_BYTES_MAX: usize = 64;

/// One need that a capability served, or answered with an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lesson {
    /// The need in words, cut to 512 bytes.
    pub need: String,
    /// `server/tool`.
    pub capability: CapabilityId,
    /// What the call came to.
    pub verdict: Verdict,
    /// When the call ended.
    pub at: Timestamp,
    /// The job that made the call.
    pub job: JobId,
    /// Who submitted the job, cut to 64 bytes.
    pub subject: String,
}

impl Lesson {
    /// What the outcome teaches; `None` when it tells of the server only, or its need has no words.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Option<Self> {
        if outcome.verdict == Verdict::Unreached || outcome.need.text.trim().is_empty() {
            return None;
        }
        let lesson = Self {
            need: outcome.need.text.clone(),
            capability: outcome.capability.clone(),
            verdict: outcome.verdict,
            at: outcome.at,
            job: outcome.job,
            subject: outcome.owner.subject.clone(),
        };
        Some(lesson.bounded())
    }

    /// The same within the bounds.
    pub(super) fn bounded(mut self) -> Self {
        self.need.truncate(self.need.floor_char_boundary(LESSON_NEED_BYTES_MAX));
        self.subject.truncate(self.subject.floor_char_boundary(LESSON_SUBJECT_BYTES_MAX));
        self
    }
}

/// Which lessons are meant: those of which everything given holds; without anything given all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LessonFilter {
    /// Of this capability.
    pub capability: Option<CapabilityId>,
    /// Of this job.
    pub job: Option<JobId>,
    /// Of this subject.
    pub subject: Option<String>,
    /// Learned at this instant or later.
    pub since: Option<Timestamp>,
    /// Learned before this instant.
    pub before: Option<Timestamp>,
}

impl LessonFilter {
    /// Whether the lesson is meant.
    #[must_use]
    pub fn admits(&self, lesson: &Lesson) -> bool {
        self.capability.as_ref().is_none_or(|c| *c == lesson.capability)
            && self.job.is_none_or(|job| job == lesson.job)
            && self.subject.as_ref().is_none_or(|subject| *subject == lesson.subject)
            && self.since.is_none_or(|since| lesson.at >= since)
            && self.before.is_none_or(|before| lesson.at < before)
    }
}
