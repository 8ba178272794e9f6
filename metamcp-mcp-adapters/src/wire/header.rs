//! HTTP headers of the modern era: what routes a request without its body being read (`Mcp-Method`, `Mcp-Name`, `Mcp-Param-*`).
//!
//! A tool marks arguments to be mirrored with `x-mcp-header` in its input schema; a tool that marks them wrongly is not to be offered.

use std::collections::{BTreeMap, HashSet};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderName, HeaderValue};
use metamcp_core::json::RawJson;
use serde_json::{Map, Value, value::RawValue};

/// Names the protocol revision.
pub(crate) const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// Names the session of a legacy server.
pub(crate) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
/// Names the method.
pub(crate) const METHOD: HeaderName = HeaderName::from_static("mcp-method");
/// Names the tool, the prompt, the resource or the task.
pub(crate) const NAME: HeaderName = HeaderName::from_static("mcp-name");
/// Names the last event that was read of a stream that is taken up again.
pub(crate) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Deepest schema that is searched for marks; deeper ones count as marked wrongly.
const SCHEMA_DEPTH_MAX: usize = 64;

/// One argument that goes along as a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ParamHeader {
    /// Property names from the root to the argument.
    path: Vec<String>,
    header: HeaderName,
}

/// The value as a header can carry it: as it is, or as `=?base64?…?=`.
pub(crate) fn value(text: &str) -> HeaderValue {
    let bytes = text.as_bytes();
    let edge = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let looks_wrapped = text.starts_with("=?base64?") && text.ends_with("?=");
    let visible = bytes.iter().all(|byte| matches!(byte, 0x20..=0x7e));
    let plain = visible && !looks_wrapped && !edge(bytes.first()) && !edge(bytes.last());
    let value = if plain {
        HeaderValue::from_str(text)
    } else {
        HeaderValue::try_from(format!("=?base64?{}?=", BASE64_STANDARD.encode(text)))
    };
    value.expect("visible ASCII is a header value")
}

/// The headers for these arguments.
pub(crate) fn of_arguments(params: &[ParamHeader], arguments: &RawValue) -> Vec<(HeaderName, HeaderValue)> {
    params.iter().filter_map(|param| Some((param.header.clone(), value(&param.repeated(arguments)?)))).collect()
}

impl ParamHeader {
    /// The header.
    #[cfg(feature = "gateway")]
    pub(crate) const fn header(&self) -> &HeaderName {
        &self.header
    }

    /// What the header says for these arguments, before it is encoded; `None` when the argument is not there.
    pub(crate) fn repeated(&self, arguments: &RawValue) -> Option<String> {
        argument(&self.path, arguments)
    }
}

fn argument(path: &[String], raw: &RawValue) -> Option<String> {
    let Some((first, rest)) = path.split_first() else {
        return match raw.get().as_bytes().first()? {
            b'"' => serde_json::from_str(raw.get()).ok(),
            b'{' | b'[' | b'n' => None,
            // Numbers and booleans go as they are spelled.
            _ => Some(raw.get().to_owned()),
        };
    };
    let object: BTreeMap<String, &RawValue> = serde_json::from_str(raw.get()).ok()?;
    argument(rest, object.get(first)?)
}

/// The marks of an input schema.
///
/// # Errors
/// In words, when a mark is not one: then the tool must not be offered over HTTP.
pub(crate) fn of_schema(schema: &RawJson) -> Result<Vec<ParamHeader>, String> {
    if !schema.get().contains("x-mcp-header") {
        return Ok(Vec::new());
    }
    let Ok(Value::Object(schema)) = schema.view() else { return Ok(Vec::new()) };
    let mut found = Search::default();
    found.walk(&schema, Place::Root, &mut Vec::new(), 0)?;
    Ok(found.params)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    /// Reached from the root through `properties` alone.
    Property,
    Elsewhere,
}

#[derive(Default)]
struct Search {
    params: Vec<ParamHeader>,
    seen: HashSet<String>,
}

