//! Which part of a result is meant: the form of its URI, and cutting it out. Pure.

use metamcp_core::{pointer::ResultPointer, task::reference::part_of};

use crate::gateway::tool_result::shown;

/// What the URI of a result begins with.
pub(crate) const SCHEME: &str = "res://";

/// Which part of a result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Part {
    /// Which bytes or lines; `None`: all.
    pub(crate) range: Option<Range>,
    /// A JSON pointer; empty: the whole document.
    pub(crate) pointer: String,
}

/// A range; both ends count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Range {
    /// From 0.
    Bytes { first: u64, last: u64 },
    /// From 1.
    Lines { first: u64, last: u64 },
}

impl Range {
    /// Bytes written as `0-1023`; an open end is the end.
    pub(crate) fn bytes(text: &str) -> Result<Self, String> {
        let (first, last) = ends(text, "bytes=0-1023")?;
        Ok(Self::Bytes { first, last })
    }

    /// Lines written as `1-50`; an open end is the end.
    pub(crate) fn lines(text: &str) -> Result<Self, String> {
        match ends(text, "lines=1-50")? {
            (0, _) => Err("lines are counted from 1".to_owned()),
            (first, last) => Ok(Self::Lines { first, last }),
        }
    }
}

fn ends(text: &str, example: &str) -> Result<(u64, u64), String> {
    let bad = || format!("`{}` is no range; write one such as {example}", &text[..text.floor_char_boundary(40)]);
    let (first, last) = text.split_once('-').ok_or_else(bad)?;
    let first = first.parse().map_err(|_| bad())?;
    let last = if last.is_empty() { u64::MAX } else { last.parse().map_err(|_| bad())? };
    if last < first { Err(bad()) } else { Ok((first, last)) }
}

/// What was cut out.
pub(crate) enum Found {
    /// Text; JSON or plain.
    Text { text: String, json: bool },
    /// Bytes that are no text.
    Bytes(Vec<u8>),
}

impl Found {
    pub(super) const fn media_type(&self) -> &'static str {
        match self {
            Self::Text { json: true, .. } => "application/json",
            Self::Text { json: false, .. } => "text/plain",
            Self::Bytes(_) => "application/octet-stream",
        }
    }
}

/// Reads the URI of a result.
pub(super) fn parse(uri: &str) -> Result<(ResultPointer, Part), String> {
    debug_assert!(uri.starts_with(SCHEME), "the caller looks at the scheme");
    let (rest, pointer) = uri.split_once('#').unwrap_or((uri, ""));
    if !pointer.is_empty() && !pointer.starts_with('/') {
        return Err("what follows `#` must be a JSON pointer, such as #/content/0/text".to_owned());
    }
    let (result, query) = rest.split_once('?').unwrap_or((rest, ""));
    let result = result.parse().map_err(|error| format!("{error}"))?;
    let range = match query.split_once('=') {
        None if query.is_empty() => None,
        Some(("bytes", range)) => Some(Range::bytes(range)?),
        Some(("lines", range)) => Some(Range::lines(range)?),
        _ => return Err("after `?` stands bytes=a-b or lines=a-b".to_owned()),
    };
    Ok((result, Part { range, pointer: unescaped(pointer) }))
}

/// A fragment may be percent-encoded.
fn unescaped(pointer: &str) -> String {
    let mut bytes = Vec::with_capacity(pointer.len());
    let mut rest = pointer.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let hex = (*byte == b'%').then(|| after.get(..2)).flatten();
        let decoded = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(decoded.unwrap_or(*byte));
        rest = if decoded.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| pointer.to_owned())
}

