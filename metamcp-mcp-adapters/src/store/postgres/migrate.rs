//! Brings the schema to the version of this program: numbered files, each applied once, in order, in a transaction of its own.
//!
//! Any number of processes may start at once: an advisory lock lets one of them work while the others wait and then find it done. A schema
//! that is newer than the program, or whose applied files are not those of the program, is refused and not touched.

use std::{fmt::Write as _, time::Duration};

use metamcp_core::error::{StoreError, StoreErrorKind, StoreResult};
use sha2::{Digest, Sha256};
use tokio_postgres::Client;

use super::{
    STORE, error,
    pool::{Pool, Session},
};

/// How long to wait for another process that migrates, and for a table that it changes, in milliseconds.
pub const MIGRATION_LOCK_TIMEOUT_MS: u32 = 120_000;
/// How long one file may run, in milliseconds.
pub const MIGRATION_STATEMENT_TIMEOUT_MS: u32 = 600_000;

/// One file of the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    /// Its number, from 1, without gaps.
    pub version: i32,
    /// What it is called.
    pub name: &'static str,
    /// Its statements. The search path leads to the schema.
    pub sql: &'static str,
}

impl Migration {
    /// What tells one text from another. Line ends do not count: a checkout may have changed them.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.sql.replace('\r', "")).into()
    }
}

/// The schema of this program.
pub const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "migration", sql: include_str!("migrations/0001_migration.sql") },
    Migration { version: 2, name: "job", sql: include_str!("migrations/0002_job.sql") },
    Migration { version: 3, name: "result_event_record", sql: include_str!("migrations/0003_result_event_record.sql") },
    Migration { version: 4, name: "job_blocked", sql: include_str!("migrations/0004_job_blocked.sql") },
];

/// Applies what is missing of `migrations` to the schema of `pool`, which is made when it is not there, and answers how many files that
/// were.
///
/// # Errors
/// `Invalid` when the schema is newer than the program or when a file that was applied is another one than the program's. `Unavailable`
/// when the server cannot be reached or another process migrates for longer than [`MIGRATION_LOCK_TIMEOUT_MS`]. What the server said when
/// a file fails: it is rolled back, those before it stay.
///
/// # Cancel safety
/// A dropped call leaves whole files applied, and the lock free once its connection has ended.
pub async fn migrate(pool: &Pool, migrations: &[Migration]) -> StoreResult<usize> {
    // A connection of its own: it holds the lock, waits longer than calls may, and is closed at the end.
    let mut session = pool.dedicated().await?;
    // The server does not see that a client is gone while a file runs, and a network that swallows the answer would hold us for ever.
    let bound = Duration::from_millis(u64::from(MIGRATION_LOCK_TIMEOUT_MS) + u64::from(MIGRATION_STATEMENT_TIMEOUT_MS));
    let migrated = tokio::time::timeout(bound, locked(&mut session, pool, migrations)).await;
    migrated.unwrap_or_else(|_| Err(error::timed_out("did not end its migration", pool.place(), bound)))
}

async fn locked(session: &mut Session, pool: &Pool, migrations: &[Migration]) -> StoreResult<usize> {
    let (place, schema) = (pool.place(), pool.schema());
    let said = |e| error::of_call(e, place);
    let client = session.client();
    let bounds = format!(
        "set lock_timeout to {MIGRATION_LOCK_TIMEOUT_MS}; set statement_timeout to {MIGRATION_STATEMENT_TIMEOUT_MS}"
    );
    client.batch_execute(&bounds).await.map_err(said)?;
    client.execute("select pg_advisory_lock($1)", &[&lock_key(schema)]).await.map_err(said)?;
    let there = client.query_one("select to_regnamespace($1) is not null", &[&schema]).await.map_err(said)?;
    // Not `if not exists`: that asks for the right to make schemas even when there is nothing to make.
    if !there.get::<_, bool>(0) {
        client.batch_execute(&format!("create schema {schema}")).await.map_err(said)?;
    }
    let applied = applied(client, schema).await.map_err(said)?;
    let missing = missing(&applied, migrations, schema, place)?;
    for migration in missing {
        apply(client, migration).await.map_err(|e| {
            let why = said(e);
            let words =
                format!("migration {} `{}` failed and was rolled back: {why}", migration.version, migration.name);
            StoreError::new(why.kind(), STORE, words).with_source(why)
        })?;
        tracing::info!(version = migration.version, name = migration.name, schema, "migrated");
    }
    Ok(missing.len())
}

