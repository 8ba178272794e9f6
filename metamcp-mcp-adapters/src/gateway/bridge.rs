//! Questions of a server in the middle of a request (`input_required`): shown to a modern client under our seal, asked of a legacy client on its
//! own stream.
//!
//! A modern client brings the answers with a retry, which may reach another replica: all that is to be known of the question is in the sealed
//! `requestState`. It holds for who was asked, for the same request of the same server, and for a while.

use std::time::Duration;

use metamcp_core::{
    auth::Principal,
    id::{JobId, ServerName},
    json::RawJson,
    queue::InputRequest,
    time::{Clock as _, SystemClock, Timestamp},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    Caller, ClientSide, Request, RpcFault,
    elicitations::Elicitations,
    front::Word,
    members::{Members, quoted, with_text},
    seal::Seal,
};
use crate::wire::era::{Era, INTERNAL_ERROR, INVALID_PARAMS, MISSING_CAPABILITY};

/// The question to a person.
const ELICITATION: &str = "elicitation/create";
/// What our seal on a state is for.
const PURPOSE: &str = "state";
/// How long a question waits for its answers.
pub(crate) const QUESTION_TTL: Duration = Duration::from_secs(3_600);
/// Most times that one request of a legacy client is asked something.
const ROUNDS_MAX: u32 = 16;
/// Pause before a server is called again that only wants to be, as it said nothing of when.
const AGAIN_PAUSE: Duration = Duration::from_millis(500);

/// Which request a question belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin<'a> {
    pub(crate) who: &'a Principal,
    pub(crate) server: &'a ServerName,
    pub(crate) method: &'a str,
    /// The tool, prompt or resource, as the server calls it.
    pub(crate) name: &'a str,
}

/// What a sealed `requestState` says.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    who: Principal,
    server: ServerName,
    method: String,
    name: String,
    until: Timestamp,
    /// The server's own state, as it was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    inner: Option<RawJson>,
    /// The job that asks, in place of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<JobId>,
}

/// What a retry goes on with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Goes {
    /// With nothing: it is no retry, or one of a server that keeps no state.
    Fresh,
    /// With the server's own state.
    State(RawJson),
    /// With a job that waits for answers.
    Job(JobId),
}

impl Origin<'_> {
    fn seal(&self, seal: &Seal, inner: Option<RawJson>, job: Option<JobId>) -> String {
        let state = State {
            who: self.who.clone(),
            server: self.server.clone(),
            method: self.method.to_owned(),
            name: self.name.to_owned(),
            until: SystemClock::default().now() + QUESTION_TTL,
            inner,
            job,
        };
        seal.seal(PURPOSE, &serde_json::to_string(&state).expect("a state has string keys only"))
    }

    /// Reads the `requestState` of a request.
    ///
    /// # Errors
    /// When it is not one of ours, is another request's or another caller's, or has run out.
    fn open(&self, seal: &Seal, state: Option<&RawValue>) -> Result<Goes, RpcFault> {
        let Some(state) = state else { return Ok(Goes::Fresh) };
        let refused = |why: &str| RpcFault::new(INVALID_PARAMS, format!("requestState: {why}; make the request anew"));
        let text: String = serde_json::from_str(state.get()).map_err(|_| refused("it is not a string"))?;
        let opened = seal.open(PURPOSE, &text).ok_or_else(|| refused("it is not as it was given out"))?;
        let state: State = serde_json::from_str(&opened).map_err(|_| refused("it is not as it was given out"))?;
        let same = state.who == *self.who
            && state.server == *self.server
            && state.method == self.method
            && state.name == self.name;
        if !same {
            return Err(refused("it belongs to another request"));
        }
        if state.until <= SystemClock::default().now() {
            return Err(refused("it has run out"));
        }
        Ok(match (state.job, state.inner) {
            (Some(job), _) => Goes::Job(job),
            (None, Some(inner)) => Goes::State(inner),
            (None, None) => Goes::Fresh,
        })
    }
}

/// What is to be asked, of a result of the type `input_required`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Questions<'a> {
    #[serde(borrow, default)]
    input_requests: Option<&'a RawValue>,
    #[serde(default)]
    request_state: Option<RawJson>,
}

