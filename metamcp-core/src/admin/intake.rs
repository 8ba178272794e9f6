//! Takes jobs, results, records and pauses into a store, just as they stood in another one.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use bytes::Bytes;
use serde::Serialize;

use super::{AdminError, Findings, Place, Step, Tally, Watch};
use crate::{
    engine::RESULT_GRACE,
    error::StoreResult,
    id::{JobId, Lane},
    matching::history::keep::KEPT as HISTORY_KEPT,
    queue::{Job, LEASE_BATCH_MAX, Restored},
    record::{Expect, Record, RecordKind, Written},
    result::ResultMeta,
    time::Timestamp,
};

/// How much longer than the longest retention of any job a batch is kept. No store tells how long it had left, so it may stay longer than it
/// would have; its jobs do not.
pub const BATCH_SPARE: Duration = Duration::from_secs(7 * 24 * 3_600);
/// How long a call that may be served again is kept: the longest that the engine remembers any. Its own age still counts.
pub const CALL_KEPT: Duration = Duration::from_secs(24 * 3_600);
/// Bytes of inputs after which a batch of jobs is sent although it is not full.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// Most jobs that are held back because further jobs may name them.
const HELD_BACK_MAX: usize = 1_000;

/// A result on its way.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) media_type: String,
    pub(super) bytes: Bytes,
}

/// What was taken in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Moved {
    /// What stands there now and did not before; results are put anew each time.
    pub taken: Tally,
    /// Jobs and records that stood there already, just as they should.
    pub same: u64,
    /// Jobs that point to a result that did not come with them.
    pub without_result: u64,
    /// What could not be taken in, or stands there already and differs: it was left as it is.
    pub findings: Findings,
}

/// A job that more live jobs name, as it tells itself, than were read so far.
struct HeldBack {
    job: Job,
    users: u32,
}

/// The receiving side.
///
/// A store at work goes on while it is read, so what one job tells of others may not hold any more: how many live jobs name it, and whether it
/// is passed over for one that is held. Both are found out anew here, the first by counting, the second by the leases to come.
pub(super) struct Intake<'a> {
    to: Place<'a>,
    now: Timestamp,
    waiting: Vec<Job>,
    waiting_bytes: usize,
    /// How many live jobs that were read name each job that was not.
    users: HashMap<JobId, u32>,
    held_back: BTreeMap<JobId, HeldBack>,
    retain_longest: Duration,
    pub(super) moved: Moved,
}

impl<'a> Intake<'a> {
    /// Into `to`, where it is `now`.
    pub(super) fn new(to: Place<'a>, now: Timestamp) -> Self {
        Self {
            to,
            now,
            waiting: Vec::new(),
            waiting_bytes: 0,
            users: HashMap::new(),
            held_back: BTreeMap::new(),
            retain_longest: Duration::ZERO,
            moved: Moved::default(),
        }
    }

    /// Takes in a job, its result first, so that nobody sees the one without the other. It may wait here until [`jobs_end`](Self::jobs_end).
    /// The newest jobs come first: those that name another one before it.
    pub(super) async fn job(
        &mut self,
        mut job: Job,
        result: Option<Body>,
        watch: &mut Watch<'_>,
    ) -> Result<(), AdminError> {
        self.retain_longest = self.retain_longest.max(job.head.retain);
        match result {
            Some(body) => self.result(&job, body).await?,
            None if job.head.result.is_some() => self.moved.without_result += 1,
            None => {}
        }
        job.head.blocked = false;
        if !job.head.state.is_final() {
            self.count_users(&job.head.after, watch).await?;
        }
        let users = self.users.remove(&job.head.id).unwrap_or_default();
        if users >= job.head.users {
            return self.send(job, users, watch).await;
        }
        self.held_back.insert(job.head.id, HeldBack { job, users });
        if self.held_back.len() > HELD_BACK_MAX
            && let Some((_, HeldBack { job, .. })) = self.held_back.pop_last()
        {
            // Rather too many than too few: a job that is named must not be removed.
            let users = job.head.users;
            self.send(job, users, watch).await?;
        }
        Ok(())
    }

    /// A live job names these.
    async fn count_users(&mut self, named: &[JobId], watch: &mut Watch<'_>) -> Result<(), AdminError> {
        for id in named {
            let Some(held) = self.held_back.get_mut(id) else {
                *self.users.entry(*id).or_default() += 1;
                continue;
            };
            held.users += 1;
            if held.users == held.job.head.users
                && let Some(HeldBack { job, users }) = self.held_back.remove(id)
            {
                self.send(job, users, watch).await?;
            }
        }
        Ok(())
    }

