//! The live set of configured servers: what state each is in, why, and what it offers. Pure: it connects to nothing and reads no clock.
//!
//! Its product is the [`Catalog`]: replaced whole whenever a server's offer changes. A server that fails keeps its last known offer, so that
//! a short outage does not make its tools vanish; a call then tells what is wrong.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    id::ServerName,
    matching::{Capability, Catalog, ServerTerms},
    time::Timestamp,
};

/// Where a server stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ServerState {
    /// Never used so far; it is started when it is first needed.
    Idle,
    /// Being connected to.
    Connecting,
    /// Connected.
    Ready,
    /// The last attempt to connect failed.
    Down,
}

/// A server as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStatus {
    /// What configuration calls it.
    pub name: ServerName,
    /// Where it stands.
    pub state: ServerState,
    /// Since when.
    pub since: Timestamp,
    /// Where it is, secrets redacted.
    pub target: String,
    /// The protocol revision of the last connection.
    pub protocol: Option<String>,
    /// What it called itself, with its version.
    pub implementation: Option<String>,
    /// Why the last attempt failed; stays until one succeeds.
    pub last_failure: Option<String>,
    /// How many tools it offers.
    pub tools: usize,
}

#[derive(Debug)]
struct Entry {
    status: ServerStatus,
    /// When it failed first after it last was ready; trying again does not make it less down.
    down_since: Option<Timestamp>,
    terms: Arc<ServerTerms>,
    capabilities: Vec<Arc<Capability>>,
}

/// What a connected server offers.
#[derive(Debug)]
pub struct Offer {
    /// Its tools.
    pub capabilities: Vec<Arc<Capability>>,
    /// The protocol revision agreed on.
    pub protocol: String,
    /// What it calls itself.
    pub implementation: String,
}

/// The set of servers.
#[derive(Debug, Default)]
pub struct Registry {
    servers: BTreeMap<ServerName, Entry>,
}

impl Registry {
    /// Adds a server in state idle; a second one of the same name replaces the first.
    pub fn add(&mut self, name: ServerName, terms: Arc<ServerTerms>, target: String, now: Timestamp) {
        let status = ServerStatus {
            name: name.clone(),
            state: ServerState::Idle,
            since: now,
            target,
            protocol: None,
            implementation: None,
            last_failure: None,
            tools: 0,
        };
        self.servers.insert(name, Entry { status, down_since: None, terms, capabilities: Vec::new() });
    }

    /// What configuration says of a server.
    #[must_use]
    pub fn terms(&self, name: &ServerName) -> Option<Arc<ServerTerms>> {
        self.servers.get(name).map(|entry| Arc::clone(&entry.terms))
    }

    /// A connection attempt has begun.
    pub fn connecting(&mut self, name: &ServerName, now: Timestamp) {
        self.set(name, ServerState::Connecting, now);
    }

    /// The server is connected and offers this.
    pub fn ready(&mut self, name: &ServerName, offer: Offer, now: Timestamp) {
        self.set(name, ServerState::Ready, now);
        if let Some(entry) = self.servers.get_mut(name) {
            entry.status.tools = offer.capabilities.len();
            entry.status.protocol = Some(offer.protocol);
            entry.status.implementation = Some(offer.implementation);
            entry.status.last_failure = None;
            entry.down_since = None;
            entry.capabilities = offer.capabilities;
        }
    }

    /// The last attempt failed; the known offer stays.
    pub fn down(&mut self, name: &ServerName, reason: &str, now: Timestamp) {
        self.set(name, ServerState::Down, now);
        if let Some(entry) = self.servers.get_mut(name) {
            entry.status.last_failure = Some(reason.to_owned());
            entry.down_since.get_or_insert(now);
        }
    }

    fn set(&mut self, name: &ServerName, state: ServerState, now: Timestamp) {
        if let Some(entry) = self.servers.get_mut(name)
            && entry.status.state != state
        {
            entry.status.state = state;
            entry.status.since = now;
        }
    }

    /// Since when a server cannot be reached, and why; `None` when it can, or was never tried. It stays so while it is tried again.
    #[must_use]
    pub fn unreachable(&self, name: &ServerName) -> Option<(Timestamp, &str)> {
        let entry = self.servers.get(name)?;
        Some((entry.down_since?, entry.status.last_failure.as_deref().unwrap_or_default()))
    }

    /// Every server, ordered by name.
    #[must_use]
    pub fn statuses(&self) -> Vec<ServerStatus> {
        self.servers.values().map(|entry| entry.status.clone()).collect()
    }

    /// The offers of all servers as one snapshot.
    #[must_use]
    pub fn catalog(&self) -> Catalog {
        Catalog::new(self.servers.values().flat_map(|entry| entry.capabilities.iter().map(Arc::clone)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::RawJson;

    #[test]
    fn a_server_that_fails_keeps_its_offer_and_tells_why() {
        let (name, now) = (ServerName::new("git").unwrap(), Timestamp::from_millis(1));
        let mut registry = Registry::default();
        registry.add(name.clone(), Arc::default(), "stdio git".to_owned(), now);
        assert_eq!(registry.statuses()[0].state, ServerState::Idle);
        let tool = RawJson::parse(r#"{"name":"log"}"#).unwrap();
        let capability = Capability::from_definition(&name, Arc::default(), tool).unwrap();
        let offer = Offer {
            capabilities: vec![Arc::new(capability)],
            protocol: "2025-11-25".to_owned(),
            implementation: "git 1".to_owned(),
        };
        registry.ready(&name, offer, now);
        registry.down(&name, "exit status 1", Timestamp::from_millis(5));
        let status = &registry.statuses()[0];
        assert_eq!((status.state, status.tools), (ServerState::Down, 1));
        assert_eq!(status.last_failure.as_deref(), Some("exit status 1"));
        registry.connecting(&name, Timestamp::from_millis(7));
        registry.down(&name, "exit status 2", Timestamp::from_millis(9));
        assert_eq!(registry.unreachable(&name), Some((Timestamp::from_millis(5), "exit status 2")));
        assert_eq!(registry.catalog().capabilities().len(), 1);
    }
}
