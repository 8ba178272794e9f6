//! A judge that knows the promise of the queue and nothing of how it is kept: it hears the calls and their answers, and looks at the jobs.
//!
//! It tracks the newest token of each job itself: rules about sets and counts alone do not see a missing fence.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    call::{Call, Reply},
    caller::Caller,
};
use crate::{
    id::{JobId, Lane, TenantId, WorkerId},
    pointer::ResultPointer,
    queue::{
        Answered, Beat, Cancelled, ConcurrencyKey, Enqueued, Fenced, Final, Finish, Heartbeat, JobHead, JobState,
        JobStore, LaneCounts, LeaseKey, LeaseRequest, Leased, Maintained, Nack, NackHow, NewJob, Redriven, moves,
    },
};

type Verdict = Result<(), String>;

fn rule(holds: bool, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(what()) }
}

/// What the oracle knows of one job.
#[derive(Debug)]
struct Known {
    lane: Lane,
    tenant: TenantId,
    after: Vec<JobId>,
    concurrency: Option<ConcurrencyKey>,
    attempts_max: u32,
    lost_max: u32,
    newest: Option<LeaseKey>,
    held: bool,
    until: Duration,
    cancel_asked: bool,
    fails: u32,
    lost: u32,
    ended: Option<JobState>,
    result: Option<ResultPointer>,
    last_end: Option<(LeaseKey, Final)>,
    last_nack: Option<(LeaseKey, NackHow)>,
}

impl Known {
    fn new(job: &NewJob, now: Duration) -> Self {
        Self {
            lane: job.lane.clone(),
            tenant: job.owner.tenant.clone(),
            after: job.after.clone(),
            concurrency: job.concurrency.clone(),
            attempts_max: job.attempts_max,
            lost_max: job.lost_max,
            newest: job.held_key(),
            held: job.held.is_some(),
            until: job.held.as_ref().map_or(Duration::ZERO, |held| now + held.visibility),
            cancel_asked: false,
            fails: 0,
            lost: 0,
            ended: None,
            result: None,
            last_end: None,
            last_nack: None,
        }
    }

    fn holds(&self, key: LeaseKey) -> bool {
        self.held && self.newest == Some(key)
    }

    fn end(&mut self, state: JobState) {
        self.held = false;
        self.cancel_asked = false;
        self.ended = Some(state);
    }
}

/// Judges what a job store answers.
#[derive(Debug, Default)]
pub struct Oracle {
    now: Duration,
    jobs: BTreeMap<JobId, Known>,
    paused: BTreeSet<Lane>,
    grants: BTreeMap<WorkerId, (u64, Vec<LeaseKey>)>,
}

impl Oracle {
    /// An oracle of an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Hears one call and its answer.
    ///
    /// # Errors
    /// The promise that is broken, in words.
    pub fn hear(&mut self, call: &Call, reply: &Reply) -> Verdict {
        match (call, reply) {
            (Call::Enqueue(jobs), Reply::Enqueued(answers)) => {
                jobs.iter().zip(answers).try_for_each(|(job, answer)| self.enqueued(job, answer))
            }
            (Call::Lease(want), Reply::Leased(batch)) => self.leased(want, &batch.jobs),
            (Call::Heartbeat(beats, extend), Reply::Beats(answers)) => {
                beats.iter().zip(answers).try_for_each(|(beat, answer)| self.beat(beat, *extend, answer))
            }
            (Call::Checkpoint(key, _), Reply::Fenced(answers)) => {
                answers.iter().try_for_each(|answer| self.fenced(*key, *answer, |_| false).map(|_| ()))
            }
            (Call::Finish(done), Reply::Fenced(answers)) => {
                done.iter().zip(answers).try_for_each(|(finish, answer)| self.finished(finish, *answer))
            }
            (Call::Nack(back), Reply::Fenced(answers)) => {
                back.iter().zip(answers).try_for_each(|(nack, answer)| self.nacked(nack, *answer))
            }
            (Call::Answer(id, _), Reply::Answered(answer)) => self.answered(*id, *answer),
            (Call::Redrive(id), Reply::Redriven(answer)) => self.redriven(*id, *answer),
            (Call::Cancel(id, _), Reply::Cancelled(answer)) => self.cancelled(*id, *answer),
            (Call::Maintain, Reply::Maintained(done)) => self.maintained(done),
            (Call::Pause(lane, true), Reply::Nothing) => {
                self.paused.insert(lane.clone());
                Ok(())
            }
            (Call::Pause(lane, false), Reply::Nothing) => {
                self.paused.remove(lane);
                Ok(())
            }
            (Call::Advance(by), Reply::Nothing) => {
                self.now += *by;
                Ok(())
            }
            _ => Err(format!("{reply:?} is no answer to {call:?}")),
        }
    }

