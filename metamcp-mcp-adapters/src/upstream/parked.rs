//! Requests of legacy servers that wait, alive, for the answer to a question.
//!
//! The caller has an `input_required` result meanwhile; its retry names the parked request. Few are kept and none for long: a request that
//! nobody comes back for is cancelled, and its server told why its question has no answer.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use metamcp_core::{json::RawJson, queue::InputRequest};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_util::task::AbortOnDropHandle;

use super::way::{Asked, Failure, Question, Rest};
use crate::wire::{era::INVALID_PARAMS, frame::RpcError, object::ObjectText};

/// Requests of one connection that may wait at a time.
const PARKED_MAX: usize = 64;
/// Longest a request waits for an answer, in seconds.
pub(super) const PARKED_S_MAX: u64 = 600;
/// What the state of a retry begins with that names a parked request.
const STATE_PREFIX: &str = "parked:";

/// Which request of the caller it is; a retry must be of the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct About {
    pub(super) method: String,
    pub(super) name: Option<String>,
}

impl About {
    pub(super) fn new(method: &str, name: Option<&str>) -> Self {
        Self { method: method.to_owned(), name: name.map(ToOwned::to_owned) }
    }
}

#[derive(Debug)]
struct Entry {
    waiting: Waiting,
    about: About,
    _expiring: AbortOnDropHandle<()>,
}

/// A request that waits for answers.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) asked: Asked,
    /// How many questions it had asked before these.
    pub(super) before: u32,
    /// The answers so far, in the order of the questions.
    answers: Vec<Option<String>>,
}

impl Waiting {
    pub(super) fn new(asked: Asked, before: u32) -> Self {
        let answers = asked.questions.iter().map(|_| None).collect();
        Self { asked, before, answers }
    }

    /// The questions without an answer, as `inputRequests` holds them.
    pub(super) fn open(&self) -> Vec<InputRequest> {
        let open = self.keyed().zip(&self.answers).filter(|(_, answer)| answer.is_none());
        open.map(|((key, question), _)| InputRequest { key, request: request_of(question) }).collect()
    }

    /// Takes the answers among these. What is no object answers nothing.
    pub(super) fn take(&mut self, responses: Option<&RawValue>) {
        let found: Vec<_> = self
            .keyed()
            .map(|(key, question)| response(responses, &key).map(|response| question.answer(&response)))
            .collect();
        for (answer, found) in self.answers.iter_mut().zip(found) {
            if answer.is_none() {
                *answer = found;
            }
        }
    }

    /// The number of questions it has asked.
    pub(super) fn count(&self) -> u32 {
        self.before.saturating_add(u32::try_from(self.asked.questions.len()).unwrap_or(u32::MAX))
    }

    /// What is told to the server; for a question without an answer, why there is none.
    pub(super) fn into_answers(self, why: &str) -> (Box<dyn Rest>, Vec<String>) {
        let told = |(answer, question): (Option<String>, &Question)| answer.unwrap_or_else(|| question.refusal(why));
        let answers = self.answers.into_iter().zip(&self.asked.questions).map(told).collect();
        (self.asked.rest, answers)
    }

    /// Each question with its key: unlike those before, so that an old answer is not taken for a new one.
    fn keyed(&self) -> impl Iterator<Item = (String, &Question)> {
        (self.before.saturating_add(1)..).map(|n| format!("q{n}")).zip(&self.asked.questions)
    }
}

/// The parked requests of one connection.
#[derive(Debug, Default)]
pub(super) struct Parked {
    /// Short sections, never held over an await.
    table: Mutex<HashMap<String, Entry>>,
}

