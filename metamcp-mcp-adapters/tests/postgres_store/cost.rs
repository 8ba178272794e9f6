//! What the server looks at for a call does not grow with the jobs that have ended; and what else only the tables show.

use std::{num::NonZeroU16, sync::Arc, time::Duration};

use bytes::Bytes;
use metamcp_core::{
    auth::Principal,
    error::StoreErrorKind,
    id::{JobId, Lane, TenantId},
    queue::{Fenced, Final, Finish, JobError, JobErrorCode, JobQuery, JobState, JobStore, LeaseKey, NewJob},
    result::{ByteRange, ResultMeta, ResultStore},
    testing::job_store::new_job,
};
use metamcp_mcp_adapters::{
    store::postgres::{POSTGRES_RESULT_BYTES_MAX, PostgresJobStore},
    testing::{PostgresServer, PostgresSetup},
};

use crate::fixture::{at, done, fresh_schema, open, shared_server, want};

/// Jobs of each kind that one round moves.
const JOBS: usize = 10;

/// Every call that is not about one job, on a lane that has live jobs, dead letters and some that end.
async fn round(jobs: &PostgresJobStore) {
    let new: Vec<NewJob> = (0..JOBS).map(|_| new_job()).collect();
    jobs.enqueue(&new).await.unwrap();
    let leased = jobs.lease(&want("w", 5)).await.unwrap().jobs;
    let ends: Vec<_> = leased.iter().map(|leased| done(leased.key)).collect();
    jobs.finish(&ends).await.unwrap();
    jobs.counts(&Lane::light()).await.unwrap();
    jobs.lanes().await.unwrap();
    jobs.maintain(NonZeroU16::new(100).unwrap()).await.unwrap();
    for states in [vec![JobState::Ready, JobState::Leased], vec![JobState::Dead], vec![]] {
        let mut query = JobQuery::default();
        (query.states, query.limit) = (states, 5);
        jobs.list(&query).await.unwrap();
        query.owner = Some(Principal::new(TenantId::new("quiet").unwrap(), "somebody"));
        jobs.list(&query).await.unwrap();
    }
}

