//! `[gateway]`: how the servers are shown to MCP clients as one. Its plain keys stand in the table of keys; here are the tables with names of
//! their own: `[gateway.endpoints.NAME]`, and what a `[servers.NAME]` says of its names and of what is shown.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use metamcp_core::id::ServerName;
use metamcp_mcp_adapters::gateway::{EndpointView, GatewayOptions, ListMode, Naming, Pattern, Selection, ServerView};

use super::{
    Lane,
    layers::{Settings, Source},
    problem::{Problem, unknown},
    raw::{Item, Raw},
};

/// The keys of `[servers.NAME]` that are read here.
pub(super) const VIEW_KEYS: [&str; 6] = ["naming", "prefix", "alias", "tools", "prompts", "uris"];
const ENDPOINT_KEYS: [&str; 5] = ["servers", "list", "tools", "prompts", "uris"];
const NAMINGS: [&str; 3] = ["prefix", "none", "alias"];
const LISTS: [&str; 3] = ["full", "search", "both"];
/// Longest name of an endpoint, in bytes: it is a part of a path.
const ENDPOINT_NAME_BYTES_MAX: usize = 64;

/// `[gateway]`.
#[derive(Debug, Clone)]
pub struct GatewaySection {
    /// Whether MCP is served.
    pub enabled: bool,
    /// How.
    pub options: GatewayOptions,
}

/// What a table says, read, with its items as they were written.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Shown<T> {
    pub(super) view: T,
    pub(super) items: Vec<Item>,
}

/// The section with everything that other tables say of it. `wait` is how long servers that were never reached are waited for.
pub(super) fn section(
    settings: &Settings,
    endpoints: &BTreeMap<String, Shown<EndpointView>>,
    servers: BTreeMap<ServerName, ServerView>,
    wait: Duration,
    problems: &mut Vec<Problem>,
) -> GatewaySection {
    let small = |path: &str| usize::try_from(settings.number(path)).unwrap_or(usize::MAX);
    let unless_zero = |path: &str| Some(settings.seconds(path)).filter(|wait| !wait.is_zero());
    let mut options = GatewayOptions::default();
    options.servers = servers;
    options.main.list = list_mode(&settings.text("gateway.list").unwrap_or_default()).unwrap_or_default();
    options.endpoints = endpoints.iter().map(|(name, shown)| (name.clone(), shown.view.clone())).collect();
    options.page_items = small("gateway.page_items");
    options.list_ttl = settings.seconds("gateway.list_ttl_s");
    options.grace = settings.seconds("gateway.grace_s");
    options.refresh = settings.seconds("gateway.refresh_s");
    options.first_wait = wait;
    options.upgrade_after = unless_zero("gateway.upgrade_after_s");
    options.detach_after = unless_zero("gateway.detach_after_s");
    options.result_bytes_max = small("gateway.result_bytes_max");
    options.heavy_lanes = heavy_lanes(settings, problems);
    GatewaySection { enabled: settings.flag("gateway.enabled"), options }
}

fn heavy_lanes(settings: &Settings, problems: &mut Vec<Problem>) -> BTreeSet<Lane> {
    let path = "gateway.heavy_lanes";
    let read = settings.texts(path).into_iter().filter_map(|text| match Lane::new(&text) {
        Ok(lane) => Some(lane),
        Err(error) => {
            problems.push(Problem::new(settings.get(path).1, path, error.to_string()));
            None
        }
    });
    read.collect()
}

/// Reads what the table of a server says of how it is shown.
pub(super) fn read_view(file: &Path, path: &str, items: &[Item], problems: &mut Vec<Problem>) -> Shown<ServerView> {
    let items: Vec<Item> = items.iter().filter(|item| VIEW_KEYS.contains(&&*item.key)).cloned().collect();
    let mut reader = Reader { file, path, problems };
    let mut view = ServerView::default();
    for item in &items {
        match &*item.key {
            "tools" => (view.tools, view.heavy) = reader.selection(item, true),
            "prompts" => view.prompts = reader.selection(item, false).0,
            "uris" => view.resources = reader.selection(item, false).0,
            _ => {}
        }
    }
    view.naming = reader.naming(&items);
    Shown { view, items }
}

