//! The headers of a request: what it accepts, and those that repeat what its body says, so that what others route by is what is done.

use std::borrow::Cow;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderValue, header};
use serde_json::value::RawValue;

use crate::{
    gateway::{Request, RpcFault, lifecycle::text},
    wire::{
        era::HEADER_MISMATCH,
        header::{METHOD, NAME, PROTOCOL_VERSION, ParamHeader},
    },
};

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";
/// What the protocol tells clients to accept, as most of them spell it.
const BOTH: &str = "application/json, text/event-stream";

/// What a client takes as an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Accepts {
    pub(super) json: bool,
    pub(super) events: bool,
}

impl Accepts {
    /// By the `Accept` headers; without one everything is taken.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        if headers.get(header::ACCEPT).is_some_and(|accept| accept == BOTH) {
            return Self { json: true, events: true };
        }
        let mut accepts = Self { json: false, events: false };
        let mut none = true;
        for value in headers.get_all(header::ACCEPT) {
            none = false;
            for range in value.to_str().unwrap_or_default().split(',') {
                let mut parts = range.split(';').map(str::trim);
                let kind = parts.next().unwrap_or_default();
                if parts.any(is_refusal) {
                    continue;
                }
                let is = |wanted: &str, of: &str| {
                    kind.eq_ignore_ascii_case(wanted) || kind.eq_ignore_ascii_case(of) || kind == "*/*"
                };
                accepts.json |= is(JSON, "application/*");
                accepts.events |= is(EVENTS, "text/*");
            }
        }
        if none { Self { json: true, events: true } } else { accepts }
    }
}

/// A weight of zero.
fn is_refusal(parameter: &str) -> bool {
    let Some(weight) = parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q=")) else { return false };
    weight.parse::<f32>().is_ok_and(|weight| weight == 0.0)
}

/// Whether the body says that it is JSON.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else { return false };
    let is = |kind: &str| kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(JSON));
    kind == JSON || kind.to_str().is_ok_and(is)
}

/// The revision that the headers name.
pub(super) fn revision(headers: &HeaderMap) -> Option<&str> {
    headers.get(PROTOCOL_VERSION).map(|revision| revision.to_str().unwrap_or_default().trim())
}

/// Checks the headers that every modern request has against its body.
pub(super) fn check(headers: &HeaderMap, request: &Request<'_>, revision: Option<&str>) -> Result<(), RpcFault> {
    if let Some(revision) = revision {
        same(headers, &PROTOCOL_VERSION, revision, false)?;
    }
    same(headers, &METHOD, &request.method, false)?;
    let named = match &*request.method {
        "tools/call" | "prompts/get" => "name",
        "resources/read" => "uri",
        "tasks/get" | "tasks/update" | "tasks/cancel" => "taskId",
        _ => return Ok(()),
    };
    match request.param(named).and_then(text) {
        Some(name) => same(headers, &NAME, &name, true),
        // That it is missing is told by whoever needs it.
        None => Ok(()),
    }
}

/// Checks the headers that repeat arguments of a tool.
pub(super) fn check_params(
    headers: &HeaderMap,
    params: &[ParamHeader],
    arguments: Option<&RawValue>,
) -> Result<(), RpcFault> {
    for param in params {
        let value = arguments.and_then(|arguments| param.repeated(arguments));
        match (value, headers.contains_key(param.header())) {
            (Some(value), _) => same(headers, param.header(), &value, true)?,
            (None, false) => {}
            (None, true) => {
                let header = param.header();
                return Err(mismatch(format!(
                    "`{header}` is there and the argument it repeats is not; send both or none"
                )));
            }
        }
    }
    Ok(())
}

fn same(headers: &HeaderMap, name: &header::HeaderName, body: &str, wrapped: bool) -> Result<(), RpcFault> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Err(mismatch(format!("`{name}` is missing; it must say `{}` as the body does", shown(body))));
    };
    if values.next().is_some() {
        return Err(mismatch(format!("`{name}` is there twice; send it once")));
    }
    let Some(said) = decoded(value, wrapped) else {
        return Err(mismatch(format!("`{name}` is neither visible ASCII nor =?base64?…?= of UTF-8")));
    };
    if said == body || is_same_number(&said, body) {
        return Ok(());
    }
    Err(mismatch(format!("`{name}` says `{}` and the body `{}`; they must say the same", shown(&said), shown(body))))
}

fn mismatch(message: String) -> RpcFault {
    RpcFault::new(HEADER_MISMATCH, message)
}

