//! How a client opens: what `_meta` of a modern request says of it, what `initialize` of a legacy one does, and what it is told of us.

use std::{borrow::Cow, sync::Arc};

use metamcp_core::{auth::Principal, json::RawJson};
use serde_json::{Value, value::RawValue};

use super::{
    Caller, Request, RpcFault,
    catalog::Discover,
    members::{Key, Members, quoted},
};
use crate::wire::era::{
    CLIENT_INFO, Era, INVALID_PARAMS, LEGACY, LEGACY_LATEST, META_CAPABILITIES, META_CLIENT_INFO, META_LOG_LEVEL,
    META_REVISION, META_SUBSCRIPTION, MODERN, TASKS_EXTENSION, UNSUPPORTED_REVISION,
};

/// Methods that the modern revision has no more.
const REMOVED: [&str; 5] = ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"];
/// Least to most severe.
const LOG_LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

/// The text of a raw value that is a string.
pub(crate) fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Key<'_>>(raw.get()).ok().map(|Key(text)| text)
}

/// The revision that a request names in its `_meta`.
pub(crate) fn revision<'a>(request: &Request<'a>) -> Option<Cow<'a, str>> {
    request.meta(META_REVISION).and_then(text)
}

/// Whether the modern revision took this method away.
pub(crate) fn is_removed(method: &str) -> bool {
    REMOVED.contains(&method)
}

/// The client behind a modern request.
///
/// # Errors
/// When `_meta` lacks what it must say, or names a revision that is not spoken.
pub(crate) fn modern_caller(
    request: &Request<'_>,
    principal: Principal,
    endpoint: Option<Arc<str>>,
) -> Result<Caller, RpcFault> {
    let missing = |key: &str| RpcFault::new(INVALID_PARAMS, format!("`_meta` must have `{key}`"));
    let revision = revision(request).ok_or_else(|| missing(META_REVISION))?;
    if revision != MODERN {
        return Err(unsupported(&revision));
    }
    let object = |raw: &&RawValue| raw.get().starts_with('{');
    let capabilities = request.meta(META_CAPABILITIES).filter(object).ok_or_else(|| missing(META_CAPABILITIES))?;
    let log_level = request.meta(META_LOG_LEVEL).map(|level| known_level(Some(level), META_LOG_LEVEL)).transpose()?;
    Ok(Caller {
        principal,
        endpoint,
        era: Era::Modern,
        revision: modern(),
        capabilities: capabilities.to_owned().into(),
        client_info: request.meta(META_CLIENT_INFO).filter(object).map(|info| info.to_owned().into()),
        log_level,
    })
}

/// The one modern revision, shared by all callers.
fn modern() -> Arc<str> {
    static MODERN_SHARED: std::sync::LazyLock<Arc<str>> = std::sync::LazyLock::new(|| MODERN.into());
    Arc::clone(&MODERN_SHARED)
}

/// That a revision is not spoken, with those that are.
pub(crate) fn unsupported(requested: &str) -> RpcFault {
    let supported: Vec<&str> = [MODERN].into_iter().chain(LEGACY.into_iter().rev()).collect();
    let message = format!("revision `{requested}` is not spoken; use one of `data.supported`");
    let data = serde_json::json!({ "supported": supported, "requested": requested });
    RpcFault { code: UNSUPPORTED_REVISION, message, data: Some(data.into()) }
}

/// What a legacy client says of itself.
#[derive(Debug)]
pub(crate) struct Hello {
    /// The revision that is spoken with it.
    pub(crate) revision: &'static str,
    /// Its capabilities, an object.
    pub(crate) capabilities: RawJson,
    /// Its `clientInfo`, an object.
    pub(crate) client_info: Option<RawJson>,
}

