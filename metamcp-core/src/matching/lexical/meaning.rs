//! The vector of a tool, made of the same texts that are indexed.

use serde_json::Value;

use super::fields::{Field, cut, texts};
use crate::matching::{
    Capability,
    dense::{DenseTable, Reading, Split, Vector},
};

/// As much of a description is read, in bytes: what a tool does is said first.
const DESCRIPTION_BYTES_MAX: usize = 1 << 10;
/// As many property names are read.
const PROPERTIES_MAX: usize = 12;
/// What the names of properties are worth beside all texts together.
const PROPERTIES: f32 = 0.5;

/// What a tool is about, and the pieces of its texts; `schema` is its parsed input schema.
pub(super) fn meaning(capability: &Capability, schema: &Value, table: &DenseTable) -> (Vector, Vec<u16>) {
    let (mut whole, mut properties) = (Reading::new(table), Reading::new(table));
    let server_is_tool = capability.id.server().as_str() == capability.id.tool();
    let mut left = PROPERTIES_MAX;
    texts(capability, schema, |field, text| match field {
        Field::Name => whole.add(Split::Name, text),
        Field::Title => whole.add(Split::Words, text),
        Field::Description => whole.add(Split::Words, cut(text, DESCRIPTION_BYTES_MAX)),
        Field::Server if !server_is_tool => whole.add(Split::Name, text),
        Field::SchemaName if left > 0 => {
            left -= 1;
            properties.add(Split::Name, text);
        }
        Field::Server | Field::SchemaName | Field::SchemaText | Field::Label | Field::ServerText => {}
    });
    let ((mut sum, mut pieces), (properties, more)) = (whole.finish(), properties.finish());
    sum.add(&properties, PROPERTIES);
    sum.normalize();
    pieces.extend(more);
    (sum, pieces)
}