/// The part of a JSON document.
pub(super) fn cut(document: &str, part: &Part) -> Result<Found, String> {
    let value = part_of(document, &part.pointer).ok_or_else(|| {
        format!("the result has nothing at `{}`; read it without `#` to see its form", shown(&part.pointer))
    })?;
    // A string within is told as what it says, not as how it is written.
    let within = !part.pointer.is_empty();
    let (text, json) = match within.then(|| serde_json::from_str::<String>(value).ok()).flatten() {
        Some(text) => (text, false),
        None => (value.to_owned(), true),
    };
    let Some(range) = part.range else { return Ok(Found::Text { text, json }) };
    Ok(match range {
        Range::Bytes { first, last } => {
            let beyond = || format!("it has {} bytes", text.len());
            let start = usize::try_from(first).ok().filter(|start| *start < text.len().max(1)).ok_or_else(beyond)?;
            let end = usize::try_from(last).unwrap_or(usize::MAX).saturating_add(1).min(text.len());
            match text.get(start..end) {
                Some(text) => Found::Text { text: text.to_owned(), json: false },
                None => Found::Bytes(text.as_bytes()[start..end].to_vec()),
            }
        }
        Range::Lines { first, last } => {
            let skip = usize::try_from(first - 1).unwrap_or(usize::MAX);
            let take = usize::try_from(last - first).unwrap_or(usize::MAX).saturating_add(1);
            let lines: String = text.split_inclusive('\n').skip(skip).take(take).collect();
            if lines.is_empty() && first > 1 {
                return Err(format!("it has {} lines", text.lines().count()));
            }
            Found::Text { text: lines, json: false }
        }
    })
}

#[cfg(test)]
mod tests {
    use metamcp_core::{
        id::{JobId, TenantId},
        pointer::Digest,
        time::Timestamp,
    };
    use proptest::prelude::*;

    use super::*;

    fn pointer() -> ResultPointer {
        ResultPointer {
            tenant: TenantId::new("local").unwrap(),
            job: JobId::new(Timestamp::from_millis(7)),
            digest: Digest::of(b"body"),
        }
    }

    fn text(found: Found) -> String {
        match found {
            Found::Text { text, .. } => text,
            Found::Bytes(bytes) => format!("{bytes:?}"),
        }
    }

    #[test]
    fn every_form_of_a_uri_is_read() {
        let whole = pointer();
        let part = |end: &str| parse(&format!("{whole}{end}")).map(|(found, part)| (found == whole, part));
        let of = |range, pointer: &str| Ok((true, Part { range, pointer: pointer.to_owned() }));
        assert_eq!(part(""), of(None, ""));
        assert_eq!(part("?bytes=0-9"), of(Some(Range::Bytes { first: 0, last: 9 }), ""));
        assert_eq!(part("?lines=3-#/a/0"), of(Some(Range::Lines { first: 3, last: u64::MAX }), "/a/0"));
        assert_eq!(part("#/a%20b%2"), of(None, "/a b%2"));
        for wrong in ["?bytes=9-1", "?bytes=a-1", "?lines=0-1", "?words=1-2", "?bytes", "#a", "/more"] {
            assert!(part(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn parts_are_cut_out_of_what_the_pointer_names() {
        let document = r#"{"content":[{"type":"text","text":"one\ntwo\nthrée"}],"n":1.50}"#;
        let part = |pointer: &str, range| cut(document, &Part { range, pointer: pointer.to_owned() }).map(text);
        assert_eq!(part("", None).unwrap(), document);
        assert_eq!(part("/n", None).unwrap(), "1.50");
        assert_eq!(part("/content/0/text", None).unwrap(), "one\ntwo\nthrée");
        let lines = |first, last| part("/content/0/text", Some(Range::Lines { first, last }));
        assert_eq!(lines(2, 2).unwrap(), "two\n");
        assert_eq!(lines(2, 99).unwrap(), "two\nthrée");
        assert_eq!(lines(4, 4).unwrap_err(), "it has 3 lines");
        let bytes = |first, last| part("/content/0/text", Some(Range::Bytes { first, last }));
        assert_eq!(bytes(0, 2).unwrap(), "one");
        assert_eq!(bytes(8, 11).unwrap(), "[116, 104, 114, 195]", "half a character is no text");
        assert_eq!(bytes(99, 100).unwrap_err(), "it has 14 bytes");
        assert!(part("/missing", None).unwrap_err().contains("/missing"));
    }

    proptest! {
        #[test]
        fn lines_put_together_are_the_whole(body in "[a-z\\n]{0,40}", at in 1_u64..10) {
            let document = serde_json::json!({ "t": body }).to_string();
            let part = |first, last| {
                let part = Part { range: Some(Range::Lines { first, last }), pointer: "/t".to_owned() };
                cut(&document, &part).map_or_else(|_| String::new(), text)
            };
            prop_assert_eq!(part(1, at) + &part(at + 1, u64::MAX), body);
        }
    }
}
