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
    let table = table(settings)?;
    let words = words(settings, table.clone());
    if !settings.learn {
        return Ok(words);
    }
    let history = table.into_iter().fold(History::new(), History::with_table);
    Ok(Arc::new(LearningMatcher::new(words, Arc::new(history))))
}

/// The part of it that learns nothing.
pub(super) fn words(settings: &MatcherSection, table: Option<DenseTable>) -> Arc<dyn CapabilityMatcher> {
    let matcher = LexicalMatcher::with_synonyms(settings.synonyms.iter().map(String::as_str));
    Arc::new(table.into_iter().fold(matcher, LexicalMatcher::with_table))
}

/// The table of word vectors, unless meaning is left out.
///
/// # Errors
/// When the file that the settings name cannot be read.
pub(super) fn table(settings: &MatcherSection) -> Result<Option<DenseTable>> {
    if !settings.dense {
        return Ok(None);
    }
    let Some(path) = &settings.dense_table else { return Ok(Some(DenseTable::built_in())) };
    let bytes = std::fs::read(path).with_context(|| format!("matcher.dense_table: cannot read {}", path.display()))?;
    let table = DenseTable::from_bytes(&bytes).with_context(|| format!("matcher.dense_table: {}", path.display()))?;
    Ok(Some(table))
}
