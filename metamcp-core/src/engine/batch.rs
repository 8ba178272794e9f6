//! Tasks that are submitted together and followed as one.
//!
//! A batch is a record beside its jobs: which task became which job, and which was refused and why. How it stands is read from the jobs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::{task::JoinSet, time::Instant};

use super::{
    batch_id::BatchId,
    error::EngineError,
    ports::{Ports, persist},
    servers::Servers,
    submit::{Prepared, accepted, prepare},
};
use crate::{
    auth::Principal,
    error::{StoreError, StoreErrorKind},
    event::{EVENT_PAGE_MAX, EventKind, NewEvent},
    id::JobId,
    pointer::Digest,
    queue::{Cancelled, JobState, LEASE_BATCH_MAX, NewJob},
    record::{Expect, RecordKind, Written},
    task::{InvalidTask, Task},
    time::Timestamp,
};

/// Most tasks in one batch.
pub const BATCH_TASKS_MAX: usize = 1_000;
/// Longest reason kept with a refused task, in bytes; as JSON twice that, so that the largest batch still fits a record.
const REFUSAL_BYTES_MAX: usize = 120;
/// How much longer than its tasks a batch is kept.
const BATCH_GRACE: Duration = Duration::from_secs(3_600);
/// Jobs of a batch that are read at a time.
const READS_AT_ONCE: usize = 16;
/// What is told of a task that the store could not be asked to accept; its own words are for the log.
const NOT_ASKED: &str = "the store failed before this task was accepted; submit it again";
/// Why jobs are cancelled that nobody could be told of.
const WITHDRAWN: &str = "the store failed while the batch of this task was submitted";
/// Longest time between two looks at a batch that is waited for, in seconds: news may be missed.
const LOOK_S_MAX: u64 = 5;

/// What became of one task of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchTask {
    /// It is this job.
    Accepted(JobId),
    /// It was refused; why, in at most 120 bytes.
    Refused(String),
}

/// Tasks that were submitted together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Batch {
    /// Its name.
    pub id: BatchId,
    /// Who may read and steer it.
    pub owner: Principal,
    /// When it was accepted, by the engine's clock.
    pub created_at: Timestamp,
    /// What was asked, for a repeated call.
    asked: Digest,
    /// Its tasks in the order they were given.
    pub tasks: Vec<BatchTask>,
}

impl Batch {
    /// The jobs of the tasks that were accepted.
    pub fn jobs(&self) -> impl Iterator<Item = JobId> {
        self.tasks.iter().filter_map(|task| match task {
            BatchTask::Accepted(job) => Some(*job),
            BatchTask::Refused(_) => None,
        })
    }
}

/// How the tasks of a batch stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BatchState {
    /// The batch.
    pub id: BatchId,
    /// How many of its jobs stand where.
    pub states: BTreeMap<JobState, usize>,
    /// Tasks that were refused.
    pub refused: usize,
    /// Jobs that are no longer kept.
    pub removed: usize,
    /// Nothing of it is still to come.
    pub ended: bool,
}

pub(super) async fn submit(
    ports: &Ports,
    servers: &Arc<Servers>,
    who: &Principal,
    mut tasks: Vec<Task>,
    key: Option<&str>,
) -> Result<Batch, EngineError> {
    if tasks.is_empty() || tasks.len() > BATCH_TASKS_MAX {
        let mend = format!("a batch has 1 to {BATCH_TASKS_MAX} tasks, this one {}", tasks.len());
        return Err(InvalidTask::new("tasks", mend).into());
    }
    let asked = asked(&tasks)?;
    let id = key.map_or_else(|| BatchId::drawn(ports), |key| BatchId::keyed(who, key));
    if key.is_some()
        && let Some(standing) = read(ports, &id).await?
    {
        return same(standing, asked);
    }
    let longest = tasks.iter().map(|task| task.delay + task.deadline.unwrap_or(ports.policy.deadline)).max();
    if key.is_some() {
        for (n, task) in tasks.iter_mut().enumerate() {
            task.idempotency_key = Some(format!("batch/{id}/{n}"));
        }
    }
    let Line { tasks, made } = enqueue(ports, servers, who, tasks, key.is_some()).await?;
    let kept = keep(ports, who, Made { id, asked, tasks, longest: longest.unwrap_or_default() }).await;
    if kept.is_err() {
        Box::pin(withdraw(ports, who, &made)).await;
    }
    kept
}

/// Tasks that were accepted together.
pub(super) struct Made {
    pub(super) id: BatchId,
    /// Digest of what was asked for.
    pub(super) asked: Digest,
    pub(super) tasks: Vec<BatchTask>,
    /// How long they take at most.
    pub(super) longest: Duration,
}

