//! The scripts, each put together from the parts it needs. They are files beside the code, in `scripts/`.

use std::sync::LazyLock;

use super::script::{Script, WhenFull};

const TIME: &str = include_str!("scripts/parts/time.lua");
const SETS: &str = include_str!("scripts/parts/sets.lua");
const RECORDS: &str = include_str!("scripts/parts/records.lua");
const LANES: &str = include_str!("scripts/parts/lanes.lua");
/// Around what a call over plain jobs gets along without: it is made when the first of its names is asked for. To make a function costs Redis
/// as much as three entries of a sorted set, and each call makes them all anew.
const RARE: [&str; 2] = [
    "local function make_the_rest()",
    "end\nsetmetatable(Q, { __index = function(_, name)\n  setmetatable(Q, nil)\n  make_the_rest()\n  return Q[name]\nend })",
];
/// The queue: `sets` gathers writes, `heads` and `lanes` are what is kept, `index` is derived from heads, `fields` and `index_one` are for
/// heads that are not plain, `moves` are those of one head, `change` is what follows from a move.
const QUEUE: [&str; 11] = [
    TIME,
    SETS,
    include_str!("scripts/parts/heads.lua"),
    LANES,
    include_str!("scripts/parts/index.lua"),
    RARE[0],
    include_str!("scripts/parts/fields.lua"),
    include_str!("scripts/parts/index_one.lua"),
    include_str!("scripts/parts/moves.lua"),
    include_str!("scripts/parts/change.lua"),
    RARE[1],
];

/// `NAME = "file", when memory is full, parts before it`.
macro_rules! scripts {
    ($($name:ident = $file:literal, $when_full:ident, $parts:expr;)*) => {
        $(
            pub(super) static $name: LazyLock<Script> = LazyLock::new(|| {
                let parts: &[&str] = &$parts;
                let body = include_str!(concat!("scripts/", $file, ".lua"));
                Script::new($file, WhenFull::$when_full, &[parts, &[body]].concat())
            });
        )*
    };
}

scripts! {
    ANSWER = "answer", Run, QUEUE;
    CANCEL = "cancel", Run, QUEUE;
    CHECKPOINT = "checkpoint", Run, QUEUE;
    COUNTS = "counts", Run, QUEUE;
    ENQUEUE = "enqueue", Refuse, QUEUE;
    EVENTS_PUBLISH = "events_publish", Run, [TIME];
    FINISH = "finish", Run, QUEUE;
    GET = "get", Run, QUEUE;
    HEARTBEAT = "heartbeat", Run, QUEUE;
    LEASE = "lease", Run, QUEUE;
    LIST = "list", Run, QUEUE;
    MAINTAIN = "maintain", Run, QUEUE;
    NACK = "nack", Run, QUEUE;
    NEXT_DUE = "next_due", Run, [TIME, SETS, LANES];
    OPEN = "open", Run, [TIME];
    PAUSE = "pause", Run, QUEUE;
    RECORDS_DELETE = "records_delete", Run, [TIME, RECORDS];
    RECORDS_GET = "records_get", Run, [TIME, RECORDS];
    RECORDS_LIST = "records_list", Run, [TIME, RECORDS];
    RECORDS_PUT = "records_put", Refuse, [TIME, RECORDS];
    REDRIVE = "redrive", Run, QUEUE;
    RESTORE = "restore", Refuse, QUEUE;
    RESULTS_PUT = "results_put", Run, [TIME, SETS];
    RESULTS_REMOVE = "results_remove", Run, [TIME];
    RESULTS_UPLOAD = "results_upload", Run, [TIME];
}