    /// Looks at every job and at the counts.
    ///
    /// # Errors
    /// The promise that is broken, in words.
    pub async fn look(&self, store: &dyn JobStore) -> Verdict {
        let mut counts: BTreeMap<Lane, LaneCounts> = BTreeMap::new();
        for id in Caller::jobs() {
            let job = store.get(id).await.map_err(|error| format!("a read fails: {error}"))?;
            let Some(known) = self.jobs.get(&id) else {
                rule(job.is_none(), || format!("{id} stands and was never accepted, or was removed"))?;
                continue;
            };
            let head = job.ok_or_else(|| format!("{id} was accepted and is lost"))?.head;
            looks_right(known, &head).map_err(|what| format!("{what}: {head:?}, known: {known:?}"))?;
            let lane = counts.entry(head.lane.clone()).or_default();
            match head.state {
                JobState::Ready if head.blocked => lane.blocked += 1,
                JobState::Ready => lane.ready += 1,
                JobState::Waiting => lane.waiting += 1,
                JobState::Delayed => lane.delayed += 1,
                JobState::Leased => lane.leased += 1,
                JobState::Input => lane.input += 1,
                JobState::Dead => lane.dead += 1,
                JobState::Done | JobState::Cancelled => {}
            }
        }
        for lane in Caller::lanes() {
            let told = store.counts(&lane).await.map_err(|error| format!("a read fails: {error}"))?;
            let seen = counts.remove(&lane).unwrap_or_default();
            let seen = LaneCounts { paused: self.paused.contains(&lane), ..seen };
            let told = LaneCounts { oldest_ready_ms: 0, ..told };
            rule(told == seen, || format!("lane {lane}: {told:?} are told, {seen:?} are seen"))?;
        }
        Ok(())
    }

    fn enqueued(&mut self, job: &NewJob, answer: &Enqueued) -> Verdict {
        match answer {
            Enqueued::Ok { .. } => {
                let before = self.jobs.insert(job.id, Known::new(job, self.now));
                rule(before.is_none(), || format!("{} was accepted twice", job.id))
            }
            Enqueued::Duplicate { job, .. } | Enqueued::Conflict { job } => {
                rule(self.jobs.contains_key(job), || format!("{job} stands in the way and was never accepted"))
            }
            Enqueued::Full { .. } => Ok(()),
            Enqueued::Missing { job: parent } => {
                let stands = self.jobs.get(parent).is_some_and(|known| known.tenant == job.owner.tenant);
                rule(!stands && job.after.contains(parent), || format!("{parent} is told missing to {}", job.id))
            }
        }
    }

