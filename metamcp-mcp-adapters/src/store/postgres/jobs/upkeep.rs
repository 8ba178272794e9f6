//! What time does to jobs: promotion, lost leases, deadlines, retention; and what comes of parents that ended. Any number of processes may do
//! it at once: each takes what no other one has.
//!
//! A call goes in rounds, each a transaction of its own and each of one kind, in the order of `metamcp_core::queue::Core`: first the jobs
//! whose parents have ended, then timers, the longest due first, then removals.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU16,
};

use metamcp_core::{
    error::StoreResult,
    id::{JobId, Lane},
    queue::{JobErrorCode, JobHead, JobState, Maintained, moves},
    time::Timestamp,
};
use tokio::try_join;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    super::{
        Engine,
        tx::{Act, Fault, Tx},
    },
    codec::{self, WAKE_DEADLINE, WAKE_DUE, WAKE_INPUT, WAKE_LEASE, head_columns, job_id, wake},
    columns::uuids,
    heads::Heads,
    hold::{NOW, bigint, instant, load_reach, take_in},
    save::{Counts, Woken, save},
};

/// Most moves of one round.
const ROUND_MOVES_MAX: usize = 200;
/// Most moves of one call, whatever its budget.
const CALL_MOVES_MAX: usize = 1_000;
/// How long the last wish of a worker is remembered, in milliseconds: a day, far longer than anybody asks again.
const REQUEST_KEPT_MS: i64 = 86_400_000;
/// Most rows of a kind that one round forgets because they say nothing any more.
const FORGET_MAX: i64 = 200;

const UNSETTLED: &str = concat!(
    "select ",
    head_columns!(),
    " from job j where j.unsettled order by j.id limit $1 for no key update skip locked"
);
const WAITING: &str = "
select p.id, a.child from unnest($1::uuid[]) p(id)
cross join lateral (select child from job_after where parent = p.id order by child limit $2) a";
const TIMERS: &str = concat!(
    "select ",
    head_columns!(),
    " from job j
where j.wake_at is not null and j.state < 6 and j.wake_at <= current_setting('metamcp.now')::bigint
order by j.wake_at, j.wake, j.id limit $1 for no key update skip locked"
);
/// These jobs and the jobs they wait for or take results from, as far as nobody else has them.
const FAMILY: &str = concat!(
    "select ",
    head_columns!(),
    " from job j
where j.id in (select unnest($1::uuid[]) union select unnest(c.after) from job c where c.id = any($1))
order by j.id for no key update skip locked"
);
const STANDING: &str = "select id from job where id = any($1)";
const TRY_LOCK: &str = "
select j.id from job j where j.id = any($1) and j.concurrency_lock is not null and not pg_try_advisory_xact_lock(j.concurrency_lock)";
const REMOVE: &str = "
with due as materialized (
    select id from job
    where wake_at is not null and state >= 6 and wake_at <= current_setting('metamcp.now')::bigint
    order by wake_at, id limit $1 for update skip locked
), gone as (
    delete from job j using due where j.id = due.id returning j.id, j.lane, j.state, j.result, j.wake_at
), bodies as (
    delete from job_body b using gone where b.id = gone.id
)
select id, lane, state, result from gone order by wake_at, id";
const FORGET_RATES: &str = "
delete from rate r using (
    select key from rate where taken_until <= current_setting('metamcp.now')::bigint limit $1 for update skip locked
) old where r.key = old.key";
const FORGET_REQUESTS: &str = "
delete from lease_request r using (
    select worker from lease_request where at <= current_setting('metamcp.now')::bigint - $2::bigint limit $1 for update skip locked
) old where r.worker = old.worker";

/// One round.
struct Round<'a> {
    engine: &'a Engine,
    budget: usize,
}

/// What a round did.
struct Did {
    done: Maintained,
    woken: Woken,
    /// There may be more to do.
    more: bool,
}

impl Act for Round<'_> {
    type Output = Did;

    async fn act(&mut self, tx: &mut Tx<'_>) -> Result<Did, Fault> {
        let [now, unsettled, timers] = tx.statements([NOW, UNSETTLED, TIMERS]).await?;
        let (given, max) = (self.engine.time.now(), bigint(self.budget));
        tx.opens();
        let ((), now, unsettled, timers) = try_join!(
            biased;
            tx.begin(),
            tx.query(&now, [&given]),
            tx.query(&unsettled, [&max]),
            tx.query(&timers, [&max]),
        )?;
        let mut heads = Heads::new(instant(&now)?);
        let mut done = Maintained::default();
        let mut forgot = false;
        if !unsettled.is_empty() {
            take_in(&mut heads, &unsettled)?;
            forgot = self.settle(tx, &mut heads, &mut done).await?;
        }
        if done.settled.is_empty() && !timers.is_empty() {
            self.run_timers(tx, &mut heads, &timers, &mut done).await?;
        }
        if done == Maintained::default() && timers.is_empty() {
            return self.remove(tx, &heads).await;
        }
        let woken = save(tx, &heads, Counts::default(), self.engine.schema()).await?;
        Ok(Did { more: forgot || done.moves() > 0, done, woken })
    }
}

