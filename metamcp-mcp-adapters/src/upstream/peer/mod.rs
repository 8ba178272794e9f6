//! Which answer belongs to which request, on a connection that many callers share.
//!
//! Second answers, answers after a cancel and unknown messages are counted and dropped; they never reach another call. What a server sends
//! without saying for which request (logs, questions) is taken to be for the only one under way; when that is not certain, it is for none.

mod live;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use metamcp_core::{
    id::ServerName,
    transport::{Delivered, RelaySide, TransportError, TransportErrorKind},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use self::live::Live;
use super::{
    news::News,
    rare::Rare,
    slot::{Event, PROGRESS, Report, Slot},
    under_way::UnderWay,
    way::{Ask, Failure, Question, Step, error, violation},
};
use crate::wire::{
    era::INTERNAL_ERROR,
    frame::{self, Frame, Outcome},
};

/// Frames that wait to be written; callers wait when there are more.
const OUT_FRAMES_MAX: usize = 64;

/// A frame to be written; one with a slot only if that still can be sent.
#[derive(Debug)]
pub(super) struct Out {
    pub(super) frame: String,
    pub(super) slot: Option<Arc<Slot>>,
}

#[derive(Debug, Default)]
struct State {
    /// Why nothing can be asked any more.
    closed: Option<String>,
    under_way: UnderWay,
}

/// The requests of one connection.
#[derive(Debug)]
pub(super) struct Peer {
    server: ServerName,
    out: mpsc::Sender<Out>,
    /// Short sections, never held over an await.
    state: Mutex<State>,
    pub(super) news: News,
    /// A question has come.
    asks: AtomicBool,
    strays: Rare,
    garbage: Rare,
    unsent: Rare,
    unaddressed: Rare,
}

impl Peer {
    /// A connection without requests, and the frames to be written to it.
    pub(super) fn new(server: ServerName) -> (Arc<Self>, mpsc::Receiver<Out>) {
        let (out, frames) = mpsc::channel(OUT_FRAMES_MAX);
        let peer = Self {
            server,
            out,
            state: Mutex::default(),
            news: News::new(),
            asks: AtomicBool::new(false),
            strays: Rare::default(),
            garbage: Rare::default(),
            unsent: Rare::default(),
            unaddressed: Rare::default(),
        };
        (Arc::new(peer), frames)
    }

    /// Sends a request and waits for its result, or for a question on the way there.
    pub(super) async fn ask(self: &Arc<Self>, ask: &mut Ask<'_>, side: &dyn RelaySide) -> Result<Step, Failure> {
        let slot = Arc::new(Slot::queued(ask.standing));
        {
            let mut state = self.state();
            if let Some(why) = &state.closed {
                return Err(self.closed_error(Delivered::No, why).into());
            }
            state.under_way.waiting.insert(ask.id, Arc::clone(&slot));
        }
        // From here on the request leaves no trace when it is dropped.
        let live = Live::new(self, ask, &slot);
        let frame = std::mem::take(&mut ask.frame);
        if self.out.send(Out { frame, slot: Some(slot) }).await.is_err() {
            return Err(self.closed_error(Delivered::No, self.why_closed()).into());
        }
        live.wait(ask.capabilities, side).await
    }

    /// Sends a frame that has no answer.
    pub(super) async fn tell(&self, frame: String) -> Result<(), TransportError> {
        let gone = |_| self.closed_error(Delivered::No, self.why_closed());
        self.out.send(Out { frame, slot: None }).await.map_err(gone)
    }

    /// Takes a message of the far side.
    pub(super) fn receive(&self, text: &str) {
        if let Err(reason) = frame::each(text, |frame| self.take(frame)) {
            self.garbage(&reason.to_string(), text);
        }
    }

    /// Something that is no message came.
    pub(super) fn garbage(&self, reason: &str, text: &str) {
        if let Some(count) = self.garbage.tell() {
            let text = &text[..text.floor_char_boundary(200)];
            tracing::warn!(server = %self.server, count, reason, text, "skipped what is not a message");
        }
    }

    /// Whether nothing can be asked any more.
    pub(super) fn is_closed(&self) -> bool {
        self.state().closed.is_some()
    }

    /// How many requests wait for their answers.
    pub(super) fn under_way(&self) -> usize {
        self.state().under_way.waiting.values().filter(|slot| !slot.standing).count()
    }

    /// Whether the server was seen to ask.
    pub(super) fn asks(&self) -> bool {
        self.asks.load(Ordering::Relaxed)
    }

    /// Takes no further request; those that wait go on waiting.
    pub(super) fn refuse(&self, why: &str) {
        self.state().closed.get_or_insert_with(|| why.to_owned());
    }

    /// Takes no further request and ends those that have not left.
    pub(super) fn fail_queued(&self, why: &str) {
        self.refuse(why);
        let queued: Vec<Arc<Slot>> = {
            let mut state = self.state();
            state.under_way.waiting.extract_if(|_, slot| slot.abandon()).map(|(_, slot)| slot).collect()
        };
        for slot in queued {
            slot.answer(Err(self.closed_error(Delivered::No, why).into()));
        }
    }

    /// A message over the bound was thrown away; with its id, if that could be seen.
    pub(super) fn too_long(&self, bytes: u64, id: Option<u64>) {
        let what = format!("sent a message of {bytes} bytes, the bound is {}", crate::wire::FRAME_BYTES_MAX);
        match id.and_then(|id| self.state().under_way.waiting.remove(&id)) {
            Some(slot) => {
                slot.answer(Err(error(&self.server, TransportErrorKind::TooLarge, Delivered::Yes, what).into()));
            }
            None => self.garbage(&what, ""),
        }
    }

