//! Reads JSON Lines with a bound on each line and on the whole, and tells file and line of what is wrong.

use std::io::{BufRead, Read as _};

use serde::de::DeserializeOwned;

use super::EvalError;

/// Longest line, in bytes.
pub const LINE_BYTES_MAX: usize = 1 << 20;
/// Largest file, in bytes.
pub const FILE_BYTES_MAX: u64 = 256 << 20;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The lines of one file, read one at a time.
pub(super) struct Lines<'a, R> {
    file: &'a str,
    from: R,
    line: u64,
    bytes: u64,
    buffer: Vec<u8>,
}

impl<'a, R: BufRead> Lines<'a, R> {
    pub(super) const fn new(file: &'a str, from: R) -> Self {
        Self { file, from, line: 0, bytes: 0, buffer: Vec::new() }
    }

    /// The next line that is not blank, as `T`; `form` says what a line looks like.
    pub(super) fn next<T: DeserializeOwned>(&mut self, form: &str) -> Result<Option<T>, EvalError> {
        while self.read()? {
            let text = if self.line == 1 {
                self.buffer.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&self.buffer)
            } else {
                &self.buffer
            };
            if text.trim_ascii().is_empty() {
                continue;
            }
            return serde_json::from_slice(text)
                .map(Some)
                .map_err(|error| self.wrong(format!("{error}; write {form} on one line")));
        }
        Ok(None)
    }

    /// The current line is wrong.
    pub(super) fn wrong(&self, mend: String) -> EvalError {
        EvalError::Line { file: self.file.to_owned(), line: self.line, mend }
    }

    /// The file as a whole is wrong.
    pub(super) fn wrong_file(&self, mend: String) -> EvalError {
        EvalError::File { file: self.file.to_owned(), mend }
    }

    fn read(&mut self) -> Result<bool, EvalError> {
        self.buffer.clear();
        self.line += 1;
        let most = LINE_BYTES_MAX as u64 + 1;
        let read = self.from.by_ref().take(most).read_until(b'\n', &mut self.buffer);
        let read = read.map_err(|source| EvalError::Io { file: self.file.to_owned(), source })?;
        if read > LINE_BYTES_MAX {
            return Err(self.wrong(format!("has over {LINE_BYTES_MAX} bytes; shorten it or leave it out")));
        }
        self.bytes += read as u64;
        if self.bytes > FILE_BYTES_MAX {
            return Err(self.wrong_file(format!("has over {FILE_BYTES_MAX} bytes; split it")));
        }
        Ok(read > 0)
    }
}