impl Round<'_> {
    /// Moves jobs that wait for the held ones, which have ended. Answers whether some of these are done with.
    async fn settle(&self, tx: &mut Tx<'_>, heads: &mut Heads, done: &mut Maintained) -> Result<bool, Fault> {
        let parents: Vec<JobId> = heads.iter().map(|held| held.now.head.id).collect();
        let [waiting] = tx.statements([WAITING]).await?;
        let (ids, max) = (uuids(&parents), bigint(self.budget + 1));
        let rows = tx.query(&waiting, [&ids, &max]).await?;
        let mut children = BTreeMap::<JobId, Vec<JobId>>::new();
        for row in &rows {
            children.entry(job_id(row.try_get(0)?)).or_default().push(job_id(row.try_get(1)?));
        }
        children.values_mut().for_each(|children| children.sort_unstable());
        let wanted: Vec<JobId> = children.values().flatten().copied().collect();
        let free = free(tx, heads, &wanted).await?;
        let mut reach = heads.reach();
        reach.keys.clear();
        reach.parents.clear();
        load_reach(tx, heads, &reach, self.engine.schema()).await?;
        let mut forgot = false;
        for parent in parents {
            let came = heads.get(parent).map(|head| head.state).filter(|state| state.is_final());
            let mut left = false;
            for child in children.remove(&parent).unwrap_or_default() {
                let waits = heads.get(child).is_none_or(|head| head.waits_on.contains(&parent));
                let Some(came) = came.filter(|_| waits) else { continue };
                if done.settled.len() >= self.budget || !free.contains(&child) {
                    left = true;
                } else if let Some(state) = heads.settle(child, parent, came) {
                    done.settled.push((child, state));
                }
            }
            if !left {
                heads.forget_unsettled(parent);
                forgot = true;
            }
        }
        Ok(forgot)
    }

    /// Does what is due, in order, until something ends that others wait for: those come first.
    async fn run_timers(
        &self,
        tx: &mut Tx<'_>,
        heads: &mut Heads,
        rows: &[Row],
        done: &mut Maintained,
    ) -> Result<(), Fault> {
        let picked = rows.iter().map(|row| Ok(job_id(row.try_get(0)?))).collect::<Result<Vec<JobId>, Fault>>()?;
        take_in(heads, rows)?;
        let mut free = free(tx, heads, &picked).await?;
        let [try_lock] = tx.statements([TRY_LOCK]).await?;
        let limited = picked.iter().any(|id| heads.get(*id).is_some_and(|head| head.concurrency.is_some()));
        let ids = uuids(&picked);
        for row in &tx.query_if(limited, &try_lock, [&ids]).await? {
            free.remove(&job_id(row.try_get(0)?));
        }
        let mut reach = heads.reach();
        reach.parents.clear();
        reach.keys.retain(|key, _| {
            let limits = |id: &JobId| {
                heads.get(*id).and_then(|head| head.concurrency.as_ref()).is_some_and(|limit| limit.key == *key)
            };
            free.iter().any(limits)
        });
        let now = heads.now();
        // Who becomes ready on the way may leave its lane, and let others of its key go on, again at once.
        let late = |head: &&JobHead| head.deadline_at.is_some_and(|at| at <= now);
        for head in picked.iter().filter_map(|id| heads.get(*id)).filter(late) {
            *reach.lanes.entry(head.lane.clone()).or_default() += 1;
            if let Some(limit) = &head.concurrency {
                reach.keys.entry(limit.key.clone()).and_modify(|often| *often += 1);
            }
        }
        load_reach(tx, heads, &reach, self.engine.schema()).await?;

        let due = |heads: &Heads, id: JobId| {
            heads.get(id).filter(|head| !head.state.is_final()).and_then(wake).map(|(kind, at)| (at, kind, id))
        };
        let mut timers: BTreeSet<(Timestamp, i16, JobId)> =
            picked.iter().filter(|id| free.contains(id)).filter_map(|id| due(heads, *id)).collect();
        // Behind the last one that was picked there may be others.
        let horizon = timers.last().copied().filter(|_| picked.len() >= self.budget);
        while let Some((at, kind, id)) = timers.pop_first() {
            if at > now || horizon.is_some_and(|horizon| (at, kind, id) > horizon) || done.moves() >= self.budget {
                break;
            }
            self.run_timer(heads, kind, id, done);
            if heads.is_unsettled(id) {
                break;
            }
            timers.extend(due(heads, id));
        }
        Ok(())
    }

    fn run_timer(&self, heads: &mut Heads, kind: i16, id: JobId, done: &mut Maintained) {
        let now = heads.now();
        match kind {
            WAKE_DUE => {
                heads.change(id, moves::promote);
                done.promoted += 1;
            }
            WAKE_LEASE => {
                let lost = heads.get(id).map_or(0, |head| head.lost);
                let limits = &self.engine.terms.limits;
                let backoff = moves::lost_backoff(limits.lost_backoff_base, limits.lost_backoff_max, lost);
                let state = heads.change(id, |head| moves::reclaim(head, now, backoff));
                done.reclaimed.extend(state.map(|state| (id, state)));
            }
            WAKE_DEADLINE | WAKE_INPUT => {
                let code = if kind == WAKE_INPUT { JobErrorCode::InputExpired } else { JobErrorCode::DeadlineExceeded };
                heads.change(id, |head| moves::expire(head, now, code));
                done.expired.push(id);
            }
            _ => {}
        }
    }

    /// Removes ended jobs past their retention, and what nobody needs to know any more.
    async fn remove(&self, tx: &mut Tx<'_>, heads: &Heads) -> Result<Did, Fault> {
        let [remove, rates, requests] = tx.statements([REMOVE, FORGET_RATES, FORGET_REQUESTS]).await?;
        let max = bigint(self.budget);
        let (gone, _, _) = try_join!(
            biased;
            tx.query(&remove, [&max]),
            tx.query(&rates, [&FORGET_MAX]),
            tx.query(&requests, [&FORGET_MAX, &REQUEST_KEPT_MS]),
        )?;
        let (mut done, mut counts) = (Maintained::default(), Counts::default());
        for row in &gone {
            let id = job_id(row.try_get::<_, Uuid>(0)?);
            if codec::state_of(row.try_get(2)?)? == JobState::Dead {
                let lane = Lane::new(row.try_get::<_, &str>(1)?).map_err(|_| codec::bad(id, "lane"))?;
                counts.dead_removed(&lane, 1);
            }
            let result = row.try_get::<_, Option<&str>>(3)?.map(str::parse).transpose();
            done.removed.push((id, result.map_err(|_| codec::bad(id, "result"))?));
        }
        let woken = save(tx, heads, counts, self.engine.schema()).await?;
        Ok(Did { more: done.removed.len() == self.budget, done, woken })
    }
}

