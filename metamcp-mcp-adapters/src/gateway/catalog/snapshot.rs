//! What one endpoint shows at one moment: its lists, kept serialised, and whose each name is. Pure, made whole and replaced whole.
//!
//! Servers come in order of their names, the entries of each in its own order. Of two tools that come to one name neither is there, and so
//! with prompts; of two resources with one URI the first server's is.

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    sync::{Arc, OnceLock},
};

use metamcp_core::{id::ServerName, json::RawJson, transport::Freshness};
use serde::Serialize;

use super::{
    definition::Definition,
    discover::{self, Discover},
    findable::Findable,
    offer::{Offer, Offered},
    pages::{Entries, Pages},
    template::UriTemplate,
    tool_ref::ToolRef,
};
use crate::gateway::{
    members::Members,
    options::{EndpointView, GatewayOptions, ListMode},
    pattern::Selection,
};

/// The resource that tells of the servers.
pub(crate) const SERVERS_URI: &str = "metamcp://servers";

/// A prompt as an endpoint shows it.
#[derive(Debug)]
pub(crate) struct PromptRef {
    /// Whose it is.
    pub(crate) server: ServerName,
    /// What its server calls it.
    pub(crate) own_name: Box<str>,
}

/// An entry that an endpoint does not show because another one has its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Clash {
    /// `tool`, `prompt`, `resource` or `resource template`.
    pub(crate) what: &'static str,
    /// The name they share.
    pub(crate) name: String,
    /// Who has it, `server/own-name`.
    pub(crate) claimed_by: Vec<String>,
    /// Who is shown under it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) shown: Option<String>,
}

/// What an endpoint shows.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) tools: Pages,
    pub(crate) prompts: Pages,
    pub(crate) resources: Pages,
    pub(crate) templates: Pages,
    pub(crate) discover: Discover,
    pub(crate) clashes: Vec<Clash>,
    tool_refs: HashMap<Box<str>, Arc<ToolRef>>,
    prompt_refs: HashMap<Box<str>, PromptRef>,
    owners: HashMap<Box<str>, ServerName>,
    template_owners: Vec<(Box<str>, UriTemplate, ServerName)>,
    /// Servers with resources, and whether each tells when one changes.
    with_resources: Vec<(ServerName, bool)>,
    /// Made when somebody first searches.
    findable: OnceLock<Findable>,
}

/// Definitions of what we offer ourselves on an endpoint.
#[derive(Debug, Clone, Default)]
pub(crate) struct Own {
    pub(crate) tools: Vec<RawJson>,
    pub(crate) templates: Vec<RawJson>,
}

