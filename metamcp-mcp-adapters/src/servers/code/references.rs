//! The tool `references`: every place where an identifier stands in code, never inside strings or comments. It goes by
//! spelling: two different things of one name are both told.

use std::collections::HashSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tree_sitter::Node;

use super::budget::{Budget, Stop};
use super::definitions::{self, NAME_BYTES_MAX};
use super::error::ToolError;
use super::input::{PageInput, ScopeInput};
use super::language::Language;
use super::page::{Page, PageInfo};
use super::scan::{self, Context, Opened, Reached};
use super::syntax::{self, Below};

/// Longest line shown around a reference, in bytes.
const LINE_BYTES_MAX: usize = 240;

/// What to search for.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct ReferencesInput {
    /// The identifier whose uses to find: the name of a function, type, method, field, constant or variable, spelt
    /// exactly and without its module path.
    pub(super) name: String,
}

/// The answer of `references`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ReferencesOutput {
    references: Vec<Reference>,
    #[serde(flatten)]
    page: PageInfo,
}

/// One place where the identifier stands.
#[derive(Debug, Serialize, JsonSchema)]
struct Reference {
    path: String,
    /// Line, counted from 1.
    line: usize,
    /// Column in UTF-8 bytes, counted from 1.
    column: usize,
    /// The text of the line.
    text: String,
    /// True where the name is defined or bound, false where it is used.
    definition: bool,
}

/// Answers where an identifier stands.
///
/// # Errors
/// When the name cannot be an identifier; see also [`scan::scan`].
pub(super) fn run(
    cx: Context<'_>,
    scope: ScopeInput,
    page: &PageInput,
    input: &ReferencesInput,
) -> Result<(String, ReferencesOutput), ToolError> {
    let name = input.name.trim();
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(char::is_whitespace) {
        return Err(ToolError(format!(
            "argument `name` must be one identifier of 1 to {NAME_BYTES_MAX} bytes without white space"
        )));
    }
    if let Some((_, last)) = name.rsplit_once([':', '.']) {
        return Err(ToolError(format!(
            "argument `name` must be a single identifier, give only its last part: `{last}`"
        )));
    }
    let mut page = Page::new(page, cx.limits)?;
    let source = scan::find(cx, scope)?;
    let mut references = Vec::new();
    scan::scan(cx, &source, &mut page, |file, skip, page| {
        // Most files do not hold the word at all, and need no parsing to know it.
        if !file.text.contains(name) {
            return Ok(Reached::End);
        }
        let found = find(cx, file, name, cx.budget)?;
        for (index, reference) in found.into_iter().enumerate().skip(skip) {
            let Reference { path, line, column, text, definition } = &reference;
            let mark = if *definition { " (definition)" } else { "" };
            if !page.push(&reference, &format!("{path}:{line}:{column}{mark}: {text}")) {
                return Ok(Reached::Full(index));
            }
            references.push(reference);
        }
        Ok(Reached::End)
    })?;
    let (text, page) = page.finish("the identifier was not found");
    Ok((text, ReferencesOutput { references, page }))
}

fn find(cx: Context<'_>, file: Opened<'_>, name: &str, budget: &Budget) -> Result<Vec<Reference>, Stop> {
    let tree = syntax::parse(file.language, file.text, budget)?;
    let definitions = definitions::find(&tree, file.language, file.text, cx.limits.depth_max, budget)?;
    let defined: HashSet<usize> = definitions.iter().map(|definition| definition.name.start).collect();
    let mut found = Vec::new();
    // Kinds of the nodes around the visited one, by depth.
    let mut around: Vec<&str> = Vec::new();
    syntax::walk(&tree, budget, |cursor, node, depth| {
        around.truncate(depth);
        if is_identifier(node) && syntax::text_of(node, file.text) == name {
            let binds = around.last().is_some_and(|parent| binds(file.language, parent, cursor.field_name()));
            found.push(Reference {
                path: file.path.to_owned(),
                line: syntax::line(node.start_position()),
                column: syntax::column(node.start_position()),
                text: syntax::line_around(node, file.text, LINE_BYTES_MAX),
                definition: binds || defined.contains(&node.start_byte()),
            });
        }
        around.push(node.kind());
        Below::Visit
    })?;
    Ok(found)
}

/// True for names in code. The grammars keep the words of strings and comments out of such nodes.
fn is_identifier(node: Node<'_>) -> bool {
    let kind = node.kind();
    node.is_named()
        && node.child_count() == 0
        && (kind.ends_with("identifier") || kind.ends_with("identifier_pattern") || kind == "label_name")
}

/// True where a name is bound without being told in an outline: locals, parameters, fields, variants.
fn binds(language: Language, parent: &str, field: Option<&str>) -> bool {
    match language {
        Language::Rust => matches!(
            (parent, field),
            ("let_declaration" | "parameter" | "for_expression", Some("pattern"))
                | ("field_declaration" | "enum_variant" | "type_parameter" | "const_parameter", Some("name"))
                | ("closure_parameters" | "mut_pattern", None)
        ),
        Language::Python => matches!(
            (parent, field),
            ("assignment" | "for_statement" | "for_in_clause", Some("left"))
                | ("default_parameter" | "typed_default_parameter" | "named_expression", Some("name"))
                | ("parameters" | "lambda_parameters" | "typed_parameter" | "as_pattern_target", None)
        ),
        Language::JavaScript | Language::TypeScript | Language::Tsx => matches!(
            (parent, field),
            (
                "variable_declarator" | "property_signature" | "public_field_definition" | "enum_assignment",
                Some("name")
            ) | ("enum_body" | "type_parameter", Some("name"))
                | ("required_parameter" | "optional_parameter", Some("pattern"))
                | ("field_definition", Some("property"))
                | ("arrow_function", Some("parameter"))
                | ("catch_clause", Some("parameter"))
                | ("formal_parameters" | "array_pattern" | "object_pattern", None)
        ),
        Language::Go => matches!(
            (parent, field),
            (
                "parameter_declaration"
                    | "variadic_parameter_declaration"
                    | "field_declaration"
                    | "type_parameter_declaration"
                    | "const_spec"
                    | "var_spec",
                Some("name")
            )
        ),
    }
}
