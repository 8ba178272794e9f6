//! What was sent on the streams of a session and may be asked for again: the last of it, bounded by number and size.
//!
//! A stream is one answer to a POST, or the stream of a GET. Whoever lost a connection names the last event it saw and goes on behind it. Of an
//! answer that cannot be kept, an error in its place is: who waits for it is told rather than left waiting.

use std::{collections::VecDeque, fmt, str::FromStr, sync::LazyLock};

use bytes::Bytes;
use rand::random;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    gateway::{RpcFault, front},
    wire::era::INTERNAL_ERROR,
};

/// Most events that are kept for a session.
const EVENTS_MAX: usize = 64;
/// Most bytes of events that are kept for a session; an event above it is not kept.
const EVENTS_BYTES_MAX: usize = 64 << 10;
/// Most answers that could not be kept and are told so.
const LOST_MAX: usize = 32;
/// Longest ids of the requests that a lost answer was for, in bytes; with longer ones it is forgotten.
const LOST_IDS_BYTES_MAX: usize = 128;
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

/// An event that is kept.
#[derive(Debug)]
struct Kept {
    id: EventId,
    event: Bytes,
    /// Whether it is the answer, which is the last of its stream.
    is_answer: bool,
}

/// The events of a session.
#[derive(Debug, Default)]
pub(super) struct EventLog {
    events: VecDeque<Kept>,
    bytes: usize,
    /// In place of answers that could not be kept.
    lost: VecDeque<(EventId, Bytes)>,
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
    pub(super) fn keep(&mut self, id: EventId, event: &Bytes, is_answer: bool) {
        let kept = Kept { id, event: event.clone(), is_answer };
        if event.len() > EVENTS_BYTES_MAX {
            return self.lose(&kept);
        }
        self.bytes += event.len();
        self.events.push_back(kept);
        while self.events.len() > EVENTS_MAX || self.bytes > EVENTS_BYTES_MAX {
            let Some(first) = self.events.pop_front() else { return };
            self.bytes -= first.event.len();
            self.lose(&first);
        }
    }

    fn lose(&mut self, kept: &Kept) {
        let told = kept.is_answer.then(|| lost(kept.id, &kept.event)).flatten();
        let Some(told) = told else { return };
        if self.lost.len() == LOST_MAX {
            self.lost.pop_front();
        }
        self.lost.push_back((kept.id, told));
    }

    /// What came behind `last` on its stream.
    pub(super) fn behind(&self, last: EventId) -> Vec<(EventId, Bytes)> {
        let behind = |id: EventId| id.stream == last.stream && id.number > last.number;
        let events = self.events.iter().filter(|kept| behind(kept.id)).map(|kept| (kept.id, kept.event.clone()));
        events.chain(self.lost.iter().filter(|(id, _)| behind(*id)).cloned()).collect()
    }

    /// Gives back what memory it holds.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// What is told in place of an answer, or of a batch of them.
fn lost(id: EventId, event: &[u8]) -> Option<Bytes> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        id: &'a RawValue,
    }
    let (_, data) = std::str::from_utf8(event).ok()?.split_once("data: ")?;
    let is_batch = data.starts_with('[');
    let answers: Vec<Answer<'_>> =
        if is_batch { serde_json::from_str(data).ok()? } else { vec![serde_json::from_str(data).ok()?] };
    if answers.iter().map(|answer| answer.id.get().len()).sum::<usize>() > LOST_IDS_BYTES_MAX {
        return None;
    }
    let why = "the answer is no longer kept: the request was served and its stream was cut before the answer came";
    let fault = RpcFault::new(INTERNAL_ERROR, why);
    let told = answers.iter().map(|answer| front::fault(Some(answer.id), &fault));
    let told = if is_batch { front::Frame::batch(told) } else { told.collect::<Vec<_>>().pop()? };
    Some(
        [format!("id: {id}\ndata: ").into(), told.into_pieces().concat().into(), Bytes::from_static(b"\n\n")]
            .concat()
            .into(),
    )
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
            log.keep(EventId::new(stream, number), &event(text), false);
        }
        assert_eq!(log.behind(EventId::new(1, 1)), [(EventId::new(1, 2), event("b"))]);
        assert_eq!(log.behind(EventId::new(1, 2)), []);
        assert_eq!(
            log.behind(EventId::new(1, 0)),
            [(EventId::new(1, 1), event("a")), (EventId::new(1, 2), event("b"))]
        );
    }

    #[test]
    fn a_log_is_bounded() {
        let mut log = EventLog::default();
        let answer = |bytes: usize| {
            let text = "x".repeat(bytes);
            Bytes::from(format!("data: {{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"{text}\"}}\n\n"))
        };
        for number in 1..=10_000 {
            log.keep(EventId::new(1, number), &answer(10_000), true);
        }
        assert!(log.bytes <= EVENTS_BYTES_MAX && log.events.len() <= EVENTS_MAX && log.lost.len() == LOST_MAX);
        log.keep(EventId::new(1, 10_001), &answer(EVENTS_BYTES_MAX), false);
        assert_eq!(log.behind(EventId::new(1, 10_000)), []);
    }

    #[test]
    fn in_place_of_an_answer_that_is_not_kept_an_error_is_told() {
        let told = |answer: &str| {
            let (mut log, id) = (EventLog::default(), EventId::new(1, 2));
            log.keep(EventId::new(1, 1), &event("before"), false);
            log.keep(id, &Bytes::from(format!("id: {id}\ndata: {answer}\n\n")), true);
            log.keep(EventId::new(2, 1), &Bytes::from(vec![b' '; EVENTS_BYTES_MAX]), false);
            let behind = log.behind(EventId::new(1, 1));
            behind.first().map(|(told, event)| {
                assert_eq!(*told, id);
                String::from_utf8(event.to_vec()).unwrap()
            })
        };
        let long = "x".repeat(EVENTS_BYTES_MAX);
        for result in ["short", &long] {
            let text = told(&format!(r#"{{"jsonrpc":"2.0","id":"a7","result":"{result}"}}"#)).unwrap();
            assert!(text.starts_with("id: ") && text.ends_with("\n\n") && text.len() < 400, "{text}");
            assert!(text.contains(r#"data: {"jsonrpc":"2.0","id":"a7","error":{"code":-32603,"#), "{text}");
            let text = told(&format!(r#"[{{"id":1,"result":"{result}"}},{{"id":2,"result":0}}]"#)).unwrap();
            assert!(
                text.contains(r#"data: [{"jsonrpc":"2.0","id":1,"#) && text.contains(r#""id":2,"error""#),
                "{text}"
            );
        }
        assert_eq!(told(&format!(r#"{{"id":"{long}","result":0}}"#)), None);
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
