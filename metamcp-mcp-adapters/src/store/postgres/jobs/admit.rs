//! The way in: new jobs, each accepted, known already, in conflict, or one too many. Also within a transaction of the caller's own.
//!
//! Two round trips whatever the number of jobs: what they meet is read and judged entry by entry, and then all that was accepted is written.
//! Another process may take an id or a key in between: its insert then fails, and the whole call is judged anew.

use std::collections::HashMap;

use metamcp_core::{
    error::{StoreError, StoreErrorKind, StoreResult},
    id::{JobId, Lane, TenantId},
    pointer::Digest,
    queue::{Enqueued, JobHead, JobState, NewJob, moves},
};
use tokio::try_join;
use tokio_postgres::{Row, Transaction, error::SqlState};
use uuid::Uuid;

use super::{
    super::{
        Engine, STORE,
        tx::{Act, Fault, Tx},
    },
    codec::{head_columns, job_id, state_of},
    columns::uuids,
    heads::{Before, Heads},
    hold::{NOW, instant, take_in, watch_lanes},
    save::{Counts, Woken, save},
};

/// How often a call is judged anew because another process took an id or a key meanwhile.
pub(super) const RACES_MAX: usize = 8;

const PARENTS: &str =
    concat!("select ", head_columns!(), " from job j where j.id = any($1) order by j.id for no key update");
const STANDING: &str = "select id, state from job where id = any($1)";
const KEYED: &str = "
select u.n, j.id, j.request_digest, j.state
from unnest($1::text[], $2::bytea[]) with ordinality u(tenant, digest, n)
join job j on j.tenant = u.tenant and sha256(j.idempotency_key) = u.digest and j.idempotency_key is not null";
/// What waits for its turn, whatever it waits for.
const BACKLOG: &str = "
select lane, sum(ready + blocked + waiting + delayed)::bigint from lane_count where lane = any($1) group by lane";

/// A job that has an idempotency key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keyed {
    pub(super) job: JobId,
    digest: Digest,
    state: JobState,
}

/// What new jobs meet.
pub(super) struct Met {
    pub(super) heads: Heads,
    pub(super) standing: HashMap<JobId, JobState>,
    pub(super) keyed: HashMap<(TenantId, String), Keyed>,
    backlog: HashMap<Lane, u64>,
}

/// What is asked about new jobs.
#[derive(Default)]
pub(super) struct Asked<'j> {
    pub(super) ids: Vec<JobId>,
    pub(super) keys: Vec<(&'j TenantId, &'j str)>,
    pub(super) lanes: Vec<&'j str>,
    pub(super) parents: Vec<JobId>,
}

impl Met {
    /// Begins, and reads what these jobs meet. Parents are locked: they neither end nor go until this is committed.
    pub(super) async fn read(tx: &mut Tx<'_>, engine: &Engine, asked: &Asked<'_>) -> Result<Self, Fault> {
        let [now, parents, standing, keyed, backlog] = tx.statements([NOW, PARENTS, STANDING, KEYED, BACKLOG]).await?;
        let (given, ids, parent_ids) = (engine.time.now(), uuids(&asked.ids), uuids(&asked.parents));
        let tenants: Vec<&str> = asked.keys.iter().map(|(tenant, _)| tenant.as_str()).collect();
        let digests: Vec<Digest> = asked.keys.iter().map(|(_, key)| Digest::of(key.as_bytes())).collect();
        let digests: Vec<&[u8]> = digests.iter().map(|digest| &digest.as_bytes()[..]).collect();
        tx.opens();
        let ((), now, parents, standing, keyed, backlog) = try_join!(
            biased;
            tx.begin(),
            tx.query(&now, [&given]),
            tx.query_if(!parent_ids.is_empty(), &parents, [&parent_ids]),
            tx.query(&standing, [&ids]),
            tx.query_if(!tenants.is_empty(), &keyed, [&tenants, &digests]),
            tx.query_if(!asked.lanes.is_empty(), &backlog, [&asked.lanes]),
        )?;
        let mut heads = Heads::new(instant(&now)?);
        take_in(&mut heads, &parents)?;
        Ok(Self {
            heads,
            standing: standing.iter().map(read_standing).collect::<Result<_, Fault>>()?,
            keyed: keyed.iter().map(|row| read_keyed(row, &asked.keys)).collect::<Result<_, Fault>>()?,
            backlog: backlog.iter().map(read_backlog).collect::<Result<_, Fault>>()?,
        })
    }

    /// Accepts a job, or says why not.
    fn judge(&mut self, job: &NewJob, engine: &Engine) -> Enqueued {
        if let Some(state) = self.standing.get(&job.id) {
            return Enqueued::Duplicate { job: job.id, state: *state };
        }
        let key = job.idempotency_key.as_ref().map(|key| (job.owner.tenant.clone(), key.clone()));
        if let Some(keyed) = key.as_ref().and_then(|key| self.keyed.get(key)) {
            return if keyed.digest == job.request_digest {
                Enqueued::Duplicate { job: keyed.job, state: keyed.state }
            } else {
                Enqueued::Conflict { job: keyed.job }
            };
        }
        let backlog = self.backlog.entry(job.lane.clone()).or_default();
        if *backlog >= engine.terms.limits.lane_jobs_max {
            return Enqueued::Full { limit: engine.terms.limits.lane_jobs_max };
        }
        let stands =
            |parent: &&JobId| self.heads.get(**parent).is_some_and(|head| head.owner.tenant == job.owner.tenant);
        if let Some(missing) = job.after.iter().find(|parent| !stands(parent)) {
            return Enqueued::Missing { job: *missing };
        }
        // One that comes held does not wait for its turn.
        *backlog += u64::from(job.held.is_none());
        let head = moves::accept(job, self.heads.now(), self.heads.undone(&job.after));
        self.took(&head, key);
        self.heads.add(head, Before::New(job.body.clone()));
        self.heads.keep_parents(&job.after);
        Enqueued::Ok { durability: engine.durability, at: self.heads.now() }
    }

