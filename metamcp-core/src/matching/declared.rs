//! What configuration declares a tool to be in its group of equivalents: what it is called there, and, where its arguments are others, how
//! those of the group are put into its own.
//!
//! ```text
//! git_show = { tool = "read_file", arguments = { repo_path = "/srv/docs", revision = "HEAD:{path}" } }
//! ```
//! `{path}` alone is the group's argument as it is, within other text it is its text; anything else is always the same. What is put together
//! of an argument that was not given is left out. An argument that has no place here is never dropped: it refuses the tool.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::Deserialize;
use serde_json::Value;

use crate::{json::RawJson, task::reference::is_reference};

/// A tool's name in its group, and how its arguments are made of the group's.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Value")]
pub struct GroupTool {
    name: String,
    /// By the tool's own names; `None`: they are the group's.
    arguments: Option<BTreeMap<String, Form>>,
}

impl GroupTool {
    /// A tool with the arguments of the group.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), arguments: None }
    }

    /// The same with arguments of its own, each by what it is made of.
    ///
    /// # Errors
    /// When one is neither text, a number nor true or false, or has a brace that does not name an argument; the message says which.
    pub fn with_arguments(self, arguments: impl IntoIterator<Item = (String, Value)>) -> Result<Self, String> {
        let form = |(own, value)| match Form::read(value) {
            Ok(form) => Ok((own, form)),
            Err(mend) => Err(format!("arguments.{own}: {mend}")),
        };
        Ok(Self { arguments: Some(arguments.into_iter().map(form).collect::<Result<_, _>>()?), ..self })
    }

    /// What it is called in the group.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its own arguments, each as configuration writes what it is made of.
    pub fn arguments(&self) -> Option<impl Iterator<Item = (&String, String)>> {
        Some(self.arguments.as_ref()?.iter().map(|(own, form)| (own, form.to_string())))
    }

    /// The tool's arguments for an input in the words of the group; `None` when the input is in its own.
    ///
    /// # Errors
    /// When the input mixes the two, or a value cannot be part of a text; the message says which.
    pub(super) fn put(&self, input: &RawJson) -> Result<Option<RawJson>, String> {
        let Some(arguments) = &self.arguments else { return Ok(None) };
        // What is no object is told of by the schema.
        let Ok(given) = input.view::<BTreeMap<String, RawJson>>() else { return Ok(None) };
        let taken: BTreeSet<&str> = arguments.values().flat_map(Form::names).collect();
        if let Some(unknown) = given.keys().find(|name| !taken.contains(name.as_str())) {
            if !given.keys().any(|name| taken.contains(name.as_str())) {
                return Ok(None);
            }
            return Err(format!("`{unknown}` has no place in the arguments that are declared for it"));
        }
        let mut own = BTreeMap::new();
        for (name, form) in arguments {
            if let Some(value) = form.of(&given)? {
                own.insert(name, value);
            }
        }
        RawJson::from_value(&own).map(Some).map_err(|error| error.to_string())
    }
}

impl TryFrom<Value> for GroupTool {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Declared {
            tool: String,
            arguments: Option<BTreeMap<String, Value>>,
        }
        if let Value::String(name) = value {
            return Ok(Self::named(name));
        }
        let Declared { tool, arguments } = serde_json::from_value(value).map_err(|error| {
            format!("a tool is its name in the group, or {{ tool = NAME, arguments = {{ … }} }}: {error}")
        })?;
        match arguments {
            Some(arguments) => Self::named(tool).with_arguments(arguments),
            None => Ok(Self::named(tool)),
        }
    }
}

/// What one of a tool's own arguments is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    /// The group's argument as it is.
    Argument(String),
    /// Text with arguments in it.
    Text(Vec<Piece>),
    /// Always the same.
    Constant(RawJson),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Words(String),
    Argument(String),
}

impl Form {
    fn read(value: Value) -> Result<Self, String> {
        match value {
            Value::String(text) => {
                let pieces = pieces(&text)?;
                Ok(match pieces.as_slice() {
                    [Piece::Argument(name)] => Self::Argument(name.clone()),
                    [] => Self::Constant(Value::from("").into()),
                    [Piece::Words(words)] => Self::Constant(Value::from(words.as_str()).into()),
                    _ => Self::Text(pieces),
                })
            }
            Value::Number(_) | Value::Bool(_) => Ok(Self::Constant(value.into())),
            _ => Err("must be text, a number, true or false".to_owned()),
        }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let (one, several) = match self {
            Self::Argument(name) => (Some(name.as_str()), [].as_slice()),
            Self::Text(pieces) => (None, pieces.as_slice()),
            Self::Constant(_) => (None, [].as_slice()),
        };
        one.into_iter().chain(several.iter().filter_map(|piece| match piece {
            Piece::Argument(name) => Some(name.as_str()),
            Piece::Words(_) => None,
        }))
    }

