//! Text into word pieces of a table: lower case without accents, each word by its longest known beginnings (WordPiece).
//!
//! Punctuation says nothing and is left out; a word that cannot be pieced together is left out whole.

use unicode_normalization::{UnicodeNormalization as _, char::is_combining_mark};

/// Longest word that is taken apart, in bytes.
const WORD_BYTES_MAX: usize = 64;
/// Before a piece that goes on with a word.
const INSIDE: &str = "##";

/// What a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::matching) enum Split {
    /// A sentence: `YouTube` is one word.
    Words,
    /// An identifier: `readFile` is two words.
    Name,
}

/// Calls `each` with the number of every piece of `text`, while pieces are `left`. `known` tells the number of a piece, if there is such.
pub(super) fn pieces(
    known: impl Fn(&str) -> Option<u16>,
    split: Split,
    text: &str,
    left: &mut usize,
    mut each: impl FnMut(u16),
) {
    let mut word = String::new();
    let mut key = String::new();
    let mut found = Vec::new();
    let mut end = |word: &mut String| {
        if !word.is_empty() && word.len() <= WORD_BYTES_MAX && take_apart(&known, word, &mut key, &mut found) {
            found.iter().take(*left).for_each(|piece| each(*piece));
            *left = left.saturating_sub(found.len());
        }
        word.clear();
        *left > 0
    };
    let mut before = ' ';
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let apart = split == Split::Name && c.is_uppercase() && {
            let next_lower = chars.peek().is_some_and(|next| next.is_lowercase());
            before.is_lowercase() || before.is_numeric() || (before.is_uppercase() && next_lower)
        };
        if (apart || !(c.is_alphanumeric() || is_combining_mark(c))) && !end(&mut word) {
            return;
        }
        if c.is_ascii_alphanumeric() {
            word.push(c.to_ascii_lowercase());
        } else if !c.is_ascii() && word.len() <= WORD_BYTES_MAX {
            word.extend(c.nfd().flat_map(char::to_lowercase).filter(|c| c.is_alphanumeric()));
        }
        before = c;
    }
    end(&mut word);
}

/// Whether `word` is made of known pieces, which are then `found`.
fn take_apart(known: impl Fn(&str) -> Option<u16>, word: &str, key: &mut String, found: &mut Vec<u16>) -> bool {
    found.clear();
    let mut start = 0;
    while start < word.len() {
        let rest = &word[start..];
        let ends = rest.char_indices().map(|(at, c)| at + c.len_utf8()).rev();
        let longest = ends.into_iter().find_map(|end| {
            key.clear();
            key.push_str(if start > 0 { INSIDE } else { "" });
            key.push_str(&rest[..end]);
            Some((end, known(key)?))
        });
        let Some((end, piece)) = longest else { return false };
        found.push(piece);
        start += end;
    }
    true
}
