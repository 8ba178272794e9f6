//! What must be true of the disk that a cut leaves: what was acknowledged stands, nothing stands that was never asked for, and the store goes on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{Debug, Write as _},
    num::NonZeroU16,
    time::Duration,
};

use metamcp_core::{
    auth::Principal,
    event::{EventBus, EventKind, NewEvent},
    id::JobId,
    queue::{Enqueued, Fenced, Final, Finish, JobHead, JobQuery, JobState, JobStore},
    record::{RECORD_PAGE_MAX, RecordStore},
    time::Clock,
};
use metamcp_mcp_adapters::store::embedded::{EmbeddedEventBus, EmbeddedJobStore, EmbeddedRecordStore};

use crate::{
    calls::pointer_of,
    disk::Disk,
    random::Random,
    workload::{KIND, Known, KnownRecord, Record, open},
};

impl Record {
    /// Opens the disk as a cut left it and compares with what is known.
    pub(crate) async fn check(&self, cut: usize, disk: Disk, random: &mut Random) -> Result<(), String> {
        let store = open(disk, &self.clock).map_err(|e| format!("the store does not open: {e:?}"))?;
        store.jobs.verify().await.map_err(|e| format!("the journal is not whole: {e}"))?;
        let listed = store.jobs.list(&JobQuery::default()).await.map_err(|e| e.to_string())?;
        let found: BTreeMap<JobId, JobHead> = listed.jobs.into_iter().map(|job| (job.head.id, job.head)).collect();
        if let Some(id) = found.keys().find(|id| !self.jobs.contains_key(id)) {
            return Err(format!("job {id} was never enqueued"));
        }
        for (id, known) in &self.jobs {
            one_of(known, cut, found.get(id), same).map_err(|what| format!("job {id} {what}"))?;
        }
        self.check_records(cut, &store.records).await?;
        self.check_events(cut, &store.events).await?;
        self.check_calls(&store.jobs, &found, random).await?;
        // It can be gone on with.
        store.jobs.maintain(NonZeroU16::MAX).await.map_err(|e| format!("maintenance fails: {e}"))?;
        store.jobs.verify().await.map_err(|e| format!("the journal is not whole after maintenance: {e}"))
    }

    async fn check_records(&self, cut: usize, records: &EmbeddedRecordStore) -> Result<(), String> {
        let now = self.clock.now();
        let listed = records.list(KIND, None, RECORD_PAGE_MAX).await.map_err(|e| e.to_string())?;
        let found: BTreeMap<String, (u64, _)> =
            listed.into_iter().map(|record| (record.name, (record.version, record.value))).collect();
        let names: BTreeSet<&String> = found.keys().chain(self.records.keys()).collect();
        for name in names {
            let known = self.records.get(name).ok_or_else(|| format!("record {name} was never written"))?;
            let stands = |known: Option<&KnownRecord>, found: Option<&(u64, _)>| {
                let live = known.filter(|known| known.until.is_none_or(|until| until > now));
                live.map(|known| (known.version, known.value.clone())).as_ref() == found
            };
            one_of(known, cut, found.get(name), stands).map_err(|what| format!("record {name} {what}"))?;
        }
        Ok(())
    }

    async fn check_events(&self, cut: usize, events: &EmbeddedEventBus) -> Result<(), String> {
        let acked = self.events.iter().filter(|(_, acked, _)| *acked <= cut).count();
        let asked = self.events.iter().filter(|(asked, _, _)| *asked <= cut).count();
        let page = events.read(0, 500, Duration::ZERO).await.map_err(|e| e.to_string())?;
        let count = page.events.len();
        if count < acked || count > asked {
            return Err(format!("{count} events are there, {acked} were acknowledged of {asked}"));
        }
        for (n, event) in page.events.iter().enumerate() {
            if event.cursor != n as u64 + 1 || event.event != self.events[n].2 {
                return Err(format!("event {} is {event:?}, and should be {:?}", n + 1, self.events[n].2));
            }
        }
        let next = NewEvent { job: JobId::MIN, owner: Principal::local(), kind: EventKind::Queued };
        match events.publish(&[next]).await {
            Ok(cursor) if cursor == count as u64 + 1 => Ok(()),
            other => Err(format!("the event after {count} got {other:?}")),
        }
    }

