//! Looking at jobs: one, the one that has a key, a page of them, counts of lanes, the lanes.
//!
//! Pages and counts may be stale and come from the replica, where there is one; a job that is asked for by its id or key is as it stands.

use std::sync::Arc;

use metamcp_core::{
    error::{StoreError, StoreErrorKind, StoreResult},
    id::{JobId, Lane, TenantId},
    matching::Route,
    pointer::Digest,
    queue::{Job, JobBody, JobPage, JobQuery, JobState, LANES_TOLD_MAX, LaneCounts},
    task::{Labels, Need, TaskRecord},
};
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::{
    super::{Engine, Parameters, STORE},
    codec::{self, HEAD_COLUMNS, head_columns, job_id, state_numbers, uuid},
    columns::label_digest,
    hold::bigint,
};

/// Most jobs that are looked at for one page of a list.
const LIST_SCAN_MAX: usize = 2_000;

const GET: &str =
    concat!("select ", head_columns!(), ", b.body from job j join job_body b on b.id = j.id where j.id = $1");
const KEYED: &str = "
select id from job where tenant = $1 and sha256(idempotency_key) = $2 and idempotency_key is not null";

/// A page of what one of the ways to look through jobs finds: a bounded number of ids, and of these the jobs that fit.
macro_rules! list {
    ($scan:literal) => {
        concat!(
            "with seen as materialized (",
            $scan,
            "), fits as (select ",
            head_columns!(),
            ", b.body
    from seen s join job j on j.id = s.id join job_body b on b.id = s.id
    where ($3::text is null or b.tenant = $3) and ($4::bytea is null or b.subject = $4) and ($5::smallint[] is null or j.state = any($5))
        and ($6::text is null or j.lane = $6) and ($7::bytea is null or $7 = any(b.labels))
    order by j.id desc limit $8)
select f.*, n.seen, n.last from (select count(*) as seen, (select id from seen order by id limit 1) as last from seen) n
left join fits f on true order by f.id desc"
        )
    };
}
const LIST_ALL: &str = list!("select id from job where id < $1 order by id desc limit $2");
const LIST_LIVE: &str = list!("select id from job where id < $1 and state < 6 order by id desc limit $2");
const LIST_DEAD: &str = list!("select id from job where id < $1 and state = 7 order by id desc limit $2");
const LIST_OWNED: &str = list!(
    "select id from job_body where tenant = $3 and subject = $4 and id < $1 order by tenant desc, subject desc, id desc limit $2"
);

const COUNTS: &str = "
select coalesce(sum(ready), 0)::bigint, coalesce(sum(blocked), 0)::bigint, coalesce(sum(waiting), 0)::bigint,
    coalesce(sum(delayed), 0)::bigint, coalesce(sum(leased), 0)::bigint, coalesce(sum(input), 0)::bigint, coalesce(sum(dead), 0)::bigint,
    coalesce($2::bigint, floor(extract(epoch from clock_timestamp()) * 1000)::bigint)
        - (select due_at from job where lane = $1 and state = 2 order by due_at limit 1),
    exists (select from lane where lane = $1 and paused)
from lane_count where lane = $1";
const LANES: &str = "
select lane from (
    select lane from lane_count group by lane having sum(ready + blocked + waiting + delayed + leased + input + dead) > 0
    union select lane from lane where paused
) told order by lane limit $1";

pub(super) async fn get(engine: &Engine, id: JobId) -> StoreResult<Option<Job>> {
    let rows = engine.pools.write().query(GET, &[&uuid(id)]).await?;
    rows.first().map(|row| job(engine, row)).transpose()
}

pub(super) async fn keyed(engine: &Engine, tenant: &TenantId, key: &str) -> StoreResult<Option<JobId>> {
    let digest = Digest::of(key.as_bytes());
    let rows = engine.pools.write().query(KEYED, &[&tenant.as_str(), &&digest.as_bytes()[..]]).await?;
    let id = rows.first().map(|row| row.try_get::<_, Uuid>(0)).transpose();
    Ok(id.map_err(|e| engine.failed(e))?.map(job_id))
}

/// The way that looks at the fewest jobs that are not wanted.
fn scan(query: &JobQuery) -> &'static str {
    let only = |holds: fn(&JobState) -> bool| !query.states.is_empty() && query.states.iter().all(holds);
    if only(|state| !state.is_final()) {
        LIST_LIVE
    } else if only(|state| *state == JobState::Dead) {
        LIST_DEAD
    } else if query.owner.is_some() {
        LIST_OWNED
    } else {
        LIST_ALL
    }
}

