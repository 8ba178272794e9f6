//! The matcher that configuration asks for: the same for an engine, `metamcp route eval` and `metamcp route replay`.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use metamcp_core::matching::{CapabilityMatcher, DenseTable, History, LearningMatcher, LexicalMatcher};

use crate::config::MatcherSection;

/// A matcher with these settings, which has learned nothing yet and keeps what it learns in memory.
///
/// # Errors
/// When the table of word vectors that they name cannot be read.
pub fn matcher(settings: &MatcherSection) -> Result<Arc<dyn CapabilityMatcher>> {
    let words = words(settings)?;
    Ok(if settings.learn { Arc::new(LearningMatcher::new(words, Arc::new(History::new()))) } else { words })
}

/// The part of it that learns nothing.
pub(super) fn words(settings: &MatcherSection) -> Result<Arc<dyn CapabilityMatcher>> {
    let matcher = LexicalMatcher::with_synonyms(settings.synonyms.iter().map(String::as_str));
    if !settings.dense {
        return Ok(Arc::new(matcher));
    }
    let table = match &settings.dense_table {
        Some(path) => {
            let bytes =
                std::fs::read(path).with_context(|| format!("matcher.dense_table: cannot read {}", path.display()))?;
            DenseTable::from_bytes(&bytes).with_context(|| format!("matcher.dense_table: {}", path.display()))?
        }
        None => DenseTable::built_in(),
    };
    Ok(Arc::new(matcher.with_table(table)))
}
