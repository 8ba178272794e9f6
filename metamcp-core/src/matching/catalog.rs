//! The catalogue: an immutable snapshot of every capability that is known at one moment. It changes by being replaced.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
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
    /// Positions by declared group; made when it is first asked for.
    groups: Arc<OnceLock<HashMap<String, Vec<usize>>>>,
}

static REVISION: AtomicU64 = AtomicU64::new(1);

impl Catalog {
    /// A snapshot of these capabilities. Of two with one id the later one stands.
    #[must_use]
    pub fn new(capabilities: impl IntoIterator<Item = Arc<Capability>>) -> Self {
        let mut by_id: Vec<Arc<Capability>> = capabilities.into_iter().collect();
        // Stable, and quick where most are in order already, as when one server is added to many.
        by_id.sort_by(|a, b| a.id.cmp(&b.id));
        by_id.dedup_by(|later, kept| {
            let same = later.id == kept.id;
            if same {
                std::mem::swap(later, kept);
            }
            same
        });
        Self::of_ordered(by_id.into())
    }

    fn of_ordered(capabilities: Arc<[Arc<Capability>]>) -> Self {
        Self { revision: REVISION.fetch_add(1, Ordering::Relaxed), capabilities, groups: Arc::default() }
    }

    /// A snapshot of those capabilities alone that `keep` keeps.
    #[must_use]
    pub fn only(&self, keep: impl Fn(&Capability) -> bool) -> Self {
        Self::of_ordered(self.capabilities.iter().filter(|c| keep(c)).cloned().collect())
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

    /// The capabilities that configuration declares to do the same, ordered by id; see [`Capability::group`].
    pub fn group(&self, group: &str) -> impl Iterator<Item = &Arc<Capability>> {
        let groups = self.groups.get_or_init(|| {
            let mut groups: HashMap<String, Vec<usize>> = HashMap::new();
            for (at, capability) in self.capabilities.iter().enumerate() {
                if let Some(group) = capability.group() {
                    groups.entry(group).or_default().push(at);
                }
            }
            groups
        });
        groups.get(group).into_iter().flatten().map(|at| &self.capabilities[*at])
    }
}

impl Default for Catalog {
    fn default() -> Self {
        Self::new([])
    }
}
