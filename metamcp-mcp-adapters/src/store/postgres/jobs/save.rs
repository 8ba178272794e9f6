//! Writes back what the moves of one transaction changed: heads, who waits for whom, counts of lanes. And commits.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use metamcp_core::{
    id::{JobId, Lane, TenantId},
    queue::{JobHead, JobState},
    time::Timestamp,
};
use tokio::try_join;
use tokio_postgres::{Error, Statement, types::ToSql};
use uuid::Uuid;

use super::{
    super::{
        locks,
        tx::{Fault, Tx},
    },
    POLL_MS_MAX,
    codec::uuid,
    columns::{Beside, Bodies, INSERT, INSERT_BODIES, Inserts, UPDATE, Updates},
    heads::{Before, Heads, Held, is_ready},
};

const WAIT: &str =
    "insert into job_after (parent, child) select * from unnest($1::uuid[], $2::uuid[]) on conflict do nothing";
const WAIT_NO_MORE: &str = "
delete from job_after a using unnest($1::uuid[], $2::uuid[]) u(parent, child) where a.parent = u.parent and a.child = u.child";

/// Adds to a shard that nobody else holds, or to a new one.
const COUNT: &str = "
with more as (
    select * from unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[])
        u(lane, ready, blocked, waiting, delayed, leased, input, dead)
), free as (
    select m.lane, s.shard from more m
    cross join lateral (select c.shard from lane_count c where c.lane = m.lane limit 1 for no key update skip locked) s
), added as (
    update lane_count c
    set ready = c.ready + m.ready, blocked = c.blocked + m.blocked, waiting = c.waiting + m.waiting, delayed = c.delayed + m.delayed,
        leased = c.leased + m.leased, input = c.input + m.input, dead = c.dead + m.dead
    from more m join free f on f.lane = m.lane
    where c.lane = f.lane and c.shard = f.shard
)
insert into lane_count (lane, ready, blocked, waiting, delayed, leased, input, dead)
select m.lane, m.ready, m.blocked, m.waiting, m.delayed, m.leased, m.input, m.dead
from more m where not exists (select from free f where f.lane = m.lane)";

/// In order, after everything else: nobody who holds a lane waits for a job.
const LOCK_LANES: &str = "select pg_advisory_xact_lock(l.lock) from (select unnest($1::bigint[]) as lock order by 1) l";
/// The tenants of an empty lane are level again: nothing is remembered of those that are gone.
const LEVEL: &str = "
with gone as (delete from lane_turn where lane = any($1) returning lane, pass)
update lane l set virtual_time = greatest(l.virtual_time, g.pass)
from (select lane, max(pass) as pass from gone group by lane) g where l.lane = g.lane";

/// How many more, or fewer, jobs of a lane stand where.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct More {
    ready: i64,
    blocked: i64,
    waiting: i64,
    delayed: i64,
    leased: i64,
    input: i64,
    dead: i64,
}

impl More {
    fn count(&mut self, head: &JobHead, by: i64) {
        let field = match head.state {
            JobState::Ready if head.blocked => &mut self.blocked,
            JobState::Ready => &mut self.ready,
            JobState::Waiting => &mut self.waiting,
            JobState::Delayed => &mut self.delayed,
            JobState::Leased => &mut self.leased,
            JobState::Input => &mut self.input,
            JobState::Dead => &mut self.dead,
            _ => return,
        };
        *field += by;
    }
}

/// What changed in the counts of lanes.
#[derive(Debug, Default)]
pub(super) struct Counts {
    lanes: BTreeMap<Lane, More>,
}

impl Counts {
    /// A job stands elsewhere; one that is new stood nowhere.
    pub(super) fn moved(&mut self, before: Option<&JobHead>, now: &JobHead) {
        let more = self.lanes.entry(now.lane.clone()).or_default();
        if let Some(before) = before {
            more.count(before, -1);
        }
        more.count(now, 1);
    }

    /// Delayed jobs became ready.
    pub(super) fn promoted(&mut self, lane: &Lane, jobs: i64) {
        let more = self.lanes.entry(lane.clone()).or_default();
        more.delayed -= jobs;
        more.ready += jobs;
    }

    /// Dead letters were removed.
    pub(super) fn dead_removed(&mut self, lane: &Lane, jobs: i64) {
        self.lanes.entry(lane.clone()).or_default().dead -= jobs;
    }

    /// Adds them up in the transaction.
    async fn write(&self, tx: &Tx<'_>, count: &Statement) -> Result<(), Error> {
        let changed = || self.lanes.iter().filter(|(_, more)| **more != More::default());
        let lanes: Vec<&str> = changed().map(|(lane, _)| lane.as_str()).collect();
        let column = |of: fn(&More) -> i64| -> Vec<i64> { changed().map(|(_, more)| of(more)).collect() };
        let (ready, blocked) = (column(|more| more.ready), column(|more| more.blocked));
        let (waiting, delayed) = (column(|more| more.waiting), column(|more| more.delayed));
        let (leased, input, dead) = (column(|more| more.leased), column(|more| more.input), column(|more| more.dead));
        let parameters: [&(dyn ToSql + Sync); 8] =
            [&lanes, &ready, &blocked, &waiting, &delayed, &leased, &input, &dead];
        tx.query_if(!lanes.is_empty(), count, parameters).await.map(drop)
    }
}

/// Who waits for whom, and does no more.
#[derive(Debug, Default)]
struct Waits {
    begun: (Vec<Uuid>, Vec<Uuid>),
    over: (Vec<Uuid>, Vec<Uuid>),
}