impl Search {
    fn walk(
        &mut self,
        schema: &Map<String, Value>,
        place: Place,
        path: &mut Vec<String>,
        depth: usize,
    ) -> Result<(), String> {
        if depth > SCHEMA_DEPTH_MAX {
            return Err(format!("its schema is deeper than {SCHEMA_DEPTH_MAX} levels"));
        }
        for (key, inner) in schema {
            match (key.as_str(), inner) {
                ("x-mcp-header", mark) => self.mark(schema, mark, place, path)?,
                ("properties", Value::Object(properties)) => {
                    let place = if place == Place::Elsewhere { Place::Elsewhere } else { Place::Property };
                    for (name, schema) in properties {
                        path.push(name.clone());
                        self.walk_value(schema, place, path, depth + 1)?;
                        path.pop();
                    }
                }
                (
                    "$defs" | "definitions" | "dependencies" | "dependentSchemas" | "patternProperties",
                    Value::Object(map),
                ) => {
                    for schema in map.values() {
                        self.walk_value(schema, Place::Elsewhere, path, depth + 1)?;
                    }
                }
                // Data and names, not schemas.
                ("default" | "const" | "enum" | "examples" | "dependentRequired", _) => {}
                _ => self.walk_value(inner, Place::Elsewhere, path, depth + 1)?,
            }
        }
        Ok(())
    }

    fn walk_value(&mut self, value: &Value, place: Place, path: &mut Vec<String>, depth: usize) -> Result<(), String> {
        match value {
            Value::Object(schema) => self.walk(schema, place, path, depth),
            Value::Array(items) => {
                items.iter().try_for_each(|item| self.walk_value(item, Place::Elsewhere, path, depth + 1))
            }
            _ => Ok(()),
        }
    }

    fn mark(&mut self, schema: &Map<String, Value>, mark: &Value, place: Place, path: &[String]) -> Result<(), String> {
        if place != Place::Property {
            return Err("`x-mcp-header` must mark a property reached through `properties` alone".to_owned());
        }
        let property = path.join(".");
        let header = mark
            .as_str()
            .filter(|mark| !mark.is_empty())
            .and_then(|mark| format!("mcp-param-{mark}").parse::<HeaderName>().ok());
        let Some(header) = header else {
            return Err(format!("`x-mcp-header` of `{property}` is not a header name"));
        };
        if !matches!(schema.get("type").and_then(Value::as_str), Some("string" | "integer" | "boolean")) {
            return Err(format!("`x-mcp-header` of `{property}` marks what is not a string, integer or boolean"));
        }
        if !self.seen.insert(header.as_str().to_owned()) {
            return Err(format!("`x-mcp-header` of `{property}` is used twice"));
        }
        self.params.push(ParamHeader { path: path.to_vec(), header });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn marks(schema: Value) -> Result<Vec<ParamHeader>, String> {
        of_schema(&schema.into())
    }

    #[test]
    fn marked_arguments_become_headers_as_they_are_spelled() {
        let schema = json!({ "type": "object", "properties": {
            "region": { "type": "string", "x-mcp-header": "Region" },
            "where": { "type": "object", "properties": { "n": { "type": "integer", "x-mcp-header": "N" } } },
            "absent": { "type": "boolean", "x-mcp-header": "Absent" },
        } });
        let arguments = RawJson::parse(r#"{"region":" é","where":{"n":12345678901234567890123}}"#).unwrap();
        let mut headers: Vec<_> = of_arguments(&marks(schema).unwrap(), arguments.raw())
            .into_iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        headers.sort();
        assert_eq!(headers, ["mcp-param-n: 12345678901234567890123", "mcp-param-region: =?base64?IMOp?="]);
    }

    #[test]
    fn wrong_marks_are_told() {
        let property = |p: Value| marks(json!({ "properties": { "a": p } }));
        assert!(property(json!({ "type": "string", "x-mcp-header": "" })).is_err());
        assert!(property(json!({ "type": "string", "x-mcp-header": "a b" })).is_err());
        assert!(property(json!({ "type": "string", "x-mcp-header": 1 })).is_err());
        assert!(property(json!({ "type": "number", "x-mcp-header": "A" })).is_err());
        assert!(property(json!({ "items": { "type": "string", "x-mcp-header": "A" } })).is_err());
        assert!(marks(json!({ "x-mcp-header": "A", "type": "string" })).is_err());
        let twice = json!({ "type": "string", "x-mcp-header": "A" });
        assert!(
            marks(json!({ "properties": { "a": twice, "b": { "type": "string", "x-mcp-header": "a" } } })).is_err()
        );
        assert_eq!(property(json!({ "default": { "x-mcp-header": "A" }, "type": "object" })), Ok(Vec::new()));
    }

    #[test]
    fn what_a_header_cannot_carry_is_wrapped() {
        assert_eq!(value("plain name"), "plain name");
        assert_eq!(value("=?base64?x?="), "=?base64?PT9iYXNlNjQ/eD89?=");
        assert_eq!(value("a\nb"), "=?base64?YQpi?=");
    }
}
