//! The nodes of a cluster as it last told them: where to connect when those that the address names are gone.

use std::sync::{Mutex, PoisonError};

use redis::{FromRedisValue as _, Value};

use super::address::Host;

/// Most nodes that are remembered.
const NODES_MAX: usize = 64;

/// What a cluster told of its nodes.
#[derive(Debug, Default)]
pub(super) struct Nodes(Mutex<Vec<Host>>);

impl Nodes {
    /// Takes an answer to `CLUSTER SLOTS`; one that names nobody changes nothing.
    pub(super) fn told(&self, slots: &Value) {
        let mut nodes: Vec<Host> = Vec::new();
        for node in ranges(slots).flat_map(|range| &range[2.min(range.len())..]).filter_map(host) {
            if nodes.len() < NODES_MAX && !nodes.contains(&node) {
                nodes.push(node);
            }
        }
        if !nodes.is_empty() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = nodes;
        }
    }

    /// Those that the address names, and after them those that were told.
    pub(super) fn beside(&self, named: &[Host]) -> Vec<Host> {
        let mut hosts = named.to_vec();
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.extend(told.iter().filter(|node| !named.contains(node)).cloned());
        hosts
    }
}

/// Each is its first and last slot, its master and its replicas.
fn ranges(slots: &Value) -> impl Iterator<Item = &[Value]> {
    slots.as_sequence().unwrap_or_default().iter().filter_map(Value::as_sequence)
}

/// A node is where it listens and its port, and more. One that does not know where it listens tells nothing or `?`.
fn host(node: &Value) -> Option<Host> {
    let [name, port, ..] = node.as_sequence()? else { return None };
    let (name, port) = (String::from_redis_value_ref(name).ok()?, i64::from_redis_value_ref(port).ok()?);
    let port = u16::try_from(port).ok()?;
    (!name.is_empty() && name != "?").then_some(Host { name, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn node(name: Value, port: i64) -> Value {
        Value::Array(vec![name, Value::Int(port), text("an id"), Value::Array(vec![])])
    }

    fn hosts(nodes: &Nodes, named: &[Host]) -> Vec<String> {
        nodes.beside(named).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nodes_that_were_told_come_after_those_that_are_named_and_each_once() {
        let (nodes, named) = (Nodes::default(), [Host { name: "a".to_owned(), port: 1 }]);
        assert_eq!(hosts(&nodes, &named), ["a:1"]);
        let range = |of: Vec<Value>| Value::Array([vec![Value::Int(0), Value::Int(9)], of].concat());
        nodes.told(&Value::Array(vec![
            range(vec![node(text("b"), 1), node(text("a"), 1)]),
            range(vec![node(text("b"), 1), node(text("::1"), 2)]),
        ]));
        assert_eq!(hosts(&nodes, &named), ["a:1", "b:1", "[::1]:2"]);
    }

    #[test]
    fn who_does_not_know_where_it_listens_is_passed_over_and_odd_answers_change_nothing() {
        let nodes = Nodes::default();
        let first = node(text("a"), 1);
        let odd = [node(Value::Nil, 1), node(text(""), 1), node(text("?"), 1), node(text("b"), 70_000), Value::Int(1)];
        let range = [vec![Value::Int(0), Value::Int(9), first], odd.to_vec()].concat();
        nodes.told(&Value::Array(vec![Value::Array(range)]));
        assert_eq!(hosts(&nodes, &[]), ["a:1"]);
        for odd in [Value::Nil, text("OK"), Value::Array(vec![]), Value::Array(vec![Value::Array(vec![Value::Int(0)])])]
        {
            nodes.told(&odd);
            assert_eq!(hosts(&nodes, &[]), ["a:1"], "{odd:?}");
        }
    }

    #[test]
    fn no_more_are_remembered_than_the_bound() {
        let nodes = Nodes::default();
        let many = (0..1_000).map(|port| Value::Array(vec![Value::Int(0), Value::Int(0), node(text("a"), port)]));
        nodes.told(&Value::Array(many.collect()));
        assert_eq!(nodes.beside(&[]).len(), NODES_MAX);
    }
}
