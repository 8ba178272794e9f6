//! Where the words of a need part it: ends of sentences, lines, items of a list, commas, and words of order.
//!
//! A strong break begins another step; a weak one (a comma, "and") may as well stand inside one, which is for the planner to find out.

use std::ops::Range;

/// Most parts of a need that are looked at; the rest of it belongs to the last one.
pub(super) const CLAUSES_MAX: usize = 8;

/// Words between blanks that say "and after that".
const ORDER_WORDS: [&str; 21] = [
    "then",
    "afterwards",
    "afterward",
    "finally",
    "next",
    "dann",
    "danach",
    "anschließend",
    "puis",
    "ensuite",
    "enfin",
    "luego",
    "después",
    "entonces",
    "poi",
    "depois",
    "затем",
    "потом",
    "ثم",
    "sonra",
    "kemudian",
];
/// The same in scripts that are written without blanks.
const ORDER_MARKS: [&str; 6] = ["然后", "接着", "然後", "接著", "そして", "それから"];
/// Words between blanks that join equals.
const AND_WORDS: [&str; 9] = ["and", "und", "et", "y", "e", "и", "و", "ve", "dan"];

/// A part of the need, in bytes of its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Clause {
    pub(super) span: Range<usize>,
    /// Parted from the one before by a strong break; so is the first.
    pub(super) strong: bool,
}

/// The parts in their order; none of an empty text.
pub(super) fn split(text: &str) -> Vec<Clause> {
    let mut clauses: Vec<Clause> = Vec::new();
    let (mut from, mut strong) = (0, true);
    for (at, is_strong) in breaks(text) {
        if clauses.len() + 1 < CLAUSES_MAX && push(text, from..at.start, strong, &mut clauses) {
            strong = is_strong;
            from = at.end;
        } else if clauses.len() + 1 < CLAUSES_MAX {
            // Nothing stands between two breaks: the stronger one counts.
            strong |= is_strong;
            from = at.end;
        }
    }
    push(text, from..text.len(), strong, &mut clauses);
    clauses
}

fn push(text: &str, span: Range<usize>, strong: bool, clauses: &mut Vec<Clause>) -> bool {
    let part = &text[span.clone()];
    if !part.contains(char::is_alphanumeric) {
        return false;
    }
    let start = span.start + (part.len() - part.trim_start().len());
    clauses.push(Clause { span: start..start + part.trim().len(), strong });
    true
}

/// Where the text may be parted, in its order, and whether strongly.
fn breaks(text: &str) -> Vec<(Range<usize>, bool)> {
    let mut found = Vec::new();
    let mut word_begins = true;
    let mut line_begins = true;
    let mut skip_to = 0;
    for (at, c) in text.char_indices() {
        if at < skip_to {
            continue;
        }
        let rest = &text[at..];
        let ends_word = rest[c.len_utf8()..].chars().next().is_none_or(char::is_whitespace);
        let one = at..at + c.len_utf8();
        let hit = match c {
            '\n' => Some((one, true)),
            '。' | '！' | '？' | '；' => Some((one, true)),
            '，' | '、' | '،' => Some((one, false)),
            '.' | '!' | '?' | ';' if ends_word && !word_begins => Some((one, true)),
            ',' if ends_word => Some((one, false)),
            _ if line_begins && !c.is_whitespace() => item_mark(rest).map(|len| (at..at + len, true)),
            _ => None,
        };
        let hit = hit.or_else(|| word_begins.then(|| order_word(rest)).flatten().map(|(len, s)| (at..at + len, s)));
        let mark = || ORDER_MARKS.iter().find(|mark| rest.starts_with(**mark)).map(|mark| (at..at + mark.len(), true));
        if let Some((range, strong)) = hit.or_else(mark) {
            skip_to = range.end;
            found.push((range, strong));
        }
        line_begins = c == '\n' || line_begins && c.is_whitespace();
        word_begins = c.is_whitespace() || skip_to > at;
    }
    found
}

/// The bytes of `1. `, `2) `, `- ` and the like at the beginning of a line.
fn item_mark(line: &str) -> Option<usize> {
    let digits = line.len() - line.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let mark = line[digits..].chars().next()?;
    let is_mark = if digits == 0 { matches!(mark, '-' | '*' | '•') } else { matches!(mark, '.' | ')' | ':') };
    let end = digits + mark.len_utf8();
    (is_mark && line[end..].starts_with(char::is_whitespace)).then_some(end)
}

/// The bytes of a word that joins what follows to what came before, and whether it says an order.
fn order_word(rest: &str) -> Option<(usize, bool)> {
    let word = rest.split(char::is_whitespace).next()?.trim_end_matches([',', ':']);
    let is = |words: &[&str]| {
        let lower = word.to_lowercase();
        words.contains(&lower.as_str())
    };
    // No word of these is longer.
    if word.is_empty() || word.len() > 16 {
        return None;
    }
    if is(&ORDER_WORDS) { Some((word.len(), true)) } else { is(&AND_WORDS).then_some((word.len(), false)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Vec<(&str, bool)> {
        split(text).into_iter().map(|clause| (&text[clause.span], clause.strong)).collect()
    }

    #[test]
    fn a_need_is_parted_where_its_words_part_it() {
        for (text, wanted) in [
            ("list the files", vec![("list the files", true)]),
            ("read a.txt and then send it", vec![("read a.txt", true), ("send it", true)]),
            ("Read it. Then, sum it up!", vec![("Read it", true), ("sum it up", true)]),
            ("buy eggs, milk and butter", vec![("buy eggs", true), ("milk", false), ("butter", false)]),
            ("1. find it\n2) mail it\n- log it", vec![("find it", true), ("mail it", true), ("log it", true)]),
            (
                "lies die Datei und sende sie, danach lösche sie",
                vec![("lies die Datei", true), ("sende sie", false), ("lösche sie", true)],
            ),
            ("查找文件，然后发送邮件。", vec![("查找文件", true), ("发送邮件", true)]),
            ("", vec![]),
            (" .,; \n and then ", vec![]),
            ("version 1.2 of e.g this", vec![("version 1.2 of e.g this", true)]),
        ] {
            assert_eq!(parts(text), wanted, "{text}");
        }
        assert_eq!(split(&"a, ".repeat(100)).len(), CLAUSES_MAX);
    }

    proptest::proptest! {
        /// Whatever is asked: parts are in order, apart, not empty and few.
        #[test]
        fn parts_are_pieces_of_the_need(text in "(\\PC|and|then|, |\\. |\n|1\\. |然后){0,60}") {
            let clauses = split(&text);
            proptest::prop_assert!(clauses.len() <= CLAUSES_MAX);
            let mut end = 0;
            for Clause { span, .. } in clauses {
                proptest::prop_assert!(span.start >= end && span.start < span.end);
                proptest::prop_assert_eq!(text[span.clone()].trim(), &text[span.clone()]);
                end = span.end;
            }
            if text.contains(char::is_alphanumeric) && end == 0 {
                let joins = text.split(|c: char| !c.is_alphanumeric()).all(|word| word.is_empty() || order_word(word).is_some() || item_mark(&format!("{word}. ")).is_some() || ORDER_MARKS.iter().any(|mark| word.contains(mark)));
                proptest::prop_assert!(joins, "nothing is left of {:?}", text);
            }
        }
    }
}
