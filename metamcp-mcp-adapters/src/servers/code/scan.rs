//! Goes over the files of a call in order, one page at a time: reads each, hands it to the tool, and decides what a
//! full page, an unreadable file, the end of time or a cancellation means. What is looked for is the tool's business.

use super::budget::{Budget, Stop};
use super::config::CodeLimits;
use super::error::ToolError;
use super::input::ScopeInput;
use super::language::Language;
use super::page::{Cursor, Page};
use super::roots::Roots;
use super::source::{self, Folder, Source, TEXT_PATH};

/// How many files lie between two progress reports.
const PROGRESS_FILES: usize = 16;

/// Told how many files of how many are done.
pub(super) type Progress<'a> = &'a (dyn Fn(usize, usize) + Sync);

/// What every call has at hand.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) roots: &'a Roots,
    pub(super) limits: &'a CodeLimits,
    pub(super) budget: &'a Budget,
    pub(super) progress: Progress<'a>,
}

/// One file as a tool sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opened<'a> {
    pub(super) path: &'a str,
    pub(super) language: Language,
    pub(super) text: &'a str,
}

/// How far a tool came in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reached {
    /// Everything of this file is on the page.
    End,
    /// The page is full; this many results of the file are on this page or an earlier one.
    Full(usize),
}

/// Calls `tool(file, skip, page)` for each file until the page is full. A tool puts results on the page only after its
/// last look at the budget, so that a file stopped half-way leaves nothing behind.
///
/// # Errors
/// When the arguments are refused, a file named by the caller cannot be read, or the call was cancelled.
pub(super) fn scan(
    cx: Context<'_>,
    source: &Source,
    page: &mut Page,
    mut tool: impl FnMut(Opened<'_>, usize, &mut Page) -> Result<Reached, Stop>,
) -> Result<(), ToolError> {
    match source {
        Source::Text(language, text) => {
            let opened = Opened { path: TEXT_PATH, language: *language, text };
            scan_one(opened, page, &mut tool)
        }
        Source::File(file) => {
            let text = source::read(file, cx.roots, cx.limits)
                .map_err(|reason| ToolError(format!("file `{}` {reason}", file.display)))?;
            scan_one(Opened { path: &file.display, language: file.language, text: &text }, page, &mut tool)
        }
        Source::Folder(folder) => scan_folder(cx, folder, page, &mut tool),
    }
}

/// Finds what the arguments name; see [`source::find`].
pub(super) fn find(cx: Context<'_>, input: ScopeInput) -> Result<Source, ToolError> {
    source::find(input, cx.roots, cx.limits, cx.budget)
}

fn scan_one(
    opened: Opened<'_>,
    page: &mut Page,
    tool: &mut impl FnMut(Opened<'_>, usize, &mut Page) -> Result<Reached, Stop>,
) -> Result<(), ToolError> {
    let skip = match &page.from {
        Some(cursor) if cursor.path != opened.path => {
            return Err(ToolError::new(
                "cursor belongs to another path, give it with the arguments it was answered to",
            ));
        }
        Some(cursor) => cursor.skip,
        None => 0,
    };
    if let Reached::Full(done) = tool(opened, skip, page)? {
        page.go_on_at(opened.path, done);
    }
    page.info.files_scanned = 1;
    Ok(())
}

fn scan_folder(
    cx: Context<'_>,
    folder: &Folder,
    page: &mut Page,
    tool: &mut impl FnMut(Opened<'_>, usize, &mut Page) -> Result<Reached, Stop>,
) -> Result<(), ToolError> {
    if folder.files.is_empty() {
        page.info.notes.push(format!("no source file of the asked languages was found in `{}`", folder.display));
    }
    if folder.cut {
        page.info.truncated = true;
        let max = cx.limits.entries_max;
        page.info.notes.push(format!("only the first {max} entries of the folder were looked at, name a sub-folder"));
    }
    let from = page.from.clone().unwrap_or(Cursor { path: String::new(), skip: 0 });
    let first = folder.files.partition_point(|file| file.display < from.path);
    let files = &folder.files[first..];
    let total = files.len().min(cx.limits.files_max);
    for (done, file) in files.iter().enumerate() {
        let skip = if file.display == from.path { from.skip } else { 0 };
        let stop = cx.budget.check().err();
        if stop == Some(Stop::Cancelled) {
            return Err(Stop::Cancelled.into());
        }
        // A page that tried no file yet must try one, or its cursor would lead back to itself.
        if done >= total || (done > 0 && stop.is_some()) {
            page.go_on_at(&file.display, skip);
            return Ok(());
        }
        if done > 0 && done % PROGRESS_FILES == 0 {
            (cx.progress)(done, total);
        }
        let text = match source::read(file, cx.roots, cx.limits) {
            Ok(text) => text,
            Err(reason) => {
                page.skip(&file.display, reason);
                continue;
            }
        };
        let opened = Opened { path: &file.display, language: file.language, text: &text };
        match tool(opened, skip, page) {
            Ok(Reached::End) => page.info.files_scanned += 1,
            Ok(Reached::Full(reached)) => {
                page.info.files_scanned += 1;
                page.go_on_at(&file.display, reached);
                return Ok(());
            }
            Err(Stop::Cancelled) => return Err(Stop::Cancelled.into()),
            Err(Stop::OutOfTime(_)) if done > 0 => {
                page.go_on_at(&file.display, skip);
                return Ok(());
            }
            Err(Stop::OutOfTime(ms)) => page.skip(&file.display, format!("took longer than {ms} ms")),
        }
    }
    (cx.progress)(total, total);
    Ok(())
}
