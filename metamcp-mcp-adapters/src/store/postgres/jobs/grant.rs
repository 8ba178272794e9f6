//! Giving out leases: lane by lane, turn by turn, as `metamcp_core::queue::Core` does it.
//!
//! Who leases from a lane has its lock until it commits, so that turns, the bound of the lane and the order of jobs hold over all workers. The
//! jobs themselves are taken with `skip locked`: one that is being cancelled is not waited for. What is waited for are the lanes, which all
//! take in one order, and the job that goes on when one with both limits is given a slot later.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use metamcp_core::{
    error::StoreResult,
    id::{JobId, Lane},
    queue::{JobHead, LEASE_BATCH_MAX, LeaseRequest, moves},
    time::Timestamp,
};
use tokio::try_join;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::{
    super::{
        Engine, locks,
        time::{from_instant, to_instant},
        tx::{Act, Fault, Tx},
    },
    codec,
    columns::uuids,
    heads::Heads,
    hold::{NOW, instant},
    lane::{self, LaneTurns},
    limits::{Limits, Obstacle, TAKE},
    save::{Counts, Woken, WriteStatements, Writes},
    turns::{Next, Wanted},
};

/// Most due jobs that one lease call promotes.
const LEASE_PROMOTED_MAX: usize = 512;
/// Most jobs that one lease call passes over or delays on its way to those it grants.
const LEASE_SET_ASIDE_MAX: usize = 512;

const LOCK_LANES: &str =
    "select pg_advisory_xact_lock(l.lock) from (select distinct lock from unnest($1::bigint[]) lock order by 1) l";
const REQUEST: &str = "select jobs, epochs, nonce from lease_request where worker = $1 and request = $2";
/// What a worker was given and still holds.
const AGAIN: &str = concat!(
    "select ",
    codec::head_columns!(),
    " from unnest($1::uuid[], $2::bigint[]) with ordinality g(id, epoch, n)
join job j on j.id = g.id and j.epoch = g.epoch and j.nonce = $3 and j.state = 4 order by g.n"
);
const REMEMBER: &str = "
insert into lease_request (worker, request, nonce, jobs, epochs, at) values ($1, $2, $3, $4, $5, $6)
on conflict (worker) do update
set request = excluded.request, nonce = excluded.nonce, jobs = excluded.jobs, epochs = excluded.epochs, at = excluded.at";
const BODIES: &str = "select id, body from job_body where id = any($1)";
/// Whether a job of these lanes can be leased, and when the next one is due. Paused lanes do not count.
macro_rules! due {
    () => {
        "with open as materialized (
    select l.lane from unnest($1::text[]) l(lane) where not exists (select from lane p where p.lane = l.lane and p.paused)
)
select exists (select from open o where exists (select from job where lane = o.lane and state = 2)),
    (select min(d.due_at) from open o cross join lateral (
        select due_at from job where lane = o.lane and state = 1 order by due_at limit 1
    ) d)"
    };
}
pub(super) use due;

const DUE: &str = due!();

/// What a lease call gave.
pub(super) struct Given {
    pub(super) heads: Vec<JobHead>,
    pub(super) bodies: HashMap<JobId, Vec<u8>>,
    pub(super) next_due: Option<Duration>,
    pub(super) woken: Woken,
}

/// One lease call.
pub(super) struct Lease<'a> {
    pub(super) engine: &'a Engine,
    pub(super) want: &'a LeaseRequest,
}

impl Act for Lease<'_> {
    type Output = Given;

    async fn act(&mut self, tx: &mut Tx<'_>) -> Result<Given, Fault> {
        let Self { engine, want } = *self;
        let [lock_lanes, now, request] = tx.statements([LOCK_LANES, NOW, REQUEST]).await?;
        let lane_locks: Vec<i64> = want.lanes.iter().map(|lane| locks::of_lane(engine.schema(), lane)).collect();
        let (given, worker, number) = (engine.time.now(), want.worker.as_str(), want.request.cast_signed());
        tx.opens();
        let ((), _, now, request) = try_join!(
            biased;
            tx.begin(),
            tx.query(&lock_lanes, [&lane_locks]),
            tx.query(&now, [&given]),
            tx.query(&request, [&worker, &number]),
        )?;
        let now = instant(&now)?;
        if let Some(request) = request.first() {
            return again(tx, want, now, request).await;
        }
        let mut grant = Grant {
            engine,
            want,
            max: usize::from(want.max.min(LEASE_BATCH_MAX)),
            heads: Heads::new(now),
            limits: Limits::default(),
            lanes: BTreeMap::new(),
            counts: Counts::default(),
            to_promote: LEASE_PROMOTED_MAX,
            to_set_aside: LEASE_SET_ASIDE_MAX,
            woken: Vec::new(),
            jobs: Vec::new(),
        };
        for lane in &want.lanes {
            grant.lease_from(tx, lane).await?;
        }
        Box::pin(grant.write(tx)).await
    }
}

