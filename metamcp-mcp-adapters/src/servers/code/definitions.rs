//! Finds what a file defines: modules, types, functions, methods, constants and so on, in source order with their
//! nesting. One table per language says which nodes define something; locals inside functions are not told.

use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tree_sitter::{Node, Tree};

use super::budget::{Budget, Stop};
use super::language::Language;
use super::syntax::{self, Below};

/// Longest name answered, in bytes.
pub(super) const NAME_BYTES_MAX: usize = 200;
/// Longest signature line answered, in bytes.
const SIGNATURE_BYTES_MAX: usize = 240;

/// What a definition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Module,
    Class,
    Struct,
    Enum,
    Union,
    Trait,
    Interface,
    Impl,
    Type,
    Function,
    Method,
    Constant,
    Variable,
    Macro,
}

impl Kind {
    /// The name used in calls and answers.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Module => "module",
            Self::Class => "class",
            Self::Struct => "struct",
            Self::Enum => "enum",
            Self::Union => "union",
            Self::Trait => "trait",
            Self::Interface => "interface",
            Self::Impl => "impl",
            Self::Type => "type",
            Self::Function => "function",
            Self::Method => "method",
            Self::Constant => "constant",
            Self::Variable => "variable",
            Self::Macro => "macro",
        }
    }

    /// True for what makes the functions inside it methods.
    fn owns_methods(self) -> bool {
        matches!(self, Self::Class | Self::Struct | Self::Trait | Self::Interface | Self::Impl)
    }

    /// True for what is told only outside functions.
    fn is_value(self) -> bool {
        matches!(self, Self::Constant | Self::Variable)
    }
}

/// One definition; its text is looked up when it is answered.
#[derive(Debug, Clone)]
pub(super) struct Definition {
    pub(super) kind: Kind,
    /// Bytes of the name.
    pub(super) name: Range<usize>,
    /// The definition that holds this one, by its place in the list.
    pub(super) parent: Option<usize>,
    /// How many definitions hold this one, at most the depth limit less one.
    pub(super) depth: usize,
    /// First line, from 1.
    pub(super) start_line: usize,
    /// Last line, from 1.
    pub(super) end_line: usize,
    /// Line of the name, from 1.
    pub(super) line: usize,
    /// Column of the name, from 1.
    pub(super) column: usize,
    /// Bytes from the start of the definition to its body.
    head: Range<usize>,
    /// Bytes of the type a Go method belongs to.
    receiver: Option<Range<usize>>,
}

impl Definition {
    /// The name, clipped.
    pub(super) fn name(&self, text: &str) -> String {
        syntax::one_line(&text[self.name.clone()], NAME_BYTES_MAX)
    }

    /// The definition up to its body, on one line.
    pub(super) fn signature(&self, text: &str) -> String {
        syntax::one_line(text[self.head.clone()].trim_end_matches(['{', ';', ' ']), SIGNATURE_BYTES_MAX)
    }
}

/// The qualified name of what holds a definition, outermost first; `None` at the top of a file.
pub(super) fn container(all: &[Definition], of: &Definition, language: Language, text: &str) -> Option<String> {
    let mut names = Vec::new();
    names.extend(of.receiver.as_ref().map(|receiver| syntax::one_line(&text[receiver.clone()], NAME_BYTES_MAX)));
    let mut above = of.parent;
    while let Some(parent) = above {
        names.push(all[parent].name(text));
        above = all[parent].parent;
    }
    names.reverse();
    (!names.is_empty()).then(|| names.join(language.separator()))
}

/// Lists the definitions of a file, each after the one that holds it. Nesting beyond `depth_max` is flattened.
///
/// # Errors
/// When the budget ran out or the call was cancelled.
pub(super) fn find(
    tree: &Tree,
    language: Language,
    text: &str,
    depth_max: usize,
    budget: &Budget,
) -> Result<Vec<Definition>, Stop> {
    /// A node around the visited one that matters to it.
    struct Around {
        depth: usize,
        definition: Option<usize>,
        function: bool,
    }
    let mut found: Vec<Definition> = Vec::new();
    let mut around: Vec<Around> = Vec::new();
    syntax::walk(tree, budget, |_, node, depth| {
        while around.last().is_some_and(|last| last.depth >= depth) {
            around.pop();
        }
        if !node.is_named() {
            return Below::Skip;
        }
        let in_function = around.last().is_some_and(|last| last.function);
        let parent = around.last().and_then(|last| last.definition);
        let mut inner = parent;
        for shape in shapes(language, node, text) {
            if shape.kind.is_value() && in_function {
                continue;
            }
            let owner = parent.map(|parent| found[parent].kind);
            let method = shape.kind == Kind::Function && owner.is_some_and(Kind::owns_methods) && !in_function;
            let level = parent.map_or(0, |parent| found[parent].depth + 1);
            // At the depth limit the parent's own parent takes over: the list stays whole and its nesting bounded.
            let parent = if level < depth_max { parent } else { parent.and_then(|parent| found[parent].parent) };
            let at = shape.name.start_position();
            inner = Some(found.len());
            found.push(Definition {
                kind: if method { Kind::Method } else { shape.kind },
                name: shape.name.byte_range(),
                parent,
                depth: level.min(depth_max - 1),
                start_line: syntax::line(node.start_position()),
                end_line: last_line(node),
                line: syntax::line(at),
                column: syntax::column(at),
                head: head(node, &shape, text),
                receiver: shape.receiver,
            });
        }
        let function = is_function(language, node.kind());
        if function || inner != parent {
            // A class inside a function starts anew: its fields are told, its methods are methods.
            let opens_type = inner != parent && inner.is_some_and(|inner| found[inner].kind.owns_methods());
            around.push(Around { depth, definition: inner, function: function || (in_function && !opens_type) });
        }
        Below::Visit
    })?;
    Ok(found)
}

