//! The MCP servers of a configuration: `[servers.NAME]` tables, refused where they say something unknown, and the `mcpServers` files of
//! MCP clients, where fields of other programs are left alone. How an entry is read is the same for both.

use std::path::Path;

use metamcp_mcp_adapters::{
    discover::{ServerSpec, Way, parse_mcp_servers},
    gateway::ServerView,
};
use serde_json::{Map, Value};

use super::{
    environment::Environment,
    gateway::{self, Shown, VIEW_KEYS},
    layers::Source,
    problem::{Problem, unknown},
    raw::{Item, Raw},
};

/// A configured server.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerConfig {
    /// How it is reached and on what terms.
    pub spec: ServerSpec,
    /// Where it is said.
    pub source: Source,
    /// How it is shown to MCP clients.
    pub(super) shown: Shown<ServerView>,
}

impl ServerConfig {
    /// How it is shown to MCP clients.
    pub fn view(&self) -> &ServerView {
        &self.shown.view
    }
}

/// Keys of every server, of those that are started, and of those that are at an address.
const COMMON_KEYS: [&str; 11] = [
    "description",
    "lane",
    "concurrency",
    "labels",
    "resources",
    "equivalent",
    "equivalent_tools",
    "price",
    "locality",
    "tenants",
    "disabled",
];
const COMMAND_KEYS: [&str; 4] = ["command", "args", "env", "cwd"];
const ADDRESS_KEYS: [&str; 2] = ["url", "headers"];
const RESOURCE_KEYS: [&str; 4] = ["gpu", "memory_mib", "local", "owned"];

/// Reads the table `[servers.NAME]`; `None` after a problem that leaves nothing to use.
pub(super) fn read(
    file: &Path,
    item: &Item,
    environment: &Environment,
    problems: &mut Vec<Problem>,
) -> Option<ServerConfig> {
    let path = format!("servers.{}", item.key);
    let mut shown = Shown::default();
    if let Raw::Table(items) = &item.value {
        shown = gateway::read_view(file, &path, items, problems);
        let has = |key: &str| items.iter().any(|item| item.key == key);
        let own: &[&str] = match (has("command"), has("url")) {
            (true, false) => &COMMAND_KEYS,
            (false, true) => &ADDRESS_KEYS,
            // What is missing, or too much, is told by the reader.
            _ => &["command", "args", "env", "cwd", "url", "headers"],
        };
        refuse_unknown(file, &path, items, &[own, &COMMON_KEYS, &VIEW_KEYS].concat(), problems);
        for nested in items.iter().filter(|item| item.key == "resources") {
            if let Raw::Table(items) = &nested.value {
                refuse_unknown(file, &format!("{path}.resources"), items, &RESOURCE_KEYS, problems);
            }
        }
    }
    let variable = |name: &str| environment.get(name).map(str::to_owned);
    match ServerSpec::read("servers", &item.key, &json(&item.value), &variable) {
        Ok(mut spec) => {
            if let (Way::Stdio { cwd: Some(cwd), .. }, Some(folder)) = (&mut spec.way, file.parent()) {
                *cwd = folder.join(&*cwd);
            }
            let source = Source::File { path: file.to_owned(), line: item.line };
            Some(ServerConfig { spec, source, shown })
        }
        Err(error) => {
            // An unknown key is told already, and nearer to what was meant.
            let told = problems.iter().any(|problem| problem.key.starts_with(&error.place));
            if !told {
                let source = Source::File { path: file.to_owned(), line: line_of(item, &path, &error.place) };
                problems.push(Problem::new(source, error.place, error.mend));
            }
            None
        }
    }
}

/// Reads a file with `mcpServers`.
pub(super) fn read_clients_file(
    file: &Path,
    text: &str,
    environment: &Environment,
    problems: &mut Vec<Problem>,
) -> Vec<ServerConfig> {
    let source = Source::File { path: file.to_owned(), line: 0 };
    match parse_mcp_servers(text, &|name| environment.get(name).map(str::to_owned)) {
        Ok(specs) => specs
            .into_iter()
            .map(|spec| ServerConfig { spec, source: source.clone(), shown: Shown::default() })
            .collect(),
        Err(error) => {
            problems.push(Problem::new(source, error.place, error.mend));
            Vec::new()
        }
    }
}

fn refuse_unknown(file: &Path, path: &str, items: &[Item], known: &[&str], problems: &mut Vec<Problem>) {
    for item in items.iter().filter(|item| !known.contains(&item.key.as_str())) {
        let place = Source::File { path: file.to_owned(), line: item.line };
        let mend = unknown("key", &item.key, known.iter().copied());
        problems.push(Problem::new(place, format!("{path}.{}", item.key), mend));
    }
}

/// The line of the key that a place such as `servers.git.env.TOKEN` names, as near as the file tells.
fn line_of(item: &Item, path: &str, place: &str) -> usize {
    let mut at = item;
    let rest = place.strip_prefix(path).unwrap_or_default();
    for name in rest.split('.').filter(|name| !name.is_empty()) {
        let Raw::Table(items) = &at.value else { break };
        let Some(next) = items.iter().find(|item| item.key == name) else { break };
        at = next;
    }
    at.line
}

fn json(raw: &Raw) -> Value {
    match raw {
        Raw::Text(text) => Value::from(text.as_str()),
        Raw::Integer(number) => Value::from(*number),
        Raw::Decimal(number) => Value::from(*number),
        Raw::Bool(flag) => Value::from(*flag),
        Raw::List(list) => list.iter().map(json).collect(),
        Raw::Table(items) => {
            Value::Object(items.iter().map(|item| (item.key.clone(), json(&item.value))).collect::<Map<_, _>>())
        }
        // Nothing that is read takes it; its kind is told by the reader's error.
        Raw::Other(_) => Value::Null,
    }
}