/// The same wish again: what is still held of what it was given, and nothing more.
async fn again(tx: &mut Tx<'_>, want: &LeaseRequest, now: Timestamp, request: &Row) -> Result<Given, Fault> {
    let [again, bodies, due] = tx.statements([AGAIN, BODIES, DUE]).await?;
    let jobs: Vec<Uuid> = request.try_get(0)?;
    let (epochs, nonce): (Vec<i64>, i64) = (request.try_get(1)?, request.try_get(2)?);
    let lanes: Vec<&str> = want.lanes.iter().map(Lane::as_str).collect();
    let (held, bodies, due, ()) = try_join!(
        biased;
        tx.query(&again, [&jobs, &epochs, &nonce]),
        tx.query(&bodies, [&jobs]),
        tx.query(&due, [&lanes]),
        tx.commit(),
    )?;
    tx.committed();
    let heads = held.iter().map(|row| codec::head(row).map(|stored| stored.head)).collect::<StoreResult<_>>()?;
    Ok(Given { heads, bodies: read_bodies(&bodies)?, next_due: next_due(due.first(), now)?, woken: Woken::new() })
}

/// One lease call under way.
struct Grant<'a> {
    engine: &'a Engine,
    want: &'a LeaseRequest,
    max: usize,
    heads: Heads,
    limits: Limits,
    lanes: BTreeMap<Lane, LaneTurns>,
    counts: Counts,
    to_promote: usize,
    to_set_aside: usize,
    /// Jobs that were let go on in lanes that were not looked at yet.
    woken: Vec<JobId>,
    jobs: Vec<JobId>,
}

