//! Pools of connections: one for everything that writes, one for reads that may be stale. A call is bounded in time, begun again when only
//! another transaction was in its way, and its errors are told in the words of stores.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bb8_postgres::bb8::{self, ManageConnection, PooledConnection, QueueStrategy, RunError};
use metamcp_core::error::{StoreError, StoreErrorKind, StoreResult};
use tokio_postgres::{Client, Error, Row, Statement, types::ToSql};

use super::{
    STORE,
    backoff::full_jitter,
    connector::{Connector, Purpose},
    error,
    options::PostgresOptions,
};

/// How often a call is begun again after a serialization failure, a deadlock or a stale plan.
pub const RETRIES_MAX: u32 = 4;
/// The first pause before a call is begun again is drawn below this, in milliseconds.
const RETRY_BASE_MS: u64 = 10;
/// No pause before a call is begun again is longer, in milliseconds.
const RETRY_CAP_MS: u64 = 250;
/// What an answer may be late over the server's own bound of a statement, in milliseconds. The server cannot tell that it is gone.
const ANSWER_SLACK_MS: u64 = 2_000;

/// The parameters of a statement.
pub type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// One connection with the statements that were prepared on it.
pub struct Session {
    client: Client,
    // Statements are texts of the program, so the program's size bounds them.
    statements: HashMap<&'static str, Statement>,
    broken: bool,
}

impl Session {
    fn new(client: Client) -> Self {
        Self { client, statements: HashMap::new(), broken: false }
    }

    /// Runs a statement and answers its rows. It is prepared once for each connection.
    ///
    /// # Errors
    /// As the server says.
    pub async fn query(&mut self, sql: &'static str, parameters: Parameters<'_>) -> Result<Vec<Row>, Error> {
        let statement = self.prepared(sql).await?;
        self.client.query(&statement, parameters).await
    }

    /// Runs a statement and answers how many rows it changed. It is prepared once for each connection.
    ///
    /// # Errors
    /// As the server says.
    pub async fn execute(&mut self, sql: &'static str, parameters: Parameters<'_>) -> Result<u64, Error> {
        let statement = self.prepared(sql).await?;
        self.client.execute(&statement, parameters).await
    }

    /// The connection itself, for what is more than one statement.
    pub const fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// The same, for statements that are sent together.
    pub(super) const fn wire(&self) -> &Client {
        &self.client
    }

    /// A statement of this connection.
    pub(super) async fn prepared(&mut self, sql: &'static str) -> Result<Statement, Error> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await?;
        self.statements.insert(sql, statement.clone());
        Ok(statement)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, statements, broken } = self;
        let (closed, statements) = (client.is_closed(), statements.len());
        f.debug_struct("Session")
            .field("closed", &closed)
            .field("statements", &statements)
            .field("broken", broken)
            .finish()
    }
}

/// What is done on a connection within one call: one statement, or one transaction as a whole.
pub trait Work: Send {
    /// What it answers.
    type Output: Send;

    /// Does it. It may be asked again, from the beginning, when nothing of it was committed.
    fn run(&mut self, session: &mut Session) -> impl Future<Output = Result<Self::Output, Error>> + Send;
}

struct Query<'a> {
    sql: &'static str,
    parameters: Parameters<'a>,
}

impl Work for Query<'_> {
    type Output = Vec<Row>;

    async fn run(&mut self, session: &mut Session) -> Result<Vec<Row>, Error> {
        session.query(self.sql, self.parameters).await
    }
}

struct Execute<'a> {
    sql: &'static str,
    parameters: Parameters<'a>,
}

impl Work for Execute<'_> {
    type Output = u64;

    async fn run(&mut self, session: &mut Session) -> Result<u64, Error> {
        session.execute(self.sql, self.parameters).await
    }
}

/// Makes sessions for a pool and remembers why the last one could not be made: the pool itself only knows that it waited in vain.
#[derive(Debug)]
struct Manager {
    connector: Connector,
    failure: Arc<Mutex<Option<(StoreErrorKind, String)>>>,
}

impl ManageConnection for Manager {
    type Connection = Session;
    type Error = StoreError;

    async fn connect(&self) -> StoreResult<Session> {
        let made = self.connector.connect().await;
        let failure = made.as_ref().err().map(|e| (e.kind(), words(e)));
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
        made.map(Session::new)
    }

    /// No round trip: an idle connection learns of its end by itself, and what the network swallows is found by the bound of the call.
    async fn is_valid(&self, session: &mut Session) -> StoreResult<()> {
        if !session.client.is_closed() {
            return Ok(());
        }
        let message = format!("{} closed an idle connection", self.connector.place());
        Err(StoreError::new(StoreErrorKind::Unavailable, STORE, message))
    }

    fn has_broken(&self, session: &mut Session) -> bool {
        session.broken || session.client.is_closed()
    }
}

/// What an error says, without the name of the store, which the next error says again.
fn words(error: &StoreError) -> String {
    let text = error.to_string();
    text.split_once(": ").filter(|(name, _)| *name == STORE).map_or(text.clone(), |(_, words)| words.to_owned())
}

