//! JSON-RPC 2.0 frames: only the envelope is read, everything inside stays the text it came as.
//!
//! Unknown fields, key order, content types and number spelling survive because nothing here builds a value out of them.

use std::borrow::Cow;

use metamcp_core::json::RawJson;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{era::METHOD_NOT_FOUND, object::ObjectText};

/// One message of the far side.
#[derive(Debug)]
pub(crate) enum Frame<'a> {
    /// The answer to a request of ours; an error may come without an id.
    Response {
        /// Which request.
        id: Option<&'a RawValue>,
        /// What the answer is.
        outcome: Outcome,
    },
    /// A request of the far side.
    Request {
        /// To be given back with the answer.
        id: &'a RawValue,
        /// What it wants.
        method: Cow<'a, str>,
        /// The particulars.
        params: Option<&'a RawValue>,
    },
    /// A message without an answer.
    Notification {
        /// What happened.
        method: Cow<'a, str>,
        /// The particulars.
        params: Option<&'a RawValue>,
    },
}

/// What a response says.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// A result, as it was written.
    Result(RawJson),
    /// An error.
    Error(RpcError),
    /// Neither, both, or not of the form that is required: says what is wrong.
    Malformed(&'static str),
}

/// A JSON-RPC error object.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RpcError {
    /// The kind of error.
    pub(crate) code: i64,
    /// In the server's words.
    pub(crate) message: String,
    /// Particulars.
    pub(crate) data: Option<RawJson>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ErrorObject {
    code: i64,
    #[serde(default)]
    message: String,
    #[serde(default)]
    data: Option<RawJson>,
}

/// Reads a message, or a batch of them (revision 2025-03-26 allows batches), and hands over each frame.
pub(crate) fn each<'a>(text: &'a str, mut take: impl FnMut(Frame<'a>)) -> Result<(), serde_json::Error> {
    if text.trim_start().starts_with('[') {
        let batch: Vec<Envelope<'a>> = serde_json::from_str(text)?;
        for envelope in batch {
            take(envelope.frame()?);
        }
        return Ok(());
    }
    take(serde_json::from_str::<Envelope<'a>>(text)?.frame()?);
    Ok(())
}

impl<'a> Envelope<'a> {
    fn frame(self) -> Result<Frame<'a>, serde_json::Error> {
        match (self.method, self.id) {
            (Some(method), Some(id)) => Ok(Frame::Request { id, method, params: self.params }),
            (Some(method), None) => Ok(Frame::Notification { method, params: self.params }),
            (None, id) if id.is_some() || self.error.is_some() => {
                let outcome = match (self.result, self.error) {
                    (Some(result), None) => Outcome::Result(result.to_owned().into()),
                    (None, Some(error)) => rpc_error(error),
                    (Some(_), Some(_)) => Outcome::Malformed("both `result` and `error`"),
                    (None, None) => Outcome::Malformed("neither `result` nor `error`"),
                };
                Ok(Frame::Response { id, outcome })
            }
            (None, _) => Err(serde::de::Error::custom("neither `method` nor `id`")),
        }
    }
}

fn rpc_error(raw: &RawValue) -> Outcome {
    match serde_json::from_str::<ErrorObject>(raw.get()) {
        Ok(ErrorObject { code, message, data }) => Outcome::Error(RpcError { code, message, data }),
        Err(_) => Outcome::Malformed("an `error` without a numeric `code`"),
    }
}

/// The bytes of a request around its parameters, in round figures.
const ENVELOPE_BYTES: usize = 128;

/// The text of a request with the parameters that `fill` writes, which have `room` bytes or so.
pub(crate) fn request(id: u64, method: &str, room: usize, fill: impl FnOnce(&mut ObjectText)) -> String {
    let mut text = ObjectText::with_capacity(ENVELOPE_BYTES + room);
    text.string("jsonrpc", "2.0").number("id", id).string("method", method).object("params", fill);
    text.finish()
}

/// The text of a notification.
pub(crate) fn notification(method: &str, params: Option<&RawValue>) -> String {
    let mut text = ObjectText::with_capacity(ENVELOPE_BYTES + params.map_or(0, |params| params.get().len()));
    text.string("jsonrpc", "2.0").string("method", method);
    if let Some(params) = params {
        text.value("params", params);
    }
    text.finish()
}

