//! What the server really gives: how far a commit is safe, what a failover may lose, and what holds the vacuum back.

use metamcp_core::{
    error::{StoreError, StoreErrorKind, StoreResult},
    queue::{Durability, StoreHealth},
};
use tokio_postgres::Row;

use super::{STORE, pool::Pool};

/// A transaction that is open for longer, in seconds, is warned of: no row that died since can be vacuumed, and leasing slows down.
pub const TRANSACTION_AGE_S_MAX: u64 = 60;

/// Settings are those of a session of ours. `pg_stat_activity` tells of other users' transactions only those who may read all statistics,
/// prepared ones and slots are told to everybody.
const HEALTH: &str = "
select current_setting('server_version') as version,
       current_setting('fsync') = 'on' as fsync,
       current_setting('full_page_writes') = 'on' as full_page_writes,
       current_setting('synchronous_commit') as synchronous_commit,
       current_setting('synchronous_standby_names') as synchronous_standby_names,
       pg_is_in_recovery() as in_recovery,
       (select count(*) from pg_stat_replication) as replicas,
       pg_has_role(current_user, 'pg_read_all_stats', 'usage') as sees_all,
       (select coalesce(max(extract(epoch from now() - xact_start))::bigint, 0) from pg_stat_activity
         where pid <> pg_backend_pid() and backend_xmin is not null and datname = current_database()) as transaction_age_s,
       (select coalesce(max(extract(epoch from now() - prepared))::bigint, 0) from pg_prepared_xacts
         where database = current_database()) as prepared_age_s,
       (select coalesce(max(age(xmin)), 0)::bigint from (
            select backend_xmin as xmin from pg_stat_activity where pid <> pg_backend_pid() and datname = current_database()
            union all select xmin from pg_replication_slots
            union all select transaction from pg_prepared_xacts where database = current_database()
        ) as horizons) as xmin_age,
       (select coalesce(sum(n_dead_tup), 0)::bigint from pg_stat_user_tables where schemaname = current_schema()) as dead_rows";

/// What the server said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PostgresHealth {
    /// As the server writes it, such as `15.18`.
    pub version: String,
    /// Whether a commit waits for the disk at all.
    pub fsync: bool,
    /// Whether a page that a power cut tore can be repaired.
    pub full_page_writes: bool,
    /// When a commit is acknowledged in sessions of this store.
    pub synchronous_commit: String,
    /// Which standbys a commit waits for; empty: none.
    pub synchronous_standby_names: String,
    /// Whether this is a standby.
    pub in_recovery: bool,
    /// How many standbys are connected.
    pub replicas: u64,
    /// Whether the ages below count the transactions of other users too.
    pub sees_all: bool,
    /// How long the oldest transaction with a snapshot is open, in seconds; prepared ones too.
    pub transaction_age_s: u64,
    /// How many transactions ago the oldest row that nobody may vacuum yet could have died.
    pub xmin_age: u64,
    /// Dead rows in the tables of the schema, as counted at the last statistics.
    pub dead_rows: u64,
}

impl PostgresHealth {
    /// Asks the server.
    ///
    /// # Errors
    /// As [`Pool::call`].
    pub async fn of(pool: &Pool) -> StoreResult<Self> {
        let rows = pool.query(HEALTH, &[]).await?;
        rows.first().map(Self::read).ok_or_else(|| {
            StoreError::new(StoreErrorKind::Unavailable, STORE, format!("{} did not tell its settings", pool.place()))
        })
    }

    fn read(row: &Row) -> Self {
        let count = |name| u64::try_from(row.get::<_, i64>(name)).unwrap_or_default();
        Self {
            version: row.get("version"),
            fsync: row.get("fsync"),
            full_page_writes: row.get("full_page_writes"),
            synchronous_commit: row.get("synchronous_commit"),
            synchronous_standby_names: row.get("synchronous_standby_names"),
            in_recovery: row.get("in_recovery"),
            replicas: count("replicas"),
            sees_all: row.get("sees_all"),
            transaction_age_s: count("transaction_age_s").max(count("prepared_age_s")),
            xmin_age: count("xmin_age"),
            dead_rows: count("dead_rows"),
        }
    }

    /// How far a write is safe once it is acknowledged.
    #[must_use]
    pub fn durability(&self) -> Durability {
        if !self.fsync || self.synchronous_commit == "off" {
            Durability::OsBuffered
        } else if self.waits_for_standbys() {
            Durability::Replicated
        } else {
            Durability::LocalFsync
        }
    }

    /// Whether a commit is acknowledged only once a standby has it.
    fn waits_for_standbys(&self) -> bool {
        !self.synchronous_standby_names.is_empty() && !matches!(self.synchronous_commit.as_str(), "local" | "off")
    }

