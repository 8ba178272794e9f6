//! Puts an orchestrator together. Everything has a default that needs no service: memory stores, the lexical matcher, the system's clock.

use std::sync::Arc;

use super::{orchestrator::Orchestrator, policy::Policy, ports::Ports, servers::ServerEntry};
use crate::{
    entropy::{Entropy, OsEntropy},
    event::{EventBus, MemoryEventBus},
    id::ServerName,
    matching::{CapabilityMatcher, LexicalMatcher, ServerTerms},
    queue::{JobStore, MemoryJobStore},
    record::{MemoryRecordStore, RecordStore},
    result::{MemoryResultStore, ResultStore},
    task::Limits,
    time::{Clock, SystemClock},
    transport::Connector,
};

impl Orchestrator {
    /// An orchestrator from parts; without any it keeps everything in memory.
    pub fn builder() -> OrchestratorBuilder {
        OrchestratorBuilder::default()
    }
}

/// Collects the parts of an [`Orchestrator`].
#[derive(Debug)]
#[must_use]
pub struct OrchestratorBuilder {
    jobs: Option<Arc<dyn JobStore>>,
    results: Option<Arc<dyn ResultStore>>,
    events: Option<Arc<dyn EventBus>>,
    records: Option<Arc<dyn RecordStore>>,
    matcher: Option<Arc<dyn CapabilityMatcher>>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    policy: Policy,
    limits: Limits,
    servers: Vec<ServerEntry>,
}

impl Default for OrchestratorBuilder {
    fn default() -> Self {
        Self {
            jobs: None,
            results: None,
            events: None,
            records: None,
            matcher: None,
            clock: Arc::new(SystemClock::default()),
            entropy: Arc::new(OsEntropy),
            policy: Policy::default(),
            limits: Limits::default(),
            servers: Vec::new(),
        }
    }
}

impl OrchestratorBuilder {
    /// Keeps jobs there.
    pub fn jobs(mut self, jobs: Arc<dyn JobStore>) -> Self {
        self.jobs = Some(jobs);
        self
    }

    /// Keeps results there.
    pub fn results(mut self, results: Arc<dyn ResultStore>) -> Self {
        self.results = Some(results);
        self
    }

    /// Tells events there.
    pub fn events(mut self, events: Arc<dyn EventBus>) -> Self {
        self.events = Some(events);
        self
    }

    /// Keeps schedules, batches and cached calls there.
    pub fn records(mut self, records: Arc<dyn RecordStore>) -> Self {
        self.records = Some(records);
        self
    }

    /// Matches with this.
    pub fn matcher(mut self, matcher: Arc<dyn CapabilityMatcher>) -> Self {
        self.matcher = Some(matcher);
        self
    }

    /// Takes the time from this clock; stores have their own.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Takes random numbers from there: ids, nonces, jitter.
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// Runs jobs on these terms.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Accepts tasks within these bounds.
    pub const fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Orchestrates this server; it is connected when it is first needed.
    pub fn server(mut self, name: ServerName, connector: Arc<dyn Connector>) -> Self {
        self.servers.push(ServerEntry { name, terms: ServerTerms::default(), connector });
        self
    }

    /// Orchestrates these servers.
    pub fn servers(mut self, entries: impl IntoIterator<Item = ServerEntry>) -> Self {
        self.servers.extend(entries);
        self
    }

    /// The orchestrator. It accepts tasks; a [`Worker`](super::Worker) serves them.
    #[must_use]
    pub fn build(self) -> Orchestrator {
        let clock = self.clock;
        let ports = Ports {
            jobs: self.jobs.unwrap_or_else(|| Arc::new(MemoryJobStore::new(Arc::clone(&clock)))),
            results: self.results.unwrap_or_else(|| Arc::new(MemoryResultStore::default())),
            events: self.events.unwrap_or_else(|| Arc::new(MemoryEventBus::new(Arc::clone(&clock)))),
            records: self.records.unwrap_or_else(|| Arc::new(MemoryRecordStore::new(Arc::clone(&clock)))),
            matcher: self.matcher.unwrap_or_else(|| Arc::new(LexicalMatcher::default())),
            clock,
            entropy: self.entropy,
            policy: Arc::new(self.policy),
            limits: self.limits,
            nudge: tokio::sync::watch::Sender::new(()),
        };
        Orchestrator::new(ports, self.servers)
    }
}
