//! One seeded history: processes come, stall, crash and drain while tasks are submitted and cancelled; then everything heals and must end well.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use metamcp_core::{
    auth::Principal,
    engine::{Orchestrator, Policy, Worker, WorkerOptions},
    entropy::{Entropy, SeededEntropy},
    event::MemoryEventBus,
    id::ServerName,
    queue::{JobStore, MemoryJobStore},
    result::MemoryResultStore,
    task::Task,
    time::{Clock, Timestamp},
};
use tokio::time::Instant;

use crate::{
    faults::Faulty,
    invariants,
    ledger::Ledger,
    server::{ByName, FarSide, SimConnector},
    twins::Witness,
};

/// Which mistake the world is built with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Twin {
    None,
    AckByIdOnly,
    AckBeforeWrite,
    PopBeforeWrite,
    BlindReplay,
}

/// Steps of one history.
const STEPS: u32 = 80;
/// Virtual time after healing in which every job must end.
const HEAL_S_MAX: u64 = 7_200;
/// Faults in a thousand store calls and server steps.
const STORE_FAULTS: u32 = 20;
const SERVER_FAULTS: u32 = 60;

/// The paused clock of the runtime as a store's clock.
#[derive(Debug)]
struct VirtualClock(Instant);

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_790_000_000_000) + self.0.elapsed()
    }
}

struct Process {
    orchestrator: Orchestrator,
    view: Arc<Faulty>,
    worker: Option<Worker>,
}

pub(crate) struct World {
    entropy: Arc<dyn Entropy>,
    clock: Arc<dyn Clock>,
    ledger: Arc<Ledger>,
    jobs: Arc<Witness>,
    results: Arc<MemoryResultStore>,
    events: Arc<MemoryEventBus>,
    servers: Vec<Arc<FarSide>>,
    processes: Vec<Process>,
    /// Processes that crashed: cut off for ever, yet their calls go on, as those of a stopped process would.
    zombies: Vec<Process>,
}

