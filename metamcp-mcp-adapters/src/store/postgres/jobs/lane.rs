//! A lane as leasing sees it: paused or not, how many are leased, whose turn it is; and how that is stored.

use std::collections::BTreeMap;

use metamcp_core::{
    error::{StoreError, StoreErrorKind},
    id::{Lane, TenantId},
    queue::moves,
};
use tokio::try_join;
use tokio_postgres::{Error, Row, Statement};

use super::{
    super::{
        STORE,
        tx::{Fault, Tx},
    },
    codec::{self, head_columns, uuid},
    columns::place_of,
    heads::Heads,
    hold::bigint,
    turns::{Position, Turns, Wanted},
};

/// Most tenants with ready jobs that one lease call looks at in one lane. When there are more, each call goes on where the last one stopped.
const TENANTS_LOOKED_AT_MAX: usize = 500;

const STATE: &str = "
select coalesce(l.paused, false), coalesce(l.virtual_time, 0), coalesce(l.seen_up_to, ''),
    (select coalesce(sum(c.leased), 0)::bigint from lane_count c where c.lane = $1)
from (select) one left join lane l on l.lane = $1";
const PASSES: &str = "select tenant, pass from lane_turn where lane = $1";
/// Delayed → ready: time changes nothing but where they stand, and what time does next.
const PROMOTE: &str = "
with due as materialized (
    select id from job
    where lane = $1 and state = 1 and due_at <= current_setting('metamcp.now')::bigint
        and not exists (select from lane where lane = $1 and paused)
    order by due_at, id limit $2 for no key update skip locked
)
update job j
set state = 2, updated_at = current_setting('metamcp.now')::bigint, wake = case when j.deadline_at is not null then 0 end,
    wake_at = j.deadline_at
from due where j.id = due.id returning 1";
/// The tenants that have ready jobs, each found by one step of the index.
const TENANTS: &str = "
with recursive walk(tenant, n) as (
    (select tenant, 1 from job where lane = $1 and state = 2 and tenant > $2 order by tenant limit 1)
    union all
    select (select j.tenant from job j where j.lane = $1 and j.state = 2 and j.tenant > w.tenant order by j.tenant limit 1), w.n + 1
    from walk w where w.tenant is not null and w.n < $3
)
select tenant from walk where tenant is not null";
const READ: &str = concat!(
    "select ",
    head_columns!(),
    ", u.n from unnest($2::text[], $3::bigint[], $4::uuid[], $5::bigint[]) with ordinality u(tenant, place, id, max, n)
cross join lateral (
    select * from job r where r.lane = $1 and r.tenant = u.tenant and r.state = 2 and (r.place, r.id) > (u.place, u.id)
    order by r.place, r.id limit u.max for no key update skip locked
) j"
);
const TIME: &str = "
insert into lane (lane, virtual_time, seen_up_to) select * from unnest($1::text[], $2::bigint[], $3::text[])
on conflict (lane) do update set virtual_time = excluded.virtual_time, seen_up_to = excluded.seen_up_to";
/// Who is level with the lane is not remembered.
const FORGET: &str = "
delete from lane_turn t using unnest($1::text[], $2::bigint[]) u(lane, up_to) where t.lane = u.lane and t.pass <= u.up_to";
const AHEAD: &str = "
insert into lane_turn (lane, tenant, pass) select * from unnest($1::text[], $2::text[], $3::bigint[])
on conflict (lane, tenant) do update set pass = excluded.pass";

/// One lane within a lease call.
pub(super) struct LaneTurns {
    pub(super) paused: bool,
    pub(super) leased: u64,
    pub(super) promoted: i64,
    pub(super) turns: Turns,
    stored: BTreeMap<TenantId, u64>,
    /// Where the next call goes on to look for tenants; empty: at the first.
    seen_up_to: String,
}

/// Promotes what is due in a lane and reads how it stands.
pub(super) async fn open(tx: &mut Tx<'_>, lane: &Lane, promote_max: usize) -> Result<LaneTurns, Fault> {
    let [state, passes, promote, tenants] = tx.statements([STATE, PASSES, PROMOTE, TENANTS]).await?;
    let (name, promote_max, from_first) = (lane.as_str(), bigint(promote_max), "");
    let looked_at_max = i32::try_from(TENANTS_LOOKED_AT_MAX).unwrap_or(i32::MAX);
    let (state, passes, promoted, mut found) = try_join!(
        biased;
        tx.query(&state, [&name]),
        tx.query(&passes, [&name]),
        tx.query(&promote, [&name, &promote_max]),
        tx.query(&tenants, [&name, &from_first, &looked_at_max]),
    )?;
    let state = state.first().ok_or_else(|| unreadable("lane"))?;
    let mut seen_up_to = String::new();
    if found.len() == TENANTS_LOOKED_AT_MAX {
        // There are more than are looked at: on from where the last call stopped, and from the first again where they end.
        let from: &str = state.try_get(2)?;
        let mut rotated = tx.query(&tenants, [&name, &from, &looked_at_max]).await?;
        if rotated.len() == TENANTS_LOOKED_AT_MAX {
            seen_up_to = rotated.last().map(|row| row.try_get(0)).transpose()?.unwrap_or_default();
        }
        found.truncate(TENANTS_LOOKED_AT_MAX - rotated.len());
        found.append(&mut rotated);
    }
    let tenants = found.iter().map(tenant).collect::<Result<Vec<_>, Fault>>()?;
    let stored =
        passes.iter().map(|row| Ok((tenant(row)?, number(row, 1)?))).collect::<Result<BTreeMap<_, _>, Fault>>()?;
    Ok(LaneTurns {
        paused: state.try_get(0)?,
        leased: number(state, 3)?,
        promoted: bigint(promoted.len()),
        turns: Turns::new(number(state, 1)?, stored.clone(), tenants),
        stored,
        seen_up_to,
    })
}

