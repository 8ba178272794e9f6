//! The tool `parse`: the syntax tree of one file or text as an S-expression, and its syntax errors. The tree is cut by
//! depth, lines and size; the errors are looked for in the whole file.

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tree_sitter::{Node, Tree, TreeCursor};

use super::budget::{Budget, Stop};
use super::error::ToolError;
use super::input::ScopeInput;
use super::language::Language;
use super::scan::{self, Context};
use super::source::{self, Source, TEXT_PATH};
use super::syntax::{self, Below};

/// Levels of the tree that are shown when the caller names no number.
const DEPTH_DEFAULT: usize = 12;
/// Most syntax errors told one by one; the rest is only counted.
const ERRORS_MAX: usize = 100;
/// Longest text of a leaf or an error, in bytes.
const LEAF_BYTES_MAX: usize = 60;
/// The tree stands in an answer twice, as structure and as text, and its line breaks are escaped.
const TREE_SHARE: usize = 3;

/// What to parse and how much of the tree to show.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(super) struct ParseInput {
    /// File to parse, absolute or relative to an allowed root.
    path: Option<String>,
    /// Source code to parse instead of a file; needs `language`.
    text: Option<String>,
    /// Programming language of `text`, or of a file whose ending does not tell it.
    language: Option<Language>,
    /// How many levels of the tree to show; 12 when left out, and never more than the server's own bound.
    #[schemars(range(min = 1))]
    max_depth: Option<usize>,
    /// First line to show, counted from 1.
    #[schemars(range(min = 1))]
    from_line: Option<usize>,
    /// Last line to show, counted from 1.
    #[schemars(range(min = 1))]
    to_line: Option<usize>,
    /// Shows punctuation and keywords too, which are left out otherwise.
    all_tokens: Option<bool>,
}

/// The answer of `parse`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ParseOutput {
    path: String,
    language: Language,
    /// The syntax tree: each node with its field, kind and `[line:column]-[line:column]`, a leaf with its text. `…`
    /// stands for what is deeper than `max_depth`.
    tree: String,
    /// True when the tree was cut for its size: call again with from_line, to_line or a smaller max_depth.
    truncated: bool,
    /// How many syntax errors the whole file has; 0 means it is well-formed.
    error_count: usize,
    /// The first syntax errors.
    errors: Vec<SyntaxError>,
}

/// A place where the source does not follow the grammar.
#[derive(Debug, Serialize, JsonSchema)]
struct SyntaxError {
    /// Line, counted from 1.
    line: usize,
    /// Column in UTF-8 bytes, counted from 1.
    column: usize,
    end_line: usize,
    end_column: usize,
    /// What is wrong: unexpected source text, or something that is missing.
    message: String,
}

/// Answers the syntax tree and the syntax errors.
///
/// # Errors
/// When the arguments are refused, the path is a folder, or the budget ran out.
pub(super) fn run(cx: Context<'_>, input: ParseInput) -> Result<(String, ParseOutput), ToolError> {
    let view = View::new(&input, cx.limits.depth_max, cx.limits.output_bytes_max / TREE_SHARE)?;
    if input.path.is_none() && input.text.is_none() {
        return Err(ToolError::new("give path, a file to parse, or text with language"));
    }
    let ParseInput { path, text, language, .. } = input;
    let (path, language, text) = match scan::find(cx, ScopeInput { path, text, language, ..ScopeInput::default() })? {
        Source::Text(language, text) => (TEXT_PATH.to_owned(), language, text),
        Source::File(file) => {
            let text = source::read(&file, cx.roots, cx.limits)
                .map_err(|reason| ToolError(format!("file `{}` {reason}", file.display)))?;
            (file.display, file.language, text)
        }
        Source::Folder(folder) => {
            return Err(ToolError(format!("`{}` is a folder, parse takes one file, name it", folder.display)));
        }
    };
    let tree = syntax::parse(language, &text, cx.budget)?;
    let (error_count, errors) = find_errors(&tree, &text, cx.budget)?;
    let (shown, truncated) = view.show(&tree, &text, cx.budget)?;
    let output = ParseOutput { path, language, tree: shown, truncated, error_count, errors };
    Ok((output.text(), output))
}

impl ParseOutput {
    fn text(&self) -> String {
        let Self { path, language, tree, error_count, .. } = self;
        let mut text = format!("{path} ({}): {error_count} syntax errors\n", language.name());
        for SyntaxError { line, column, message, .. } in &self.errors {
            let _ = writeln!(text, "{path}:{line}:{column} {message}");
        }
        text.push_str(tree);
        if self.truncated {
            text.push_str("\ntruncated: call again with from_line, to_line or a smaller max_depth\n");
        }
        text
    }
}

