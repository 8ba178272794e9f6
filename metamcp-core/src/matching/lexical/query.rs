//! What a need asks of an index: its words as weighted terms, with the near spellings and synonyms of those words.
//!
//! Looks only at words and the index's vocabulary; which tools win is the search's part.

use std::sync::Arc;

use super::{
    fields::cut,
    index::{Index, Term},
    tokens::{Kind, tokens},
    words::{Said, Words},
};
use crate::matching::dense::{Asked, AskedPieces, DenseTable};

/// As much of a need is read, in bytes.
pub(super) const NEED_BYTES_MAX: usize = 16 << 10;
/// As many different words of a need are looked up.
pub(super) const NEED_WORDS_MAX: usize = 64;
/// As many property names of the input are looked up.
const INPUT_KEYS_MAX: usize = 16;
/// Terms one unknown word may stand for.
const SPELLINGS_MAX: usize = 8;
/// Letters a near spelling may differ by, at the end.
const SPELLING_LETTERS_MAX: usize = 4;
/// Shortest word with near spellings, in bytes.
const SPELLED_BYTES_MIN: usize = 4;
/// Shortest half of a compound, in bytes.
const HALF_BYTES_MIN: usize = 3;

/// A word of asking against a word that names something.
pub(super) const FAINT: f32 = 0.3;
/// Two words written as one, or one as two.
const JOINED: f32 = 0.7;
/// A spelling that is near.
const NEAR: f32 = 0.5;
/// A word of the same meaning.
const SYNONYM: f32 = 0.25;
/// A property name of the input.
const INPUT_KEY: f32 = 0.3;

/// What a term may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// Brings a tool in.
    Content,
    /// Adds to tools that are in.
    Support,
}

/// A term that is looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueryTerm {
    pub term: Term,
    pub weight: f32,
    pub role: Role,
    /// Which word of the need it stands for.
    pub word: usize,
}

/// A need as terms of one index: content first, in the order of the need.
#[derive(Debug, Default)]
pub(super) struct Query {
    pub terms: Vec<QueryTerm>,
    pub words: Vec<Arc<str>>,
    /// What the need is about, when there is a table that knows any of it.
    pub meaning: Option<Asked>,
    /// Its word pieces, likewise.
    pub pieces: Option<AskedPieces>,
}

/// A word of the need.
struct Heard {
    word: String,
    stem: String,
    kind: Kind,
    stop: bool,
    said: Said,
}

