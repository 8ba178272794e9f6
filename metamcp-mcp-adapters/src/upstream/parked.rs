//! Requests of legacy servers that wait, alive, for the answer to a question.
//!
//! The caller has an `input_required` result meanwhile; its retry names the parked request. Few are kept and none for long: a request that
//! nobody comes back for is cancelled, and its server told why its question has no answer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use metamcp_core::json::RawJson;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_util::task::AbortOnDropHandle;

use super::way::Question;
use crate::wire::object::ObjectText;

/// Requests of one connection that may wait at a time.
const PARKED_MAX: usize = 64;
/// Longest a request waits for an answer, in seconds.
const PARKED_S_MAX: u64 = 600;
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
    question: Question,
    about: About,
    round: u32,
    _expiring: AbortOnDropHandle<()>,
}

/// A request that was parked.
#[derive(Debug)]
pub(super) struct Unparked {
    pub(super) question: Question,
    /// The key its question was asked under.
    pub(super) key: String,
    /// How many questions it has asked.
    pub(super) round: u32,
}

/// The parked requests of one connection.
#[derive(Debug, Default)]
pub(super) struct Parked {
    /// Short sections, never held over an await.
    table: Mutex<HashMap<String, Entry>>,
}

impl Parked {
    /// Keeps a request that asks for the `round`th time; its name. `Err`: there is no room.
    pub(super) fn park(
        self: &Arc<Self>,
        question: Question,
        about: About,
        round: u32,
    ) -> Result<String, Box<Question>> {
        let mut table = self.table();
        if table.len() >= PARKED_MAX {
            return Err(Box::new(question));
        }
        let state = format!("{STATE_PREFIX}{:032x}", rand::random::<u128>());
        let (parked, named) = (Arc::downgrade(self), state.clone());
        let expiring = AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(PARKED_S_MAX)).await;
            let expired = parked.upgrade().and_then(|parked| parked.table().remove(&named));
            if let Some(Entry { question, .. }) = expired {
                question.give_up("nobody has answered in time");
            }
        }));
        table.insert(state.clone(), Entry { question, about, round, _expiring: expiring });
        Ok(state)
    }

    /// Takes a request back; `None` when it is not here (any more), or is another one than the retry is about.
    pub(super) fn take(&self, state: &str, about: &About) -> Option<Unparked> {
        let mut table = self.table();
        if table.get(state)?.about != *about {
            return None;
        }
        let Entry { question, round, .. } = table.remove(state)?;
        Some(Unparked { question, key: key(round), round })
    }

    /// Ends a request that nobody will come back for.
    pub(super) fn give_up(&self, state: &str) {
        let given_up = self.table().remove(state);
        if let Some(Entry { question, .. }) = given_up {
            question.give_up("the call was cancelled");
        }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key of the question of a round: unlike those of other rounds, so that an old answer is not taken for a new one.
pub(super) fn key(round: u32) -> String {
    format!("q{round}")
}

/// The parked request that a retry's `requestState` names.
pub(super) fn named(state: &RawValue) -> Option<String> {
    serde_json::from_str::<String>(state.get()).ok().filter(|state| state.starts_with(STATE_PREFIX))
}

/// The question as a modern server would put it.
pub(super) fn input_required(key: &str, request: &str, state: &str) -> RawJson {
    let mut text = ObjectText::with_capacity(128 + request.len() + state.len());
    text.string("resultType", "input_required").object("inputRequests", |requests| {
        requests.raw(key, request);
    });
    text.string("requestState", state);
    RawJson::parse(text.finish()).expect("an object of JSON values is JSON")
}

/// A question as `inputRequests` holds it.
pub(super) fn request_of(question: &Question) -> String {
    let room = question.params.as_ref().map_or(0, |params| params.get().len());
    let mut text = ObjectText::with_capacity(64 + room);
    text.string("method", &question.method);
    if let Some(params) = &question.params {
        text.value("params", params);
    }
    text.finish()
}

/// The answer to one question among `inputResponses`.
pub(super) fn response(responses: Option<&RawValue>, key: &str) -> Option<Box<RawValue>> {
    #[derive(Deserialize)]
    struct Responses<'a>(#[serde(borrow)] HashMap<std::borrow::Cow<'a, str>, &'a RawValue>);
    let Responses(responses) = serde_json::from_str(responses?.get()).ok()?;
    responses.get(key).map(|response| (*response).to_owned())
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use metamcp_core::transport::RelaySide;

    use super::*;
    use crate::upstream::way::{Failure, Rest, Step};

    /// A request that only keeps what its server was told at the end.
    #[derive(Debug, Default, Clone)]
    struct Told(Arc<Mutex<Vec<String>>>);

    #[async_trait]
    impl Rest for Told {
        async fn go_on(
            self: Box<Self>,
            _answer: String,
            _capabilities: Option<&RawValue>,
            _side: &dyn RelaySide,
        ) -> Result<Step, Failure> {
            unreachable!("nobody goes on with it here")
        }

        fn give_up(self: Box<Self>, answer: String) {
            self.0.lock().unwrap().push(answer);
        }
    }

    fn question(told: &Told) -> Question {
        let id = RawValue::from_string("\"q\"".to_owned()).unwrap();
        Question { id, method: "roots/list".to_owned(), params: None, rest: Box::new(told.clone()) }
    }

    #[tokio::test(start_paused = true)]
    async fn few_are_kept_and_none_for_long() {
        let (parked, told, about) = (Arc::<Parked>::default(), Told::default(), About::new("tools/call", Some("t")));
        let states: Vec<String> =
            (0..PARKED_MAX).map(|_| parked.park(question(&told), about.clone(), 1).unwrap()).collect();
        assert!(parked.park(question(&told), about.clone(), 1).is_err(), "there is no room");
        assert!(parked.take(&states[0], &About::new("tools/call", Some("other"))).is_none());
        assert_eq!(parked.take(&states[0], &about).unwrap().key, "q1");
        assert!(parked.take(&states[0], &about).is_none(), "it is taken once");
        parked.give_up(&states[1]);
        assert_eq!(told.0.lock().unwrap().len(), 1);
        tokio::time::sleep(Duration::from_secs(PARKED_S_MAX + 1)).await;
        assert!(parked.table().is_empty());
        let told = told.0.lock().unwrap();
        assert_eq!(told.len(), PARKED_MAX - 1);
        assert!(told.last().unwrap().contains("nobody has answered in time"));
    }

    #[test]
    fn a_question_has_the_form_of_the_modern_era() {
        let request = r#"{"method":"elicitation/create","params":{"n": 1.0}}"#;
        let asked = input_required("q1", request, "parked:0");
        let expected = format!(
            r#"{{"resultType":"input_required","inputRequests":{{"q1":{request}}},"requestState":"parked:0"}}"#
        );
        assert_eq!(asked.get(), expected);
        let state = RawValue::from_string(r#""parked:0""#.to_owned()).unwrap();
        assert_eq!(named(&state).as_deref(), Some("parked:0"));
        assert_eq!(named(&RawValue::from_string("\"else\"".to_owned()).unwrap()), None);
    }
}
