//! What a tool's schemas say of its arguments and of its result: names and types at the top, as far as a hand-over needs them.

use serde_json::Value;

use crate::json::RawJson;

/// Most properties of a schema that are looked at.
const PROPERTIES_MAX: usize = 64;
/// Most references and alternatives followed to the type of a property.
const DEPTH_MAX: usize = 4;
/// Largest schema that is looked at, in bytes.
const SCHEMA_BYTES_MAX: usize = 256 << 10;

/// One property of a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Property {
    pub(super) name: String,
    /// Types it may have, an array with that of its items: `array of string`; none: not said.
    pub(super) kinds: Vec<String>,
    pub(super) required: bool,
    /// Only listed values are taken.
    pub(super) listed: bool,
}

/// The properties of an object schema; none when it says none or cannot be read.
pub(super) fn properties(schema: &RawJson) -> Vec<Property> {
    if schema.get().len() > SCHEMA_BYTES_MAX {
        return Vec::new();
    }
    let Ok(root) = schema.view::<Value>() else { return Vec::new() };
    let object = resolved(&root, &root);
    let Some(found) = object.get("properties").and_then(Value::as_object) else { return Vec::new() };
    let required: Vec<&str> =
        object.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let property = |(name, schema): (&String, &Value)| {
        let schema = resolved(schema, &root);
        let mut kinds = Vec::new();
        collect_kinds(schema, &root, 0, &mut kinds);
        let listed = schema.get("enum").is_some() || schema.get("const").is_some();
        Property { name: name.clone(), kinds, required: required.contains(&name.as_str()), listed }
    };
    // What is required first, so that the bound never hides it behind what is not.
    let (mut first, rest): (Vec<_>, Vec<_>) = found.iter().partition(|(name, _)| required.contains(&name.as_str()));
    first.extend(rest);
    first.into_iter().take(PROPERTIES_MAX).map(property).collect()
}

/// The schema itself, or the one it refers to in the same document. Nothing is fetched.
fn resolved<'a>(mut schema: &'a Value, root: &'a Value) -> &'a Value {
    for _ in 0..DEPTH_MAX {
        let target = schema.get("$ref").and_then(Value::as_str).and_then(|to| to.strip_prefix('#'));
        match target.and_then(|pointer| root.pointer(pointer)) {
            Some(next) => schema = next,
            None => break,
        }
    }
    schema
}

fn collect_kinds(schema: &Value, root: &Value, depth: usize, kinds: &mut Vec<String>) {
    if depth > DEPTH_MAX {
        return;
    }
    let mut add = |kind: &str| {
        let of = schema.get("items").filter(|_| kind == "array").and_then(|items| {
            let mut inner = Vec::new();
            collect_kinds(resolved(items, root), root, DEPTH_MAX, &mut inner);
            <[String; 1]>::try_from(inner).ok()
        });
        let kind = of.map_or_else(|| kind.to_owned(), |[of]| format!("array of {of}"));
        if kind != "null" && !kinds.contains(&kind) {
            kinds.push(kind);
        }
    };
    match schema.get("type") {
        Some(Value::String(one)) => add(one),
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).for_each(add),
        _ => {
            for branch in ["anyOf", "oneOf"] {
                for one in schema.get(branch).and_then(Value::as_array).into_iter().flatten().take(PROPERTIES_MAX) {
                    collect_kinds(resolved(one, root), root, depth + 1, kinds);
                }
            }
        }
    }
}

/// Whether a value of one of the types `from` may be what `to` asks for; what is not said may be anything.
pub(super) fn fits(from: &[String], to: &[String]) -> bool {
    let one = |from: &str, to: &str| {
        from == to
            || from == "integer" && to == "number"
            || to == "array" && from.starts_with("array")
            || from == "array" && to.starts_with("array")
    };
    from.is_empty() || to.is_empty() || from.iter().any(|from| to.iter().any(|to| one(from, to)))
}

/// The type of a value.
pub(super) fn kind_of(value: &RawJson) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'"') => "string",
        Some(b'{') => "object",
        Some(b'[') => "array",
        Some(b't' | b'f') => "boolean",
        Some(b'n') | None => "null",
        Some(_) if value.get().contains(['.', 'e', 'E']) => "number",
        Some(_) => "integer",
    }
}

/// How well two names mean one thing: 1 when they are the same but for how their words are joined, less when one has all words of the other.
pub(super) fn likeness(a: &str, b: &str) -> f32 {
    let (a, b) = (words(a), words(b));
    if a.is_empty() || b.is_empty() {
        return 0.0;
    }
    if a.concat() == b.concat() {
        return 1.0;
    }
    let (short, long) = if a.len() < b.len() { (&a, &b) } else { (&b, &a) };
    // The last word says what it is: `file_path` is a path, `path_count` is none.
    let same = short.last() == long.last() && short.iter().all(|word| long.contains(word));
    if same { short.len() as f32 / long.len() as f32 } else { 0.0 }
}

/// The words of a name, in lower case: `filePath`, `file_path` and `file-path` have the same.
pub(super) fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut before = ' ';
    for c in name.chars() {
        let begins = !before.is_alphanumeric() || c.is_uppercase() && before.is_lowercase();
        if c.is_alphanumeric() {
            if begins || words.is_empty() {
                words.push(String::new());
            }
            if let Some(word) = words.last_mut() {
                word.extend(c.to_lowercase());
            }
        }
        before = c;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_through_references_and_alternatives() {
        let schema = RawJson::parse(
            r##"{"type":"object","required":["b","p"],"$defs":{"P":{"type":"string","enum":["x"]},"R":{"$ref":"#/$defs/R"}},
            "properties":{"a":{"anyOf":[{"type":"integer"},{"type":"null"}]},"b":{"type":"array","items":{"type":"string"}},
            "p":{"$ref":"#/$defs/P"},"r":{"$ref":"#/$defs/R"},"far":{"$ref":"https://example.com/x"}}}"##,
        )
        .unwrap();
        let told: Vec<String> = properties(&schema)
            .iter()
            .map(|p| {
                format!(
                    "{}:{}{}{}",
                    p.name,
                    p.kinds.join("|"),
                    if p.required { "!" } else { "" },
                    if p.listed { "=" } else { "" }
                )
            })
            .collect();
        assert_eq!(told, ["b:array of string!", "p:string!=", "a:integer", "far:", "r:"]);
        for odd in ["true", "[]", r#"{"properties":7}"#, r##"{"$ref":"#"}"##] {
            assert_eq!(properties(&RawJson::parse(odd).unwrap()), [], "{odd}");
        }
    }

    #[test]
    fn types_and_names_fit_or_not() {
        let kinds = |text: &str| text.split('|').filter(|kind| !kind.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        for (from, to, wanted) in [
            ("string", "string", true),
            ("integer", "number", true),
            ("number", "integer", false),
            ("array of string", "array", true),
            ("array of string", "array of integer", false),
            ("", "object", true),
            ("string|integer", "integer", true),
        ] {
            assert_eq!(fits(&kinds(from), &kinds(to)), wanted, "{from} to {to}");
        }
        assert_eq!(likeness("filePath", "file_path"), 1.0);
        assert_eq!(likeness("path", "file_path"), 0.5);
        assert_eq!(likeness("path", "path_count"), 0.0);
        assert_eq!(likeness("", "x"), 0.0);
    }
}