impl Query {
    pub(super) fn new<'k>(need: &str, keys: impl Iterator<Item = &'k str>, index: &Index, words: &Words) -> Self {
        let heard = hear(need, words);
        let mut query = Self::default();
        let all_stop = heard.iter().all(|h| h.stop);
        let all_faint = heard.iter().all(|h| h.said != Said::Much);
        let role = |said: Said| if said == Said::Much || all_faint { Role::Content } else { Role::Support };
        for h in heard.iter().filter(|h| all_stop || !h.stop) {
            let weight = if h.said == Said::Little { FAINT } else { 1.0 };
            query.add_word(h, weight, role(h.said), index, words);
        }
        query.add_joined(&heard, role, index, words);
        if query.terms.iter().all(|t| t.role == Role::Support) && names_only_things(&heard) {
            query.terms.iter_mut().for_each(|t| t.role = Role::Content);
        }
        query.add_keys(keys, index, words);
        // Stable: within a role the need's own order decides how sums round.
        query.terms.sort_by_key(|t| t.role);
        query
    }

    /// Takes in what the need is about, and how much its words tell in general.
    pub(super) fn mean(&mut self, need: &str, table: &DenseTable) {
        let (meaning, pieces) = table.read(cut(need, NEED_BYTES_MAX));
        self.meaning = (!meaning.is_zero()).then(|| Asked::new(&meaning));
        self.pieces = AskedPieces::new(table, pieces);
        self.terms.iter_mut().for_each(|t| t.weight *= table.telling(&self.words[t.word]));
    }

    fn add(&mut self, term: Term, weight: f32, role: Role, word: usize) {
        match self.terms.iter_mut().find(|t| t.term == term) {
            Some(known) => {
                known.role = known.role.min(role);
                if known.weight < weight {
                    (known.weight, known.word) = (weight, word);
                }
            }
            None => self.terms.push(QueryTerm { term, weight, role, word }),
        }
    }

    fn add_word(&mut self, heard: &Heard, weight: f32, role: Role, index: &Index, words: &Words) {
        let word = self.words.len();
        self.words.push(heard.word.as_str().into());
        let stem = heard.stem.as_str();
        match index.term(stem) {
            Some(term) => self.add(term, weight, role, word),
            None => self.add_spellings(stem, weight, role, word, index, words),
        }
        for synonym in words.synonyms(stem) {
            if let Some(term) = index.term(synonym) {
                let faint = if words.said(synonym) == Said::Little { FAINT } else { 1.0 };
                self.add(term, SYNONYM * faint, role, word);
            }
        }
    }

    /// A word no tool has: longer words that begin with it, else its own longest known beginning, else two known halves.
    fn add_spellings(&mut self, stem: &str, weight: f32, role: Role, word: usize, index: &Index, words: &Words) {
        let spaceless = stem.chars().nth(1).is_none() && !stem.is_ascii();
        if stem.len() < SPELLED_BYTES_MIN && !spaceless {
            return;
        }
        let before = self.terms.len();
        let near = index.terms_from(stem, SPELLING_LETTERS_MAX);
        for term in near.into_iter().take(SPELLINGS_MAX) {
            self.add(term, weight * NEAR, role, word);
        }
        if self.terms.len() > before || !stem.is_ascii() {
            return;
        }
        let shortest = SPELLED_BYTES_MIN.max(stem.len().saturating_sub(SPELLING_LETTERS_MAX));
        if let Some(term) = (shortest..stem.len()).rev().find_map(|end| index.term(&stem[..end])) {
            self.add(term, weight * NEAR, role, word);
            return;
        }
        let half = |text: &str| index.term(&words.stem(text));
        let halves = (HALF_BYTES_MIN..stem.len().saturating_sub(HALF_BYTES_MIN - 1))
            .find_map(|at| Some([half(&stem[..at])?, half(&stem[at..])?]));
        for term in halves.into_iter().flatten() {
            self.add(term, weight * NEAR, role, word);
        }
    }

    /// Neighbours that the catalogue writes as one word: `file system` for `filesystem`.
    fn add_joined(&mut self, heard: &[Heard], role: impl Fn(Said) -> Role, index: &Index, words: &Words) {
        let mut parts = heard.iter().filter(|h| h.kind == Kind::Word);
        let Some(mut left) = parts.next() else { return };
        for right in parts {
            if !left.stop && !right.stop && left.word.is_ascii() && right.word.is_ascii() {
                let joined = format!("{}{}", left.word, right.word);
                let known = index.term(&words.stem(&joined));
                if let Some(term) = known.filter(|t| self.terms.iter().all(|q| q.term != *t)) {
                    let said = if left.said == Said::Much { left.said } else { right.said };
                    self.words.push(format!("{} {}", left.word, right.word).into());
                    self.add(term, JOINED, role(said), self.words.len() - 1);
                }
            }
            left = right;
        }
    }

    /// The input's property names: they tell apart tools that the words bring in.
    fn add_keys<'k>(&mut self, keys: impl Iterator<Item = &'k str>, index: &Index, words: &Words) {
        for key in keys.take(INPUT_KEYS_MAX) {
            tokens(cut(key, NEED_BYTES_MAX), |token, kind| {
                let stem = words.stem(token);
                let known = if words.is_stop(token) || kind == Kind::Whole { None } else { index.term(&stem) };
                if let Some(term) = known.filter(|t| self.terms.iter().all(|q| q.term != *t)) {
                    self.words.push(token.into());
                    self.add(term, INPUT_KEY, Role::Support, self.words.len() - 1);
                }
            });
        }
    }
}

/// Whether all that is said beside words of asking is the name of a thing, such as `JobStore`: it is what a tool is to work on and tells of no
/// tool, so that the words of asking must do.
fn names_only_things(heard: &[Heard]) -> bool {
    let is_name = |h: &Heard| heard.iter().any(|whole| whole.kind == Kind::Whole && whole.word.contains(&h.word));
    heard.iter().filter(|h| h.said == Said::Much).all(is_name)
}

/// The words of the need in order, each stem once.
fn hear(need: &str, words: &Words) -> Vec<Heard> {
    let mut heard: Vec<Heard> = Vec::new();
    let mut counted = 0;
    tokens(cut(need, NEED_BYTES_MAX), |token, kind| {
        let stop = words.is_stop(token);
        if counted == NEED_WORDS_MAX || heard.len() == 4 * NEED_WORDS_MAX {
            return;
        }
        let stem = words.stem(token);
        if heard.iter().any(|h| h.stem == stem.as_ref()) {
            return;
        }
        counted += usize::from(!stop);
        let said = if stop { Said::Nothing } else { words.said(&stem) };
        heard.push(Heard { word: token.to_owned(), stem: stem.into_owned(), kind, stop, said });
    });
    heard
}
