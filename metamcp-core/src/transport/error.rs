//! What went wrong with a call, and above all what is known of its delivery: that alone decides whether it may be made again.

use std::{error::Error as StdError, time::Duration};

/// Whether the far side may have acted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    /// The call never left: it can be made again freely.
    No,
    /// It may have happened: it can be made again only if that does no harm.
    Maybe,
    /// The far side answered: it can be made again only if the answer says so.
    Yes,
}

/// The kind of failure.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransportErrorKind {
    /// The server cannot be reached or started.
    Connect,
    /// The connection ended while an answer was awaited.
    Closed,
    /// No answer came in time.
    Timeout,
    /// The far side broke the protocol.
    Protocol,
    /// The far side answered with a JSON-RPC error.
    Rejected {
        /// Its code.
        code: i64,
    },
    /// The far side asks to come back later.
    Busy,
    /// An answer is larger than the bound.
    TooLarge,
    /// The request cannot be made as asked.
    Invalid,
}

/// A failed call.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct TransportError {
    /// The kind of failure.
    pub kind: TransportErrorKind,
    /// What is known of the delivery.
    pub delivered: Delivered,
    /// In words; names the server.
    pub message: String,
    /// The far side's wish for a pause before the next call.
    pub retry_after: Option<Duration>,
    /// The cause.
    #[source]
    pub source: Option<Box<dyn StdError + Send + Sync>>,
}

impl TransportError {
    /// A failure of this kind.
    #[must_use]
    pub fn new(kind: TransportErrorKind, delivered: Delivered, message: impl Into<String>) -> Self {
        Self { kind, delivered, message: message.into(), retry_after: None, source: None }
    }

    /// With its cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// With the far side's wish for a pause.
    #[must_use]
    pub const fn with_retry_after(mut self, retry_after: Option<Duration>) -> Self {
        self.retry_after = retry_after;
        self
    }
}