impl Hello {
    /// Reads an `initialize` request.
    ///
    /// # Errors
    /// When it lacks what it must say.
    pub(crate) fn of(request: &Request<'_>) -> Result<Self, RpcFault> {
        let missing = |what: &str| RpcFault::new(INVALID_PARAMS, format!("`initialize` must have {what}"));
        let asked = request.param("protocolVersion").and_then(text).ok_or_else(|| missing("a `protocolVersion`"))?;
        let object = |raw: &&RawValue| raw.get().starts_with('{');
        let capabilities = request.param("capabilities").filter(object);
        let capabilities = capabilities.ok_or_else(|| missing("an object `capabilities`"))?;
        Ok(Self {
            revision: LEGACY.into_iter().find(|known| *known == asked).unwrap_or(LEGACY_LATEST),
            capabilities: capabilities.to_owned().into(),
            client_info: request.param("clientInfo").filter(object).map(|info| info.to_owned().into()),
        })
    }
}

/// The result of `initialize`.
pub(crate) fn initialized(hello: &Hello, discover: &Discover) -> RawJson {
    let capabilities = legacy_capabilities(&discover.capabilities);
    let instructions = discover.instructions.as_ref();
    let instructions = instructions.map_or_else(String::new, |text| format!(r#","instructions":{}"#, quoted(text)));
    let revision = hello.revision;
    let text = format!(
        r#"{{"protocolVersion":"{revision}","capabilities":{capabilities},"serverInfo":{CLIENT_INFO}{instructions}}}"#
    );
    RawJson::parse(text).expect("made of JSON")
}

/// Without the tasks of the modern era: a client of a legacy one could not tell their results from those of its own.
fn legacy_capabilities(modern: &RawJson) -> Value {
    let mut capabilities: Value = modern.view().unwrap_or_default();
    if let Some(extensions) = capabilities.get_mut("extensions").and_then(Value::as_object_mut) {
        extensions.remove(TASKS_EXTENSION);
        if extensions.is_empty() {
            capabilities.as_object_mut().map(|members| members.remove("extensions"));
        }
    }
    capabilities
}

/// The log level of a legacy session whose client has set none: the protocol leaves it to us, and its servers are used to be heard.
pub(crate) fn default_log_level() -> RawJson {
    static INFO: std::sync::LazyLock<RawJson> =
        std::sync::LazyLock::new(|| RawJson::parse(r#""info""#).expect("it is JSON"));
    INFO.clone()
}

/// The level of a `logging/setLevel` request, as it was written.
///
/// # Errors
/// When it is none.
pub(crate) fn log_level(request: &Request<'_>) -> Result<RawJson, RpcFault> {
    known_level(request.param("level"), "level")
}

/// A level under this key, as it was written.
fn known_level(level: Option<&RawValue>, key: &str) -> Result<RawJson, RpcFault> {
    let level = level.filter(|raw| text(raw).is_some_and(|level| LOG_LEVELS.contains(&&*level)));
    let level = level
        .ok_or_else(|| RpcFault::new(INVALID_PARAMS, format!("`{key}` must be one of {}", LOG_LEVELS.join(", "))))?;
    Ok(level.to_owned().into())
}

/// The URI of a `resources/subscribe` or `resources/unsubscribe` request.
///
/// # Errors
/// When there is none.
pub(crate) fn uri<'a>(request: &Request<'a>) -> Result<Cow<'a, str>, RpcFault> {
    let uri = request.param("uri").and_then(text);
    uri.ok_or_else(|| RpcFault::new(INVALID_PARAMS, "`uri` must be a string"))
}

/// The params of a notification with the subscription that it belongs to.
pub(crate) fn tagged(params: Option<&RawValue>, subscription: &RawValue) -> String {
    let tag = format!(r#""{META_SUBSCRIPTION}":{}"#, subscription.get());
    let object = params.map_or("{}", RawValue::get);
    let Ok(members) = Members::of(object) else { return format!(r#"{{"_meta":{{{tag}}}}}"#) };
    let (at, inserted) = match members.value_at(object, "_meta") {
        Some(meta) => {
            let is_empty = Members::of(&object[meta.clone()]).is_ok_and(|meta| meta.0.is_empty());
            (meta.start + 1, if is_empty { tag } else { format!("{tag},") })
        }
        None => {
            let comma = if members.0.is_empty() { "" } else { "," };
            (object.find('{').map_or(0, |brace| brace + 1), format!(r#""_meta":{{{tag}}}{comma}"#))
        }
    };
    format!("{}{inserted}{}", &object[..at], &object[at..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::incoming::{Message, message};

    fn with_request<T>(params: &str, then: impl FnOnce(&Request<'_>) -> T) -> T {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"a","params":{params}}}"#);
        let Ok(Message::Request(request)) = message(&text) else { panic!("a request") };
        then(&request)
    }

    #[test]
    fn a_modern_request_must_say_revision_and_capabilities() {
        let code = |params: &str| {
            with_request(params, |request| modern_caller(request, Principal::local(), None).map_err(|fault| fault.code))
        };
        let whole = format!(r#"{{"_meta":{{"{META_REVISION}":"{MODERN}","{META_CAPABILITIES}":{{"roots":{{}}}}}}}}"#);
        assert_eq!(code(&whole).unwrap().capabilities.get(), r#"{"roots":{}}"#);
        assert_eq!(code(&format!(r#"{{"_meta":{{"{META_REVISION}":"{MODERN}"}}}}"#)).unwrap_err(), INVALID_PARAMS);
        assert_eq!(code(&format!(r#"{{"_meta":{{"{META_CAPABILITIES}":{{}}}}}}"#)).unwrap_err(), INVALID_PARAMS);
        assert_eq!(code(&whole.replace(MODERN, "1900-01-01")).unwrap_err(), UNSUPPORTED_REVISION);
        let leveled = |level: &str| {
            code(&whole.replacen("{\"_meta\":{", &format!(r#"{{"_meta":{{"{META_LOG_LEVEL}":{level},"#), 1))
        };
        assert_eq!(leveled(r#""warning""#).unwrap().log_level.unwrap().get(), r#""warning""#);
        for level in [r#""loud""#, "1", "null"] {
            assert_eq!(leveled(level).unwrap_err(), INVALID_PARAMS, "{level}");
        }
    }

    #[test]
    fn a_legacy_revision_that_is_not_known_becomes_the_latest() {
        let revision = |asked: &str| {
            with_request(&format!(r#"{{"protocolVersion":"{asked}","capabilities":{{}}}}"#), |request| {
                Hello::of(request).unwrap().revision
            })
        };
        assert_eq!(revision("2025-03-26"), "2025-03-26");
        assert_eq!((revision("1999-01-01"), revision(MODERN)), (LEGACY_LATEST, LEGACY_LATEST));
        assert!(with_request("{}", |request| Hello::of(request).is_err()));
    }

    #[test]
    fn a_legacy_client_is_told_of_no_modern_tasks() {
        let hello = Hello { revision: LEGACY_LATEST, capabilities: RawJson::empty_object(), client_info: None };
        let modern = format!(r#"{{"tools":{{}},"extensions":{{"{TASKS_EXTENSION}":{{}}}}}}"#);
        let discover = Discover { capabilities: RawJson::parse(modern).unwrap(), instructions: Some("a\"b".into()) };
        let told: Value = initialized(&hello, &discover).view().unwrap();
        assert_eq!(
            (&told["capabilities"], &told["instructions"]),
            (&serde_json::json!({ "tools": {} }), &"a\"b".into())
        );
    }

    #[test]
    fn a_notification_is_tagged_and_stays_as_it_was() {
        let id: &RawValue = serde_json::from_str(r#""s""#).unwrap();
        let tagged = |params: &str| {
            let params: &RawValue = serde_json::from_str(params).unwrap();
            tagged(Some(params), id).replace(META_SUBSCRIPTION, "S")
        };
        assert_eq!(tagged("{}"), r#"{"_meta":{"S":"s"}}"#);
        assert_eq!(tagged(r#"{ "uri":"a"}"#), r#"{"_meta":{"S":"s"}, "uri":"a"}"#);
        assert_eq!(tagged(r#"{"uri":"a","_meta":{}}"#), r#"{"uri":"a","_meta":{"S":"s"}}"#);
        assert_eq!(tagged(r#"{"_meta":{"x":1.0}}"#), r#"{"_meta":{"S":"s","x":1.0}}"#);
    }
}
