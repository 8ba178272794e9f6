//! What was sent on the streams of a session and may be asked for again: the last of it, bounded by number and size.
//!
//! A stream is one answer to a POST, or the stream of a GET. Whoever lost a connection names the last event it saw and goes on behind it.

use std::{collections::VecDeque, fmt, str::FromStr, sync::LazyLock};

use bytes::Bytes;
use rand::random;

/// Most events that are kept for a session.
const EVENTS_MAX: usize = 64;
/// Most bytes of events that are kept for a session; an event above it is not kept.
const EVENTS_BYTES_MAX: usize = 64 << 10;
/// Most ends of streams that are remembered.
const ENDED_MAX: usize = 32;
/// Tells the streams of this process from those of others that serve the same session.
static PROCESS: LazyLock<u32> = LazyLock::new(random);

/// Names an event among all streams of a session, and its stream with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EventId {
    process: u32,
    /// Its stream.
    pub(crate) stream: u32,
    /// Its number on the stream, from 1; 0 is the start.
    pub(crate) number: u32,
}

impl EventId {
    /// An event of this process.
    pub(crate) fn new(stream: u32, number: u32) -> Self {
        Self { process: *PROCESS, stream, number }
    }

    /// Whether the stream is of this process.
    pub(crate) fn is_here(self) -> bool {
        self.process == *PROCESS
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}-{}", self.process, self.stream, self.number)
    }
}

impl FromStr for EventId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.splitn(3, '-');
        let process = parts.next().and_then(|part| u32::from_str_radix(part, 16).ok());
        let mut number = || parts.next().and_then(|part| part.parse().ok());
        match (process, number(), number()) {
            (Some(process), Some(stream), Some(number)) => Ok(Self { process, stream, number }),
            _ => Err(()),
        }
    }
}

/// The events of a session.
#[derive(Debug, Default)]
pub(super) struct EventLog {
    events: VecDeque<(EventId, Bytes)>,
    bytes: usize,
    ended: VecDeque<u32>,
}

/// What follows an event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Following {
    /// These events, and more may come.
    Events(Vec<(EventId, Bytes)>),
    /// Nothing any more.
    End,
}

impl EventLog {
    /// Keeps an event.
    pub(super) fn keep(&mut self, id: EventId, event: &Bytes) {
        if event.len() > EVENTS_BYTES_MAX {
            return;
        }
        self.bytes += event.len();
        self.events.push_back((id, event.clone()));
        while self.events.len() > EVENTS_MAX || self.bytes > EVENTS_BYTES_MAX {
            self.bytes -= self.events.pop_front().map_or(0, |(_, event)| event.len());
        }
    }

    /// Remembers that nothing more comes on a stream.
    pub(super) fn end(&mut self, stream: u32) {
        if self.ended.len() == ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back(stream);
    }

    /// What came behind `last` on its stream.
    pub(super) fn behind(&self, last: EventId) -> Following {
        let behind = |id: &EventId| id.stream == last.stream && id.number > last.number;
        let found: Vec<_> = self.events.iter().filter(|(id, _)| behind(id)).cloned().collect();
        if found.is_empty() && self.ended.contains(&last.stream) { Following::End } else { Following::Events(found) }
    }

    /// Gives back what memory it holds.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn only_what_follows_on_the_same_stream_is_given_again() {
        let mut log = EventLog::default();
        for (stream, number, text) in [(1, 1, "a"), (2, 1, "x"), (1, 2, "b")] {
            log.keep(EventId::new(stream, number), &event(text));
        }
        assert_eq!(log.behind(EventId::new(1, 1)), Following::Events(vec![(EventId::new(1, 2), event("b"))]));
        assert_eq!(log.behind(EventId::new(1, 2)), Following::Events(Vec::new()));
        log.end(1);
        assert_eq!(
            log.behind(EventId::new(1, 0)),
            Following::Events(vec![(EventId::new(1, 1), event("a")), (EventId::new(1, 2), event("b"))])
        );
        assert_eq!(log.behind(EventId::new(1, 2)), Following::End);
    }

    #[test]
    fn a_log_is_bounded() {
        let mut log = EventLog::default();
        for number in 1..=10_000 {
            log.keep(EventId::new(1, number), &Bytes::from(vec![b'x'; 10_000]));
            log.end(number);
        }
        assert!(log.bytes <= EVENTS_BYTES_MAX && log.events.len() <= EVENTS_MAX && log.ended.len() == ENDED_MAX);
        log.keep(EventId::new(1, 10_001), &Bytes::from(vec![b'x'; EVENTS_BYTES_MAX + 1]));
        assert_eq!(log.behind(EventId::new(1, 10_000)), Following::Events(Vec::new()));
    }

    #[test]
    fn an_event_id_is_read_as_it_was_written() {
        let id = EventId::new(7, 9);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(id.is_here());
        for wrong in ["", "1", "x-1-1", "1-1", "1-1-x", "1-1-1-1"] {
            assert!(wrong.parse::<EventId>().is_err(), "{wrong}");
        }
    }
}
