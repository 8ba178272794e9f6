//! What one server offers: its lists, each entry as it was written, and what it says of itself.

use std::{collections::HashSet, sync::Arc};

use metamcp_core::{
    id::ServerName,
    json::RawJson,
    matching::{Capability, ServerTerms},
    pointer::Digest,
    transport::Freshness,
};
use serde::{Deserialize, Serialize};

use super::definition::Definition;
use crate::{gateway::members::Members, upstream::usable_tool};

/// A server with what it offers.
pub(crate) type Offered<'a> = (&'a ServerName, &'a Offer);

/// The lists as they came, and as they are kept across restarts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Lists {
    /// Whether the server needs no handshake.
    pub(crate) modern: bool,
    /// Its `capabilities` object.
    pub(crate) capabilities: RawJson,
    /// Its instructions for models.
    pub(crate) instructions: Option<String>,
    pub(crate) tools: Vec<RawJson>,
    pub(crate) prompts: Vec<RawJson>,
    pub(crate) resources: Vec<RawJson>,
    pub(crate) templates: Vec<RawJson>,
    pub(crate) fresh: Fresh,
}

/// How long each list of a server may be taken for current, where it says so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Fresh {
    pub(crate) tools: Option<Freshness>,
    pub(crate) prompts: Option<Freshness>,
    pub(crate) resources: Option<Freshness>,
    pub(crate) templates: Option<Freshness>,
}

impl Fresh {
    /// The shortest of them, in milliseconds.
    pub(super) fn ttl_ms(&self) -> Option<u64> {
        let all = [self.tools, self.prompts, self.resources, self.templates];
        all.into_iter().flatten().map(|fresh| fresh.ttl_ms).min()
    }
}

/// A tool of a server.
#[derive(Debug, Clone)]
pub(crate) struct Tool {
    pub(crate) definition: Definition,
    pub(crate) capability: Arc<Capability>,
    /// The page that shows its results (MCP Apps), which no list needs to name.
    pub(crate) ui: Option<Box<str>>,
}

/// What a server offers, read.
#[derive(Debug, Clone)]
pub(crate) struct Offer {
    pub(crate) tools: Vec<Tool>,
    pub(crate) prompts: Vec<Definition>,
    pub(crate) resources: Vec<Definition>,
    pub(crate) templates: Vec<Definition>,
    pub(crate) instructions: Option<Arc<str>>,
    pub(crate) can: Abilities,
    pub(crate) fresh: Fresh,
    /// Only some tenants may use it.
    pub(crate) for_some: bool,
    /// Digest of the lists: two offers with the same one are the same.
    pub(crate) digest: Digest,
}

/// What of a server's capabilities matters to clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Abilities {
    pub(crate) completions: bool,
    pub(crate) logging: bool,
    /// It tells when a resource changes.
    pub(crate) subscribe: bool,
    /// It has resources, or may have.
    pub(crate) resources: bool,
    /// Its tools bring pages that show their results.
    pub(crate) ui: bool,
}

/// The extension of pages that show results.
pub(crate) const UI_EXTENSION: &str = "io.modelcontextprotocol/ui";

