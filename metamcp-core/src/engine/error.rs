//! Why the engine refuses a request: what is wrong and what to change. Faces map it to their own shapes.

use super::batch_id::BatchId;
use crate::{
    error::StoreError,
    id::{InvalidName, JobId, Lane},
    matching::{MatchError, Route},
    queue::JobState,
    task::InvalidTask,
};

/// A refused or failed request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The task breaks a bound.
    #[error(transparent)]
    Invalid(#[from] InvalidTask),
    /// A name or a pointer does not have the required form.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// No capability fits; the route tells which were rejected and why.
    #[error("no capability fits this need: {}", hint(.0))]
    NoMatch(Box<Route>),
    /// The idempotency key was used for another request.
    #[error("idempotency_key: it belongs to job {job}, which asked for something else; use a new key")]
    Conflict {
        /// The job that has the key.
        job: JobId,
    },
    /// The idempotency key was used for another batch.
    #[error("idempotency_key: it belongs to batch {batch}, which asked for something else; use a new key")]
    BatchConflict {
        /// The batch that has the key.
        batch: BatchId,
    },
    /// The lane is full.
    #[error("lane `{lane}` holds its {limit} jobs; try again later or use another lane")]
    Full {
        /// The lane.
        lane: Lane,
        /// Its bound, in jobs.
        limit: u64,
    },
    /// There is no such thing, or it is not the caller's.
    #[error("{what} not found")]
    NotFound {
        /// What was asked for.
        what: &'static str,
    },
    /// The job's state does not allow it.
    #[error("the task is {state:?}; {mend}")]
    State {
        /// Where the job stands.
        state: JobState,
        /// What could be done instead.
        mend: &'static str,
    },
    /// The process is stopping.
    #[error("stopping; try again shortly")]
    Stopping,
    /// The matcher failed.
    #[error(transparent)]
    Match(#[from] MatchError),
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn hint(route: &Route) -> String {
    match route.rejected.first() {
        Some(best) => format!("{} was rejected: {}", best.capability, best.reason),
        None => "say it in other words, name a `tool`, or configure a server that can do it".to_owned(),
    }
}
