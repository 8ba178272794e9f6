//! The writer: one thread that owns the state machine and makes every change. Calls that wait while a commit runs share the next one.
//!
//! A call is answered only after the commit that holds its changes. When a commit fails, what is in memory is ahead of what is on disk: the
//! thread ends, and every call from then on is told to open the store again.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use metamcp_core::{
    error::{StoreError, StoreErrorKind, StoreResult},
    queue::CoreLimits,
    time::Clock,
};
use tokio::sync::{mpsc, oneshot};

use super::{
    STORE,
    journal::Journal,
    reopen,
    shared::{Shared, closed},
    state::{State, describe},
};

/// Most calls that share a commit.
const COMMIT_CALLS_MAX: usize = 256;
/// Records after which a commit takes no further call.
const COMMIT_RECORDS_MAX: usize = 4_096;
/// Most calls that wait for the writer; more wait to be let in.
const QUEUE_CALLS_MAX: usize = 1_024;
/// Longest wait for the callers of the commit before to come back with their next call, in microseconds.
const GATHER_US_MAX: u64 = 200;

/// A call on its way: run on the writer's thread, then answered after the commit.
trait Step: Send {
    fn run(&mut self, state: &mut State);
    fn answer(self: Box<Self>, failed: Option<&str>);
}

struct Call<F, T> {
    work: Option<F>,
    outcome: Option<StoreResult<T>>,
    reply: oneshot::Sender<StoreResult<T>>,
}

impl<F, T> Step for Call<F, T>
where
    F: FnOnce(&mut State) -> StoreResult<T> + Send,
    T: Send,
{
    fn run(&mut self, state: &mut State) {
        if let Some(work) = self.work.take() {
            self.outcome = Some(work(state));
            state.absorb();
        }
    }

    fn answer(self: Box<Self>, failed: Option<&str>) {
        let outcome = match (failed, self.outcome) {
            (None, Some(outcome)) => outcome,
            (why, _) => Err(closed(why.unwrap_or(STOPPED))),
        };
        // A caller that went away has its effect all the same.
        let _ = self.reply.send(outcome);
    }
}

const STOPPED: &str = "the store was closed; open it again";

/// The way to the writer's thread. Dropping it ends the thread, after what was asked before is done.
pub(super) struct Writer {
    queue: Option<mpsc::Sender<Box<dyn Step>>>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("shared", &self.shared).finish_non_exhaustive()
    }
}

impl Writer {
    /// Reads the journal and starts the thread.
    pub(super) fn start(journal: Arc<Journal>, clock: Arc<dyn Clock>, limits: CoreLimits) -> StoreResult<Self> {
        let state = reopen::load(journal, clock, limits)?;
        let shared = Arc::clone(&state.shared);
        let (queue, calls) = mpsc::channel(QUEUE_CALLS_MAX);
        let told = Arc::clone(&shared);
        let work = move || {
            if catch_unwind(AssertUnwindSafe(|| work(state, calls))).is_err() {
                told.fail("the writer's thread panicked, which is a fault of MetaMCP; start again");
            }
        };
        let thread = thread::Builder::new().name("metamcp-journal".to_owned()).spawn(work).map_err(|e| {
            let message = "cannot start the writer's thread; allow this process more threads";
            StoreError::new(StoreErrorKind::Unavailable, STORE, message).with_source(e)
        })?;
        Ok(Self { queue: Some(queue), thread: Some(thread), shared })
    }

    /// What callers read beside the journal.
    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Runs `work` on the writer's thread; answers once what it changed is durable.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut State) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let (reply, answer) = oneshot::channel();
        let call = Box::new(Call { work: Some(work), outcome: None, reply });
        let gone = || self.shared.check_open().err().unwrap_or_else(|| closed(STOPPED));
        self.queue.as_ref().ok_or_else(gone)?.send(call).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // Its panic was told to the callers; there is nobody to tell here.
            let _ = thread.join();
        }
    }
}

fn work(mut state: State, mut queue: mpsc::Receiver<Box<dyn Step>>) {
    let mut calls: Vec<Box<dyn Step>> = Vec::with_capacity(COMMIT_CALLS_MAX);
    let mut expected = 1;
    while let Some(first) = queue.blocking_recv() {
        perform(first, &mut state, &mut calls);
        gather(&mut queue, expected, &mut state, &mut calls);
        expected = calls.len();
        let failed = state.commit().err().map(|e| describe(&e));
        if let Some(why) = &failed {
            tracing::error!(why, "the journal failed, the store is closed");
            state.shared.fail(why);
        }
        for call in calls.drain(..) {
            call.answer(failed.as_deref());
        }
        if failed.is_some() {
            return;
        }
    }
}

fn perform(mut call: Box<dyn Step>, state: &mut State, calls: &mut Vec<Box<dyn Step>>) {
    call.run(state);
    calls.push(call);
}

/// Takes what is waiting, and waits a little for as many callers as the last commit had: answered together, they come back almost together,
/// and a commit for the first of them alone would cost the others a whole one more.
fn gather(
    queue: &mut mpsc::Receiver<Box<dyn Step>>,
    expected: usize,
    state: &mut State,
    calls: &mut Vec<Box<dyn Step>>,
) {
    let until = Instant::now() + Duration::from_micros(GATHER_US_MAX);
    while calls.len() < COMMIT_CALLS_MAX && state.pending() < COMMIT_RECORDS_MAX {
        match queue.try_recv() {
            Ok(call) => perform(call, state, calls),
            Err(_) if calls.len() < expected && state.pending() > 0 && Instant::now() < until => thread::yield_now(),
            Err(_) => break,
        }
    }
}