    /// `None` when an argument that it is made of was not given.
    fn of(&self, given: &BTreeMap<String, RawJson>) -> Result<Option<RawJson>, String> {
        let pieces = match self {
            Self::Argument(name) => return Ok(given.get(name).cloned()),
            Self::Constant(value) => return Ok(Some(value.clone())),
            Self::Text(pieces) => pieces,
        };
        let mut text = String::new();
        for piece in pieces {
            let name = match piece {
                Piece::Words(words) => {
                    text.push_str(words);
                    continue;
                }
                Piece::Argument(name) => name,
            };
            let Some(value) = given.get(name) else { return Ok(None) };
            match value.view::<Value>().unwrap_or_default() {
                Value::String(words) => text.push_str(&words),
                Value::Number(_) | Value::Bool(_) => text.push_str(value.get()),
                // Another task's result, which is not there yet.
                reference if is_reference(&reference) => return Ok(Some(value.clone())),
                _ => return Err(format!("`{name}` must be text, a number, true or false to be part of a text")),
            }
        }
        Ok(Some(Value::from(text).into()))
    }
}

/// As configuration writes it.
impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escaped = |words: &str| words.replace('{', "{{").replace('}', "}}");
        let text = match self {
            Self::Argument(name) => format!("{{{name}}}"),
            Self::Text(pieces) => pieces
                .iter()
                .map(|piece| match piece {
                    Piece::Words(words) => escaped(words),
                    Piece::Argument(name) => format!("{{{name}}}"),
                })
                .collect(),
            Self::Constant(value) => match value.view::<Value>() {
                Ok(Value::String(words)) => escaped(&words),
                _ => return f.write_str(value.get()),
            },
        };
        write!(f, "{}", Value::from(text))
    }
}

/// The parts of a text in which `{name}` is an argument and `{{` a brace.
fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let (mut pieces, mut words, mut rest) = (Vec::new(), String::new(), text);
    while let Some(at) = rest.find(['{', '}']) {
        words.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            words.push_str(brace);
            rest = after;
            continue;
        }
        let name = (brace == "{").then(|| rest.split_once('}')).flatten();
        let Some((name, after)) = name.filter(|(name, _)| !name.is_empty() && !name.contains('{')) else {
            return Err("write {name} for an argument of the group, {{ and }} for braces".to_owned());
        };
        if !words.is_empty() {
            pieces.push(Piece::Words(std::mem::take(&mut words)));
        }
        pieces.push(Piece::Argument(name.to_owned()));
        rest = after;
    }
    words.push_str(rest);
    if !words.is_empty() {
        pieces.push(Piece::Words(words));
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tool(arguments: &Value) -> Result<GroupTool, String> {
        GroupTool::try_from(json!({ "tool": "read_file", "arguments": arguments }))
    }

    fn put(arguments: &Value, input: &str) -> Result<Option<String>, String> {
        let own = tool(arguments)?.put(&RawJson::parse(input).unwrap())?;
        Ok(own.map(|own| own.get().to_owned()))
    }

    #[test]
    fn the_groups_arguments_are_put_into_the_tools_own() {
        let git = json!({ "repo": "/srv", "revision": "HEAD:{path}", "lines": "{head}", "raw": true });
        let own = |input| put(&git, input).unwrap();
        assert_eq!(own(r#"{"path":"a\"b"}"#).unwrap(), r#"{"raw":true,"repo":"/srv","revision":"HEAD:a\"b"}"#);
        let whole = own(r#"{"path":1.50,"head":{"a":[1.0]}}"#).unwrap();
        assert_eq!(whole, r#"{"lines":{"a":[1.0]},"raw":true,"repo":"/srv","revision":"HEAD:1.50"}"#);
        assert_eq!(own("{}").unwrap(), r#"{"raw":true,"repo":"/srv"}"#, "what was not given is left out");
        assert_eq!(own(r#"{"repo":"/other","revision":"main"}"#), None, "its own words are left as they are");
        assert_eq!(own("null"), None);
        let later = own(r#"{"path":{"$ref":"task://01900000-0000-7000-8000-000000000000"}}"#).unwrap();
        assert!(later.contains(r#""revision":{"$ref""#), "a result that is not there yet keeps its place: {later}");
    }

    #[test]
    fn nothing_that_was_given_is_dropped_and_nothing_is_guessed() {
        let wrong = |input: &str| put(&json!({ "revision": "HEAD:{path}" }), input).unwrap_err();
        assert!(wrong(r#"{"path":"a","tail":3}"#).starts_with("`tail` has no place"));
        assert!(wrong(r#"{"path":["a"]}"#).starts_with("`path` must be text"));
    }

    #[test]
    fn a_declaration_says_what_is_wrong_with_it_and_prints_as_it_was_written() {
        for (arguments, mend) in [
            (json!({ "a": "x{" }), "arguments.a: write {name}"),
            (json!({ "a": "}" }), "arguments.a: write {name}"),
            (json!({ "a": "{}" }), "arguments.a: write {name}"),
            (json!({ "a": ["x"] }), "arguments.a: must be text"),
        ] {
            let said = tool(&arguments).unwrap_err();
            assert!(said.starts_with(mend), "{said}");
        }
        assert!(GroupTool::try_from(json!({ "tool": "x", "argument": {} })).unwrap_err().contains("tool = NAME"));
        assert_eq!(GroupTool::try_from(json!("x")).unwrap(), GroupTool::named("x"));
        let written = json!({ "a": "{{{path}}}: \"", "b": 2, "c": "{path}", "d": "", "e": "{{}}" });
        let printed: Vec<(String, Value)> = tool(&written)
            .unwrap()
            .arguments()
            .unwrap()
            .map(|(own, text)| (own.clone(), serde_json::from_str(&text).unwrap()))
            .collect();
        assert_eq!(Value::Object(printed.into_iter().collect()), written);
    }
}
