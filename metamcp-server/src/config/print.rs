//! The effective configuration as TOML, with where each value came from; secrets are redacted. What it prints can be read again, but
//! for what was redacted.

use std::{collections::BTreeMap, fmt::Write as _};

use metamcp_core::matching::GroupTool;
use metamcp_mcp_adapters::{
    discover::{ServerSpec, Way},
    upstream::redact::{REDACTED, arguments, url},
};

use super::{
    Config,
    keys::KEYS,
    kind::Setting,
    layers::Source,
    raw::quoted,
    raw::{Item, bare},
};

/// Column at which the comments begin, if the value leaves room.
const COMMENT_COLUMN: usize = 44;

pub(super) fn print(config: &Config) -> String {
    let mut out = String::new();
    let mut section = "";
    for key in KEYS {
        let (here, name) = key.path.rsplit_once('.').unwrap_or(("", key.path));
        if here != section {
            section = here;
            line(&mut out, format_args!("\n[{section}]"), "");
        }
        line(&mut out, format_args!("# {}", key.about), "");
        let (setting, source) = config.settings.get(key.path);
        let value = setting.map_or_else(|| format!("# {name} ="), |setting| format!("{name} = {}", setting.print()));
        line(&mut out, format_args!("{value}"), &source.to_string());
    }
    for (name, endpoint) in &config.endpoints {
        line(&mut out, format_args!("\n[gateway.endpoints.{}]", bare(name)), "");
        print_items(&mut out, &endpoint.items);
    }
    for server in config.servers.values() {
        print_server(&mut out, &server.spec, &server.source);
        print_items(&mut out, &server.shown.items);
    }
    out
}

fn print_items(out: &mut String, items: &[Item]) {
    for item in items {
        line(out, format_args!("{} = {}", bare(&item.key), item.value.print()), "");
    }
}

fn print_server(out: &mut String, server: &ServerSpec, source: &Source) {
    line(out, format_args!("\n[servers.{}]", bare(server.name.as_str())), &source.to_string());
    let mut say = |text: String| line(out, format_args!("{text}"), "");
    if server.disabled {
        say("disabled = true".to_owned());
    }
    match &server.way {
        Way::Stdio { command, args, secret_args, env, cwd } => {
            say(format!("command = {}", quoted(command)));
            if !args.is_empty() {
                say(format!("args = {}", Setting::Texts(arguments(args, secret_args)).print()));
            }
            if let Some(cwd) = cwd {
                say(format!("cwd = {}", Setting::Path(cwd.clone()).print()));
            }
            if !env.is_empty() {
                say(format!("env = {}", secrets(env)));
            }
        }
        Way::Http { url: address, headers } => {
            say(format!("url = {}", quoted(&url(address))));
            if !headers.is_empty() {
                say(format!("headers = {}", secrets(headers)));
            }
        }
        other => say(format!("# {other:?}")),
    }
    if let Some(concurrency) = server.concurrency {
        say(format!("concurrency = {concurrency}"));
    }
    if let Some(lane) = &server.lane {
        say(format!("lane = {}", quoted(lane.as_str())));
    }
    if !server.description.is_empty() {
        say(format!("description = {}", quoted(&server.description)));
    }
    if !server.labels.is_empty() {
        say(format!("labels = {}", table(server.labels.iter().map(|(name, value)| (name, quoted(value))))));
    }
    let resources = &server.resources;
    let flags = [("gpu", resources.gpu), ("local", resources.local), ("owned", resources.owned)];
    let flags = flags.into_iter().filter(|(_, on)| *on).map(|(name, _)| (name, "true".to_owned()));
    let memory = resources.memory_mib.map(|mib| ("memory_mib", mib.to_string()));
    let resources: Vec<_> = flags.chain(memory).collect();
    if !resources.is_empty() {
        say(format!("resources = {}", table(resources.into_iter())));
    }
    if let Some(group) = &server.equivalent {
        say(format!("equivalent = {}", quoted(group)));
    }
    if !server.equivalent_tools.is_empty() {
        let names = server.equivalent_tools.iter().map(|(own, tool)| (own, in_group(tool)));
        say(format!("equivalent_tools = {}", table(names)));
    }
    if server.price > 0.0 {
        say(format!("price = {:?}", server.price));
    }
    if let Some(locality) = server.locality {
        say(format!("locality = {}", quoted(locality.as_str())));
    }
    if let Some(tenants) = &server.tenants {
        let tenants: Vec<String> = tenants.iter().map(|tenant| quoted(tenant.as_str())).collect();
        say(format!("tenants = [{}]", tenants.join(", ")));
    }
}

fn in_group(tool: &GroupTool) -> String {
    match tool.arguments() {
        None => quoted(tool.name()),
        Some(arguments) => {
            let parts = [("tool", quoted(tool.name())), ("arguments", table(arguments))];
            table(parts.into_iter())
        }
    }
}

/// Values may hold secrets wherever they came from: only the names are told.
fn secrets(map: &BTreeMap<String, String>) -> String {
    table(map.keys().map(|name| (name, quoted(REDACTED))))
}

fn table(pairs: impl Iterator<Item = (impl AsRef<str>, String)>) -> String {
    let pairs: Vec<String> = pairs.map(|(key, value)| format!("{} = {value}", bare(key.as_ref()))).collect();
    format!("{{ {} }}", pairs.join(", "))
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>, comment: &str) {
    let text = text.to_string();
    let written = if comment.is_empty() {
        writeln!(out, "{text}")
    } else {
        writeln!(out, "{text:<COMMENT_COLUMN$}  # {comment}")
    };
    written.expect("a String takes every write");
}
