//! Where one request on a shared connection waits: what came for it, in order, until its answer.
//!
//! A request is *queued* until its first byte may have left, and *sent* from then on: that alone decides what an error says of its
//! delivery.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
};

use metamcp_core::json::RawJson;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::Notify;

use super::way::{Failure, Question};

/// Notifications and questions that wait for one request; further ones are dropped.
const EVENTS_MAX: usize = 64;
/// All of them together, in bytes.
const EVENTS_BYTES_MAX: usize = 8 << 20;

const QUEUED: u8 = 0;
const SENT: u8 = 1;
const ABANDONED: u8 = 2;

/// What comes before an answer.
#[derive(Debug)]
pub(super) enum Event {
    Notification {
        method: String,
        params: Option<Box<RawValue>>,
    },
    /// Left to the caller: it knows whether its client can be asked.
    Question(Question),
}

/// What a request waits for.
#[derive(Debug)]
pub(super) enum Came {
    Event(Event),
    Answer(Result<RawJson, Failure>),
}

/// One request.
#[derive(Debug)]
pub(super) struct Slot {
    /// Whether it stays open for what the server has to tell.
    pub(super) standing: bool,
    /// How far it has come. Moves forward only.
    stage: AtomicU8,
    /// Short sections, never held over an await.
    inbox: Mutex<Inbox>,
    arrived: Notify,
}

#[derive(Debug)]
struct Inbox {
    events: VecDeque<Event>,
    bytes: usize,
    progress: Growing,
    answer: Option<Result<RawJson, Failure>>,
}

impl Slot {
    pub(super) fn queued(standing: bool) -> Self {
        let inbox = Inbox { events: VecDeque::new(), bytes: 0, progress: Growing::default(), answer: None };
        Self { standing, stage: AtomicU8::new(QUEUED), inbox: Mutex::new(inbox), arrived: Notify::new() }
    }

    /// The first byte is about to leave; `false` when nobody wants the request any more.
    pub(super) fn send(&self) -> bool {
        self.leave(SENT)
    }

    /// Keeps the request from being sent; `false` when it may have left.
    pub(super) fn abandon(&self) -> bool {
        self.leave(ABANDONED)
    }

    fn leave(&self, to: u8) -> bool {
        self.stage.compare_exchange(QUEUED, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Something came before the answer; `false` when there is no room for it.
    pub(super) fn push(&self, event: Event) -> bool {
        let bytes = match &event {
            Event::Notification { params, .. } | Event::Question(Question { params, .. }) => {
                params.as_ref().map_or(0, |params| params.get().len())
            }
        };
        let mut inbox = self.inbox();
        if inbox.events.len() >= EVENTS_MAX || inbox.bytes + bytes > EVENTS_BYTES_MAX {
            return false;
        }
        inbox.bytes += bytes;
        inbox.events.push_back(event);
        drop(inbox);
        self.arrived.notify_one();
        true
    }

    /// A report of its progress came: the protocol wants it to grow, what does not is of no use to anybody.
    pub(super) fn push_progress(&self, progress: f64, params: &RawValue) {
        if self.inbox().progress.grows(progress) {
            let method = PROGRESS.to_owned();
            self.push(Event::Notification { method, params: Some(params.to_owned()) });
        }
    }

    /// The answer came.
    pub(super) fn answer(&self, answer: Result<RawJson, Failure>) {
        self.inbox().answer.get_or_insert(answer);
        self.arrived.notify_one();
    }

    /// Waits for what comes next: everything before the answer, then the answer, once. Cancel safe.
    pub(super) async fn next(&self) -> Came {
        loop {
            {
                let mut inbox = self.inbox();
                if let Some(event) = inbox.events.pop_front() {
                    if inbox.events.is_empty() {
                        inbox.bytes = 0;
                    }
                    return Came::Event(event);
                }
                if let Some(answer) = inbox.answer.take() {
                    return Came::Answer(answer);
                }
            }
            self.arrived.notified().await;
        }
    }

    /// Waits until something is there, and leaves it there.
    pub(super) async fn filled(&self) {
        while self.inbox().events.is_empty() {
            self.arrived.notified().await;
        }
    }

    /// Takes what came before the answer.
    pub(super) fn events(&self) -> VecDeque<Event> {
        let mut inbox = self.inbox();
        inbox.bytes = 0;
        std::mem::take(&mut inbox.events)
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The method of progress reports.
pub(super) const PROGRESS: &str = "notifications/progress";

/// What of a progress report decides where it goes.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub(super) progress_token: u64,
    pub(super) progress: f64,
}

impl Report {
    /// Reads the parameters of a report; `None` when it is none of ours.
    pub(super) fn read(params: Option<&RawValue>) -> Option<Self> {
        serde_json::from_str(params?.get()).ok()
    }
}

/// How far a request has come by its own account.
#[derive(Debug)]
pub(super) struct Growing(f64);

impl Default for Growing {
    fn default() -> Self {
        Self(f64::NEG_INFINITY)
    }
}

impl Growing {
    pub(super) fn grows(&mut self, to: f64) -> bool {
        let grows = to > self.0;
        if grows {
            self.0 = to;
        }
        grows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(bytes: usize) -> Event {
        let params = RawValue::from_string(format!("\"{}\"", "x".repeat(bytes))).unwrap();
        Event::Notification { method: "n".to_owned(), params: Some(params) }
    }

    #[tokio::test]
    async fn everything_comes_before_the_answer_and_within_bounds() {
        let slot = Slot::queued(false);
        slot.answer(Ok(RawJson::empty_object()));
        slot.answer(Ok(RawJson::parse("[2]").unwrap()));
        let taken = (0..2 * EVENTS_MAX).filter(|_| slot.push(note(1))).count();
        assert_eq!(taken, EVENTS_MAX);
        for _ in 0..EVENTS_MAX {
            assert!(matches!(slot.next().await, Came::Event(_)));
        }
        let Came::Answer(Ok(answer)) = slot.next().await else { panic!("the first answer") };
        assert_eq!(answer.get(), "{}");
        assert!(slot.push(note(EVENTS_BYTES_MAX / 2)) && !slot.push(note(EVENTS_BYTES_MAX / 2)));
    }

    #[test]
    fn a_request_leaves_once_or_never() {
        let (sent, abandoned) = (Slot::queued(false), Slot::queued(false));
        assert!(sent.send() && !sent.abandon());
        assert!(abandoned.abandon() && !abandoned.send());
    }
}