/// `42.0` and `42` are one number, in headers that repeat an argument.
fn is_same_number(said: &str, body: &str) -> bool {
    let number = |text: &str| {
        let digits = text.strip_prefix('-').unwrap_or(text);
        digits.starts_with(|c: char| c.is_ascii_digit()).then(|| text.parse::<f64>().ok()).flatten()
    };
    let has_fraction = |text: &str| text.contains(['.', 'e', 'E']);
    (has_fraction(said) || has_fraction(body)) && number(said).is_some() && number(said) == number(body)
}

/// What a header says: as it is, or unwrapped from `=?base64?…?=`.
fn decoded(value: &HeaderValue, wrapped: bool) -> Option<Cow<'_, str>> {
    let text = value.to_str().ok()?.trim_matches([' ', '\t']);
    let inner = text.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?="));
    match inner.filter(|_| wrapped) {
        Some(inner) => String::from_utf8(BASE64_STANDARD.decode(inner).ok()?).ok().map(Cow::Owned),
        None => Some(Cow::Borrowed(text)),
    }
}

/// The beginning of what somebody sent, for a message.
fn shown(text: &str) -> &str {
    const SHOWN_BYTES_MAX: usize = 128;
    &text[..text.floor_char_boundary(SHOWN_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        gateway::incoming::{Message, message},
        wire::{era::MODERN, header},
    };

    fn accepts(value: &str) -> (bool, bool) {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::ACCEPT, value.parse().unwrap());
        let accepts = Accepts::of(&headers);
        (accepts.json, accepts.events)
    }

    #[test]
    fn a_client_says_what_it_takes() {
        assert_eq!(accepts("application/json, text/event-stream"), (true, true));
        assert_eq!(accepts("Application/JSON;q=0.5"), (true, false));
        assert_eq!(accepts("text/*, application/json;q=0"), (false, true));
        assert_eq!((accepts("*/*"), accepts("text/html")), ((true, true), (false, false)));
        assert_eq!(Accepts::of(&HeaderMap::new()), Accepts { json: true, events: true });
    }

    fn checked(text: &str, headers: &[(&http::HeaderName, &str)]) -> Result<(), RpcFault> {
        let Ok(Message::Request(request)) = message(text) else { panic!("a request") };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        check(&map, &request, Some(MODERN))
    }

    #[test]
    fn headers_must_say_what_the_body_says() {
        let text = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"é"}}"#;
        let (version, method, name) = (&PROTOCOL_VERSION, &METHOD, &NAME);
        let right = [(version, MODERN), (method, "tools/call"), (name, " =?base64?w6k=?= ")];
        checked(text, &right).unwrap();
        let wrong = [
            vec![right[0], right[1]],
            vec![right[0], right[2]],
            vec![right[1], right[2]],
            vec![right[0], right[1], right[2], right[2]],
            vec![(version, "2025-11-25"), right[1], right[2]],
            vec![right[0], (method, "TOOLS/CALL"), right[2]],
            vec![right[0], right[1], (name, "e")],
            vec![right[0], right[1], (name, "=?base64?w6k?=")],
            vec![right[0], right[1], (name, "=?base64?w6!=?=")],
        ];
        for headers in wrong {
            assert_eq!(checked(text, &headers).unwrap_err().code, HEADER_MISMATCH, "{headers:?}");
        }
        let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
        checked(list, &[(version, MODERN), (method, "tools/list")]).unwrap();
    }

    #[test]
    fn headers_repeat_the_arguments_that_are_marked() {
        let schema = serde_json::json!({ "properties": {
            "region": { "type": "string", "x-mcp-header": "Region" },
            "n": { "type": "integer", "x-mcp-header": "N" },
        } });
        let params = header::of_schema(&schema.into()).unwrap();
        let checked = |arguments: &str, headers: &[(&'static str, &str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, value.parse().unwrap());
            }
            let arguments: &RawValue = serde_json::from_str(arguments).unwrap();
            check_params(&map, &params, Some(arguments)).is_ok()
        };
        assert!(checked(
            r#"{"region":"é","n":42}"#,
            &[("mcp-param-region", "=?base64?w6k=?="), ("mcp-param-n", "42.0")]
        ));
        assert!(checked(r#"{"region":null}"#, &[]) && checked("{}", &[]));
        assert!(checked(r#"{"region":"=?base64?x"}"#, &[("mcp-param-region", "=?base64?x")]));
        assert!(!checked(r#"{"region":"a"}"#, &[]));
        assert!(!checked(r#"{"region":"a"}"#, &[("mcp-param-region", "b")]));
        assert!(!checked("{}", &[("mcp-param-region", "b")]));
        assert!(!checked(r#"{"n":42}"#, &[("mcp-param-n", "43")]));
    }
}
