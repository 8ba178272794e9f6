//! Whether an input fits a tool's `inputSchema`, and if not, what to change: the first thing that is wrong, in one short sentence.
//!
//! Nothing is ever fetched and no value of the input is repeated. A schema that cannot be judged here (broken, too large, with remote or
//! endless references) refuses nothing: the server that wrote it decides.

mod expansion;
mod words;

use std::sync::{Arc, LazyLock, OnceLock};

use jsonschema::{PatternOptions, ValidationError, Validator, error::ValidationErrorKind};
use moka::sync::Cache;
use serde_json::{Map, Value};

use self::{
    expansion::Expansion,
    words::{explain, short},
};
use super::Capability;
use crate::{
    json::RawJson,
    pointer::Digest,
    task::{Need, reference::is_reference},
};

/// Largest schema that is compiled, in bytes.
const SCHEMA_BYTES_MAX: usize = 256 << 10;
/// Schemas kept compiled.
const KNOWN_MAX: u64 = 1_024;
/// Steps back one pattern may take on one text.
const PATTERN_BACKTRACKS_MAX: usize = 10_000;
/// Size of one compiled pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// In the place of an input that nobody has made yet.
pub(crate) const UNKNOWN_INPUT: &str = "null";

static KNOWN: LazyLock<Cache<Digest, Arc<Known>>> = LazyLock::new(|| Cache::new(KNOWN_MAX));

/// A schema that inputs were held against.
#[derive(Debug, Default)]
struct Known {
    outline: Outline,
    /// Compiled when the outline does not settle it; `None` when it is left to the server.
    validator: OnceLock<Option<Validator>>,
}

impl Known {
    fn of(capability: &Capability) -> Arc<Self> {
        KNOWN.get_with(capability.digest, || {
            let outline = capability.input_schema.view().map(|schema: Value| Outline::of(&schema)).unwrap_or_default();
            Arc::new(Self { outline, validator: OnceLock::new() })
        })
    }

    fn validator(&self, capability: &Capability) -> Option<&Validator> {
        self.validator.get_or_init(|| compile(capability)).as_ref()
    }
}

/// Why the capability's `inputSchema` refuses `input`, or `None` when it does not. At most 300 bytes.
///
/// Compiled schemas are kept by the definition's digest, so a capability whose schema differs from its definition must have a digest of
/// its own. Blocks for as long as the check takes; the input's size bounds it.
#[must_use]
pub fn refusal(capability: &Capability, input: &RawJson) -> Option<String> {
    refused(capability, &Input::parse(input))
}

/// The same for the input of a need, which may be in the words of the capability's group unless the need names its tool.
#[must_use]
pub fn refusal_of_need(capability: &Capability, need: &Need) -> Option<String> {
    refused(capability, &Input::of(need))
}

fn refused(capability: &Capability, input: &Input) -> Option<String> {
    input.refused_by(capability, &Known::of(capability).outline)
}

/// What of a schema is worth knowing before it is compiled.
#[derive(Debug, Clone, Default)]
pub(super) struct Outline {
    required: Box<[Box<str>]>,
    accepts_empty: bool,
}

/// Keywords that say nothing about an object without properties.
const SILENT_ON_EMPTY: [&str; 17] = [
    "$comment",
    "$defs",
    "$id",
    "$schema",
    "additionalProperties",
    "default",
    "definitions",
    "deprecated",
    "description",
    "examples",
    "maxProperties",
    "patternProperties",
    "properties",
    "propertyNames",
    "required",
    "title",
    "type",
];

/// Keywords whose schemas hold or not as other values of the input are.
const BRANCHES: [&str; 5] = ["then", "else", "dependentRequired", "dependentSchemas", "dependencies"];

impl Outline {
    pub(super) fn of(schema: &Value) -> Self {
        let Value::Object(object) = schema else {
            return Self { accepts_empty: schema == &Value::Bool(true), ..Self::default() };
        };
        // Before draft 2019-09 a reference hides all its neighbours.
        if object.contains_key("$ref") {
            return Self::default();
        }
        let is_object = match object.get("type") {
            None => true,
            Some(Value::String(t)) => t == "object",
            Some(Value::Array(of)) => of.iter().any(|t| t == "object"),
            Some(_) => false,
        };
        let required: Box<[Box<str>]> = object
            .get("required")
            .and_then(Value::as_array)
            .map(|names| names.iter().filter_map(|n| n.as_str().map(Box::from)).collect())
            .unwrap_or_default();
        let silent = object.keys().all(|k| SILENT_ON_EMPTY.contains(&k.as_str()));
        Self { accepts_empty: is_object && silent && required.is_empty(), required }
    }
}