    /// What repeated and stale calls are told after the cut.
    async fn check_calls(
        &self,
        jobs: &EmbeddedJobStore,
        found: &BTreeMap<JobId, JobHead>,
        random: &mut Random,
    ) -> Result<(), String> {
        let Some((id, head)) = found.iter().nth(random.below(found.len().max(1))) else { return Ok(()) };
        let again = jobs.enqueue(&[self.new_jobs[id].clone()]).await.map_err(|e| e.to_string())?;
        if again != [Enqueued::Duplicate { job: *id, state: head.state }] {
            return Err(format!("job {id} enqueued again is {again:?}"));
        }
        if head.idempotency_key.is_some() {
            let mut other = self.new_jobs[id].clone();
            other.id = JobId::MAX;
            let again = jobs.enqueue(&[other]).await.map_err(|e| e.to_string())?;
            if again != [Enqueued::Duplicate { job: *id, state: head.state }] {
                return Err(format!("the idempotency key of job {id} gave {again:?}"));
            }
        }
        if head.epoch == 0 {
            return Ok(());
        }
        // The last holder of a lease: its own end again is well, anything else is stale.
        let lease = head.lease_key();
        let end = Final::Done(pointer_of(lease));
        let ended_so = head.state == JobState::Done && head.cached_from.is_none();
        let expected = if ended_so { Fenced::OkAgain(JobState::Done) } else { Fenced::Stale };
        let answer = jobs.finish(&[Finish { lease, end }]).await.map_err(|e| e.to_string())?;
        if answer != [expected] {
            return Err(format!("the last holder of job {id} in {:?} is told {answer:?}", head.state));
        }
        Ok(())
    }
}

/// Whether a thing is found in one of the states that it may be in: the last one that was acknowledged, or one that was asked for after it.
fn one_of<T: Debug, F: Debug>(
    known: &[Known<T>],
    cut: usize,
    found: Option<&F>,
    same: impl Fn(Option<&T>, Option<&F>) -> bool,
) -> Result<(), String> {
    let first = known.iter().rposition(|known| known.acked <= cut).unwrap_or(0);
    let last = known.iter().rposition(|known| known.asked <= cut).unwrap_or(0).max(first);
    if known[first..=last].iter().any(|known| same(known.stood.as_ref(), found)) {
        return Ok(());
    }
    let mut text = format!("is {found:?}, and should be one of");
    known[first..=last].iter().for_each(|known| write!(text, "\n  {:?}", known.stood).unwrap());
    Err(text)
}

/// Whether a job that was known so is found so: a held lease is taken back when the store opens. When that ends the job, its parents have one
/// user less, and the next of its concurrency key goes on; that they fit each other is for the checker of the journal to say.
fn same(known: Option<&JobHead>, found: Option<&JobHead>) -> bool {
    let (Some(known), Some(found)) = (known, found) else { return known.is_none() && found.is_none() };
    if known.state != JobState::Leased {
        let mut found = JobHead { users: known.users, ..found.clone() };
        if known.blocked && !found.blocked {
            (found.blocked, found.updated_at) = (true, known.updated_at);
        }
        return *known == found;
    }
    let state = if known.cancel_reason.is_some() {
        JobState::Cancelled
    } else if known.lost + 1 >= known.lost_max {
        JobState::Dead
    } else {
        JobState::Ready
    };
    let fence = |head: &JobHead| (head.lease_key(), head.attempts, head.candidate, head.checkpoint.clone());
    found.state == state && found.lost == known.lost + 1 && found.after == known.after && fence(found) == fence(known)
}
