//! What is wrong with an input, in one short sentence that names the place and no value.

use jsonschema::{
    ValidationError,
    error::{TypeKind, ValidationErrorKind},
};
use serde_json::Value;

use crate::{id::CapabilityId, matching::Capability};

/// Longest answer, in bytes.
pub(super) const REFUSAL_BYTES_MAX: usize = 300;
/// Longest path named in an answer, in bytes.
const PLACE_BYTES_MAX: usize = 80;
/// Properties named in an answer.
const KNOWN_PROPERTIES_MAX: usize = 8;

/// `None` when the schema could not judge the input.
pub(super) fn explain(error: &ValidationError<'_>, capability: &Capability) -> Option<String> {
    use ValidationErrorKind as Kind;
    let id: &CapabilityId = &capability.id;
    let at = place(error.instance_path().as_str());
    Some(match error.kind() {
        Kind::BacktrackLimitExceeded { .. } | Kind::RegexEngineFailure { .. } | Kind::Referencing(_) => return None,
        Kind::Required { property } => {
            format!("{at}: `{}` is required by {id}", property.as_str().unwrap_or_default())
        }
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            let name = unexpected.first().map_or("", String::as_str);
            match known_properties(capability, error.instance_path().as_str()) {
                Some(known) => format!("{at}: `{name}` is not known to {id}; it takes {known}"),
                None => format!("{at}: `{name}` is not known to {id}; leave it out"),
            }
        }
        Kind::Type { kind: TypeKind::Single(one) } => format!("{at}: must be of type {one} for {id}"),
        Kind::Type { kind: TypeKind::Multiple(several) } => {
            let names: Vec<String> = several.iter().map(|t| t.to_string()).collect();
            format!("{at}: must be of type {} for {id}", names.join(" or "))
        }
        Kind::Enum { options } => format!("{at}: must be one of {options} for {id}"),
        Kind::Constant { expected_value } => format!("{at}: must be {expected_value} for {id}"),
        Kind::Pattern { pattern } => format!("{at}: must match the pattern {pattern} for {id}"),
        Kind::AnyOf { .. } | Kind::OneOfNotValid { .. } => format!("{at}: fits none of the forms that {id} takes"),
        Kind::OneOfMultipleValid { .. } => format!("{at}: fits more than one of the forms that {id} tells apart"),
        Kind::Not { .. } => format!("{at}: has a form that {id} excludes"),
        Kind::FalseSchema => format!("{at}: is not taken by {id}; leave it out"),
        _ => format!("{at}: {} (asked by {id})", error.masked()),
    })
}

/// `/a/0/b` as `input.a.0.b`; of a long path its end.
fn place(pointer: &str) -> String {
    let path = pointer.replace('/', ".").replace("~1", "/").replace("~0", "~");
    match path.len().checked_sub(PLACE_BYTES_MAX) {
        None | Some(0) => format!("input{path}"),
        Some(over) => format!("input…{}", &path[path.ceil_char_boundary(over)..]),
    }
}

/// The property names of the object at the top; deeper ones are not looked for.
fn known_properties(capability: &Capability, pointer: &str) -> Option<String> {
    if !pointer.is_empty() {
        return None;
    }
    let schema: Value = capability.input_schema.view().ok()?;
    let properties = schema.get("properties")?.as_object()?;
    let names: Vec<String> = properties.keys().take(KNOWN_PROPERTIES_MAX).map(|k| format!("`{k}`")).collect();
    let more = if properties.len() > names.len() { ", …" } else { "" };
    (!names.is_empty()).then(|| names.join(", ") + more)
}

pub(super) fn short(mut text: String) -> String {
    if text.len() > REFUSAL_BYTES_MAX {
        let mark = "…";
        text.truncate(text.floor_char_boundary(REFUSAL_BYTES_MAX - mark.len()));
        text.push_str(mark);
    }
    text
}