/// Connections to one place.
#[derive(Debug, Clone)]
pub struct Pool {
    sessions: bb8::Pool<Manager>,
    place: Arc<str>,
    schema: Arc<str>,
    failure: Arc<Mutex<Option<(StoreErrorKind, String)>>>,
    wait: Duration,
    bound: Duration,
}

impl Pool {
    pub(super) fn new(options: &PostgresOptions, connector: Connector) -> Self {
        let failure = Arc::new(Mutex::new(None));
        let place = Arc::clone(connector.place());
        let manager = Manager { connector, failure: Arc::clone(&failure) };
        let sessions = bb8::Pool::builder()
            .max_size(options.pool_size)
            .connection_timeout(options.connect_timeout)
            // Few connections that know their statements are better than many that do not.
            .queue_strategy(QueueStrategy::Lifo)
            .build_unchecked(manager);
        let bound = options.statement_timeout + Duration::from_millis(ANSWER_SLACK_MS);
        let schema = options.schema.as_str().into();
        Self { sessions, place, schema, failure, wait: options.connect_timeout, bound }
    }

    /// Hosts, ports and database, for messages.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The schema its sessions work in.
    #[must_use]
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// Makes one connection, so that what is wrong is known now and in its own words.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub async fn check(&self) -> StoreResult<()> {
        let session = self.sessions.dedicated_connection().await?;
        // A pool that is full already does not need it.
        let _ = self.sessions.add(session);
        Ok(())
    }

    /// Runs one statement and answers its rows.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn query(&self, sql: &'static str, parameters: Parameters<'_>) -> StoreResult<Vec<Row>> {
        self.call(Query { sql, parameters }).await
    }

    /// Runs one statement and answers how many rows it changed.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn execute(&self, sql: &'static str, parameters: Parameters<'_>) -> StoreResult<u64> {
        self.call(Execute { sql, parameters }).await
    }

    /// Runs `work` on a connection, and again, at most [`RETRIES_MAX`] times, when another transaction or a stale plan was in its way.
    ///
    /// # Errors
    /// `Unavailable` when there is no connection, when it was lost, or when no answer came in time; the call may have happened then. Else
    /// what the server said.
    ///
    /// # Cancel safety
    /// A dropped call may still be done by the server; the connection can be used again.
    pub async fn call<W: Work>(&self, mut work: W) -> StoreResult<W::Output> {
        let mut failures = 0;
        loop {
            let mut session = self.session().await?;
            let Ok(outcome) = tokio::time::timeout(self.bound, work.run(&mut session)).await else {
                session.broken = true;
                return Err(error::timed_out("gave no answer", &self.place, self.bound));
            };
            let error = match outcome {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            session.broken |= error::breaks_session(&error);
            if !error::is_transient(&error) || failures == RETRIES_MAX {
                return Err(error::of_call(error, &self.place));
            }
            drop(session);
            let (base, cap) = (Duration::from_millis(RETRY_BASE_MS), Duration::from_millis(RETRY_CAP_MS));
            tokio::time::sleep(full_jitter(base, cap, failures)).await;
            failures += 1;
        }
    }

    /// A connection outside the pool.
    pub(super) async fn dedicated(&self) -> StoreResult<Session> {
        self.sessions.dedicated_connection().await
    }

    async fn session(&self) -> StoreResult<PooledConnection<'_, Manager>> {
        self.sessions.get().await.map_err(|e| match e {
            RunError::User(error) => error,
            RunError::TimedOut => self.no_session(),
        })
    }

    fn no_session(&self) -> StoreError {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (kind, message) = failure.unwrap_or_else(|| {
            let (size, wait) = (self.sessions.config().max_size, self.wait.as_millis());
            let message = format!("all {size} connections to {} are busy for {wait} ms; raise `pool`", self.place);
            (StoreErrorKind::Unavailable, message)
        });
        StoreError::new(kind, STORE, message)
    }
}

/// The pools of one store.
#[derive(Debug, Clone)]
pub struct Pools {
    write: Pool,
    read: Pool,
}

impl Pools {
    /// Makes the pools and checks that both places can be used.
    ///
    /// # Errors
    /// Why one of them cannot. A replica that cannot be reached is told in the log and tried again by each read.
    pub(super) async fn open(options: &PostgresOptions) -> StoreResult<Self> {
        let write = Pool::new(options, Connector::new(options, &options.write, Purpose::Write)?);
        write.check().await?;
        let read = match &options.read {
            None => write.clone(),
            Some(server) => {
                let read = Pool::new(options, Connector::new(options, server, Purpose::Read)?);
                if let Err(error) = read.check().await {
                    tracing::warn!(%error, "the replica cannot be used now; lists and counts fail until it can");
                }
                read
            }
        };
        Ok(Self { write, read })
    }

    /// For everything that writes, and for what must be fresh.
    #[must_use]
    pub const fn write(&self) -> &Pool {
        &self.write
    }

    /// For lists and counts, which may be stale: the replica, where there is one.
    #[must_use]
    pub const fn read(&self) -> &Pool {
        &self.read
    }
}
