//! The layers of configuration put over one another: defaults < file < environment < flags. Each value remembers where it came from.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    environment::Environment,
    keys::{self, ENV_PREFIX, KEYS, Key},
    kind::Setting,
    problem::{Problem, unknown},
    raw::{Item, Raw},
};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nobody said anything.
    Default,
    /// A line of a file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1; 0 when it is not known.
        line: usize,
    },
    /// This environment variable.
    Environment(String),
    /// This flag.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line: 0 } => path.display().fmt(f),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(variable) => write!(f, "environment {variable}"),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// A flag of the command line that sets a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// Such as `--listen`.
    pub name: &'static str,
    /// Such as `server.listen`.
    pub key: &'static str,
    /// As it was typed; lists are separated by commas.
    pub value: String,
}

/// The tables of a file whose names are the user's.
#[derive(Debug, Default)]
pub(super) struct NamedTables {
    /// `[servers.NAME]`.
    pub(super) servers: Vec<Item>,
    /// `[gateway.endpoints.NAME]`.
    pub(super) endpoints: Vec<Item>,
}

/// The value of every key, with its source.
#[derive(Debug, Clone)]
pub(super) struct Settings(BTreeMap<&'static str, (Option<Setting>, Source)>);

impl Settings {
    /// Every key at its default.
    pub(super) fn defaults(environment: &Environment) -> Self {
        let read = |key: &Key| {
            let text = key.default.map(str::to_owned);
            let text = text.or_else(|| (key.path == "server.data_dir").then(|| default_data_dir(environment)));
            text.map(|text| key.kind.read_text(&text).expect("a test reads every default"))
        };
        Self(KEYS.iter().map(|key| (key.path, (read(key), Source::Default))).collect())
    }

    /// Lays a file's sections over what stands; answers the tables with names of their own, which are read elsewhere.
    pub(super) fn lay_file(&mut self, path: &Path, items: Vec<Item>, problems: &mut Vec<Problem>) -> NamedTables {
        let mut named = NamedTables::default();
        let mut refuse = |key: &str, line: usize, other: &Raw, example: &str| {
            let place = Source::File { path: path.to_owned(), line };
            let mend = format!("is {}; write a table for each, such as [{example}]", other.what());
            problems.push(Problem::new(place, key, mend));
        };
        let mut rest = Vec::new();
        for mut item in items {
            match (item.key.as_str(), &mut item.value) {
                ("servers", Raw::Table(tables)) => named.servers = std::mem::take(tables),
                ("servers", other) => refuse("servers", item.line, other, "servers.git"),
                ("gateway", Raw::Table(inner)) => {
                    for endpoints in inner.extract_if(.., |inner| inner.key == "endpoints") {
                        match endpoints.value {
                            Raw::Table(tables) => named.endpoints = tables,
                            other => refuse("gateway.endpoints", endpoints.line, &other, "gateway.endpoints.team"),
                        }
                    }
                    rest.push(item);
                }
                _ => rest.push(item),
            }
        }
        for item in rest {
            self.lay_item(path, &item.key, item.line, item.value, problems);
        }
        named
    }

    fn lay_item(&mut self, file: &Path, path: &str, line: usize, value: Raw, problems: &mut Vec<Problem>) {
        let source = Source::File { path: file.to_owned(), line };
        if let Some(key) = keys::find(path) {
            return match key.kind.read(&value) {
                Ok(setting) => self.set(key, based(setting, file.parent()), source),
                Err(mend) => problems.push(Problem::new(source, path, mend)),
            };
        }
        let section = format!("{path}.");
        let is_section = KEYS.iter().any(|key| key.path.starts_with(&section));
        match value {
            Raw::Table(items) if is_section => {
                for item in items {
                    self.lay_item(file, &format!("{path}.{}", item.key), item.line, item.value, problems);
                }
            }
            other if is_section => {
                let mend = format!("is {}, but it is a section; write [{path}]", other.what());
                problems.push(Problem::new(source, path, mend));
            }
            _ => problems.push(Problem::new(source, path, unknown_key(path))),
        }
    }

    /// Lays the environment over what stands. Variables that begin like ours and name a section must name a key.
    pub(super) fn lay_environment(&mut self, environment: &Environment, problems: &mut Vec<Problem>) {
        let variables: BTreeMap<String, &Key> = KEYS.iter().map(|key| (key.variable(), key)).collect();
        for (variable, text) in environment.iter() {
            let source = || Source::Environment(variable.to_owned());
            if let Some(key) = variables.get(variable) {
                match key.kind.read_text(text) {
                    Ok(setting) => self.set(key, setting, source()),
                    Err(mend) => problems.push(Problem::new(source(), key.path, mend)),
                }
            } else if variable.strip_prefix(ENV_PREFIX).is_some_and(|rest| rest.contains("__")) {
                let mend = unknown("variable", variable, variables.keys().map(String::as_str));
                problems.push(Problem::new(source(), "", mend));
            }
        }
    }

    /// Lays flags over what stands.
    pub(super) fn lay_flags(&mut self, flags: &[Flag], problems: &mut Vec<Problem>) {
        for flag in flags {
            let key = keys::find(flag.key).expect("flags name keys of the table");
            match key.kind.read_text(&flag.value) {
                Ok(setting) => self.set(key, setting, Source::Flag(flag.name)),
                Err(mend) => problems.push(Problem::new(flag.name, key.path, mend)),
            }
        }
    }

    fn set(&mut self, key: &Key, setting: Setting, source: Source) {
        self.0.insert(key.path, (Some(setting), source));
    }

    /// The value of a key, if it has one, and where it came from.
    pub(super) fn get(&self, path: &str) -> (Option<&Setting>, &Source) {
        let (setting, source) = self.0.get(path).expect("only keys of the table are asked for");
        (setting.as_ref(), source)
    }

    pub(super) fn text(&self, path: &str) -> Option<String> {
        match self.get(path).0 {
            Some(Setting::Text(text)) => Some(text.clone()),
            _ => None,
        }
    }

    pub(super) fn place(&self, path: &str) -> Option<String> {
        match self.get(path).0 {
            Some(Setting::Place(place)) => Some(place.clone()),
            _ => None,
        }
    }

    pub(super) fn texts(&self, path: &str) -> Vec<String> {
        match self.get(path).0 {
            Some(Setting::Texts(texts)) => texts.clone(),
            _ => Vec::new(),
        }
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        match self.get(path).0 {
            Some(Setting::Path(path)) => path.clone(),
            _ => PathBuf::new(),
        }
    }

    pub(super) fn paths(&self, path: &str) -> Vec<PathBuf> {
        match self.get(path).0 {
            Some(Setting::Paths(paths)) => paths.clone(),
            _ => Vec::new(),
        }
    }

    pub(super) fn flag(&self, path: &str) -> bool {
        matches!(self.get(path).0, Some(Setting::Bool(true)))
    }

    pub(super) fn number(&self, path: &str) -> u64 {
        match self.get(path).0 {
            Some(Setting::Number(number)) => *number,
            _ => 0,
        }
    }

    pub(super) fn number_if_set(&self, path: &str) -> Option<u64> {
        match self.get(path).0 {
            Some(Setting::Number(number)) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn seconds(&self, path: &str) -> Duration {
        Duration::from_secs(self.number(path))
    }

    pub(super) fn millis(&self, path: &str) -> Duration {
        Duration::from_millis(self.number(path))
    }

    pub(super) fn address(&self, path: &str) -> SocketAddr {
        match self.get(path).0 {
            Some(Setting::Address(address)) => *address,
            _ => SocketAddr::from(([127, 0, 0, 1], 0)),
        }
    }
}

/// A path of a file is relative to that file.
fn based(setting: Setting, base: Option<&Path>) -> Setting {
    let join = |path: PathBuf| base.map_or_else(|| path.clone(), |base| base.join(&path));
    match setting {
        Setting::Path(path) => Setting::Path(join(path)),
        Setting::Paths(paths) => Setting::Paths(paths.into_iter().map(join).collect()),
        // What names no scheme is a directory.
        Setting::Place(place) if !place.contains(':') => {
            Setting::Place(join(place.into()).to_string_lossy().into_owned())
        }
        other => other,
    }
}

/// Looks among the keys of the same section first, then among all names of the file's top.
fn unknown_key(path: &str) -> String {
    let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
    if section.is_empty() {
        let mut tops: Vec<&str> =
            KEYS.iter().map(|key| key.path.split('.').next().unwrap_or_default()).chain(["servers"]).collect();
        tops.dedup();
        return unknown("key", name, tops.iter().copied());
    }
    let mut names: Vec<&str> = KEYS
        .iter()
        .filter_map(|key| key.path.strip_prefix(section)?.strip_prefix('.'))
        .map(|rest| rest.split('.').next().unwrap_or_default())
        .collect();
    names.dedup();
    unknown("key", name, names.iter().copied())
}

/// The user's state folder, so that `metamcp run` finds the server from any folder; without a home, a folder beside one's feet.
fn default_data_dir(environment: &Environment) -> String {
    let set = |name: &str| environment.get(name).filter(|value| Path::new(value).is_absolute());
    set("XDG_STATE_HOME")
        .map(|state| format!("{state}/metamcp"))
        .or_else(|| set("HOME").map(|home| format!("{home}/.local/state/metamcp")))
        .unwrap_or_else(|| ".metamcp".to_owned())
}