impl Parked {
    /// Keeps a request until its answers come; its name, which tells `home`. `Err`: there is no room.
    pub(super) fn park(
        self: &Arc<Self>,
        waiting: Waiting,
        about: About,
        home: Option<&str>,
    ) -> Result<String, Box<Waiting>> {
        let mut table = self.table();
        if table.len() >= PARKED_MAX {
            return Err(Box::new(waiting));
        }
        let state = match home {
            Some(home) => format!("{STATE_PREFIX}{home}:{:032x}", rand::random::<u128>()),
            None => format!("{STATE_PREFIX}{:032x}", rand::random::<u128>()),
        };
        let (parked, named) = (Arc::downgrade(self), state.clone());
        let expiring = AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(PARKED_S_MAX)).await;
            let expired = parked.upgrade().and_then(|parked| parked.table().remove(&named));
            if let Some(Entry { waiting, .. }) = expired {
                waiting.asked.give_up("nobody has answered in time");
            }
        }));
        table.insert(state.clone(), Entry { waiting, about, _expiring: expiring });
        Ok(state)
    }

    /// Takes a request back; `None` when it is not here (any more), or is another one than the retry is about.
    pub(super) fn take(&self, state: &str, about: &About) -> Option<Waiting> {
        let mut table = self.table();
        if table.get(state)?.about != *about {
            return None;
        }
        Some(table.remove(state)?.waiting)
    }

    /// Ends a request that nobody will come back for; whether it was here.
    pub(super) fn give_up(&self, state: &str) -> bool {
        let given_up = self.table().remove(state);
        let was_here = given_up.is_some();
        if let Some(Entry { waiting, .. }) = given_up {
            waiting.asked.give_up("the call was cancelled");
        }
        was_here
    }

    fn table(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The parked request that a retry's `requestState` names.
pub(super) fn named(state: &RawValue) -> Option<String> {
    serde_json::from_str::<String>(state.get()).ok().filter(|state| state.starts_with(STATE_PREFIX))
}

/// The process that holds a parked request, as its name tells.
pub(super) fn home(state: &str) -> Option<&str> {
    state.strip_prefix(STATE_PREFIX)?.split_once(':').map(|(home, _)| home)
}

/// The questions as a modern server would put them.
pub(super) fn input_required(open: &[InputRequest], state: &str) -> RawJson {
    let room = open.iter().map(|question| question.key.len() + question.request.len() + 8).sum::<usize>();
    let mut text = ObjectText::with_capacity(128 + room + state.len());
    text.string("resultType", "input_required").object("inputRequests", |requests| {
        for InputRequest { key, request } in open {
            requests.foreign(key, request);
        }
    });
    text.string("requestState", state);
    RawJson::parse(text.finish()).expect("an object of JSON values is JSON")
}

/// A question as `inputRequests` holds it.
fn request_of(question: &Question) -> String {
    let room = question.params.as_ref().map_or(0, |params| params.get().len());
    let mut text = ObjectText::with_capacity(64 + room);
    text.string("method", &question.method);
    if let Some(params) = &question.params {
        text.value("params", params);
    }
    text.finish()
}

/// `inputResponses`: answers by the key of their question.
#[derive(Deserialize)]
struct Responses<'a>(#[serde(borrow)] HashMap<Cow<'a, str>, &'a RawValue>);

/// The answer to one question among `inputResponses`.
fn response(responses: Option<&RawValue>, key: &str) -> Option<Box<RawValue>> {
    let Responses(responses) = serde_json::from_str(responses?.get()).ok()?;
    responses.get(key).filter(|response| response.get().starts_with('{')).map(|response| (*response).to_owned())
}

/// Checks the form of `inputResponses`, before the request that waits for them is touched.
///
/// # Errors
/// What is wrong with them, as the client is told.
pub(super) fn check(responses: &RawValue) -> Result<(), Failure> {
    let refused = |message: String| Failure::Rpc(RpcError { code: INVALID_PARAMS, message, data: None }, None);
    let Responses(read) = serde_json::from_str(responses.get())
        .map_err(|_| refused("inputResponses: must be an object from question to answer".to_owned()))?;
    match read.iter().find(|(_, answer)| !answer.get().starts_with('{')) {
        Some((key, _)) => Err(refused(format!("inputResponses: the answer to `{key}` must be an object"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use metamcp_core::transport::RelaySide;

    use super::*;
    use crate::upstream::way::Step;

    /// A request that only keeps what its server was told at the end.
    #[derive(Debug, Default, Clone)]
    struct Told(Arc<Mutex<Vec<String>>>);

    #[async_trait]
    impl Rest for Told {
        async fn go_on(
            self: Box<Self>,
            _answers: Vec<String>,
            _capabilities: Option<&RawValue>,
            _side: &dyn RelaySide,
        ) -> Result<Step, Failure> {
            unreachable!("nobody goes on with it here")
        }

        fn give_up(self: Box<Self>, answers: Vec<String>) {
            self.0.lock().unwrap().extend(answers);
        }
    }

    fn asks(told: &Told, questions: usize) -> Waiting {
        let id = RawValue::from_string("\"q\"".to_owned()).unwrap();
        let questions = (0..questions).map(|_| Question::read(&id, "roots/list", None)).collect();
        Waiting::new(Asked { questions, rest: Box::new(told.clone()) }, 0)
    }

    #[tokio::test(start_paused = true)]
    async fn few_are_kept_and_none_for_long() {
        let (parked, told, about) = (Arc::<Parked>::default(), Told::default(), About::new("tools/call", Some("t")));
        let states: Vec<String> =
            (0..PARKED_MAX).map(|_| parked.park(asks(&told, 1), about.clone(), None).unwrap()).collect();
        assert!(parked.park(asks(&told, 1), about.clone(), None).is_err(), "there is no room");
        assert!(parked.take(&states[0], &About::new("tools/call", Some("other"))).is_none());
        assert_eq!(parked.take(&states[0], &about).unwrap().open()[0].key, "q1");
        assert!(parked.take(&states[0], &about).is_none(), "it is taken once");
        assert!(parked.give_up(&states[1]) && !parked.give_up(&states[1]));
        assert_eq!(told.0.lock().unwrap().len(), 1);
        tokio::time::sleep(Duration::from_secs(PARKED_S_MAX + 1)).await;
        assert!(parked.table().is_empty());
        let told = told.0.lock().unwrap();
        assert_eq!(told.len(), PARKED_MAX - 1);
        assert!(told.last().unwrap().contains("nobody has answered in time"));
    }

    #[test]
    fn answers_may_come_one_by_one() {
        let mut waiting = asks(&Told::default(), 3);
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        let mut open = |responses: Option<&str>| {
            waiting.take(responses.map(raw).as_deref());
            waiting.open().into_iter().map(|question| question.key).collect::<Vec<_>>()
        };
        for nothing in [None, Some(r#"{"q9":{}}"#), Some(r#"{"q1":5,"q2":null}"#), Some("[]")] {
            assert_eq!(open(nothing), ["q1", "q2", "q3"], "{nothing:?}");
        }
        assert_eq!(open(Some(r#"{"q2":{"n":1.0},"q9":{}}"#)), ["q1", "q3"]);
        assert_eq!(open(Some(r#"{"q2":{}}"#)), ["q1", "q3"], "it has its answer");
        assert_eq!(open(Some(r#"{"q1":{}}"#)), ["q3"]);
        assert_eq!(waiting.count(), 3);
        let (_, answers) = waiting.into_answers("why not");
        assert!(answers[1].ends_with(r#""result":{"n":1.0}}"#) && answers[2].contains("why not"), "{answers:?}");
    }

    #[test]
    fn answers_of_another_form_are_refused() {
        let is_good = |text: &str| check(&RawValue::from_string(text.to_owned()).unwrap()).is_ok();
        assert!(is_good("{}") && is_good(r#" {"q1":{}}"#));
        for text in ["null", "[]", "5", r#"{"q1":5}"#, r#"{"q1":{},"q2":null}"#] {
            assert!(!is_good(text), "{text}");
        }
    }

    #[test]
    fn a_question_has_the_form_of_the_modern_era() {
        let request = r#"{"method":"elicitation/create","params":{"n": 1.0}}"#;
        let open = [InputRequest { key: "q1".to_owned(), request: request.to_owned() }];
        let asked = input_required(&open, "parked:0");
        let expected = format!(
            r#"{{"resultType":"input_required","inputRequests":{{"q1":{request}}},"requestState":"parked:0"}}"#
        );
        assert_eq!(asked.get(), expected);
        let state = RawValue::from_string(r#""parked:0""#.to_owned()).unwrap();
        assert_eq!(named(&state).as_deref(), Some("parked:0"));
        assert_eq!(named(&RawValue::from_string("\"else\"".to_owned()).unwrap()), None);
    }
}
