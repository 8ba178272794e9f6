//! A call that runs already becomes a job: durable, as leased by this process, before anybody is told of it, kept alive here, and ended with
//! what comes of the call.
//!
//! Nothing is called again. If the process dies, the lease runs out and `plan` decides, as for any other job.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    dispatch::Dispatch,
    error::EngineError,
    hold::Hold,
    ports::{Ports, persist},
    servers::Servers,
    slots::Seats,
    store_clock::StoreClock,
    submit::accepted,
};
use crate::{
    auth::Principal,
    entropy::Entropy,
    event::EventKind,
    id::{CapabilityId, JobId, Lane, WorkerId},
    json::RawJson,
    matching::{Candidate, Reason, Route},
    pointer::Digest,
    queue::{Enqueued, Heartbeat, Held, Job, JobBody, Leased, NewJob, Progress, moves},
    task::{Need, Task, TaskRecord},
    transport::{ToolReply, TransportError},
};

/// How long closing waits until jobs of cut-off calls are given back, in seconds.
const GIVE_BACK_S_MAX: u64 = 10;

/// What the adopted calls of one engine share.
#[derive(Debug)]
pub(super) struct Adoption {
    worker: WorkerId,
    /// Adopted calls run whether a worker of this process has room or not.
    seats: Arc<Seats>,
    running: TaskTracker,
    cut: CancellationToken,
}

impl Adoption {
    pub(super) fn new(entropy: &dyn Entropy) -> Self {
        Self {
            worker: WorkerId::fresh(entropy),
            seats: Arc::new(Seats::new(usize::MAX)),
            running: TaskTracker::new(),
            cut: CancellationToken::new(),
        }
    }

    /// Cuts adopted calls off and gives their jobs back, as a worker does that is drained.
    pub(super) async fn close(&self) {
        self.cut.cancel();
        self.running.close();
        if tokio::time::timeout(Duration::from_secs(GIVE_BACK_S_MAX), self.running.wait()).await.is_err() {
            tracing::error!("adopted jobs were not given back in time; their leases will run out");
        }
    }
}

/// A job that this process holds for a call that runs. Dropped without [`run`](Self::run), its lease runs out.
#[derive(Debug)]
#[must_use]
pub struct Adopted {
    ports: Arc<Ports>,
    servers: Arc<Servers>,
    shared: Arc<Adoption>,
    hold: Arc<Hold>,
    job: Job,
}

impl Adopted {
    /// The job as it was accepted.
    #[must_use]
    pub const fn job(&self) -> &Job {
        &self.job
    }

    /// Takes reports of how far the call has come.
    pub fn reporter(&self) -> impl Fn(Progress) + Send + Sync + 'static {
        let hold = Arc::clone(&self.hold);
        move |progress| hold.put_progress(progress)
    }

    /// Goes on with the call in the background and ends the job with what comes of it: its owner's cancel, its deadline and the loss of its
    /// lease drop the call.
    pub fn run(self, call: impl Future<Output = Result<ToolReply, TransportError>> + Send + 'static) {
        let Self { ports, servers, shared, hold, job } = self;
        let clock = StoreClock::read(&job.head);
        let leased = Leased { key: hold.key, job };
        let (seats, cut) = (Arc::clone(&shared.seats), shared.cut.clone());
        let dispatch = Dispatch::new(Arc::clone(&ports), servers, seats, Arc::clone(&hold), leased, clock, cut);
        shared.running.spawn(async move {
            let over = CancellationToken::new();
            let work = async {
                let _ends_beats = over.clone().drop_guard();
                dispatch.run_adopted(call).await;
            };
            tokio::join!(over.run_until_cancelled(keep_alive(&ports, &hold)), work);
        });
    }
}

pub(super) async fn adopt(
    ports: &Arc<Ports>,
    servers: &Arc<Servers>,
    shared: &Arc<Adoption>,
    who: &Principal,
    capability: &CapabilityId,
    arguments: RawJson,
) -> Result<Adopted, EngineError> {
    let need = Need { input: arguments, tool: Some(capability.clone()), ..Need::default() };
    let task = Task { need, ..Task::default() };
    ports.limits.check(&task)?;
    let catalog = servers.catalog_for(who);
    let known = catalog.get(capability).ok_or(EngineError::NotFound { what: "tool" })?;
    let candidate = Candidate::new(known, 1.0, vec![Reason::Named]);
    let lane = candidate.lane.clone().unwrap_or_else(Lane::light);
    let id = JobId::drawn(ports.clock.now(), &*ports.entropy);
    let record = TaskRecord { need: task.need, labels: task.labels, cache: None };
    let new = NewJob {
        id,
        owner: who.clone(),
        lane,
        priority: 0,
        delay: Duration::ZERO,
        deadline: Some(ports.policy.deadline),
        retain: ports.policy.retain,
        attempts_max: ports.policy.attempts_max,
        lost_max: ports.policy.lost_max,
        idempotency_key: None,
        // Nothing is ever compared with it: the job has no key.
        request_digest: Digest::of(id.as_bytes()),
        body: Arc::new(JobBody { task: record, route: Route { candidates: vec![candidate], rejected: Vec::new() } }),
        after: Vec::new(),
        // The call is on its way already, whatever bounds its kind has.
        concurrency: None,
        rate: None,
        held: Some(Held {
            worker: shared.worker.clone(),
            nonce: ports.entropy.next_u64(),
            visibility: ports.policy.visibility,
        }),
    };
    let asked = Instant::now();
    let job = hold_at_once(ports, &new).await?;
    let hold = Arc::new(Hold::new(job.head.lease_key(), asked + ports.policy.visibility));
    ports.tell(id, who, EventKind::Queued).await;
    ports.tell(id, who, EventKind::Started { capability: capability.clone(), attempts: 0 }).await;
    Ok(Adopted { ports: Arc::clone(ports), servers: Arc::clone(servers), shared: Arc::clone(shared), hold, job })
}

/// Accepts a job that is leased from the first moment on.
async fn hold_at_once(ports: &Ports, new: &NewJob) -> Result<Job, EngineError> {
    let mut answers = persist("adopt", || ports.jobs.enqueue(std::slice::from_ref(new))).await?;
    let answer = answers.pop();
    let (id, _) = accepted(new, answer.as_ref())?;
    match answer {
        Some(Enqueued::Ok { at, .. }) => {
            Ok(Job { head: moves::accept(new, at, Vec::new()), body: Arc::clone(&new.body) })
        }
        // A repeated store call finds its own job: its first answer was lost.
        _ => ports.jobs.get(id).await?.ok_or(EngineError::NotFound { what: "task" }),
    }
}

async fn keep_alive(ports: &Ports, hold: &Hold) {
    let visibility = ports.policy.visibility;
    let mut nudge = ports.nudge.subscribe();
    loop {
        let asked = Instant::now();
        match ports.jobs.heartbeat(&[Heartbeat { lease: hold.key, progress: None }], visibility).await {
            Ok(beats) => beats.iter().for_each(|beat| hold.beat(beat, asked, visibility)),
            // The job stops by itself when its lease can no longer be shown to be held.
            Err(error) => tracing::warn!(job = %hold.key.job, %error, "no heartbeat"),
        }
        // Over in time or nudged: both mean a heartbeat now.
        let _ = tokio::time::timeout(ports.policy.heartbeat, nudge.changed()).await;
    }
}
