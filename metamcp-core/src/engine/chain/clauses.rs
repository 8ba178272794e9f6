//! Where the words of a need part it: ends of sentences, lines, items of a list, commas, and words of order.
//!
//! A word of order or a list item asks for another step. The end of a sentence, a comma or "and" may as well stand inside one, which is for
//! the planner to find out.

use std::ops::Range;

/// Most parts of a need that are looked at; the rest of it belongs to the last one.
pub(super) const CLAUSES_MAX: usize = 8;

/// Words between blanks that say "and after that".
const ORDER_WORDS: [&str; 18] = [
    "then",
    "afterwards",
    "afterward",
    "dann",
    "danach",
    "anschließend",
    "puis",
    "ensuite",
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

/// What parts a clause from the one before, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Break {
    /// A comma, or a word that joins equals.
    Comma,
    /// The end of a sentence or of a line.
    Sentence,
    /// A word of order, or the mark of a list item: another step is asked for. The first clause begins so too.
    Order,
}

/// A part of the need, in bytes of its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Clause {
    pub(super) span: Range<usize>,
    pub(super) begins: Break,
}

/// The parts in their order; none of an empty text.
pub(super) fn split(text: &str) -> Vec<Clause> {
    let mut clauses: Vec<Clause> = Vec::new();
    let (mut from, mut begins) = (0, Break::Order);
    for (at, parts) in breaks(text) {
        if clauses.len() + 1 == CLAUSES_MAX {
            break;
        }
        // Where nothing stands between two breaks the stronger one counts.
        begins = if push(text, from..at.start, begins, &mut clauses) { parts } else { begins.max(parts) };
        from = at.end;
    }
    push(text, from..text.len(), begins, &mut clauses);
    clauses
}

fn push(text: &str, span: Range<usize>, begins: Break, clauses: &mut Vec<Clause>) -> bool {
    let part = &text[span.clone()];
    if !part.contains(char::is_alphanumeric) {
        return false;
    }
    let start = span.start + (part.len() - part.trim_start().len());
    clauses.push(Clause { span: start..start + part.trim().len(), begins });
    true
}

/// Where the text may be parted, in its order.
fn breaks(text: &str) -> Vec<(Range<usize>, Break)> {
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
            '\n' => Some((one, Break::Sentence)),
            '。' | '！' | '？' | '；' => Some((one, Break::Sentence)),
            '，' | '、' | '،' => Some((one, Break::Comma)),
            '.' | '!' | '?' | ';' if ends_word && !word_begins => Some((one, Break::Sentence)),
            ',' if ends_word => Some((one, Break::Comma)),
            _ if line_begins && !c.is_whitespace() => item_mark(rest).map(|len| (at..at + len, Break::Order)),
            _ => None,
        };
        let hit =
            hit.or_else(|| word_begins.then(|| order_word(rest)).flatten().map(|(len, parts)| (at..at + len, parts)));
        let mark =
            || ORDER_MARKS.iter().find(|mark| rest.starts_with(**mark)).map(|mark| (at..at + mark.len(), Break::Order));
        if let Some((range, parts)) = hit.or_else(mark) {
            skip_to = range.end;
            found.push((range, parts));
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

/// The bytes of a word that joins what follows to what came before, and how.
fn order_word(rest: &str) -> Option<(usize, Break)> {
    let word = rest.split(char::is_whitespace).next()?.trim_end_matches([',', ':']);
    let is = |words: &[&str]| {
        let lower = word.to_lowercase();
        words.contains(&lower.as_str())
    };
    // No word of these is longer.
    if word.is_empty() || word.len() > 16 {
        return None;
    }
    if is(&ORDER_WORDS) {
        Some((word.len(), Break::Order))
    } else {
        is(&AND_WORDS).then_some((word.len(), Break::Comma))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Vec<(&str, Break)> {
        split(text).into_iter().map(|clause| (&text[clause.span], clause.begins)).collect()
    }

    #[test]
    fn a_need_is_parted_where_its_words_part_it() {
        use Break::{Comma, Order, Sentence};
        for (text, wanted) in [
            ("list the files", vec![("list the files", Order)]),
            ("read a.txt and then send it", vec![("read a.txt", Order), ("send it", Order)]),
            ("Read it. Sum it up!", vec![("Read it", Order), ("Sum it up", Sentence)]),
            ("Read it. Then, sum it up!", vec![("Read it", Order), ("sum it up", Order)]),
            ("buy eggs, milk and butter", vec![("buy eggs", Order), ("milk", Comma), ("butter", Comma)]),
            ("1. find it\n2) mail it\n- log it", vec![("find it", Order), ("mail it", Order), ("log it", Order)]),
            (
                "lies die Datei und sende sie, danach lösche sie",
                vec![("lies die Datei", Order), ("sende sie", Comma), ("lösche sie", Order)],
            ),
            ("查找文件，然后发送邮件。", vec![("查找文件", Order), ("发送邮件", Order)]),
            ("", vec![]),
            (" .,; \n and then ", vec![]),
            ("version 1.2 of e.g this", vec![("version 1.2 of e.g this", Order)]),
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
