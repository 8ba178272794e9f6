//! The job store: each method is one call to the writer, or a read of the last commit. What a job's head may do is the state machine's to say.

use std::{num::NonZeroU16, ops::ControlFlow, sync::Arc, time::Duration};

use async_trait::async_trait;
use metamcp_core::{
    error::{StoreError, StoreResult},
    id::{JobId, Lane, TenantId},
    matching::Route,
    queue::{
        Admission, Answer, Answered, Beat, Cancelled, Checkpoint, Durability, Enqueued, Fenced, Final, Finish,
        Heartbeat, Job, JobBody, JobError, JobErrorCode, JobHead, JobPage, JobQuery, JobState, JobStore, LaneCounts,
        LeaseBatch, LeaseKey, LeaseRequest, Leased, Maintained, Nack, NewJob, Redriven, StoreHealth, bounds,
    },
    task::{Labels, Need, TaskRecord},
};

use super::{
    Engine, STORE, codec,
    journal::{Entries, View},
    keys::{self, Kind},
    state::State,
    verify,
};

/// Most heads that are looked at for one page of a list.
const LIST_SCAN_MAX: usize = 2_000;

/// The durable queue of one data directory.
#[derive(Debug)]
pub struct EmbeddedJobStore {
    engine: Arc<Engine>,
}

impl EmbeddedJobStore {
    pub(super) const fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut State) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        self.engine.writer.call(work).await
    }

    /// Ends leased jobs whose stored body is damaged: they could only be leased and lost again, and must not take others with them.
    async fn end_unreadable(&self, damaged: Vec<(LeaseKey, StoreError)>) -> StoreResult<()> {
        let ends = damaged.into_iter().map(|(lease, e)| {
            tracing::error!(job = %lease.job, error = %e, "a stored body cannot be read, its job ends dead");
            let error = JobError::new(JobErrorCode::Internal, format!("stored body cannot be read: {e}"));
            Finish { lease, end: Final::Dead(error) }
        });
        let ends: Vec<Finish> = ends.collect();
        self.call(move |state| {
            let now = state.now();
            for end in &ends {
                if let Fenced::Ok(ended) = state.core.finish(now, end) {
                    state.tell_later(end.lease.job, ended);
                }
            }
            Ok(())
        })
        .await
    }

    /// Reads every record and compares the indexes in memory with it: for tests and for an operator in doubt. Writes wait meanwhile.
    ///
    /// # Errors
    /// `Corrupt` with the first record that is damaged or does not fit the others.
    pub async fn verify(&self) -> StoreResult<()> {
        self.call(verify::verify).await
    }
}

#[async_trait]
impl JobStore for EmbeddedJobStore {
    async fn enqueue(&self, jobs: &[NewJob]) -> StoreResult<Vec<Enqueued>> {
        bounds::check_new(STORE, jobs)?;
        let jobs = jobs.iter().map(|job| {
            let key = keys::job_key(Kind::Body, job.id);
            let record = codec::encode_json(&key, job.body.as_ref())?;
            Ok((job.clone(), key, record))
        });
        let jobs = jobs.collect::<StoreResult<Vec<_>>>()?;
        self.call(move |state| {
            let now = state.now();
            jobs.into_iter()
                .map(|(job, key, body)| {
                    let word =
                        job.idempotency_key.as_deref().map(|word| keys::idempotency_key(&job.owner.tenant, word));
                    state.page_in(job.id)?;
                    if let Some(word) = &word
                        && let Some(record) = state.get(word)?
                    {
                        state.page_in(codec::decode_job_id(word, &record)?)?;
                    }
                    let admission = state.core.enqueue(now, &job);
                    if admission == Admission::Accepted {
                        if let Some(word) = word {
                            let record = codec::encode_job_id(&word, job.id)?;
                            state.put(word, record);
                        }
                        state.put(key, body);
                    }
                    Ok(admission.kept(Durability::LocalFsync))
                })
                .collect()
        })
        .await
    }