/// Locks and reads jobs with their parents; answers those of which nobody else has anything.
async fn free(tx: &mut Tx<'_>, heads: &mut Heads, jobs: &[JobId]) -> Result<BTreeSet<JobId>, Fault> {
    let known = |heads: &Heads, id: JobId| heads.get(id).is_some_and(|head| head.after.is_empty());
    let rest: Vec<JobId> = jobs.iter().copied().filter(|id| !known(heads, *id)).collect();
    if rest.is_empty() {
        return Ok(jobs.iter().copied().collect());
    }
    let [family] = tx.statements([FAMILY]).await?;
    let ids = uuids(&rest);
    take_in(heads, &tx.query(&family, [&ids]).await?)?;
    let parents = |heads: &Heads, id: JobId| heads.get(id).map(|head| head.after.clone()).unwrap_or_default();
    let absent: Vec<JobId> =
        rest.iter().flat_map(|id| parents(heads, *id)).filter(|parent| heads.get(*parent).is_none()).collect();
    let mut elsewhere = BTreeSet::new();
    if !absent.is_empty() {
        // A parent that is not kept any more holds nothing up.
        let [standing] = tx.statements([STANDING]).await?;
        let ids = uuids(&absent);
        for row in &tx.query(&standing, [&ids]).await? {
            elsewhere.insert(job_id(row.try_get(0)?));
        }
    }
    let is_free =
        |id: &JobId| heads.get(*id).is_some_and(|head| !head.after.iter().any(|parent| elsewhere.contains(parent)));
    Ok(jobs.iter().copied().filter(is_free).collect())
}

/// One call.
pub(super) async fn maintain(engine: &Engine, budget: NonZeroU16) -> StoreResult<Maintained> {
    let budget = usize::from(budget.get()).min(CALL_MOVES_MAX);
    let mut all = Maintained::default();
    while all.moves() < budget {
        let round = Round { engine, budget: (budget - all.moves()).min(ROUND_MOVES_MAX) };
        let did = match engine.transact(round).await {
            Ok(did) => did,
            // What was done before is committed: it is told now or never.
            Err(error) if all.moves() > 0 => {
                tracing::warn!(%error, "maintenance was broken off; the next call goes on");
                return Ok(all);
            }
            Err(error) => return Err(error),
        };
        engine.wake(&did.woken);
        all.promoted += did.done.promoted;
        all.reclaimed.extend(did.done.reclaimed);
        all.expired.extend(did.done.expired);
        all.settled.extend(did.done.settled);
        all.removed.extend(did.done.removed);
        if !did.more {
            break;
        }
    }
    Ok(all)
}
