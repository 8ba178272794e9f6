//! How much a schema grows when its references are followed: one that a server sent must not stall or overflow the matcher.

use std::collections::HashMap;

use serde_json::Value;

/// Subschemas that may apply to one and the same value, all references followed.
const SUBSCHEMAS_MAX: u64 = 10_000;
/// References one schema may have, and how many of them may follow one another in one place: compiling them takes stack.
pub(super) const REFERENCES_MAX: usize = 500;
pub(super) const REFERENCE_CHAIN_MAX: usize = 100;

/// How many subschemas apply to one value when every reference is followed: a server must not be able to stall or overflow the matcher.
pub(super) struct Expansion<'a> {
    root: &'a Value,
    /// Cost by address of the node; 0 while it is being counted.
    counted: HashMap<*const Value, u64>,
    references: usize,
    /// References and combinators between the node being counted and where counting began.
    depth: usize,
}

impl<'a> Expansion<'a> {
    pub(super) fn of(root: &'a Value) -> Self {
        Self { root, counted: HashMap::new(), references: 0, depth: 0 }
    }

    pub(super) fn bounded(mut self) -> bool {
        self.walk(self.root, true) && self.references <= REFERENCES_MAX
    }

    /// Every object of the document may be a schema; counting a few that are not does no harm.
    fn walk(&mut self, node: &'a Value, at_root: bool) -> bool {
        match node {
            Value::Array(items) => items.iter().all(|item| self.walk(item, false)),
            Value::Object(object) => {
                let renames_base = !at_root && object.get("$id").is_some_and(Value::is_string);
                let unusual = ["$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveRef"];
                !renames_base
                    && !unusual.iter().any(|k| object.get(*k).is_some_and(|v| !v.is_object()))
                    && self.cost(node).is_some_and(|cost| cost <= SUBSCHEMAS_MAX)
                    && object.values().all(|v| self.walk(v, false))
            }
            _ => true,
        }
    }

    /// `None` when it never ends or a reference is not a pointer into this document.
    fn cost(&mut self, node: &'a Value) -> Option<u64> {
        let Value::Object(object) = node else { return Some(1) };
        let key = std::ptr::from_ref(node);
        match self.counted.get(&key) {
            Some(0) => return None,
            Some(&cost) => return Some(cost),
            None => self.counted.insert(key, 0),
        };
        self.depth += 1;
        if self.depth > REFERENCE_CHAIN_MAX {
            return None;
        }
        let mut cost = 1_u64;
        for (keyword, value) in object {
            match (keyword.as_str(), value) {
                ("$ref", Value::String(to)) => {
                    self.references += 1;
                    let target = self.root.pointer(to.strip_prefix('#')?)?;
                    cost = cost.saturating_add(self.cost(target)?);
                }
                ("allOf" | "anyOf" | "oneOf", Value::Array(several)) => {
                    for one in several {
                        cost = cost.saturating_add(self.cost(one)?);
                    }
                }
                ("not" | "if" | "then" | "else", one) => cost = cost.saturating_add(self.cost(one)?),
                ("dependentSchemas" | "dependencies", Value::Object(several)) => {
                    for one in several.values() {
                        cost = cost.saturating_add(self.cost(one)?);
                    }
                }
                _ => {}
            }
        }
        self.depth -= 1;
        self.counted.insert(key, cost);
        Some(cost)
    }
}