/// What a node defines.
struct Shape<'tree> {
    kind: Kind,
    name: Node<'tree>,
    body: Option<Node<'tree>>,
    receiver: Option<Range<usize>>,
}

impl<'tree> Shape<'tree> {
    /// Named by field `name`, ended by field `body`.
    fn plain(kind: Kind, node: Node<'tree>) -> Vec<Self> {
        Self::named(kind, node.child_by_field_name("name"), node.child_by_field_name("body"))
    }

    fn named(kind: Kind, name: Option<Node<'tree>>, body: Option<Node<'tree>>) -> Vec<Self> {
        name.map(|name| Self { kind, name, body, receiver: None }).into_iter().collect()
    }
}

fn shapes<'tree>(language: Language, node: Node<'tree>, text: &str) -> Vec<Shape<'tree>> {
    match language {
        Language::Rust => rust(node),
        Language::Python => python(node, text),
        Language::JavaScript | Language::TypeScript | Language::Tsx => script(node),
        Language::Go => go(node),
    }
}

fn rust(node: Node<'_>) -> Vec<Shape<'_>> {
    let kind = match node.kind() {
        "mod_item" => Kind::Module,
        "struct_item" => {
            // The fields of a tuple struct stand on the line of its name and belong to its signature.
            let body = node.child_by_field_name("body").filter(|body| body.kind() == "field_declaration_list");
            return Shape::named(Kind::Struct, node.child_by_field_name("name"), body);
        }
        "enum_item" => Kind::Enum,
        "union_item" => Kind::Union,
        "trait_item" => Kind::Trait,
        "type_item" | "associated_type" => Kind::Type,
        "function_item" | "function_signature_item" => Kind::Function,
        "const_item" => Kind::Constant,
        "static_item" => Kind::Variable,
        "macro_definition" => {
            let body = node.named_child(1);
            return Shape::named(Kind::Macro, node.child_by_field_name("name"), body);
        }
        "impl_item" => {
            let mut name = node.child_by_field_name("type");
            // `impl Trait for Type<T>` is told under `Type`.
            if let Some(generic) = name.filter(|name| name.kind() == "generic_type") {
                name = generic.child_by_field_name("type");
            }
            return Shape::named(Kind::Impl, name, node.child_by_field_name("body"));
        }
        _ => return Vec::new(),
    };
    Shape::plain(kind, node)
}

fn python<'tree>(node: Node<'tree>, text: &str) -> Vec<Shape<'tree>> {
    match node.kind() {
        "class_definition" => Shape::plain(Kind::Class, node),
        "function_definition" => Shape::plain(Kind::Function, node),
        "type_alias_statement" => Shape::named(Kind::Type, node.child_by_field_name("left"), None),
        "assignment" => {
            let name = node.child_by_field_name("left").filter(|left| left.kind() == "identifier");
            let shouted = name.is_some_and(|name| {
                let name = syntax::text_of(name, text);
                name.chars().any(char::is_uppercase) && !name.chars().any(char::is_lowercase)
            });
            Shape::named(if shouted { Kind::Constant } else { Kind::Variable }, name, None)
        }
        _ => Vec::new(),
    }
}

