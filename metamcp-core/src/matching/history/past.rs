//! Past needs, each with the few lessons that count of it, and what they come to.

use std::sync::Arc;

use super::lesson::Lesson;
use crate::{id::JobId, matching::Verdict, time::Timestamp};

/// Lessons of one need and capability that count: the newest.
const LESSONS_MAX: usize = 8;
/// Of these, as many of one subject: who asks the same again and again does not outweigh the others.
const LESSONS_OF_SUBJECT_MAX: usize = 2;

/// A past need as it is scored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weighed {
    /// Number of the capability.
    pub capability: u32,
    /// Forward weight: what served less what was refused.
    pub net: f32,
    /// Forward weight: what served and what was refused.
    pub tried: f32,
    /// One by the root of its squared term weights.
    pub norm: f32,
    /// Its term weights together, each by that root.
    pub mass: f32,
    pub served: u8,
    pub refused: u8,
}

/// What is known of a capability, or of all, in forward weights.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Known {
    /// Of what it served.
    pub served: f64,
    /// Of the words that were said when it served.
    pub mass: f64,
    /// Of what it served or answered with an error.
    pub tried: f64,
}

impl Known {
    pub(super) fn add(&mut self, change: &Self) {
        self.served += change.served;
        self.mass += change.mass;
        self.tried += change.tried;
    }
}

/// A past need with the lessons it stands for.
#[derive(Debug)]
pub(super) struct Past {
    pub terms: Arc<[u32]>,
    /// The newest first.
    pub lessons: Vec<Lesson>,
}

impl Past {
    /// Something of its own that does not depend on the order of learning.
    pub(super) fn key(&self) -> Option<(Timestamp, JobId)> {
        self.lessons.first().map(|newest| (newest.at, newest.job))
    }
}

/// Keeps the newest few, and fewer of one subject; answers whether the lesson is among them and was not before.
pub(super) fn remember(lessons: &mut Vec<Lesson>, lesson: Lesson) -> bool {
    let key = |l: &Lesson| (l.at, l.job, l.verdict == Verdict::Served);
    let at = lessons.partition_point(|known| key(known) > key(&lesson));
    if lessons.get(at).is_some_and(|known| key(known) == key(&lesson)) {
        return false;
    }
    let newer = lessons[..at].iter().filter(|known| known.subject == lesson.subject).count();
    if at == LESSONS_MAX || newer == LESSONS_OF_SUBJECT_MAX {
        return false;
    }
    let subject = lesson.subject.clone();
    lessons.insert(at, lesson);
    let mut of_subject = 0;
    lessons.retain(|known| {
        of_subject += usize::from(known.subject == subject);
        known.subject != subject || of_subject <= LESSONS_OF_SUBJECT_MAX
    });
    lessons.truncate(LESSONS_MAX);
    true
}
