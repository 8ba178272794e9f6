//! From a need to a ranked route: which tool of which server serves it best, with reasons, and why the others do not.
//!
//! [`CapabilityMatcher`] is the trait; [`Catalog`] is the immutable snapshot it ranks over; [`LexicalMatcher`] is the built-in
//! implementation. Matching reads nothing but who asks, the need and the snapshot: no call to a server, no clock.

mod capability;
mod catalog;
mod declared;
mod dense;
pub mod eval;
pub(crate) mod history;
mod lexical;
mod route;
mod schema;

use std::fmt;

use async_trait::async_trait;
pub use capability::{Annotations, Capability, InvalidDefinition, Locality, ServerTerms};
pub use catalog::Catalog;
pub use declared::GroupTool;
pub use dense::{DenseTable, InvalidTable};
pub use history::{History, LearningMatcher, Lesson, LessonFilter};
pub use lexical::LexicalMatcher;
pub(crate) use lexical::misfit;
pub use route::{Candidate, Outcome, REJECTED_MAX, ROUTE_CANDIDATES_MAX, Reason, Rejection, Route, Verdict};
pub(crate) use schema::UNKNOWN_INPUT;
pub use schema::{refusal, refusal_of_need};

use crate::{auth::Principal, task::Need};

/// A need that cannot be ranked at all. An empty route is an answer, not an error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("matcher failed: {message}")]
pub struct MatchError {
    /// What went wrong.
    pub message: String,
}

/// Ranks the capabilities of a catalogue for a need.
///
/// # Contract
/// - Best first, ties by capability id; the same need over the same snapshot gives the same route.
/// - Hard filters come first: an explicit `tool` admits only itself; an `inputSchema` that refuses the input, a lane or resources that do
///   not fit, reject the capability, with the reason. An input of `null` is one that nobody has made yet: it refuses nothing.
/// - At most [`ROUTE_CANDIDATES_MAX`] candidates and [`REJECTED_MAX`] rejections. No match is an empty route: an answer.
#[async_trait]
pub trait CapabilityMatcher: fmt::Debug + Send + Sync + 'static {
    /// The route for the `need` of `who` over `catalog`. What was learned from one tenant's jobs never moves another tenant's route.
    ///
    /// # Errors
    /// Only when the matcher itself fails; never because nothing fits.
    async fn rank(&self, who: &Principal, need: &Need, catalog: &Catalog) -> Result<Route, MatchError>;

    /// Learns from how a job went. May be forgotten; never changes a job.
    ///
    /// # Errors
    /// When the outcome could not be kept; the engine logs it and goes on.
    async fn observe(&self, outcome: &Outcome) -> Result<(), MatchError>;
}

#[cfg(test)]
mod dyn_compatible {
    fn _holds(_: Box<dyn super::CapabilityMatcher>) {}
}