fn script(node: Node<'_>) -> Vec<Shape<'_>> {
    let kind = match node.kind() {
        "class_declaration" | "abstract_class_declaration" | "class" => Kind::Class,
        "function_declaration" | "generator_function_declaration" | "function_signature" => Kind::Function,
        "method_definition" | "method_signature" | "abstract_method_signature" => Kind::Method,
        "interface_declaration" => Kind::Interface,
        "enum_declaration" => Kind::Enum,
        "type_alias_declaration" => Kind::Type,
        "module" | "internal_module" => Kind::Module,
        "lexical_declaration" | "variable_declaration" => return variables(node),
        "public_field_definition" | "field_definition" | "pair" => {
            let name = node.child_by_field_name("name").or_else(|| node.child_by_field_name("property"));
            return function_value(Kind::Method, node, name.or_else(|| node.child_by_field_name("key")), "value");
        }
        "assignment_expression" => {
            let left = node.child_by_field_name("left");
            let name = left.and_then(|left| match left.kind() {
                "identifier" => Some(left),
                "member_expression" => left.child_by_field_name("property"),
                _ => None,
            });
            return function_value(Kind::Function, node, name, "right");
        }
        _ => return Vec::new(),
    };
    Shape::plain(kind, node)
}

/// Something named whose value is a function: `run = () => …`.
fn function_value<'tree>(kind: Kind, node: Node<'tree>, name: Option<Node<'tree>>, field: &str) -> Vec<Shape<'tree>> {
    match node.child_by_field_name(field) {
        Some(value) if is_script_function(value.kind()) => Shape::named(kind, name, value.child_by_field_name("body")),
        _ => Vec::new(),
    }
}

/// The names of `const a = …, b = …`.
fn variables(node: Node<'_>) -> Vec<Shape<'_>> {
    let constant = node.child(0).is_some_and(|word| word.kind() == "const");
    let mut cursor = node.walk();
    let declarators = node.named_children(&mut cursor).filter(|child| child.kind() == "variable_declarator");
    let mut shapes = Vec::new();
    for declarator in declarators {
        let name = declarator.child_by_field_name("name").filter(|name| name.kind() == "identifier");
        let value = declarator.child_by_field_name("value");
        let body = value.and_then(|value| value.child_by_field_name("body"));
        let kind = match value.map(|value| value.kind()) {
            Some(kind) if is_script_function(kind) => Kind::Function,
            Some("class") => Kind::Class,
            _ if constant => Kind::Constant,
            _ => Kind::Variable,
        };
        shapes.extend(Shape::named(kind, name, body));
    }
    shapes
}

fn go(node: Node<'_>) -> Vec<Shape<'_>> {
    match node.kind() {
        "function_declaration" => Shape::plain(Kind::Function, node),
        "method_declaration" => {
            let mut shapes = Shape::plain(Kind::Method, node);
            for shape in &mut shapes {
                shape.receiver = node.child_by_field_name("receiver").and_then(receiver_type);
            }
            shapes
        }
        "method_elem" => Shape::plain(Kind::Method, node),
        "type_alias" => Shape::plain(Kind::Type, node),
        "type_spec" => {
            let of = node.child_by_field_name("type");
            let kind = match of.map(|of| of.kind()) {
                Some("struct_type") => Kind::Struct,
                Some("interface_type") => Kind::Interface,
                _ => return Shape::plain(Kind::Type, node),
            };
            // The head ends where the list of fields or methods starts.
            Shape::named(kind, node.child_by_field_name("name"), of.and_then(|of| of.child(1)))
        }
        "const_spec" | "var_spec" => {
            let kind = if node.kind() == "const_spec" { Kind::Constant } else { Kind::Variable };
            let mut cursor = node.walk();
            let names = node.children_by_field_name("name", &mut cursor).filter(|name| name.is_named());
            names.map(|name| Shape { kind, name, body: None, receiver: None }).collect()
        }
        _ => Vec::new(),
    }
}

/// The type name in `(s *Server[T])`.
fn receiver_type(receiver: Node<'_>) -> Option<Range<usize>> {
    let declaration = receiver.named_child(0)?;
    let mut of = declaration.child_by_field_name("type")?;
    // A pointer around a generic around a name is as deep as the grammar allows; more would be broken source.
    for _ in 0..3 {
        of = match of.kind() {
            "pointer_type" | "parenthesized_type" => of.named_child(0)?,
            "generic_type" => of.child_by_field_name("type")?,
            _ => break,
        };
    }
    Some(of.byte_range())
}

fn is_script_function(kind: &str) -> bool {
    matches!(kind, "arrow_function" | "function_expression" | "generator_function")
}

/// True for nodes whose inside is local.
fn is_function(language: Language, kind: &str) -> bool {
    match language {
        Language::Rust => matches!(kind, "function_item" | "closure_expression"),
        Language::Python => matches!(kind, "function_definition" | "lambda"),
        Language::Go => matches!(kind, "function_declaration" | "method_declaration" | "func_literal"),
        Language::JavaScript | Language::TypeScript | Language::Tsx => {
            is_script_function(kind)
                || matches!(kind, "function_declaration" | "generator_function_declaration" | "method_definition")
        }
    }
}

/// From the start of the node to its body; without a body all of it, but of a value only the first line.
fn head(node: Node<'_>, shape: &Shape<'_>, text: &str) -> Range<usize> {
    let start = node.start_byte();
    let end = match shape.body {
        Some(body) => body.start_byte(),
        None if shape.kind.is_value() => {
            let all = syntax::text_of(node, text);
            start + all.find('\n').unwrap_or(all.len())
        }
        None => node.end_byte(),
    };
    // Broken source can put a body before the node it belongs to.
    start..end.max(start)
}

/// The line of the last character; a node that ends with its line break does not reach into the next line.
fn last_line(node: Node<'_>) -> usize {
    let (start, end) = (node.start_position(), node.end_position());
    if end.column == 0 && end.row > start.row { end.row } else { end.row + 1 }
}