/// Writes the record of a batch.
pub(super) async fn keep(ports: &Ports, who: &Principal, made: Made) -> Result<Batch, EngineError> {
    let Made { id, asked, tasks, longest } = made;
    let batch = Batch { id, owner: who.clone(), created_at: ports.clock.now(), asked, tasks };
    let kept = longest + ports.policy.retain + BATCH_GRACE;
    let value = Bytes::from(serde_json::to_vec(&batch).expect("ids and text are JSON"));
    let name = batch.id.to_string();
    let put = || ports.records.put(RecordKind::Batch, &name, value.clone(), Expect::Absent, Some(kept));
    match persist("put", put).await? {
        Written::Ok { .. } => Ok(batch),
        // The same call at the same time, or the first try of this one: the tasks are the same jobs.
        Written::Conflict { .. } => read(ports, &batch.id).await?.map_or(Ok(batch), |standing| same(standing, asked)),
    }
}

/// Tasks on their way to the store.
#[derive(Debug)]
struct Line {
    tasks: Vec<BatchTask>,
    /// Jobs that this call made and that only the batch tells of: those without an idempotency key, by which a repetition would find them.
    made: Vec<JobId>,
}

impl Line {
    /// Enqueues some, in one call.
    async fn take(&mut self, ports: &Ports, who: &Principal, some: &[(usize, NewJob)]) -> Result<(), EngineError> {
        let jobs: Vec<NewJob> = some.iter().map(|(_, new)| new.clone()).collect();
        let answers = persist("enqueue", || ports.jobs.enqueue(&jobs)).await?;
        let mut news = Vec::new();
        for (at, (n, new)) in some.iter().enumerate() {
            match accepted(new, answers.get(at)) {
                Ok((job, duplicate)) => {
                    self.tasks[*n] = BatchTask::Accepted(job);
                    self.made.extend((!duplicate && new.idempotency_key.is_none()).then_some(job));
                    let event = NewEvent { job, owner: who.clone(), kind: EventKind::Queued };
                    news.extend((!duplicate).then_some(event));
                }
                Err(error @ EngineError::Store(_)) => return Err(error),
                Err(error) => self.tasks[*n] = refused(&error),
            }
        }
        ports.tell_all(&news).await;
        Ok(())
    }
}

/// Enqueues what can be, some at a time, and answers task by task. When the store fails half-way, those that it was not given are refused; a
/// batch with a key fails as a whole, since the same call again goes on where this one ended.
async fn enqueue(
    ports: &Ports,
    servers: &Arc<Servers>,
    who: &Principal,
    tasks: Vec<Task>,
    keyed: bool,
) -> Result<Line, EngineError> {
    let mut outcomes = Vec::with_capacity(tasks.len());
    let mut all: Vec<(usize, NewJob)> = Vec::new();
    for (n, task) in tasks.into_iter().enumerate() {
        outcomes.push(match prepare(ports, servers, who, task).await {
            Ok(Prepared::Standing(standing)) => BatchTask::Accepted(standing.job.head.id),
            Ok(Prepared::New(new)) => {
                let accepted = BatchTask::Accepted(new.id);
                all.push((n, *new));
                accepted
            }
            Err(error @ (EngineError::Store(_) | EngineError::Stopping)) => return Err(error),
            Err(error) => refused(&error),
        });
    }
    let mut line = Line { tasks: outcomes, made: Vec::new() };
    let mut left = &all[..];
    while !left.is_empty() {
        let (some, later) = left.split_at(left.len().min(usize::from(LEASE_BATCH_MAX)));
        if let Err(error) = line.take(ports, who, some).await {
            // The call that failed may have been done.
            let unheard = some.iter().filter(|(_, new)| new.idempotency_key.is_none()).map(|(_, new)| new.id);
            Box::pin(withdraw(ports, who, &unheard.collect::<Vec<_>>())).await;
            if keyed || left.len() == all.len() {
                return Err(error);
            }
            tracing::warn!(%error, tasks = left.len(), "the rest of a batch is refused");
            for (n, _) in left {
                line.tasks[*n] = refused(&error);
            }
            break;
        }
        left = later;
    }
    Ok(line)
}

/// Cancels jobs that nobody was told of, as far as the store lets it.
async fn withdraw(ports: &Ports, who: &Principal, jobs: &[JobId]) {
    let mut news = Vec::new();
    for job in jobs {
        match persist("cancel", || ports.jobs.cancel(*job, WITHDRAWN)).await {
            Ok(Cancelled::Now) => {
                let kind = EventKind::Cancelled { reason: WITHDRAWN.to_owned() };
                news.push(NewEvent { job: *job, owner: who.clone(), kind });
            }
            Ok(Cancelled::Asked) => {
                ports.nudge.send_replace(());
            }
            Ok(Cancelled::Already(_) | Cancelled::Gone) => {}
            Err(error) => {
                tracing::error!(%job, jobs = jobs.len(), %error, "jobs of a batch that is not kept may run");
                break;
            }
        }
    }
    ports.tell_all(&news).await;
}

fn refused(error: &EngineError) -> BatchTask {
    let why = match error {
        EngineError::Store(error) if error.kind() != StoreErrorKind::Full => NOT_ASKED.to_owned(),
        told => told.to_string(),
    };
    // A control character would be six bytes as JSON.
    let mut why = why.replace(char::is_control, " ");
    why.truncate(why.floor_char_boundary(REFUSAL_BYTES_MAX));
    BatchTask::Refused(why)
}

