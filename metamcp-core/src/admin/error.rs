//! Why something done to a whole store came to a stop.

use std::io;

use crate::{error::StoreError, pointer::ResultPointer, queue::LANES_TOLD_MAX};

/// Why it stopped. What was done until then stays; the same call again goes on from there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A store refuses a result.
    #[error("result {pointer} is not taken in")]
    Result {
        /// The result.
        pointer: Box<ResultPointer>,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// The file cannot be read or written.
    #[error("the file cannot be read or written")]
    Io(#[from] io::Error),
    /// A line of a file is not as it was written.
    #[error("line {line}: {why}")]
    Line {
        /// Which one, from 1.
        line: u64,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// Workers hold jobs.
    #[error(
        "{leased} jobs are held by workers; stop the workers and migrate when their leases are over, or force it: what they do from now on \
         is not moved"
    )]
    Held {
        /// How many.
        leased: u64,
    },
    /// The store has more lanes than it tells of.
    #[error(
        "the store tells of {LANES_TOLD_MAX} lanes and may have more, whose pauses would be lost; resume or drain lanes first"
    )]
    Lanes,
}
