//! What handlers share: the engine, the bounds, the places for streams.

use std::{sync::Arc, time::Duration};

use metamcp_core::{
    engine::Orchestrator,
    matching::HistoryKeeper,
    time::{Clock, SystemClock},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    doc::{Moment, ProblemKind},
    options::ApiOptions,
    problem::Problem,
};

/// The state of the API. Cheap to clone; clones are the same state.
#[derive(Debug, Clone)]
pub struct ApiState {
    orchestrator: Orchestrator,
    options: Arc<ApiOptions>,
    streams: Arc<Semaphore>,
    clock: Arc<dyn Clock>,
    history: Option<Arc<HistoryKeeper>>,
}

impl ApiState {
    /// The API over this engine, within these bounds.
    #[must_use]
    pub fn new(orchestrator: Orchestrator, options: ApiOptions) -> Self {
        let streams = Arc::new(Semaphore::new(options.streams_max));
        let clock = Arc::new(SystemClock::default());
        Self { orchestrator, options: Arc::new(options), streams, clock, history: None }
    }

    /// The same, with what the matcher learned to look at.
    #[must_use]
    pub fn with_history(mut self, history: Arc<HistoryKeeper>) -> Self {
        self.history = Some(history);
        self
    }

    pub(super) const fn history(&self) -> Option<&Arc<HistoryKeeper>> {
        self.history.as_ref()
    }

    pub(super) const fn engine(&self) -> &Orchestrator {
        &self.orchestrator
    }

    pub(super) fn options(&self) -> &ApiOptions {
        &self.options
    }

    pub(super) fn now(&self) -> Moment {
        self.clock.now().into()
    }

    /// A place for one stream, given back when it is dropped.
    pub(super) fn stream_place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        if self.options.drain.is_cancelled() {
            return Err(Problem::new(ProblemKind::Stopping, "the server is stopping; connect again shortly"));
        }
        Arc::clone(&self.streams).try_acquire_owned().map_err(|_| {
            let detail = format!("all {} streams are open; try again later", self.options.streams_max);
            Problem::new(ProblemKind::TooManyStreams, detail)
        })
    }

    /// A wait a caller asks for; `field` is where it was asked.
    pub(super) fn wait(&self, wait_ms: Option<u64>) -> Result<Duration, String> {
        let (wait_ms, max) = (wait_ms.unwrap_or(0), self.options.wait_ms_max);
        if wait_ms > max {
            return Err(format!("{wait_ms} is not within 0 to {max}; ask again, or follow /api/events"));
        }
        Ok(Duration::from_millis(wait_ms))
    }
}