impl Offer {
    /// Reads the lists of a server. An entry that cannot be used, or comes twice, is left out with a warning; it does not cost the others.
    pub(crate) fn read(server: &ServerName, terms: &Arc<ServerTerms>, lists: &Lists) -> Self {
        let left_out = |what: &str, reason: String| tracing::warn!(%server, what, reason, "left out of the lists");
        let entries = |list: &[RawJson], what: &str, key: &str| {
            let mut seen = HashSet::new();
            let read = list.iter().filter_map(|raw| match Definition::read(raw.clone(), key) {
                Ok(entry) if seen.insert(entry.name.clone()) => Some(entry),
                Ok(entry) => {
                    left_out(what, format!("`{}` is listed twice", entry.name));
                    None
                }
                Err(reason) => {
                    left_out(what, reason);
                    None
                }
            });
            read.collect::<Vec<_>>()
        };
        let tool = |definition: Definition| {
            usable_tool(&definition.raw).map_err(|reason| format!("`{}` {reason}", definition.name))?;
            let capability = Capability::from_definition(server, Arc::clone(terms), definition.raw.clone());
            let capability = Arc::new(capability.map_err(|error| error.to_string())?);
            let ui = ui_page(&definition.raw);
            Ok(Tool { definition, capability, ui })
        };
        let tools = entries(&lists.tools, "tool", "name").into_iter().map(tool);
        let tools: Vec<Tool> = tools.filter_map(|read| read.map_err(|reason| left_out("tool", reason)).ok()).collect();
        let mut can = abilities(lists);
        can.ui |= tools.iter().any(|tool| tool.ui.is_some());
        Self {
            prompts: entries(&lists.prompts, "prompt", "name"),
            resources: entries(&lists.resources, "resource", "uri"),
            templates: entries(&lists.templates, "resource template", "uriTemplate"),
            instructions: lists.instructions.as_deref().map(Arc::from),
            digest: lists.digest(),
            can,
            fresh: lists.fresh,
            for_some: terms.tenants.is_some(),
            tools,
        }
    }
}

impl Lists {
    /// As JSON text.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("lists have string keys only")
    }

    fn digest(&self) -> Digest {
        Digest::of(&self.to_json())
    }
}

fn abilities(lists: &Lists) -> Abilities {
    let Ok(capabilities) = Members::of(lists.capabilities.get()) else { return Abilities::default() };
    let part = |key: &str, member: &str| {
        capabilities
            .get(key)
            .and_then(|value| Members::of(value.get()).ok())
            .is_some_and(|inner| inner.get(member).is_some_and(|v| v.get() != "false"))
    };
    Abilities {
        completions: capabilities.get("completions").is_some(),
        logging: capabilities.get("logging").is_some(),
        subscribe: part("resources", "subscribe"),
        resources: capabilities.get("resources").is_some(),
        ui: part("extensions", UI_EXTENSION),
    }
}

/// `_meta.ui.resourceUri` of a tool, also in its older flat spelling.
fn ui_page(tool: &RawJson) -> Option<Box<str>> {
    let tool = Members::of(tool.get()).ok()?;
    let meta = Members::of(tool.get("_meta")?.get()).ok()?;
    let nested = meta.get("ui").and_then(|ui| Members::of(ui.get()).ok());
    let uri = nested.and_then(|ui| ui.text("resourceUri").map(Into::into));
    uri.or_else(|| meta.text("ui/resourceUri").map(Into::into))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_cannot_be_used_does_not_cost_the_rest() {
        let raw = |values: serde_json::Value| -> Vec<RawJson> { serde_json::from_str(&values.to_string()).unwrap() };
        let lists = Lists {
            capabilities: json!({ "resources": { "subscribe": true }, "completions": {}, "logging": {} }).into(),
            tools: raw(json!([
                { "name": "a", "inputSchema": {}, "_meta": { "ui": { "resourceUri": "ui://a" } } },
                { "name": "a", "inputSchema": {} },
                { "nameless": true },
                { "name": "b" },
                { "name": "c", "inputSchema": {}, "execution": { "taskSupport": "required" } },
            ])),
            prompts: raw(json!([{ "name": "p" }])),
            resources: raw(json!([{ "uri": "x://1", "name": "one" }, { "name": "no uri" }, { "uri": "x://2" }])),
            templates: raw(json!([{ "uriTemplate": "x://{id}", "name": "t" }])),
            ..Lists::default()
        };
        let offer = Offer::read(&ServerName::new("s").unwrap(), &Arc::default(), &lists);
        assert_eq!(
            (offer.tools.len(), offer.prompts.len(), offer.resources.len(), offer.templates.len()),
            (1, 1, 1, 1)
        );
        assert_eq!(offer.tools[0].ui.as_deref(), Some("ui://a"));
        let can = Abilities { completions: true, logging: true, subscribe: true, resources: true, ui: true };
        assert_eq!(offer.can, can);
        let kept: Lists = serde_json::from_slice(&lists.to_json()).unwrap();
        assert_eq!(kept, lists);
    }
}
