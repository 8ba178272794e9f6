//! What a client sends: one message, or a batch of them. The envelope and the members of `params` are parted; what they hold stays text.

use std::{borrow::Cow, fmt};

use metamcp_core::json::RawJson;
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{
    Request, RpcFault,
    members::{Key, Members},
};

/// JSON-RPC: what came is not JSON.
pub(crate) const PARSE_ERROR: i64 = -32700;
/// JSON-RPC: what came is not a message.
pub(crate) const INVALID_REQUEST: i64 = -32600;
/// Most messages in a batch.
const BATCH_MAX: usize = 64;

/// What came in one piece.
#[derive(Debug)]
pub(crate) enum Incoming<'a> {
    /// One message.
    One(Message<'a>),
    /// A batch (revision 2025-03-26); each text is to be read as a [`message`].
    Batch(Vec<&'a RawValue>),
}

/// One message of a client.
#[derive(Debug)]
pub(crate) enum Message<'a> {
    /// Wants an answer.
    Request(Request<'a>),
    /// Wants none.
    Notification(Notification<'a>),
    /// Answers a question of ours.
    Response {
        /// Which question.
        id: &'a RawValue,
        /// What is answered.
        outcome: Result<RawJson, RpcFault>,
    },
}

/// A message that wants no answer.
#[derive(Debug)]
pub(crate) struct Notification<'a> {
    /// What happened.
    pub(crate) method: Cow<'a, str>,
    params: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Notification<'a> {
    /// A member of `params`.
    pub(crate) fn param(&self, key: &str) -> Option<&'a RawValue> {
        self.params.iter().find(|(name, _)| name == key).map(|(_, value)| *value)
    }
}

/// Why a text is no message.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The id of the request that it may have been.
    pub(crate) id: Option<RawJson>,
    /// What is wrong with it.
    pub(crate) fault: RpcFault,
}

impl Refusal {
    fn invalid(text: &str, why: impl fmt::Display) -> Self {
        let id = serde_json::from_str::<OnlyId<'_>>(text).ok().and_then(|only| only.id);
        let id = id.filter(|id| is_id(id)).map(|id| id.to_owned().into());
        Self { id, fault: RpcFault::new(INVALID_REQUEST, format!("not a message of MCP: {why}")) }
    }
}

/// Reads a whole body.
///
/// # Errors
/// When it is not JSON, or neither a message nor a batch of them.
pub(crate) fn read(text: &str) -> Result<Incoming<'_>, Refusal> {
    if !text.trim_start().starts_with('[') {
        return message(text).map(Incoming::One);
    }
    let batch: Vec<&RawValue> = serde_json::from_str(text).map_err(|error| wrong(text, &error))?;
    if batch.is_empty() || batch.len() > BATCH_MAX {
        return Err(Refusal::invalid(
            "",
            format_args!("a batch has 1 to {BATCH_MAX} messages, this one {}", batch.len()),
        ));
    }
    Ok(Incoming::Batch(batch))
}

/// Reads one message.
///
/// # Errors
/// When it is not JSON, or not a message.
pub(crate) fn message(text: &str) -> Result<Message<'_>, Refusal> {
    let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|error| wrong(text, &error))?;
    if envelope.jsonrpc.is_none_or(|version| version.0 != "2.0") {
        return Err(Refusal::invalid(text, "`jsonrpc` is not \"2.0\""));
    }
    match (envelope.method, envelope.id) {
        (Some(Key(method)), Some(id)) if is_id(id) => {
            let Params { members: params, meta } = envelope.params.unwrap_or_default();
            Ok(Message::Request(Request { id, method, params, meta }))
        }
        (Some(Key(method)), None) => {
            let params = envelope.params.unwrap_or_default().members;
            Ok(Message::Notification(Notification { method, params }))
        }
        (None, Some(id)) if is_id(id) => match (envelope.result, envelope.error) {
            (Some(result), None) => Ok(Message::Response { id, outcome: Ok(result.to_owned().into()) }),
            (None, Some(error)) => {
                let error: ErrorObject = serde_json::from_str(error.get())
                    .map_err(|error| Refusal::invalid(text, format_args!("`error`: {error}")))?;
                let fault = RpcFault { code: error.code, message: error.message, data: error.data };
                Ok(Message::Response { id, outcome: Err(fault) })
            }
            _ => Err(Refusal::invalid(text, "a response has either `result` or `error`")),
        },
        (_, Some(_)) => Err(Refusal::invalid(text, "`id` is neither a string nor an integer")),
        (None, None) => Err(Refusal::invalid(text, "neither `method` nor `id`")),
    }
}

fn wrong(text: &str, error: &serde_json::Error) -> Refusal {
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Refusal::invalid(text, error),
        Err(error) => Refusal { id: None, fault: RpcFault::new(PARSE_ERROR, format!("not JSON: {error}")) },
    }
}

