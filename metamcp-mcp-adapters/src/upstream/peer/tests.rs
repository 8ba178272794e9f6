//! Answers, questions and notifications of one connection with several callers.

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
async fn hearing(peer: &Arc<Peer>, frames: &mut mpsc::Receiver<Out>, id: u64) -> (Heard, tokio::task::JoinHandle<()>) {
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
