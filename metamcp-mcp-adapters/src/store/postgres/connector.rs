//! Makes one connection that is ready for use: TLS, settings of the session, and the checks without which nothing may run on it.

use std::{sync::Arc, time::Duration};

use bb8_postgres::{PostgresConnectionManager, bb8::ManageConnection};
use metamcp_core::error::{StoreError, StoreErrorKind, StoreResult};
use tokio_postgres::{
    Client, Connection, SimpleQueryMessage, SimpleQueryRow, Socket,
    config::{Config, LoadBalanceHosts, TargetSessionAttrs},
    tls::MakeTlsConnect,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{STORE, address::Server, error, options::PostgresOptions, tls};

/// The oldest server that is used, as `server_version_num` counts.
const SERVER_VERSION_MIN: u32 = 150_000;
/// How long a statement waits for a lock, in milliseconds; a statement's own bound may be shorter.
const LOCK_TIMEOUT_MS: u32 = 5_000;
/// How long a transaction may do nothing before the server ends it, in milliseconds: it would hold locks and the vacuum back.
const IDLE_IN_TRANSACTION_TIMEOUT_MS: u32 = 30_000;

/// Statements are planned once for each connection, while tables may still be empty: for tables that are not.
const PLANNER: &str = "set plan_cache_mode to force_generic_plan;\
                       set enable_seqscan to off;\
                       set enable_hashjoin to off;\
                       set enable_mergejoin to off;\
                       set enable_material to off;";

/// The driver's half of a connection: whoever holds it must poll it.
pub(super) type Wire = Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// What the connections of a pool are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Everything that writes or must be fresh: never a standby.
    Write,
    /// Lists and counts that may be stale: a standby is welcome.
    Read,
}

/// Makes connections to one place.
#[derive(Clone)]
pub(super) struct Connector {
    config: Config,
    tls: MakeRustlsConnect,
    manager: PostgresConnectionManager<MakeRustlsConnect>,
    purpose: Purpose,
    settings: Arc<str>,
    timeout: Duration,
    place: Arc<str>,
}

impl Connector {
    pub(super) fn new(options: &PostgresOptions, server: &Server, purpose: Purpose) -> StoreResult<Self> {
        let mut config = server.config.clone();
        config.connect_timeout(options.connect_timeout);
        let hosts = u32::try_from(config.get_hosts().len()).unwrap_or(u32::MAX);
        match purpose {
            // With one host the check of the session below says it in better words.
            Purpose::Write if hosts > 1 => config.target_session_attrs(TargetSessionAttrs::ReadWrite),
            Purpose::Write => &mut config,
            Purpose::Read => config.load_balance_hosts(LoadBalanceHosts::Random),
        };
        let tls = tls::connector(server)?;
        Ok(Self {
            manager: PostgresConnectionManager::new(config.clone(), tls.clone()),
            config,
            tls,
            purpose,
            settings: settings(options).into(),
            timeout: options.connect_timeout.saturating_mul(hosts),
            place: server.place.as_str().into(),
        })
    }

    /// Hosts, ports and database, for messages.
    pub(super) fn place(&self) -> &Arc<str> {
        &self.place
    }

    /// A connection that is driven by a task of its own, with its session set up and checked.
    pub(super) async fn connect(&self) -> StoreResult<Client> {
        // The driver bounds the socket only: a server that takes the connection and then says nothing would hold us for ever.
        let made = tokio::time::timeout(self.timeout, async {
            let client = Box::pin(self.manager.connect()).await.map_err(|e| error::of_connect(e, &self.place))?;
            self.prepare(&client).await?;
            Ok(client)
        });
        made.await.unwrap_or_else(|_| Err(error::timed_out("gave no connection", &self.place, self.timeout)))
    }

    /// A connection whose messages the caller reads itself. Its session is not set up: see [`prepare`](Self::prepare).
    pub(super) async fn connect_wire(&self) -> StoreResult<(Client, Wire)> {
        let made = tokio::time::timeout(self.timeout, Box::pin(self.config.connect(self.tls.clone()))).await;
        let made = made.map_err(|_| error::timed_out("gave no connection", &self.place, self.timeout))?;
        made.map_err(|e| error::of_connect(e, &self.place))
    }