/// A string or an integer.
fn is_id(id: &RawValue) -> bool {
    let text = id.get().as_bytes();
    match text.first() {
        Some(b'"') => true,
        Some(b'-' | b'0'..=b'9') => text[1..].iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    jsonrpc: Option<Key<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<Key<'a>>,
    #[serde(borrow, default)]
    params: Option<Params<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

/// `null` is something that is there.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
struct OnlyId<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ErrorObject {
    code: i64,
    #[serde(default)]
    message: String,
    #[serde(default)]
    data: Option<RawJson>,
}

#[derive(Default)]
struct Params<'a> {
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
    meta: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Params<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Members(mut members) = Members::deserialize(deserializer)?;
        let meta = match members.iter().position(|(key, _)| key == "_meta") {
            // What is not an object has no members, and the checks for those that must be there refuse it.
            Some(at) => {
                serde_json::from_str(members.remove(at).1.get()).map_or_else(|_| Vec::new(), |Members(meta)| meta)
            }
            None => Vec::new(),
        };
        Ok(Self { members, meta })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> i64 {
        read(text).unwrap_err().fault.code
    }

    #[test]
    fn the_members_of_a_request_are_parted_and_stay_text() {
        let text = r#" {"params":{"name":"a\u00e9","_meta":{"k":1.0},"arguments":{"n":1e400, "x":[ ]}},"id":"\u0031","method":"tools/call","jsonrpc":"2.0","new":1}"#;
        let Ok(Incoming::One(Message::Request(request))) = read(text) else { panic!("a request") };
        assert_eq!((request.id.get(), &*request.method), (r#""\u0031""#, "tools/call"));
        assert_eq!(request.param("arguments").map(RawValue::get), Some(r#"{"n":1e400, "x":[ ]}"#));
        assert_eq!(request.param("name").map(RawValue::get), Some(r#""a\u00e9""#));
        assert_eq!((request.meta("k").map(RawValue::get), request.param("_meta").is_none()), (Some("1.0"), true));
    }

    #[test]
    fn the_kinds_of_messages_are_told_apart() {
        let is = |text: &str| match message(text) {
            Ok(Message::Request(_)) => "request",
            Ok(Message::Notification(_)) => "notification",
            Ok(Message::Response { outcome: Ok(_), .. }) => "result",
            Ok(Message::Response { outcome: Err(_), .. }) => "error",
            Err(_) => "refused",
        };
        assert_eq!(is(r#"{"jsonrpc":"2.0","id":-1,"method":"a"}"#), "request");
        assert_eq!(is(r#"{"jsonrpc":"2.0","method":"a","params":{"b":1}}"#), "notification");
        assert_eq!(is(r#"{"jsonrpc":"2.0","id":1,"result":null}"#), "result");
        assert_eq!(is(r#"{"jsonrpc":"2.0","id":"a","error":{"code":1}}"#), "error");
        for refused in [
            r#"{"jsonrpc":"2.0","id":null,"method":"a"}"#,
            r#"{"jsonrpc":"2.0","id":1.5,"method":"a"}"#,
            r#"{"jsonrpc":"2.0","id":{},"method":"a"}"#,
            r#"{"jsonrpc":"1.0","id":1,"method":"a"}"#,
            r#"{"id":1,"method":"a"}"#,
            r#"{"jsonrpc":"2.0","id":1}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"a","params":[1]}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"a":1,"\u0061":2}}"#,
            r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"a"}"#,
            "7",
        ] {
            assert_eq!(is(refused), "refused", "{refused}");
        }
    }

    #[test]
    fn what_is_no_json_and_what_is_no_message_have_their_codes() {
        assert_eq!([code("{"), code(""), code("[1"), code("\u{feff}{}")], [PARSE_ERROR; 4]);
        assert_eq!([code("{}"), code("[]"), code(r#"{"jsonrpc":"2.0"}"#), code("null")], [INVALID_REQUEST; 4]);
        let refusal = read(r#"{"jsonrpc":"2.0","id":7,"method":"a","params":3}"#).unwrap_err();
        assert_eq!((refusal.fault.code, refusal.id.unwrap().get()), (INVALID_REQUEST, "7"));
    }

    #[test]
    fn a_batch_is_bounded() {
        let batch = |n: usize| format!("[{}]", vec!["1"; n].join(","));
        assert!(matches!(read(&batch(BATCH_MAX)), Ok(Incoming::Batch(all)) if all.len() == BATCH_MAX));
        assert_eq!(code(&batch(BATCH_MAX + 1)), INVALID_REQUEST);
    }

    #[test]
    fn a_meta_that_is_no_object_has_no_members() {
        let Ok(Message::Request(request)) = message(r#"{"jsonrpc":"2.0","id":1,"method":"a","params":{"_meta":3}}"#)
        else {
            panic!("a request")
        };
        assert!(request.meta.is_empty() && request.params.is_empty());
    }
}
