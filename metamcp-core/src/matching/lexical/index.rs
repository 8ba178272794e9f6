//! The index of one catalogue snapshot: a few parts, shared with the snapshots before it, and which of their tools it still has.
//!
//! A snapshot that differs by one server costs one small part. Whatever the parts, a need gets the same scores: how rare a term is they
//! tell together, and a tool that is gone is not counted.

use std::{cmp::Ordering, collections::HashMap, sync::Arc};

use super::{
    fields::{FIELDS, rarity},
    part::{Part, Posting},
    words::Words,
};
use crate::matching::{
    Capability, Catalog,
    dense::{DenseTable, Vectors},
    schema::Outline,
};

/// Most parts of an index: each costs a look-up for every word of a need.
const PARTS_MAX: usize = 4;
/// A part that has lost this many of its tools is built anew, or
const GONE_MAX: usize = 64;
/// one of this many of them if that is more.
const GONE_SHARE: usize = 16;
/// Tools that are read are few when they are one of this many of all.
const FEW_SHARE: usize = 16;
/// Place of a tool that the snapshot does not have.
const GONE: u32 = u32::MAX;
/// Number of a term that a part does not have.
const ABSENT: u32 = u32::MAX;

/// A term, by its number in each part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Term([u32; PARTS_MAX]);

/// A part as one snapshot has it.
#[derive(Debug)]
struct Held {
    part: Arc<Part>,
    /// By tool of the part: its place in the catalogue, or [`GONE`].
    places: Vec<u32>,
    /// Terms of tools that are gone, with how many of those have them.
    lost: HashMap<u32, u32>,
    /// Groups of the parts before.
    groups_before: u32,
}

/// The index of one snapshot.
#[derive(Debug)]
pub(super) struct Index {
    catalog: Catalog,
    /// Largest first.
    parts: Vec<Held>,
    /// By place in the catalogue: part and number in it.
    found_at: Vec<(u8, u32)>,
}

/// What an older index has of a snapshot.
struct Plan {
    /// Parts that stay, with the places of their tools.
    kept: Vec<(Arc<Part>, Vec<u32>)>,
    /// Places of the tools that need a new part.
    new: Vec<u32>,
}

impl Plan {
    /// The one that reads fewest tools; the first that reads few will do.
    fn best(older: &[Arc<Index>], catalog: &Catalog) -> Self {
        let tools = catalog.capabilities().len();
        let mut best =
            Self { kept: Vec::new(), new: (0..).zip(catalog.capabilities()).map(|(place, _)| place).collect() };
        for index in older {
            if best.new.len() <= tools / FEW_SHARE {
                break;
            }
            let plan = Self::of(index, catalog);
            if plan.new.len() < best.new.len() {
                best = plan;
            }
        }
        best
    }

    fn of(older: &Index, catalog: &Catalog) -> Self {
        let mut missing = vec![true; catalog.capabilities().len()];
        let mut kept = Vec::new();
        for held in &older.parts {
            let places = places(held.part.tools(), catalog.capabilities());
            let lost = places.iter().filter(|place| **place == GONE).count();
            if lost <= GONE_MAX.max(places.len() / GONE_SHARE) && lost < places.len() {
                places.iter().filter(|place| **place != GONE).for_each(|place| missing[*place as usize] = false);
                kept.push((held.part.clone(), places));
            }
        }
        let mut new: Vec<u32> = (0..).zip(missing).filter_map(|(place, missing)| missing.then_some(place)).collect();
        // Small parts go into the new one: sizes stay far apart, so that a tool is read again few times in its life.
        while let Some((part, places)) = kept.pop() {
            if new.is_empty() || part.tools().len() > 2 * new.len() && kept.len() + 1 < PARTS_MAX {
                kept.push((part, places));
                break;
            }
            new.extend(places.into_iter().filter(|place| *place != GONE));
        }
        new.sort_unstable();
        Self { kept, new }
    }
}

/// By tool of a part its place in the catalogue; both are ordered by id.
fn places(part: &[Arc<Capability>], catalog: &[Arc<Capability>]) -> Vec<u32> {
    let mut rest = (0_u32..).zip(catalog).peekable();
    let place = |tool: &Arc<Capability>| {
        while let Some((place, other)) = rest.peek() {
            let (place, same) = (*place, Arc::ptr_eq(tool, other));
            match if same { Ordering::Equal } else { other.id.cmp(&tool.id) } {
                Ordering::Less => rest.next(),
                Ordering::Equal => {
                    rest.next();
                    return if same { place } else { GONE };
                }
                Ordering::Greater => return GONE,
            };
        }
        GONE
    };
    part.iter().map(place).collect()
}

impl Index {
    /// The index of a snapshot, with the parts of `older` ones that it can use.
    pub(super) fn build(catalog: &Catalog, words: &Words, table: Option<&DenseTable>, older: &[Arc<Self>]) -> Self {
        let Plan { mut kept, new } = Plan::best(older, catalog);
        if !new.is_empty() {
            let tools = new.iter().map(|place| catalog.capabilities()[*place as usize].clone()).collect();
            kept.push((Arc::new(Part::build(tools, words, table)), new));
        }
        let mut found_at = vec![(0, 0); catalog.capabilities().len()];
        let mut groups_before = 0;
        let mut parts = Vec::with_capacity(kept.len());
        for ((part, places), number) in kept.into_iter().zip(0_u8..) {
            let mut lost = HashMap::new();
            for (tool, place) in (0_u32..).zip(&places) {
                if *place == GONE {
                    part.terms_of(tool, words).into_iter().for_each(|term| *lost.entry(term).or_default() += 1);
                } else {
                    found_at[*place as usize] = (number, tool);
                }
            }
            let groups = u32::try_from(part.examples().len()).expect("no more groups than tools");
            parts.push(Held { part, places, lost, groups_before });
            groups_before += groups;
        }
        Self { catalog: catalog.clone(), parts, found_at }
    }

