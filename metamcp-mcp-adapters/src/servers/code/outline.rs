//! The tool `outline`: the definitions of each file as a nested list. A page that starts inside a nested list repeats
//! the definitions around its first one, so that each page can be read alone.

use schemars::JsonSchema;
use serde::Serialize;

use super::definitions::{self, Definition, Kind};
use super::error::ToolError;
use super::input::{PageInput, ScopeInput};
use super::language::Language;
use super::page::{Page, PageInfo};
use super::scan::{self, Context, Opened, Reached};
use super::syntax;

/// The answer of `outline`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct OutlineOutput {
    /// One entry for each file that defines something.
    files: Vec<FileOutline>,
    #[serde(flatten)]
    page: PageInfo,
}

/// What one file defines.
#[derive(Debug, Serialize, JsonSchema)]
struct FileOutline {
    path: String,
    language: Language,
    items: Vec<OutlineItem>,
}

/// A definition and the definitions inside it.
#[derive(Debug, Serialize, JsonSchema)]
struct OutlineItem {
    kind: Kind,
    name: String,
    /// First line, counted from 1.
    start_line: usize,
    /// Last line, counted from 1.
    end_line: usize,
    /// The definition up to its body, on one line.
    signature: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    children: Vec<OutlineItem>,
}

/// Answers the outline of a file, a folder or a text.
///
/// # Errors
/// See [`scan::scan`].
pub(super) fn run(cx: Context<'_>, scope: ScopeInput, page: &PageInput) -> Result<(String, OutlineOutput), ToolError> {
    let mut page = Page::new(page, cx.limits)?;
    let source = scan::find(cx, scope)?;
    let mut files = Vec::new();
    scan::scan(cx, &source, &mut page, |file, skip, page| {
        let tree = syntax::parse(file.language, file.text, cx.budget)?;
        let all = definitions::find(&tree, file.language, file.text, cx.limits.depth_max, cx.budget)?;
        let (items, reached) = fill(file, &all, skip, page);
        if !items.is_empty() {
            files.push(FileOutline { path: file.path.to_owned(), language: file.language, items });
        }
        Ok(reached)
    })?;
    let (text, page) = page.finish("no definitions found");
    Ok((text, OutlineOutput { files, page }))
}

fn fill(file: Opened<'_>, all: &[Definition], skip: usize, page: &mut Page) -> (Vec<OutlineItem>, Reached) {
    // Only the definitions after `skip` count; those around the first of them are repeated for its sake.
    let mut repeated = Vec::new();
    let mut above = all.get(skip).and_then(|first| first.parent);
    while let Some(parent) = above {
        repeated.push(&all[parent]);
        above = all[parent].parent;
    }
    let mut nested = Nested::default();
    for definition in repeated.into_iter().rev() {
        nested.add(definition.depth, item(definition, file.text));
    }
    let mut headed = false;
    for (index, definition) in all.iter().enumerate().skip(skip) {
        let item = item(definition, file.text);
        if !headed && page.room() > 0 {
            page.line(&format!("{} ({})", file.path, file.language.name()));
            headed = true;
        }
        let OutlineItem { kind, name, start_line, end_line, signature, .. } = &item;
        let indent = "  ".repeat(definition.depth + 1);
        let line = format!("{indent}{start_line}-{end_line} {} {name}: {signature}", kind.name());
        if !page.push(&item, &line) {
            return (if index == skip { Vec::new() } else { nested.end() }, Reached::Full(index));
        }
        nested.add(definition.depth, item);
    }
    (if all.len() > skip { nested.end() } else { Vec::new() }, Reached::End)
}

fn item(definition: &Definition, text: &str) -> OutlineItem {
    OutlineItem {
        kind: definition.kind,
        name: definition.name(text),
        start_line: definition.start_line,
        end_line: definition.end_line,
        signature: definition.signature(text),
        children: Vec::new(),
    }
}

/// Builds the nested list from definitions in source order, without recursion.
#[derive(Debug, Default)]
struct Nested {
    top: Vec<OutlineItem>,
    /// The open branch: each item holds the next, `open[d]` has depth `d`.
    open: Vec<OutlineItem>,
}

impl Nested {
    fn add(&mut self, depth: usize, item: OutlineItem) {
        while self.open.len() > depth {
            self.close();
        }
        self.open.push(item);
    }

    fn close(&mut self) {
        if let Some(item) = self.open.pop() {
            self.open.last_mut().map_or(&mut self.top, |holder| &mut holder.children).push(item);
        }
    }

    fn end(mut self) -> Vec<OutlineItem> {
        while !self.open.is_empty() {
            self.close();
        }
        self.top
    }
}
