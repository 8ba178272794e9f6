//! The matcher that configuration asks for: the same for an engine, `metamcp route eval` and `metamcp route replay`.

use std::sync::Arc;

use metamcp_core::matching::{CapabilityMatcher, LexicalMatcher};

use crate::config::MatcherSection;

/// A matcher with these settings.
#[must_use]
pub fn matcher(settings: &MatcherSection) -> Arc<dyn CapabilityMatcher> {
    Arc::new(LexicalMatcher::with_synonyms(settings.synonyms.iter().map(String::as_str)))
}