    async fn send(&mut self, mut job: Job, users: u32, watch: &mut Watch<'_>) -> Result<(), AdminError> {
        job.head.users = users;
        self.waiting_bytes += job.body.input().get().len();
        self.waiting.push(job);
        if self.waiting.len() == usize::from(LEASE_BATCH_MAX) || self.waiting_bytes >= BATCH_BYTES_MAX {
            self.flush(watch).await?;
        }
        Ok(())
    }

    /// All jobs were read: none waits here any more.
    pub(super) async fn jobs_end(&mut self, watch: &mut Watch<'_>) -> Result<(), AdminError> {
        while let Some((_, HeldBack { job, users })) = self.held_back.pop_last() {
            self.send(job, users, watch).await?;
        }
        self.flush(watch).await?;
        for (id, users) in std::mem::take(&mut self.users) {
            if self.to.jobs.get(id).await?.is_none() {
                self.moved.findings.add(|| {
                    format!("job {id}: did not come, and {users} live jobs name it; cancel those that wait for it")
                });
            }
        }
        Ok(())
    }

    async fn result(&mut self, job: &Job, body: Body) -> Result<(), AdminError> {
        let Some(pointer) = &job.head.result else { return Ok(()) };
        let ended = job.head.finished_at.unwrap_or(job.head.updated_at);
        let kept_until = (ended + job.head.retain).max(self.now) + RESULT_GRACE;
        let meta =
            ResultMeta { tenant: pointer.tenant.clone(), media_type: body.media_type, expires_at: Some(kept_until) };
        let mut key = job.head.lease_key();
        key.job = pointer.job;
        let bytes = body.bytes.len() as u64;
        let put = self.to.results.put(key, body.bytes, meta).await;
        let put = put.map_err(|source| AdminError::Result { pointer: Box::new(pointer.clone()), source })?;
        self.moved.taken.results += 1;
        self.moved.taken.result_bytes += bytes;
        if put != *pointer {
            self.moved.findings.add(|| format!("job {}: its result came out as {put}, not as {pointer}", job.head.id));
        }
        Ok(())
    }

    /// Sends the jobs that wait.
    async fn flush(&mut self, watch: &mut Watch<'_>) -> Result<(), AdminError> {
        let jobs = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        if jobs.is_empty() {
            return Ok(());
        }
        let answers = self.to.jobs.restore(&jobs).await?;
        for (job, answer) in jobs.iter().zip(answers) {
            match answer {
                Restored::Ok => self.moved.taken.jobs += 1,
                Restored::Exists => self.standing(job).await?,
                Restored::KeyTaken { job: holder } => self.moved.findings.add(|| {
                    format!("job {}: its idempotency key belongs to job {holder} there; it was left out", job.head.id)
                }),
            }
        }
        watch(Step::Copy, &self.moved.taken);
        Ok(())
    }

    async fn standing(&mut self, job: &Job) -> StoreResult<()> {
        match self.to.jobs.get(job.head.id).await? {
            Some(standing) if standing == *job => self.moved.same += 1,
            _ => self
                .moved
                .findings
                .add(|| format!("job {}: stands there already and differs; it was left as it is", job.head.id)),
        }
        Ok(())
    }

    /// Takes in a record; after all jobs.
    pub(super) async fn record(&mut self, kind: RecordKind, record: Record) -> StoreResult<()> {
        let ttl = match kind {
            RecordKind::Schedule => None,
            RecordKind::Batch => Some(self.retain_longest + BATCH_SPARE),
            RecordKind::Call => Some(CALL_KEPT),
            RecordKind::History => Some(HISTORY_KEPT),
            // Never exported; in a file of somebody's making it is nothing to keep.
            RecordKind::Gateway | RecordKind::Catalog | RecordKind::Handover => return Ok(()),
        };
        let Record { name, value, .. } = record;
        match self.to.records.put(kind, &name, value.clone(), Expect::Absent, ttl).await? {
            Written::Ok { .. } => self.moved.taken.records += 1,
            Written::Conflict { .. } => match self.to.records.get(kind, &name).await? {
                Some(standing) if standing.value == value => self.moved.same += 1,
                _ => self.moved.findings.add(|| {
                    format!("{} record {name:?}: stands there already and differs; it was left as it is", kind.as_str())
                }),
            },
        }
        Ok(())
    }

    /// Takes in that a lane is paused.
    pub(super) async fn pause(&mut self, lane: &Lane) -> StoreResult<()> {
        self.to.jobs.pause(lane, true).await?;
        self.moved.taken.paused += 1;
        Ok(())
    }
}