    /// Sets the session up and checks what it leads to, in one round trip.
    pub(super) async fn prepare(&self, client: &Client) -> StoreResult<()> {
        let said = client.simple_query(&self.settings).await.map_err(|e| error::of_connect(e, &self.place))?;
        let row = said.iter().rev().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let facts = row.map(Facts::read).ok_or_else(|| self.refuse("does not answer like PostgreSQL"))?;
        self.check(&facts)
    }

    fn check(&self, facts: &Facts) -> StoreResult<()> {
        if facts.version < SERVER_VERSION_MIN {
            let (is, min) = (facts.version / 10_000, SERVER_VERSION_MIN / 10_000);
            return Err(self.refuse(format!("is PostgreSQL {is}; use {min} or newer")));
        }
        if facts.encoding != "UTF8" {
            return Err(
                self.refuse(format!("keeps its text as {}; make the database with encoding UTF8", facts.encoding))
            );
        }
        if self.purpose == Purpose::Write && facts.in_recovery {
            return Err(self.refuse("is a standby and takes no writes; give the primary, and this one as read_url"));
        }
        if self.purpose == Purpose::Write && facts.read_only {
            return Err(self.refuse("opens sessions as read only; set default_transaction_read_only=off for this user"));
        }
        Ok(())
    }

    /// Retryable in spite of being a refusal: standbys are promoted and servers are upgraded while jobs wait.
    fn refuse(&self, why: impl AsRef<str>) -> StoreError {
        StoreError::new(StoreErrorKind::Unavailable, STORE, format!("{} {}", self.place, why.as_ref()))
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("place", &self.place).field("purpose", &self.purpose).finish_non_exhaustive()
    }
}

/// What a new session says of its server.
struct Facts {
    version: u32,
    encoding: String,
    in_recovery: bool,
    read_only: bool,
}

impl Facts {
    fn read(row: &SimpleQueryRow) -> Self {
        let text = |name| row.try_get(name).ok().flatten().unwrap_or_default();
        Self {
            version: text("version").parse().unwrap_or_default(),
            encoding: text("encoding").to_owned(),
            in_recovery: text("in_recovery") == "t",
            read_only: text("read_only") == "on",
        }
    }
}

/// One text for the simple protocol: its parts are names that were checked and numbers.
fn settings(options: &PostgresOptions) -> String {
    let statement_ms = options.statement_timeout.as_millis();
    let lock_ms = statement_ms.min(LOCK_TIMEOUT_MS.into());
    // A server may be set to acknowledge before it has written; what a store acknowledges must be on disk.
    let commit = if options.allow_lossy {
        ""
    } else {
        "select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off';"
    };
    format!(
        "set search_path to {schema};\
         set statement_timeout to {statement_ms};\
         set lock_timeout to {lock_ms};\
         set idle_in_transaction_session_timeout to {IDLE_IN_TRANSACTION_TIMEOUT_MS};\
         set default_transaction_isolation to 'read committed';\
         set jit to off;\
         {PLANNER}\
         {commit}\
         select current_setting('server_version_num') as version, current_setting('server_encoding') as encoding,\
         pg_is_in_recovery() as in_recovery, current_setting('transaction_read_only') as read_only",
        schema = options.schema,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts { version: 150_018, encoding: "UTF8".to_owned(), in_recovery: false, read_only: false }
    }

    #[tokio::test]
    async fn an_old_server_and_another_encoding_are_refused_with_words() {
        let options = PostgresOptions::parse("postgres://u@localhost/d").unwrap();
        let connector = Connector::new(&options, &options.write, Purpose::Write).unwrap();
        assert!(connector.check(&facts()).is_ok());
        for (wrong, words) in [
            (Facts { version: 140_009, ..facts() }, "is PostgreSQL 14; use 15 or newer"),
            (Facts { encoding: "SQL_ASCII".to_owned(), ..facts() }, "encoding UTF8"),
            (Facts { in_recovery: true, ..facts() }, "read_url"),
            (Facts { read_only: true, ..facts() }, "default_transaction_read_only"),
        ] {
            let said = connector.check(&wrong).unwrap_err().to_string();
            assert!(said.contains(words), "{said}");
        }
        let reads = Connector::new(&options, &options.write, Purpose::Read).unwrap();
        assert!(reads.check(&Facts { in_recovery: true, read_only: true, ..facts() }).is_ok());
    }
}