    fn leased(&mut self, want: &LeaseRequest, jobs: &[Leased]) -> Verdict {
        let before = self.grants.get(&want.worker).filter(|(request, _)| *request == want.request);
        let before = before.map(|(_, keys)| keys.clone());
        rule(jobs.len() <= usize::from(want.max), || format!("{} jobs for a wish of {}", jobs.len(), want.max))?;
        for leased in jobs {
            let (key, now) = (leased.key, self.now);
            let (undone, room) = (self.undone(key.job), self.has_room(key.job));
            let known = self.jobs.get_mut(&key.job).ok_or_else(|| format!("{} is unknown and handed out", key.job))?;
            if let Some(keys) = &before {
                rule(keys.contains(&key), || format!("a repeated wish got {key:?}, before it got {keys:?}"))?;
                rule(known.holds(key), || format!("a repeated wish got {key:?}, which is over"))?;
                continue;
            }
            rule(known.ended.is_none(), || format!("{} has ended and is handed out", key.job))?;
            rule(!(known.held && known.until > now), || format!("{} is held and handed out", key.job))?;
            let last = known.newest.map_or(0, |newest| newest.epoch);
            rule(key.epoch > last, || format!("epoch {} after {last} of {}", key.epoch, key.job))?;
            rule(!self.paused.contains(&known.lane), || format!("{} comes from a paused lane", key.job))?;
            rule(undone == 0, || format!("{} is handed out before a job it waits for is done", key.job))?;
            rule(room, || format!("{} is one too many of its concurrency key", key.job))?;
            known.newest = Some(key);
            known.held = true;
            known.until = now + want.visibility;
            known.last_end = None;
            known.last_nack = None;
            let lane = known.lane.clone();
            if let Some(max) = want.shares.leased_max.get(&lane) {
                let leased = self.jobs.values().filter(|known| known.held && known.lane == lane).count() as u64;
                rule(leased <= *max, || format!("{leased} jobs of lane {lane} are leased, {max} may be"))?;
            }
        }
        if before.is_none() && !jobs.is_empty() {
            let keys = jobs.iter().map(|leased| leased.key).collect();
            self.grants.insert(want.worker.clone(), (want.request, keys));
        }
        Ok(())
    }

    /// How many of the jobs that it waits for are not done.
    fn undone(&self, id: JobId) -> usize {
        let parents = self.jobs.get(&id).map(|known| known.after.as_slice()).unwrap_or_default();
        let done = |parent: &&JobId| self.jobs.get(parent).is_some_and(|known| known.ended == Some(JobState::Done));
        parents.iter().filter(|parent| !done(parent)).count()
    }

    /// Whether a job that it waits for ended without a result.
    fn ended_badly(&self, id: JobId) -> bool {
        let parents = self.jobs.get(&id).map(|known| known.after.as_slice()).unwrap_or_default();
        let bad = |parent: &JobId| self.jobs.get(parent).and_then(|known| known.ended) != Some(JobState::Done);
        parents.iter().any(bad)
    }

    /// Whether one more of its concurrency key may be held.
    fn has_room(&self, id: JobId) -> bool {
        let Some(limit) = self.jobs.get(&id).and_then(|known| known.concurrency.as_ref()) else { return true };
        let same = |known: &&Known| known.concurrency.as_ref().is_some_and(|other| other.key == limit.key);
        let held = self.jobs.values().filter(same).filter(|known| known.held).count();
        held < limit.max as usize
    }

    fn beat(&mut self, beat: &Heartbeat, extend: Duration, answer: &Beat) -> Verdict {
        let now = self.now;
        let known = self.jobs.get_mut(&beat.lease.job);
        let Some(known) = known.filter(|known| known.holds(beat.lease)) else {
            return rule(*answer == Beat::Lost, || format!("a stale heartbeat of {:?} is well", beat.lease));
        };
        known.until = now + extend;
        let asked = matches!(answer, Beat::CancelAsked { .. });
        rule(*answer != Beat::Lost, || format!("the live lease {:?} is told lost", beat.lease))?;
        rule(asked == known.cancel_asked, || format!("the holder of {:?} hears {answer:?}", beat.lease))
    }

