//! The inverted index of some tools: for each term the tools that have it, with what it is worth there, ready made.
//!
//! Built once, never changed, and shared by all snapshots that have these tools. How rare a term is all parts of a snapshot tell together.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::Arc,
};

use serde_json::Value;

use super::{
    fields::{Counts, FIELDS, Field, Lengths, field_share, texts, worth},
    meaning::meaning,
    tokens::{Kind, tokens},
    words::Words,
};
use crate::matching::{
    Capability,
    dense::{DenseTable, Vectors},
    schema::Outline,
};

/// A term in a tool.
#[derive(Debug, Clone, Copy)]
pub(super) struct Posting {
    /// Which tool of the part.
    pub tool: u32,
    /// What the term adds to its score, before its rarity.
    pub worth: f32,
}

/// The index of some tools.
#[derive(Debug)]
pub(super) struct Part {
    /// Ordered by id.
    tools: Vec<Arc<Capability>>,
    /// Sorted; the place of a term is its number.
    terms: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u32>,
    /// Where the postings of a term begin; one more than terms.
    starts: Vec<usize>,
    /// By term, then by tool.
    postings: Vec<Posting>,
    /// Beside `postings`: needed only to say reasons.
    counts: Vec<Counts>,
    /// By tool.
    lengths: Vec<Lengths>,
    /// By tool.
    outlines: Vec<Outline>,
    /// By tool: a number that tools with the same lane and resources share.
    groups: Vec<u32>,
    /// By group: one tool of it.
    examples: Vec<u32>,
    /// By tool, when there is a table.
    vectors: Option<Vectors>,
}

/// What is gathered before terms have their final order.
#[derive(Default)]
struct Gathered {
    /// Stem to its number in order of appearance.
    numbers: HashMap<String, u32>,
    /// Token to the number of its stem and whether it is grammar, so that a token is stemmed once.
    known: HashMap<String, (u32, bool)>,
    lists: Vec<Vec<(u32, Counts)>>,
}

impl Gathered {
    fn number(&mut self, token: &str, words: &Words) -> (u32, bool) {
        if let Some(known) = self.known.get(token) {
            return *known;
        }
        let stem = words.stem(token);
        let number = match self.numbers.get(stem.as_ref()) {
            Some(number) => *number,
            None => {
                let next =
                    u32::try_from(self.lists.len()).expect("a term takes more than a byte of a catalogue in memory");
                self.lists.push(Vec::new());
                self.numbers.insert(stem.into_owned(), next);
                next
            }
        };
        let known = (number, words.is_stop(token));
        self.known.insert(token.to_owned(), known);
        known
    }
}

impl Part {
    /// The index of these tools, which are ordered by id.
    pub(super) fn build(tools: Vec<Arc<Capability>>, words: &Words, table: Option<&DenseTable>) -> Self {
        let mut gathered = Gathered::default();
        let mut lengths = Vec::with_capacity(tools.len());
        let mut outlines = Vec::with_capacity(tools.len());
        let mut groups = Vec::with_capacity(tools.len());
        let mut examples = Vec::new();
        let mut group_numbers = HashMap::new();
        let mut occurrences: Vec<(u32, Field)> = Vec::new();
        let mut vectors = table.map(|table| (table, Vectors::with_dimensions(table.dimensions())));
        for (tool, capability) in (0_u32..).zip(&tools) {
            let schema: Value = capability.input_schema.view().unwrap_or_default();
            occurrences.clear();
            let mut words_of = Lengths::default();
            texts(capability, &schema, |field, text| {
                tokens(text, |token, kind| {
                    let (number, stop) = gathered.number(token, words);
                    if stop && !field.keeps_stop_words() {
                        return;
                    }
                    occurrences.push((number, field));
                    // A compound is counted once, by its parts.
                    if kind == Kind::Word {
                        words_of[field.at()] = words_of[field.at()].saturating_add(1);
                    }
                });
            });
            for (number, field) in &occurrences {
                let list = &mut gathered.lists[*number as usize];
                if list.last().is_none_or(|(last, _)| *last != tool) {
                    list.push((tool, [0; FIELDS]));
                }
                let (_, counts) = list.last_mut().expect("an entry was just seen to");
                counts[field.at()] = counts[field.at()].saturating_add(1);
            }
            lengths.push(words_of);
            outlines.push(Outline::of(&schema));
            if let Some((table, vectors)) = &mut vectors {
                let (vector, pieces) = meaning(capability, &schema, table);
                vectors.push(&vector, pieces);
            }
            let (lane, resources) = (&capability.terms.lane, &capability.terms.resources);
            let place = (lane.clone(), resources.clone());
            let group = *group_numbers.entry(place).or_insert_with(|| {
                examples.push(tool);
                examples.len() - 1
            });
            groups.push(u32::try_from(group).expect("no more groups than tools"));
        }
        let vectors = vectors.map(|(_, vectors)| vectors);
        Self::ordered(tools, gathered, lengths, outlines, (groups, examples), vectors)
    }