/// An input, parsed once for all the schemas it is held against.
#[derive(Debug)]
pub(super) struct Input {
    value: Value,
    /// Where references stand, as JSON pointers: what will be there is judged when it is.
    open: Vec<String>,
    /// It is not known yet, so nothing refuses it.
    unknown: bool,
    /// As it was written, when it may be in the words of a group.
    of_group: Option<RawJson>,
}

impl Input {
    pub(super) fn parse(input: &RawJson) -> Self {
        let mut open = Vec::new();
        let value = match input.get() {
            "{}" => Value::Object(Map::new()),
            // What cannot be read, such as a nesting too deep, is no object that any tool asks for.
            _ => input.view().unwrap_or(Value::Null),
        };
        if input.get().contains("\"$ref\"") {
            find_open(&value, &mut String::new(), &mut open);
        }
        Self { value, open, unknown: input.get() == UNKNOWN_INPUT, of_group: None }
    }

    /// The input of a need: who names a tool speaks of its own arguments.
    pub(super) fn of(need: &Need) -> Self {
        Self { of_group: need.tool.is_none().then(|| need.input.clone()), ..Self::parse(&need.input) }
    }

    /// The names of its properties.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.value.as_object().into_iter().flatten().map(|(k, _)| k.as_str())
    }

    pub(super) fn refused_by(&self, capability: &Capability, outline: &Outline) -> Option<String> {
        let id = &capability.id;
        if self.unknown {
            return None;
        }
        match self.of_group.as_ref().map(|input| capability.put(input)) {
            Some(Ok(Some(own))) => return Self::parse(&own).refused_by(capability, outline),
            Some(Err(why)) => return Some(short(why)),
            Some(Ok(None)) | None => {}
        }
        let Value::Object(given) = &self.value else {
            return Some(short(format!("input: must be a JSON object, the arguments of {id}")));
        };
        if let Some(missing) = outline.required.iter().find(|name| !given.contains_key(name.as_ref())) {
            return Some(short(format!("input: `{missing}` is required by {id}")));
        }
        if outline.accepts_empty && given.is_empty() {
            return None;
        }
        let known = Known::of(capability);
        let validator = known.validator(capability)?;
        let error = if self.open.is_empty() {
            validator.validate(&self.value).err()?
        } else {
            validator.iter_errors(&self.value).find(|error| !self.is_open(error))?
        };
        explain(&error, capability).map(short)
    }

    /// Whether an error may go away when the references have their values: it is about one of them, about the whole of something that has one
    /// in it, or of a branch that another value chose.
    fn is_open(&self, error: &ValidationError<'_>) -> bool {
        use ValidationErrorKind as Kind;
        if error.evaluation_path().as_str().split('/').any(|step| BRANCHES.contains(&step)) {
            return true;
        }
        let at = error.instance_path().as_str();
        let within =
            |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|r| r.is_empty() || r.starts_with('/'));
        let of_the_whole = matches!(
            error.kind(),
            Kind::AnyOf { .. }
                | Kind::OneOfNotValid { .. }
                | Kind::OneOfMultipleValid { .. }
                | Kind::Not { .. }
                | Kind::Contains
                | Kind::Enum { .. }
                | Kind::Constant { .. }
                | Kind::UniqueItems
                | Kind::UnevaluatedItems { .. }
                | Kind::UnevaluatedProperties { .. }
        );
        self.open.iter().any(|open| within(at, open) || of_the_whole && within(open, at))
    }
}

/// Nesting is bounded by the parser.
fn find_open(value: &Value, at: &mut String, open: &mut Vec<String>) {
    if is_reference(value) {
        return open.push(at.clone());
    }
    let mut into = |step: &str, child: &Value| {
        let len = at.len();
        at.push('/');
        at.push_str(step);
        find_open(child, at, open);
        at.truncate(len);
    };
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, child)| into(&name.replace('~', "~0").replace('/', "~1"), child));
        }
        Value::Array(items) => items.iter().enumerate().for_each(|(n, child)| into(&n.to_string(), child)),
        _ => {}
    }
}