    /// Takes no further request and ends those that wait: what may have left may have happened.
    pub(super) fn fail(&self, why: &str) {
        let waiting = {
            let mut state = self.state();
            state.closed = Some(why.to_owned());
            std::mem::take(&mut state.under_way.waiting)
        };
        for slot in waiting.into_values() {
            let delivered = if slot.abandon() { Delivered::No } else { Delivered::Maybe };
            slot.answer(Err(self.closed_error(delivered, why).into()));
        }
    }

    fn take(&self, frame: Frame<'_>) {
        match frame {
            Frame::Response { id, outcome } => self.answer(id, outcome),
            Frame::Request { id, method, params } => self.question(id, &method, params),
            Frame::Notification { method, params } => self.notification(&method, params),
        }
    }

    fn answer(&self, id: Option<&RawValue>, outcome: Outcome) {
        let id = id.and_then(|id| id.get().parse::<u64>().ok());
        let slot = id.and_then(|id| self.state().under_way.answered(id));
        let Some(slot) = slot else {
            if let Some(count) = self.strays.tell() {
                tracing::debug!(server = %self.server, ?id, count, "dropped an answer that nobody waits for");
            }
            return;
        };
        slot.answer(match outcome {
            Outcome::Result(result) => Ok(result),
            Outcome::Error(error) => Err(Failure::Rpc(error, None)),
            Outcome::Malformed(what) => Err(violation(&self.server, format_args!("an answer with {what}")).into()),
        });
    }

    /// A question is for the only request under way; when there are several, whose client is to be asked is not known.
    fn question(&self, id: &RawValue, method: &str, params: Option<&RawValue>) {
        if method == "ping" {
            return self.send_now(frame::answer(id, method));
        }
        self.asks.store(true, Ordering::Relaxed);
        let refusal = {
            let mut state = self.state();
            match state.under_way.only() {
                Some(slot) => {
                    if slot.push(Event::Question(Question::read(id, method, params))) {
                        return;
                    }
                    "too many questions at a time"
                }
                None => "cannot tell which caller is asked: ask while exactly one request is under way",
            }
        };
        self.send_now(frame::error(id, INTERNAL_ERROR, refusal));
    }

    fn notification(&self, method: &str, params: Option<&RawValue>) {
        if method == PROGRESS {
            let Some(report) = Report::read(params) else { return };
            let slot = self.state().under_way.waiting.get(&report.progress_token).cloned();
            if let (Some(slot), Some(params)) = (slot, params) {
                slot.push_progress(report.progress, params);
            }
            return;
        }
        if let Some(id) = subscription(params) {
            let slot = self.state().under_way.waiting.get(&id).cloned();
            if let Some(slot) = slot.filter(|slot| slot.standing) {
                slot.push(notification(method, params));
                return;
            }
        }
        if News::is(method) {
            return self.news.tell(method, params);
        }
        if let Some(id) = cancelled(method, params) {
            // Servers cancel nothing but what they were listened to by.
            let ended = self.state().under_way.waiting.extract_if(|of, slot| *of == id && slot.standing).next();
            if let Some((_, slot)) = ended {
                slot.answer(Err(self
                    .closed_error(Delivered::Maybe, "the server ended what it was listened to by")
                    .into()));
            }
            return;
        }
        let taken = self.state().under_way.only().is_some_and(|slot| slot.push(notification(method, params)));
        if !taken && let Some(count) = self.unaddressed.tell() {
            tracing::debug!(server = %self.server, method, count, "dropped a notification that is for nobody");
        }
    }

    /// Sends without waiting: who reads must never wait for who writes.
    fn send_now(&self, frame: String) {
        if self.out.try_send(Out { frame, slot: None }).is_err()
            && !self.is_closed()
            && let Some(count) = self.unsent.tell()
        {
            tracing::warn!(server = %self.server, count, "dropped a message: the server does not read");
        }
    }

    fn why_closed(&self) -> String {
        self.state().closed.clone().unwrap_or_else(|| "connection is closed".to_owned())
    }

    fn closed_error(&self, delivered: Delivered, why: impl std::fmt::Display) -> TransportError {
        error(&self.server, TransportErrorKind::Closed, delivered, why)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn notification(method: &str, params: Option<&RawValue>) -> Event {
    Event::Notification { method: method.to_owned(), params: params.map(ToOwned::to_owned) }
}

/// The request that the far side cancels.
fn cancelled(method: &str, params: Option<&RawValue>) -> Option<u64> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct View {
        request_id: u64,
    }
    if method != "notifications/cancelled" {
        return None;
    }
    serde_json::from_str::<View>(params?.get()).ok().map(|view| view.request_id)
}

/// The listening that a notification says it belongs to.
fn subscription(params: Option<&RawValue>) -> Option<u64> {
    #[derive(Deserialize)]
    struct View {
        #[serde(rename = "_meta")]
        meta: Meta,
    }
    #[derive(Deserialize)]
    struct Meta {
        #[serde(rename = "io.modelcontextprotocol/subscriptionId")]
        id: u64,
    }
    serde_json::from_str::<View>(params?.get()).ok().map(|view| view.meta.id)
}

#[cfg(test)]
mod tests;