/// Whether every job that is looked at is wanted.
fn fits_all(query: &JobQuery) -> bool {
    let by_state = scan(query) == LIST_DEAD && query.owner.is_none();
    (query.states.is_empty() || by_state) && query.lane.is_none() && query.label.is_none()
}

pub(super) async fn list(engine: &Engine, query: &JobQuery) -> StoreResult<JobPage> {
    let size = query.page_size();
    let before = uuid(query.before.unwrap_or(JobId::MAX));
    let tenant = query.owner.as_ref().map(|owner| owner.tenant.as_str());
    let subject = query.owner.as_ref().map(|owner| owner.subject.as_bytes());
    let states: Option<Vec<i16>> =
        (!query.states.is_empty()).then(|| query.states.iter().flat_map(|state| state_numbers(*state)).collect());
    let lane = query.lane.as_ref().map(Lane::as_str);
    let label = query.label.as_ref().map(|(key, value)| label_digest(key, value));
    let label = label.as_ref().map(|digest| &digest.as_bytes()[..]);
    // One more than a page tells whether there is another.
    let hits_max = bigint(size + 1);
    let scan_max = if fits_all(query) { hits_max } else { bigint(LIST_SCAN_MAX) };
    let parameters: Parameters<'_> = &[&before, &scan_max, &tenant, &subject, &states, &lane, &label, &hits_max];
    let rows = engine.pools.read().query(scan(query), parameters).await?;
    let mut page = JobPage::default();
    for row in rows.iter().take(size) {
        // There is one row without a job when none fits.
        if row.try_get::<_, Option<Uuid>>(0).map_err(|e| engine.failed(e))?.is_some() {
            page.jobs.push(job(engine, row)?);
        }
    }
    let (seen, last) = rows.first().map_or(Ok((0, None)), seen).map_err(|e| engine.failed(e))?;
    page.next =
        if rows.len() > size { page.jobs.last().map(|job| job.head.id) } else { last.filter(|_| seen >= scan_max) };
    Ok(page)
}

fn seen(row: &Row) -> Result<(i64, Option<JobId>), Error> {
    Ok((row.try_get(HEAD_COLUMNS + 1)?, row.try_get::<_, Option<Uuid>>(HEAD_COLUMNS + 2)?.map(job_id)))
}

pub(super) async fn counts(engine: &Engine, lane: &Lane) -> StoreResult<LaneCounts> {
    let rows = engine.pools.read().query(COUNTS, &[&lane.as_str(), &engine.time.now()]).await?;
    let counts = rows.first().map_or(Ok(LaneCounts::default()), read_counts);
    counts.map_err(|e| engine.failed(e))
}

fn read_counts(row: &Row) -> Result<LaneCounts, Error> {
    let count =
        |at: usize| Ok(u64::try_from(row.try_get::<_, Option<i64>>(at)?.unwrap_or_default()).unwrap_or_default());
    Ok(LaneCounts {
        ready: count(0)?,
        blocked: count(1)?,
        waiting: count(2)?,
        delayed: count(3)?,
        leased: count(4)?,
        input: count(5)?,
        dead: count(6)?,
        oldest_ready_ms: count(7)?,
        paused: row.try_get(8)?,
    })
}

pub(super) async fn lanes(engine: &Engine) -> StoreResult<Vec<Lane>> {
    let rows = engine.pools.read().query(LANES, &[&bigint(LANES_TOLD_MAX)]).await?;
    let lane = |row: &Row| {
        let name: &str = row.try_get(0).map_err(|e| engine.failed(e))?;
        Lane::new(name)
            .map_err(|e| StoreError::new(StoreErrorKind::Corrupt, STORE, "a lane's name cannot be read").with_source(e))
    };
    rows.iter().map(lane).collect()
}

/// The job of a row that is a head with a body behind it.
fn job(engine: &Engine, row: &Row) -> StoreResult<Job> {
    let head = codec::head(row)?.head;
    let body: &[u8] = row.try_get(HEAD_COLUMNS).map_err(|e| engine.failed(e))?;
    let body = read_body(body).unwrap_or_else(|error| {
        tracing::error!(job = %head.id, %error, "stored body cannot be read");
        damaged(&error)
    });
    Ok(Job { head, body: Arc::new(body) })
}

/// The body of a job.
pub(super) fn read_body(body: &[u8]) -> Result<JobBody, serde_json::Error> {
    serde_json::from_slice(body)
}

/// Stands for a body that cannot be read, so that its owner still sees the job, how it ended, and every other job of a list.
fn damaged(error: &serde_json::Error) -> JobBody {
    let need = Need::new(format!("(the stored request cannot be read: {error})"));
    JobBody { task: TaskRecord { need, labels: Labels::new(), cache: None }, route: Route::default() }
}
