//! What must be true of the tables of a schema at rest, whatever led to it.

use std::io;

use metamcp_mcp_adapters::testing::PostgresServer;

/// Each answers a row for everything that is wrong.
const RULES: [(&str, &str); 8] = [
    (
        "the counts of a lane are those of its jobs",
        "select lane, state, told, are from (
            select c.lane, n.state, n.told, (select count(*) from job j where j.lane = c.lane and j.state = n.state) as are
            from (select lane, sum(waiting) as w, sum(delayed) as d, sum(ready) as r, sum(blocked) as b, sum(leased) as l,
                sum(input) as i, sum(dead) as x from lane_count group by lane) c
            cross join lateral (values (0, w), (1, d), (2, r), (3, b), (4, l), (5, i), (7, x)) n(state, told)
        ) n where told <> are",
    ),
    ("every lane with jobs is counted", "select lane from job where state < 6 except select lane from lane_count"),
    (
        "who waits for whom is known from both sides",
        "(select id, unnest(waits_on) from job except select child, parent from job_after)
         union all (select child, parent from job_after except select id, unnest(waits_on) from job)",
    ),
    (
        "users are counted",
        "select id, users from job p where users <> (select count(*) from job c where c.state < 6 and p.id = any(c.after))",
    ),
    (
        "what waits for an ended job is looked at by maintenance",
        "select a.child from job_after a join job p on p.id = a.parent where p.state >= 6 and not p.unsettled",
    ),
    ("every job has its body and every body its job", "select id from job full join job_body using (id) where lane is null or body is null"),
    (
        "a concurrency key is held no more often than it may be",
        "select concurrency_key from job where state = 4 and concurrency_key is not null
         group by 1 having count(*) > max(concurrency_max)",
    ),
    (
        "somebody will let a blocked job go on",
        "select id from job b where b.state = 3 and not exists (
            select from job h
            where h.concurrency_key = b.concurrency_key and (h.state = 4 or h.state = 2 and h.lane = b.lane))",
    ),
];

/// Checks a schema through a session of its own.
pub(crate) async fn check(server: &PostgresServer, schema: &str) -> Result<(), String> {
    let told = |e: io::Error| e.to_string();
    for (rule, wrong) in RULES {
        let found = server.psql(&format!("set search_path to {schema}; {wrong} limit 3")).await.map_err(told)?;
        if !found.is_empty() {
            return Err(format!("{rule}: {found}"));
        }
    }
    Ok(())
}
