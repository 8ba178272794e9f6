//! Parsing within a budget, and walking a syntax tree without recursion: source nested a hundred thousand deep must
//! cost time, never the stack. Also the small text helpers every tool needs to show a piece of source.

use tree_sitter::{Node, ParseOptions, Parser, Point, Tree, TreeCursor};

use super::budget::{Budget, Stop};
use super::language::Language;

/// How often the budget is asked while a tree is walked, in nodes.
const BUDGET_CHECK_NODES: usize = 4_096;

/// Parses source text. Broken source still has a tree, with error nodes in it.
///
/// # Errors
/// When the budget ran out or the call was cancelled.
pub(super) fn parse(language: Language, text: &str, budget: &Budget) -> Result<Tree, Stop> {
    budget.check()?;
    let mut parser = Parser::new();
    parser.set_language(language.grammar()).expect("a test shows that every built-in grammar is accepted");
    let bytes = text.as_bytes();
    let mut halt = |_: &_| budget.flow();
    let options = ParseOptions::new().progress_callback(&mut halt);
    parser
        .parse_with_options(&mut |at, _| bytes.get(at..).unwrap_or_default(), None, Some(options))
        .ok_or_else(|| budget.stop())
}

/// What to do below a visited node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Below {
    Visit,
    Skip,
}

/// Visits all nodes in source order, parents first, with their depth (the root has 0).
///
/// # Errors
/// When the budget ran out or the call was cancelled.
pub(super) fn walk<'tree>(
    tree: &'tree Tree,
    budget: &Budget,
    mut visit: impl FnMut(&TreeCursor<'tree>, Node<'tree>, usize) -> Below,
) -> Result<(), Stop> {
    let mut cursor = tree.walk();
    // The cursor's own depth() counts its whole stack at every call.
    let mut depth = 0_usize;
    let mut seen = 0_usize;
    loop {
        seen += 1;
        if seen.is_multiple_of(BUDGET_CHECK_NODES) {
            budget.check()?;
        }
        let node = cursor.node();
        if visit(&cursor, node, depth) == Below::Visit && cursor.goto_first_child() {
            depth += 1;
            continue;
        }
        while !cursor.goto_next_sibling() {
            if !cursor.goto_parent() {
                return Ok(());
            }
            depth -= 1;
        }
    }
}

/// The text of a node.
pub(super) fn text_of<'text>(node: Node<'_>, text: &'text str) -> &'text str {
    text.get(node.byte_range()).unwrap_or_default()
}

/// Line of a position, counted from 1.
pub(super) fn line(at: Point) -> usize {
    at.row + 1
}

/// Column of a position in UTF-8 bytes, counted from 1.
pub(super) fn column(at: Point) -> usize {
    at.column + 1
}

/// At most `max` bytes of a text, cut at a character and marked with `…`.
pub(super) fn clip(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let mut end = max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

/// The start of a text on one line: runs of white space become one blank.
pub(super) fn one_line(text: &str, max: usize) -> String {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > max {
            break;
        }
    }
    clip(&line, max)
}

/// The line around a node, without its margin; of a very long line the part around the node.
pub(super) fn line_around(node: Node<'_>, text: &str, max: usize) -> String {
    let start = node.start_byte();
    let mut from = start.saturating_sub(node.start_position().column);
    let cut = start - from > max / 2;
    if cut {
        from = start - max / 2;
        while !text.is_char_boundary(from) {
            from += 1;
        }
    }
    let rest = text.get(from..).unwrap_or_default();
    let end = rest.bytes().take(max + 1).position(|byte| byte == b'\n' || byte == b'\r');
    let shown = clip(end.map_or(rest, |end| &rest[..end]), max);
    if cut { format!("…{}", shown.trim()) } else { shown.trim().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipping_never_splits_a_character() {
        assert_eq!(clip("äöü", 3), "ä…");
        assert_eq!(clip("äöü", 6), "äöü");
        assert_eq!(one_line("fn  a(\n  b: C,\n)", 100), "fn a( b: C, )");
        assert_eq!(one_line(&"ab ".repeat(100), 5), "ab ab…");
    }

    #[test]
    fn a_very_long_line_is_shown_around_the_node() {
        let text = format!("let x = [{}needle, 1];", "1234, ".repeat(1_000));
        let budget = Budget::start(60_000, tokio_util::sync::CancellationToken::new());
        let tree = parse(Language::JavaScript, &text, &budget).unwrap();
        let mut shown = String::new();
        walk(&tree, &budget, |_, node, _| {
            if text_of(node, &text) == "needle" {
                shown = line_around(node, &text, 60);
            }
            Below::Visit
        })
        .unwrap();
        assert!(shown.starts_with('…') && shown.contains("needle"), "{shown}");
        assert!(shown.len() < 80, "{shown}");
    }
}
