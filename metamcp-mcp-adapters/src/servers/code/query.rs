//! The tool `query`: runs a tree-sitter query written by the caller and answers what it captures. Queries are checked
//! before they are compiled, because the compiler of tree-sitter is recursive and cannot be interrupted.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tree_sitter::{Node, Query, QueryCursor, QueryCursorOptions, QueryErrorKind, StreamingIterator};

use super::budget::Stop;
use super::error::ToolError;
use super::input::{PageInput, ScopeInput};
use super::language::Language;
use super::page::{Page, PageInfo};
use super::scan::{self, Context, Opened, Reached};
use super::source::Source;
use super::syntax;

/// Deepest nesting of brackets in a query.
const QUERY_DEPTH_MAX: usize = 64;
/// Most regular expressions in a query; each may cost megabytes once compiled.
const QUERY_REGEXES_MAX: usize = 16;
/// Longest text of one capture, in bytes.
const CAPTURE_BYTES_MAX: usize = 1_000;
/// Longest text of one capture in the text form, in bytes.
const CAPTURE_LINE_BYTES_MAX: usize = 200;

/// What to search for.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct QueryInput {
    /// The tree-sitter query, an S-expression pattern with captures, for example `(unsafe_block) @unsafe` or
    /// `(call_expression function: (identifier) @name (#eq? @name "eval"))`. The tool `parse` shows the node names.
    pub(super) query: String,
}

/// The answer of `query`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct QueryOutput {
    language: Language,
    captures: Vec<Capture>,
    #[serde(flatten)]
    page: PageInfo,
}

/// One captured node.
#[derive(Debug, Serialize, JsonSchema)]
struct Capture {
    path: String,
    /// Name of the capture in the query, without `@`.
    capture: String,
    /// Kind of the captured syntax node.
    node: String,
    /// Which pattern of the query matched, counted from 0.
    pattern: usize,
    /// Which match within the file this capture belongs to, counted from 0: captures of one match share it.
    #[serde(rename = "match")]
    number: usize,
    /// The captured source text; very long text is cut and ends with `…`.
    text: String,
    /// First line, counted from 1.
    start_line: usize,
    /// Column of the first character in UTF-8 bytes, counted from 1.
    start_column: usize,
    /// Last line, counted from 1.
    end_line: usize,
    /// Column after the last character in UTF-8 bytes, counted from 1.
    end_column: usize,
}

/// Answers what a query captures.
///
/// # Errors
/// When the language cannot be told or the query is broken (with row, column and what is wrong); see also
/// [`scan::scan`].
pub(super) fn run(
    cx: Context<'_>,
    mut scope: ScopeInput,
    page: &PageInput,
    input: &QueryInput,
) -> Result<(String, QueryOutput), ToolError> {
    let mut page = Page::new(page, cx.limits)?;
    check(&input.query, cx.limits.query_bytes_max)?;
    // One of the two ways to say one language is as good as the other.
    scope.language = scope.language.or(match scope.languages.as_deref() {
        Some([one]) => Some(*one),
        _ => None,
    });
    let asked = scope.language;
    // A query is written for one grammar, so a folder is searched for files of that language alone.
    scope.languages = None;
    let source = scan::find(cx, scope)?;
    let language = match &source {
        Source::Text(language, _) => *language,
        Source::File(file) => file.language,
        Source::Folder(_) => asked
            .ok_or_else(|| ToolError(format!("a query over a folder needs language, one of: {}", Language::names())))?,
    };
    let query = compile(language, &input.query)?;
    let mut captures = Vec::new();
    let mut exceeded = false;
    scan::scan(cx, &source, &mut page, |file, skip, page| {
        let (found, over) = find(cx, file, &query, skip, page.room())?;
        exceeded |= over;
        for (index, capture) in found.into_iter().enumerate() {
            if !page.push(&capture, &capture.line()) {
                return Ok(Reached::Full(skip + index));
            }
            captures.push(capture);
        }
        Ok(Reached::End)
    })?;
    if exceeded {
        page.info.truncated = true;
        page.info.notes.push("the query had too many matches in progress and some were lost, make it narrower".into());
    }
    let (text, page) = page.finish("the query captured nothing");
    Ok((text, QueryOutput { language, captures, page }))
}