impl Snapshot {
    /// What an endpoint shows of these offers, in order of the servers' names.
    pub(crate) fn of(options: &GatewayOptions, view: &EndpointView, offers: &[Offered<'_>], own: &Own) -> Self {
        let offers: Vec<Offered<'_>> = offers.iter().filter(|(server, _)| view.shows(server)).copied().collect();
        let mut snapshot = Self::default();
        snapshot.take_tools(options, view, &offers, &own.tools);
        snapshot.take_prompts(options, view, &offers);
        snapshot.take_resources(options, view, &offers);
        snapshot.take_templates(options, view, &offers, &own.templates);
        let with_resources = offers.iter().filter(|(_, offer)| offer.can.resources);
        snapshot.with_resources =
            with_resources.map(|(server, offer)| ((*server).clone(), offer.can.subscribe)).collect();
        snapshot.discover = discover::of(&offers);
        snapshot
    }

    /// The tool of this name.
    pub(crate) fn tool(&self, name: &str) -> Option<&Arc<ToolRef>> {
        self.tool_refs.get(name)
    }

    /// Its tools, to be searched.
    pub(crate) fn findable(&self) -> &Findable {
        self.findable.get_or_init(|| Findable::new(self.tool_refs.values()))
    }

    /// The prompt of this name.
    pub(crate) fn prompt(&self, name: &str) -> Option<&PromptRef> {
        self.prompt_refs.get(name)
    }

    /// Whose resource this is: who lists it, whose template it comes of, or, for one that is in no list, the only server that has resources
    /// with the same beginning up to `://`, or the only one that has resources at all.
    pub(crate) fn owner(&self, uri: &str) -> Option<&ServerName> {
        let of_template = || {
            let found = self.template_owners.iter().find(|(_, template, _)| template.matches(uri));
            found.map(|(_, _, server)| server)
        };
        self.owners.get(uri).or_else(of_template).or_else(|| self.guess(uri))
    }

    /// Whose template this is, as it is written.
    pub(crate) fn template_owner(&self, template: &str) -> Option<&ServerName> {
        let found = self.template_owners.iter().find(|(text, _, _)| **text == *template);
        found.map(|(_, _, server)| server).or_else(|| self.owner(template))
    }

    /// Who tells when this resource changes, if its server does.
    pub(crate) fn watchable(&self, uri: &str) -> Option<&ServerName> {
        let owner = self.owner(uri)?;
        self.with_resources.iter().any(|(server, tells)| server == owner && *tells).then_some(owner)
    }

    fn guess(&self, uri: &str) -> Option<&ServerName> {
        if let [(only, _)] = &*self.with_resources {
            return Some(only);
        }
        let scheme = &uri[..uri.find("://")? + 3];
        let mut of_scheme = self
            .owners
            .iter()
            .chain(self.template_owners.iter().map(|(text, _, server)| (text, server)))
            .filter(|(text, _)| text.starts_with(scheme))
            .map(|(_, server)| server);
        let first = of_scheme.next()?;
        of_scheme.all(|server| server == first).then_some(first)
    }

    fn take_tools(&mut self, options: &GatewayOptions, view: &EndpointView, offers: &[Offered<'_>], own: &[RawJson]) {
        let (mut list, mut claims) = (Entries::default(), Claims::new("tool"));
        for definition in own {
            if let Some(name) = Members::of(definition.get()).ok().and_then(|d| d.text("name").map(String::from)) {
                claims.reserve(name);
                list.add(|out| out.push_str(definition.get()));
            }
        }
        for (server, offer) in offers {
            let shown = options.view(server);
            for tool in offer.tools.iter().filter(|tool| shown.tools.takes(&tool.definition.name)) {
                let name = shown.naming.exposed(server, &tool.definition.name);
                if view.tools.takes(&name) {
                    claims.claim(name, server, &tool.definition.name, tool);
                }
            }
        }
        for (name, server, tool) in claims.settle(&mut self.clashes) {
            let shown = options.view(server);
            let by_lane = tool.capability.terms.lane.as_ref().is_some_and(|lane| options.heavy_lanes.contains(lane));
            let heavy = by_lane || shown.heavy.iter().any(|pattern| pattern.matches(&tool.definition.name));
            if view.list != ListMode::Search {
                list.add(|out| tool.definition.write(out, &name));
            }
            let found = ToolRef::new(&name, &tool.capability, heavy);
            self.tool_refs.insert(name.into(), Arc::new(found));
        }
        self.tools = list.pages(
            "tools",
            options.page_items,
            freshness(options, offers, |offer| (offer.fresh.tools, offer.tools.len())),
        );
    }

    fn take_prompts(&mut self, options: &GatewayOptions, view: &EndpointView, offers: &[Offered<'_>]) {
        let (mut list, mut claims) = (Entries::default(), Claims::new("prompt"));
        for (server, offer) in offers {
            let shown = options.view(server);
            for prompt in offer.prompts.iter().filter(|prompt| shown.prompts.takes(&prompt.name)) {
                let name = shown.naming.exposed(server, &prompt.name);
                if view.prompts.takes(&name) {
                    claims.claim(name, server, &prompt.name, prompt);
                }
            }
        }
        for (name, server, prompt) in claims.settle(&mut self.clashes) {
            list.add(|out| prompt.write(out, &name));
            let found = PromptRef { server: server.clone(), own_name: prompt.name.clone() };
            self.prompt_refs.insert(name.into(), found);
        }
        self.prompts = list.pages(
            "prompts",
            options.page_items,
            freshness(options, offers, |offer| (offer.fresh.prompts, offer.prompts.len())),
        );
    }

    fn take_resources(&mut self, options: &GatewayOptions, view: &EndpointView, offers: &[Offered<'_>]) {
        let mut list = Entries::default();
        list.add(|out| out.push_str(&servers_resource()));
        for (server, resource) in
            each(options, view, offers, |offer| &offer.resources, |resource| *resource.name == *SERVERS_URI)
        {
            if let Some(first) = self.owners.get(&resource.name) {
                self.clashes.push(second("resource", &resource.name, first, server));
                continue;
            }
            self.owners.insert(resource.name.clone(), server.clone());
            list.add(|out| resource.write(out, &resource.name));
        }
        // Pages of tools need not be listed to be read; what is listed goes first.
        for (server, offer) in offers {
            for page in offer.tools.iter().filter_map(|tool| tool.ui.as_ref()) {
                self.owners.entry(page.clone()).or_insert_with(|| (*server).clone());
            }
        }
        self.resources = list.pages(
            "resources",
            options.page_items,
            freshness(options, offers, |offer| (offer.fresh.resources, offer.resources.len())),
        );
    }

    fn take_templates(
        &mut self,
        options: &GatewayOptions,
        view: &EndpointView,
        offers: &[Offered<'_>],
        own: &[RawJson],
    ) {
        let mut list = Entries::default();
        for template in own {
            list.add(|out| out.push_str(template.get()));
        }
        for (server, template) in each(options, view, offers, |offer| &offer.templates, |_| false) {
            let known = self.template_owners.iter().find(|(text, _, _)| *text == template.name);
            if let Some((_, _, first)) = known {
                self.clashes.push(second("resource template", &template.name, first, server));
                continue;
            }
            self.template_owners.push((template.name.clone(), UriTemplate::new(&template.name), server.clone()));
            list.add(|out| template.write(out, &template.name));
        }
        self.templates = list.pages(
            "resourceTemplates",
            options.page_items,
            freshness(options, offers, |offer| (offer.fresh.templates, offer.templates.len())),
        );
    }
}

/// How long a list of these may be taken for current: as long as all its parts say, and no longer than is set. A part that says nothing may
/// depend on the rights by which its server was asked.
fn freshness(
    options: &GatewayOptions,
    offers: &[Offered<'_>],
    part: impl Fn(&Offer) -> (Option<Freshness>, usize),
) -> Freshness {
    let ttl_ms = u64::try_from(options.list_ttl.as_millis()).unwrap_or(u64::MAX);
    let said = offers.iter().filter_map(|(_, offer)| match part(offer) {
        (None, 0) => None,
        (said, _) => Some(said.unwrap_or(Freshness { ttl_ms, public: false })),
    });
    // What servers offer to some tenants only is nobody else's.
    let for_all = offers.iter().all(|(_, offer)| !offer.for_some);
    let whole = said.reduce(Freshness::and).unwrap_or(Freshness { ttl_ms, public: false });
    whole.and(Freshness { ttl_ms, public: for_all })
}

/// The entries of a list that are shown, but for those that are reserved.
fn each<'a>(
    options: &GatewayOptions,
    view: &EndpointView,
    offers: &[Offered<'a>],
    list: impl Fn(&'a Offer) -> &'a [Definition],
    reserved: impl Fn(&Definition) -> bool,
) -> Vec<(&'a ServerName, &'a Definition)> {
    let takes = |selection: &Selection, entry: &Definition| selection.takes(&entry.name);
    let mut found = Vec::new();
    for (server, offer) in offers {
        let shown = options.view(server);
        let entries = list(offer).iter().filter(|entry| !reserved(entry));
        let entries = entries.filter(|entry| takes(&shown.resources, entry) && takes(&view.resources, entry));
        found.extend(entries.map(|entry| (*server, entry)));
    }
    found
}

fn second(what: &'static str, name: &str, first: &ServerName, server: &ServerName) -> Clash {
    let claimed_by = vec![first.to_string(), server.to_string()];
    Clash { what, name: name.to_owned(), claimed_by, shown: Some(first.to_string()) }
}

fn servers_resource() -> String {
    let about = "Every MCP server behind this address: whether it is there, why not, and which of its names clash.";
    serde_json::json!({ "uri": SERVERS_URI, "name": "servers", "title": "MCP servers", "description": about, "mimeType": "application/json" })
        .to_string()
}

/// Names, and who wants them.
struct Claims<'a, T> {
    what: &'static str,
    /// In the order of the first claim of each.
    order: Vec<String>,
    by_name: BTreeMap<String, Vec<Claim<'a, T>>>,
    reserved: Vec<String>,
}

struct Claim<'a, T> {
    server: &'a ServerName,
    own_name: &'a str,
    entry: &'a T,
}

impl<'a, T> Claims<'a, T> {
    const fn new(what: &'static str) -> Self {
        Self { what, order: Vec::new(), by_name: BTreeMap::new(), reserved: Vec::new() }
    }

    /// A name that is ours.
    fn reserve(&mut self, name: String) {
        self.reserved.push(name);
    }

    fn claim(&mut self, name: String, server: &'a ServerName, own_name: &'a str, entry: &'a T) {
        let claim = Claim { server, own_name, entry };
        match self.by_name.entry(name) {
            Entry::Occupied(mut others) => others.get_mut().push(claim),
            Entry::Vacant(place) => {
                self.order.push(place.key().clone());
                place.insert(vec![claim]);
            }
        }
    }

    /// Those whose name is theirs alone; the others are told.
    fn settle(mut self, clashes: &mut Vec<Clash>) -> Vec<(String, &'a ServerName, &'a T)> {
        let mut settled = Vec::with_capacity(self.order.len());
        for name in self.order {
            let claims = self.by_name.remove(&name).unwrap_or_default();
            let is_ours = self.reserved.contains(&name);
            match &*claims {
                [only] if !is_ours => settled.push((name, only.server, only.entry)),
                _ => {
                    let claimed_by = claims.iter().map(|claim| format!("{}/{}", claim.server, claim.own_name));
                    let shown = is_ours.then(|| "metamcp".to_owned());
                    clashes.push(Clash { what: self.what, name, claimed_by: claimed_by.collect(), shown });
                }
            }
        }
        settled
    }
}
