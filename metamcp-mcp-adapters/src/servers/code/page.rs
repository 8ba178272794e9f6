//! One page of an answer: counts results and bytes, says when it is full, and carries what every answer tells beside
//! its results. Where a page starts and ends is told by a cursor; the results themselves stay with the tools.

use schemars::JsonSchema;
use serde::Serialize;

use super::config::CodeLimits;
use super::error::ToolError;
use super::input::PageInput;

/// Results of a page when the caller names no number.
const RESULTS_DEFAULT: usize = 200;
/// Most skipped files named in one answer; the rest is only counted.
const SKIPPED_NAMED_MAX: usize = 50;

/// What every listing answer tells beside its results.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(super) struct PageInfo {
    /// How many files were read and parsed for this answer.
    pub(super) files_scanned: usize,
    /// Files that were left out, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) skipped: Vec<Skipped>,
    /// Remarks on the answer, such as a limit that was met.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) notes: Vec<String>,
    /// True when there may be more than this answer tells.
    pub(super) truncated: bool,
    /// Give this as `cursor`, with the same arguments, to go on after this answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_cursor: Option<String>,
}

/// A file that was left out.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Skipped {
    path: String,
    reason: String,
}

/// A place between two results: the file, and how many of its results come before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) path: String,
    pub(super) skip: usize,
}

impl Cursor {
    fn parse(text: &str) -> Result<Self, ToolError> {
        let parsed = text.split_once('@').and_then(|(skip, path)| {
            let skip = skip.parse().ok()?;
            (!path.is_empty()).then(|| Self { path: path.to_owned(), skip })
        });
        parsed.ok_or_else(|| ToolError::new("cursor is not one of this server, give next_cursor as it was answered"))
    }

    fn write(&self) -> String {
        format!("{}@{}", self.skip, self.path)
    }
}

/// A page that is being filled.
#[derive(Debug)]
pub(super) struct Page {
    /// Where the page starts.
    pub(super) from: Option<Cursor>,
    pub(super) info: PageInfo,
    skipped_unnamed: usize,
    results: usize,
    results_max: usize,
    bytes: usize,
    bytes_max: usize,
    text: String,
}

impl Page {
    /// An empty page of the size asked for, within the limits.
    ///
    /// # Errors
    /// When `max_results` is 0 or the cursor is not one of ours.
    pub(super) fn new(input: &PageInput, limits: &CodeLimits) -> Result<Self, ToolError> {
        if input.max_results == Some(0) {
            return Err(ToolError::new("argument `max_results` must be at least 1"));
        }
        let from = input.cursor.as_deref().map(Cursor::parse).transpose()?;
        let results_max = input.max_results.unwrap_or(RESULTS_DEFAULT).min(limits.results_max);
        Ok(Self {
            from,
            info: PageInfo::default(),
            skipped_unnamed: 0,
            results: 0,
            results_max,
            bytes: 0,
            bytes_max: limits.output_bytes_max,
            text: String::new(),
        })
    }

    /// How many results still fit by number.
    pub(super) fn room(&self) -> usize {
        self.results_max - self.results
    }

    /// Counts a result and its line of text; false, with nothing counted, when it does not fit any more. The first
    /// result always fits, so that every page gets on.
    pub(super) fn push(&mut self, result: &impl Serialize, line: &str) -> bool {
        let size = serde_json::to_vec(result).map_or(0, |json| json.len()) + line.len() + 1;
        if self.results > 0 && (self.results >= self.results_max || self.bytes + size > self.bytes_max) {
            return false;
        }
        self.results += 1;
        self.bytes += size;
        self.line(line);
        true
    }

    /// Adds a line to the text form that is not a result, such as the heading of a file.
    pub(super) fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// Tells of a file that was left out.
    pub(super) fn skip(&mut self, path: &str, reason: String) {
        if self.info.skipped.len() < SKIPPED_NAMED_MAX {
            self.info.skipped.push(Skipped { path: path.to_owned(), reason });
        } else {
            self.skipped_unnamed += 1;
        }
    }

    /// Tells how to go on after this page.
    pub(super) fn go_on_at(&mut self, path: &str, skip: usize) {
        self.info.truncated = true;
        self.info.next_cursor = Some(Cursor { path: path.to_owned(), skip }.write());
    }

    /// Ends the page: its text form and what it tells beside the results. `none` is said when there is no result.
    pub(super) fn finish(mut self, none: &str) -> (String, PageInfo) {
        if self.skipped_unnamed > 0 {
            self.info.notes.push(format!("{} more files were skipped", self.skipped_unnamed));
        }
        let mut text = std::mem::take(&mut self.text);
        if self.results == 0 {
            text.push_str(none);
            text.push('\n');
        }
        for Skipped { path, reason } in &self.info.skipped {
            text.push_str(&format!("skipped {path}: {reason}\n"));
        }
        for note in &self.info.notes {
            text.push_str(&format!("note: {note}\n"));
        }
        if let Some(cursor) = &self.info.next_cursor {
            text.push_str(&format!("truncated: call again with cursor \"{cursor}\" to go on\n"));
        } else if self.info.truncated {
            text.push_str("truncated\n");
        }
        (text, self.info)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_writing_even_with_an_at_sign_in_the_path() {
        let cursor = Cursor { path: "a@b/c.rs".to_owned(), skip: 12 };
        assert_eq!(Cursor::parse(&cursor.write()).unwrap(), cursor);
        for broken in ["", "@", "1@", "x@a.rs", "-1@a.rs", "12"] {
            assert!(Cursor::parse(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn a_full_page_refuses_more_but_always_takes_one() {
        let limits = CodeLimits { output_bytes_max: 1, ..CodeLimits::default() };
        let mut page = Page::new(&PageInput::default(), &limits).unwrap();
        assert!(page.push(&"first", "first"));
        assert!(!page.push(&"second", "second"));

        let input = PageInput { max_results: Some(2), cursor: None };
        let mut page = Page::new(&input, &CodeLimits::default()).unwrap();
        assert!(page.push(&1, "") && page.push(&2, "") && !page.push(&3, ""));
        assert_eq!(page.room(), 0);
    }
}
