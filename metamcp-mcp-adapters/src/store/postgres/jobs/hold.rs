//! Brings the heads that a transaction is about into its hands: locked, and with everything their moves may reach.
//!
//! The order of locks is the same everywhere: concurrency keys, jobs in order of id (a parent's is lower than its child's), lanes. Who picks
//! jobs by itself, as leasing and maintenance do, waits for no row and no key: what somebody else has is left for the next time. What is
//! left over by ids that callers chose out of order is found by the server as a deadlock, and one of the two begins again.

use std::collections::BTreeMap;

use metamcp_core::{
    id::{JobId, Lane},
    time::Timestamp,
};
use tokio::try_join;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    super::{
        locks,
        time::{Timekeeper, to_instant},
        tx::{Fault, Tx},
    },
    codec::{self, head_columns, job_id},
    columns::uuids,
    heads::{Heads, Reach, SETTLE_AT_ONCE_MAX},
};

/// Sets the instant of the transaction, so that all its statements have the same.
pub(super) const NOW: &str = "
select set_config('metamcp.now', coalesce($1::bigint, floor(extract(epoch from clock_timestamp()) * 1000)::bigint)::text, true)::bigint";

/// The keys of these jobs, before their rows.
const LOCK_KEYS: &str = "
select pg_advisory_xact_lock(k.lock)
from (select distinct concurrency_lock as lock from job where id = any($1) and concurrency_lock is not null order by 1) k";

/// These jobs and the jobs they wait for or take results from.
const HOLD: &str = concat!(
    "select ",
    head_columns!(),
    " from job j
where j.id in (select unnest($1::uuid[]) union select unnest(c.after) from job c where c.id = any($1))
order by j.id for no key update"
);

/// Most lanes and bounds of one key of which jobs that are blocked by it are read.
const GROUPS_READ_MAX: usize = 256;
/// The first that are blocked by each of these keys, in each lane and for each bound; these are found by one step of the index each.
const BLOCKED: &str = concat!(
    "select ",
    head_columns!(),
    " from unnest($1::bigint[], $2::bigint[]) k(lock, n)
cross join lateral (
    with recursive walk(lane, max, seen) as (
        (select b.lane, b.concurrency_max, 1::bigint from job b
         where b.concurrency_lock = k.lock and b.state = 3 order by b.lane, b.concurrency_max limit 1)
        union all
        select next.lane, next.concurrency_max, w.seen + 1 from walk w cross join lateral (
            select b.lane, b.concurrency_max from job b
            where b.concurrency_lock = k.lock and b.state = 3 and (b.lane, b.concurrency_max) > (w.lane, w.max)
            order by b.lane, b.concurrency_max limit 1
        ) next where w.seen < $3
    )
    select lane, max from walk
) g
cross join lateral (
    select * from job b where b.concurrency_lock = k.lock and b.state = 3 and b.lane = g.lane and b.concurrency_max = g.max
    order by b.place, b.id limit k.n for no key update
) j"
);

/// The first that wait for each of these jobs.
const WAITERS: &str = concat!(
    "select ",
    head_columns!(),
    " from job j
where j.id in (
    select w.child from unnest($1::uuid[]) p(id)
    cross join lateral (select a.child from job_after a where a.parent = p.id order by a.child limit $2) w
)
order by j.id for no key update"
);

/// Some ready jobs of these lanes.
const READY: &str = "
select l.lane, r.id from unnest($1::text[], $2::bigint[]) l(lane, n)
cross join lateral (select id from job where lane = l.lane and state = 2 limit l.n) r";

/// Reads the instant that [`NOW`] set.
pub(super) fn instant(rows: &[Row]) -> Result<Timestamp, Fault> {
    let row = rows.first().map(|row| row.try_get(0)).transpose()?;
    Ok(to_instant(row.unwrap_or_default()))
}

/// Begins, and locks and reads these jobs with the jobs they name in `after`.
pub(super) async fn hold(tx: &mut Tx<'_>, time: &Timekeeper, ids: &[JobId]) -> Result<Heads, Fault> {
    let [lock_keys, now, hold] = tx.statements([LOCK_KEYS, NOW, HOLD]).await?;
    let (ids, given) = (uuids(ids), time.now());
    tx.opens();
    let ((), _, now, rows) = try_join!(
        biased;
        tx.begin(),
        tx.query(&lock_keys, [&ids]),
        tx.query(&now, [&given]),
        tx.query(&hold, [&ids]),
    )?;
    let mut heads = Heads::new(instant(&now)?);
    take_in(&mut heads, &rows)?;
    Ok(heads)
}

/// Takes in rows that begin with the columns of a head.
pub(super) fn take_in(heads: &mut Heads, rows: &[Row]) -> Result<(), Fault> {
    rows.iter().try_for_each(|row| {
        heads.take_in(codec::head(row)?);
        Ok(())
    })
}

/// Locks and reads what the moves of the held heads may reach.
pub(super) async fn load_reach(tx: &mut Tx<'_>, heads: &mut Heads, reach: &Reach, schema: &str) -> Result<(), Fault> {
    let Reach { keys, parents, lanes } = reach;
    if keys.is_empty() && parents.is_empty() && lanes.is_empty() {
        return Ok(());
    }
    let [blocked, waiters, ready] = tx.statements([BLOCKED, WAITERS, READY]).await?;
    let locks: Vec<i64> = keys.keys().map(|key| locks::of_concurrency(schema, key)).collect();
    let often: Vec<i64> = keys.values().map(|n| bigint(*n)).collect();
    let parents = uuids(parents);
    let (names, counts) = lane_arrays(lanes);
    // One more than move at once: it tells whether some are left.
    let children_max = bigint(SETTLE_AT_ONCE_MAX + 1);
    let groups_max = bigint(GROUPS_READ_MAX);
    let (blocked, waiters, ready) = try_join!(
        biased;
        tx.query_if(!keys.is_empty(), &blocked, [&locks, &often, &groups_max]),
        tx.query_if(!parents.is_empty(), &waiters, [&parents, &children_max]),
        tx.query_if(!lanes.is_empty(), &ready, [&names, &counts]),
    )?;
    take_in(heads, &blocked)?;
    take_in(heads, &waiters)?;
    watch(heads, lanes, &ready)
}

/// Reads ready jobs of these lanes: as many as can leave them, and one more.
pub(super) async fn watch_lanes(
    tx: &mut Tx<'_>,
    heads: &mut Heads,
    lanes: &BTreeMap<Lane, usize>,
) -> Result<(), Fault> {
    if lanes.is_empty() {
        return Ok(());
    }
    let [ready] = tx.statements([READY]).await?;
    let (names, counts) = lane_arrays(lanes);
    let rows = tx.query(&ready, [&names, &counts]).await?;
    watch(heads, lanes, &rows)
}

fn lane_arrays(lanes: &BTreeMap<Lane, usize>) -> (Vec<&str>, Vec<i64>) {
    lanes.iter().map(|(lane, leaving)| (lane.as_str(), bigint(leaving + 1))).unzip()
}

fn watch(heads: &mut Heads, lanes: &BTreeMap<Lane, usize>, ready: &[Row]) -> Result<(), Fault> {
    for lane in lanes.keys() {
        let mut ids = Vec::new();
        for row in ready {
            if row.try_get::<_, &str>(0)? == lane.as_str() {
                ids.push(job_id(row.try_get::<_, Uuid>(1)?));
            }
        }
        heads.watch(lane.clone(), ids);
    }
    Ok(())
}

/// A count as a parameter.
pub(super) fn bigint(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