    /// What an operator should know, in words; empty when all is well.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut said = Vec::new();
        let mut warn = |holds: bool, words: String| said.extend(holds.then_some(words));
        warn(!self.fsync, "fsync=off: a crash of the machine may lose every job; set fsync=on".to_owned());
        warn(
            self.synchronous_commit == "off",
            "synchronous_commit=off: a crash loses what was acknowledged in the last moments; set it to on".to_owned(),
        );
        warn(
            !self.full_page_writes,
            "full_page_writes=off: a power cut may damage pages unless the file system writes them whole; set it to on"
                .to_owned(),
        );
        warn(
            self.replicas > 0 && !self.waits_for_standbys(),
            format!(
                "{} standby(s), and no commit waits for one: a failover loses what was not replicated yet; \
                 set synchronous_standby_names to narrow it",
                self.replicas
            ),
        );
        warn(
            self.transaction_age_s > TRANSACTION_AGE_S_MAX,
            format!(
                "a transaction is open for {} s: dead rows pile up and leasing slows down; end it, see pg_stat_activity \
                 and pg_prepared_xacts",
                self.transaction_age_s
            ),
        );
        said
    }

    /// Refuses a server that is set to lose what it acknowledged.
    ///
    /// # Errors
    /// `Invalid`, naming the setting.
    pub fn refuse_lossy(&self, place: &str) -> StoreResult<()> {
        if self.fsync {
            return Ok(());
        }
        let message = format!(
            "{place} runs with fsync=off and may lose every job when its machine crashes; set fsync=on, or add allow_lossy=true \
             where that is meant"
        );
        Err(StoreError::new(StoreErrorKind::Invalid, STORE, message))
    }

    /// In the words of stores.
    #[must_use]
    pub fn report(&self, place: &str, listening: bool) -> StoreHealth {
        let Self { version, synchronous_commit, replicas, transaction_age_s, xmin_age, dead_rows, .. } = self;
        let fsync = if self.fsync { "on" } else { "off" };
        let seen = if self.sees_all { "" } else { " as far as this user sees, grant pg_read_all_stats for the rest" };
        let notified = if listening { "on" } else { "off, polling" };
        let facts = format!(
            "PostgreSQL {version} at {place}, fsync={fsync}, synchronous_commit={synchronous_commit}, {replicas} standby(s), \
             notifications {notified}, oldest transaction {transaction_age_s} s and {xmin_age} transactions{seen}, {dead_rows} dead rows"
        );
        let detail = std::iter::once(facts).chain(self.warnings()).collect::<Vec<_>>().join("; ");
        StoreHealth { durability: self.durability(), detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well() -> PostgresHealth {
        PostgresHealth {
            version: "15.18".to_owned(),
            fsync: true,
            full_page_writes: true,
            synchronous_commit: "on".to_owned(),
            synchronous_standby_names: String::new(),
            in_recovery: false,
            replicas: 0,
            sees_all: true,
            transaction_age_s: 0,
            xmin_age: 3,
            dead_rows: 0,
        }
    }

    #[test]
    fn each_setting_that_may_lose_something_is_told() {
        assert_eq!(well().warnings(), Vec::<String>::new());
        assert_eq!(well().durability(), Durability::LocalFsync);
        let lossy = PostgresHealth { fsync: false, ..well() };
        assert_eq!(lossy.durability(), Durability::OsBuffered);
        assert!(lossy.refuse_lossy("db").unwrap_err().to_string().contains("allow_lossy"));
        let late = PostgresHealth { synchronous_commit: "off".to_owned(), ..well() };
        assert_eq!(late.durability(), Durability::OsBuffered);
        for (health, words) in [
            (lossy, "fsync=off"),
            (late, "synchronous_commit=off"),
            (PostgresHealth { full_page_writes: false, ..well() }, "full_page_writes=off"),
            (PostgresHealth { replicas: 2, ..well() }, "2 standby(s), and no commit waits"),
            (PostgresHealth { transaction_age_s: 61, ..well() }, "open for 61 s"),
        ] {
            let said = health.warnings();
            assert!(said.len() == 1 && said[0].contains(words), "{said:?}");
            assert!(health.report("db", true).detail.contains(words));
        }
        let waits = PostgresHealth { replicas: 1, synchronous_standby_names: "*".to_owned(), ..well() };
        assert_eq!((waits.warnings(), waits.durability()), (Vec::new(), Durability::Replicated));
        let local = PostgresHealth { synchronous_commit: "local".to_owned(), ..waits };
        assert_eq!((local.warnings().len(), local.durability()), (1, Durability::LocalFsync));
    }
}
