//! The tool `symbols`: a flat list of definitions, searched by name and kind. It knows where something is defined,
//! not where it is used; that is the work of `references`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::definitions::{self, Kind};
use super::error::ToolError;
use super::input::{PageInput, ScopeInput};
use super::language::Language;
use super::page::{Page, PageInfo};
use super::scan::{self, Context, Reached};
use super::syntax;

/// What to search for; everything when left out.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(super) struct SymbolsInput {
    /// Name, or part of the name, of the function, type, method or constant to find; all names when left out.
    pub(super) name: Option<String>,
    /// How `name` is compared: `substring` (the default) ignores case, `prefix` too; `exact` minds it.
    #[serde(rename = "match")]
    pub(super) mode: Option<MatchMode>,
    /// Kinds of definition to find, for example `function` or `struct`; all kinds when left out.
    pub(super) kinds: Option<Vec<Kind>>,
}

/// How a name is compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum MatchMode {
    #[default]
    Substring,
    Prefix,
    Exact,
}

/// The answer of `symbols`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct SymbolsOutput {
    symbols: Vec<Symbol>,
    #[serde(flatten)]
    page: PageInfo,
}

/// One definition and where it stands.
#[derive(Debug, Serialize, JsonSchema)]
struct Symbol {
    name: String,
    kind: Kind,
    language: Language,
    path: String,
    /// Line of the name, counted from 1.
    line: usize,
    /// Column of the name in UTF-8 bytes, counted from 1.
    column: usize,
    /// Last line of the whole definition.
    end_line: usize,
    /// What holds the definition, for example the type of a method.
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<String>,
    /// The definition up to its body, on one line.
    signature: String,
}

/// Answers the definitions whose name and kind fit.
///
/// # Errors
/// See [`scan::scan`].
pub(super) fn run(
    cx: Context<'_>,
    scope: ScopeInput,
    page: &PageInput,
    input: &SymbolsInput,
) -> Result<(String, SymbolsOutput), ToolError> {
    let mut page = Page::new(page, cx.limits)?;
    let source = scan::find(cx, scope)?;
    let fits = matcher(input);
    let mut symbols = Vec::new();
    scan::scan(cx, &source, &mut page, |file, skip, page| {
        let tree = syntax::parse(file.language, file.text, cx.budget)?;
        let all = definitions::find(&tree, file.language, file.text, cx.limits.depth_max, cx.budget)?;
        let wanted = all.iter().filter(|found| fits(found.kind, &file.text[found.name.clone()]));
        for (index, found) in wanted.enumerate().skip(skip) {
            let symbol = Symbol {
                name: found.name(file.text),
                kind: found.kind,
                language: file.language,
                path: file.path.to_owned(),
                line: found.line,
                column: found.column,
                end_line: found.end_line,
                container: definitions::container(&all, found, file.language, file.text),
                signature: found.signature(file.text),
            };
            if !page.push(&symbol, &symbol.line()) {
                return Ok(Reached::Full(index));
            }
            symbols.push(symbol);
        }
        Ok(Reached::End)
    })?;
    let (text, page) = page.finish("no definition fits");
    Ok((text, SymbolsOutput { symbols, page }))
}

impl Symbol {
    fn line(&self) -> String {
        let Self { name, kind, path, line, column, signature, .. } = self;
        let within = self.container.as_ref().map(|within| format!(" in {within}")).unwrap_or_default();
        format!("{path}:{line}:{column} {} {name}{within}: {signature}", kind.name())
    }
}

fn matcher(input: &SymbolsInput) -> impl Fn(Kind, &str) -> bool {
    let mode = input.mode.unwrap_or_default();
    let name = input.name.as_deref().unwrap_or_default();
    let wanted = if mode == MatchMode::Exact { name.to_owned() } else { name.to_lowercase() };
    let kinds = input.kinds.as_deref().unwrap_or_default();
    move |kind, name| {
        (kinds.is_empty() || kinds.contains(&kind))
            && (wanted.is_empty()
                || match mode {
                    MatchMode::Exact => name == wanted,
                    MatchMode::Prefix => name.to_lowercase().starts_with(&wanted),
                    MatchMode::Substring => name.to_lowercase().contains(&wanted),
                })
    }
}
