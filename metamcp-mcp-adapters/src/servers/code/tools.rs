//! The five tools as callers see them: names, titles, descriptions in plain words, schemas; and the way from a tool's
//! name and arguments to its answer. The work itself is done in the file of each tool.

use std::sync::Arc;

use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::error::ToolError;
use super::input::{self, PageInput, ScopeInput};
use super::outline::OutlineOutput;
use super::parse::{ParseInput, ParseOutput};
use super::query::{QueryInput, QueryOutput};
use super::references::{ReferencesInput, ReferencesOutput};
use super::scan::Context;
use super::symbols::{SymbolsInput, SymbolsOutput};
use super::{outline, parse, query, references, symbols};

/// A tool of this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CodeTool {
    Outline,
    Parse,
    Query,
    References,
    Symbols,
}

/// What a tool answers: text for people, structure for programs.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) structured: Value,
}

impl CodeTool {
    /// All tools, ordered by name.
    pub(super) const ALL: [Self; 5] = [Self::Outline, Self::Parse, Self::Query, Self::References, Self::Symbols];

    /// The name in `tools/call`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Outline => "outline",
            Self::Parse => "parse",
            Self::Query => "query",
            Self::References => "references",
            Self::Symbols => "symbols",
        }
    }

    /// The tool of this name.
    pub(super) fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tool| tool.name() == name)
    }

    /// The definition in `tools/list`.
    pub(super) fn describe(self) -> Tool {
        let annotations = ToolAnnotations::with_title(self.title())
            .read_only(true)
            .destructive(false)
            .idempotent(true)
            .open_world(false);
        Tool::new(self.name(), self.description(), self.input_schema())
            .with_title(self.title())
            .with_raw_output_schema(self.output_schema())
            .with_annotations(annotations)
    }

    /// Does the work of a call. Blocks until it is done or the budget ends it.
    ///
    /// # Errors
    /// In words for the caller: what about the arguments or the source prevented an answer.
    pub(super) fn run(self, cx: Context<'_>, arguments: &JsonObject, schema: &JsonObject) -> Result<Answer, ToolError> {
        input::refuse_unknown(arguments, schema)?;
        let scope = || input::read::<ScopeInput>(arguments);
        let page = || input::read::<PageInput>(arguments);
        match self {
            Self::Outline => answer(outline::run(cx, scope()?, &page()?)),
            Self::Parse => answer(parse::run(cx, input::read::<ParseInput>(arguments)?)),
            Self::Query => answer(query::run(cx, scope()?, &page()?, &input::read::<QueryInput>(arguments)?)),
            Self::References => {
                answer(references::run(cx, scope()?, &page()?, &input::read::<ReferencesInput>(arguments)?))
            }
            Self::Symbols => answer(symbols::run(cx, scope()?, &page()?, &input::read::<SymbolsInput>(arguments)?)),
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Outline => "Outline of source code",
            Self::Parse => "Syntax tree and syntax errors",
            Self::Query => "Search code by structure",
            Self::References => "Find uses of a name in code",
            Self::Symbols => "Find definitions in code",
        }
    }

    fn description(self) -> &'static str {
        match self {
            Self::Outline => {
                "Shows the structure of source code: a nested outline of the modules, classes, structs, enums, traits, \
                 interfaces, types, functions, methods, constants and macros of a file, a folder or a whole \
                 repository, each with its line range and signature. Use it to list the functions and types in this \
                 repository, to get an overview or table of contents of a code base, to see what a file or module \
                 contains before reading it. Works on Rust, Python, JavaScript, TypeScript, TSX and Go."
            }
            Self::Parse => {
                "Parses one source file, or a piece of source text, and shows its syntax tree (AST, concrete syntax \
                 tree) as an S-expression, together with a list of syntax errors with line and column. Use it to check \
                 whether code parses, to find syntax errors, or to learn the node names needed to write a query. Works \
                 on Rust, Python, JavaScript, TypeScript, TSX and Go."
            }
            Self::Query => {
                "Searches source code by its structure with a tree-sitter query (an S-expression pattern) over a file, \
                 a folder or a whole repository, and answers every match with its text and position. Use it to find \
                 code patterns that a text search cannot tell apart: find unsafe blocks, empty catch blocks, calls of \
                 a given function, unwrap calls, functions without documentation, string literals, decorators, \
                 attributes, imports. Works on Rust, Python, JavaScript, TypeScript, TSX and Go."
            }
            Self::References => {
                "Finds where a name is used in source code: all references, usages, call sites and callers of a \
                 function, method, type, class, field, constant or variable, by exact identifier, over a file, a \
                 folder or a whole repository. Words inside strings and comments are not counted. Each place is \
                 answered with path, line, column and the text of the line, and marked if it is the definition. Use it \
                 to find where X is used, who calls a function, or what a rename would touch. Works on Rust, Python, \
                 JavaScript, TypeScript, TSX and Go."
            }
            Self::Symbols => {
                "Finds where something is defined in source code: a flat, searchable list of the definitions \
                 (functions, methods, classes, structs, enums, traits, interfaces, types, constants, macros) of a \
                 file, a folder or a whole repository, filtered by name, part of a name, or kind. Use it to go to the \
                 definition of a function or type, to find a symbol by name, to list all functions, all structs or \
                 all classes. Works on Rust, Python, JavaScript, TypeScript, TSX and Go."
            }
        }
    }

    fn input_schema(self) -> JsonObject {
        let listing = [input::schema::<ScopeInput>(), input::schema::<PageInput>()];
        let own: Option<Arc<JsonObject>> = match self {
            Self::Parse => return input::merged_schema(&[input::schema::<ParseInput>()]),
            Self::Outline => None,
            Self::Query => Some(input::schema::<QueryInput>()),
            Self::References => Some(input::schema::<ReferencesInput>()),
            Self::Symbols => Some(input::schema::<SymbolsInput>()),
        };
        let groups: Vec<_> = own.into_iter().chain(listing).collect();
        input::merged_schema(&groups)
    }

    fn output_schema(self) -> Arc<JsonObject> {
        fn of<T: JsonSchema + 'static>() -> Arc<JsonObject> {
            rmcp::handler::server::tool::schema_for_output::<T>()
        }
        match self {
            Self::Outline => of::<OutlineOutput>(),
            Self::Parse => of::<ParseOutput>(),
            Self::Query => of::<QueryOutput>(),
            Self::References => of::<ReferencesOutput>(),
            Self::Symbols => of::<SymbolsOutput>(),
        }
    }
}

fn answer<T: Serialize>(done: Result<(String, T), ToolError>) -> Result<Answer, ToolError> {
    let (text, output) = done?;
    let structured = serde_json::to_value(output).map_err(|error| ToolError(format!("answer not written: {error}")))?;
    Ok(Answer { text, structured })
}
