//! Text into lower-case words: identifiers come apart at case, digit and punctuation, scripts without spaces become pairs of characters.
//!
//! Knows no language and no list of words; that is the vocabulary's part.

/// Longest run of letters that is a word and not data, in characters.
const WORD_CHARS_MAX: usize = 64;

/// How a token came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A word as it stands, or one part of a compound such as `git` of `GitHub`.
    Word,
    /// A compound kept whole beside its parts: `github`.
    Whole,
}

/// Calls `each` with every token of `text`, in order. Never longer than [`WORD_CHARS_MAX`] characters each.
pub(super) fn tokens(text: &str, mut each: impl FnMut(&str, Kind)) {
    let mut buffer = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_word) {
        rest = &rest[start..];
        let spaceless = rest.chars().next().is_some_and(is_spaceless);
        let end = rest.find(|c| !is_word(c) || is_spaceless(c) != spaceless).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        rest = after;
        if spaceless {
            pairs(run, &mut each);
        } else if run.chars().nth(WORD_CHARS_MAX).is_none() {
            compound(run, &mut buffer, &mut each);
        }
    }
}

/// Letters and digits, and the marks that stand on them.
fn is_word(c: char) -> bool {
    c.is_alphanumeric() || is_mark(c)
}

fn is_mark(c: char) -> bool {
    matches!(c,
        '\u{300}'..='\u{36f}' | '\u{200c}' | '\u{200d}'      // combining diacritics, joiners
        | '\u{900}'..='\u{963}' | '\u{966}'..='\u{dff}'      // Indic signs, without the full stops
        | '\u{e31}' | '\u{e34}'..='\u{e3a}' | '\u{e47}'..='\u{e4e}'
        | '\u{eb1}' | '\u{eb4}'..='\u{ebc}' | '\u{ec8}'..='\u{ece}'
        | '\u{102b}'..='\u{103e}' | '\u{17b4}'..='\u{17d3}')
}

/// Scripts written without spaces between words.
fn is_spaceless(c: char) -> bool {
    matches!(c,
        '\u{e00}'..='\u{eff}'       // Thai, Lao
        | '\u{1000}'..='\u{109f}'   // Myanmar
        | '\u{1780}'..='\u{17ff}'   // Khmer
        | '\u{3040}'..='\u{30ff}'   // Hiragana, Katakana
        | '\u{31f0}'..='\u{31ff}'
        | '\u{3400}'..='\u{4dbf}'   // Han
        | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}'
        | '\u{ff66}'..='\u{ff9f}'
        | '\u{20000}'..='\u{323af}')
}

fn pairs(run: &str, each: &mut impl FnMut(&str, Kind)) {
    let mut ends = run.char_indices().map(|(at, c)| at + c.len_utf8());
    let (Some(mut middle), mut start) = (ends.next(), 0) else { return };
    if middle == run.len() {
        each(run, Kind::Word);
    }
    for end in ends {
        each(&run[start..end], Kind::Word);
        (start, middle) = (middle, end);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Upper,
    Lower,
    Digit,
}

fn class(c: char) -> Class {
    if c.is_numeric() {
        Class::Digit
    } else if c.is_uppercase() {
        Class::Upper
    } else {
        Class::Lower
    }
}

/// A run of letters and digits: itself, and its parts when it has several.
fn compound(run: &str, buffer: &mut String, each: &mut impl FnMut(&str, Kind)) {
    let mut lower = |text: &str, kind: Kind, each: &mut dyn FnMut(&str, Kind)| {
        buffer.clear();
        if text.is_ascii() {
            buffer.push_str(text);
            buffer.make_ascii_lowercase();
        } else {
            let plain = |c: &char| !matches!(c, '\u{300}'..='\u{36f}' | '\u{200c}' | '\u{200d}');
            buffer.extend(text.chars().flat_map(char::to_lowercase).filter(plain));
        }
        if !buffer.is_empty() {
            each(buffer, kind);
        }
    };
    if run.bytes().all(|b| b.is_ascii_lowercase()) {
        each(run, Kind::Word);
        return;
    }
    let mut parts = Parts { rest: run };
    let Some(first) = parts.next() else { return };
    if first.len() == run.len() {
        lower(run, Kind::Word, each);
        return;
    }
    lower(run, Kind::Whole, each);
    for part in std::iter::once(first).chain(parts) {
        let number = part.chars().all(char::is_numeric);
        // One letter and a bare number mean nothing apart from their whole.
        if !number && part.chars().nth(1).is_some() {
            lower(part, Kind::Word, each);
        }
    }
}

/// `HTTPServer2` as `HTTP`, `Server`, `2`.
struct Parts<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Parts<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let mut chars = self.rest.char_indices();
        let mut before = class(chars.next()?.1);
        let mut single = true;
        let mut end = self.rest.len();
        let mut last_at = 0;
        for (at, c) in chars {
            let now = class(c);
            let breaks = match (before, now) {
                // The last capital of a row begins the next word, as in `HTTPServer`.
                (Class::Upper, Class::Lower) if !single => {
                    end = last_at;
                    break;
                }
                (Class::Upper, Class::Lower) => false,
                (a, b) => a != b,
            };
            if breaks {
                end = at;
                break;
            }
            single = false;
            last_at = at;
            before = now;
        }
        let (part, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(part)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(text: &str) -> Vec<String> {
        let mut out = Vec::new();
        tokens(text, |t, kind| out.push(if kind == Kind::Whole { format!("={t}") } else { t.to_owned() }));
        out
    }

    #[test]
    fn identifiers_come_apart() {
        assert_eq!(all("list_open-issues.v2"), ["list", "open", "issues", "=v2"]);
        assert_eq!(all("getHTTPServer2"), ["=gethttpserver2", "get", "http", "server"]);
        assert_eq!(all("GitHub repos"), ["=github", "git", "hub", "repos"]);
        assert_eq!(all("URL"), ["url"]);
        assert_eq!(all("README.md, S3"), ["readme", "md", "=s3"]);
    }

    #[test]
    fn other_scripts_are_words_or_pairs() {
        assert_eq!(all("天气预报"), ["天气", "气预", "预报"]);
        assert_eq!(all("查MCP图"), ["查", "mcp", "图"]);
        assert_eq!(all("Größe ПОГОДА"), ["größe", "погода"]);
        assert_eq!(all("विद्यालय"), ["विद्यालय"]);
        assert_eq!(all("ค้นหา").len(), 4);
        assert_eq!(all("날씨 예보"), ["날씨", "예보"]);
    }

    #[test]
    fn data_is_no_word() {
        assert!(all(&"x".repeat(WORD_CHARS_MAX + 1)).is_empty());
        assert_eq!(all(&"x".repeat(WORD_CHARS_MAX)).len(), 1);
    }

    proptest! {
        #[test]
        fn any_text_gives_short_lower_case_words(text in "\\PC{0,200}") {
            tokens(&text, |t, _| {
                assert!(!t.is_empty() && t.chars().count() <= 3 * WORD_CHARS_MAX, "{t}");
                assert!(!t.contains(|c: char| c.is_ascii_uppercase() || c.is_whitespace()), "{t}");
            });
        }
    }
}
