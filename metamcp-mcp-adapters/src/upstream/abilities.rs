//! What the client behind a request can do: which questions of a server may be put to it, and what of that a modern server is told.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::value::RawValue;

use crate::wire::era::TASKS_EXTENSION;

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
        #[derive(Deserialize, Default)]
        struct Wanted {
            mode: Option<String>,
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
        #[derive(Deserialize, Default)]
        struct Parts {
            tools: Option<IgnoredAny>,
        }
        let Some(parts) = self.sampling.map(view::<Parts>) else { return false };
        parts.tools.is_some() || params.map(view::<Parts>).unwrap_or_default().tools.is_none()
    }
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
    fn what_cannot_be_relayed_is_not_told() {
        let all = raw(r#"{"tasks":{},"sampling":{"x": 1.0},"experimental":{"a":1},"extensions":{"x/y":{"n":1e400}}}"#);
        let told = Relayable::of(Some(&all)).text();
        assert_eq!(told, r#"{"extensions":{"x/y":{"n":1e400}},"sampling":{"x": 1.0}}"#);
        assert_eq!(Relayable::of(None).text(), "{}");
    }
}