fn find_errors(tree: &Tree, text: &str, budget: &Budget) -> Result<(usize, Vec<SyntaxError>), Stop> {
    let mut count = 0;
    let mut errors = Vec::new();
    syntax::walk(tree, budget, |_, node, _| {
        if !node.has_error() && !node.is_missing() {
            return Below::Skip;
        }
        if !node.is_error() && !node.is_missing() {
            return Below::Visit;
        }
        count += 1;
        if errors.len() < ERRORS_MAX {
            errors.push(SyntaxError::new(node, text));
        }
        Below::Skip
    })?;
    Ok((count, errors))
}

impl SyntaxError {
    fn new(node: Node<'_>, text: &str) -> Self {
        let (start, end) = (node.start_position(), node.end_position());
        let message = if node.is_missing() {
            format!("missing `{}`", node.kind())
        } else {
            format!("unexpected `{}`", syntax::one_line(syntax::text_of(node, text), LEAF_BYTES_MAX))
        };
        Self {
            line: syntax::line(start),
            column: syntax::column(start),
            end_line: syntax::line(end),
            end_column: syntax::column(end),
            message,
        }
    }
}

/// Which part of a tree is shown.
#[derive(Debug)]
struct View {
    depth_max: usize,
    from_line: usize,
    to_line: usize,
    all_tokens: bool,
    bytes_max: usize,
}

impl View {
    fn new(input: &ParseInput, depth_ceiling: usize, bytes_max: usize) -> Result<Self, ToolError> {
        for (name, value) in
            [("max_depth", input.max_depth), ("from_line", input.from_line), ("to_line", input.to_line)]
        {
            if value == Some(0) {
                return Err(ToolError(format!("argument `{name}` must be at least 1")));
            }
        }
        let (from_line, to_line) = (input.from_line.unwrap_or(1), input.to_line.unwrap_or(usize::MAX));
        if from_line > to_line {
            return Err(ToolError::new("argument `from_line` must not be greater than `to_line`"));
        }
        let depth_max = input.max_depth.unwrap_or(DEPTH_DEFAULT).min(depth_ceiling);
        Ok(Self { depth_max, from_line, to_line, all_tokens: input.all_tokens.unwrap_or(false), bytes_max })
    }

    /// The S-expression, and whether it was cut for its size.
    fn show(&self, tree: &Tree, text: &str, budget: &Budget) -> Result<(String, bool), Stop> {
        let mut out = String::new();
        // How many brackets are open: the depth of the node written last, and itself.
        let mut open = 0;
        let mut cut = false;
        syntax::walk(tree, budget, |cursor, node, depth| {
            let (start, end) = (syntax::line(node.start_position()), syntax::line(node.end_position()));
            let hidden = !node.is_named() && !node.is_missing() && !self.all_tokens;
            if cut || hidden || end < self.from_line || start > self.to_line {
                return Below::Skip;
            }
            if out.len() >= self.bytes_max {
                cut = true;
                return Below::Skip;
            }
            if depth > 0 {
                out.push_str(&")".repeat(open - depth));
                out.push('\n');
                out.push_str(&"  ".repeat(depth));
            }
            open = depth + 1;
            let deeper = node.child_count() > 0;
            write_node(&mut out, cursor, node, (!deeper).then(|| syntax::text_of(node, text)));
            if deeper && open >= self.depth_max {
                out.push_str(" …");
                return Below::Skip;
            }
            Below::Visit
        })?;
        out.push_str(&")".repeat(open));
        Ok((out, cut))
    }
}

/// Writes a node without its closing bracket.
fn write_node(out: &mut String, cursor: &TreeCursor<'_>, node: Node<'_>, leaf: Option<&str>) {
    if let Some(field) = cursor.field_name() {
        let _ = write!(out, "{field}: ");
    }
    let (start, end) = (node.start_position(), node.end_position());
    let (from_line, from_column) = (syntax::line(start), syntax::column(start));
    let (to_line, to_column) = (syntax::line(end), syntax::column(end));
    let missing = if node.is_missing() { "MISSING " } else { "" };
    // A token is named by its own text, in quotes as a query would name it.
    if node.is_named() {
        let _ = write!(out, "({missing}{}", node.kind());
    } else {
        let _ = write!(out, "({missing}{:?}", node.kind());
    }
    let _ = write!(out, " [{from_line}:{from_column}]-[{to_line}:{to_column}]");
    if let Some(leaf) = leaf.filter(|leaf| node.is_named() && !leaf.is_empty()) {
        let _ = write!(out, " {:?}", syntax::clip(leaf, LEAF_BYTES_MAX));
    }
}
