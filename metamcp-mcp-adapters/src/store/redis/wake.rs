//! Waits for work without asking again and again: one connection of the process blocks on the lists of wake tokens.
//!
//! Who makes a job ready pushes a token onto the list of its lane. A token is a hint: jobs are never in these lists, so a token that is lost
//! costs time and nothing else. That is why it may be popped by a connection that dies in the same moment.

use std::{sync::Arc, time::Duration};

use metamcp_core::id::Lane;
use redis::{Cmd, RedisResult};
use tokio::task::JoinHandle;

use super::{
    error::store_error,
    link::{Connector, Link},
    pool::RedisPool,
    waiters::Waiters,
};

/// How long one call blocks at most, in seconds. It also bounds how long a lost nudge keeps a new lane unwatched.
const BLOCK_S: u64 = 5;
/// The first pause after a failure is drawn below this, in milliseconds; the bound doubles with each failure.
const PAUSE_MS: u64 = 100;
/// No pause is drawn above this, in milliseconds.
const PAUSE_MS_MAX: u64 = 5_000;
/// How long a nudge that nobody took stays, in seconds.
const NUDGE_TTL_S: u64 = 60;

/// The key of the wake tokens of a lane; `tag` as of [`RedisOptions::tag`](super::RedisOptions::tag).
#[must_use]
pub fn wake_key(tag: &str, lane: &str) -> String {
    format!("{tag}:w:{lane}")
}

/// Wakes callers of this process when a token comes. Dropping it closes its connection; those who wait then wait until their time is over.
#[derive(Debug)]
pub struct RedisWake {
    waiters: Arc<Waiters>,
    task: JoinHandle<()>,
}

impl RedisWake {
    /// Starts. It connects once somebody waits.
    #[must_use]
    pub fn start(pool: &RedisPool) -> Self {
        let waiters = Arc::new(Waiters::default());
        let watcher = Watcher {
            connector: pool.connector().clone(),
            pool: pool.clone(),
            waiters: Arc::clone(&waiters),
            tag: pool.options().tag(),
            nudge_key: format!("{}:nudge:{:016x}", pool.options().tag(), rand::random::<u64>()),
        };
        Self { waiters, task: tokio::spawn(watcher.run()) }
    }

    /// Waits until a token of one of `lanes` comes, or `max_wait` is over. Tokens that lie there already end it at once.
    ///
    /// # Cancel safety
    /// Safe: a token that has come meanwhile wakes the next who waits here for its lane.
    pub async fn wait(&self, lanes: &[Lane], max_wait: Duration) {
        self.waiters.wait(lanes.iter().map(ToString::to_string).collect(), max_wait).await;
    }
}

impl Drop for RedisWake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Watcher {
    connector: Connector,
    pool: RedisPool,
    waiters: Arc<Waiters>,
    tag: String,
    /// A list of this process alone: a token in it ends the blocking call, so that other lanes are watched.
    nudge_key: String,
}

impl Watcher {
    async fn run(self) {
        let mut failures = 0_u32;
        loop {
            self.waiters.other_than(&[]).await;
            let Err(error) = self.watch(&mut failures).await;
            failures = failures.saturating_add(1);
            tracing::warn!(error = %store_error(error), failures, "nobody is woken by Redis for now; those who wait look for work in their own time");
            let bound = PAUSE_MS.saturating_mul(1 << failures.min(16)).min(PAUSE_MS_MAX);
            // Full jitter: the processes that one restart cut off do not come back together.
            tokio::time::sleep(Duration::from_millis(rand::random_range(0..=bound))).await;
        }
    }

    /// Brings tokens until the connection fails.
    async fn watch(&self, failures: &mut u32) -> RedisResult<std::convert::Infallible> {
        // The call itself takes as long as it blocks; on top comes what any call may take.
        let response = Duration::from_secs(BLOCK_S) + self.pool.options().response_timeout;
        let mut link = self.connector.connect(response, || {}).await?;
        let mut turn = 0_usize;
        loop {
            self.waiters.other_than(&[]).await;
            let mut lanes = self.waiters.lanes();
            // The first list that holds a token is popped: turns keep a busy lane from hiding the others.
            if let Some(by) = turn.checked_rem(lanes.len()) {
                lanes.rotate_left(by);
            }
            if let Some(lane) = self.pop(&mut link, &lanes).await? {
                self.hand_over(&lane).await;
            }
            *failures = 0;
            turn = turn.wrapping_add(1);
        }
    }

    /// The lane of the next token, if one comes in time.
    async fn pop(&self, link: &mut Link, lanes: &[String]) -> RedisResult<Option<String>> {
        let mut command = redis::cmd("BLPOP");
        command.arg(&self.nudge_key);
        for lane in lanes {
            command.arg(wake_key(&self.tag, lane));
        }
        command.arg(BLOCK_S);
        let popped = self.popped(link, &command, lanes).await?;
        let prefix = wake_key(&self.tag, "");
        Ok(popped.and_then(|(key, _)| key.strip_prefix(&prefix).map(str::to_owned)))
    }

    async fn popped(&self, link: &mut Link, command: &Cmd, lanes: &[String]) -> RedisResult<Option<(String, String)>> {
        let mut popping = std::pin::pin!(command.query_async(link));
        tokio::select! {
            biased;
            popped = &mut popping => return popped,
            () = self.waiters.other_than(lanes) => {}
        }
        self.nudge().await;
        popping.await
    }

    /// Ends the blocking call of this process. When that fails the call ends in its own time.
    async fn nudge(&self) {
        let mut commands = redis::pipe();
        commands.cmd("LPUSH").arg(&self.nudge_key).arg(1).ignore();
        commands.cmd("EXPIRE").arg(&self.nudge_key).arg(NUDGE_TTL_S).ignore();
        if let Err(error) = self.pool.pipeline::<()>(&commands).await {
            tracing::debug!(%error, "a lane is watched late");
        }
    }

    /// Wakes one who waits. When all have left meanwhile the token goes back, as it may be for another process.
    async fn hand_over(&self, lane: &str) {
        if !self.waiters.wake_one(lane) {
            let back = self.pool.query::<()>(redis::cmd("LPUSH").arg(wake_key(&self.tag, lane)).arg(1)).await;
            if let Err(error) = back {
                tracing::debug!(%error, lane, "a wake token is lost");
            }
        }
    }
}
