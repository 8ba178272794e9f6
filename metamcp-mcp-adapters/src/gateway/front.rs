//! From an answer in the form of the modern era to what a client is told in its own: who answers, how it ended, and the codes of errors.
//!
//! All of it is done on the text: what is not named here comes out as it came in.

use std::{ops::Range, sync::OnceLock};

use bytes::Bytes;
use memchr::memmem::Finder;
use metamcp_core::json::RawJson;
use serde_json::value::RawValue;

use super::{
    Reply, Request, RpcFault,
    members::{Members, quoted},
};
use crate::wire::era::{CLIENT_INFO, Era, INVALID_PARAMS, META_SERVER_INFO};

/// Legacy: there is no such resource.
const RESOURCE_NOT_FOUND: i64 = -32002;
/// Results up to this size are copied into their frame, in bytes; larger ones are written from where they are.
const COPY_BYTES_MAX: usize = 16 << 10;
/// What stands before and behind the id of an answer.
const HEAD: (&str, &str) = (r#"{"jsonrpc":"2.0","id":"#, r#","result":"#);
/// How every finished result begins that is made here.
const COMPLETE: &str = r#""resultType":"complete""#;

/// A JSON-RPC message as it goes over a wire, in pieces that need not be copied together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Frame {
    pieces: Vec<Bytes>,
}

impl Frame {
    /// A frame of one piece.
    pub(crate) fn of(text: impl Into<Bytes>) -> Self {
        Self { pieces: vec![text.into()] }
    }

    /// These frames as one batch.
    pub(crate) fn batch(frames: impl IntoIterator<Item = Self>) -> Self {
        let mut pieces = Vec::new();
        for frame in frames {
            pieces.push(Bytes::from_static(if pieces.is_empty() { b"[" } else { b"," }));
            pieces.extend(frame.pieces);
        }
        pieces.push(Bytes::from_static(b"]"));
        Self { pieces }
    }

    /// Its pieces in their order.
    pub(crate) fn into_pieces(self) -> Vec<Bytes> {
        self.pieces
    }

    /// As one text.
    #[cfg(test)]
    pub(crate) fn into_bytes(self) -> Bytes {
        match <[Bytes; 1]>::try_from(self.pieces) {
            Ok([only]) => only,
            Err(pieces) => pieces.concat().into(),
        }
    }
}

/// The answer to a request.
pub(crate) fn answer(era: Era, request: &Request<'_>, reply: Reply) -> Frame {
    let id = request.id.get();
    match reply {
        Reply::Result(result) => finished(era, id, result),
        // Lists are kept in the form of each era.
        Reply::Kept(page) => {
            let head = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":"#);
            Frame { pieces: vec![head.into(), page, Bytes::from_static(b"}")] }
        }
        Reply::Fault(fault) => Frame::of(fault_text(id, &translated(era, request, fault))),
    }
}

/// An error as an answer; without an id where none could be read.
pub(crate) fn fault(id: Option<&RawValue>, fault: &RpcFault) -> Frame {
    Frame::of(fault_text(id.map_or("null", RawValue::get), fault))
}