async fn applied(client: &Client, schema: &str) -> Result<Vec<(i32, Vec<u8>)>, tokio_postgres::Error> {
    let there = client.query_one("select to_regclass($1) is not null", &[&format!("{schema}.migration")]).await?;
    if !there.get::<_, bool>(0) {
        return Ok(Vec::new());
    }
    let rows = client.query("select version, digest from migration order by version", &[]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// What is not applied yet, once what is applied was compared with what the program knows.
fn missing<'a>(
    applied: &[(i32, Vec<u8>)],
    migrations: &'a [Migration],
    schema: &str,
    place: &str,
) -> StoreResult<&'a [Migration]> {
    let refuse = |message: String| Err(StoreError::new(StoreErrorKind::Invalid, STORE, message));
    let newest = applied.last().map_or(0, |(version, _)| *version);
    let known = migrations.last().map_or(0, |migration| migration.version);
    if newest > known {
        return refuse(format!(
            "schema {schema} at {place} is of version {newest} and this program knows {known}; start a newer program"
        ));
    }
    for (at, (version, digest)) in applied.iter().enumerate() {
        let ours = &migrations[at];
        if ours.version != *version {
            return refuse(format!(
                "schema {schema} at {place} has migration {version} where {} belongs; restore the table `migration`",
                ours.version
            ));
        }
        if ours.digest()[..] != digest[..] {
            return refuse(format!(
                "migration {version} `{}` was applied to schema {schema} at {place} with another text ({} there, {} here); \
                 use the program that applied it, or another schema",
                ours.name,
                short_hex(digest),
                short_hex(&ours.digest())
            ));
        }
    }
    Ok(&migrations[applied.len()..])
}

async fn apply(client: &mut Client, migration: &Migration) -> Result<(), tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    transaction.batch_execute(migration.sql).await?;
    let record = "insert into migration (version, name, digest) values ($1, $2, $3)";
    transaction.execute(record, &[&migration.version, &migration.name, &&migration.digest()[..]]).await?;
    transaction.commit().await
}

/// Advisory locks are numbers that a whole database shares: drawn from the schema's name, so that schemas do not wait for each other.
fn lock_key(schema: &str) -> i64 {
    let digest = Sha256::digest(format!("metamcp migration {schema}"));
    let mut key = [0; 8];
    key.copy_from_slice(&digest[..8]);
    i64::from_be_bytes(key)
}

fn short_hex(digest: &[u8]) -> String {
    digest.iter().take(4).fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_numbered_from_one_without_gaps() {
        let versions: Vec<i32> = MIGRATIONS.iter().map(|migration| migration.version).collect();
        let expected: Vec<i32> = (1..).take(MIGRATIONS.len()).collect();
        assert_eq!(versions, expected);
    }

    #[test]
    fn line_ends_of_a_checkout_do_not_change_a_digest() {
        let unix = Migration { version: 1, name: "x", sql: "a\nb\n" };
        assert_eq!(unix.digest(), Migration { sql: "a\r\nb\r\n", ..unix }.digest());
        assert_ne!(unix.digest(), Migration { sql: "a\nc\n", ..unix }.digest());
    }

    #[test]
    fn schemas_have_locks_of_their_own() {
        assert_ne!(lock_key("metamcp"), lock_key("other"));
    }
}
