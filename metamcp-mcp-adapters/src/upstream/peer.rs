//! Which answer belongs to which request, on a connection that many callers share.
//!
//! A request is *queued* until its first byte may have left, and *sent* from then on: that alone decides what an error says of its
//! delivery. Second answers, answers after a cancel and unknown messages are counted and dropped; they never reach another call.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
};

use metamcp_core::{
    id::ServerName,
    json::RawJson,
    queue::Progress,
    transport::{Delivered, ProgressSink, TransportError, TransportErrorKind},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{Notify, mpsc, oneshot};

use super::{
    rare::Rare,
    way::{Ask, Failure, error, violation},
};
use crate::wire::frame::{self, Frame, Outcome};

/// Frames that wait to be written; callers wait when there are more.
const OUT_FRAMES_MAX: usize = 64;
/// Progress reports of one call that wait for it; further ones are dropped.
const PROGRESS_QUEUE_MAX: usize = 64;

/// How far a request has come. Moves forward only.
#[derive(Debug, Clone)]
pub(super) struct Stage(Arc<AtomicU8>);

const QUEUED: u8 = 0;
const SENT: u8 = 1;
const ABANDONED: u8 = 2;

impl Stage {
    fn queued() -> Self {
        Self(Arc::new(AtomicU8::new(QUEUED)))
    }

    /// The first byte is about to leave; `false` when nobody wants the request any more.
    pub(super) fn send(&self) -> bool {
        self.0.compare_exchange(QUEUED, SENT, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Keeps the request from being sent; `false` when it may have left.
    fn abandon(&self) -> bool {
        self.0.compare_exchange(QUEUED, ABANDONED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// A frame to be written; one with a stage only if that still can be sent.
#[derive(Debug)]
pub(super) struct Out {
    pub(super) frame: String,
    pub(super) stage: Option<Stage>,
}

#[derive(Debug)]
struct Waiting {
    answer: oneshot::Sender<Result<RawJson, Failure>>,
    progress: mpsc::Sender<Progress>,
    progressed_to: f64,
    stage: Stage,
}

#[derive(Debug, Default)]
struct State {
    /// Why nothing can be asked any more.
    closed: Option<String>,
    waiting: HashMap<u64, Waiting>,
}

/// The requests of one connection.
#[derive(Debug)]
pub(super) struct Peer {
    server: ServerName,
    out: mpsc::Sender<Out>,
    /// Short sections, never held over an await.
    state: Mutex<State>,
    changed: Notify,
    strays: Rare,
    garbage: Rare,
    unsent: Rare,
}

impl Peer {
    /// A connection without requests, and the frames to be written to it.
    pub(super) fn new(server: ServerName) -> (Arc<Self>, mpsc::Receiver<Out>) {
        let (out, frames) = mpsc::channel(OUT_FRAMES_MAX);
        let peer = Self {
            server,
            out,
            state: Mutex::default(),
            changed: Notify::new(),
            strays: Rare::default(),
            garbage: Rare::default(),
            unsent: Rare::default(),
        };
        (Arc::new(peer), frames)
    }

    /// Sends a request and waits for its result.
    pub(super) async fn ask(&self, ask: Ask<'_>, progress: &ProgressSink<'_>) -> Result<RawJson, Failure> {
        let (stage, id) = (Stage::queued(), ask.id);
        let (answer, mut answered) = oneshot::channel();
        let (reports, mut reported) = mpsc::channel(PROGRESS_QUEUE_MAX);
        let frame = frame::request(id, ask.method, &ask.params);
        {
            let mut state = self.state();
            if let Some(why) = &state.closed {
                return Err(self.closed_error(Delivered::No, why).into());
            }
            let waiting = Waiting { answer, progress: reports, progressed_to: f64::NEG_INFINITY, stage: stage.clone() };
            state.waiting.insert(id, waiting);
        }
        // From here on the request leaves no trace when it is dropped.
        let _guard = Guard { peer: self, id, stage: stage.clone(), cancellable: ask.cancellable };
        let out = Out { frame, stage: Some(stage) };
        if self.out.send(out).await.is_err() {
            return Err(self.closed_error(Delivered::No, self.why_closed()).into());
        }
        let result = loop {
            tokio::select! {
                biased;
                Some(report) = reported.recv() => progress(report),
                result = &mut answered => break result,
            }
        };
        while let Ok(report) = reported.try_recv() {
            progress(report);
        }
        // The sender lives in `waiting` until it is used: dropping it unused happens only with the peer itself.
        result.unwrap_or_else(|_| Err(self.closed_error(Delivered::Maybe, "connection is gone").into()))
    }

    /// Sends a frame that has no answer.
    pub(super) async fn tell(&self, frame: String) -> Result<(), TransportError> {
        let gone = |_| self.closed_error(Delivered::No, self.why_closed());
        self.out.send(Out { frame, stage: None }).await.map_err(gone)
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

    /// Waits until the far side says that its tools changed.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Whether nothing can be asked any more.
    pub(super) fn is_closed(&self) -> bool {
        self.state().closed.is_some()
    }

    /// Takes no further request; those that wait go on waiting.
    pub(super) fn refuse(&self, why: &str) {
        self.state().closed.get_or_insert_with(|| why.to_owned());
    }

    /// Takes no further request and ends those that have not left.
    pub(super) fn fail_queued(&self, why: &str) {
        self.refuse(why);
        let queued: Vec<Waiting> = {
            let mut state = self.state();
            state.waiting.extract_if(|_, waiting| waiting.stage.abandon()).map(|(_, waiting)| waiting).collect()
        };
        for waiting in queued {
            let _ = waiting.answer.send(Err(self.closed_error(Delivered::No, why).into()));
        }
    }

    /// A message over the bound was thrown away; with its id, if that could be seen.
    pub(super) fn too_long(&self, bytes: u64, id: Option<u64>) {
        let what = format!("sent a message of {bytes} bytes, the bound is {}", crate::wire::FRAME_BYTES_MAX);
        match id.and_then(|id| self.state().waiting.remove(&id)) {
            Some(waiting) => {
                let answer = error(&self.server, TransportErrorKind::TooLarge, Delivered::Yes, what);
                let _ = waiting.answer.send(Err(answer.into()));
            }
            None => self.garbage(&what, ""),
        }
    }

    /// Takes no further request and ends those that wait: what may have left may have happened.
    pub(super) fn fail(&self, why: &str) {
        let waiting = {
            let mut state = self.state();
            state.closed = Some(why.to_owned());
            std::mem::take(&mut state.waiting)
        };
        for waiting in waiting.into_values() {
            let delivered = if waiting.stage.abandon() { Delivered::No } else { Delivered::Maybe };
            // Who no longer waits needs no answer.
            let _ = waiting.answer.send(Err(self.closed_error(delivered, why).into()));
        }
    }

    fn take(&self, frame: Frame<'_>) {
        match frame {
            Frame::Response { id, outcome } => self.answer(id, outcome),
            Frame::Request { id, method } => self.send_now(frame::answer(id, &method)),
            Frame::Notification { method, params } => match (&*method, params) {
                ("notifications/progress", Some(params)) => self.progress(params),
                ("notifications/tools/list_changed", _) => self.changed.notify_one(),
                ("notifications/message", Some(params)) => {
                    let text = params.get();
                    let text = &text[..text.floor_char_boundary(1_024)];
                    tracing::debug!(target: "metamcp::server_log", server = %self.server, "{text}");
                }
                _ => {}
            },
        }
    }

    fn answer(&self, id: Option<&RawValue>, outcome: Outcome) {
        let id = id.and_then(|id| id.get().parse::<u64>().ok());
        let waiting = id.and_then(|id| self.state().waiting.remove(&id));
        let Some(waiting) = waiting else {
            if let Some(count) = self.strays.tell() {
                tracing::debug!(server = %self.server, ?id, count, "dropped an answer that nobody waits for");
            }
            return;
        };
        let result = match outcome {
            Outcome::Result(result) => Ok(result),
            Outcome::Error(error) => Err(Failure::Rpc(error, None)),
            Outcome::Malformed(what) => Err(violation(&self.server, format_args!("an answer with {what}")).into()),
        };
        let _ = waiting.answer.send(result);
    }

    fn progress(&self, params: &RawValue) {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Report {
            progress_token: u64,
            progress: f64,
            total: Option<f64>,
            message: Option<String>,
        }
        let Ok(report) = serde_json::from_str::<Report>(params.get()) else { return };
        let mut state = self.state();
        let Some(waiting) = state.waiting.get_mut(&report.progress_token) else { return };
        // The protocol wants it to grow; what does not is of no use to anybody.
        if report.progress > waiting.progressed_to {
            waiting.progressed_to = report.progress;
            let Report { progress: value, total, message, .. } = report;
            let _ = waiting.progress.try_send(Progress { value, total, message });
        }
    }

    /// Sends without waiting: who reads must never wait for who writes.
    fn send_now(&self, frame: String) {
        if self.out.try_send(Out { frame, stage: None }).is_err()
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

/// Forgets a request when its caller is done with it, and tells the far side when that was before its answer.
struct Guard<'a> {
    peer: &'a Peer,
    id: u64,
    stage: Stage,
    cancellable: bool,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        let unanswered = self.peer.state().waiting.remove(&self.id).is_some();
        let may_have_left = !self.stage.abandon();
        if unanswered && may_have_left && self.cancellable {
            self.peer.send_now(frame::cancelled(self.id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::era::Era;

    fn ask(id: u64) -> Ask<'static> {
        let (method, params) = ("tools/call", RawJson::empty_object());
        Ask { id, era: Era::Legacy, method, params, name: None, headers: Vec::new(), cancellable: true }
    }

    fn peer() -> (Arc<Peer>, mpsc::Receiver<Out>) {
        Peer::new(ServerName::new("p").unwrap())
    }

    async fn sent(frames: &mut mpsc::Receiver<Out>) -> String {
        let out = frames.recv().await.unwrap();
        assert!(out.stage.as_ref().is_none_or(Stage::send));
        out.frame
    }

    #[tokio::test]
    async fn second_and_unknown_answers_are_dropped_and_counted() {
        let (peer, mut frames) = peer();
        let asking = tokio::spawn({
            let peer = Arc::clone(&peer);
            async move { peer.ask(ask(1), &|_| ()).await }
        });
        sent(&mut frames).await;
        for answer in [r#"{"id":9,"result":{}}"#, r#"{"id":1,"result":{"a":1}}"#, r#"{"id":1,"result":{"a":2}}"#] {
            peer.receive(answer);
        }
        assert_eq!(asking.await.unwrap().unwrap().get(), r#"{"a":1}"#);
        assert_eq!(peer.strays.count(), 2);
    }

    #[tokio::test]
    async fn what_never_left_is_known_not_to_be_delivered() {
        let (peer, mut frames) = peer();
        let spawn = |id| {
            let peer = Arc::clone(&peer);
            tokio::spawn(async move { peer.ask(ask(id), &|_| ()).await.unwrap_err().into_error(&peer.server) })
        };
        let first = spawn(1);
        sent(&mut frames).await;
        let second = spawn(2);
        let queued = frames.recv().await.unwrap();
        peer.fail("it broke");
        assert_eq!(first.await.unwrap().delivered, Delivered::Maybe);
        assert_eq!(second.await.unwrap().delivered, Delivered::No);
        assert!(!queued.stage.unwrap().send(), "what was given up must not be written after all");
        assert_eq!(spawn(3).await.unwrap().delivered, Delivered::No);
    }

    #[tokio::test]
    async fn only_a_request_that_left_is_cancelled() {
        let (peer, mut frames) = peer();
        let spawn = |id| {
            let peer = Arc::clone(&peer);
            tokio::spawn(async move { peer.ask(ask(id), &|_| ()).await.map_err(drop) })
        };
        let first = spawn(1);
        sent(&mut frames).await;
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        let cancelled = sent(&mut frames).await;
        assert!(cancelled.contains("notifications/cancelled") && cancelled.contains(r#""requestId":1"#), "{cancelled}");
        let second = spawn(2);
        let queued = frames.recv().await.unwrap();
        second.abort();
        assert!(second.await.unwrap_err().is_cancelled());
        assert!(!queued.stage.unwrap().send());
        assert!(frames.try_recv().is_err(), "nothing to cancel was sent");
    }

    #[tokio::test]
    async fn progress_that_does_not_grow_is_dropped() {
        let (peer, mut frames) = peer();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let asking = tokio::spawn({
            let (peer, seen) = (Arc::clone(&peer), Arc::clone(&seen));
            async move { peer.ask(ask(1), &|p| seen.lock().unwrap().push(p.value)).await }
        });
        sent(&mut frames).await;
        for value in ["1", "1", "0.5", "2", "\"x\""] {
            let params = format!(r#"{{"progressToken":1,"progress":{value}}}"#);
            peer.receive(&format!(r#"{{"method":"notifications/progress","params":{params}}}"#));
        }
        peer.receive(r#"{"id":1,"result":{}}"#);
        asking.await.unwrap().unwrap();
        assert_eq!(*seen.lock().unwrap(), [1.0, 2.0]);
    }

    #[tokio::test]
    async fn a_request_of_the_server_is_answered_even_in_a_batch_of_garbage() {
        let (peer, mut frames) = peer();
        peer.receive("npm warn something");
        peer.receive(r#"[{"id":"s1","method":"ping"},{"id":2,"method":"sampling/createMessage","params":{}}]"#);
        assert_eq!(sent(&mut frames).await, r#"{"jsonrpc":"2.0","id":"s1","result":{}}"#);
        assert!(sent(&mut frames).await.contains("-32601"));
        assert_eq!(peer.garbage.count(), 1);
    }

    #[tokio::test]
    async fn a_change_is_not_lost_between_two_waits() {
        let (peer, _frames) = peer();
        peer.receive(r#"{"method":"notifications/tools/list_changed"}"#);
        tokio::time::timeout(std::time::Duration::from_secs(5), peer.changed()).await.unwrap();
    }
}
