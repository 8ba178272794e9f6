//! What a code server may read and how much of it: the roots and the limits, with their defaults.
//! Checking that the roots exist is the work of `roots`.

use std::path::PathBuf;

use super::error::CodeServerError;

/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Most files read in one call; a larger folder is answered in pages.
const FILES_MAX: usize = 5_000;
/// Most folder entries looked at in one call.
const ENTRIES_MAX: usize = 200_000;
/// Largest source text given in the call itself, in bytes.
const TEXT_BYTES_MAX: usize = 1024 * 1024;
/// Deepest nesting that is answered: outline levels and levels of a printed syntax tree.
const DEPTH_MAX: usize = 32;
/// Most results in one answer.
const RESULTS_MAX: usize = 1_000;
/// Size an answer may reach, in bytes of its structured and its text form together.
const OUTPUT_BYTES_MAX: usize = 512 * 1024;
/// Longest time one call may work, in milliseconds.
const CALL_MS_MAX: u64 = 20_000;
/// Longest tree-sitter query, in bytes.
const QUERY_BYTES_MAX: usize = 8 * 1024;
/// Most matches a tree-sitter query may have in progress at once.
const QUERY_MATCHES_MAX: u32 = 4_096;
/// Most calls working at the same time; further ones wait.
const CALLS_MAX: usize = 4;

/// Upper bound of `query_matches_max`, set by tree-sitter.
const QUERY_MATCHES_CEILING: u32 = 65_536;
/// Upper bound of `depth_max`: JSON readers commonly refuse more than 128 levels and an outline level costs two.
const DEPTH_CEILING: usize = 48;

/// What a [`CodeServer`](super::CodeServer) serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeConfig {
    /// Folders below which files may be read. Relative paths of a call are looked up in them in this order.
    pub roots: Vec<PathBuf>,
    /// Bounds of every call.
    pub limits: CodeLimits,
}

impl CodeConfig {
    /// Serves these roots with the default limits.
    pub fn new(roots: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        Self { roots: roots.into_iter().map(Into::into).collect(), limits: CodeLimits::default() }
    }
}

/// Bounds of one call; each must be at least 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeLimits {
    /// Largest file read, in bytes; larger ones are named as skipped.
    pub file_bytes_max: usize,
    /// Most files read in one call; the rest is reached with the answer's cursor.
    pub files_max: usize,
    /// Most entries looked at while a folder is listed.
    pub entries_max: usize,
    /// Largest inline source text, in bytes.
    pub text_bytes_max: usize,
    /// Deepest nesting answered, at most 48; deeper definitions are told at this level.
    pub depth_max: usize,
    /// Most results in one answer, whatever the caller asks for.
    pub results_max: usize,
    /// Size at which an answer is cut, in bytes of structured and text form together.
    pub output_bytes_max: usize,
    /// Longest time one call may work, in milliseconds.
    pub call_ms_max: u64,
    /// Longest tree-sitter query, in bytes.
    pub query_bytes_max: usize,
    /// Most matches a query may have in progress at once, at most 65,536.
    pub query_matches_max: u32,
    /// Most calls working at the same time; further ones wait for a place.
    pub calls_max: usize,
}

impl Default for CodeLimits {
    fn default() -> Self {
        Self {
            file_bytes_max: FILE_BYTES_MAX,
            files_max: FILES_MAX,
            entries_max: ENTRIES_MAX,
            text_bytes_max: TEXT_BYTES_MAX,
            depth_max: DEPTH_MAX,
            results_max: RESULTS_MAX,
            output_bytes_max: OUTPUT_BYTES_MAX,
            call_ms_max: CALL_MS_MAX,
            query_bytes_max: QUERY_BYTES_MAX,
            query_matches_max: QUERY_MATCHES_MAX,
            calls_max: CALLS_MAX,
        }
    }
}

impl CodeLimits {
    /// Refuses limits that no call could meet.
    pub(super) fn check(&self) -> Result<(), CodeServerError> {
        let at_least_one = [
            ("file_bytes_max", self.file_bytes_max),
            ("files_max", self.files_max),
            ("entries_max", self.entries_max),
            ("text_bytes_max", self.text_bytes_max),
            ("depth_max", self.depth_max),
            ("results_max", self.results_max),
            ("output_bytes_max", self.output_bytes_max),
            ("call_ms_max", usize::try_from(self.call_ms_max).unwrap_or(usize::MAX)),
            ("query_bytes_max", self.query_bytes_max),
            ("query_matches_max", self.query_matches_max as usize),
            ("calls_max", self.calls_max),
        ];
        if let Some((name, _)) = at_least_one.into_iter().find(|(_, value)| *value == 0) {
            return Err(CodeServerError::Limit { name, why: "must be at least 1".to_owned() });
        }
        if self.depth_max > DEPTH_CEILING {
            return Err(CodeServerError::Limit { name: "depth_max", why: format!("must be at most {DEPTH_CEILING}") });
        }
        if self.query_matches_max > QUERY_MATCHES_CEILING {
            let why = format!("must be at most {QUERY_MATCHES_CEILING}");
            return Err(CodeServerError::Limit { name: "query_matches_max", why });
        }
        // Positions are 32 bits wide in tree-sitter.
        if self.file_bytes_max.max(self.text_bytes_max) > u32::MAX as usize / 2 {
            let why = "must be at most 2 GiB, as text_bytes_max must".to_owned();
            return Err(CodeServerError::Limit { name: "file_bytes_max", why });
        }
        Ok(())
    }
}