    async fn lease(&self, want: &LeaseRequest) -> StoreResult<LeaseBatch> {
        bounds::check_lease(STORE, want)?;
        let want = want.clone();
        let (heads, next_due) = self
            .call(move |state| {
                let granted = state.core.lease(state.now(), &want);
                let heads: Vec<JobHead> = granted.jobs.iter().filter_map(|id| state.core.head(*id)).cloned().collect();
                Ok((heads, granted.next_due))
            })
            .await?;
        if heads.is_empty() {
            return Ok(LeaseBatch { jobs: Vec::new(), next_due });
        }
        let mut jobs = Vec::with_capacity(heads.len());
        let mut unreadable = Vec::new();
        {
            let view = self.engine.journal.view()?;
            for head in heads {
                let (id, lease) = (head.id, head.lease_key());
                let key = keys::job_key(Kind::Body, id);
                // A job that is gone by now has ended without this lease.
                let Some(record) = view.get(&key)? else { continue };
                match codec::decode_body(&key, &record) {
                    Ok(body) => jobs.push(Leased { key: lease, job: Job { head, body: Arc::new(body) } }),
                    Err(e) => unreadable.push((lease, e)),
                }
            }
        }
        if !unreadable.is_empty() {
            self.end_unreadable(unreadable).await?;
        }
        Ok(LeaseBatch { jobs, next_due })
    }

    async fn heartbeat(&self, beats: &[Heartbeat], extend: Duration) -> StoreResult<Vec<Beat>> {
        bounds::check_batch(STORE, beats.len())?;
        let beats = beats.to_vec();
        self.call(move |state| {
            let now = state.now();
            Ok(beats
                .iter()
                .map(|beat| {
                    let answer = state.core.heartbeat(now, beat, extend);
                    if answer != Beat::Lost {
                        state.beat(beat.lease.job);
                    }
                    answer
                })
                .collect())
        })
        .await
    }

    async fn checkpoint(&self, lease: LeaseKey, at: Checkpoint) -> StoreResult<Fenced> {
        bounds::check_checkpoint(STORE, &at)?;
        self.call(move |state| {
            state.page_in(lease.job)?;
            Ok(state.core.checkpoint(state.now(), lease, at))
        })
        .await
    }

    async fn finish(&self, done: &[Finish]) -> StoreResult<Vec<Fenced>> {
        bounds::check_batch(STORE, done.len())?;
        let done = done.to_vec();
        self.call(move |state| {
            let now = state.now();
            done.iter().try_for_each(|finish| state.page_in(finish.lease.job))?;
            Ok(done.iter().map(|finish| state.core.finish(now, finish)).collect())
        })
        .await
    }

    async fn nack(&self, back: &[Nack]) -> StoreResult<Vec<Fenced>> {
        bounds::check_nacks(STORE, back)?;
        let back = back.to_vec();
        self.call(move |state| {
            let now = state.now();
            back.iter().try_for_each(|nack| state.page_in(nack.lease.job))?;
            Ok(back.iter().map(|nack| state.core.nack(now, nack)).collect())
        })
        .await
    }

    async fn answer(&self, job: JobId, answer: Answer) -> StoreResult<Answered> {
        self.call(move |state| {
            state.page_in(job)?;
            Ok(state.core.answer(state.now(), job, &answer))
        })
        .await
    }

    async fn redrive(&self, job: JobId) -> StoreResult<Redriven> {
        self.call(move |state| {
            state.page_in(job)?;
            Ok(state.core.redrive(state.now(), job))
        })
        .await
    }

    async fn cancel(&self, job: JobId, reason: &str) -> StoreResult<Cancelled> {
        let reason = reason.to_owned();
        self.call(move |state| {
            state.page_in(job)?;
            Ok(state.core.cancel(state.now(), job, &reason))
        })
        .await
    }

    async fn get(&self, job: JobId) -> StoreResult<Option<Job>> {
        let shared = self.engine.writer.shared();
        shared.check_open()?;
        // First what is in memory: a head that leaves it meanwhile is then in the view.
        let beaten = shared.beaten(job);
        let view = self.engine.journal.view()?;
        let head = match beaten {
            Some(head) => Some(head),
            None => stored_head(&view, job)?,
        };
        head.map_or(Ok(None), |head| with_body(&view, head))
    }

    async fn keyed(&self, tenant: &TenantId, key: &str) -> StoreResult<Option<JobId>> {
        self.engine.writer.shared().check_open()?;
        let word = keys::idempotency_key(tenant, key);
        let record = self.engine.journal.view()?.get(&word)?;
        record.map(|record| codec::decode_job_id(&word, &record)).transpose()
    }

    async fn list(&self, query: &JobQuery) -> StoreResult<JobPage> {
        self.engine.writer.shared().check_open()?;
        let query = query.clone();
        self.engine.blocking(move |engine| page(engine, &query)).await
    }

