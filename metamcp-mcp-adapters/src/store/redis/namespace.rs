//! One namespace of a Redis: how it is used, reached and timed, whatever is kept in it.

use std::sync::{Arc, Mutex, PoisonError};

use metamcp_core::{
    error::StoreResult,
    queue::{CoreLimits, Durability},
    time::{Clock, Timestamp},
};
use redis::FromRedisValue;

use super::{
    check::ServerReport,
    error::{corrupt, script_error},
    options::RedisOptions,
    pool::RedisPool,
    script::{Script, ScriptCall},
    scripts,
};

/// Answers the server's time in milliseconds. It names a key, so that it runs where those of its namespace are.
const NOW: &str = "local now = redis.call('TIME') return now[1] * 1000 + math.floor(now[2] / 1000)";
/// Events that are kept unless the options say otherwise.
pub const EVENTS_KEPT_MAX: u64 = 100_000;
/// Largest result body unless the options say otherwise, in bytes. Redis keeps all of them in memory.
pub const RESULT_BYTES: usize = 1 << 20;
/// The version of the form in which everything is stored, and the newest that this build reads.
const FORMAT: u32 = 1;

/// How a Redis is used as a store.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RedisStoreOptions {
    /// Where it is, and how it is reached.
    pub redis: RedisOptions,
    /// Bounds and delays of the queue. The same for all processes of a namespace.
    pub limits: CoreLimits,
    /// Most events that are kept; those of the oldest call that is kept in part stay with it.
    pub events_kept_max: u64,
    /// Largest result body, in bytes; at most [`RESULT_BYTES_MAX`](metamcp_core::result::RESULT_BYTES_MAX). Larger ones belong into object
    /// storage.
    pub result_bytes_max: usize,
}

impl From<RedisOptions> for RedisStoreOptions {
    fn from(redis: RedisOptions) -> Self {
        Self { redis, limits: CoreLimits::default(), events_kept_max: EVENTS_KEPT_MAX, result_bytes_max: RESULT_BYTES }
    }
}

/// What all views of one namespace share.
#[derive(Debug)]
pub(super) struct Namespace {
    pub(super) pool: RedisPool,
    pub(super) options: RedisStoreOptions,
    /// What all keys begin with.
    pub(super) tag: String,
    /// A clock in place of the server's, in tests.
    clock: Option<Arc<dyn Clock>>,
    /// As it was last looked at. Short sections, never held over an await.
    durability: Mutex<Durability>,
}

impl Namespace {
    /// Connects, looks whether the server keeps what it is given, and whether this build can read what is there.
    pub(super) async fn open(options: RedisStoreOptions, clock: Option<Arc<dyn Clock>>) -> StoreResult<Arc<Self>> {
        let pool = RedisPool::open(options.redis.clone()).await?;
        let namespace =
            Self { tag: options.redis.tag(), pool, options, clock, durability: Mutex::new(Durability::Memory) };
        for warning in namespace.look().await?.warnings {
            tracing::warn!(redis = %namespace.options.redis, "{warning}");
        }
        namespace.check_format().await?;
        Ok(Arc::new(namespace))
    }

    /// A key of this namespace.
    pub(super) fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.tag)
    }

    /// The call of a script, its time given.
    pub(super) fn call(&self, script: &'static Script) -> ScriptCall<'static> {
        let now = self.clock.as_ref().map(|clock| clock.now().as_millis().to_string());
        script.call(&[&self.tag]).arg(now.unwrap_or_default())
    }

    /// The time of the server that has this namespace.
    pub(super) async fn now(&self) -> StoreResult<Timestamp> {
        if let Some(clock) = &self.clock {
            return Ok(clock.now());
        }
        let mut ask = redis::cmd("EVAL");
        ask.arg(NOW).arg(1).arg(self.key("now"));
        let millis: u64 = self.pool.share().await?.query(&ask).await.map_err(|error| script_error("now", error))?;
        Ok(Timestamp::from_millis(millis))
    }

    /// Runs what nobody would miss after a failover, or what can be found out again.
    pub(super) async fn run<T: FromRedisValue>(&self, call: &ScriptCall<'_>) -> StoreResult<T> {
        self.pool.run(call).await
    }

    /// Runs what is acknowledged to a caller: with as many replicas as the options ask for.
    pub(super) async fn acknowledge<T: FromRedisValue>(&self, call: &ScriptCall<'_>) -> StoreResult<T> {
        self.pool.run_replicated(call).await
    }

    /// How far an acknowledged write is safe.
    pub(super) fn durability(&self) -> Durability {
        *self.durability.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the server anew.
    pub(super) async fn look(&self) -> StoreResult<ServerReport> {
        let mut report = self.pool.check().await?;
        if self.options.redis.wait_replicas > 0 && report.durability != Durability::Memory {
            report.durability = Durability::Replicated;
        }
        *self.durability.lock().unwrap_or_else(PoisonError::into_inner) = report.durability;
        Ok(report)
    }

    async fn check_format(&self) -> StoreResult<()> {
        let version: String = self.acknowledge(&self.call(&scripts::OPEN).arg(FORMAT)).await?;
        match version.parse::<u32>() {
            Ok(version) if version <= FORMAT => Ok(()),
            _ => Err(corrupt(format!(
                "namespace {} has the form {version:?} and this build reads {FORMAT} at most; run the build that wrote it, a newer one, or use \
                 another namespace",
                self.options.redis.namespace
            ))),
        }
    }
}