/// A notification or a question.
pub(crate) fn message(id: Option<&str>, method: &str, params: Option<&RawValue>) -> String {
    let method = quoted(method);
    let id = id.map_or_else(String::new, |id| format!(r#""id":{},"#, quoted(id)));
    match params {
        Some(params) => format!(r#"{{"jsonrpc":"2.0",{id}"method":{method},"params":{}}}"#, params.get()),
        None => format!(r#"{{"jsonrpc":"2.0",{id}"method":{method}}}"#),
    }
}

/// A result that is written here: `members` without braces, such as `"tools":[]`.
pub(crate) fn result(members: &str) -> String {
    let comma = if members.is_empty() { "" } else { "," };
    format!(r#"{{{COMPLETE}{comma}{members}}}"#)
}

fn fault_text(id: &str, fault: &RpcFault) -> String {
    let message = quoted(&fault.message);
    let data = fault.data.as_ref().map_or_else(String::new, |data| format!(r#","data":{}"#, data.get()));
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{},"message":{message}{data}}}}}"#, fault.code)
}

/// The eras call a resource that is not there by different codes.
fn translated(era: Era, request: &Request<'_>, mut fault: RpcFault) -> RpcFault {
    if request.method == "resources/read" {
        match (era, fault.code) {
            (Era::Legacy, INVALID_PARAMS) if request.param("uri").is_some() => fault.code = RESOURCE_NOT_FOUND,
            (Era::Modern, RESOURCE_NOT_FOUND) => fault.code = INVALID_PARAMS,
            _ => {}
        }
    }
    fault
}

/// A result within another one, as a modern client is told it when it is the answer itself.
pub(crate) fn inlined(result: &str) -> String {
    let edits = edits(Era::Modern, result);
    let mut text = String::with_capacity(result.len() + grown(&edits));
    edit(&mut text, result, &edits);
    text
}

fn finished(era: Era, id: &str, result: RawJson) -> Frame {
    let edits = edits(era, result.get());
    let tail = "}";
    let is_copied = result.get().len() <= COPY_BYTES_MAX;
    let room = if is_copied { result.get().len() + grown(&edits) + tail.len() } else { 0 };
    let mut text = String::with_capacity(HEAD.0.len() + id.len() + HEAD.1.len() + room);
    text.extend([HEAD.0, id, HEAD.1]);
    if !is_copied {
        return in_pieces(text, result, edits);
    }
    edit(&mut text, result.get(), &edits);
    text.push_str(tail);
    Frame::of(text)
}

/// At most how much longer a text is with these edits, in bytes.
fn grown(edits: &[Edit]) -> usize {
    edits.iter().map(|edit| edit.text.len()).sum()
}

/// Adds a result to a text, edited.
fn edit(text: &mut String, result: &str, edits: &[Edit]) {
    let mut at = 0;
    for edit in edits {
        text.push_str(&result[at..edit.at.start]);
        text.push_str(&edit.text);
        at = edit.at.end;
    }
    text.push_str(&result[at..]);
}

fn in_pieces(head: String, result: RawJson, edits: Vec<Edit>) -> Frame {
    let result = Bytes::from_owner(Kept(result));
    let mut pieces = vec![Bytes::from(head)];
    let mut at = 0;
    for edit in edits {
        pieces.push(result.slice(at..edit.at.start));
        pieces.push(edit.text.into());
        at = edit.at.end;
    }
    pieces.push(result.slice(at..));
    pieces.push(Bytes::from_static(b"}"));
    pieces.retain(|piece| !piece.is_empty());
    Frame { pieces }
}

/// Lets the text of a result be written without a copy.
struct Kept(RawJson);

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        self.0.get().as_bytes()
    }
}

/// A part of a text and what takes its place.
#[derive(Debug, PartialEq, Eq)]
struct Edit {
    at: Range<usize>,
    text: String,
}

/// A word that texts are searched for, many bytes at a time, as results are long and mostly do not hold it. To begin such a search costs more
/// than to go through a short text: that is done once.
#[derive(Debug)]
pub(crate) struct Word {
    word: &'static str,
    finder: OnceLock<Finder<'static>>,
}

impl Word {
    pub(crate) const fn new(word: &'static str) -> Self {
        Self { word, finder: OnceLock::new() }
    }

    /// Whether a text holds it.
    pub(crate) fn is_in(&self, text: &str) -> bool {
        self.finder.get_or_init(|| Finder::new(self.word)).find(text.as_bytes()).is_some()
    }

    /// The word.
    pub(crate) const fn as_str(&self) -> &'static str {
        self.word
    }
}

/// What changes for a legacy client, and escapes, in which a name may be spelled.
static CHANGING: [Word; 3] = [Word::new("resultType"), Word::new("_meta"), Word::new("\\u")];