    fn ordered(
        tools: Vec<Arc<Capability>>,
        gathered: Gathered,
        lengths: Vec<Lengths>,
        outlines: Vec<Outline>,
        (groups, examples): (Vec<u32>, Vec<u32>),
        vectors: Option<Vectors>,
    ) -> Self {
        let mut lists = gathered.lists;
        let mut order: Vec<(String, u32)> = gathered.numbers.into_iter().collect();
        order.sort_unstable();
        // Grammar words seen only where they do not count have no postings.
        order.retain(|(_, number)| !lists[*number as usize].is_empty());
        let total = lists.iter().map(Vec::len).sum();
        let (mut postings, mut counts) = (Vec::with_capacity(total), Vec::with_capacity(total));
        let mut starts = Vec::with_capacity(order.len() + 1);
        let mut terms = Vec::with_capacity(order.len());
        for (term, number) in order {
            let list = std::mem::take(&mut lists[number as usize]);
            starts.push(postings.len());
            terms.push(Arc::<str>::from(term));
            for (tool, of) in &list {
                let worth = worth(of, &lengths[*tool as usize]);
                postings.push(Posting { tool: *tool, worth });
                counts.push(*of);
            }
        }
        starts.push(postings.len());
        let numbers = terms.iter().cloned().zip(0..).collect();
        Self { tools, terms, numbers, starts, postings, counts, lengths, outlines, groups, examples, vectors }
    }

    /// The tools, ordered by id; the place of a tool is its number.
    pub(super) fn tools(&self) -> &[Arc<Capability>] {
        &self.tools
    }

    /// Present when it was built with a table.
    pub(super) fn vectors(&self) -> Option<&Vectors> {
        self.vectors.as_ref()
    }

    pub(super) fn outline(&self, tool: u32) -> &Outline {
        &self.outlines[tool as usize]
    }

    /// A number that tools with the same lane and resources share.
    pub(super) fn group(&self, tool: u32) -> u32 {
        self.groups[tool as usize]
    }

    /// One tool of each group, by number of the group.
    pub(super) fn examples(&self) -> &[u32] {
        &self.examples
    }

    /// The number of a term.
    pub(super) fn term(&self, stem: &str) -> Option<u32> {
        self.numbers.get(stem).copied()
    }

    /// The terms that begin with `prefix`.
    pub(super) fn terms_from<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        let first = self.terms.partition_point(|t| t.as_ref() < prefix);
        self.terms[first..].iter().map(AsRef::as_ref).take_while(move |t: &&str| t.starts_with(prefix))
    }

    fn range(&self, term: u32) -> Range<usize> {
        self.starts[term as usize]..self.starts[term as usize + 1]
    }

    /// The tools that have a term, in their order.
    pub(super) fn postings(&self, term: u32) -> &[Posting] {
        &self.postings[self.range(term)]
    }

    /// What a term is worth in a tool, and how that is shared among the fields it stands in.
    pub(super) fn shares(&self, term: u32, tool: u32) -> Option<(f32, [f32; FIELDS])> {
        let at = self.postings(term).binary_search_by_key(&tool, |p| p.tool).ok()? + self.starts[term as usize];
        let (counts, lengths) = (&self.counts[at], &self.lengths[tool as usize]);
        let shares = Field::ALL.map(|f| field_share(f, counts, lengths));
        let sum: f32 = shares.iter().sum();
        Some((self.postings[at].worth, shares.map(|s| s / sum)))
    }

    /// The different terms of one tool: read anew, since only a tool that is gone is asked for them.
    pub(super) fn terms_of(&self, tool: u32, words: &Words) -> HashSet<u32> {
        let capability = &self.tools[tool as usize];
        let schema: Value = capability.input_schema.view().unwrap_or_default();
        let mut terms = HashSet::new();
        texts(capability, &schema, |field, text| {
            tokens(text, |token, _| {
                if !words.is_stop(token) || field.keeps_stop_words() {
                    terms.extend(self.term(&words.stem(token)));
                }
            });
        });
        terms
    }

    #[cfg(test)]
    pub(super) fn text_of(&self, term: u32) -> &str {
        &self.terms[term as usize]
    }
}
