//! Which texts of a capability are indexed, each as a field with its weight, and how often-repeated words and long texts are levelled.
//!
//! Typical lengths are fixed, not averages of the catalogue: what one tool weighs does not depend on which others are known.

use serde_json::{Map, Value};

use crate::matching::Capability;

/// A text of a capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Name,
    Title,
    Description,
    SchemaName,
    SchemaText,
    Label,
    Server,
    ServerText,
}

/// Number of fields.
pub(super) const FIELDS: usize = 8;

/// How a field counts.
struct Law {
    weight: f32,
    /// How much a text longer than typical loses, 0 to 1.
    levelling: f32,
    /// Words of a typical text.
    typical_words: f32,
    /// What a reason calls it.
    reported: &'static str,
}

/// In the order of [`Field`].
const LAWS: [Law; FIELDS] = [
    Law { weight: 2.5, levelling: 0.4, typical_words: 3.0, reported: "name" },
    Law { weight: 2.0, levelling: 0.4, typical_words: 3.0, reported: "title" },
    Law { weight: 1.0, levelling: 0.3, typical_words: 14.0, reported: "description" },
    Law { weight: 0.8, levelling: 0.5, typical_words: 4.0, reported: "schema" },
    Law { weight: 0.5, levelling: 0.6, typical_words: 15.0, reported: "schema" },
    Law { weight: 1.5, levelling: 0.4, typical_words: 3.0, reported: "labels" },
    Law { weight: 1.5, levelling: 0.2, typical_words: 2.0, reported: "server" },
    Law { weight: 0.5, levelling: 0.4, typical_words: 12.0, reported: "server" },
];

/// Occurrences by field, saturating.
pub(super) type Counts = [u8; FIELDS];
/// Words by field, saturating.
pub(super) type Lengths = [u16; FIELDS];

/// Half of the weight a term can reach is reached at this many weighted occurrences.
const SATURATION: f32 = 3.0;
/// What it is worth that a term is there at all: rewards the tool that covers more words of the need.
const PRESENCE: f32 = 0.1;
/// A term of this many tools weighs little; a fixed number, so that other tools do not change what a term weighs.
const COMMON_TOOLS: f32 = 256.0;

impl Field {
    pub(super) const ALL: [Self; FIELDS] = [
        Self::Name,
        Self::Title,
        Self::Description,
        Self::SchemaName,
        Self::SchemaText,
        Self::Label,
        Self::Server,
        Self::ServerText,
    ];

    pub(super) const fn at(self) -> usize {
        self as usize
    }

    /// What a reason calls it.
    pub(super) const fn reported(self) -> &'static str {
        LAWS[self.at()].reported
    }

    /// Fields that are no sentences keep their grammar words: a tool may be called `who_am_i`.
    pub(super) const fn keeps_stop_words(self) -> bool {
        matches!(self, Self::Name | Self::Label)
    }
}

/// What these occurrences in this field are worth, before saturation.
pub(super) fn field_share(field: Field, counts: &Counts, lengths: &Lengths) -> f32 {
    let (law, at) = (&LAWS[field.at()], field.at());
    if counts[at] == 0 {
        return 0.0;
    }
    let level = 1.0 - law.levelling + law.levelling * f32::from(lengths[at]) / law.typical_words;
    law.weight * f32::from(counts[at]) / level
}

/// What a term with these occurrences is worth in a tool; its rarity comes on top.
pub(super) fn worth(counts: &Counts, lengths: &Lengths) -> f32 {
    let occurrences: f32 = Field::ALL.iter().map(|f| field_share(*f, counts, lengths)).sum();
    occurrences / (occurrences + SATURATION) + PRESENCE
}

/// What a term counts that this many tools have.
pub(super) fn rarity(tools: usize) -> f32 {
    (1.0 + COMMON_TOOLS / tools as f32).ln()
}

/// Longest text of one field that is indexed, in bytes.
const TEXT_BYTES_MAX: usize = 8 << 10;
/// Longest text of one property of a schema that is indexed, in bytes.
const PROPERTY_BYTES_MAX: usize = 512;
/// Most properties of one schema that are indexed.
const PROPERTIES_MAX: usize = 256;
/// Most values of one enumeration that are indexed.
const ENUM_VALUES_MAX: usize = 16;
/// Deepest level of a schema that is indexed.
const SCHEMA_LEVELS_MAX: usize = 6;