    /// A job is in: its id and its key are taken for the entries that follow.
    pub(super) fn took(&mut self, head: &JobHead, key: Option<(TenantId, String)>) {
        self.standing.insert(head.id, head.state);
        if let Some(key) = key {
            self.keyed.insert(key, Keyed { job: head.id, digest: head.request_digest, state: head.state });
        }
    }
}

fn read_standing(row: &Row) -> Result<(JobId, JobState), Fault> {
    Ok((job_id(row.try_get(0)?), state_of(row.try_get(1)?)?))
}

fn read_keyed(row: &Row, keys: &[(&TenantId, &str)]) -> Result<((TenantId, String), Keyed), Fault> {
    let unreadable = || StoreError::new(StoreErrorKind::Corrupt, STORE, "an idempotency key cannot be read");
    let at = usize::try_from(row.try_get::<_, i64>(0)? - 1).ok();
    let (tenant, key) = at.and_then(|at| keys.get(at)).ok_or_else(unreadable)?;
    let digest = <[u8; 32]>::try_from(row.try_get::<_, &[u8]>(2)?).map_err(|_| unreadable())?;
    let job = job_id(row.try_get::<_, Uuid>(1)?);
    let keyed = Keyed { job, digest: Digest::from_bytes(digest), state: state_of(row.try_get(3)?)? };
    Ok((((*tenant).clone(), (*key).to_owned()), keyed))
}

fn read_backlog(row: &Row) -> Result<(Lane, u64), Fault> {
    let lane = Lane::new(row.try_get::<_, &str>(0)?);
    let lane = lane.map_err(|_| StoreError::new(StoreErrorKind::Corrupt, STORE, "a lane's name cannot be read"))?;
    Ok((lane, u64::try_from(row.try_get::<_, i64>(1)?).unwrap_or_default()))
}

/// One call. Answers `None` when another process took an id or a key meanwhile.
struct Enqueue<'a> {
    engine: &'a Engine,
    jobs: &'a [NewJob],
}

impl Act for Enqueue<'_> {
    type Output = Option<(Vec<Enqueued>, Woken)>;

    async fn act(&mut self, tx: &mut Tx<'_>) -> Result<Self::Output, Fault> {
        let Self { engine, jobs } = *self;
        let mut asked = Asked::default();
        for job in jobs {
            asked.ids.push(job.id);
            asked.keys.extend(job.idempotency_key.as_deref().map(|key| (&job.owner.tenant, key)));
            asked.lanes.push(job.lane.as_str());
            asked.parents.extend(&job.after);
        }
        let mut met = Met::read(tx, engine, &asked).await?;
        if !asked.parents.is_empty() {
            let mut lanes = met.heads.lanes_at_risk();
            lanes.extend(jobs.iter().map(|job| (job.lane.clone(), 0)));
            // Each of them may be a parent that is looked at.
            lanes.values_mut().for_each(|leaving| *leaving = jobs.len() + asked.parents.len());
            watch_lanes(tx, &mut met.heads, &lanes).await?;
        }
        let answers: Vec<Enqueued> = jobs.iter().map(|job| met.judge(job, engine)).collect();
        match save(tx, &met.heads, Counts::default(), engine.schema()).await {
            Ok(woken) => Ok(Some((answers, woken))),
            Err(Fault::Sql(error)) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
                tx.roll_back().await?;
                Ok(None)
            }
            Err(fault) => Err(fault),
        }
    }
}

pub(super) fn raced() -> StoreError {
    let message = format!("others took the same ids or keys {RACES_MAX} times meanwhile; repeat the call");
    StoreError::new(StoreErrorKind::Unavailable, STORE, message)
}

pub(super) async fn enqueue(engine: &Engine, jobs: &[NewJob]) -> StoreResult<Vec<Enqueued>> {
    for _ in 0..RACES_MAX {
        if let Some((answers, woken)) = engine.transact(Enqueue { engine, jobs }).await? {
            engine.wake(&woken);
            return Ok(answers);
        }
    }
    Err(raced())
}

/// The same within the caller's transaction, which decides whether it has happened.
pub(super) async fn enqueue_in(
    engine: &Engine,
    transaction: &Transaction<'_>,
    jobs: &[NewJob],
) -> StoreResult<Vec<Enqueued>> {
    for _ in 0..RACES_MAX {
        let mut tx = Tx::within(transaction, engine.schema()).await.map_err(|e| engine.failed(e))?;
        let answers = Enqueue { engine, jobs }.act(&mut tx).await;
        match answers {
            Ok(Some((answers, _))) => return Ok(answers),
            Ok(None) => {}
            Err(fault) => {
                // The caller's transaction can go on, unless it is lost anyway.
                let _ = tx.roll_back().await;
                return Err(match fault {
                    Fault::Store(error) => error,
                    Fault::Sql(error) => engine.failed(error),
                });
            }
        }
    }
    Err(raced())
}