/// Rows of jobs that the server looks at for two rounds, between which so many jobs have come and ended.
async fn looked_at(server: &PostgresServer, ended: usize) -> i64 {
    let schema = fresh_schema();
    let store = open(&at(&server.url(), &schema)).await;
    let jobs = store.jobs();
    // Statements are planned now, while the tables are empty.
    round(&jobs).await;
    let fill = format!(
        "set search_path to {schema};
        create function old(n integer) returns uuid language sql as $$ select lpad(to_hex(n), 32, '0')::uuid $$;
        insert into job (id, lane, tenant, subject, priority, state, created_at, updated_at, due_at, place, wake, wake_at, finished_at,
            attempts_max, lost_max, request_digest, terms)
        select old(n), 'light', 'local', 'local', 0, 6, 1, 1, 1, 1, 4, 9000000000000000, 1, 1, 1, sha256('x'),
            '{{\"retain\":{{\"secs\":1,\"nanos\":0}}}}' from generate_series(1, {ended}) n;
        insert into job_body (id, tenant, subject, body) select old(n), 'local', 'local', '{{}}' from generate_series(1, {ended}) n"
    );
    server.psql(&fill).await.unwrap();
    round(&jobs).await;
    drop((jobs, store));
    // A session tells what it looked at when it ends.
    let sessions = "select count(*) from pg_stat_activity where application_name = 'metamcp'";
    while server.psql(sessions).await.unwrap() != "0" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let sum = format!(
        "select sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) from pg_stat_user_tables
        where schemaname = '{schema}' and relname in ('job', 'job_body')"
    );
    server.psql(&sum).await.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_call_looks_at_does_not_grow_with_jobs_that_have_ended() {
    let server = PostgresServer::start(PostgresSetup::default()).await.unwrap();
    let (few, many) = (looked_at(&server, 100).await, looked_at(&server, 20_000).await);
    // Lists that are told no state look at a page, and no further.
    assert!(many <= few + 200, "{few} rows with 100 ended jobs, {many} with 20 000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_body_costs_its_own_job_and_no_other() {
    let (server, schema) = (shared_server().await, fresh_schema());
    let jobs = open(&at(&server.url(), &schema)).await.jobs();
    let new: Vec<NewJob> = (0..3).map(|_| new_job()).collect();
    jobs.enqueue(&new).await.unwrap();
    let damage = format!("update {schema}.job_body set body = 'no body' where id = '{}'", new[1].id);
    server.psql(&damage).await.unwrap();
    let wish = want("w", 3);
    for _ in 0..2 {
        let leased = jobs.lease(&wish).await.unwrap().jobs;
        assert_eq!(leased.iter().map(|leased| leased.key.job).collect::<Vec<_>>(), [new[0].id, new[2].id]);
    }
    let told = jobs.maintain(NonZeroU16::MAX).await.unwrap().reclaimed;
    assert_eq!(told, [(new[1].id, JobState::Dead)], "its end is told");
    let job = jobs.get(new[1].id).await.unwrap().unwrap();
    assert_eq!(job.head.error.map(|error| error.code), Some(JobErrorCode::Internal));
    assert!(job.body.task.need.text.contains("cannot be read"), "its owner reads it");
    assert_eq!(jobs.list(&JobQuery::default()).await.unwrap().jobs.len(), 3, "and every other job of a list");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_text_is_kept_as_it_is() {
    let (server, schema) = (shared_server().await, fresh_schema());
    let jobs = open(&at(&server.url(), &schema)).await.jobs();
    let odd = "\0 'quoted' \\ \u{1F980} \u{FEFF}";
    let owner = Principal::new(TenantId::new("t").unwrap(), odd);
    let mut job = NewJob { owner: owner.clone(), idempotency_key: Some(odd.to_owned()), ..new_job() };
    let mut body = (*job.body).clone();
    body.task.labels.insert(odd.to_owned(), odd.to_owned());
    job.body = Arc::new(body);
    jobs.enqueue(std::slice::from_ref(&job)).await.unwrap();
    let leased = jobs.lease(&want("w", 1)).await.unwrap().jobs;
    let error = JobError::new(JobErrorCode::ServerError, odd);
    let end = Finish { lease: leased[0].key, end: Final::Dead(error.clone()) };
    assert_eq!(jobs.finish(&[end]).await.unwrap(), [Fenced::Ok(JobState::Dead)]);
    let mut query = JobQuery::default();
    (query.owner, query.label) = (Some(owner), Some((odd.to_owned(), odd.to_owned())));
    let read = jobs.list(&query).await.unwrap().jobs.remove(0);
    assert_eq!((&read.head.error, &read.body), (&Some(error), &job.body));
    assert_eq!(jobs.keyed(&job.owner.tenant, odd).await.unwrap(), Some(job.id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_up_to_the_bound_is_kept_and_a_larger_one_is_told_where_it_belongs() {
    let (server, schema) = (shared_server().await, fresh_schema());
    let results = open(&at(&server.url(), &schema)).await.results();
    let lease = LeaseKey { job: JobId::MIN, epoch: 1, nonce: 1 };
    let meta =
        || ResultMeta { tenant: TenantId::new("t").unwrap(), media_type: "text/plain".to_owned(), expires_at: None };
    let body = Bytes::from((0..POSTGRES_RESULT_BYTES_MAX).map(|n| n.to_be_bytes()[7]).collect::<Vec<u8>>());
    let pointer = results.put(lease, body.clone(), meta()).await.unwrap();
    assert!(results.get(&pointer, None).await.unwrap().bytes == body);
    let part = results.get(&pointer, Some(ByteRange { start: 1_000_000, len: u64::MAX })).await.unwrap();
    assert!(part.bytes == body.slice(1_000_000..));
    let error = results.put(lease, vec![0; POSTGRES_RESULT_BYTES_MAX + 1].into(), meta()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Invalid);
    assert!(error.to_string().contains("object store"), "{error}");
    server.psql(&format!("update {schema}.result set body = substring(body from 2) || 'x'::bytea")).await.unwrap();
    assert_eq!(results.get(&pointer, None).await.unwrap_err().kind(), StoreErrorKind::Corrupt);
}
