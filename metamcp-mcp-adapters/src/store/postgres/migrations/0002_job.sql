-- Jobs, lanes, and what leasing remembers. Instants are milliseconds since 1970; the largest bigint stands for "never".
-- Texts that callers choose are bytea or json: text cannot hold every character.

-- What changes of a job. Rows are small, so that each of their few moves writes little; what can be large is null until it is there and kept
-- out of line. What never changes and what is large is in job_body.
create table job (
    id uuid primary key,
    lane text collate "C" not null,
    tenant text collate "C" not null,
    subject bytea not null,
    priority smallint not null,
    -- 0 waiting, 1 delayed, 2 ready, 3 ready and blocked by its concurrency key, 4 leased, 5 input, 6 done, 7 dead, 8 cancelled
    state smallint not null,
    created_at bigint not null,
    updated_at bigint not null,
    due_at bigint not null,
    -- Order within the lane and tenant: due_at less the head start of the priority, shifted to stay above zero.
    place bigint not null,
    -- What time does next to the job, and when: 0 deadline, 1 input, 2 lease, 3 due, 4 removal.
    wake smallint,
    wake_at bigint,
    started_at bigint,
    finished_at bigint,
    deadline_at bigint,
    attempts bigint not null default 0,
    attempts_max bigint not null,
    lost bigint not null default 0,
    lost_max bigint not null,
    -- The fencing token: both must match.
    epoch bigint not null default 0,
    nonce bigint not null default 0,
    worker text collate "C",
    lease_until bigint,
    -- 0 finished, 1 failed, 2 released, 3 parked, 4 lost
    lease_end smallint,
    maybe_called boolean not null default false,
    -- The slot of its rate key is taken for the lease to come.
    admitted boolean not null default false,
    -- It has ended and others may still wait for it.
    unsettled boolean not null default false,
    -- Live jobs that name this one in `after`.
    users bigint not null default 0,
    candidate integer not null default 0,
    input_until bigint,
    after uuid[],
    waits_on uuid[],
    concurrency_key bytea,
    concurrency_max bigint,
    -- The number of the advisory lock of the key: whoever changes who holds the key, or is blocked by it, has that lock.
    concurrency_lock bigint,
    idempotency_key bytea,
    request_digest bytea not null,
    cached_from uuid,
    result text collate "C",
    cancel_reason json,
    error json,
    progress json,
    -- Checkpoint, requests and answer.
    talk json,
    -- Deadline and retention as spans, rate key.
    terms json not null
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- Leasing. None of these grows with jobs that have ended.
create index job_ready on job (lane, tenant, place, id) where state = 2;
create index job_due on job (lane, state, due_at, id) where state in (1, 2);
create index job_concurrency on job (concurrency_lock, state, place, id) where concurrency_lock is not null and state in (3, 4);
-- Maintenance.
create index job_timer on job (wake_at, wake, id) where wake_at is not null and state < 6;
create index job_removal on job (wake_at, id) where wake_at is not null and state >= 6;
create index job_unsettled on job (id) where unsettled;
-- Lists of live jobs and of dead letters.
create index job_live on job (id) where state < 6;
create index job_dead on job (id) where state = 7;
-- The digest, as a key may be longer than an index takes.
create unique index job_idempotency on job (tenant, sha256(idempotency_key)) where idempotency_key is not null;

-- What never changes of a job, written once.
create table job_body (
    id uuid primary key,
    tenant text collate "C" not null,
    subject bytea not null,
    -- A digest for each label: to be found by, not to be read.
    labels bytea[],
    body bytea not null
);
create index job_body_owner on job_body (tenant, subject, id);

-- Who waits for whom: a row for each entry of waits_on.
create table job_after (
    parent uuid not null,
    child uuid not null,
    primary key (parent, child)
);

-- Lanes that were ever paused or leased from by turns.
create table lane (
    lane text collate "C" primary key,
    paused boolean not null default false,
    virtual_time bigint not null default 0,
    -- The tenant up to which the last lease looked, when there were too many for one.
    seen_up_to text collate "C" not null default ''
) with (fillfactor = 20);

-- How far ahead of their lane tenants are; who is not here is level with it.
create table lane_turn (
    lane text collate "C" not null,
    tenant text collate "C" not null,
    pass bigint not null,
    primary key (lane, tenant)
) with (fillfactor = 50);

-- How many jobs stand where: the sum over the shards of a lane. A transaction adds to any shard that no other one holds, so nobody waits.
create table lane_count (
    lane text collate "C" not null,
    shard uuid not null default gen_random_uuid(),
    ready bigint not null default 0,
    blocked bigint not null default 0,
    waiting bigint not null default 0,
    delayed bigint not null default 0,
    leased bigint not null default 0,
    input bigint not null default 0,
    dead bigint not null default 0,
    primary key (lane, shard)
) with (fillfactor = 20, autovacuum_vacuum_cost_delay = 0);

-- The last wish for work of each worker and what it was given, so that a wish whose answer was lost gets the same answer.
create table lease_request (
    worker text collate "C" primary key,
    request bigint not null,
    nonce bigint not null,
    jobs uuid[] not null,
    epochs bigint[] not null,
    at bigint not null
) with (fillfactor = 50);
create index lease_request_at on lease_request (at);

-- Up to when the slots of a rate key are taken.
create table rate (
    key bytea primary key,
    taken_until bigint not null
) with (fillfactor = 50);
create index rate_taken_until on rate (taken_until);
