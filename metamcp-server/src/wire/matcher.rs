//! The matcher that configuration asks for: the same for an engine, `metamcp route eval` and `metamcp route replay`.

use std::sync::Arc;

use metamcp_core::matching::{CapabilityMatcher, History, LearningMatcher, LexicalMatcher};

use crate::config::MatcherSection;

/// A matcher with these settings, which has learned nothing yet and keeps what it learns in memory.
#[must_use]
pub fn matcher(settings: &MatcherSection) -> Arc<dyn CapabilityMatcher> {
    let words = words(settings);
    if settings.learn { Arc::new(LearningMatcher::new(words, Arc::new(History::new()))) } else { words }
}

/// The part of it that learns nothing.
pub(super) fn words(settings: &MatcherSection) -> Arc<dyn CapabilityMatcher> {
    Arc::new(LexicalMatcher::with_synonyms(settings.synonyms.iter().map(String::as_str)))
}
