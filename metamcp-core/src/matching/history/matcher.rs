//! A matcher that learns: another one finds by words, the past moves what it found and brings in what it missed.

use std::sync::Arc;

use async_trait::async_trait;

use super::{History, Lesson, fuse::fuse};
use crate::{
    auth::Principal,
    id::CapabilityId,
    matching::{CapabilityMatcher, Catalog, MatchError, Outcome, Route},
    task::Need,
};

/// Ranks with `inner` and with what the tenant's jobs taught.
///
/// # Cancel safety
/// As `inner`'s.
#[derive(Debug, Clone)]
pub struct LearningMatcher {
    inner: Arc<dyn CapabilityMatcher>,
    history: Arc<History>,
}

impl LearningMatcher {
    /// Learns into `history`, and ranks with it over what `inner` finds. To keep it, take the history of a `HistoryKeeper`.
    #[must_use]
    pub fn new(inner: Arc<dyn CapabilityMatcher>, history: Arc<History>) -> Self {
        Self { inner, history }
    }

    /// What was learned.
    #[must_use]
    pub const fn history(&self) -> &Arc<History> {
        &self.history
    }
}

#[async_trait]
impl CapabilityMatcher for LearningMatcher {
    async fn rank(&self, who: &Principal, need: &Need, catalog: &Catalog) -> Result<Route, MatchError> {
        let found = self.inner.rank(who, need, catalog).await?;
        if need.tool.is_some() || need.text.trim().is_empty() {
            return Ok(found);
        }
        let asked: Vec<&CapabilityId> = found.candidates.iter().map(|c| &c.capability).collect();
        let recall = self.history.recall(&who.tenant, need, catalog, &asked);
        Ok(fuse(need, found, recall))
    }

    async fn observe(&self, outcome: &Outcome) -> Result<(), MatchError> {
        if let Some(lesson) = Lesson::of(outcome) {
            self.history.learn(&outcome.owner.tenant, lesson);
        }
        self.inner.observe(outcome).await
    }
}
