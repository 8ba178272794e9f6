//! The table of all keys outside `[servers]`: what each takes, its default, and what it is for. Reading, the environment mapping and
//! `config print` all go by it, so that no key can exist in one of them only.

use super::kind::Kind;

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    /// Its path in the file.
    pub(super) path: &'static str,
    pub(super) kind: Kind,
    /// As text; `None`: what holds is decided where it is used.
    pub(super) default: Option<&'static str>,
    pub(super) about: &'static str,
}

/// What environment variables for keys begin with.
pub(super) const ENV_PREFIX: &str = "METAMCP_";

const fn key(path: &'static str, kind: Kind, default: Option<&'static str>, about: &'static str) -> Key {
    Key { path, kind, default, about }
}

const fn number(min: u64, max: u64) -> Kind {
    Kind::Number { min, max }
}

/// Every key, in the order they are printed: those without a section first, then section by section.
pub(super) const KEYS: &[Key] = &[
    key(
        "store",
        Kind::Store,
        Some("embedded:"),
        "where jobs are kept: embedded:, memory:, a directory, redis://… or postgres://…",
    ),
    key("store_read_url", Kind::Place, None, "a replica of the PostgreSQL store, for lists and counts"),
    key("server.listen", Kind::Address, Some("127.0.0.1:7300"), "address of the REST API; port 0 takes a free one"),
    key("server.allow_remote", Kind::Bool, Some("false"), "listen beyond this machine although nobody has to log in"),
    key(
        "server.allowed_hosts",
        Kind::Texts,
        Some(""),
        "further host names the server answers to, such as its DNS name",
    ),
    key("server.data_dir", Kind::Path, None, "folder of the embedded store; belongs to one process at a time"),
    key("server.body_bytes_max", number(1_024, 256 << 20), Some("2097152"), "largest request body, in bytes"),
    key("server.connections_max", number(1, 65_536), Some("1024"), "most connections at a time"),
    key("server.wait_ms_max", number(0, 600_000), Some("60000"), "longest `wait_ms` that is accepted, in milliseconds"),
    key("server.drain_s", number(0, 3_600), Some("10"), "how long running calls may go on after SIGTERM, in seconds"),
    key("worker.concurrency", number(1, 4_096), Some("16"), "most jobs at a time"),
    key("worker.lanes", Kind::Texts, Some("light,heavy"), "lanes that are served, the first first"),
    key(
        "worker.lane_concurrency",
        Kind::Texts,
        Some(""),
        "most jobs of a lane at a time in this process, such as heavy=2",
    ),
    key(
        "worker.server_concurrency",
        number(1, 4_096),
        None,
        "most jobs at a time that one server takes up; three quarters of all when there are several servers",
    ),
    key("worker.leased_max", Kind::Texts, Some(""), "most jobs of a lane at a time over all workers, such as heavy=8"),
    key("worker.weights", Kind::Texts, Some(""), "turns a tenant gets to another's one, such as acme=3"),
    key("worker.threads", number(1, 64), Some("1"), "threads of `metamcp worker`"),
    key(
        "results.url",
        Kind::Place,
        None,
        "where large results are kept: s3://bucket/prefix or a directory that all processes share",
    ),
    key(
        "results.inline_bytes_max",
        number(0, 1 << 20),
        Some("16384"),
        "results up to this stay in the store, in bytes",
    ),
    key(
        "results.cache_bytes_max",
        number(0, 1 << 40),
        Some("67108864"),
        "results kept in memory for reading, in bytes",
    ),
    key("jobs.attempts_max", number(1, 100), Some("4"), "failed attempts after which a job is dead"),
    key("jobs.lost_max", number(1, 100), Some("3"), "lost leases after which a job is dead"),
    key("jobs.lease_s", number(3, 3_600), Some("30"), "how long a lease lasts without a heartbeat, in seconds"),
    key("jobs.deadline_s", number(1, 31_622_400), Some("3600"), "deadline of a task that names none, in seconds"),
    key("jobs.retain_days", number(1, 3_650), Some("7"), "how long an ended job and its result are kept, in days"),
    key("jobs.backoff_base_ms", number(1, 3_600_000), Some("1000"), "first pause after a failed attempt; doubles"),
    key("jobs.backoff_max_s", number(1, 86_400), Some("60"), "longest pause between attempts, in seconds"),
    key("jobs.input_wait_s", number(1, 31_622_400), Some("86400"), "how long a job waits for an answer, in seconds"),
    key(
        "jobs.discover_wait_s",
        number(0, 60),
        Some("15"),
        "how long the first submission waits for servers to come up, in seconds",
    ),
    key(
        "matcher.learn",
        Kind::Bool,
        Some("true"),
        "raise tools that served similar needs before, lower those that failed",
    ),
    key(
        "matcher.synonyms",
        Kind::Texts,
        Some(""),
        "groups of words that needs and tools use for one another, such as \"ticket issue card\"",
    ),
    key("matcher.dense", Kind::Bool, Some("true"), "also match by meaning, with a table of word vectors"),
    key(
        "matcher.dense_table",
        Kind::Path,
        None,
        "file with the table of word vectors, as `cargo xtask distil` writes it; else the built-in one",
    ),
    key("gateway.enabled", Kind::Bool, Some("true"), "serve MCP at /mcp and /mcp/NAME"),
    key(
        "gateway.list",
        Kind::Choice(&["full", "search", "both"]),
        Some("full"),
        "what /mcp lists: every tool, only the tools that find tools, or both",
    ),
    key("gateway.page_items", number(1, 100_000), Some("10000"), "most entries on one page of a list"),
    key("gateway.list_ttl_s", number(0, 86_400), Some("60"), "how long clients may take a list for fresh, in seconds"),
    key(
        "gateway.grace_s",
        number(0, 86_400),
        Some("60"),
        "how long a server that went down stays in the lists, in seconds",
    ),
    key(
        "gateway.refresh_s",
        number(1, 86_400),
        Some("300"),
        "how often the lists of a server are read that tells of no change, in seconds",
    ),
    key(
        "gateway.upgrade_after_s",
        number(0, 86_400),
        Some("10"),
        "when a call becomes a task, for clients that take tasks, in seconds; 0: never",
    ),
    key(
        "gateway.detach_after_s",
        number(0, 86_400),
        Some("60"),
        "when a call is answered with a handle, for clients that do not, in seconds; 0: never",
    ),
    key(
        "gateway.result_bytes_max",
        number(1_024, 64 << 20),
        Some("262144"),
        "results above this come back as a pointer, in bytes",
    ),
    key("gateway.heavy_lanes", Kind::Texts, Some("heavy"), "lanes whose tools become tasks at once"),
    key("log.level", Kind::Text, None, "such as warn or info,metamcp_core=debug; info for serve, else warn"),
    key("log.format", Kind::Choice(&["text", "json"]), Some("text"), "form of the log on stderr"),
    key("builtin.code.enabled", Kind::Bool, Some("true"), "offer the server `code` in this process"),
    key("builtin.code.roots", Kind::Paths, Some("."), "folders the server `code` may read"),
];

/// The key of this path.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

impl Key {
    /// The environment variable that sets it: sections are parted by two underscores.
    pub(super) fn variable(&self) -> String {
        match self.path {
            // The usual name for a log filter.
            "log.level" => format!("{ENV_PREFIX}LOG"),
            path => format!("{ENV_PREFIX}{}", path.replace('.', "__").to_uppercase()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_value_of_its_key() {
        for key in KEYS {
            if let Some(default) = key.default {
                key.kind.read_text(default).unwrap_or_else(|e| panic!("{}: {e}", key.path));
            }
        }
    }

    #[test]
    fn no_two_keys_share_a_variable() {
        let variables: std::collections::BTreeSet<_> = KEYS.iter().map(Key::variable).collect();
        assert_eq!(variables.len(), KEYS.len());
        assert!(variables.contains("METAMCP_SERVER__LISTEN"));
    }
}
