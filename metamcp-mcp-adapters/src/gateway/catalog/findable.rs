//! The tools of an endpoint as they are searched.

use std::{collections::HashMap, sync::Arc};

use metamcp_core::{id::CapabilityId, matching::Catalog};

use super::tool_ref::ToolRef;

/// The tools of an endpoint as a matcher takes them, and what they are called there.
#[derive(Debug)]
pub(crate) struct Findable {
    pub(crate) catalog: Catalog,
    names: HashMap<CapabilityId, Arc<ToolRef>>,
}

impl Findable {
    pub(crate) fn new<'a>(tools: impl Iterator<Item = &'a Arc<ToolRef>>) -> Self {
        let names: HashMap<_, _> = tools.map(|tool| (tool.capability.id.clone(), Arc::clone(tool))).collect();
        Self { catalog: Catalog::new(names.values().map(|tool| Arc::clone(&tool.capability))), names }
    }

    /// What a tool is called on the endpoint.
    pub(crate) fn tool(&self, id: &CapabilityId) -> Option<&Arc<ToolRef>> {
        self.names.get(id)
    }

    /// Whether every tool of `all` is among these.
    pub(crate) fn holds(&self, all: &Catalog) -> bool {
        all.capabilities().iter().all(|capability| self.names.contains_key(&capability.id))
    }
}
