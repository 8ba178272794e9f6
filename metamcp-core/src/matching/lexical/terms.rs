//! The words of a need as weighted stems, for parts that compare needs with one another rather than with tools.

use super::{
    fields::cut,
    query::{FAINT, NEED_BYTES_MAX, NEED_WORDS_MAX},
    tokens::tokens,
    words::{Said, Words},
};

/// Takes needs apart as the lexical search does: the same words, stems and stop words.
#[derive(Debug)]
pub(in crate::matching) struct Terms(Words);

impl Terms {
    pub(in crate::matching) fn new() -> Self {
        Self(Words::new())
    }

    /// The different stems of `need` that are no grammar, each with what it weighs: 1, or less for a word of asking. At most
    /// [`NEED_WORDS_MAX`], in the order of the need.
    pub(in crate::matching) fn of(&self, need: &str) -> Vec<(String, f32)> {
        let mut terms: Vec<(String, f32)> = Vec::new();
        tokens(cut(need, NEED_BYTES_MAX), |token, _| {
            if terms.len() == NEED_WORDS_MAX || self.0.is_stop(token) {
                return;
            }
            let stem = self.0.stem(token);
            if terms.iter().all(|(known, _)| *known != stem) {
                let weight = if self.0.said(&stem) == Said::Little { FAINT } else { 1.0 };
                terms.push((stem.into_owned(), weight));
            }
        });
        terms
    }
}
