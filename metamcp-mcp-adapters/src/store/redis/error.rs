//! Turns errors of Redis into those of stores: what kind each is, and in words what an operator should do about it.

use metamcp_core::error::{StoreError, StoreErrorKind};
use redis::{ErrorKind, RedisError, ServerErrorKind};

/// The store's name in errors.
pub(super) const STORE: &str = "redis";

/// What to do about a login that is wrong.
const WRONG_LOGIN: &str = "Redis does not know this user and password; set those of an ACL user (ACL SETUSER) or of requirepass, and encode \
                           special characters as %XX";

/// An error of the caller's making.
pub(super) fn invalid(message: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Invalid, STORE, message)
}

/// An error that a repetition may heal.
pub(super) fn unavailable(message: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, STORE, message)
}

/// An error for what is stored, or answered, and cannot be understood.
pub(super) fn corrupt(message: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt, STORE, message)
}

/// The store's error for one of Redis. The server's own words stand at the end, as the advice must be readable without them.
pub(super) fn store_error(error: RedisError) -> StoreError {
    let (kind, advice) = judge(&error);
    StoreError::new(kind, STORE, format!("{advice} ({error})")).with_source(error)
}

/// The store's error for a script that was refused or failed.
pub(super) fn script_error(script: &str, error: RedisError) -> StoreError {
    let (kind, advice) = judge(&error);
    StoreError::new(kind, STORE, format!("script {script}: {advice} ({error})")).with_source(error)
}

/// Whether the connection that gave this error should be left: it is dead, silent, or leads to a server that is not the master any more.
pub(super) fn ends_connection(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_unrecoverable_error()
        || matches!(
            error.kind(),
            ErrorKind::Server(
                ServerErrorKind::ReadOnly
                    | ServerErrorKind::Moved
                    | ServerErrorKind::Ask
                    | ServerErrorKind::MasterDown
                    | ServerErrorKind::ClusterDown
            )
        )
        || code(error) == "UNBLOCKED"
}

/// Whether the account may not use the command, or the server does not have it, as with many that are rented.
pub(super) fn is_forbidden(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm)
        || error.detail().is_some_and(|detail| detail.starts_with("unknown command"))
}

/// The first word of the server's answer, such as `OOM`. In a pipeline, of the first command that failed.
fn code(error: &RedisError) -> String {
    let first = |errors: std::sync::Arc<[(usize, redis::ServerError)]>| Some(errors.first()?.1.code().to_owned());
    error.code().map(str::to_owned).or_else(|| error.clone().into_server_errors().and_then(first)).unwrap_or_default()
}

fn judge(error: &RedisError) -> (StoreErrorKind, &'static str) {
    use StoreErrorKind::{Closed, Corrupt, Full, Invalid, Unavailable};
    match code(error).as_str() {
        "OOM" => (
            Full,
            "Redis holds as much as `maxmemory` lets it and takes nothing new; raise maxmemory, or shorten the retention of ended jobs",
        ),
        "READONLY" => (
            Unavailable,
            "this Redis is a replica now, after a failover; the master is looked for. If it stays so, give the master's address, or \
             redis-sentinel://",
        ),
        "LOADING" => (Unavailable, "Redis is reading its data after a start; wait until it is done"),
        "MASTERDOWN" => {
            (Unavailable, "this Redis is a replica that has lost its master; start the master or promote a replica")
        }
        "CLUSTERDOWN" => (
            Unavailable,
            "the cluster is down: a master is missing or slots have no owner; see CLUSTER INFO, start the node or let a replica take over",
        ),
        "TRYAGAIN" | "ASK" => (Unavailable, "the cluster is moving these keys to another node; wait until it is done"),
        "MOVED" => (
            Unavailable,
            "this Redis is part of a cluster and the keys are on another node; write the address as redis-cluster://",
        ),
        "BUSY" => (
            Unavailable,
            "Redis is held up by a slow script, of this or another application; find it in SLOWLOG, or end it with SCRIPT KILL",
        ),
        "MISCONF" => (
            Unavailable,
            "Redis refuses to write because it cannot save its data; free space on its disk and look into its log",
        ),
        "NOREPLICAS" => (
            Unavailable,
            "Redis refuses to write because fewer replicas are there than `min-replicas-to-write` asks for; start the replicas",
        ),
        "UNBLOCKED" => (Unavailable, "Redis has changed its part in a failover; the master is looked for"),
        "WRONGPASS" => (Closed, WRONG_LOGIN),
        "NOAUTH" => (
            Closed,
            "Redis asks for a login; give it in the address: redis://user:password@host, or to sentinels with sentinel_password",
        ),
        "NOPERM" => (
            Closed,
            "the ACL of this user forbids what the store needs; allow it: ACL SETUSER NAME ~{NAMESPACE}* +@all -@dangerous +info +config|get",
        ),
        "CROSSSLOT" => (Invalid, "keys of two slots in one call; a fault of MetaMCP, please report it"),
        "WRONGTYPE" => (
            Corrupt,
            "a key of this namespace holds what MetaMCP did not write; give it a namespace that nobody else uses: ?namespace=NAME",
        ),
        "" => judge_client(error),
        _ if is_forbidden(error) => (
            Closed,
            "this server lacks a command that the store needs; use Redis 7.0 or newer, or allow the command (rename-command)",
        ),
        _ => (Invalid, "Redis refused the call"),
    }
}

/// Judges what the client found by itself.
fn judge_client(error: &RedisError) -> (StoreErrorKind, &'static str) {
    use StoreErrorKind::{Closed, Corrupt, Unavailable};
    match error.kind() {
        _ if error.is_timeout() => (
            Unavailable,
            "Redis did not answer in time, the call may have been done; see whether it is overloaded or cut off, or raise response_ms and \
             connect_ms",
        ),
        _ if error.is_connection_refusal() => {
            (Unavailable, "nothing listens at this address; start Redis, or correct host and port")
        }
        // A cluster hides what its nodes answered in the words of another error.
        ErrorKind::Io if error.detail().is_some_and(|told| told.contains("WRONGPASS") || told.contains("NOAUTH")) => {
            (Closed, WRONG_LOGIN)
        }
        ErrorKind::Io => {
            (Unavailable, "the connection to Redis was lost or could not be made, the call may have been done")
        }
        ErrorKind::ClusterConnectionNotFound => {
            (Unavailable, "no node of the cluster that has these keys can be reached")
        }
        ErrorKind::MasterNameNotFoundBySentinel => (
            Unavailable,
            "no sentinel names a master that is up; wait for the failover, or correct `master` to the name the sentinels monitor",
        ),
        ErrorKind::AuthenticationFailed => (Closed, WRONG_LOGIN),
        ErrorKind::RESP3NotSupported => (Closed, "this server is too old; use Redis 7.0 or newer"),
        // With rustls and certificates the client blames itself.
        ErrorKind::InvalidClientConfig | ErrorKind::Client => {
            (Closed, "the connection cannot be set up like this; see the certificates and the address")
        }
        ErrorKind::UnexpectedReturnType | ErrorKind::Parse => (
            Corrupt,
            "Redis answered what MetaMCP does not understand; is another version of it writing to this namespace?",
        ),
        _ => (Unavailable, "Redis cannot be used right now"),
    }
}
