//! The arguments shared by the tools, how arguments are read with errors that name the field, and how the schemas of
//! several argument groups become one. What each tool takes beside these stands in the tool's own file.

use std::sync::Arc;

use rmcp::handler::server::tool::schema_for_input;
use rmcp::model::JsonObject;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::ToolError;
use super::language::Language;

/// Where to look: a file, a folder, or source text given in the call.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub(super) struct ScopeInput {
    /// File or folder to read, absolute or relative to an allowed root. A folder is searched with all its sub-folders,
    /// without hidden and git-ignored files. Leave out both path and text to search the whole repository.
    pub(super) path: Option<String>,
    /// Source code to work on instead of a file; needs `language`.
    pub(super) text: Option<String>,
    /// Programming language of `text`, or of a file whose ending does not tell it; with a folder, the only language
    /// searched.
    pub(super) language: Option<Language>,
    /// Programming languages to search in a folder; all known ones when left out.
    pub(super) languages: Option<Vec<Language>>,
    /// Which files of a folder to search, as a git-ignore style pattern such as `*.rs` or `src/**/*.test.ts`.
    pub(super) glob: Option<String>,
}

/// How much to answer, and where to go on.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub(super) struct PageInput {
    /// Most results in this answer; 200 when left out, and never more than the server's own bound.
    #[schemars(range(min = 1))]
    pub(super) max_results: Option<usize>,
    /// `next_cursor` of an answer that was truncated, to go on after it. The other arguments must stay the same.
    pub(super) cursor: Option<String>,
}

/// Reads one group of arguments.
///
/// # Errors
/// Names the argument and what is wrong with it.
pub(super) fn read<T: DeserializeOwned>(arguments: &JsonObject) -> Result<T, ToolError> {
    serde_path_to_error::deserialize(Value::Object(arguments.clone())).map_err(|error| match error.path().to_string() {
        path if path == "." => ToolError(error.into_inner().to_string()),
        path => ToolError(format!("argument `{path}`: {}", error.into_inner())),
    })
}

/// Refuses arguments the schema does not know, so that a misspelt one is never silently without effect.
///
/// # Errors
/// Names the unknown argument and the known ones.
pub(super) fn refuse_unknown(arguments: &JsonObject, schema: &JsonObject) -> Result<(), ToolError> {
    let known = schema.get("properties").and_then(Value::as_object).expect("merged_schema always writes properties");
    match arguments.keys().find(|name| !known.contains_key(*name)) {
        None => Ok(()),
        Some(name) => {
            let names = known.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            Err(ToolError(format!("unknown argument `{name}`, this tool takes: {names}")))
        }
    }
}

/// The schema of one group of arguments.
pub(super) fn schema<T: JsonSchema + 'static>() -> Arc<JsonObject> {
    schema_for_input::<T>().expect("every argument group is a struct, hence an object")
}

/// One object schema out of several groups; their argument names do not overlap.
pub(super) fn merged_schema(groups: &[Arc<JsonObject>]) -> JsonObject {
    let mut properties = JsonObject::new();
    let mut definitions = JsonObject::new();
    let mut required = Vec::new();
    for group in groups {
        let object = |key: &str| group.get(key).and_then(Value::as_object).cloned().unwrap_or_default();
        properties.extend(object("properties"));
        definitions.extend(object("$defs"));
        required.extend(group.get("required").and_then(Value::as_array).cloned().unwrap_or_default());
    }
    let mut merged = JsonObject::new();
    merged.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    merged.insert("type".into(), "object".into());
    merged.insert("properties".into(), properties.into());
    if !required.is_empty() {
        merged.insert("required".into(), required.into());
    }
    if !definitions.is_empty() {
        merged.insert("$defs".into(), definitions.into());
    }
    merged.insert("additionalProperties".into(), false.into());
    merged
}
