//! What PostgreSQL and the driver say, in the words of stores: what kind it is, whether to try again, and what somebody has to change.
//!
//! What an operator can set right while jobs wait (a full disk, a changed password, a missing grant) is `Unavailable`: the call was not
//! wrong, and work that is under way must not be given up for it.

use std::{error::Error as StdError, io};

use metamcp_core::error::{StoreError, StoreErrorKind};
use tokio_postgres::{
    Error,
    error::{DbError, SqlState},
};

use super::STORE;

/// How the driver says that TLS was asked for and not offered; it has no kind of its own.
const NO_TLS: &str = "server does not support TLS";

/// An address or an option that cannot be used.
pub(super) fn invalid(message: impl Into<String>) -> StoreError {
    StoreError::new(StoreErrorKind::Invalid, STORE, message)
}

/// A call that failed on an open connection to `place`.
pub(super) fn of_call(error: Error, place: &str) -> StoreError {
    let (kind, message) = match error.as_db_error() {
        Some(said) => of_server(said, place),
        None => (
            StoreErrorKind::Unavailable,
            format!("the connection to {place} was lost ({}); the call may have happened", chain(&error)),
        ),
    };
    StoreError::new(kind, STORE, message).with_source(error)
}

/// A connection to `place` that was not made.
pub(super) fn of_connect(error: Error, place: &str) -> StoreError {
    let (kind, message) = match error.as_db_error() {
        Some(said) => of_server(said, place),
        None => (StoreErrorKind::Unavailable, unreached(&error, place)),
    };
    StoreError::new(kind, STORE, message).with_source(error)
}

/// A connection or a call that took longer than it may.
pub(super) fn timed_out(what: &str, place: &str, bound: std::time::Duration) -> StoreError {
    let message = format!("{place} {what} within {} ms; the call may have happened", bound.as_millis());
    StoreError::new(StoreErrorKind::Unavailable, STORE, message)
}

/// Whether the same statement can be expected to work at once: nothing was done, and only another transaction or a stale plan was in the way.
pub(super) fn is_transient(error: &Error) -> bool {
    is_stale_plan(error)
        || error
            .code()
            .is_some_and(|code| [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED].contains(code))
}

/// Whether the connection is of no use any more: it is closed or closing, leads to a server that lost its place as primary, or its prepared
/// statements are not those of the server.
pub(super) fn breaks_session(error: &Error) -> bool {
    let Some(code) = error.code() else { return true };
    let gone = [SqlState::READ_ONLY_SQL_TRANSACTION, SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT];
    is_stale_plan(error) || gone.contains(code) || code.code().starts_with("08") || code.code().starts_with("57P")
}

/// A migration of another process changed what a prepared statement stands on, or somebody discarded the session's statements.
fn is_stale_plan(error: &Error) -> bool {
    error.as_db_error().is_some_and(|said| {
        *said.code() == SqlState::INVALID_SQL_STATEMENT_NAME || said.routine() == Some("RevalidateCachedQuery")
    })
}

fn of_server(said: &DbError, place: &str) -> (StoreErrorKind, String) {
    use StoreErrorKind::{Corrupt, Invalid, Unavailable};
    let text = said.message();
    let code = said.code();
    match code.code() {
        "28P01" | "28000" => (Unavailable, format!("{place} lets this user not in ({text}); check user and password")),
        "3D000" => (Unavailable, format!("{place}: {text}; make it with createdb, or name another one")),
        "42501" => (Unavailable, format!("{place}: {text}; grant it to this user, or use another one")),
        "25006" => (
            Unavailable,
            format!("{place} takes no writes ({text}); after a failover the address must lead to the new primary"),
        ),
        "53100" => (Unavailable, format!("the disk of {place} is full ({text}); make room")),
        "53300" => {
            (Unavailable, format!("{place} has no connection left ({text}); raise max_connections or lower `pool`"))
        }
        "57014" => (Unavailable, format!("{place}: {text}; if the server is well, raise statement_ms")),
        "55P03" => (Unavailable, format!("{place}: {text}; somebody holds a lock for long, see pg_locks")),
        "42P01" | "42703" | "3F000" => (
            Corrupt,
            format!("{place}: {text}; the schema is not that of this version, start a process that may migrate it"),
        ),
        other => match other.get(..2).unwrap_or_default() {
            // Data and index corruption; other internal errors pass.
            "XX" if other != "XX000" => (Corrupt, format!("{place}: {text}; see the server's log")),
            // Connection, transaction, resources, intervention, the system below.
            "08" | "25" | "40" | "53" | "55" | "57" | "58" | "XX" => (Unavailable, format!("{place}: {text}")),
            _ => (Invalid, format!("{place}: {text} ({other})")),
        },
    }
}

fn unreached(error: &Error, place: &str) -> String {
    let cause = error.source();
    let io = cause.and_then(|cause| cause.downcast_ref::<io::Error>());
    if let Some(tls) = io.and_then(io::Error::get_ref).and_then(|e| e.downcast_ref::<rustls::Error>()) {
        return format!(
            "the certificate of {place} is not accepted ({tls}); name its authority by sslrootcert, and the host as the certificate does"
        );
    }
    // The driver's own refusal of a standby carries no error of the system.
    if io.is_some_and(|io| io.kind() == io::ErrorKind::PermissionDenied && io.raw_os_error().is_none()) {
        return format!("none of the hosts of {place} takes writes; one of them must be the primary");
    }
    match cause.map(ToString::to_string).as_deref() {
        Some(NO_TLS) => format!(
            "{place} offers no TLS; turn ssl on there, or add sslmode=disable where you trust the network between"
        ),
        Some("password missing") => format!("{place} asks for a password; write it into the address"),
        _ => format!("cannot reach {place} ({}); check that the server runs and listens there", chain(error)),
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn StdError) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |line, cause| format!("{line}: {cause}"))
}
