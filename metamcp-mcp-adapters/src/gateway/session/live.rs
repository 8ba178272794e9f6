//! What this process holds of a legacy session while its client comes by: small, and nothing that runs.

use std::{
    collections::{BTreeSet, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use bytes::Bytes;
use metamcp_core::{auth::Principal, json::RawJson, time::Timestamp};
use tokio::{sync::Notify, time::Instant};

use super::{
    log::{EventId, EventLog, Following},
    questions::Questions,
    running::Running,
    shared::{COMPLETED_MAX, Completed, Shared},
    ticket::Opened,
};
use crate::gateway::{Caller, subscribe::Subscription};

/// Something that runs for a client and can be stopped.
pub(crate) trait Stop: Send + Sync {
    /// Stops it.
    fn stop(&self);
}

/// The stream of a GET, on which events come that belong to no request.
pub(crate) const GET_STREAM: u32 = 0;
/// Streams of one session whose end is still to come, connected or not.
const STREAMS_MAX: usize = 64;

/// A legacy session.
pub(crate) struct Session {
    /// Its id as the client has it.
    pub(crate) id: Arc<str>,
    pub(super) nonce: u128,
    pub(super) expires: Timestamp,
    /// What its client was asked.
    pub(crate) questions: Questions,
    /// What is being done for it.
    pub(crate) running: Running<Arc<dyn Stop>>,
    /// Whether a task looks for what is taken back of it elsewhere.
    pub(super) looked_after: AtomicBool,
    /// Wakes the stream of its GET when something about it has changed.
    pub(crate) changed: Notify,
    /// Wakes who waits for events of a stream that was cut.
    logged: Notify,
    state: Mutex<State>,
}

struct State {
    caller: Arc<Caller>,
    /// The version of the record that `uris`, `ended` and `completed` are from.
    version: u64,
    uris: BTreeSet<String>,
    ended: bool,
    used: Instant,
    looked: Instant,
    log: EventLog,
    streams: u32,
    /// Counts events of the GET's stream.
    news: u32,
    open_streams: Vec<u32>,
    /// Counts GETs: the latest has the stream.
    gets: u32,
    /// What was subscribed for a GET that was cut: it goes on with the next.
    parked: Option<Subscription>,
    /// Elicitations that are complete, as they are known to all replicas.
    completed: Vec<Completed>,
    /// Those that no stream has told yet.
    untold: VecDeque<RawJson>,
}

impl Session {
    pub(super) fn new(id: Arc<str>, opened: Opened, shared: Shared, now: Instant) -> Self {
        let Opened { mut caller, nonce, expires } = opened;
        caller.log_level = shared.log_level.or(caller.log_level);
        let state = State {
            caller: Arc::new(caller),
            version: 0,
            uris: shared.uris,
            ended: shared.ended,
            used: now,
            looked: now,
            log: EventLog::default(),
            streams: GET_STREAM,
            news: 0,
            open_streams: Vec::new(),
            gets: 0,
            parked: None,
            untold: shared.completed.iter().map(|one| one.params.clone()).collect(),
            completed: shared.completed,
        };
        Self {
            id,
            nonce,
            expires,
            questions: Questions::default(),
            running: Running::default(),
            looked_after: AtomicBool::new(false),
            changed: Notify::new(),
            logged: Notify::new(),
            state: Mutex::new(state),
        }
    }

    /// Its client, as its requests are seen from now on.
    pub(crate) fn caller(&self) -> Arc<Caller> {
        Arc::clone(&self.lock().caller)
    }

    /// The resources its client wants to be told of.
    pub(crate) fn uris(&self) -> Vec<String> {
        self.lock().uris.iter().cloned().collect()
    }

    /// Whether it is over.
    pub(crate) fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// Begins the stream of an answer; `None` when too many of them are cut off and still awaited.
    pub(crate) fn begin_stream(&self) -> Option<u32> {
        let mut state = self.lock();
        if state.open_streams.len() >= STREAMS_MAX {
            return None;
        }
        state.streams = state.streams.wrapping_add(1).max(GET_STREAM + 1);
        let stream = state.streams;
        state.open_streams.push(stream);
        Some(stream)
    }

    /// Keeps an event for a client that loses its connection.
    pub(crate) fn keep(&self, id: EventId, event: &Bytes, is_answer: bool) {
        self.lock().log.keep(id, event, is_answer);
        self.logged.notify_waiters();
    }

    /// Keeps an event of the GET's stream, made by `event` of its id, and gives it back.
    pub(crate) fn send_news(&self, event: impl FnOnce(EventId) -> Bytes) -> Bytes {
        let mut state = self.lock();
        state.news = state.news.wrapping_add(1);
        let id = EventId::new(GET_STREAM, state.news);
        let event = event(id);
        state.log.keep(id, &event, false);
        event
    }

    /// The number of the last event of the GET's stream.
    pub(crate) fn sent(&self) -> u32 {
        self.lock().news
    }

    /// Nothing more comes on a stream.
    pub(crate) fn end_stream(&self, stream: u32) {
        let mut state = self.lock();
        let Some(at) = state.open_streams.iter().position(|open| *open == stream) else { return };
        state.open_streams.swap_remove(at);
        drop(state);
        self.logged.notify_waiters();
    }

    /// What was sent behind an event and is still known. Nothing more comes when it is the event of an answer that was made.
    pub(crate) fn behind(&self, last: EventId) -> Following {
        let state = self.lock();
        let events = state.log.behind(last);
        let may_go_on = last.stream == GET_STREAM || state.open_streams.contains(&last.stream);
        if events.is_empty() && !may_go_on { Following::End } else { Following::Events(events) }
    }

    /// What comes behind an event, as soon as there is something. Cancel safe.
    pub(crate) async fn following(&self, last: EventId) -> Following {
        loop {
            let logged = self.logged.notified();
            match self.behind(last) {
                Following::Events(events) if events.is_empty() => {
                    let mut logged = std::pin::pin!(logged);
                    // Listens from here on; what was logged meanwhile is seen by looking once more.
                    if !logged.as_mut().enable()
                        && matches!(self.behind(last), Following::Events(events) if events.is_empty())
                    {
                        logged.await;
                    }
                }
                found => return found,
            }
        }
    }

    /// A GET takes the stream over from any before it; with what was subscribed for one that was cut.
    pub(crate) fn take_get(&self) -> (u32, Option<Subscription>) {
        let mut state = self.lock();
        state.gets = state.gets.wrapping_add(1);
        let taken = (state.gets, state.parked.take());
        drop(state);
        self.changed.notify_waiters();
        taken
    }

    /// Whether the GET of this number still has the stream.
    pub(crate) fn has_get(&self, number: u32) -> bool {
        let state = self.lock();
        state.gets == number && !state.ended
    }

    /// Leaves the subscription of a GET that was cut for the next one.
    pub(crate) fn park(&self, number: u32, subscription: Subscription) {
        let mut state = self.lock();
        if state.gets == number && !state.ended {
            state.parked = Some(subscription);
        }
    }

    /// An elicitation that is complete, to be told on the stream of the GET.
    pub(crate) fn take_completed(&self) -> Option<RawJson> {
        self.lock().untold.pop_front()
    }

    /// Its client was heard of.
    pub(crate) fn touch(&self, now: Instant) {
        self.lock().used = now;
    }

    /// A request of this client came; `None` when the session is another's. Whether the shared record is to be looked at again: whoever is
    /// told so looks.
    pub(super) fn visit(
        &self,
        principal: &Principal,
        endpoint: Option<&str>,
        now: Instant,
        every: Duration,
    ) -> Option<bool> {
        let mut state = self.lock();
        if state.caller.principal != *principal || state.caller.endpoint.as_deref() != endpoint {
            return None;
        }
        state.used = now;
        let due = now.duration_since(state.looked) >= every;
        if due {
            state.looked = now;
        }
        Some(due)
    }

    /// Takes over what is set in the session by the record of this version; what was read before a later one is known is of no use.
    pub(super) fn set(&self, shared: Shared, version: u64) {
        let mut state = self.lock();
        if version < state.version {
            return;
        }
        state.version = version;
        if shared.log_level.is_some() && shared.log_level != state.caller.log_level {
            let caller = Caller { log_level: shared.log_level, ..Caller::clone(&state.caller) };
            state.caller = Arc::new(caller);
        }
        let changed = state.uris != shared.uris || state.ended != shared.ended || state.completed != shared.completed;
        let new: Vec<RawJson> = shared
            .completed
            .iter()
            .filter(|one| !state.completed.contains(one))
            .map(|one| one.params.clone())
            .collect();
        state.untold.extend(new);
        let over = state.untold.len().saturating_sub(COMPLETED_MAX);
        state.untold.drain(..over);
        state.completed = shared.completed;
        state.uris = shared.uris;
        state.ended |= shared.ended;
        let has_ended = state.ended;
        if has_ended {
            state.parked = None;
            state.log.clear();
        }
        drop(state);
        if changed {
            self.changed.notify_waiters();
        }
        if has_ended {
            for running in self.running.take_all() {
                running.stop();
            }
        }
    }

    /// Whether nobody needs it: its client has not been heard of for so long, and nothing is done or sent for it.
    pub(super) fn is_idle(&self, now: Instant, idle: Duration) -> bool {
        let state = self.lock();
        now.duration_since(state.used) >= idle && state.open_streams.is_empty() && self.running.len() == 0
    }

    /// When its client was heard of last.
    pub(super) fn used(&self) -> Instant {
        self.lock().used
    }

    /// Gives back what an idle session can do without.
    pub(super) fn slim(&self, now: Instant, kept: Duration) {
        let mut state = self.lock();
        if now.duration_since(state.used) >= kept && state.open_streams.is_empty() {
            state.log.clear();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("nonce", &self.nonce).finish_non_exhaustive()
    }
}