/// Reads `[gateway.endpoints]`; `servers` are those that can be named.
pub(super) fn read_endpoints(
    file: &Path,
    items: &[Item],
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, Shown<EndpointView>> {
    let mut endpoints = BTreeMap::new();
    for item in items {
        let path = format!("gateway.endpoints.{}", item.key);
        let mut reader = Reader { file, path: &path, problems };
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if item.key.is_empty() || item.key.len() > ENDPOINT_NAME_BYTES_MAX || !item.key.chars().all(fits) {
            reader.refuse(item.line, "", "the name is a part of a path; write 1 to 64 of A-Z a-z 0-9 . _ -".to_owned());
            continue;
        }
        let Raw::Table(items) = &item.value else {
            reader.refuse(item.line, "", format!("is {}; write a table", item.value.what()));
            continue;
        };
        endpoints.insert(item.key.clone(), Shown { view: reader.endpoint(items), items: items.clone() });
    }
    endpoints
}

fn list_mode(text: &str) -> Option<ListMode> {
    match text {
        "full" => Some(ListMode::Full),
        "search" => Some(ListMode::Search),
        "both" => Some(ListMode::Both),
        _ => None,
    }
}

struct Reader<'a> {
    file: &'a Path,
    path: &'a str,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn refuse(&mut self, line: usize, key: &str, mend: String) {
        let place = Source::File { path: self.file.to_owned(), line };
        let key = if key.is_empty() { self.path.to_owned() } else { format!("{}.{key}", self.path) };
        self.problems.push(Problem::new(place, key, mend));
    }

    fn endpoint(&mut self, items: &[Item]) -> EndpointView {
        let mut view = EndpointView::default();
        for item in items {
            match &*item.key {
                "servers" => {
                    for name in self.texts(item, "servers") {
                        match ServerName::new(&name) {
                            Ok(name) => drop(view.servers.insert(name)),
                            Err(error) => self.refuse(item.line, "servers", error.to_string()),
                        }
                    }
                    if view.servers.is_empty() {
                        self.refuse(item.line, "servers", "names no server; leave it out to show all".to_owned());
                    }
                }
                "list" => {
                    let said = self.text(item).unwrap_or_default();
                    match list_mode(&said) {
                        Some(mode) => view.list = mode,
                        None => self.refuse(item.line, "list", format!("write one of {}", LISTS.join(", "))),
                    }
                }
                "tools" => view.tools = self.selection(item, false).0,
                "prompts" => view.prompts = self.selection(item, false).0,
                "uris" => view.resources = self.selection(item, false).0,
                other => self.refuse(item.line, other, unknown("key", other, ENDPOINT_KEYS.into_iter())),
            }
        }
        view
    }

    fn naming(&mut self, items: &[Item]) -> Naming {
        let find = |key: &str| items.iter().find(|item| item.key == key);
        let (kind, prefix, alias) = (find("naming"), find("prefix"), find("alias"));
        let named = match kind {
            Some(item) => self.text(item).unwrap_or_default(),
            None if alias.is_some() => "alias".to_owned(),
            None => "prefix".to_owned(),
        };
        for (key, item, of) in [("prefix", prefix, "prefix"), ("alias", alias, "alias")] {
            if let Some(item) = item.filter(|_| named != of && NAMINGS.contains(&&*named)) {
                self.refuse(item.line, key, format!("goes with naming = \"{of}\" only; leave one of them out"));
            }
        }
        match &*named {
            "none" => Naming::plain(),
            "prefix" => prefix.map_or_else(Naming::default, |item| {
                let naming = self.text(item).map(|text| Naming::prefix(&text));
                naming.and_then(|naming| self.fit(item, "prefix", naming)).unwrap_or_default()
            }),
            "alias" => {
                let Some(item) = alias else {
                    let line = kind.map_or(0, |item| item.line);
                    self.refuse(line, "alias", "is missing; write alias = { tool = \"name shown\" }".to_owned());
                    return Naming::default();
                };
                let naming = Naming::alias(self.aliases(item));
                self.fit(item, "alias", naming).unwrap_or_default()
            }
            _ => {
                let line = kind.map_or(0, |item| item.line);
                self.refuse(line, "naming", format!("write one of {}", NAMINGS.join(", ")));
                Naming::default()
            }
        }
    }

    fn fit<T>(&mut self, item: &Item, key: &str, read: Result<T, impl std::fmt::Display>) -> Option<T> {
        read.map_err(|error| self.refuse(item.line, key, error.to_string())).ok()
    }

    fn aliases(&mut self, item: &Item) -> BTreeMap<String, String> {
        let Raw::Table(pairs) = &item.value else {
            self.refuse(item.line, "alias", format!("is {}; write {{ tool = \"name shown\" }}", item.value.what()));
            return BTreeMap::new();
        };
        pairs.iter().filter_map(|pair| Some((pair.key.clone(), self.text(pair)?))).collect()
    }

    /// What is shown, and which of it is heavy.
    fn selection(&mut self, item: &Item, has_heavy: bool) -> (Selection, Vec<Pattern>) {
        let known: &[&str] = if has_heavy { &["include", "exclude", "heavy"] } else { &["include", "exclude"] };
        let (mut selection, mut heavy) = (Selection::default(), Vec::new());
        let Raw::Table(items) = &item.value else {
            let mend = format!("is {}; write {{ include = [\"read*\"], exclude = [\"*secret*\"] }}", item.value.what());
            self.refuse(item.line, &item.key, mend);
            return (selection, heavy);
        };
        for inner in items {
            let place = format!("{}.{}", item.key, inner.key);
            if !known.contains(&&*inner.key) {
                self.refuse(inner.line, &place, unknown("key", &inner.key, known.iter().copied()));
                continue;
            }
            let patterns = self.texts(inner, &place).into_iter().map(Pattern::new).collect();
            match &*inner.key {
                "include" => selection.include = patterns,
                "exclude" => selection.exclude = patterns,
                _ => heavy = patterns,
            }
        }
        (selection, heavy)
    }

    fn text(&mut self, item: &Item) -> Option<String> {
        match &item.value {
            Raw::Text(text) => Some(text.clone()),
            other => {
                self.refuse(item.line, &item.key, format!("is {}; write a string", other.what()));
                None
            }
        }
    }

    fn texts(&mut self, item: &Item, key: &str) -> Vec<String> {
        let texts = match &item.value {
            Raw::List(list) => {
                list.iter().map(|one| if let Raw::Text(text) = one { Some(text.clone()) } else { None }).collect()
            }
            _ => None,
        };
        texts.unwrap_or_else(|| {
            self.refuse(item.line, key, "write a list of strings, such as [\"read*\"]".to_owned());
            Vec::new()
        })
    }
}
