//! Finds and reads the source a call asks for: inline text, one file, or the files of a folder in a fixed order.
//! It parses nothing, and of a folder it reads no file before that file's turn.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use ignore::WalkBuilder;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::budget::Budget;
use super::config::CodeLimits;
use super::error::ToolError;
use super::input::ScopeInput;
use super::language::Language;
use super::roots::Roots;

/// Deepest folder looked into, in levels below the one asked for.
const FOLDER_DEPTH_MAX: usize = 64;
/// Longest glob pattern, in bytes.
const GLOB_BYTES_MAX: usize = 1_000;
/// How often the budget is asked while a folder is listed, in entries.
const BUDGET_CHECK_ENTRIES: usize = 64;
/// The path under which inline text is answered.
pub(super) const TEXT_PATH: &str = "<text>";

/// What a call works on.
#[derive(Debug)]
pub(super) enum Source {
    /// Text given in the call.
    Text(Language, String),
    /// One file, named by the caller.
    File(SourceFile),
    /// The files of a folder, ordered by their displayed path.
    Folder(Folder),
}

/// The candidates of a folder.
#[derive(Debug)]
pub(super) struct Folder {
    /// As the caller is told of it.
    pub(super) display: String,
    /// Candidates ordered by displayed path.
    pub(super) files: Vec<SourceFile>,
    /// True when the folder has more entries than one call may look at.
    pub(super) cut: bool,
}

/// A file that may be read.
#[derive(Debug, Clone)]
pub(super) struct SourceFile {
    /// Real path.
    pub(super) path: PathBuf,
    /// As the caller is told of it.
    pub(super) display: String,
    pub(super) language: Language,
}

/// Finds what the arguments name.
///
/// # Errors
/// When the arguments contradict each other, the path is refused, or listing the folder was stopped.
pub(super) fn find(
    input: ScopeInput,
    roots: &Roots,
    limits: &CodeLimits,
    budget: &Budget,
) -> Result<Source, ToolError> {
    if let Some(text) = input.text {
        if input.path.is_some() {
            return Err(ToolError::new("give either path or text, not both"));
        }
        let Some(language) = input.language else {
            return Err(ToolError(format!("text needs language, one of: {}", Language::names())));
        };
        if text.len() > limits.text_bytes_max {
            let (len, max) = (text.len(), limits.text_bytes_max);
            return Err(ToolError(format!("text has {len} bytes, more than the {max} allowed, give a path instead")));
        }
        return Ok(Source::Text(language, text));
    }
    let path = input.path.as_deref().unwrap_or(".");
    let real = roots.resolve(path)?;
    let display = roots.display(&real);
    let kind = real.metadata().map_err(|error| ToolError(format!("path `{path}` cannot be read: {error}")))?;
    if kind.is_dir() {
        let mut languages = input.languages.unwrap_or_default();
        languages.extend(input.language);
        let glob = input.glob.as_deref().map(|glob| compile(glob, &real)).transpose()?;
        return walk(&real, display, roots, &languages, glob.as_ref(), limits, budget).map(Source::Folder);
    }
    if !kind.is_file() {
        return Err(ToolError(format!("path `{path}` is neither a file nor a folder")));
    }
    let Some(language) = input.language.or_else(|| Language::of_path(&real)) else {
        let names = Language::names();
        return Err(ToolError(format!(
            "the ending of `{path}` tells no known language, give language, one of: {names}"
        )));
    };
    Ok(Source::File(SourceFile { path: real, display, language }))
}

/// Reads a file as text.
///
/// # Errors
/// A short reason: gone, outside the roots by now, too large, or not UTF-8.
pub(super) fn read(file: &SourceFile, roots: &Roots, limits: &CodeLimits) -> Result<String, String> {
    // Asked again right before opening: a folder on the way may have become a link since it was listed.
    let real = file.path.canonicalize().map_err(|error| format!("cannot be read: {error}"))?;
    if !roots.hold(&real) {
        return Err("is outside the allowed roots".to_owned());
    }
    let kind = real.metadata().map_err(|error| format!("cannot be read: {error}"))?;
    if !kind.is_file() {
        return Err("is not a regular file".to_owned());
    }
    let max = limits.file_bytes_max;
    let too_large = || format!("is larger than the {max} bytes allowed");
    if kind.len() > max as u64 {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(kind.len()).unwrap_or(0));
    File::open(&real)
        .and_then(|opened| opened.take(max as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() > max {
        return Err(too_large());
    }
    String::from_utf8(bytes).map_err(|error| format!("is not UTF-8 text (byte {})", error.utf8_error().valid_up_to()))
}

/// A pattern in git-ignore style, anchored at the folder.
fn compile(glob: &str, folder: &Path) -> Result<Gitignore, ToolError> {
    if glob.trim().is_empty() || glob.len() > GLOB_BYTES_MAX {
        return Err(ToolError(format!("glob must have 1 to {GLOB_BYTES_MAX} bytes")));
    }
    if glob.starts_with(['!', '#']) || glob.contains(['\n', '\r']) {
        return Err(ToolError::new("glob must be one pattern that starts with neither `!` nor `#`"));
    }
    let mut builder = GitignoreBuilder::new(folder);
    builder
        .add_line(None, glob)
        .and_then(|builder| builder.build())
        .map_err(|error| ToolError(format!("glob `{glob}` is not a valid pattern: {error}")))
}

fn walk(
    folder: &Path,
    display: String,
    roots: &Roots,
    languages: &[Language],
    glob: Option<&Gitignore>,
    limits: &CodeLimits,
    budget: &Budget,
) -> Result<Folder, ToolError> {
    let mut files = Vec::new();
    let mut cut = false;
    let walk = WalkBuilder::new(folder)
        .follow_links(false)
        // An exported tree without `.git` keeps its ignore files; the user's own git settings must not change answers.
        .require_git(false)
        .git_global(false)
        .max_depth(Some(FOLDER_DEPTH_MAX))
        .sort_by_file_name(Ord::cmp)
        .build();
    for (seen, entry) in walk.enumerate() {
        if seen >= limits.entries_max {
            cut = true;
            break;
        }
        if seen % BUDGET_CHECK_ENTRIES == 0 {
            budget.check()?;
        }
        // An entry that cannot be listed (no permission, gone meanwhile) hides nothing but itself.
        let Ok(entry) = entry else { continue };
        if !entry.file_type().is_some_and(|kind| kind.is_file()) {
            continue;
        }
        let Some(language) = Language::of_path(entry.path()) else { continue };
        if !(languages.is_empty() || languages.contains(&language)) {
            continue;
        }
        if glob.is_some_and(|glob| !glob.matched_path_or_any_parents(entry.path(), false).is_ignore()) {
            continue;
        }
        let path = entry.into_path();
        files.push(SourceFile { display: roots.display(&path), path, language });
    }
    files.sort_by(|a, b| a.display.cmp(&b.display));
    Ok(Folder { display, files, cut })
}
