//! What the client behind a request can do: which questions of a server may be put to it, and what of that a modern server is told.

use std::sync::LazyLock;

use metamcp_core::json::RawJson;
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::way::Failure;
use crate::wire::{
    era::{MISSING_CAPABILITY, TASKS_EXTENSION},
    frame::RpcError,
};

/// What a legacy server is told once for all its callers; each question is then held against the one caller it is for.
pub(super) const LEGACY_CAPABILITIES: &str =
    r#"{"elicitation":{"form":{},"url":{}},"roots":{},"sampling":{"tools":{}}}"#;

/// What the owner of a job can do: answer questions to a person, and wait for tasks.
static JOB_CAPABILITIES: LazyLock<Box<RawValue>> = LazyLock::new(|| {
    let text = format!(r#"{{"elicitation":{{"form":{{}},"url":{{}}}},"extensions":{{"{TASKS_EXTENSION}":{{}}}}}}"#);
    RawValue::from_string(text).expect("the text above is JSON")
});

/// The client capabilities of calls that no client stands behind.
pub(super) fn of_job() -> &'static RawValue {
    &JOB_CAPABILITIES
}

/// The capabilities that can be relayed, each as it came.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Relayable<'a> {
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    elicitation: Option<&'a RawValue>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    extensions: Option<&'a RawValue>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    roots: Option<&'a RawValue>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    sampling: Option<&'a RawValue>,
}

impl<'a> Relayable<'a> {
    /// Those among a client's capabilities; what cannot be read is no capability.
    pub(super) fn of(capabilities: Option<&'a RawValue>) -> Self {
        capabilities.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
    }

    /// As JSON text.
    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).expect("capabilities have string keys only")
    }

    /// Whether the client can be asked anything.
    pub(super) const fn any(&self) -> bool {
        self.elicitation.is_some() || self.roots.is_some() || self.sampling.is_some()
    }

    /// Whether the client can be asked this.
    pub(super) fn cover(&self, method: &str, params: Option<&RawValue>) -> bool {
        match method {
            "elicitation/create" => self.cover_elicitation(params),
            "sampling/createMessage" => self.cover_sampling(params),
            "roots/list" => self.roots.is_some(),
            _ => false,
        }
    }

    fn cover_elicitation(&self, params: Option<&RawValue>) -> bool {
        #[derive(Deserialize, Default)]
        struct Modes {
            form: Option<IgnoredAny>,
            url: Option<IgnoredAny>,
        }
        let Some(modes) = self.elicitation.map(view::<Modes>) else { return false };
        match params.map(view::<Wanted>).unwrap_or_default().mode.as_deref() {
            // A client that names no mode has forms, as before there were modes.
            None | Some("form") => modes.form.is_some() || modes.url.is_none(),
            Some("url") => modes.url.is_some(),
            Some(_) => false,
        }
    }

    fn cover_sampling(&self, params: Option<&RawValue>) -> bool {
        let Some(parts) = self.sampling.map(view::<Parts>) else { return false };
        parts.tools.is_some() || params.map(view::<Parts>).unwrap_or_default().tools.is_none()
    }
}

