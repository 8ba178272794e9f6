//! The catalogue: an immutable snapshot of every capability that is known at one moment. It changes by being replaced.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::Capability;
use crate::id::CapabilityId;

/// Every known capability, ordered by id.
#[derive(Debug, Clone)]
pub struct Catalog {
    revision: u64,
    capabilities: Arc<[Arc<Capability>]>,
}

static REVISION: AtomicU64 = AtomicU64::new(1);

impl Catalog {
    /// A snapshot of these capabilities. Of two with one id the later one stands.
    #[must_use]
    pub fn new(capabilities: impl IntoIterator<Item = Arc<Capability>>) -> Self {
        let by_id: BTreeMap<CapabilityId, Arc<Capability>> =
            capabilities.into_iter().map(|c| (c.id.clone(), c)).collect();
        Self { revision: REVISION.fetch_add(1, Ordering::Relaxed), capabilities: by_id.into_values().collect() }
    }

    /// A number no other snapshot of this process has: an index may be kept by it.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// The capabilities, ordered by id.
    #[must_use]
    pub fn capabilities(&self) -> &[Arc<Capability>] {
        &self.capabilities
    }

    /// The capability of this id.
    #[must_use]
    pub fn get(&self, id: &CapabilityId) -> Option<&Arc<Capability>> {
        self.capabilities.binary_search_by(|c| c.id.cmp(id)).ok().map(|at| &self.capabilities[at])
    }
}

impl Default for Catalog {
    fn default() -> Self {
        Self::new([])
    }
}