    /// The revision of the snapshot it was built from.
    pub(super) const fn revision(&self) -> u64 {
        self.catalog.revision()
    }

    fn at(&self, place: u32) -> (usize, &Part, u32) {
        let (part, tool) = self.found_at[place as usize];
        (usize::from(part), &self.parts[usize::from(part)].part, tool)
    }

    /// The tool at a place of the catalogue.
    pub(super) fn capability(&self, place: u32) -> &Capability {
        &self.catalog.capabilities()[place as usize]
    }

    pub(super) fn outline(&self, place: u32) -> &Outline {
        let (_, part, tool) = self.at(place);
        part.outline(tool)
    }

    /// The vectors of a tool's part, and its number in it.
    pub(super) fn vector(&self, place: u32) -> Option<(&Vectors, u32)> {
        let (_, part, tool) = self.at(place);
        Some((part.vectors()?, tool))
    }

    /// A term by its stem, when a tool has it.
    pub(super) fn term(&self, stem: &str) -> Option<Term> {
        let mut numbers = [ABSENT; PARTS_MAX];
        for (number, held) in numbers.iter_mut().zip(&self.parts) {
            *number = held.part.term(stem).unwrap_or(ABSENT);
        }
        Some(Term(numbers)).filter(|term| self.tools_with(*term) > 0)
    }

    /// The terms that begin with `prefix` and are at most `longer_max` bytes longer, in the order of their texts.
    pub(super) fn terms_from(&self, prefix: &str, longer_max: usize) -> Vec<Term> {
        let near = self.parts.iter().flat_map(|held| held.part.terms_from(prefix));
        let mut texts: Vec<&str> = near.filter(|text| text.len() - prefix.len() <= longer_max).collect();
        texts.sort_unstable();
        texts.dedup();
        texts.into_iter().filter_map(|text| self.term(text)).collect()
    }

    /// How many tools have a term.
    fn tools_with(&self, term: Term) -> usize {
        let count = |(number, held): (&u32, &Held)| {
            let lost = held.lost.get(number).copied().unwrap_or(0) as usize;
            if *number == ABSENT { 0 } else { held.part.postings(*number).len() - lost }
        };
        term.0.iter().zip(&self.parts).map(count).sum()
    }

    /// What a term counts, the more the fewer tools have it.
    pub(super) fn rarity(&self, term: Term) -> f32 {
        rarity(self.tools_with(term))
    }

    /// What a term adds to the score of a tool, and how that is shared among the fields it stands in.
    pub(super) fn shares(&self, term: Term, place: u32) -> Option<(f32, [f32; FIELDS])> {
        let (number, part, tool) = self.at(place);
        let term_there = term.0[number];
        let (worth, shares) = if term_there == ABSENT { None } else { part.shares(term_there, tool) }?;
        Some((worth * self.rarity(term), shares))
    }

    /// The parts, to be searched one after the other.
    pub(super) fn parts(&self) -> impl Iterator<Item = View<'_>> {
        self.parts.iter().enumerate().map(|(number, held)| View { number, held })
    }

    /// Tools of the largest part, with those that are gone.
    pub(super) fn part_tools_max(&self) -> usize {
        self.parts.iter().map(|held| held.places.len()).max().unwrap_or(0)
    }

    /// One tool of each group: the tools of a group have the same lane and resources.
    pub(super) fn examples(&self) -> impl Iterator<Item = &Capability> {
        self.parts
            .iter()
            .flat_map(|held| held.part.examples().iter().map(|tool| held.part.tools()[*tool as usize].as_ref()))
    }

    #[cfg(test)]
    pub(super) fn text_of(&self, term: Term) -> &str {
        let found = term.0.iter().zip(&self.parts).find(|(number, _)| **number != ABSENT);
        found.map_or("", |(number, held)| held.part.text_of(*number))
    }

    #[cfg(test)]
    pub(super) fn shares_a_part_with(&self, other: &Self) -> bool {
        self.parts.iter().any(|held| other.parts.iter().any(|of| Arc::ptr_eq(&held.part, &of.part)))
    }

    #[cfg(test)]
    pub(super) fn part_count(&self) -> usize {
        self.parts.len()
    }
}

/// One part of a snapshot.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    number: usize,
    held: &'a Held,
}

impl<'a> View<'a> {
    /// Number of tools, with those that are gone.
    pub(super) fn tools(self) -> usize {
        self.held.places.len()
    }

    /// The tools of the part that have a term, in their order.
    pub(super) fn postings(self, term: Term) -> &'a [Posting] {
        let number = term.0[self.number];
        if number == ABSENT { &[] } else { self.held.part.postings(number) }
    }

    pub(super) fn vectors(self) -> Option<&'a Vectors> {
        self.held.part.vectors()
    }

    /// Where a tool of the part stands in the catalogue, if it still does.
    pub(super) fn place(self, tool: u32) -> Option<u32> {
        Some(self.held.places[tool as usize]).filter(|place| *place != GONE)
    }

    /// The group of a tool of the part, as [`Index::examples`] counts them.
    pub(super) fn group(self, tool: u32) -> usize {
        (self.held.groups_before + self.held.part.group(tool)) as usize
    }
}