/// What must change in a result for a client of this era, in the order of the text.
fn edits(era: Era, text: &str) -> Vec<Edit> {
    // Most results have none of the members that change for a legacy client.
    if era == Era::Legacy && !CHANGING.iter().any(|word| word.is_in(text)) {
        return Vec::new();
    }
    // What is not an object is no result of MCP; there is nothing in it that could be changed.
    let Ok(members) = Members::of(text) else { return Vec::new() };
    let (mut edits, mut added) = (Vec::new(), Vec::new());
    match members.get("resultType") {
        Some(kind) if era == Era::Legacy && kind.get() == r#""complete""# => {
            let cut = members.member_at(text, "resultType");
            edits.extend(cut.map(|at| Edit { at, text: String::new() }));
        }
        None if era == Era::Modern => added.push(COMPLETE.to_owned()),
        _ => {}
    }
    match members.value_at(text, "_meta") {
        Some(meta) => edits.extend(server_info(era, text, meta)),
        None if era == Era::Modern => added.push(format!(r#""_meta":{{"{META_SERVER_INFO}":{CLIENT_INFO}}}"#)),
        None => {}
    }
    if !added.is_empty() {
        edits.push(inserted(text, 0, !members.0.is_empty(), added.join(",")));
    }
    edits.sort_by_key(|edit| edit.at.start);
    edits
}

/// Whoever was asked behind us stays behind us.
fn server_info(era: Era, text: &str, meta: Range<usize>) -> Option<Edit> {
    let (start, meta) = (meta.start, &text[meta]);
    let members = Members::of(meta).ok()?;
    match members.value_at(meta, META_SERVER_INFO) {
        Some(at) => Some(Edit { at: start + at.start..start + at.end, text: CLIENT_INFO.to_owned() }),
        None if era == Era::Modern => {
            let member = format!(r#""{META_SERVER_INFO}":{CLIENT_INFO}"#);
            Some(inserted(text, start, !members.0.is_empty(), member))
        }
        None => None,
    }
}

/// Behind the brace that opens the object at `object`.
fn inserted(text: &str, object: usize, followed: bool, mut member: String) -> Edit {
    let brace = text[object..].find('{').map_or(object, |brace| object + brace + 1);
    if followed {
        member.push(',');
    }
    Edit { at: brace..brace, text: member }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn request<'a>(method: &'a str, params: &'a str) -> Request<'a> {
        let Members(params) = Members::of(params).unwrap();
        Request { id: serde_json::from_str("7").unwrap(), method: method.into(), params, meta: Vec::new() }
    }

    fn told(era: Era, result: &str) -> String {
        let reply = Reply::Result(RawJson::parse(result).unwrap());
        let bytes = answer(era, &request("tools/call", "{}"), reply).into_bytes();
        let text = std::str::from_utf8(&bytes).unwrap();
        let result = text.strip_prefix(r#"{"jsonrpc":"2.0","id":7,"result":"#).unwrap().strip_suffix('}').unwrap();
        result.replace(CLIENT_INFO, "US")
    }

    #[test]
    fn a_modern_client_is_told_who_answers_and_how_it_ended() {
        let ours = r#""_meta":{"io.modelcontextprotocol/serverInfo":US}"#;
        assert_eq!(told(Era::Modern, "{}"), format!(r#"{{{COMPLETE},{ours}}}"#));
        assert_eq!(told(Era::Modern, r#"{ "a":1.0}"#), format!(r#"{{{COMPLETE},{ours}, "a":1.0}}"#));
        assert_eq!(
            told(Era::Modern, r#"{"a":1,"resultType":"input_required"}"#),
            format!(r#"{{{ours},"a":1,"resultType":"input_required"}}"#)
        );
        assert_eq!(
            told(Era::Modern, r#"{"_meta": {"x":1}, "resultType":"complete"}"#),
            r#"{"_meta": {"io.modelcontextprotocol/serverInfo":US,"x":1}, "resultType":"complete"}"#
        );
        assert_eq!(
            told(Era::Modern, r#"{"_meta":{},"b":2}"#),
            format!(r#"{{{COMPLETE},"_meta":{{"io.modelcontextprotocol/serverInfo":US}},"b":2}}"#)
        );
        let leaks = r#"{"b":2,"_meta":{"io.modelcontextprotocol\/serverInfo" : {"name":"secret"},"x":1}}"#;
        assert_eq!(
            told(Era::Modern, leaks),
            format!(r#"{{{COMPLETE},"b":2,"_meta":{{"io.modelcontextprotocol\/serverInfo" : US,"x":1}}}}"#)
        );
    }

    #[test]
    fn a_result_within_another_is_told_as_if_it_were_the_answer() {
        for result in ["{}", r#"{"content":[ ],"isError":false}"#, r#"{"resultType":"complete","x":1.0}"#] {
            assert_eq!(inlined(result).replace(CLIENT_INFO, "US"), told(Era::Modern, result));
        }
        assert_eq!(inlined("[]"), "[]");
    }

    #[test]
    fn a_legacy_client_is_told_nothing_it_does_not_know() {
        assert_eq!(told(Era::Legacy, r#"{"a":1.0, "b":2}"#), r#"{"a":1.0, "b":2}"#);
        assert_eq!(told(Era::Legacy, r#"{"resultType":"complete" , "a":1}"#), r#"{ "a":1}"#);
        assert_eq!(told(Era::Legacy, r#"{ "a":1 , "resultType" : "complete","b":2}"#), r#"{ "a":1,"b":2}"#);
        assert_eq!(told(Era::Legacy, r#"{ "resultType":"complete"}"#), "{}");
        assert_eq!(told(Era::Legacy, r#"{"resultType":"odd"}"#), r#"{"resultType":"odd"}"#);
        let leaks = r#"{"_meta":{"io.modelcontextprotocol/serverInfo":{}}}"#;
        assert_eq!(told(Era::Legacy, leaks), r#"{"_meta":{"io.modelcontextprotocol/serverInfo":US}}"#);
    }

    #[test]
    fn a_kept_page_goes_out_without_a_copy() {
        let page = Bytes::from_static(br#"{"tools":[]}"#);
        for era in [Era::Modern, Era::Legacy] {
            let frame = answer(era, &request("tools/list", "{}"), Reply::Kept(page.clone()));
            assert_eq!(frame.pieces[1].as_ptr(), page.as_ptr());
            let all: Value = serde_json::from_slice(&frame.into_bytes()).unwrap();
            assert_eq!((&all["id"], &all["result"]), (&json!(7), &json!({ "tools": [] })));
        }
    }

    #[test]
    fn a_resource_that_is_not_there_has_the_code_of_the_era() {
        let code = |era, method, params, code| {
            let frame = answer(era, &request(method, params), Reply::Fault(RpcFault::new(code, "no")));
            serde_json::from_slice::<Value>(&frame.into_bytes()).unwrap()["error"]["code"].as_i64().unwrap()
        };
        let uri = r#"{"uri":"a:b"}"#;
        assert_eq!(code(Era::Legacy, "resources/read", uri, INVALID_PARAMS), RESOURCE_NOT_FOUND);
        assert_eq!(code(Era::Legacy, "resources/read", "{}", INVALID_PARAMS), INVALID_PARAMS);
        assert_eq!(code(Era::Modern, "resources/read", uri, RESOURCE_NOT_FOUND), INVALID_PARAMS);
        assert_eq!(code(Era::Legacy, "tools/call", uri, INVALID_PARAMS), INVALID_PARAMS);
    }

    proptest! {
        #[test]
        fn only_what_is_named_changes_whatever_the_size(keys in proptest::collection::vec("[a-c_]{1,3}", 0..5), long: bool, at in 0_usize..5) {
            let mut object = serde_json::Map::new();
            for (n, key) in keys.iter().enumerate() {
                object.insert(key.clone(), json!(if long { "x".repeat(COPY_BYTES_MAX) } else { n.to_string() }));
            }
            let mut text = serde_json::to_string_pretty(&object).unwrap();
            if at < keys.len() {
                text = text.replacen(&format!("\"{}\":", keys[at]), "\"resultType\": \"complete\",\"k\":", 1);
            }
            let before: Value = serde_json::from_str(&text).unwrap();
            let legacy: Value = serde_json::from_str(&told(Era::Legacy, &text)).unwrap();
            let mut expected = before.clone();
            expected.as_object_mut().unwrap().remove("resultType");
            prop_assert_eq!(&legacy, &expected);
            let mut modern: Value = serde_json::from_str(&told(Era::Modern, &text).replace("US", "1")).unwrap();
            prop_assert_eq!(&modern["resultType"], "complete");
            modern.as_object_mut().unwrap().remove("resultType");
            prop_assert!(modern.as_object_mut().unwrap().remove("_meta").is_some());
            prop_assert_eq!(&modern, &expected);
        }
    }
}
