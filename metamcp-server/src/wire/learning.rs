//! What the matcher learns from outcomes, and the task that keeps it in the store.

use std::sync::Arc;

use metamcp_core::{
    engine::HistoryKeeper,
    matching::{CapabilityMatcher, DenseTable, LearningMatcher},
};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Stores;
use crate::config::MatcherSection;

/// What is learned in this process. Dropping it ends its task without waiting; [`Self::stop`] writes what is left first.
#[derive(Debug)]
pub(super) struct Learning {
    keeper: Arc<HistoryKeeper>,
    /// `None`: nothing is learned, what is known can only be looked at and removed.
    task: Option<(JoinHandle<()>, DropGuard)>,
}

impl Learning {
    /// Reads what is known, then goes on to read and write if learning is on. A store that cannot be read now is read later.
    ///
    /// With a table of word vectors it also knows what past needs were about.
    pub(super) async fn start(section: &MatcherSection, stores: &Stores, table: Option<DenseTable>) -> Self {
        let keeper = HistoryKeeper::new(Arc::clone(&stores.records));
        let keeper = Arc::new(table.into_iter().fold(keeper, HistoryKeeper::with_table));
        if !section.learn {
            return Self { keeper, task: None };
        }
        if let Err(error) = keeper.refresh().await {
            tracing::warn!(%error, "what was learned from outcomes could not be read; it is tried again");
        }
        let (stop, running) = (CancellationToken::new(), Arc::clone(&keeper));
        let task = tokio::spawn({
            let stop = stop.clone();
            async move { running.run(stop).await }
        });
        Self { keeper, task: Some((task, stop.drop_guard())) }
    }

    pub(super) const fn keeper(&self) -> &Arc<HistoryKeeper> {
        &self.keeper
    }

    /// A matcher with what was learned, if learning is on.
    pub(super) fn matcher(&self, words: Arc<dyn CapabilityMatcher>) -> Arc<dyn CapabilityMatcher> {
        match self.task {
            Some(_) => Arc::new(LearningMatcher::new(words, Arc::clone(self.keeper.history()))),
            None => words,
        }
    }

    /// Writes what is left and ends.
    pub(super) async fn stop(self) {
        let Some((task, stop)) = self.task else { return };
        drop(stop);
        if let Err(error) = task.await {
            tracing::error!(%error, "what was learned last is not written");
        }
    }
}