/// The capability that the client behind a request was found to lack, by the first question that could not be put to it.
///
/// The server is refused the answer and may do without. If it fails then, its client is told what modern servers tell: what to declare.
#[derive(Debug, Default)]
pub(super) struct Lacking(Option<&'static str>);

impl Lacking {
    /// This could not be asked.
    pub(super) fn note(&mut self, method: &str, params: Option<&RawValue>) {
        self.0 = self.0.or_else(|| needed(method, params));
    }

    /// How the request failed, as its client is told.
    pub(super) fn told(&self, failure: Failure) -> Failure {
        match (self.0, failure) {
            (Some(needed), Failure::Rpc(error, status)) => {
                let message = format!("the server needs the client capability {needed}: {}", error.message);
                let data = RawJson::parse(format!(r#"{{"requiredCapabilities":{needed}}}"#)).ok();
                Failure::Rpc(RpcError { code: MISSING_CAPABILITY, message, data }, status)
            }
            (_, failure) => failure,
        }
    }
}

/// What a client must declare to be asked this, a JSON object; `None` for what no client can be asked.
fn needed(method: &str, params: Option<&RawValue>) -> Option<&'static str> {
    match method {
        "elicitation/create" => match params.map(view::<Wanted>).unwrap_or_default().mode.as_deref() {
            None | Some("form") => Some(r#"{"elicitation":{"form":{}}}"#),
            Some("url") => Some(r#"{"elicitation":{"url":{}}}"#),
            Some(_) => None,
        },
        "sampling/createMessage" if params.map(view::<Parts>).unwrap_or_default().tools.is_some() => {
            Some(r#"{"sampling":{"tools":{}}}"#)
        }
        "sampling/createMessage" => Some(r#"{"sampling":{}}"#),
        "roots/list" => Some(r#"{"roots":{}}"#),
        _ => None,
    }
}

/// Of an elicitation, how the person is to be asked.
#[derive(Deserialize, Default)]
struct Wanted {
    mode: Option<String>,
}

/// Of sampling, declared or asked for, what is told apart.
#[derive(Deserialize, Default)]
struct Parts {
    tools: Option<IgnoredAny>,
}

fn view<'a, T: Deserialize<'a> + Default>(raw: &'a RawValue) -> T {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    fn covers(capabilities: &str, method: &str, params: &str) -> bool {
        Relayable::of(Some(&raw(capabilities))).cover(method, Some(&raw(params)))
    }

    #[test]
    fn only_what_the_client_declared_may_be_asked() {
        let elicit = "elicitation/create";
        assert!(covers(r#"{"elicitation":{}}"#, elicit, r#"{"message":"m"}"#));
        assert!(covers(r#"{"elicitation":{"form":{}}}"#, elicit, r#"{"mode":"form"}"#));
        assert!(!covers(r#"{"elicitation":{"form":{}}}"#, elicit, r#"{"mode":"url"}"#));
        assert!(!covers(r#"{"elicitation":{"url":{}}}"#, elicit, r#"{"mode":"form"}"#));
        assert!(!covers(r#"{"elicitation":{"url":{}}}"#, elicit, r#"{"mode":"hologram"}"#));
        assert!(!covers("{}", elicit, "{}") && !covers("[]", elicit, "{}"));
        let sample = "sampling/createMessage";
        assert!(covers(r#"{"sampling":{}}"#, sample, r#"{"messages":[]}"#));
        assert!(!covers(r#"{"sampling":{}}"#, sample, r#"{"tools":[]}"#));
        assert!(covers(r#"{"sampling":{"tools":{}}}"#, sample, r#"{"tools":[]}"#));
        assert!(covers(r#"{"roots":{}}"#, "roots/list", "{}") && !covers(r#"{"sampling":{}}"#, "roots/list", "{}"));
        assert!(!covers(LEGACY_CAPABILITIES, "ping", "{}"));
        assert!(!Relayable::of(None).cover("roots/list", None));
    }

    #[test]
    fn a_failure_for_want_of_a_capability_says_what_to_declare() {
        let failed = || Failure::Rpc(RpcError { code: -32603, message: "no luck".to_owned(), data: None }, None);
        let told = |lacking: &Lacking| match lacking.told(failed()) {
            Failure::Rpc(RpcError { code, message, data }, _) => {
                (code, message, data.map(|data| data.get().to_owned()).unwrap_or_default())
            }
            other => panic!("another failure: {other:?}"),
        };
        let asked = |method: &str, params: &str| {
            let mut lacking = Lacking::default();
            lacking.note(method, Some(&raw(params)));
            lacking.note("roots/list", None);
            told(&lacking)
        };
        let (code, message, data) = asked("sampling/createMessage", "{}");
        assert_eq!((code, &*data), (MISSING_CAPABILITY, r#"{"requiredCapabilities":{"sampling":{}}}"#));
        assert!(message.ends_with("no luck"), "{message}");
        assert_eq!(
            asked("sampling/createMessage", r#"{"tools":[]}"#).2,
            r#"{"requiredCapabilities":{"sampling":{"tools":{}}}}"#
        );
        assert_eq!(
            asked("elicitation/create", r#"{"mode":"url"}"#).2,
            r#"{"requiredCapabilities":{"elicitation":{"url":{}}}}"#
        );
        assert_eq!(asked("elicitation/create", "{}").2, r#"{"requiredCapabilities":{"elicitation":{"form":{}}}}"#);
        assert_eq!(asked("who/knows", "{}").2, r#"{"requiredCapabilities":{"roots":{}}}"#);
        assert_eq!(told(&Lacking::default()).0, -32603);
    }

    #[test]
    fn what_cannot_be_relayed_is_not_told() {
        let all = raw(r#"{"tasks":{},"sampling":{"x": 1.0},"experimental":{"a":1},"extensions":{"x/y":{"n":1e400}}}"#);
        let told = Relayable::of(Some(&all)).text();
        assert_eq!(told, r#"{"extensions":{"x/y":{"n":1e400}},"sampling":{"x": 1.0}}"#);
        assert_eq!(Relayable::of(None).text(), "{}");
    }
}
