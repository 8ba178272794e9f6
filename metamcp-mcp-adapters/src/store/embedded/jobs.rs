//! The job store: each method is one call to the writer, or a read of the last commit. What a job's head may do is the state machine's to say.

use std::{num::NonZeroU16, sync::Arc, time::Duration};

use async_trait::async_trait;
use metamcp_core::{
    error::{StoreError, StoreResult},
    id::{JobId, Lane, TenantId},
    queue::{
        Admission, Answer, Answered, Beat, Cancelled, Checkpoint, Durability, Enqueued, Fenced, Final, Finish,
        Heartbeat, Job, JobError, JobErrorCode, JobHead, JobPage, JobQuery, JobStore, LaneCounts, LeaseBatch, LeaseKey,
        LeaseRequest, Leased, Maintained, Nack, NewJob, Redriven, Restored, StoreHealth, bounds,
    },
};

use super::{
    Engine, STORE, codec,
    keys::{self, Kind},
    list, records,
    state::State,
    verify,
};

/// Expired records that one round of maintenance removes.
const RECORDS_SWEPT_MAX: u16 = 64;

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
            let body = codec::encode_json(&keys::job_key(Kind::Body, job.id), job.body.as_ref())?;
            Ok((job.clone(), body))
        });
        let jobs = jobs.collect::<StoreResult<Vec<_>>>()?;
        self.call(move |state| jobs.into_iter().map(|(job, body)| accept(state, &job, body)).collect()).await
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
            let after = state.core.head(job).map(|head| head.after.clone()).unwrap_or_default();
            state.page_in_all(&after)?;
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
            None => list::stored_head(&view, job)?,
        };
        head.map_or(Ok(None), |head| list::with_body(&view, head))
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
        self.engine.blocking(move |engine| list::page(engine, &query)).await
    }

    async fn counts(&self, lane: &Lane) -> StoreResult<LaneCounts> {
        let lane = lane.clone();
        self.call(move |state| Ok(state.core.counts(&lane, state.now()))).await
    }

    async fn lanes(&self) -> StoreResult<Vec<Lane>> {
        self.call(|state| Ok(state.core.lanes())).await
    }

    async fn restore(&self, jobs: &[Job]) -> StoreResult<Vec<Restored>> {
        bounds::check_batch(STORE, jobs.len())?;
        let jobs = jobs.iter().map(|job| {
            let body = codec::encode_json(&keys::job_key(Kind::Body, job.head.id), job.body.as_ref())?;
            Ok((job.head.clone(), body))
        });
        let jobs = jobs.collect::<StoreResult<Vec<_>>>()?;
        self.call(move |state| jobs.into_iter().map(|(head, body)| take_in(state, head, body)).collect()).await
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
            records::sweep(state, RECORDS_SWEPT_MAX)?;
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

/// Accepts a new job, or says why not.
fn accept(state: &mut State, job: &NewJob, body: Vec<u8>) -> StoreResult<Enqueued> {
    let word = job.idempotency_key.as_deref().map(|word| keys::idempotency_key(&job.owner.tenant, word));
    state.page_in_around(job.id, word.as_deref(), &job.after)?;
    let admission = state.core.enqueue(state.now(), job);
    if matches!(admission, Admission::Accepted { .. }) {
        state.put_job(job.id, word, body)?;
    }
    Ok(admission.kept(Durability::LocalFsync))
}

/// Takes in a job as another store held it, or says why not.
fn take_in(state: &mut State, head: JobHead, body: Vec<u8>) -> StoreResult<Restored> {
    let id = head.id;
    let word = head.idempotency_key.as_deref().map(|word| keys::idempotency_key(&head.owner.tenant, word));
    state.page_in_around(id, word.as_deref(), &head.after)?;
    let restored = state.core.restore(head);
    if restored == Restored::Ok {
        state.put_job(id, word, body)?;
    }
    Ok(restored)
}

/// Brings the ended jobs back that are past their retention, the longest first: the state machine then removes them in its own order.
fn page_in_expired(state: &mut State, max: usize) -> StoreResult<()> {
    let now = state.now();
    let due = state.expired(Kind::JobExpiry, now, max)?;
    due.iter().try_for_each(|key| state.page_in(keys::job_of(key)?))
}

#[cfg(test)]
mod tests {
    use metamcp_core::{
        id::WorkerId,
        queue::JobState,
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
            shares: Arc::default(),
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