/// That a request is no longer wanted.
pub(crate) fn cancelled(id: u64) -> String {
    let mut text = ObjectText::with_capacity(ENVELOPE_BYTES);
    text.string("jsonrpc", "2.0").string("method", "notifications/cancelled").object("params", |params| {
        params.number("requestId", id).string("reason", "the answer is no longer wanted");
    });
    text.finish()
}

/// The answer to a request of the far side.
pub(crate) fn result(id: &RawValue, result: &RawValue) -> String {
    let mut text = ObjectText::with_capacity(ENVELOPE_BYTES + result.get().len());
    text.string("jsonrpc", "2.0").value("id", id).value("result", result);
    text.finish()
}

/// The refusal of a request of the far side.
pub(crate) fn error(id: &RawValue, code: i64, message: &str) -> String {
    let mut text = ObjectText::with_capacity(ENVELOPE_BYTES + message.len());
    text.string("jsonrpc", "2.0").value("id", id).object("error", |error| {
        error.raw("code", &code.to_string()).string("message", message);
    });
    text.finish()
}

/// The answer to a request of the far side that is put before nobody: a `ping` is answered, everything else is not known here.
pub(crate) fn answer(id: &RawValue, method: &str) -> String {
    if method == "ping" {
        return result(id, RawJson::empty_object().raw());
    }
    let method = &method[..method.floor_char_boundary(64)];
    error(id, METHOD_NOT_FOUND, &format!("this client does not answer `{method}`"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(text: &str) -> Result<Outcome, serde_json::Error> {
        let mut found = None;
        each(text, |frame| {
            if let Frame::Response { outcome, .. } = frame {
                found = Some(outcome);
            }
        })?;
        Ok(found.expect("a response"))
    }

    #[test]
    fn a_result_stays_the_text_it_was() {
        let result =
            r#"{"z":1.0, "a":1e400,"n":12345678901234567890123,"content":[{"type":"holo","é":"\u00e9"}],"z2":{}}"#;
        let frame = format!(r#"{{"jsonrpc":"2.0","extra":[1],"id":7,"result":{result}}}"#);
        let Ok(Outcome::Result(raw)) = one(&frame) else { panic!("a result") };
        assert_eq!(raw.get(), result);
    }

    #[test]
    fn what_is_neither_result_nor_error_is_malformed() {
        assert!(matches!(one(r#"{"id":1}"#), Ok(Outcome::Malformed(_))));
        assert!(matches!(one(r#"{"id":1,"result":{},"error":{"code":1}}"#), Ok(Outcome::Malformed(_))));
        assert!(matches!(one(r#"{"id":1,"error":"no"}"#), Ok(Outcome::Malformed(_))));
        assert!(one("{}").is_err() && one("[").is_err() && one("hello").is_err());
    }

    #[test]
    fn a_batch_is_read_frame_by_frame() {
        let mut methods = Vec::new();
        let text = r#" [{"method":"a"},{"id":"x","method":"b"},{"id":1,"result":null,"error":{"code":-1}}]"#;
        each(text, |frame| match frame {
            Frame::Notification { method, .. } | Frame::Request { method, .. } => methods.push(method.into_owned()),
            Frame::Response { outcome: Outcome::Error(error), .. } => methods.push(error.code.to_string()),
            Frame::Response { .. } => {}
        })
        .unwrap();
        assert_eq!(methods, ["a", "b", "-1"]);
    }

    #[test]
    fn only_a_ping_is_answered_with_a_result() {
        let id = RawValue::from_string("\"p-1\"".to_owned()).unwrap();
        assert_eq!(answer(&id, "ping"), r#"{"jsonrpc":"2.0","id":"p-1","result":{}}"#);
        assert!(answer(&id, "roots/\"list\"").contains("-32601"));
        assert!(serde_json::from_str::<serde_json::Value>(&answer(&id, "roots/\"list\"")).is_ok());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in ".{0,200}", json in "[\\[\\]{}\",:a-z0-9 ]{0,60}") {
            let _ = each(&text, drop);
            let _ = each(&json, drop);
        }
    }
}