/// The captures of a file after the first `skip`, at most one more than there is room for.
fn find(
    cx: Context<'_>,
    file: Opened<'_>,
    query: &Query,
    skip: usize,
    room: usize,
) -> Result<(Vec<Capture>, bool), Stop> {
    let tree = syntax::parse(file.language, file.text, cx.budget)?;
    let mut cursor = QueryCursor::new();
    cursor.set_match_limit(cx.limits.query_matches_max);
    let mut halt = |_: &_| cx.budget.flow();
    let options = QueryCursorOptions::new().progress_callback(&mut halt);
    // Predicates read node texts of any length between two progress calls; out of time they are given none.
    let text = |node: Node<'_>| {
        let range: Range<usize> = if cx.budget.check().is_ok() { node.byte_range() } else { 0..0 };
        std::iter::once(file.text.as_bytes().get(range).unwrap_or_default())
    };
    let names = query.capture_names();
    let mut found = Vec::new();
    let mut passed = 0;
    {
        let mut matches = cursor.matches_with_options(query, tree.root_node(), text, options);
        let mut number = 0;
        'all: while let Some(one) = matches.next() {
            for captured in one.captures() {
                passed += 1;
                if passed > skip {
                    let name = names.get(captured.index as usize).copied().unwrap_or_default();
                    found.push(Capture::new(file, name, one.pattern_index, number, captured.node));
                }
                if found.len() > room {
                    break 'all;
                }
            }
            number += 1;
        }
    }
    cx.budget.check()?;
    Ok((found, cursor.did_exceed_match_limit()))
}

impl Capture {
    fn new(file: Opened<'_>, name: &str, pattern: usize, number: usize, node: Node<'_>) -> Self {
        let (start, end) = (node.start_position(), node.end_position());
        Self {
            path: file.path.to_owned(),
            capture: name.to_owned(),
            node: node.kind().to_owned(),
            pattern,
            number,
            text: syntax::clip(syntax::text_of(node, file.text), CAPTURE_BYTES_MAX),
            start_line: syntax::line(start),
            start_column: syntax::column(start),
            end_line: syntax::line(end),
            end_column: syntax::column(end),
        }
    }

    fn line(&self) -> String {
        let Self { path, capture, start_line, start_column, end_line, end_column, text, .. } = self;
        let shown = syntax::one_line(text, CAPTURE_LINE_BYTES_MAX);
        format!("{path}:{start_line}:{start_column}-{end_line}:{end_column} @{capture}: {shown}")
    }
}

/// Refuses what the compiler could not take safely.
fn check(query: &str, bytes_max: usize) -> Result<(), ToolError> {
    if query.trim().is_empty() {
        return Err(ToolError::new("argument `query` is empty, give a pattern such as `(function_item) @function`"));
    }
    if query.len() > bytes_max {
        let len = query.len();
        return Err(ToolError(format!("argument `query` has {len} bytes, more than the {bytes_max} allowed")));
    }
    if query.matches("match?").count() > QUERY_REGEXES_MAX {
        return Err(ToolError(format!("argument `query` has more than {QUERY_REGEXES_MAX} regular expressions")));
    }
    // Brackets inside strings count too: that errs on the safe side.
    let (mut depth, mut deepest) = (0_usize, 0);
    for byte in query.bytes() {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    if deepest > QUERY_DEPTH_MAX {
        return Err(ToolError(format!("argument `query` nests deeper than {QUERY_DEPTH_MAX} brackets")));
    }
    Ok(())
}

fn compile(language: Language, text: &str) -> Result<Query, ToolError> {
    let query = Query::new(language.grammar(), text).map_err(|error| {
        let what = match error.kind {
            QueryErrorKind::Syntax => "syntax error",
            QueryErrorKind::NodeType => "the language has no node of this kind",
            QueryErrorKind::Field => "the language has no field of this name",
            QueryErrorKind::Capture => "no capture of this name stands before",
            QueryErrorKind::Predicate => "wrong predicate",
            QueryErrorKind::Structure => "this pattern can never match",
            QueryErrorKind::Language => "the grammar cannot be queried",
        };
        let (row, column, name) = (error.row + 1, error.column + 1, language.name());
        let message = syntax::clip(error.message.trim_end_matches(['.', '\n', ' ']), CAPTURE_BYTES_MAX);
        ToolError(format!("query for {name} is broken at row {row}, column {column}: {what}: {message}"))
    })?;
    if query.capture_names().is_empty() {
        return Err(ToolError::new("argument `query` captures nothing, put a name such as `@found` after a node"));
    }
    Ok(query)
}