/// Locks and reads ready jobs of these tenants; answers their positions, tenant by tenant.
pub(super) async fn read(
    tx: &mut Tx<'_>,
    heads: &mut Heads,
    lane: &Lane,
    wanted: &[Wanted],
) -> Result<Vec<Vec<Position>>, Fault> {
    let [read] = tx.statements([READ]).await?;
    let name = lane.as_str();
    let tenants: Vec<&str> = wanted.iter().map(|wanted| wanted.tenant.as_str()).collect();
    let places: Vec<i64> = wanted.iter().map(|wanted| i64::try_from(wanted.behind.0).unwrap_or(i64::MAX)).collect();
    let ids: Vec<_> = wanted.iter().map(|wanted| uuid(wanted.behind.1)).collect();
    let counts: Vec<i64> = wanted.iter().map(|wanted| bigint(wanted.max)).collect();
    let rows = tx.query(&read, [&name, &tenants, &places, &ids, &counts]).await?;
    let mut positions = vec![Vec::new(); wanted.len()];
    for row in &rows {
        let stored = codec::head(row)?;
        let of = usize::try_from(row.try_get::<_, i64>(codec::HEAD_COLUMNS)? - 1).unwrap_or(usize::MAX);
        let position = (moves::place(&stored.head), stored.head.id);
        debug_assert_eq!(place_of(&stored.head), i64::try_from(position.0).unwrap_or(i64::MAX));
        positions.get_mut(of).ok_or_else(|| unreadable("turn"))?.push(position);
        heads.take_in(stored);
    }
    positions.iter_mut().for_each(|positions| positions.sort_unstable());
    Ok(positions)
}

fn tenant(row: &Row) -> Result<TenantId, Fault> {
    TenantId::new(row.try_get::<_, &str>(0)?).map_err(|_| unreadable("tenant").into())
}

fn number(row: &Row, at: usize) -> Result<u64, Fault> {
    Ok(u64::try_from(row.try_get::<_, i64>(at)?).unwrap_or_default())
}

fn unreadable(what: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt, STORE, format!("a {what} cannot be read"))
}

/// The statements of [`TurnWrites`].
pub(super) struct TurnStatements([Statement; 3]);

impl TurnStatements {
    pub(super) async fn of(tx: &mut Tx<'_>) -> Result<Self, Error> {
        tx.statements([TIME, FORGET, AHEAD]).await.map(Self)
    }
}

/// Whose turn it is next, as it is stored.
#[derive(Default)]
pub(super) struct TurnWrites<'t> {
    time: (Vec<&'t str>, Vec<i64>, Vec<&'t str>),
    forget: (Vec<&'t str>, Vec<i64>),
    ahead: (Vec<&'t str>, Vec<&'t str>, Vec<i64>),
}

impl<'t> TurnWrites<'t> {
    pub(super) fn of(lanes: &'t BTreeMap<Lane, LaneTurns>) -> Self {
        let mut writes = Self::default();
        for (lane, state) in lanes {
            let Some((virtual_time, levelled, ahead)) = state.turns.changed() else { continue };
            let (name, virtual_time) = (lane.as_str(), i64::try_from(virtual_time).unwrap_or(i64::MAX));
            writes.time.0.push(name);
            writes.time.1.push(virtual_time);
            writes.time.2.push(&state.seen_up_to);
            if !state.stored.is_empty() {
                writes.forget.0.push(name);
                writes.forget.1.push(if levelled { i64::MAX } else { virtual_time });
            }
            for (tenant, pass) in ahead.filter(|(tenant, pass)| levelled || state.stored.get(*tenant) != Some(pass)) {
                writes.ahead.0.push(name);
                writes.ahead.1.push(tenant.as_str());
                writes.ahead.2.push(i64::try_from(pass).unwrap_or(i64::MAX));
            }
        }
        writes
    }

    pub(super) async fn write(&self, tx: &Tx<'_>, statements: &TurnStatements) -> Result<(), Error> {
        let [time, forget, ahead] = &statements.0;
        try_join!(
            biased;
            tx.query_if(!self.time.0.is_empty(), time, [&self.time.0, &self.time.1, &self.time.2]),
            tx.query_if(!self.forget.0.is_empty(), forget, [&self.forget.0, &self.forget.1]),
            tx.query_if(!self.ahead.0.is_empty(), ahead, [&self.ahead.0, &self.ahead.1, &self.ahead.2]),
        )?;
        Ok(())
    }
}