    /// Judges the fence of one answer; gives the job and its state when the call was let through.
    fn fenced(
        &mut self,
        key: LeaseKey,
        answer: Fenced,
        again: impl FnOnce(&Known) -> bool,
    ) -> Result<Option<(&mut Known, JobState)>, String> {
        let Some(known) = self.jobs.get_mut(&key.job) else {
            return rule(answer == Fenced::Gone, || format!("{answer:?} for {key:?} of no job")).map(|()| None);
        };
        match answer {
            Fenced::Ok(state) => {
                rule(known.holds(key), || format!("the stale {key:?} is accepted, the newest is {:?}", known.newest))?;
                Ok(Some((known, state)))
            }
            Fenced::OkAgain(_) => {
                rule(again(known), || format!("{key:?} is told again what it never said")).map(|()| None)
            }
            Fenced::Stale => rule(!known.holds(key), || format!("the live {key:?} is refused")).map(|()| None),
            Fenced::Gone => Err(format!("{} was accepted and is gone", key.job)),
        }
    }

    fn finished(&mut self, finish: &Finish, answer: Fenced) -> Verdict {
        let said = (finish.lease, finish.end.clone());
        let Some((known, state)) = self.fenced(finish.lease, answer, |known| known.last_end.as_ref() == Some(&said))?
        else {
            return Ok(());
        };
        let wanted = match &finish.end {
            Final::Done(_) | Final::Cached { .. } => JobState::Done,
            Final::Dead(_) => JobState::Dead,
            Final::Cancelled { .. } => JobState::Cancelled,
        };
        rule(state == wanted, || format!("{:?} ends {state:?}", finish.end))?;
        rule(known.ended.is_none(), || format!("{} ends a second time", finish.lease.job))?;
        known.end(state);
        if let Final::Done(result) | Final::Cached { result, .. } = &finish.end {
            known.result = Some(result.clone());
        }
        known.last_end = Some(said);
        Ok(())
    }

    fn nacked(&mut self, nack: &Nack, answer: Fenced) -> Verdict {
        let kind = moves::nacked_as(&nack.how);
        let again = |known: &Known| {
            known.last_nack.as_ref().is_some_and(|(key, how)| *key == nack.lease && moves::nacked_as(how) == kind)
        };
        let Some((known, state)) = self.fenced(nack.lease, answer, again)? else { return Ok(()) };
        known.held = false;
        known.last_nack = Some((nack.lease, nack.how.clone()));
        let wished = known.cancel_asked;
        let failed = matches!(nack.how, NackHow::Fail { .. });
        let expected = if wished {
            state == JobState::Cancelled
        } else {
            known.fails += u32::from(failed);
            match nack.how {
                NackHow::Fail { .. } if known.fails >= known.attempts_max => state == JobState::Dead,
                NackHow::Park { .. } => state == JobState::Input,
                _ => matches!(state, JobState::Ready | JobState::Delayed),
            }
        };
        rule(expected, || format!("{:?} leads to {state:?}, a wish to cancel: {wished}", nack.how))?;
        if state.is_final() {
            known.end(state);
        }
        Ok(())
    }

    fn answered(&self, id: JobId, answer: Answered) -> Verdict {
        let ended = self.jobs.get(&id).map(|known| known.ended);
        match answer {
            Answered::Ok => rule(ended == Some(None), || format!("an answer is brought to {id}, which is {ended:?}")),
            Answered::NotWaiting(_) => rule(ended.is_some(), || format!("{id} is no job")),
            Answered::Gone => rule(ended.is_none(), || format!("{id} was accepted and is gone")),
        }
    }

    fn redriven(&mut self, id: JobId, answer: Redriven) -> Verdict {
        let known = self.jobs.get_mut(&id);
        match (known, answer) {
            (Some(known), Redriven::Ok) => {
                rule(known.ended == Some(JobState::Dead), || format!("{id} is redriven, it is {:?}", known.ended))?;
                known.ended = None;
                known.last_end = None;
                (known.fails, known.lost) = (0, 0);
                Ok(())
            }
            (Some(known), Redriven::NotDead(_)) => {
                rule(known.ended != Some(JobState::Dead), || format!("the dead {id} is not redriven"))
            }
            (Some(known), Redriven::Missing { job: parent }) => {
                let named = known.after.contains(&parent);
                rule(named && !self.jobs.contains_key(&parent), || format!("{parent} is told missing to {id}"))
            }
            (None, Redriven::Gone) => Ok(()),
            (_, answer) => Err(format!("redrive of {id}: {answer:?}")),
        }
    }

