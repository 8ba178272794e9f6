//! Lua scripts: put together from parts that are files beside the code, run by their hash, and sent whole to a server that has forgotten
//! them, as after a restart or a failover.

use metamcp_core::error::{StoreError, StoreResult};
use redis::{
    Arg, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult, ServerErrorKind, ToRedisArgs, Value,
};

use super::{
    error::{script_error, unavailable},
    pool::RedisPool,
};

/// Makes sure that the connection has written something: only then does `WAIT` wait. A script that finds its work done before writes nothing.
const MARK: &str = "#!lua flags=allow-oom\nreturn redis.call('SET', KEYS[1], 1)";
/// What the key of the mark ends with.
const MARK_KEY: &str = ":mark";

/// Whether a script runs while Redis holds as much as `maxmemory` lets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// It is refused, before it has done anything: what brings new data.
    Refuse,
    /// It runs: what ends jobs, or moves them, must go on, and so must what keeps the result that a job ends with.
    Run,
}

/// A Lua script.
///
/// It may be run again whenever its answer was lost, so it must find out by itself what it has done before.
#[derive(Debug)]
pub struct Script {
    name: &'static str,
    source: String,
    hash: String,
}

impl Script {
    /// A script made of `parts`, such as a prelude and a body; `name` is for errors.
    #[must_use]
    pub fn new(name: &'static str, when_full: WhenFull, parts: &[&str]) -> Self {
        let flags = match when_full {
            WhenFull::Refuse => "#!lua",
            WhenFull::Run => "#!lua flags=allow-oom",
        };
        let source = format!("{flags}\n{}", parts.join("\n"));
        let hash = redis::Script::new(&source).get_hash().to_owned();
        Self { name, source, hash }
    }

    /// A call with these keys. All must be in one slot; the first of them leads to it.
    pub fn call(&self, keys: &[&str]) -> ScriptCall<'_> {
        let mut by_hash = redis::cmd("EVALSHA");
        by_hash.arg(&self.hash).arg(keys.len()).arg(keys);
        ScriptCall { script: self, by_hash }
    }
}

/// One call of a script.
#[must_use = "a call does nothing before a pool runs it"]
#[derive(Debug, Clone)]
pub struct ScriptCall<'a> {
    script: &'a Script,
    by_hash: Cmd,
}

impl ScriptCall<'_> {
    /// With one more argument, or several: a slice is as many as it holds.
    pub fn arg(mut self, value: impl ToRedisArgs) -> Self {
        self.by_hash.arg(value);
        self
    }

    /// The call with the script's text in place of its hash.
    fn by_source(&self) -> Cmd {
        let mut whole = redis::cmd("EVAL");
        whole.arg(&self.script.source);
        for arg in self.by_hash.args_iter().skip(2) {
            if let Arg::Simple(bytes) = arg {
                whole.arg(bytes);
            }
        }
        whole
    }

    fn error(&self, error: RedisError) -> StoreError {
        script_error(self.script.name, error)
    }
}

/// The server does not know the script.
fn is_unknown<T>(answer: &RedisResult<T>) -> bool {
    matches!(answer, Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript))
}

impl RedisPool {
    /// Runs a script.
    ///
    /// # Errors
    /// As the server tells; an answer of another type than `T` is `Corrupt`.
    pub async fn run<T: FromRedisValue>(&self, call: &ScriptCall<'_>) -> StoreResult<T> {
        let mut share = self.share().await?;
        let mut answer = share.query(&call.by_hash).await;
        if is_unknown(&answer) {
            // Once is enough: this runs it, whatever the server forgets in between.
            answer = share.query(&call.by_source()).await;
        }
        answer.map_err(|error| call.error(error))
    }

    /// Runs a script and waits until as many replicas have what it wrote as the options ask for; with none it is [`run`](Self::run).
    ///
    /// # Errors
    /// As [`run`](Self::run), and `Unavailable` when too few replicas confirm in time: it was done, but a failover could lose it. The same
    /// call again waits again.
    pub async fn run_replicated<T: FromRedisValue>(&self, call: &ScriptCall<'_>) -> StoreResult<T> {
        let wanted = self.options().wait_replicas;
        if wanted == 0 {
            return self.run(call).await;
        }
        let mut share = self.share_to_wait().await?;
        let mut answer = share.pipeline(&self.waited(call.by_hash.clone())).await;
        if is_unknown(&answer) {
            answer = share.pipeline(&self.waited(call.by_source())).await;
        }
        let (value, confirmed): (Value, u64) = answer.map_err(|error| call.error(error))?;
        if confirmed < wanted.into() {
            return Err(unavailable(format!(
                "script {}: done, but only {confirmed} of {wanted} replicas confirmed it within {} ms, so a failover could lose it; repeat \
                 the call, start the replicas, or ask for fewer with wait_replicas",
                call.script.name,
                self.options().wait_timeout.as_millis(),
            )));
        }
        redis::from_redis_value(value).map_err(|error| call.error(error.into()))
    }

    fn waited(&self, call: Cmd) -> Pipeline {
        let mark_key = self.options().tag() + MARK_KEY;
        let mut commands = redis::pipe();
        commands.add_command(call);
        commands.cmd("EVAL").arg(MARK).arg(1).arg(mark_key).ignore();
        let wait_ms = u64::try_from(self.options().wait_timeout.as_millis()).unwrap_or(u64::MAX);
        commands.cmd("WAIT").arg(self.options().wait_replicas).arg(wait_ms);
        commands
    }
}
