//! What part of a body a `Range` header asks for, and whether a caller's copy is still good. Pure: headers in, decision out.

use http::{HeaderMap, header};

/// What is to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it: no range, several ranges, or one this server does not understand.
    Whole,
    /// `len` bytes from `start`; `len` is at least 1.
    Part {
        /// First byte, from 0.
        start: u64,
        /// How many bytes.
        len: u64,
    },
    /// Nothing of it exists.
    Unsatisfiable,
}

/// Reads `Range` (and `If-Range`) for a body of `total` bytes with this `etag`.
pub(super) fn wanted(headers: &HeaderMap, etag: &str, total: u64) -> Wanted {
    let Some(range) = headers.get(header::RANGE).and_then(|range| range.to_str().ok()) else { return Wanted::Whole };
    // A caller that resumes an older copy gets the whole of the new one.
    if headers.get(header::IF_RANGE).is_some_and(|copy| copy.as_bytes() != etag.as_bytes()) {
        return Wanted::Whole;
    }
    let Some((unit, spec)) = range.split_once('=') else { return Wanted::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") || spec.contains(',') {
        return Wanted::Whole;
    }
    let Some((first, last)) = spec.trim().split_once('-') else { return Wanted::Whole };
    match (position(first), position(last)) {
        (Position::Absent, Position::At(0)) => Wanted::Unsatisfiable,
        (Position::Absent, Position::At(_)) if total == 0 => Wanted::Unsatisfiable,
        (Position::Absent, Position::At(suffix)) => {
            let len = suffix.min(total);
            Wanted::Part { start: total - len, len }
        }
        (Position::At(start), Position::At(end)) if end < start => Wanted::Whole,
        (Position::At(start), Position::Absent | Position::At(_)) if start >= total => Wanted::Unsatisfiable,
        (Position::At(start), Position::Absent) => Wanted::Part { start, len: total - start },
        (Position::At(start), Position::At(end)) => Wanted::Part { start, len: end.min(total - 1) - start + 1 },
        (Position::Absent, Position::Absent) | (Position::Malformed, _) | (_, Position::Malformed) => Wanted::Whole,
    }
}

enum Position {
    Absent,
    At(u64),
    Malformed,
}

fn position(text: &str) -> Position {
    match text {
        "" => Position::Absent,
        // A number that is too large is still a number, far behind every end.
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => Position::At(digits.parse().unwrap_or(u64::MAX)),
        _ => Position::Malformed,
    }
}

/// Whether `If-None-Match` names the body: the caller's copy is good.
pub(super) fn has_copy(headers: &HeaderMap, etag: &str) -> bool {
    let lines = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(range: &str, if_range: Option<&str>, total: u64) -> Wanted {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, range.parse().unwrap());
        if let Some(copy) = if_range {
            headers.insert(header::IF_RANGE, copy.parse().unwrap());
        }
        wanted(&headers, "\"tag\"", total)
    }

    #[test]
    fn single_ranges_are_cut_to_the_body() {
        let part = |start, len| Wanted::Part { start, len };
        let cases = [
            ("bytes=0-3", part(0, 4)),
            ("bytes=9-9", part(9, 1)),
            ("bytes=4-", part(4, 6)),
            ("bytes=-3", part(7, 3)),
            ("bytes=-99", part(0, 10)),
            ("bytes=5-99", part(5, 5)),
            ("BYTES= 0-0", part(0, 1)),
            ("bytes=0-99999999999999999999999", part(0, 10)),
            ("bytes=10-", Wanted::Unsatisfiable),
            ("bytes=10-20", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=99999999999999999999999-", Wanted::Unsatisfiable),
            ("bytes=3-1", Wanted::Whole),
            ("bytes=0-1,3-4", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("bytes", Wanted::Whole),
            ("lines=0-1", Wanted::Whole),
        ];
        for (range, want) in cases {
            assert_eq!(ask(range, None, 10), want, "{range}");
        }
        assert_eq!(ask("bytes=0-", None, 0), Wanted::Unsatisfiable);
        assert_eq!(ask("bytes=-1", None, 0), Wanted::Unsatisfiable);
    }

    #[test]
    fn another_copy_is_not_resumed() {
        assert_eq!(ask("bytes=0-0", Some("\"tag\""), 10), Wanted::Part { start: 0, len: 1 });
        assert_eq!(ask("bytes=0-0", Some("\"old\""), 10), Wanted::Whole);
        assert_eq!(ask("bytes=0-0", Some("W/\"tag\""), 10), Wanted::Whole);
    }

    #[test]
    fn a_copy_is_known_by_any_of_its_tags() {
        let mut headers = HeaderMap::new();
        assert!(!has_copy(&headers, "\"tag\""));
        headers.insert(header::IF_NONE_MATCH, "\"a\", W/\"tag\"".parse().unwrap());
        assert!(has_copy(&headers, "\"tag\""));
        assert!(!has_copy(&headers, "\"other\""));
        headers.insert(header::IF_NONE_MATCH, "*".parse().unwrap());
        assert!(has_copy(&headers, "\"other\""));
    }
}