    fn cancelled(&mut self, id: JobId, answer: Cancelled) -> Verdict {
        let known = self.jobs.get_mut(&id);
        match (known, answer) {
            (Some(known), Cancelled::Now) => {
                rule(!known.held && known.ended.is_none(), || format!("{id} is cancelled: {known:?}"))?;
                known.end(JobState::Cancelled);
                Ok(())
            }
            (Some(known), Cancelled::Asked) => {
                known.cancel_asked = true;
                rule(known.held, || format!("nobody holds {id} and somebody is asked"))
            }
            (Some(known), Cancelled::Already(state)) => {
                rule(known.ended == Some(state), || format!("{id} is told {state:?}, it is {:?}", known.ended))
            }
            (None, Cancelled::Gone) => Ok(()),
            (_, answer) => Err(format!("cancel of {id}: {answer:?}")),
        }
    }

    fn maintained(&mut self, done: &Maintained) -> Verdict {
        let now = self.now;
        for (id, state) in &done.reclaimed {
            let known = self.jobs.get_mut(id).ok_or_else(|| format!("{id} is unknown and reclaimed"))?;
            rule(known.held && known.until <= now, || format!("the live lease of {id} is reclaimed"))?;
            known.held = false;
            known.lost += 1;
            let expected = match (known.cancel_asked, known.lost >= known.lost_max) {
                (true, _) => JobState::Cancelled,
                (false, true) => JobState::Dead,
                (false, false) if known.lost == 1 => JobState::Ready,
                (false, false) => JobState::Delayed,
            };
            rule(*state == expected, || format!("the lost {id} becomes {state:?}, should be {expected:?}"))?;
            if state.is_final() {
                known.end(*state);
            }
        }
        for id in &done.expired {
            let known = self.jobs.get_mut(id).ok_or_else(|| format!("{id} is unknown and expired"))?;
            rule(!known.held && known.ended.is_none(), || format!("{id} expires: {known:?}"))?;
            known.end(JobState::Dead);
        }
        for (id, state) in &done.settled {
            let failed = self.ended_badly(*id);
            let known = self.jobs.get_mut(id).ok_or_else(|| format!("{id} is unknown and settled"))?;
            rule(!known.held && known.ended.is_none(), || format!("{id} is settled: {known:?}"))?;
            rule(!state.is_final() || *state == JobState::Dead && failed, || format!("{id} is settled {state:?}"))?;
            if state.is_final() {
                known.end(*state);
            }
        }
        for (id, result) in &done.removed {
            let used = self.jobs.iter().find(|(_, other)| other.ended.is_none() && other.after.contains(id));
            rule(used.is_none(), || format!("{id} is removed, and {used:?} still takes its result"))?;
            let known = self.jobs.remove(id).ok_or_else(|| format!("{id} is unknown and removed"))?;
            rule(known.ended.is_some(), || format!("the live {id} is removed"))?;
            rule(known.result == *result, || format!("{id} is removed with {result:?}, not {:?}", known.result))?;
        }
        Ok(())
    }
}

/// Compares what is known of a job with its head.
fn looks_right(known: &Known, head: &JobHead) -> Verdict {
    let ended = head.state.is_final().then_some(head.state);
    rule(ended == known.ended, || format!("it is {:?}, known to have ended {:?}", head.state, known.ended))?;
    rule((head.state == JobState::Leased) == known.held, || "it is held, or not, against what is known".to_owned())?;
    rule(known.newest.is_none_or(|newest| newest == head.lease_key()), || "its token is not the newest".to_owned())?;
    rule(head.result == known.result, || "its result is not the accepted one".to_owned())?;
    rule((head.attempts, head.lost) == (known.fails, known.lost), || "failures or losses are miscounted".to_owned())?;
    rule(head.attempts <= head.attempts_max && head.lost <= head.lost_max, || "more attempts than allowed".to_owned())
}
