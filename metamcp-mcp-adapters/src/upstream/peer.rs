//! Which answer belongs to which request, on a connection that many callers share.
//!
//! Second answers, answers after a cancel and unknown messages are counted and dropped; they never reach another call. What a server sends
//! without saying for which request (logs, questions) is taken to be for the only one under way; when that is not certain, it is for none.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use metamcp_core::{
    id::ServerName,
    transport::{Delivered, RelaySide, TransportError, TransportErrorKind},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::{
    abilities::Lacking,
    gather::Gathering,
    news::News,
    rare::Rare,
    slot::{Came, Event, PROGRESS, Report, Slot},
    under_way::UnderWay,
    way::{Ask, Failure, Question, Rest, Step, error, violation},
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
        let (peer, lacking) = (Arc::clone(self), Lacking::default());
        let live = Live { peer, id: ask.id, slot: Arc::clone(&slot), cancellable: ask.cancellable, lacking };
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

/// A request under way. Forgets it when its caller is done with it, and tells the far side when that was before its answer.
#[derive(Debug)]
struct Live {
    peer: Arc<Peer>,
    id: u64,
    slot: Arc<Slot>,
    cancellable: bool,
    lacking: Lacking,
}

impl Live {
    async fn wait(mut self, capabilities: Option<&RawValue>, side: &dyn RelaySide) -> Result<Step, Failure> {
        let mut asked = Gathering::default();
        while let Some(came) = asked.next(self.slot.next()).await {
            match came {
                Came::Answer(answer) => {
                    return answer.map(Step::Done).map_err(|failure| self.lacking.told(failure));
                }
                Came::Event(Event::Notification { method, params }) => side.notify(&method, params.as_deref()),
                Came::Event(Event::Question(question)) => {
                    if let Err(question) = asked.take(question, capabilities) {
                        self.lacking.note(&question.method, question.params.as_deref());
                        self.peer.send_now(question.answer_of_ours());
                    }
                }
            }
        }
        Ok(asked.ask(self))
    }
}

#[async_trait]
impl Rest for Live {
    async fn go_on(
        self: Box<Self>,
        answers: Vec<String>,
        capabilities: Option<&RawValue>,
        side: &dyn RelaySide,
    ) -> Result<Step, Failure> {
        for answer in answers {
            self.peer.tell(answer).await?;
        }
        self.wait(capabilities, side).await
    }

    fn give_up(self: Box<Self>, answers: Vec<String>) {
        for answer in answers {
            self.peer.send_now(answer);
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let may_have_left = !self.slot.abandon();
        let unanswered = {
            let mut state = self.peer.state();
            let unanswered = state.under_way.waiting.remove(&self.id).is_some();
            if unanswered && may_have_left && !self.slot.standing {
                state.under_way.cancelled(self.id);
            }
            unanswered
        };
        if unanswered && may_have_left && self.cancellable {
            self.peer.send_now(frame::cancelled(self.id));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use metamcp_core::json::RawJson;

    use crate::{upstream::way::Deaf, wire::era::Era};

    /// What came for a caller beside its answer.
    #[derive(Debug, Default, Clone)]
    struct Heard(Arc<Mutex<Vec<String>>>);

    impl RelaySide for Heard {
        fn notify(&self, method: &str, params: Option<&RawValue>) {
            let params = params.map(RawValue::get).unwrap_or_default();
            self.0.lock().unwrap().push(format!("{method} {params}"));
        }
    }

    async fn result(peer: &Arc<Peer>, id: u64, side: &dyn RelaySide) -> Result<RawJson, Failure> {
        match peer.ask(&mut ask(id), side).await? {
            Step::Done(result) => Ok(result),
            Step::Asked(question) => panic!("a question: {question:?}"),
        }
    }

    fn ask(id: u64) -> Ask<'static> {
        let (method, frame) = ("tools/call", frame::request(id, "tools/call", 0, |_| ()));
        let (name, headers, capabilities) = (None, Vec::new(), None);
        let (cancellable, standing) = (true, false);
        Ask { id, era: Era::Legacy, method, frame, name, headers, capabilities, cancellable, standing }
    }

    fn peer() -> (Arc<Peer>, mpsc::Receiver<Out>) {
        Peer::new(ServerName::new("p").unwrap())
    }

    async fn sent(frames: &mut mpsc::Receiver<Out>) -> String {
        let out = frames.recv().await.unwrap();
        assert!(out.slot.as_ref().is_none_or(|slot| slot.send()));
        out.frame
    }

    #[tokio::test]
    async fn second_and_unknown_answers_are_dropped_and_counted() {
        let (peer, mut frames) = peer();
        let asking = tokio::spawn({
            let peer = Arc::clone(&peer);
            async move { result(&peer, 1, &Deaf).await }
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
            tokio::spawn(async move { result(&peer, id, &Deaf).await.unwrap_err().into_error(&peer.server) })
        };
        let first = spawn(1);
        sent(&mut frames).await;
        let second = spawn(2);
        let queued = frames.recv().await.unwrap();
        peer.fail("it broke");
        assert_eq!(first.await.unwrap().delivered, Delivered::Maybe);
        assert_eq!(second.await.unwrap().delivered, Delivered::No);
        assert!(!queued.slot.unwrap().send(), "what was given up must not be written after all");
        assert_eq!(spawn(3).await.unwrap().delivered, Delivered::No);
    }

    #[tokio::test]
    async fn only_a_request_that_left_is_cancelled() {
        let (peer, mut frames) = peer();
        let spawn = |id| {
            let peer = Arc::clone(&peer);
            tokio::spawn(async move { result(&peer, id, &Deaf).await.map_err(drop) })
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
        assert!(!queued.slot.unwrap().send());
        assert!(frames.try_recv().is_err(), "nothing to cancel was sent");
    }

    #[tokio::test]
    async fn progress_that_does_not_grow_is_dropped() {
        let (peer, mut frames) = peer();
        let heard = Heard::default();
        let asking = tokio::spawn({
            let (peer, heard) = (Arc::clone(&peer), heard.clone());
            async move { result(&peer, 1, &heard).await }
        });
        sent(&mut frames).await;
        for value in ["1", "1", "0.5", "2", "\"x\""] {
            let params = format!(r#"{{"progressToken":1,"progress":{value}}}"#);
            peer.receive(&format!(r#"{{"method":"notifications/progress","params":{params}}}"#));
        }
        peer.receive(r#"{"id":1,"result":{}}"#);
        asking.await.unwrap().unwrap();
        let report = |n| format!(r#"notifications/progress {{"progressToken":1,"progress":{n}}}"#);
        assert_eq!(*heard.0.lock().unwrap(), [report(1), report(2)]);
    }

    /// Spawns a request that hears, and waits until it has left.
    async fn hearing(
        peer: &Arc<Peer>,
        frames: &mut mpsc::Receiver<Out>,
        id: u64,
    ) -> (Heard, tokio::task::JoinHandle<()>) {
        let heard = Heard::default();
        let (peer, side) = (Arc::clone(peer), heard.clone());
        let asking = tokio::spawn(async move { drop(result(&peer, id, &side).await) });
        sent(frames).await;
        (heard, asking)
    }

    #[tokio::test]
    async fn what_has_no_address_reaches_the_only_request_or_nobody() {
        let (peer, mut frames) = peer();
        let log = |text: &str| peer.receive(&format!(r#"{{"method":"notifications/message","params":"{text}"}}"#));
        log("to nobody");
        let (first, first_asking) = hearing(&peer, &mut frames, 1).await;
        log("to the first");
        let (second, second_asking) = hearing(&peer, &mut frames, 2).await;
        log("to one of two");
        peer.receive(r#"{"id":"q","method":"elicitation/create","params":{}}"#);
        assert!(sent(&mut frames).await.contains("cannot tell which caller"));
        second_asking.abort();
        assert!(second_asking.await.unwrap_err().is_cancelled());
        assert!(sent(&mut frames).await.contains("notifications/cancelled"));
        log("perhaps still to the second");
        peer.receive(r#"{"id":2,"result":{}}"#);
        log("to the first again");
        peer.receive(r#"{"id":1,"result":{}}"#);
        first_asking.await.unwrap();
        let heard = ["to the first", "to the first again"].map(|text| format!("notifications/message \"{text}\""));
        assert_eq!(*first.0.lock().unwrap(), heard);
        assert!(second.0.lock().unwrap().is_empty());
        assert_eq!(peer.unaddressed.count(), 3);
    }

    #[tokio::test]
    async fn a_question_parks_its_request_and_the_answer_goes_on_with_it() {
        let (peer, mut frames) = peer();
        let roots = RawValue::from_string(r#"{"roots":{}}"#.to_owned()).unwrap();
        let asking = tokio::spawn({
            let (peer, roots) = (Arc::clone(&peer), roots.clone());
            async move { peer.ask(&mut Ask { capabilities: Some(&roots), ..ask(1) }, &Deaf).await }
        });
        sent(&mut frames).await;
        peer.receive(r#"{"id":"no","method":"sampling/createMessage","params":{}}"#);
        assert!(sent(&mut frames).await.contains("-32601"), "the client cannot do that");
        peer.receive(r#"{"id":"q1","method":"roots/list"}"#);
        let Ok(Step::Asked(question)) = asking.await.unwrap() else { panic!("a question") };
        let answer = RawValue::from_string(r#"{"roots":[]}"#.to_owned()).unwrap();
        let going_on =
            tokio::spawn(
                async move { question.rest.go_on(vec![question.questions[0].answer(&answer)], None, &Deaf).await },
            );
        assert_eq!(sent(&mut frames).await, r#"{"jsonrpc":"2.0","id":"q1","result":{"roots":[]}}"#);
        peer.receive(r#"{"id":1,"result":{"done":true}}"#);
        let Ok(Step::Done(result)) = going_on.await.unwrap() else { panic!("a result") };
        assert_eq!(result.get(), r#"{"done":true}"#);
        assert!(frames.try_recv().is_err(), "nothing was cancelled");
    }

    #[tokio::test]
    async fn a_question_that_is_given_up_is_refused_and_its_request_cancelled() {
        let (peer, mut frames) = peer();
        let roots = RawValue::from_string(r#"{"roots":{}}"#.to_owned()).unwrap();
        let asking = tokio::spawn({
            let peer = Arc::clone(&peer);
            async move { peer.ask(&mut Ask { capabilities: Some(&roots), ..ask(1) }, &Deaf).await }
        });
        sent(&mut frames).await;
        peer.receive(r#"{"id":"q1","method":"roots/list"}"#);
        let Ok(Step::Asked(question)) = asking.await.unwrap() else { panic!("a question") };
        question.give_up("too late");
        assert!(sent(&mut frames).await.contains("too late"));
        assert!(sent(&mut frames).await.contains("notifications/cancelled"));
    }

    #[tokio::test]
    async fn what_belongs_to_a_listening_reaches_it_and_no_request() {
        let (peer, mut frames) = peer();
        let heard = Heard::default();
        let listening = tokio::spawn({
            let (peer, heard) = (Arc::clone(&peer), heard.clone());
            async move { peer.ask(&mut Ask { standing: true, ..ask(1) }, &heard).await.map(drop) }
        });
        sent(&mut frames).await;
        let (call, calling) = hearing(&peer, &mut frames, 2).await;
        let mut news = peer.news.receiver();
        let meta = r#"{"_meta":{"io.modelcontextprotocol/subscriptionId":1}}"#;
        peer.receive(&format!(r#"{{"method":"notifications/tools/list_changed","params":{meta}}}"#));
        peer.receive(r#"{"method":"notifications/prompts/list_changed"}"#);
        peer.receive(r#"{"method":"notifications/message","params":"log"}"#);
        peer.receive(r#"[{"id":1,"result":{}},{"id":2,"result":{}}]"#);
        listening.await.unwrap().unwrap();
        calling.await.unwrap();
        let again = tokio::spawn({
            let peer = Arc::clone(&peer);
            async move { peer.ask(&mut Ask { standing: true, ..ask(3) }, &Deaf).await.map(drop) }
        });
        sent(&mut frames).await;
        peer.receive(r#"{"method":"notifications/cancelled","params":{"requestId":3}}"#);
        assert!(again.await.unwrap().is_err(), "its server ended it");
        assert_eq!(*heard.0.lock().unwrap(), [format!("notifications/tools/list_changed {meta}")]);
        assert_eq!(*call.0.lock().unwrap(), ["notifications/message \"log\""]);
        assert_eq!(news.try_recv().unwrap().method, "notifications/prompts/list_changed");
    }

    #[tokio::test]
    async fn a_request_of_the_server_is_answered_even_in_a_batch_of_garbage() {
        let (peer, mut frames) = peer();
        peer.receive("npm warn something");
        peer.receive(r#"[{"id":"s1","method":"ping"},{"id":2,"method":"sampling/createMessage","params":{}}]"#);
        assert_eq!(sent(&mut frames).await, r#"{"jsonrpc":"2.0","id":"s1","result":{}}"#);
        assert!(sent(&mut frames).await.contains("-32603"));
        assert_eq!(peer.garbage.count(), 1);
    }

    #[tokio::test]
    async fn a_change_is_not_lost_between_two_waits() {
        let (peer, _frames) = peer();
        peer.receive(r#"{"method":"notifications/tools/list_changed"}"#);
        tokio::time::timeout(Duration::from_secs(5), peer.news.tools_changed()).await.unwrap();
    }
}
