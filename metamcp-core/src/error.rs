//! The error of stores: what kind it is and whether trying again can help. A backend's own errors are mapped to it once, at its edge.

use std::{error::Error as StdError, sync::Arc};

/// What went wrong in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// Cannot be reached or is busy; the call may or may not have happened. Every store call is safe to repeat.
    Unavailable,
    /// Has no room for what is new; what ends jobs it still takes. Nothing was done, and trying again helps once there is room.
    Full,
    /// The call itself is wrong; repeating it will fail again.
    Invalid,
    /// There is no such thing.
    NotFound,
    /// What is stored cannot be read: damage, or a form of a newer version.
    Corrupt,
    /// The store was closed, or failed so that it must be opened again.
    Closed,
}

/// A store's failure, with its cause. Clones are the same failure: one batch may serve many callers.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{store}: {message}")]
pub struct StoreError {
    kind: StoreErrorKind,
    store: &'static str,
    message: String,
    #[source]
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl StoreError {
    /// An error of `store`.
    #[must_use]
    pub fn new(kind: StoreErrorKind, store: &'static str, message: impl Into<String>) -> Self {
        Self { kind, store, message: message.into(), source: None }
    }

    /// With its cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// What went wrong.
    #[must_use]
    pub const fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Whether repeating the same call can help, at once or later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, StoreErrorKind::Unavailable | StoreErrorKind::Full)
    }

    /// Whether the thing asked for is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.kind == StoreErrorKind::NotFound
    }
}

/// The result of a store call.
pub type StoreResult<T> = Result<T, StoreError>;