impl Waits {
    fn moved(&mut self, before: &[JobId], head: &JobHead) {
        let (now, child) = (&head.waits_on, uuid(head.id));
        for parent in now.iter().filter(|parent| !before.contains(parent)) {
            self.begun.0.push(uuid(*parent));
            self.begun.1.push(child);
        }
        for parent in before.iter().filter(|parent| !now.contains(parent)) {
            self.over.0.push(uuid(*parent));
            self.over.1.push(child);
        }
    }
}

/// The tenant and the idempotency key of a job.
fn idempotency(head: &JobHead) -> Option<(&TenantId, &str)> {
    head.idempotency_key.as_deref().map(|key| (&head.owner.tenant, key))
}

const fn is_delayed(head: &JobHead) -> bool {
    matches!(head.state, JobState::Delayed)
}

/// Lanes that jobs became ready in, or will before those who wait ask again, to be told once it is committed.
pub(super) type Woken = BTreeSet<Lane>;

/// Everything that a transaction writes back: every head that changed, with all that depends on it.
pub(super) struct Writes<'h> {
    inserts: Inserts<'h>,
    bodies: Bodies<'h>,
    updates: Updates<'h>,
    waits: Waits,
    counts: Counts,
    emptied: (Vec<&'h str>, Vec<i64>),
    pub(super) woken: Woken,
}

/// The statements of [`Writes`].
pub(super) struct WriteStatements([Statement; 8]);

impl WriteStatements {
    pub(super) async fn of(tx: &mut Tx<'_>) -> Result<Self, Error> {
        tx.statements([INSERT, INSERT_BODIES, UPDATE, WAIT, WAIT_NO_MORE, LOCK_LANES, LEVEL, COUNT]).await.map(Self)
    }
}

impl<'h> Writes<'h> {
    pub(super) fn of(heads: &'h Heads, counts: Counts, schema: &str) -> Self {
        let emptied = heads.emptied().iter().map(|lane| (lane.as_str(), locks::of_lane(schema, lane))).unzip();
        let mut writes = Self {
            inserts: Inserts::default(),
            bodies: Bodies::default(),
            updates: Updates::default(),
            waits: Waits::default(),
            counts,
            emptied,
            woken: Woken::new(),
        };
        let mut in_order: Vec<&Held> = heads.iter().collect();
        // Whoever writes a key that another transaction has written waits for it: two that write the same keys must do so in one order.
        in_order.sort_by_key(|held| held.before.head().is_none().then(|| idempotency(&held.now.head)).flatten());
        in_order.into_iter().for_each(|held| writes.push(held, heads.now(), schema));
        writes
    }

    fn push(&mut self, Held { before, now }: &'h Held, at: Timestamp, schema: &str) {
        let head = &now.head;
        match before {
            Before::Stood(was) if was.head == *head && was.unsettled == now.unsettled => return,
            Before::Stood(was) => {
                let talked = was.head.checkpoint != head.checkpoint
                    || was.head.requests != head.requests
                    || was.head.answer != head.answer;
                self.updates.push(head, Beside { unsettled: now.unsettled, talked });
            }
            Before::New(body) | Before::Restored(body) => {
                self.inserts.push(head, schema);
                self.bodies.push(head, body);
                // An insert names only what a job that waits may have.
                if matches!(before, Before::Restored(_)) || head.state == JobState::Leased {
                    self.updates.push(head, Beside { unsettled: now.unsettled, talked: true });
                }
            }
        }
        self.waits.moved(before.head().map_or(&[], |was| &was.waits_on), head);
        self.counts.moved(before.head(), head);
        let came = |stands: fn(&JobHead) -> bool| stands(head) && !before.head().is_some_and(stands);
        if came(is_ready) || came(is_delayed) && head.due_at.since(at) < Duration::from_millis(POLL_MS_MAX) {
            self.woken.insert(head.lane.clone());
        }
    }

    /// Writes.
    pub(super) async fn write(&self, tx: &Tx<'_>, statements: &WriteStatements) -> Result<(), Error> {
        let [insert, insert_bodies, update, wait, wait_no_more, lock_lanes, level, count] = &statements.0;
        let (inserts, bodies, updates) =
            (self.inserts.parameters(), self.bodies.parameters(), self.updates.parameters());
        let (begun, over, emptied) = (&self.waits.begun, &self.waits.over, &self.emptied);
        try_join!(
            biased;
            tx.query_many(insert, &inserts),
            tx.query_many(insert_bodies, &bodies),
            tx.query_many(update, &updates),
            tx.query_if(!over.0.is_empty(), wait_no_more, [&over.0, &over.1]),
            tx.query_if(!begun.0.is_empty(), wait, [&begun.0, &begun.1]),
            tx.query_if(!emptied.0.is_empty(), lock_lanes, [&emptied.1]),
            tx.query_if(!emptied.0.is_empty(), level, [&emptied.0]),
            self.counts.write(tx, count),
        )?;
        Ok(())
    }
}

/// Writes back what changed, and commits.
pub(super) async fn save(tx: &mut Tx<'_>, heads: &Heads, counts: Counts, schema: &str) -> Result<Woken, Fault> {
    let statements = WriteStatements::of(tx).await?;
    let writes = Writes::of(heads, counts, schema);
    try_join!(biased; writes.write(tx, &statements), tx.commit())?;
    tx.committed();
    Ok(writes.woken)
}
