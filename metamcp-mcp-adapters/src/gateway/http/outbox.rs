//! What goes to a client on the stream of its request before the answer: notifications, and questions to a legacy client.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::gateway::{
    front::Frame,
    session::{EventId, Session, Stop},
};

/// Most bytes that wait for a client that does not read; further notifications are dropped.
const WAITING_BYTES_MAX: usize = 1 << 20;
/// From this revision on a stream begins with an event without data, by whose id it can be gone on with.
const PRIMED_SINCE: &str = "2025-11-25";

/// Events on their way to a client.
pub(super) struct Outbox {
    /// The client takes a stream as an answer.
    takes_events: bool,
    /// The session whose streams can be gone on with.
    session: OnceLock<Arc<Session>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Bytes>,
    bytes: usize,
    dropped: u64,
    waker: Option<Waker>,
    stopped: bool,
    /// The answer is made: nothing goes before it any more.
    answered: bool,
    /// The client is gone: events are only kept in the session.
    detached: bool,
    /// The stream and the number of its last event, once there is one.
    stream: Option<(u32, u32)>,
}

/// The client has no stream, or does not read it.
#[derive(Debug)]
pub(super) struct NotTaken;

impl Outbox {
    /// None yet.
    pub(super) fn new(takes_events: bool) -> Self {
        Self { takes_events, session: OnceLock::new(), state: Mutex::default() }
    }

    /// Whether the client takes a stream as an answer.
    pub(super) const fn takes_events(&self) -> bool {
        self.takes_events
    }

    /// The request is one of this session.
    pub(super) fn belongs_to(&self, session: &Arc<Session>) {
        self.session.get_or_init(|| Arc::clone(session));
    }

    /// The session of the request.
    pub(super) fn session(&self) -> Option<&Arc<Session>> {
        self.session.get()
    }

    /// Sends a message.
    pub(super) fn send(&self, message: String) -> Result<(), NotTaken> {
        let mut state = self.lock();
        if !self.takes_events || state.bytes + message.len() > WAITING_BYTES_MAX {
            state.dropped += 1;
            return Err(NotTaken);
        }
        let event = self.event(&mut state, &[message.into()], false);
        if !state.detached {
            state.bytes += event.len();
            state.waiting.push_back(event);
        }
        if let Some(waker) = state.waker.take() {
            drop(state);
            waker.wake();
        }
        Ok(())
    }

    /// Sends a message, if the stream has begun and its client reads on until the answer.
    pub(super) fn send_beside(&self, message: String) -> Result<(), NotTaken> {
        let is_open = {
            let state = self.lock();
            state.stream.is_some() && !state.answered && !state.detached && !state.stopped
        };
        if is_open { self.send(message) } else { Err(NotTaken) }
    }

    /// The answer as the last event of the stream.
    pub(super) fn last(&self, answer: Option<Frame>) -> Option<Bytes> {
        let mut state = self.lock();
        state.answered = true;
        let event = answer.map(|answer| self.event(&mut state, &answer.into_pieces(), true));
        if let (Some(session), Some((stream, _))) = (self.session.get(), state.stream) {
            session.end_stream(stream);
        }
        event
    }

    /// The next event that waits.
    pub(super) fn next(&self) -> Option<Bytes> {
        let mut state = self.lock();
        let event = state.waiting.pop_front()?;
        state.bytes -= event.len();
        Some(event)
    }

    /// Wakes this task at the next event, or when the request is taken back.
    pub(super) fn wake(&self, cx: &Context<'_>) {
        let mut state = self.lock();
        if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.waker = Some(cx.waker().clone());
        }
    }

    /// Whether events wait.
    pub(super) fn has_events(&self) -> bool {
        !self.lock().waiting.is_empty()
    }

    /// Whether the stream has begun.
    pub(super) fn has_begun(&self) -> bool {
        self.lock().stream.is_some()
    }

    /// Ready when the client has taken its request back.
    pub(super) fn poll_stopped(&self, cx: &Context<'_>) -> Poll<()> {
        if self.lock().stopped {
            return Poll::Ready(());
        }
        self.wake(cx);
        Poll::Pending
    }

    /// The client is gone, what runs for it runs on.
    pub(super) fn detach(&self) {
        let mut state = self.lock();
        state.detached = true;
        state.bytes = 0;
        state.waiting = VecDeque::new();
    }

    /// A message as an event, with its number on the stream if the client may ask for it again.
    fn event(&self, state: &mut State, pieces: &[Bytes], is_answer: bool) -> Bytes {
        let Some(session) = self.session.get() else { return event(None, pieces) };
        if state.stream.is_none() {
            let Some(stream) = session.begin_stream() else { return event(None, pieces) };
            state.stream = Some((stream, 0));
            if *session.caller().revision >= *PRIMED_SINCE && !state.detached {
                let primer = event(Some(EventId::new(stream, 0)), &[]);
                state.bytes += primer.len();
                state.waiting.push_back(primer);
            }
        }
        let Some((stream, number)) = &mut state.stream else { return event(None, pieces) };
        *number += 1;
        let id = EventId::new(*stream, *number);
        let event = event(Some(id), pieces);
        session.keep(id, &event, is_answer);
        event
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stop for Outbox {
    fn stop(&self) {
        let mut state = self.lock();
        state.stopped = true;
        if let Some(waker) = state.waker.take() {
            drop(state);
            waker.wake();
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if state.dropped > 0 {
            tracing::debug!(
                count = state.dropped,
                "messages to a client were dropped: it takes no stream, or does not read"
            );
        }
        if let (Some(session), Some((stream, _))) = (self.session.get(), state.stream) {
            session.end_stream(stream);
        }
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("takes_events", &self.takes_events).finish_non_exhaustive()
    }
}

/// One server-sent event. Line ends within JSON text are white space between tokens: a blank in their place changes nothing.
pub(super) fn event(id: Option<EventId>, pieces: &[Bytes]) -> Bytes {
    let length: usize = pieces.iter().map(Bytes::len).sum();
    let mut event = BytesMut::with_capacity(length + 64);
    if let Some(id) = id {
        event.put_slice(format!("id: {id}\n").as_bytes());
    }
    event.put_slice(b"data: ");
    let start = event.len();
    for piece in pieces {
        event.put_slice(piece);
    }
    for byte in &mut event[start..] {
        if matches!(*byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    event.put_slice(b"\n\n");
    event.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_of_data() {
        let pieces = [Bytes::from_static(b"{\n\"a\":"), Bytes::from_static(b"1\r\n}")];
        assert_eq!(event(None, &pieces), "data: { \"a\":1  }\n\n");
        let id = EventId::new(1, 2);
        assert_eq!(event(Some(id), &[]), format!("id: {id}\ndata: \n\n"));
    }

    #[test]
    fn a_client_that_does_not_read_costs_a_bounded_memory() {
        let outbox = Outbox::new(true);
        let message = "x".repeat(1_000);
        let taken = (0..10_000).filter(|_| outbox.send(message.clone()).is_ok()).count();
        assert!(taken * message.len() <= WAITING_BYTES_MAX && taken > 1_000);
        assert!(std::iter::from_fn(|| outbox.next()).count() == taken && outbox.send(message.clone()).is_ok());
        assert!(Outbox::new(false).send("x".to_owned()).is_err());
    }
}