    async fn counts(&self, lane: &Lane) -> StoreResult<LaneCounts> {
        let lane = lane.clone();
        self.call(move |state| Ok(state.core.counts(&lane, state.now()))).await
    }

    async fn pause(&self, lane: &Lane, paused: bool) -> StoreResult<()> {
        let lane = lane.clone();
        self.call(move |state| {
            state.core.pause(&lane, paused);
            Ok(())
        })
        .await
    }

    async fn maintain(&self, budget: NonZeroU16) -> StoreResult<Maintained> {
        self.call(move |state| {
            let now = state.now();
            let told = u16::try_from(state.untold()).unwrap_or(u16::MAX).min(budget.get());
            let left = budget.get() - told;
            let live = state.core.due_moves(now, usize::from(left));
            page_in_expired(state, usize::from(left) - live)?;
            let mut done = state.core.maintain(now, left);
            done.reclaimed.splice(0..0, state.take_untold(usize::from(told)));
            Ok(done)
        })
        .await
    }

    async fn wait_ready(&self, lanes: &[Lane], max_wait: Duration) {
        let shared = self.engine.writer.shared();
        let ready = async {
            loop {
                // Made before the question is asked: what becomes ready in between is not missed.
                let woken = shared.ready.notified();
                let asked = lanes.to_vec();
                match self.call(move |state| Ok(state.core.next_due(&asked, state.now()))).await {
                    Ok(Some(Duration::ZERO)) => return,
                    Ok(Some(due)) => match tokio::time::timeout(due, woken).await {
                        Ok(()) => {}
                        Err(_) => return,
                    },
                    Ok(None) => woken.await,
                    // A store that has failed must not make its callers spin.
                    Err(_) => std::future::pending().await,
                }
            }
        };
        let _ended_by_time = tokio::time::timeout(max_wait, ready).await;
    }

    async fn health(&self) -> StoreResult<StoreHealth> {
        self.engine.writer.shared().check_open()?;
        let detail = format!("journal in {}, synced before each answer", self.engine.place);
        Ok(StoreHealth { durability: Durability::LocalFsync, detail })
    }
}