fn compile(capability: &Capability) -> Option<Validator> {
    let text = capability.input_schema.get();
    let left = |why: &str| tracing::debug!(capability = %capability.id, why, "input schema is left to the server");
    if text.len() > SCHEMA_BYTES_MAX {
        left("larger than the bound");
        return None;
    }
    let schema: Value = capability.input_schema.view().map_err(|e| left(&e.to_string())).ok()?;
    if !Expansion::of(&schema).bounded() {
        left("its references are endless, too many, or not plain pointers");
        return None;
    }
    jsonschema::options()
        .offline()
        .should_validate_formats(false)
        .with_pattern_options(
            PatternOptions::fancy_regex().backtrack_limit(PATTERN_BACKTRACKS_MAX).size_limit(PATTERN_BYTES_MAX),
        )
        .build(&schema)
        .map_err(|e| left(&e.to_string()))
        .ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        expansion::{REFERENCE_CHAIN_MAX, REFERENCES_MAX},
        words::REFUSAL_BYTES_MAX,
        *,
    };
    use crate::id::ServerName;

    fn tool(schema: Value) -> Capability {
        let mut definition = json!({ "name": "outline" });
        definition["inputSchema"] = schema;
        Capability::from_definition(&ServerName::new("code").unwrap(), Arc::default(), definition.into()).unwrap()
    }

    fn verdict(schema: Value, input: Value) -> Option<String> {
        let said = refusal(&tool(schema), &input.into());
        assert!(said.as_ref().is_none_or(|s| s.len() <= REFUSAL_BYTES_MAX && !s.is_empty()), "{said:?}");
        said
    }

    #[test]
    fn a_missing_property_is_named() {
        let schema =
            json!({"type":"object","required":["path"],"properties":{"path":{"type":"string"},"o":{"required":["x"]}}});
        assert_eq!(verdict(schema.clone(), json!({})).unwrap(), "input: `path` is required by code/outline");
        let nested = verdict(schema.clone(), json!({"path":"a","o":{}})).unwrap();
        assert_eq!(nested, "input.o: `x` is required by code/outline");
        assert_eq!(verdict(schema, json!({"path":"a"})), None);
    }

    #[test]
    fn a_wrong_type_an_unknown_name_and_a_bad_choice_say_what_to_change() {
        let schema = json!({"type":"object","additionalProperties":false,"properties":{"depth":{"type":"integer"},"mode":{"enum":["a","b"]}}});
        assert_eq!(
            verdict(schema.clone(), json!({"depth":"deep"})).unwrap(),
            "input.depth: must be of type integer for code/outline"
        );
        assert_eq!(
            verdict(schema.clone(), json!({"dept":1})).unwrap(),
            "input: `dept` is not known to code/outline; it takes `depth`, `mode`"
        );
        assert!(verdict(schema, json!({"mode":"c"})).unwrap().contains(r#"must be one of ["a","b"]"#));
    }

    #[test]
    fn values_of_the_input_are_not_repeated() {
        let schema = json!({"properties":{"token":{"type":"string","maxLength":3},"n":{"minimum":5}}});
        assert!(!verdict(schema.clone(), json!({"token":"hunter2-secret"})).unwrap().contains("hunter2"));
        assert!(!verdict(schema, json!({"n":-98_765})).unwrap().contains("98765"));
    }

    #[test]
    fn what_a_reference_may_still_mend_is_not_refused() {
        let open = json!({"$ref":"task://01997f3e-5c1a-7d3e-9c55-0a1b2c3d4e5f#/x"});
        let pair = json!({"a":open,"b":1});
        for (schema, input) in [
            (json!({"properties":{"x":{"contains":{"const":5}}}}), json!({"x":[1,open]})),
            (json!({"properties":{"x":{"enum":[{"a":2,"b":1}]}}}), json!({"x":pair})),
            (json!({"properties":{"x":{"const":{"a":2,"b":1}}}}), json!({"x":pair})),
            (json!({"properties":{"x":{"uniqueItems":true}}}), json!({"x":[open,open]})),
            (json!({"if":{"properties":{"x":{"const":5}}},"else":{"required":["y"]}}), json!({"x":open})),
            (
                json!({"if":{"properties":{"x":{"type":"object"}}},"then":{"properties":{"y":{"maxLength":1}}}}),
                json!({"x":open,"y":"long"}),
            ),
            (json!({"dependentSchemas":{"x":{"properties":{"y":{"maxLength":1}}}}}), json!({"x":open,"y":"long"})),
            (
                json!({"anyOf":[{"properties":{"x":{"const":5},"y":true}}],"unevaluatedProperties":false}),
                json!({"x":open,"y":1}),
            ),
            (
                json!({"$defs":{"d":{"required":["y"]}},"if":{"properties":{"x":{"const":5}}},"else":{"$ref":"#/$defs/d"}}),
                json!({"x":open}),
            ),
        ] {
            assert_eq!(verdict(schema.clone(), input), None, "{schema}");
        }
        for (schema, input) in [
            (json!({"properties":{"x":{"contains":{"const":5}}}}), json!({"x":[1],"o":open})),
            (json!({"properties":{"y":{"enum":[1]}}}), json!({"x":open,"y":2})),
            (json!({"required":["y"]}), json!({"x":open})),
            (json!({"properties":{"y":{"type":"string"}}}), json!({"x":open,"y":2})),
        ] {
            assert!(verdict(schema.clone(), input).is_some(), "{schema}");
        }
    }

    #[test]
    fn an_input_that_is_no_object_is_refused() {
        assert!(verdict(json!({"type":"object"}), json!([1])).unwrap().contains("must be a JSON object"));
    }

    #[test]
    fn an_empty_input_is_judged_by_every_keyword() {
        assert_eq!(verdict(json!({"type":"object"}), json!({})), None);
        assert_eq!(verdict(json!(true), json!({})), None);
        assert!(verdict(json!(false), json!({})).is_some());
        assert!(verdict(json!({"type":"object","minProperties":1}), json!({})).is_some());
        assert!(verdict(json!({"type":"object","anyOf":[{"required":["a"]},{"required":["b"]}]}), json!({})).is_some());
        assert!(verdict(json!({"type":"string"}), json!({})).is_some());
    }

    #[test]
    fn a_reference_of_an_old_draft_hides_its_neighbours() {
        let schema = json!({
            "$schema":"http://json-schema.org/draft-07/schema#","definitions":{"any":{"type":"object"}},
            "$ref":"#/definitions/any","required":["hidden"]
        });
        assert_eq!(verdict(schema, json!({})), None);
    }

    #[test]
    fn a_schema_that_cannot_be_judged_is_left_to_the_server() {
        for schema in [
            json!({"$ref":"https://example.com/schema.json"}),
            json!({"$ref":"#/nowhere"}),
            json!({"$ref":"file:///etc/passwd"}),
            json!({"properties":{"x":{"pattern":"("}}}),
            json!({"$schema":"https://example.com/own-draft"}),
            json!({"type":"no such type"}),
        ] {
            assert_eq!(verdict(schema.clone(), json!({"x":"y"})), None, "{schema}");
        }
    }

    #[test]
    fn endless_and_exploding_references_end() {
        assert_eq!(verdict(json!({"$ref":"#"}), json!({"x":1})), None);
        let mutual =
            json!({"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"allOf":[{"$ref":"#/$defs/a"}]}},"$ref":"#/$defs/a"});
        assert_eq!(verdict(mutual, json!({"x":1})), None);
        let mut defs = Map::new();
        defs.insert("n0".into(), json!({"type":"object"}));
        for level in 1..40 {
            let below = json!({"$ref": format!("#/$defs/n{}", level - 1)});
            defs.insert(format!("n{level}"), json!({"allOf":[below, below]}));
        }
        assert_eq!(verdict(json!({"$defs":defs,"$ref":"#/$defs/n39"}), json!({"x":1})), None);
    }

    #[test]
    fn long_chains_of_references_neither_overflow_nor_stall() {
        for links in [REFERENCE_CHAIN_MAX - 5, REFERENCES_MAX - 5, 20_000] {
            for in_place in [true, false] {
                let mut defs = Map::new();
                for i in 0..links {
                    let next = json!({"$ref": format!("#/$defs/n{}", i + 1)});
                    defs.insert(format!("n{i}"), if in_place { next } else { json!({"properties":{"a":next}}) });
                }
                defs.insert(format!("n{links}"), json!({"type":"object"}));
                let _ = verdict(json!({"$defs":defs,"$ref":"#/$defs/n0"}), json!({"a":{"a":1}}));
            }
        }
    }

    #[test]
    fn a_tree_shaped_schema_is_followed_as_deep_as_the_input_goes() {
        let tree = json!({"type":"object","properties":{"child":{"$ref":"#"},"name":{"type":"string"}}});
        let mut input = json!({"name":7});
        for _ in 0..60 {
            input = json!({ "child": input });
        }
        assert!(verdict(tree, input).unwrap().contains("must be of type string"));
    }

    #[test]
    fn a_pattern_made_to_backtrack_is_bounded() {
        let schema = json!({"properties":{"x":{"pattern":"^(?=(a+)+$)(a+)+b\\2$"}}});
        let said = verdict(schema, json!({"x":"a".repeat(5_000)}));
        assert!(said.is_none_or(|s| s.contains("pattern")));
    }
}