/// One question.
#[derive(Debug, Deserialize)]
struct Question<'a> {
    method: String,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
}

/// The questions of one request, from its first round to its last.
pub(crate) struct Bridge<'a> {
    seal: &'a Seal,
    elicitations: &'a Elicitations,
    caller: &'a Caller,
    side: &'a dyn ClientSide,
    origin: Origin<'a>,
    goes: Goes,
    answers: Option<RawJson>,
    rounds: u32,
}

impl<'a> Bridge<'a> {
    /// Reads what a request brings along: answers, and the state they belong to.
    ///
    /// # Errors
    /// When the state is not one of ours for this request.
    pub(crate) fn new(
        seal: &'a Seal,
        elicitations: &'a Elicitations,
        caller: &'a Caller,
        side: &'a dyn ClientSide,
        origin: Origin<'a>,
        request: &Request<'_>,
    ) -> Result<Self, RpcFault> {
        let goes = origin.open(seal, request.param("requestState"))?;
        let answers = request.param("inputResponses").map(|answers| answers.to_owned().into());
        Ok(Self { seal, elicitations, caller, side, origin, goes, answers, rounds: 0 })
    }

    /// What the next call goes on with.
    pub(crate) const fn goes(&self) -> &Goes {
        &self.goes
    }

    /// The server's own state for the next call.
    pub(crate) const fn state(&self) -> Option<&RawJson> {
        match &self.goes {
            Goes::State(state) => Some(state),
            Goes::Fresh | Goes::Job(_) => None,
        }
    }

    /// The answers for the next call.
    pub(crate) const fn answers(&self) -> Option<&RawJson> {
        self.answers.as_ref()
    }

    /// Takes a result of the server: what the client is told, or `None` when a legacy client has answered and the server is to be called
    /// again.
    ///
    /// # Errors
    /// When the client cannot or will not answer.
    pub(crate) async fn take(&mut self, result: RawJson) -> Result<Option<RawJson>, RpcFault> {
        if !asks(&result) {
            return Ok(Some(result));
        }
        let broken = |why: String| RpcFault::new(INTERNAL_ERROR, format!("server `{}`: {why}", self.origin.server));
        let questions: Questions<'_> = serde_json::from_str(result.get())
            .map_err(|e| broken(format!("`input_required` of another shape: {e}")))?;
        let inner = questions.request_state.clone();
        let asked = match questions.input_requests {
            Some(asked) => Members::of(asked.get()).map_err(|e| broken(format!("`inputRequests`: {e}")))?,
            None => Members(Vec::new()),
        };
        if asked.0.is_empty() && inner.is_none() {
            return Err(broken("`input_required` with neither a question nor a state".to_owned()));
        }
        let mut shown = Vec::with_capacity(asked.0.len());
        for (key, question) in &asked.0 {
            let question: Question<'_> = serde_json::from_str(question.get())
                .map_err(|e| broken(format!("the question `{key}` is of another shape: {e}")))?;
            shown.push((key.as_ref(), permitted(self.caller, self.origin.server, question)?));
        }
        if self.caller.era == Era::Modern {
            return Ok(Some(self.show(&shown, inner)));
        }
        self.answers = self.ask(self.origin.server, &shown).await?;
        self.goes = inner.map_or(Goes::Fresh, Goes::State);
        Ok(None)
    }

    /// Takes the questions that a job asks for this server: what the client is told, or the answers of a legacy client.
    ///
    /// # Errors
    /// When the client cannot or will not answer.
    pub(crate) async fn take_job(
        &mut self,
        job: JobId,
        server: &ServerName,
        questions: &[&InputRequest],
    ) -> Result<Asked, RpcFault> {
        let mut shown = Vec::with_capacity(questions.len());
        for InputRequest { key, request } in questions {
            let question: Question<'_> = serde_json::from_str(request)
                .map_err(|e| RpcFault::new(INTERNAL_ERROR, format!("the question `{key}` is of another shape: {e}")))?;
            shown.push((key.as_str(), permitted(self.caller, server, question)?));
        }
        if self.caller.era == Era::Modern {
            let state = self.origin.seal(self.seal, None, Some(job));
            return Ok(Asked::Shown(input_required(&shown, Some(&state))));
        }
        Ok(Asked::Answered(self.ask(server, &shown).await?.unwrap_or_default()))
    }

