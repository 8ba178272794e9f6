//! Large results by pointer: kept in the result store under their job, told as a link with a preview and an outline, and read as a resource in
//! parts.
//!
//! ```text
//!  res://tenant/job/sha256                     all of it
//!  res://tenant/job/sha256?bytes=0-1023        these bytes, both ends counted
//!  res://tenant/job/sha256?lines=1-50          these lines, both ends counted
//!  res://tenant/job/sha256#/content/0/text     the value at this JSON pointer; a string is told as its text
//! ```
//! A range counts in what the JSON pointer names. The right to a result is the right to its job.

mod link;
mod outline;
mod part;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use metamcp_core::{
    engine::EngineError,
    json::RawJson,
    matching::Capability,
    pointer::ResultPointer,
    queue::{Job, JobState},
    result::ByteRange,
    transport::{ToolOutput, ToolReply},
};

pub(crate) use self::part::{Found, Part, Range, SCHEME};
use super::{
    Caller, Gateway, RpcFault, front,
    members::{Members, quoted},
    tool_result::shown,
};
use crate::wire::era::INVALID_PARAMS;

/// Largest part that is read in one piece, in bytes.
const READ_BYTES_MAX: usize = 8 << 20;
/// Longest wait until a large result is kept.
const KEPT_WAIT: std::time::Duration = std::time::Duration::from_secs(30);

/// Our entry in the list of resource templates.
pub(crate) fn template() -> RawJson {
    serde_json::json!({
        "uriTemplate": "res://{tenant}/{task}/{digest}{?bytes,lines}",
        "name": "result",
        "title": "Result of a call",
        "description": "A large result, or a part of it: ?bytes=0-1023 or ?lines=1-50 (both ends counted), and #/json/pointer for the value there. \
                        As an argument of another call, {\"$ref\": \"res://…\"} hands it over.",
        "mimeType": "application/json",
    })
    .into()
}

/// Whether a result of a direct call is told by pointer.
pub(crate) fn is_large(gateway: &Gateway, result: &RawJson) -> bool {
    is_over(gateway, result.get()) && !super::bridge::asks(result)
}

/// Keeps a large result of a direct call: the pointer that its client is told. What cannot be kept is told as it is.
pub(crate) async fn keep(
    gateway: &Gateway,
    caller: &Caller,
    capability: &Capability,
    arguments: RawJson,
    result: RawJson,
) -> RawJson {
    let id = &capability.id;
    let engine = gateway.engine();
    let adopted = match engine.adopt(&caller.principal, id, arguments).await {
        Ok(adopted) => adopted,
        Err(error) => {
            tracing::warn!(tool = %id, %error, "a large result is not kept and goes out whole");
            return result;
        }
    };
    let job = adopted.job().head.id;
    let is_error = Members::of(result.get()).is_ok_and(|m| m.get("isError").is_some_and(|e| e.get() == "true"));
    let output = ToolOutput::new(result.clone(), is_error);
    adopted.run(std::future::ready(Ok(ToolReply::Done(output))));
    match engine.wait(&caller.principal, job, KEPT_WAIT).await {
        Ok(Job { head, body }) if head.state == JobState::Done && head.result.is_some() => {
            let pointer = head.result.clone().expect("the arm above checks it");
            link::of(&Job { head, body }, &pointer, result.get(), Some(capability))
        }
        _ => result,
    }
}

fn is_over(gateway: &Gateway, result: &str) -> bool {
    let max = gateway.options().result_bytes_max;
    result.len() > max && link::weight(result) > max
}

/// A job's result, JSON text: as its server wrote it, or by pointer when it is large.
pub(crate) async fn told(
    gateway: &Gateway,
    caller: &Caller,
    job: &Job,
    pointer: &ResultPointer,
) -> Result<String, EngineError> {
    let body = gateway.engine().result(&caller.principal, pointer, None).await?;
    let text = String::from_utf8_lossy(&body.bytes).into_owned();
    if !is_over(gateway, &text) {
        return Ok(text);
    }
    let capability = job.body.route.candidates.get(usize::from(job.head.candidate)).map(|c| &c.capability);
    let known = capability.and_then(|id| gateway.engine().catalog_for(&caller.principal).get(id).cloned());
    Ok(link::of(job, pointer, &text, known.as_deref()).get().to_owned())
}

/// `resources/read` of a result.
pub(crate) async fn read(gateway: &Gateway, caller: &Caller, uri: &str) -> Result<RawJson, RpcFault> {
    let refused = |why: String| RpcFault::new(INVALID_PARAMS, format!("`{}`: {why}", shown(uri)));
    let (pointer, part) = part::parse(uri).map_err(refused)?;
    let found = fetch(gateway, caller, &pointer, &part).await.map_err(refused)?;
    let uri = quoted(uri);
    let media = quoted(found.media_type());
    let content = match &found {
        Found::Text { text, .. } => format!(r#""text":{}"#, quoted(text)),
        Found::Bytes(bytes) => format!(r#""blob":"{}""#, BASE64_STANDARD.encode(bytes)),
    };
    let text = front::result(&format!(
        r#""contents":[{{"uri":{uri},"mimeType":{media},{content}}}],"ttlMs":0,"cacheScope":"private""#
    ));
    Ok(RawJson::parse(text).expect("the parts are JSON"))
}

/// Reads a part of a result under the caller's rights; an error says what to change.
pub(crate) async fn fetch(
    gateway: &Gateway,
    caller: &Caller,
    pointer: &ResultPointer,
    part: &Part,
) -> Result<Found, String> {
    // Bytes of the whole are read as such: only they are fetched.
    let bytes = match (&part.range, part.pointer.is_empty()) {
        (Some(Range::Bytes { first, last }), true) => {
            let len = (last - first).saturating_add(1).min(READ_BYTES_MAX as u64);
            Some(ByteRange { start: *first, len })
        }
        _ => None,
    };
    let body = gateway.engine().result(&caller.principal, pointer, bytes).await.map_err(|error| match error {
        EngineError::NotFound { .. } => "there is no such result, or it is no longer kept".to_owned(),
        other => other.to_string(),
    })?;
    if bytes.is_some() {
        return Ok(match String::from_utf8(body.bytes.to_vec()) {
            Ok(text) => Found::Text { text, json: false },
            Err(error) => Found::Bytes(error.into_bytes()),
        });
    }
    let text = std::str::from_utf8(&body.bytes).map_err(|_| "the result is no text; read its bytes".to_owned())?;
    let found = part::cut(text, part)?;
    if let Found::Text { text, .. } = &found
        && text.len() > READ_BYTES_MAX
    {
        return Err(format!("{} bytes are too many for one answer; read ?lines=1-1000 or ?bytes=0-65535", text.len()));
    }
    Ok(found)
}
