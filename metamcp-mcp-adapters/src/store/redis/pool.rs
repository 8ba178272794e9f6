//! The connections of one process: a few, each shared by all callers, replaced as soon as one of them turns out to be useless.

use std::{
    fmt, io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bb8_redis::bb8::{ManageConnection, Pool, RunError};
use metamcp_core::error::StoreResult;
use redis::{Cmd, FromRedisValue, Pipeline, RedisError, RedisResult, Value};

use super::{
    error::{ends_connection, store_error},
    link::{Connector, Link},
    options::RedisOptions,
};

/// What all connections of a pool know of each other.
///
/// Connections belong to a generation. The first that is found useless ends the generation, and with it all connections made before: they
/// lead to the same server, which was restarted, is cut off or is the master no more. Else each of them would cost a call to find that out.
#[derive(Debug, Default)]
struct Shared {
    generation: AtomicU64,
    /// Why the last try to connect failed; `None` once one went well. The pool itself tells only that it took too long.
    failure: Mutex<Option<RedisError>>,
}

impl Shared {
    /// Ends a generation, unless that was done before.
    fn end(&self, generation: u64) {
        let _ = self.generation.compare_exchange(generation, generation + 1, Ordering::AcqRel, Ordering::Acquire);
    }

    fn is_over(&self, generation: u64) -> bool {
        self.generation.load(Ordering::Acquire) != generation
    }

    fn set_failure(&self, failure: Option<RedisError>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    fn failure(&self) -> Option<RedisError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A connection and its generation.
#[derive(Clone)]
pub(super) struct Member {
    link: Link,
    generation: u64,
}

/// Makes connections for the pool and tells which are useless.
#[derive(Debug, Clone)]
struct Manager {
    connector: Connector,
    options: Arc<RedisOptions>,
    shared: Arc<Shared>,
}

impl Manager {
    async fn join(&self) -> RedisResult<Member> {
        let generation = self.shared.generation.load(Ordering::Acquire);
        let shared = Arc::clone(&self.shared);
        let lost = move || shared.end(generation);
        let link = self.connector.connect(self.options.response_timeout, lost).await?;
        Ok(Member { link, generation })
    }
}

impl ManageConnection for Manager {
    type Connection = Member;
    type Error = RedisError;

    async fn connect(&self) -> RedisResult<Member> {
        let joined = self.join().await;
        self.shared.set_failure(joined.as_ref().err().cloned());
        joined
    }

    /// Looks, and asks nobody: a question at each use would double the work of the server.
    async fn is_valid(&self, member: &mut Member) -> RedisResult<()> {
        if self.has_broken(member) {
            return Err((redis::ErrorKind::Io, "the connection belongs to a generation that is over").into());
        }
        Ok(())
    }

    fn has_broken(&self, member: &mut Member) -> bool {
        self.shared.is_over(member.generation)
    }
}

/// A pool that fills itself in the background and stays full.
fn fill(manager: Manager) -> Pool<Manager> {
    let options = &manager.options;
    let builder = Pool::builder()
        .max_size(options.pool_size)
        .min_idle(options.pool_size)
        .max_lifetime(None)
        .idle_timeout(None)
        .connection_timeout(options.connect_time())
        .test_on_check_out(true);
    builder.build_unchecked(manager)
}

/// The connections to Redis of one process.
///
/// A call takes a connection only for as long as it takes to write to it, and many calls wait for their answers on one connection. A
/// connection that is lost, silent or leads to a server that is no longer the master is replaced; the call that found it out fails with a
/// retryable error, as it may have been done. While no connection can be made a call waits for one as long as connecting may take.
///
/// # Cancel safety
/// A call whose future is dropped may still be done by the server.
#[derive(Clone)]
pub struct RedisPool {
    pool: Pool<Manager>,
    /// Connections for what waits for replicas: they stand still meanwhile, and a heartbeat must not stand behind that. None when the options
    /// ask for no replicas.
    waiting: Option<Pool<Manager>>,
    shared: Arc<Shared>,
    connector: Connector,
    options: Arc<RedisOptions>,
}

impl fmt::Debug for RedisPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisPool").field("options", &self.options).field("state", &self.pool.state()).finish()
    }
}

impl RedisPool {
    /// Connects. Needs a tokio runtime that stays.
    ///
    /// # Errors
    /// `Invalid` for options out of their bounds, `Closed` when the server asks for another login, `Unavailable` when it cannot be reached
    /// now.
    pub async fn open(options: RedisOptions) -> StoreResult<Self> {
        options.check()?;
        let options = Arc::new(options);
        let connector = Connector::new(Arc::clone(&options))?;
        let shared = Arc::new(Shared::default());
        let manager =
            Manager { connector: connector.clone(), options: Arc::clone(&options), shared: Arc::clone(&shared) };
        // By hand: the pool would try again and again for as long as connecting may take before it tells of a wrong password.
        let first = manager.connect().await.map_err(store_error)?;
        let waiting = (options.wait_replicas > 0).then(|| fill(manager.clone()));
        let pool = fill(manager);
        // Refused when the pool has filled itself meanwhile; it is closed then.
        let _ = pool.add(first);
        Ok(Self { pool, waiting, shared, connector, options })
    }

    /// The options it was opened with.
    #[must_use]
    pub fn options(&self) -> &RedisOptions {
        &self.options
    }

    pub(super) const fn connector(&self) -> &Connector {
        &self.connector
    }

    /// A share in one of the connections.
    pub(super) async fn share(&self) -> StoreResult<Share<'_>> {
        self.share_of(&self.pool).await
    }

    /// A share in a connection that may stand still until replicas answer.
    pub(super) async fn share_to_wait(&self) -> StoreResult<Share<'_>> {
        self.share_of(self.waiting.as_ref().unwrap_or(&self.pool)).await
    }

    async fn share_of(&self, pool: &Pool<Manager>) -> StoreResult<Share<'_>> {
        match pool.get().await {
            // The connection goes back at once: others write to it while this caller waits for its answer.
            Ok(member) => Ok(Share { member: member.clone(), shared: &self.shared }),
            Err(RunError::User(error)) => Err(store_error(error)),
            Err(RunError::TimedOut) => {
                let silent = || io::Error::from(io::ErrorKind::TimedOut).into();
                Err(store_error(self.shared.failure().unwrap_or_else(silent)))
            }
        }
    }

    /// Runs one command.
    ///
    /// # Errors
    /// As the server tells; an answer of another type than `T` is `Corrupt`.
    pub async fn query<T: FromRedisValue>(&self, command: &Cmd) -> StoreResult<T> {
        self.share().await?.query(command).await.map_err(store_error)
    }

    /// Runs commands one after the other, in one round trip but not as one: others may come in between. On a cluster all their keys must be
    /// in one slot.
    ///
    /// # Errors
    /// The first of them; the commands after it were run too.
    pub async fn pipeline<T: FromRedisValue>(&self, commands: &Pipeline) -> StoreResult<T> {
        self.share().await?.pipeline(commands).await.map_err(store_error)
    }
}

/// One caller's hold on a shared connection.
pub(super) struct Share<'a> {
    member: Member,
    shared: &'a Shared,
}

impl Share<'_> {
    pub(super) async fn query<T: FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<T> {
        let answer = command.query_async(&mut self.member.link).await;
        self.note(answer)
    }

    pub(super) async fn pipeline<T: FromRedisValue>(&mut self, commands: &Pipeline) -> RedisResult<T> {
        let answer = commands.query_async(&mut self.member.link).await;
        self.note(answer)
    }

    /// Ends the generation when the answer says that its connections are of no use.
    fn note<T>(&self, answer: RedisResult<T>) -> RedisResult<T> {
        answer.inspect_err(|error| {
            if ends_connection(error) {
                self.shared.end(self.member.generation);
            }
        })
    }

    /// Asks every master there is; each answer comes with the address of who gave it, which is empty where there is only one.
    pub(super) async fn ask_masters(&mut self, command: &Cmd) -> RedisResult<Vec<(String, Value)>> {
        let answer = self.member.link.ask_masters(command).await;
        self.note(answer)
    }
}