/// Calls `each` with every text of a capability; `schema` is its parsed input schema.
pub(super) fn texts(capability: &Capability, schema: &Value, mut each: impl FnMut(Field, &str)) {
    each(Field::Name, capability.id.tool());
    if let Some(title) = &capability.title {
        each(Field::Title, cut(title, TEXT_BYTES_MAX));
    }
    each(Field::Description, cut(&capability.description, TEXT_BYTES_MAX));
    let mut left = PROPERTIES_MAX;
    schema_texts(schema, SCHEMA_LEVELS_MAX, &mut left, &mut each);
    for (key, value) in &capability.terms.labels {
        each(Field::Label, key);
        each(Field::Label, value);
    }
    each(Field::Server, capability.id.server().as_str());
    each(Field::ServerText, cut(&capability.terms.description, TEXT_BYTES_MAX));
}

/// At most `bytes_max` bytes of `text`, whole characters.
pub(super) fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

fn schema_texts(schema: &Value, levels: usize, left: &mut usize, each: &mut impl FnMut(Field, &str)) {
    let (Value::Object(object), Some(levels)) = (schema, levels.checked_sub(1)) else { return };
    // This level before the ones below, so that a large inner object cannot crowd out an argument.
    let properties = || object.get("properties").and_then(Value::as_object).into_iter().flatten();
    for (name, property) in properties() {
        let Some(fewer) = left.checked_sub(1) else { return };
        *left = fewer;
        each(Field::SchemaName, cut(name, PROPERTY_BYTES_MAX));
        if let Value::Object(property) = property {
            property_texts(property, each);
        }
    }
    properties().for_each(|(_, property)| schema_texts(property, levels, left, each));
    for keyword in ["items", "additionalProperties"] {
        object.get(keyword).into_iter().for_each(|s| schema_texts(s, levels, left, each));
    }
    for keyword in ["allOf", "anyOf", "oneOf"] {
        let several = object.get(keyword).and_then(Value::as_array);
        several.into_iter().flatten().for_each(|s| schema_texts(s, levels, left, each));
    }
}

fn property_texts(property: &Map<String, Value>, each: &mut impl FnMut(Field, &str)) {
    for keyword in ["title", "description"] {
        if let Some(text) = property.get(keyword).and_then(Value::as_str) {
            each(Field::SchemaText, cut(text, PROPERTY_BYTES_MAX));
        }
    }
    let choices = property.get("enum").and_then(Value::as_array).into_iter().flatten();
    for choice in choices.filter_map(Value::as_str).take(ENUM_VALUES_MAX) {
        each(Field::SchemaText, cut(choice, PROPERTY_BYTES_MAX));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::id::ServerName;

    #[test]
    fn every_text_is_found_and_bounded() {
        let many: Map<String, Value> = (0..1_000).map(|i| (format!("p{i}"), json!({}))).collect();
        let mut deep = json!({"properties":{"bottom":{}}});
        for _ in 0..100 {
            deep = json!({"properties":{"level": deep}});
        }
        let schema = json!({"properties":{
            "unit":{"description":"degrees","enum":["celsius", 1]},
            "list":{"items":{"properties":{"inner":{"title":"within"}}}},
            "deep":deep, "many":{"properties":many}
        }});
        let definition = json!({"name":"now","title":"Clock","description":"é".repeat(10_000),"inputSchema":schema});
        let server = ServerName::new("time").unwrap();
        let tool = Capability::from_definition(&server, Arc::default(), definition.into()).unwrap();
        let mut seen = Vec::new();
        texts(&tool, &schema, |field, text| seen.push((field, text.to_owned())));
        for expected in [
            (Field::Name, "now"),
            (Field::Title, "Clock"),
            (Field::SchemaText, "degrees"),
            (Field::SchemaText, "celsius"),
            (Field::SchemaName, "inner"),
            (Field::SchemaText, "within"),
            (Field::Server, "time"),
        ] {
            assert!(seen.iter().any(|(f, t)| (*f, t.as_str()) == expected), "{expected:?}");
        }
        assert!(!seen.iter().any(|(_, t)| t == "bottom"));
        assert!(seen.iter().filter(|(f, _)| *f == Field::SchemaName).count() <= PROPERTIES_MAX);
        assert!(seen.iter().all(|(_, t)| t.len() <= TEXT_BYTES_MAX));
    }

    #[test]
    fn a_name_weighs_more_than_a_description_and_a_rare_word_more_than_a_common_one() {
        let lengths = [3, 0, 14, 4, 15, 0, 2, 12];
        let only = |field: Field| {
            let mut counts = Counts::default();
            counts[field.at()] = 1;
            counts
        };
        let name = worth(&only(Field::Name), &lengths);
        assert!(name > worth(&only(Field::Description), &lengths));
        assert!(name > worth(&only(Field::Name), &[9, 0, 14, 4, 15, 0, 2, 12]));
        assert!(worth(&only(Field::SchemaText), &[u16::MAX; FIELDS]) > 0.0);
        assert!(rarity(3) > rarity(300) && rarity(100_000) > 0.0);
    }
}