    fn show(&self, questions: &[(&str, Put)], inner: Option<RawJson>) -> RawJson {
        let state = inner.map(|inner| self.origin.seal(self.seal, Some(inner), None));
        input_required(questions, state.as_deref())
    }

    /// Asks a legacy client, one question after another; `None` when there is nothing to ask.
    async fn ask(&mut self, server: &ServerName, questions: &[(&str, Put)]) -> Result<Option<RawJson>, RpcFault> {
        self.rounds += 1;
        if self.rounds > ROUNDS_MAX {
            let message = format!("server `{}` asks again and again: over {ROUNDS_MAX} rounds", self.origin.server);
            return Err(RpcFault::new(INTERNAL_ERROR, message));
        }
        if questions.is_empty() {
            tokio::time::sleep(AGAIN_PAUSE).await;
            return Ok(None);
        }
        let mut answers = String::from("{");
        for (key, question) in questions {
            if question.method == ELICITATION {
                self.elicitations.asked(server, &question.params, self.side.address());
            }
            let answer = match self.side.ask(&question.method, &question.params).await {
                Ok(answer) if answer.is_object() => answer,
                // Who cannot answer a form has not filled it in; of other questions the error is all there is to say.
                Ok(_) | Err(_) if question.method == ELICITATION => {
                    RawJson::parse(r#"{"action":"cancel"}"#).expect("the text is JSON")
                }
                Ok(_) => {
                    let why = format!("the client's answer to `{}` is not an object", question.method);
                    return Err(RpcFault::new(INTERNAL_ERROR, why));
                }
                Err(fault) => return Err(fault),
            };
            if answers.len() > 1 {
                answers.push(',');
            }
            answers.push_str(&quoted(key));
            answers.push(':');
            answers.push_str(answer.get());
        }
        answers.push('}');
        Ok(Some(RawJson::parse(answers).expect("members of JSON values are JSON")))
    }
}

/// Checks that the client can be asked this, and says in the question whose it is.
fn permitted(caller: &Caller, server: &ServerName, question: Question<'_>) -> Result<Put, RpcFault> {
    let needed = match question.method.as_str() {
        ELICITATION => "elicitation",
        "sampling/createMessage" => "sampling",
        "roots/list" => "roots",
        other => {
            let message = format!("server `{server}` asks `{other}`, which no client answers");
            return Err(RpcFault::new(INTERNAL_ERROR, message));
        }
    };
    let has = Members::of(caller.capabilities.get()).is_ok_and(|can| can.get(needed).is_some());
    if !has {
        let message = format!("server `{server}` needs the client capability `{needed}`");
        let data = RawJson::parse(format!(r#"{{"requiredCapabilities":{{"{needed}":{{}}}}}}"#)).ok();
        return Err(RpcFault { code: MISSING_CAPABILITY, message, data });
    }
    let params = question.params.map_or_else(RawJson::empty_object, |params| params.to_owned().into());
    let params = if needed == "elicitation" { named(server, params) } else { params };
    Ok(Put { method: question.method, params })
}

/// A question of this server as the client is shown it in a list of them.
///
/// # Errors
/// When it is none, or the client cannot be asked it.
pub(crate) fn shown(caller: &Caller, server: &ServerName, request: &str) -> Result<String, RpcFault> {
    let question: Question<'_> = serde_json::from_str(request)
        .map_err(|e| RpcFault::new(INTERNAL_ERROR, format!("a question is of another shape: {e}")))?;
    permitted(caller, server, question).map(|put| put.request())
}

/// What became of the questions of a job.
#[derive(Debug)]
pub(crate) enum Asked {
    /// The client is shown them.
    Shown(RawJson),
    /// A legacy client has answered.
    Answered(RawJson),
}

/// A question as the client is asked it.
#[derive(Debug)]
struct Put {
    method: String,
    params: RawJson,
}

impl Put {
    /// As `inputRequests` holds it.
    fn request(&self) -> String {
        format!(r#"{{"method":{},"params":{}}}"#, quoted(&self.method), self.params.get())
    }
}

/// Whether a result is a question. Looked at closely only when the word is in it.
pub(crate) fn asks(result: &RawJson) -> bool {
    static WORD: Word = Word::new("input_required");
    kind(result, &WORD)
}

/// Whether a result says that it is of this `resultType`.
pub(crate) fn kind(result: &RawJson, kind: &Word) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct View<'a> {
        #[serde(borrow, default)]
        result_type: Option<&'a RawValue>,
    }
    if !kind.is_in(result.get()) {
        return false;
    }
    let view = serde_json::from_str::<View<'_>>(result.get()).ok();
    let said = view.and_then(|view| view.result_type).and_then(|text| serde_json::from_str::<String>(text.get()).ok());
    said.as_deref() == Some(kind.as_str())
}

fn input_required(questions: &[(&str, Put)], state: Option<&str>) -> RawJson {
    let mut text = String::from(r#"{"resultType":"input_required""#);
    if !questions.is_empty() {
        text.push_str(r#","inputRequests":{"#);
        for (at, (key, asked)) in questions.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            text.push_str(&format!("{comma}{}:{}", quoted(key), asked.request()));
        }
        text.push('}');
    }
    if let Some(state) = state {
        text.push_str(r#","requestState":"#);
        text.push_str(&quoted(state));
    }
    text.push('}');
    RawJson::parse(text).expect("the parts are JSON")
}

/// A person must see which server asks.
fn named(server: &ServerName, params: RawJson) -> RawJson {
    let message = Members::of(params.get()).ok().and_then(|members| members.text("message").map(String::from));
    let Some(message) = message else { return params };
    let text = with_text(params.get(), "message", &format!("[{server}] {message}"));
    text.and_then(|text| RawJson::parse(text).ok()).unwrap_or(params)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;

    use super::*;

    struct Person(Mutex<Vec<String>>);

    #[async_trait]
    impl ClientSide for Person {
        fn notify(&self, _: &str, _: Option<&RawValue>) {}

        async fn ask(&self, method: &str, params: &RawJson) -> Result<RawJson, RpcFault> {
            self.0.lock().unwrap().push(format!("{method} {}", params.get()));
            match method {
                "sampling/createMessage" => Err(RpcFault::new(-1, "no")),
                _ => Ok(RawJson::parse(r#"{"action":"accept","content":{"n":1.0}}"#).unwrap()),
            }
        }
    }

    fn caller(era: Era, capabilities: &str) -> Caller {
        Caller {
            principal: Principal::local(),
            endpoint: None,
            era,
            revision: "2026-07-28".into(),
            capabilities: RawJson::parse(capabilities).unwrap(),
            client_info: None,
            log_level: None,
        }
    }

    fn question(method: &str) -> RawJson {
        let asked = format!(r#"{{"method":"{method}","params":{{ "message":"why?", "x":1.0}}}}"#);
        RawJson::parse(format!(
            r#"{{"resultType":"input_required","inputRequests":{{"a\"":{asked}}},"requestState":"s\u0031"}}"#
        ))
        .unwrap()
    }

    const ALL: &str = r#"{"elicitation":{},"sampling":{},"roots":{}}"#;

    async fn take(
        era: Era,
        can: &str,
        state: Option<&str>,
        result: RawJson,
    ) -> Result<(Option<RawJson>, Goes, Option<RawJson>), RpcFault> {
        let (seal, caller, side) = (Seal::new(&[3; 32]), caller(era, can), Person(Mutex::default()));
        let elicitations = Elicitations::default();
        let server = ServerName::new("bank").unwrap();
        let origin = Origin { who: &caller.principal, server: &server, method: "tools/call", name: "pay" };
        let id = RawValue::from_string("1".to_owned()).unwrap();
        let state = state.map(|state| RawValue::from_string(quoted(state)).unwrap());
        let params = state.iter().map(|state| ("requestState".into(), &**state)).collect();
        let request = Request { id: &id, method: "tools/call".into(), params, meta: Vec::new() };
        let mut bridge = Bridge::new(&seal, &elicitations, &caller, &side, origin, &request)?;
        let told = bridge.take(result).await?;
        Ok((told, bridge.goes, bridge.answers))
    }

    #[tokio::test]
    async fn a_modern_client_gets_the_question_with_a_sealed_state_and_brings_it_back() {
        let (told, ..) = take(Era::Modern, ALL, None, question("elicitation/create")).await.unwrap();
        let told = told.unwrap();
        let view: serde_json::Value = told.view().unwrap();
        assert_eq!(view["inputRequests"]["a\""]["params"]["message"], "[bank] why?");
        assert!(told.get().contains("\"x\":1.0"), "{}", told.get());
        let sealed = view["requestState"].as_str().unwrap();
        let done = RawJson::parse("{}").unwrap();
        let (_, goes, _) = take(Era::Modern, ALL, Some(sealed), done.clone()).await.unwrap();
        assert_eq!(goes, Goes::State(RawJson::parse(r#""s\u0031""#).unwrap()), "byte for byte");
        for wrong in ["s1", &sealed[1..], ""] {
            let refused = take(Era::Modern, ALL, Some(wrong), done.clone()).await.unwrap_err();
            assert_eq!(refused.code, INVALID_PARAMS);
        }
    }

    #[tokio::test]
    async fn a_state_is_of_one_caller_and_one_request() {
        let seal = Seal::new(&[3; 32]);
        let (server, who) = (ServerName::new("bank").unwrap(), Principal::local());
        let origin = Origin { who: &who, server: &server, method: "tools/call", name: "pay" };
        let sealed = RawValue::from_string(quoted(&origin.seal(&seal, None, None))).unwrap();
        assert_eq!(origin.open(&seal, Some(&sealed)).unwrap(), Goes::Fresh);
        let other = Principal::new(who.tenant.clone(), "other");
        for wrong in [Origin { who: &other, ..origin }, Origin { name: "steal", ..origin }] {
            assert_eq!(wrong.open(&seal, Some(&sealed)).unwrap_err().code, INVALID_PARAMS);
        }
    }

    #[tokio::test]
    async fn a_legacy_client_is_asked_and_the_server_called_again() {
        let (told, goes, answers) = take(Era::Legacy, ALL, None, question("elicitation/create")).await.unwrap();
        assert_eq!((told, goes), (None, Goes::State(RawJson::parse(r#""s\u0031""#).unwrap())));
        assert_eq!(answers.unwrap().get(), r#"{"a\"":{"action":"accept","content":{"n":1.0}}}"#);
        let refused = take(Era::Legacy, ALL, None, question("sampling/createMessage")).await.unwrap_err();
        assert_eq!(refused.code, -1);
    }

    #[tokio::test]
    async fn nobody_is_asked_what_it_did_not_declare() {
        for era in [Era::Legacy, Era::Modern] {
            let refused = take(era, r#"{"sampling":{}}"#, None, question("elicitation/create")).await.unwrap_err();
            assert_eq!(refused.code, MISSING_CAPABILITY);
            let refused = take(era, ALL, None, question("tools/call")).await.unwrap_err();
            assert_eq!(refused.code, INTERNAL_ERROR);
        }
    }

    #[test]
    fn a_question_among_many_names_its_server_and_is_shown_to_who_can_answer() {
        let (server, able) = (ServerName::new("bank").unwrap(), caller(Era::Modern, r#"{"elicitation":{}}"#));
        let asked = r#"{"params": {"message":"pay?","x":1.0},"method":"elicitation/create"}"#;
        let told = shown(&able, &server, asked).unwrap();
        assert_eq!(told, r#"{"method":"elicitation/create","params":{"message":"[bank] pay?","x":1.0}}"#);
        assert_eq!(shown(&caller(Era::Modern, "{}"), &server, asked).unwrap_err().code, MISSING_CAPABILITY);
        assert_eq!(shown(&able, &server, "1").unwrap_err().code, INTERNAL_ERROR);
    }

    #[test]
    fn a_word_in_the_text_is_no_type() {
        let result = |text: &str| RawJson::parse(text).unwrap();
        assert!(!asks(&result(r#"{"content":[{"type":"text","text":"input_required"}]}"#)));
        assert!(asks(&result(r#"{"content":[],"resultType":"input_required"}"#)));
    }
}