/// What makes two batches the same.
fn asked(tasks: &[Task]) -> Result<Digest, EngineError> {
    let terms: Vec<_> = tasks.iter().map(|task| (&task.need, &task.labels, task.priority, &task.after)).collect();
    let text = serde_json::to_vec(&terms)
        .map_err(|error| InvalidTask::new("tasks", format!("cannot be written as JSON: {error}")))?;
    Ok(Digest::of(&text))
}

pub(super) fn same(standing: Batch, asked: Digest) -> Result<Batch, EngineError> {
    if standing.asked == asked {
        return Ok(standing);
    }
    Err(EngineError::BatchConflict { batch: standing.id })
}

pub(super) async fn get(ports: &Ports, who: &Principal, id: &BatchId) -> Result<Batch, EngineError> {
    let batch = read(ports, id).await?.filter(|batch| who.may_access(&batch.owner));
    batch.ok_or(EngineError::NotFound { what: "batch" })
}

pub(super) async fn read(ports: &Ports, id: &BatchId) -> Result<Option<Batch>, EngineError> {
    let Some(record) = ports.records.get(RecordKind::Batch, id.as_str()).await? else { return Ok(None) };
    let batch = serde_json::from_slice(&record.value).map_err(|error| {
        let message = format!("batch {id} cannot be read; it may be of a newer version");
        StoreError::new(StoreErrorKind::Corrupt, "record store", message).with_source(error)
    })?;
    Ok(Some(batch))
}

pub(super) async fn state(ports: &Ports, batch: &Batch) -> Result<BatchState, EngineError> {
    let mut look = Look::default();
    look.read(ports, batch.jobs().collect()).await?;
    Ok(look.state(batch))
}

pub(super) async fn wait(ports: &Ports, batch: &Batch, max_wait: Duration) -> Result<BatchState, EngineError> {
    let end = Instant::now() + max_wait;
    let mut cursor = ports.events.latest().await?;
    let mut look = Look::default();
    loop {
        look.read(ports, look.open(batch)).await?;
        let left = end.saturating_duration_since(Instant::now()).min(Duration::from_secs(LOOK_S_MAX));
        if look.has_ended(batch) || left.is_zero() {
            return Ok(look.state(batch));
        }
        let again = Instant::now() + left;
        // Those that are told to have ended are read at once, all that are open after a while.
        while let Some(left) = again.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            let page = ports.events.read(cursor, EVENT_PAGE_MAX, left).await?;
            cursor = page.next;
            let ends = |kind: &EventKind| {
                matches!(kind, EventKind::Completed { .. } | EventKind::Failed { .. } | EventKind::Cancelled { .. })
            };
            let news = page.events.iter().filter(|event| ends(&event.event.kind)).map(|event| event.event.job);
            look.read(ports, news.filter(|job| look.jobs.contains_key(job)).collect()).await?;
            if page.missed || look.has_ended(batch) {
                break;
            }
        }
    }
}

/// What is known of the jobs of a batch; `None` for one that is no longer kept.
#[derive(Debug, Default)]
struct Look {
    jobs: BTreeMap<JobId, Option<JobState>>,
}

impl Look {
    /// Reads how these jobs stand, some at a time.
    async fn read(&mut self, ports: &Ports, ids: BTreeSet<JobId>) -> Result<(), EngineError> {
        let mut ids = ids.into_iter();
        let mut reads = JoinSet::new();
        loop {
            while reads.len() < READS_AT_ONCE
                && let Some(id) = ids.next()
            {
                let jobs = Arc::clone(&ports.jobs);
                reads.spawn(async move { (id, jobs.get(id).await) });
            }
            let Some(read) = reads.join_next().await else { return Ok(()) };
            let gone =
                |error| StoreError::new(StoreErrorKind::Closed, "job store", format!("a read broke off: {error}"));
            let (id, job) = read.map_err(gone)?;
            self.jobs.insert(id, job?.map(|job| job.head.state));
        }
    }

    /// The jobs that may stand otherwise at the next look; a dead one can be redriven.
    fn open(&self, batch: &Batch) -> BTreeSet<JobId> {
        let settled = [None, Some(JobState::Done), Some(JobState::Cancelled)];
        batch.jobs().filter(|id| self.jobs.get(id).is_none_or(|state| !settled.contains(state))).collect()
    }

    /// Nothing of it is still to come.
    fn has_ended(&self, batch: &Batch) -> bool {
        batch.jobs().all(|id| self.jobs.get(&id).is_some_and(|state| state.is_none_or(JobState::is_final)))
    }

    fn state(&self, batch: &Batch) -> BatchState {
        let refused = batch.tasks.len() - batch.jobs().count();
        let (mut states, mut removed) = (BTreeMap::new(), 0);
        for id in batch.jobs() {
            match self.jobs.get(&id).copied().flatten() {
                Some(state) => *states.entry(state).or_insert(0) += 1,
                None => removed += 1,
            }
        }
        BatchState { id: batch.id.clone(), states, refused, removed, ended: self.has_ended(batch) }
    }
}
