//! Redis 7 or newer as the place of what MetaMCP must not forget: one server, Sentinel, or a cluster.
//!
//! ```text
//! address, options   where it is and how it is used, from one address
//! link, pool         connections: few, shared, replaced when they are useless
//! script             Lua by its hash, sent again to a server that has forgotten it
//! error              what went wrong, and what to do about it
//! check, master      what the server may lose, told at the start
//! wake, waiters      waits for work without asking again and again
//! store              one namespace, open: its jobs, results, events and records
//! scripts, calls     the moves of the queue, what is said to them and what they answer
//! head, words        how jobs are written
//! ```
//! All keys begin with `{namespace}:`. The braces put them into one slot, so a script may touch them all on a cluster too.

mod address;
mod bodies;
mod calls;
mod check;
mod error;
mod events;
mod head;
mod jobs;
mod link;
mod list;
mod master;
mod namespace;
mod news;
mod nodes;
mod options;
mod pointer;
mod pool;
mod records;
mod results;
mod script;
mod scripts;
mod store;
mod waiters;
mod wake;
mod words;

pub use self::{
    check::ServerReport,
    events::RedisEventBus,
    jobs::RedisJobStore,
    namespace::{EVENTS_KEPT_MAX, RESULT_BYTES, RedisStoreOptions},
    options::{
        CONNECT_MS, NAMESPACE_BYTES_MAX, POOL_SIZE, POOL_SIZE_MAX, RESPONSE_MS, RedisOptions, TIME_MS_MAX, WAIT_MS,
        WAIT_REPLICAS_MAX,
    },
    pool::RedisPool,
    records::RedisRecordStore,
    results::RedisResultStore,
    script::{Script, ScriptCall, WhenFull},
    store::RedisStore,
    wake::{RedisWake, wake_key},
};
