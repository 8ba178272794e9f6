//! What a client reads in the place of a large result: a link, the first of it, and its form.

use metamcp_core::{json::RawJson, matching::Capability, pointer::ResultPointer, queue::Job};
use serde_json::value::RawValue;

use super::outline;
use crate::gateway::{
    front,
    members::{Members, quoted},
};

/// How much of a result is shown, in bytes.
const PREVIEW_BYTES: usize = 1_024;
/// What is told of a result beside its link, in `_meta`.
const RESULT_META: &str = "io.github.metamcp/result";

/// The result of `job` by its pointer. A tool with a schema for its results owes structured content: that goes out whole.
pub(super) fn of(job: &Job, pointer: &ResultPointer, text: &str, capability: Option<&Capability>) -> RawJson {
    let members = Members::of(text).unwrap_or_else(|_| Members(Vec::new()));
    let is_error = members.get("isError").is_some_and(|said| said.get() == "true");
    let schema = capability.and_then(|c| c.output_schema.as_ref());
    let tool = job.body.route.candidates.get(usize::from(job.head.candidate)).map(|c| c.capability.to_string());
    let tool = tool.unwrap_or_default();
    let (bytes, uri) = (text.len(), quoted(&pointer.to_string()));
    let form = schema.map_or_else(|| outline::of(text), |schema| schema.get().to_owned());
    let words = format!(
        "The result has {bytes} bytes and is kept as {pointer} (task {id}). Read a part of it as a resource, or with the tool `task_result` \
         (by `call_tool`, where it is not listed): lines, bytes, or a JSON pointer. To hand it to another tool, pass {{\"$ref\": \"{pointer}#/content/0/text\"}} as the argument. It \
         begins so:\n{preview}",
        id = job.head.id,
        preview = preview(text, &members),
    );
    let link = format!(
        r#"{{"type":"resource_link","uri":{uri},"name":{},"title":{},"mimeType":"application/json","size":{bytes}}}"#,
        quoted(&format!("result-{}", job.head.id)),
        quoted(&format!("Result of {tool}")),
    );
    let media: String = media(&members).iter().map(|block| format!(",{}", block.get())).collect();
    let mut told =
        format!(r#""content":[{link},{{"type":"text","text":{}}}{media}],"isError":{is_error}"#, quoted(&words));
    if let (Some(structured), Some(_)) = (members.get("structuredContent"), schema) {
        told.push_str(r#","structuredContent":"#);
        told.push_str(structured.get());
    }
    let about = format!(r#"{{"uri":{uri},"bytes":{bytes},"task":"{}","schema":{form}}}"#, job.head.id);
    // What the server says beside its result stays.
    let theirs = members.get("_meta").and_then(|meta| meta.get().trim().strip_prefix('{')?.strip_suffix('}'));
    let comma = if theirs.is_some_and(|theirs| !theirs.trim().is_empty()) { "," } else { "" };
    told.push_str(&format!(r#","_meta":{{"{RESULT_META}":{about}{comma}{}}}"#, theirs.unwrap_or_default()));
    RawJson::parse(front::result(&told)).expect("the parts are JSON")
}

/// How much of a result is not pictures or sound, in bytes: a model takes those in as what they are, and a link would hide them.
pub(super) fn weight(text: &str) -> usize {
    let members = Members::of(text).unwrap_or_else(|_| Members(Vec::new()));
    text.len() - media(&members).iter().map(|block| block.get().len()).sum::<usize>()
}

fn media<'a>(members: &Members<'a>) -> Vec<&'a RawValue> {
    let is_media = |block: &&RawValue| {
        let kind = Members::of(block.get()).ok().and_then(|block| block.text("type").map(String::from));
        matches!(kind.as_deref(), Some("image" | "audio"))
    };
    blocks(members).into_iter().filter(is_media).collect()
}

fn blocks<'a>(members: &Members<'a>) -> Vec<&'a RawValue> {
    members.get("content").and_then(|content| serde_json::from_str(content.get()).ok()).unwrap_or_default()
}

/// The first text of the result, or else its first bytes.
fn preview(text: &str, members: &Members<'_>) -> String {
    let blocks = blocks(members);
    let mut texts = blocks.iter().filter_map(|block| Some(Members::of(block.get()).ok()?.text("text")?.into_owned()));
    let first = texts.next().unwrap_or_else(|| text.to_owned());
    let end = first.floor_char_boundary(PREVIEW_BYTES);
    if end < first.len() { format!("{}…", &first[..end]) } else { first }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_weigh_nothing() {
        let picture = r#"{"type":"image","data":"AAAA","mimeType":"image/png"}"#;
        let with = format!(r#"{{"content":[{{"type":"text","text":"a"}},{picture}]}}"#);
        let without = r#"{"content":[{"type":"text","text":"a"},]}"#;
        assert_eq!(weight(&with), without.len());
        assert_eq!(weight("no object"), 9);
    }

    #[test]
    fn the_first_text_is_shown_up_to_its_bound() {
        let shown = |text: &str| preview(text, &Members::of(text).unwrap());
        assert_eq!(shown(r#"{"content":[{"type":"x"},{"type":"text","text":"é"}]}"#), "é");
        assert_eq!(shown(r#"{"n":1}"#), r#"{"n":1}"#);
        let long = format!(r#"{{"content":[{{"type":"text","text":"{}"}}]}}"#, "é".repeat(1_000));
        assert_eq!(shown(&long).chars().count(), PREVIEW_BYTES / 2 + 1);
    }
}
