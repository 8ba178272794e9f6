//! The numbers of advisory locks. They belong to a whole database, so a number is drawn from the schema, the kind of thing and its name. Two
//! names with one number wait for each other without need, and nothing worse.

use metamcp_core::id::Lane;
use sha2::{Digest, Sha256};

/// The lock on who is leased from a lane, and in which order.
pub(super) fn of_lane(schema: &str, lane: &Lane) -> i64 {
    number(schema, "lane", lane.as_str())
}

/// The lock on who holds a concurrency key and who is blocked by it.
pub(super) fn of_concurrency(schema: &str, key: &str) -> i64 {
    number(schema, "concurrency", key)
}

/// The lock on the slots of a rate key.
pub(super) fn of_rate(schema: &str, key: &str) -> i64 {
    number(schema, "rate", key)
}

fn number(schema: &str, kind: &str, name: &str) -> i64 {
    // Neither a schema nor a kind has a space in it.
    let digest = Sha256::digest(format!("metamcp {schema} {kind} {name}"));
    let mut number = [0; 8];
    number.copy_from_slice(&digest[..8]);
    i64::from_be_bytes(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_kinds_and_schemas_are_apart() {
        let numbers = [of_rate("a", "k"), of_concurrency("a", "k"), of_lane("a", &Lane::light()), of_rate("b", "k")];
        for (at, number) in numbers.iter().enumerate() {
            assert!(!numbers[..at].contains(number), "{numbers:?}");
        }
        assert_eq!(numbers[0], of_rate("a", "k"), "the number is kept in tables: it never changes");
    }
}
