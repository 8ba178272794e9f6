-- Which migrations were applied. A file that was released is never changed: what changes is added as the next one.
create table migration (
    version integer primary key check (version > 0),
    name text not null,
    digest bytea not null,
    applied_at timestamptz not null default now()
);
