//! References in a task's input: an argument that is another task's result, or a part of it, handed over without passing through the caller.
//!
//! Wherever a value may stand in the input, `{"$ref": "task://<task id>"}` stands for the result document of that task, and
//! `{"$ref": "task://<task id>#/content/0/text"}` for the value at that JSON pointer in it. `res://…`, a result pointer, names a result that
//! is there already. The task is served when all tasks that its input names are done. An object with any other `$ref`, or with more than
//! that one member, is an argument like any other and passes unharmed.

use std::{collections::BTreeSet, fmt, ops::Range};

use serde::de::{Deserializer as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::InvalidTask;
use crate::{id::JobId, json::RawJson, pointer::ResultPointer};

/// Most references in one input.
pub const REFERENCES_MAX: usize = 32;
/// Deepest nesting in which a reference is looked for.
const DEPTH_MAX: usize = 64;

const TASK: &str = "task://";
const RESULT: &str = "res://";

/// What a reference names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Referred {
    /// The result of this job, once it is done.
    Task(JobId),
    /// This result.
    Result(ResultPointer),
}

impl Referred {
    /// The job whose result it is.
    #[must_use]
    pub const fn job(&self) -> JobId {
        match self {
            Self::Task(job) => *job,
            Self::Result(pointer) => pointer.job,
        }
    }
}

impl fmt::Display for Referred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Task(job) => write!(f, "{TASK}{job}"),
            Self::Result(pointer) => write!(f, "{pointer}"),
        }
    }
}

/// One reference in an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// What it names.
    pub to: Referred,
    /// Which part of that: a JSON pointer, empty for all of it.
    pub part: String,
    /// Where it stands in the input's text, in bytes.
    span: Range<usize>,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.part.is_empty() { "" } else { "#" };
        write!(f, "{}{mark}{}", self.to, self.part)
    }
}

/// The references of an input, in the order they stand.
///
/// # Errors
/// When one is malformed, or there are more than [`REFERENCES_MAX`].
pub fn references(input: &RawJson) -> Result<Vec<Reference>, InvalidTask> {
    let mut found = Vec::new();
    if input.get().contains("\"$ref\"") {
        collect(input.raw(), input.get(), 0, &mut found)?;
    }
    Ok(found)
}

/// The jobs that the references name, each once.
#[must_use]
pub fn named_jobs(references: &[Reference]) -> BTreeSet<JobId> {
    references.iter().map(|reference| reference.to.job()).collect()
}

/// Whether a value is a reference by its form.
#[must_use]
pub fn is_reference(value: &serde_json::Value) -> bool {
    let only = value.as_object().filter(|object| object.len() == 1).and_then(|object| object.get("$ref"));
    only.and_then(serde_json::Value::as_str).is_some_and(|text| text.starts_with(TASK) || text.starts_with(RESULT))
}

/// The input with each reference replaced by its value, JSON text; everything else stays as it was written.
///
/// # Errors
/// When a value is no JSON.
pub fn fill(input: &RawJson, values: &[(Reference, &str)]) -> Result<RawJson, serde_json::Error> {
    let text = input.get();
    let mut filled = String::with_capacity(text.len() + values.iter().map(|(_, value)| value.len()).sum::<usize>());
    let mut from = 0;
    for (reference, value) in values {
        filled.push_str(&text[from..reference.span.start]);
        filled.push_str(value);
        from = reference.span.end;
    }
    filled.push_str(&text[from..]);
    RawJson::parse(filled)
}

/// The value at a JSON pointer in a JSON text, as it is written there; all of it for the empty pointer.
#[must_use]
pub fn part_of<'a>(document: &'a str, pointer: &str) -> Option<&'a str> {
    let mut at: &'a RawValue = serde_json::from_str(document).ok()?;
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        at = match Node::of(at)? {
            Node::Object(members) => members.into_iter().rev().find(|(name, _)| *name == step)?.1,
            Node::Array(items) => {
                let index: usize = step.parse().ok()?;
                *items.get(index)?
            }
        };
    }
    Some(at.get())
}

fn collect(value: &RawValue, whole: &str, depth: usize, found: &mut Vec<Reference>) -> Result<(), InvalidTask> {
    if depth > DEPTH_MAX {
        return Ok(());
    }
    let children = match Node::of(value) {
        None => return Ok(()),
        Some(Node::Array(items)) => items,
        Some(Node::Object(members)) => {
            if let [(name, target)] = members.as_slice()
                && name == "$ref"
                && let Ok(target) = serde_json::from_str::<String>(target.get())
                && (target.starts_with(TASK) || target.starts_with(RESULT))
            {
                let start = value.get().as_ptr() as usize - whole.as_ptr() as usize;
                found.push(parse(&target, start..start + value.get().len())?);
                let many = || format!("more than {REFERENCES_MAX} references; hand over a whole result instead");
                return if found.len() > REFERENCES_MAX { Err(InvalidTask::new("input", many())) } else { Ok(()) };
            }
            members.into_iter().map(|(_, value)| value).collect()
        }
    };
    children.into_iter().try_for_each(|child| collect(child, whole, depth + 1, found))
}