impl Grant<'_> {
    async fn lease_from(&mut self, tx: &mut Tx<'_>, lane: &Lane) -> Result<(), Fault> {
        if self.jobs.len() == self.max {
            return Ok(());
        }
        if !self.lanes.contains_key(lane) {
            let opened = lane::open(tx, lane, self.to_promote).await?;
            self.to_promote -= usize::try_from(opened.promoted).unwrap_or_default().min(self.to_promote);
            self.counts.promoted(lane, opened.promoted);
            self.lanes.insert(lane.clone(), opened);
            let woken = std::mem::take(&mut self.woken);
            self.join(woken);
        }
        let weights = &self.want.shares.weights;
        let leased_max = self.want.shares.leased_max.get(lane).copied().unwrap_or(u64::MAX);
        while self.jobs.len() < self.max {
            let Some(state) = self.lanes.get_mut(lane) else { break };
            if state.paused {
                return Ok(());
            }
            if state.leased >= leased_max {
                break;
            }
            match state.turns.next(self.max - self.jobs.len(), weights) {
                Next::Empty => break,
                Next::Read(wanted) => self.read(tx, lane, &wanted).await?,
                Next::Job(tenant, position) => {
                    let head = self.heads.get(position.1);
                    let obstacle = head.and_then(|head| self.limits.obstacle(head, self.heads.now()));
                    if obstacle.is_some() && self.to_set_aside == 0 {
                        break;
                    }
                    // A job that is only looked at costs a turn too: a flood of such jobs holds nobody else up.
                    state.turns.pay(weights);
                    state.turns.leave(&tenant, position);
                    match obstacle {
                        Some(obstacle) => self.set_aside(position.1, obstacle),
                        None => self.hand_out(lane, position.1),
                    }
                }
            }
        }
        // Whether the lane ran empty decides who is level when the next jobs come.
        let doubtful = self.lanes.get(lane).map(|state| state.turns.doubtful()).unwrap_or_default();
        if doubtful.is_empty() { Ok(()) } else { self.read(tx, lane, &doubtful).await }
    }

    /// Reads more ready jobs of a lane, with their keys.
    async fn read(&mut self, tx: &mut Tx<'_>, lane: &Lane, wanted: &[Wanted]) -> Result<(), Fault> {
        let read = lane::read(tx, &mut self.heads, lane, wanted).await?;
        let jobs: Vec<JobId> = read.iter().flatten().map(|(_, id)| *id).collect();
        self.limits.read(tx, &mut self.heads, &jobs, self.engine.schema()).await?;
        let Some(state) = self.lanes.get_mut(lane) else { return Ok(()) };
        for (wanted, read) in wanted.iter().zip(&read) {
            state.turns.take_in(wanted, read);
            for position in read {
                let head = self.heads.get(position.1);
                if head.is_some_and(|head| self.limits.is_busy(head, self.engine.schema())) {
                    state.turns.leave_out(&wanted.tenant, *position);
                }
            }
        }
        Ok(())
    }

    fn set_aside(&mut self, id: JobId, obstacle: Obstacle) {
        self.to_set_aside -= 1;
        self.limits.set_aside(&mut self.heads, id, obstacle);
        let unblocked = self.heads.take_unblocked();
        self.join(unblocked);
    }

    fn hand_out(&mut self, lane: &Lane, id: JobId) {
        let (now, want) = (self.heads.now(), self.want);
        if let Some(head) = self.heads.get(id) {
            self.limits.lease(head, now);
        }
        self.heads.change(id, |head| moves::lease(head, now, want));
        if let Some(state) = self.lanes.get_mut(lane) {
            state.leased += 1;
        }
        self.jobs.push(id);
    }

    /// Jobs became ready on the way: they take their places, or wait until their lane is looked at.
    fn join(&mut self, jobs: Vec<JobId>) {
        for id in jobs {
            let Some(head) = self.heads.get(id) else { continue };
            match self.lanes.get_mut(&head.lane) {
                Some(state) => state.turns.join(&head.owner.tenant, (moves::place(head), id)),
                None => self.woken.push(id),
            }
        }
    }

    async fn write(self, tx: &mut Tx<'_>) -> Result<Given, Fault> {
        let statements = WriteStatements::of(tx).await?;
        let lane_statements = lane::TurnStatements::of(tx).await?;
        let [take, remember, bodies, due] = tx.statements([TAKE, REMEMBER, BODIES, DUE]).await?;
        let now = self.heads.now();
        let turns = lane::TurnWrites::of(&self.lanes);
        let writes = Writes::of(&self.heads, self.counts, self.engine.schema());
        let heads: Vec<&JobHead> = self.jobs.iter().filter_map(|id| self.heads.get(*id)).collect();
        let (ids, epochs) =
            (uuids(&self.jobs), heads.iter().map(|head| head.epoch.cast_signed()).collect::<Vec<i64>>());
        let (worker, request, nonce) =
            (self.want.worker.as_str(), self.want.request.cast_signed(), self.want.nonce.cast_signed());
        let (rate_keys, taken) = self.limits.taken();
        let (at, lanes) = (from_instant(now), self.want.lanes.iter().map(Lane::as_str).collect::<Vec<&str>>());
        let (_, (), (), _, bodies, due, ()) = try_join!(
            biased;
            tx.query_if(!rate_keys.is_empty(), &take, [&rate_keys, &taken]),
            turns.write(tx, &lane_statements),
            writes.write(tx, &statements),
            tx.query_if(!ids.is_empty(), &remember, [&worker, &request, &nonce, &ids, &epochs, &at]),
            tx.query_if(!ids.is_empty(), &bodies, [&ids]),
            tx.query(&due, [&lanes]),
            tx.commit(),
        )?;
        tx.committed();
        Ok(Given {
            heads: heads.into_iter().cloned().collect(),
            bodies: read_bodies(&bodies)?,
            next_due: next_due(due.first(), now)?,
            woken: writes.woken,
        })
    }
}

fn read_bodies(rows: &[Row]) -> Result<HashMap<JobId, Vec<u8>>, Fault> {
    rows.iter().map(|row| Ok((codec::job_id(row.try_get(0)?), row.try_get(1)?))).collect()
}

/// How long until a job may be leased: zero when one may be now, `None` when none waits that time alone would bring.
pub(super) fn next_due(row: Option<&Row>, now: Timestamp) -> Result<Option<Duration>, Error> {
    let Some(row) = row else { return Ok(None) };
    if row.try_get(0)? {
        return Ok(Some(Duration::ZERO));
    }
    Ok(row.try_get::<_, Option<i64>>(1)?.map(|due| to_instant(due).since(now)))
}
