//! The form of a JSON value as a short JSON Schema: types and names to a small depth, so that a reader knows where to point. Pure.

use serde_json::value::RawValue;

use crate::gateway::members::{Members, quoted};

/// How deep the outline goes.
const DEPTH_MAX: usize = 4;
/// Most properties told of one object.
const PROPERTIES_MAX: usize = 16;

/// The outline of a JSON text.
pub(super) fn of(text: &str) -> String {
    serde_json::from_str::<&RawValue>(text).map_or_else(|_| "{}".to_owned(), |value| level(value, 0))
}

fn level(value: &RawValue, depth: usize) -> String {
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'{') => object(text, depth),
        Some(b'[') => array(text, depth),
        Some(b'"') => format!(r#"{{"type":"string","maxLength":{}}}"#, text.len().saturating_sub(2)),
        Some(b't' | b'f') => r#"{"type":"boolean"}"#.to_owned(),
        Some(b'n') => r#"{"type":"null"}"#.to_owned(),
        _ => r#"{"type":"number"}"#.to_owned(),
    }
}

fn object(text: &str, depth: usize) -> String {
    let members = match Members::of(text) {
        Ok(members) if depth < DEPTH_MAX => members,
        _ => return r#"{"type":"object"}"#.to_owned(),
    };
    let told = members.0.iter().take(PROPERTIES_MAX);
    let properties: Vec<String> =
        told.map(|(key, value)| format!("{}:{}", quoted(key), level(value, depth + 1))).collect();
    format!(r#"{{"type":"object","properties":{{{}}}}}"#, properties.join(","))
}

fn array(text: &str, depth: usize) -> String {
    let items: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
    let count = items.len();
    match items.first() {
        Some(first) if depth < DEPTH_MAX => {
            format!(r#"{{"type":"array","maxItems":{count},"items":{}}}"#, level(first, depth + 1))
        }
        _ => format!(r#"{{"type":"array","maxItems":{count}}}"#),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_a_value_is_told() {
        let told = of(r#"{"rows":[{"id":1,"name":"abc"},{}],"ok":true,"none":null}"#);
        let value: serde_json::Value = serde_json::from_str(&told).unwrap();
        let rows = &value["properties"]["rows"];
        assert_eq!((&rows["type"], &rows["maxItems"]), (&"array".into(), &2.into()));
        assert_eq!(rows["items"]["properties"]["name"]["maxLength"], 3);
        assert_eq!(value["properties"]["ok"]["type"], "boolean");
    }

    #[test]
    fn it_stays_short() {
        let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
        assert!(of(&deep).len() < 300);
        let wide: String = (0..500).map(|n| format!(r#""k{n}":{n},"#)).collect();
        assert!(of(&format!("{{{}}}", wide.trim_end_matches(','))).len() < 1_000);
        assert_eq!(of("no json"), "{}");
    }
}