/// Brings the ended jobs back that are past their retention, the longest first: the state machine then removes them in its own order.
fn page_in_expired(state: &mut State, max: usize) -> StoreResult<()> {
    if max == 0 {
        return Ok(());
    }
    let range = Kind::JobExpiry.first()..keys::expiry_end(Kind::JobExpiry, state.now());
    let mut due = Vec::new();
    state.view()?.scan(&range, |key, record| {
        codec::decode_mark(key, record)?;
        due.push(key.to_vec());
        Ok(if due.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    // A call before in the same commit may have removed some.
    due.retain(|key| !state.removes(key));
    due.iter().try_for_each(|key| state.page_in(keys::job_of(key)?))
}

fn stored_head(view: &View, id: JobId) -> StoreResult<Option<JobHead>> {
    for kind in [Kind::Live, Kind::Final] {
        let key = keys::job_key(kind, id);
        if let Some(record) = view.get(&key)? {
            return codec::decode_head(&key, &record).map(Some);
        }
    }
    Ok(None)
}

/// The job of a head; `None` when it was removed meanwhile.
fn with_body(view: &View, head: JobHead) -> StoreResult<Option<Job>> {
    let key = keys::job_key(Kind::Body, head.id);
    let Some(record) = view.get(&key)? else { return Ok(None) };
    let body = codec::decode_body(&key, &record).unwrap_or_else(|error| {
        tracing::error!(job = %head.id, %error, "stored body cannot be read");
        damaged(&error)
    });
    Ok(Some(Job { head, body: Arc::new(body) }))
}

/// Stands for a body that cannot be read, so that its owner still sees the job, how it ended, and every other job of a list.
fn damaged(error: &StoreError) -> JobBody {
    let task =
        TaskRecord { need: Need::new(format!("(the stored request cannot be read: {error})")), labels: Labels::new() };
    JobBody { task, route: Route::default() }
}

/// One page: live and final heads merged by id, the newest first.
fn page(engine: &Engine, query: &JobQuery) -> StoreResult<JobPage> {
    let view = engine.journal.view()?;
    let end = |kind: Kind| query.before.map_or_else(|| kind.end(), |before| keys::job_key(kind, before));
    let ended = |state: &JobState| matches!(state, JobState::Done | JobState::Cancelled);
    let mut sides = Vec::new();
    for (kind, wanted) in [
        (Kind::Live, query.states.is_empty() || !query.states.iter().all(ended)),
        (Kind::Final, query.states.is_empty() || query.states.iter().any(ended)),
    ] {
        if wanted {
            sides.push(view.backwards(&(kind.first()..end(kind)))?.peekable());
        }
    }
    let mut by_head = query.clone();
    by_head.label = None;
    let no_body = Arc::new(empty_body());
    let mut page = JobPage::default();
    for _ in 0..LIST_SCAN_MAX {
        let Some((key, record)) = newest(&mut sides)? else {
            page.next = None;
            return Ok(page);
        };
        if page.jobs.len() == query.page_size() {
            return Ok(page);
        }
        let mut head = codec::decode_head(&key, &record)?;
        page.next = Some(head.id);
        if head.state == JobState::Leased {
            head = engine.writer.shared().beaten(head.id).unwrap_or(head);
        }
        let job = Job { head, body: Arc::clone(&no_body) };
        if by_head.matches(&job)
            && let Some(job) = with_body(&view, job.head)?
            && query.matches(&job)
        {
            page.jobs.push(job);
        }
    }
    Ok(page)
}

/// The body that stands in while only the head is asked about.
fn empty_body() -> JobBody {
    use metamcp_core::{
        matching::Route,
        task::{Labels, Need, TaskRecord},
    };
    JobBody { task: TaskRecord { need: Need::default(), labels: Labels::new() }, route: Route::default() }
}

/// Takes the entry with the largest id.
fn newest(sides: &mut [std::iter::Peekable<Entries<'_>>]) -> StoreResult<Option<(Vec<u8>, Vec<u8>)>> {
    let mut best: Option<(usize, JobId)> = None;
    for (n, side) in sides.iter_mut().enumerate() {
        match side.peek() {
            Some(Ok((key, _))) => {
                let id = keys::job_of(key)?;
                if best.is_none_or(|(_, other)| id > other) {
                    best = Some((n, id));
                }
            }
            Some(Err(_)) => return side.next().transpose(),
            None => {}
        }
    }
    best.and_then(|(n, _)| sides[n].next()).transpose()
}

#[cfg(test)]
mod tests {
    use metamcp_core::{
        id::WorkerId,
        testing::{ManualClock, job_store::new_job},
    };

    use super::*;
    use crate::store::embedded::{
        EmbeddedOptions, EmbeddedStore,
        journal::{Batch, Journal},
    };

    #[tokio::test]
    async fn a_damaged_body_costs_its_own_job_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let open = || EmbeddedStore::open(dir.path(), ManualClock::new(), &EmbeddedOptions::default()).unwrap();
        let new: Vec<NewJob> = (0..3).map(|_| new_job()).collect();
        open().jobs().enqueue(&new).await.unwrap();
        let damaged = keys::job_key(Kind::Body, new[1].id);
        Journal::open(dir.path()).unwrap().commit(&Batch::from([(damaged, Some(vec![1; 40]))])).unwrap();

        let store = open();
        let jobs = store.jobs();
        let want = LeaseRequest {
            lanes: vec![Lane::light()],
            max: 3,
            visibility: Duration::from_secs(30),
            worker: WorkerId::new("w").unwrap(),
            request: 1,
            nonce: 1,
        };
        for _ in 0..2 {
            let leased = jobs.lease(&want).await.unwrap().jobs;
            let ids: Vec<JobId> = leased.iter().map(|leased| leased.key.job).collect();
            assert_eq!(ids, [new[0].id, new[2].id]);
        }
        let counts = jobs.counts(&Lane::light()).await.unwrap();
        assert_eq!((counts.leased, counts.dead), (2, 1));
        let told = jobs.maintain(NonZeroU16::MAX).await.unwrap().reclaimed;
        assert_eq!(told, [(new[1].id, JobState::Dead)], "its end is told");
        let job = jobs.get(new[1].id).await.unwrap().unwrap();
        assert!(job.body.task.need.text.contains("cannot be read"), "its owner reads it: {job:?}");
        assert_eq!(jobs.list(&JobQuery::default()).await.unwrap().jobs.len(), 3, "and every other job of a list");
        let error = job.head.error.unwrap();
        assert_eq!(error.code, JobErrorCode::Internal);
        assert!(error.message.starts_with("stored body cannot be read"), "{error:?}");
    }
}
