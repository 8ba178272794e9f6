-- Who holds a concurrency key, and who is passed over for it: these by lane and bound, so that the first of each is found at once however many
-- there are.
drop index job_concurrency;
create index job_held on job (concurrency_lock) where state = 4 and concurrency_lock is not null;
create index job_blocked on job (concurrency_lock, lane, concurrency_max, place, id) where state = 3;