fn parse(text: &str, span: Range<usize>) -> Result<Reference, InvalidTask> {
    let (target, part) = text.split_once('#').unwrap_or((text, ""));
    let bad = |why: String| InvalidTask::new("input", format!("$ref `{}`: {why}", shown(text)));
    if !part.is_empty() && !part.starts_with('/') {
        return Err(bad("what follows `#` must be a JSON pointer, such as #/content/0/text".to_owned()));
    }
    let to = match target.strip_prefix(TASK) {
        Some(id) => Referred::Task(id.parse().map_err(|error| bad(format!("{error}")))?),
        None => Referred::Result(target.parse().map_err(|error| bad(format!("{error}")))?),
    };
    Ok(Reference { to, part: part.to_owned(), span })
}

/// Longest reference that an error repeats, in bytes.
const SHOWN_BYTES_MAX: usize = 120;

fn shown(text: &str) -> &str {
    &text[..text.floor_char_boundary(SHOWN_BYTES_MAX)]
}

/// One level of a JSON value, its members as they were written.
enum Node<'a> {
    Object(Vec<(String, &'a RawValue)>),
    Array(Vec<&'a RawValue>),
}

impl<'a> Node<'a> {
    /// `None` for a value without members.
    fn of(value: &'a RawValue) -> Option<Self> {
        let container = value.get().starts_with(['{', '[']);
        container.then(|| serde_json::Deserializer::from_str(value.get()).deserialize_any(Level).ok()).flatten()
    }
}

struct Level;

impl<'de> Visitor<'de> for Level {
    type Value = Node<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Node::Object(members))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node<'de>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Node::Array(items))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    fn id() -> JobId {
        JobId::new(Timestamp::from_millis(1))
    }

    #[test]
    fn what_stands_around_a_reference_stays_as_it_was_written() {
        let id = id();
        let text = format!(
            r#"{{ "b" : 1.0, "a":[ {{"$ref": "task://{id}#/x/0"}} ,12345678901234567890], "c":{{"$ref":"task://{id}"}} }}"#
        );
        let input = RawJson::parse(text).unwrap();
        let found = references(&input).unwrap();
        assert_eq!(
            found.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [format!("task://{id}#/x/0"), format!("task://{id}")]
        );
        let values: Vec<(Reference, &str)> = found.into_iter().zip(["7e0", "{\"z\": null}"]).collect();
        let filled = fill(&input, &values).unwrap();
        assert_eq!(filled.get(), r#"{ "b" : 1.0, "a":[ 7e0 ,12345678901234567890], "c":{"z": null} }"#);
    }

    #[test]
    fn what_is_no_reference_is_an_argument() {
        for text in [
            r##"{"schema":{"$ref":"#/definitions/x"}}"##,
            r#"{"a":{"$ref":"task://x","more":1}}"#,
            r#"{"a":{"$ref":7}}"#,
            r#"{"a":"$ref"}"#,
        ] {
            let input = RawJson::parse(text).unwrap();
            assert_eq!(references(&input), Ok(Vec::new()), "{text}");
        }
    }

    #[test]
    fn a_malformed_reference_says_what_to_change() {
        for (text, word) in [
            (r#"{"a":{"$ref":"task://nobody"}}"#.to_owned(), "nobody"),
            (r#"{"a":{"$ref":"res://x"}}"#.to_owned(), "res://tenant/job/sha256"),
            (format!(r#"{{"a":{{"$ref":"task://{}#content"}}}}"#, id()), "JSON pointer"),
            (
                format!(r#"{{"a":[{}]}}"#, vec![format!(r#"{{"$ref":"task://{}"}}"#, id()); 33].join(",")),
                "more than 32",
            ),
        ] {
            let error = references(&RawJson::parse(text).unwrap()).unwrap_err();
            assert_eq!(error.field, "input");
            assert!(error.mend.contains(word), "{error}");
        }
    }

    #[test]
    fn a_part_is_found_by_its_pointer() {
        let document = r#"{"content":[{"type":"text","text":"a\nb"}],"a/b":{"~":1.50},"x":1,"x":2}"#;
        for (pointer, value) in [
            ("", Some(document)),
            ("/content/0/text", Some(r#""a\nb""#)),
            ("/a~1b/~0", Some("1.50")),
            ("/x", Some("2")),
            ("/content/1", None),
            ("/content/-1", None),
            ("/content/0/text/0", None),
            ("/missing", None),
        ] {
            assert_eq!(part_of(document, pointer), value, "{pointer}");
        }
    }
}