impl World {
    pub(crate) fn new(seed: u64, twin: Twin) -> Self {
        let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(seed));
        let clock: Arc<dyn Clock> = Arc::new(VirtualClock(Instant::now()));
        let ledger = Arc::new(Ledger::default());
        let jobs = Arc::new(Witness {
            inner: Arc::new(MemoryJobStore::new(Arc::clone(&clock))),
            ledger: Arc::clone(&ledger),
            twin,
            popped: Mutex::default(),
            unwritten: Mutex::default(),
            lost: Mutex::default(),
        });
        let servers = ["left", "right"]
            .map(|name| {
                Arc::new(FarSide {
                    name: ServerName::new(name).unwrap(),
                    ledger: Arc::clone(&ledger),
                    entropy: Arc::clone(&entropy),
                    twin,
                    per_mille: AtomicU32::new(SERVER_FAULTS),
                    tasks: Mutex::default(),
                })
            })
            .to_vec();
        let (results, events) = (Arc::default(), Arc::new(MemoryEventBus::new(Arc::clone(&clock))));
        let mut world =
            Self { entropy, clock, ledger, jobs, results, events, servers, processes: Vec::new(), zombies: Vec::new() };
        world.processes = (0..3).map(|_| world.process(STORE_FAULTS)).collect();
        world
    }

    fn process(&self, faults: u32) -> Process {
        let view =
            Arc::new(Faulty::new(Arc::clone(&self.jobs) as Arc<dyn JobStore>, Arc::clone(&self.entropy), faults));
        let mut policy = Policy::default();
        policy.deadline = Duration::from_secs(1_800);
        let mut builder = Orchestrator::builder()
            .jobs(Arc::clone(&view) as Arc<dyn JobStore>)
            .results(Arc::clone(&self.results) as _)
            .events(Arc::clone(&self.events) as _)
            .matcher(Arc::new(ByName))
            .clock(Arc::clone(&self.clock))
            .entropy(Arc::clone(&self.entropy))
            .policy(policy);
        for far in &self.servers {
            builder = builder.server(far.name.clone(), Arc::new(SimConnector(Arc::clone(far))));
        }
        let orchestrator = builder.build();
        let worker = orchestrator.worker(WorkerOptions::default().with_concurrency(4));
        Process { orchestrator, view, worker: Some(worker) }
    }

    fn below(&self, n: usize) -> usize {
        usize::try_from(self.entropy.next_u64() % n as u64).unwrap()
    }

    pub(crate) async fn run(mut self) -> Vec<String> {
        for _ in 0..STEPS {
            tokio::time::sleep(Duration::from_millis(self.entropy.next_u64() % 4_000)).await;
            self.step().await;
            let violations = self.violations(false).await;
            if !violations.is_empty() {
                return violations;
            }
        }
        self.heal().await;
        self.violations(true).await
    }

    async fn step(&mut self) {
        let at = self.below(self.processes.len());
        match self.below(100) {
            0..70 => self.submit(at),
            70..78 => self.cancel(at),
            78..86 => {
                // A stall: longer or shorter than a lease, then on as if nothing had happened.
                let view = Arc::clone(&self.processes[at].view);
                view.cut.send_replace(true);
                let pause = Duration::from_millis(self.entropy.next_u64() % 90_000);
                tokio::spawn(async move {
                    tokio::time::sleep(pause).await;
                    view.cut.send_replace(false);
                });
            }
            86..94 => {
                let fresh = self.process(STORE_FAULTS);
                let crashed = std::mem::replace(&mut self.processes[at], fresh);
                // Should a stall that is under way end later, every call of the dead still fails.
                crashed.view.per_mille.store(1_000, Ordering::Relaxed);
                crashed.view.cut.send_replace(true);
                self.jobs.power_cut();
                self.zombies.push(crashed);
            }
            _ => {
                let fresh = self.process(STORE_FAULTS);
                let mut leaving = std::mem::replace(&mut self.processes[at], fresh);
                let worker = leaving.worker.take().expect("a live process has a worker");
                let grace = Duration::from_millis(self.entropy.next_u64() % 5_000);
                tokio::spawn(async move {
                    worker.drain(grace).await;
                    leaving.orchestrator.close().await;
                });
            }
        }
    }

    fn submit(&self, at: usize) {
        let tool = ["safe", "once", "remote"][self.below(3)];
        let delay = Duration::from_millis(if self.below(4) == 0 { self.entropy.next_u64() % 30_000 } else { 0 });
        let priority = u8::try_from(self.below(10)).unwrap();
        let task = Task::new(tool).with_delay(delay).with_priority(priority);
        let (orchestrator, ledger) = (self.processes[at].orchestrator.clone(), Arc::clone(&self.ledger));
        tokio::spawn(async move {
            if let Ok(submitted) = orchestrator.submit(&Principal::local(), task).await {
                ledger.accept(submitted.job.head.id);
            }
        });
    }

    fn cancel(&self, at: usize) {
        let accepted = self.ledger.accepted();
        if accepted.is_empty() {
            return;
        }
        let id = accepted[self.below(accepted.len())];
        let orchestrator = self.processes[at].orchestrator.clone();
        // Refused when the job has ended: that is an answer.
        tokio::spawn(async move { orchestrator.cancel(&Principal::local(), id, "simulated").await.map(drop) });
    }

    /// No more faults, one healthy process, and time.
    async fn heal(&mut self) {
        for far in &self.servers {
            far.per_mille.store(0, Ordering::Relaxed);
        }
        for process in self.processes.drain(..) {
            process.view.per_mille.store(0, Ordering::Relaxed);
            self.zombies.push(process);
        }
        let healthy = self.process(0);
        let end = Instant::now() + Duration::from_secs(HEAL_S_MAX);
        while Instant::now() < end && !self.violations(true).await.is_empty() {
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
        self.processes.push(healthy);
    }

    async fn violations(&self, at_the_end: bool) -> Vec<String> {
        let mut violations = invariants::stale_is_refused::check(&self.ledger);
        violations.extend(invariants::one_final_state::check(&self.ledger));
        violations.extend(invariants::effect_at_most_once::check(&self.ledger));
        violations.extend(invariants::accepted_is_kept::check(&self.ledger, &*self.jobs, at_the_end).await);
        violations.extend(invariants::result_is_of_its_lease::check(&self.ledger, &*self.jobs, &*self.results).await);
        violations
    }
}
