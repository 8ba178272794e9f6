//! Why an evaluation cannot be made.

use std::io;

use super::super::MatchError;

/// Why it cannot be made, with the place to mend.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// A line of a file is not as it must be.
    #[error("{file}:{line}: {mend}")]
    Line {
        /// What the file is called.
        file: String,
        /// Which line, from 1.
        line: u64,
        /// What is wrong with it, and what to change.
        mend: String,
    },
    /// A file as a whole is not as it must be.
    #[error("{file}: {mend}")]
    File {
        /// What the file is called.
        file: String,
        /// What is wrong with it, and what to change.
        mend: String,
    },
    /// A file cannot be read.
    #[error("{file}: cannot be read: {source}")]
    Io {
        /// What the file is called.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// There is nothing to do.
    #[error("there is no {what}; name a file that holds some")]
    Nothing {
        /// What is missing.
        what: &'static str,
    },
    /// The matcher failed.
    #[error(transparent)]
    Match(#[from] MatchError),
}
