//! How a gateway shows its servers: names, selections, endpoints, waits and bounds. Everything has a default.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use metamcp_core::id::{Lane, ServerName};

use super::{
    names::Naming,
    pattern::{Pattern, Selection},
};

/// How one server is shown on every endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerView {
    /// How its tools and prompts are named.
    pub naming: Naming,
    /// Which of its tools are shown, by the server's own names.
    pub tools: Selection,
    /// Which of its prompts are shown, by the server's own names.
    pub prompts: Selection,
    /// Which of its resources and templates are shown, by URI.
    pub resources: Selection,
    /// Tools that take long, by the server's own names: a client that takes tasks gets one at once.
    pub heavy: Vec<Pattern>,
}

/// Which tools a client sees in a list. Whatever is shown or not, the tools of the endpoint can be called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ListMode {
    /// Every tool of the endpoint, and none of our own that find tools.
    #[default]
    Full,
    /// Only our own: find a tool, call it, or state a need. Small context, whatever the number of tools.
    Search,
    /// Both.
    Both,
}

/// What one address shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointView {
    /// The servers behind it; empty: all.
    pub servers: BTreeSet<ServerName>,
    /// Which tools are there, by the names shown.
    pub tools: Selection,
    /// Which prompts are there, by the names shown.
    pub prompts: Selection,
    /// Which resources and templates are there, by URI.
    pub resources: Selection,
    /// Which tools are listed.
    pub list: ListMode,
}

impl EndpointView {
    /// Whether a server is behind it.
    pub(crate) fn shows(&self, server: &ServerName) -> bool {
        self.servers.is_empty() || self.servers.contains(server)
    }
}

/// How a gateway behaves.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct GatewayOptions {
    /// How servers are shown; one that is not in it has the defaults.
    pub servers: BTreeMap<ServerName, ServerView>,
    /// What `/mcp` shows.
    pub main: EndpointView,
    /// What `/mcp/{name}` shows.
    pub endpoints: BTreeMap<String, EndpointView>,
    /// Most entries on one page of a list; each further page is one more round trip, and some clients ask for none.
    pub page_items: usize,
    /// How long clients may take a list for fresh; those that listen are told of changes at once.
    pub list_ttl: Duration,
    /// How long a server that went down stays in the lists.
    pub grace: Duration,
    /// How often the lists of a connected server are read again although it told of no change.
    pub refresh: Duration,
    /// How long after its start the gateway lets a list wait for servers of which nothing is known yet.
    pub first_wait: Duration,
    /// A call that lasts longer becomes a task, for clients that take tasks; `None`: never.
    pub upgrade_after: Option<Duration>,
    /// A call that lasts longer is answered with the handle of a task, for clients that do not take tasks; `None`: never.
    pub detach_after: Option<Duration>,
    /// Results above this come back as a pointer, in bytes.
    pub result_bytes_max: usize,
    /// Lanes whose tools take long, beside those that [`ServerView::heavy`] names.
    pub heavy_lanes: BTreeSet<Lane>,
}

impl Default for GatewayOptions {
    fn default() -> Self {
        let second = Duration::from_secs(1);
        Self {
            servers: BTreeMap::new(),
            main: EndpointView::default(),
            endpoints: BTreeMap::new(),
            page_items: 10_000,
            list_ttl: 60 * second,
            grace: 60 * second,
            refresh: 300 * second,
            first_wait: 15 * second,
            upgrade_after: Some(10 * second),
            // Below the 60 s after which clients of the official SDKs give a request up.
            detach_after: Some(50 * second),
            result_bytes_max: 256 << 10,
            heavy_lanes: [Lane::heavy()].into(),
        }
    }
}

impl GatewayOptions {
    /// How a server is shown.
    pub(crate) fn view(&self, server: &ServerName) -> &ServerView {
        static DEFAULT: std::sync::LazyLock<ServerView> = std::sync::LazyLock::new(ServerView::default);
        self.servers.get(server).unwrap_or(&DEFAULT)
    }

    /// What an endpoint shows, `None` for the main one; `None` when there is no such endpoint.
    pub(crate) fn endpoint(&self, name: Option<&str>) -> Option<&EndpointView> {
        match name {
            None => Some(&self.main),
            Some(name) => self.endpoints.get(name),
        }
    }
}
