-- Results, events and records. Instants are milliseconds since 1970; the largest bigint stands for "never".

-- A body for each pointer. Out of line and not compressed, so that a part of it is read without the rest.
create table result (
    tenant text collate "C" not null,
    job uuid not null,
    digest bytea not null,
    media_type bytea not null,
    expires_at bigint,
    body bytea not null,
    primary key (tenant, job, digest)
);
alter table result alter column body set storage external;
create index result_expires_at on result (expires_at) where expires_at is not null;

-- Cursors are given by adding to the one row of event_span, which is locked until the publisher commits: a cursor that can be read has none
-- before it that is still to come, which a sequence would not promise.
create table event (
    cursor bigint primary key,
    at bigint not null,
    event json not null
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
create table event_span (
    one boolean primary key default true check (one),
    oldest bigint not null,
    newest bigint not null
) with (fillfactor = 10);
insert into event_span (oldest, newest) values (1, 0);

create table record (
    kind text collate "C" not null,
    name bytea not null,
    version bigint not null,
    until bigint,
    value bytea not null,
    primary key (kind, name)
);
create index record_until on record (until) where until is not null;
