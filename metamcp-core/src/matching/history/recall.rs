//! What the past says of a need: each similar past need votes for the capability that served it, and each word leans towards the
//! capabilities it was asked of.
//!
//! Words only, and statistics of counts: nothing is trained. A vote is the cube of the similarity (the cosine of the shared words, by their
//! rarity), so that few near needs outweigh many far ones. A lean is the log of how much likelier a capability is once the word is said,
//! weighted by how much the word tells at all (the divergence of what it was asked of from what is asked of anything).

use std::sync::Arc;

use super::memory::Memory;
use crate::{
    id::CapabilityId,
    matching::{Capability, Catalog, lexical::Terms},
};

/// Most capabilities that the past brings in for one need.
pub(super) const RECALLED_MAX: usize = 32;
/// As many are looked up in the catalogue for that.
const LOOKED_UP_MAX: usize = 128;
/// Most entries of word lists that are read for one need, the rarest words first: a word that most needs have says nothing and costs most.
const POSTINGS_MAX: usize = 4_096;
/// Votes at which a long past is believed half.
const VOTES_HALF: f32 = 0.06;
/// What a past of nothing adds to that: of a few lessons the one that is least unlike the need says little.
const VOTES_HALF_YOUNG: f32 = 0.6;
/// Past needs at which the past is half as young as at its beginning.
const YOUNG_NEEDS: f32 = 50.0;
/// A lean against a vote.
const LEAN: f32 = 0.2;
/// How much evidence a word needs before it leans.
const LEAN_CAUTION: f32 = 0.5;
/// Evidence that every capability is taken to have.
const EVIDENCE_PRIOR: f32 = 0.5;
/// Past needs that are taken to have been, none with a word of this one: a short past cannot tell which words are rare.
const NEEDS_PRIOR: f32 = 64.0;
/// From here on past needs count as similar when they are counted for people.
const SIMILAR_MIN: f32 = 0.25;
/// As much of a past need is told, in bytes.
const EXAMPLE_BYTES_MAX: usize = 120;

/// A capability with what the past says of it.
#[derive(Debug, Clone)]
pub(super) struct Recalled {
    pub capability: Arc<Capability>,
    /// What it adds to a score, -1 to 1 and a little; below zero when it mostly failed.
    pub score: f32,
    pub served: u32,
    pub refused: u32,
    /// The past need that said most.
    pub similar: String,
}

/// What the past says of one need.
#[derive(Debug, Default)]
pub(super) struct Recall {
    /// 0: the past knows nothing like this need; near 1: it knows many.
    pub confidence: f32,
    /// 1: nothing was learned yet; near 0: much was, be it like this need or not.
    pub young: f32,
    /// The most telling first.
    pub recalled: Vec<Recalled>,
    /// Beside the ids that were asked about: how many needs each has served.
    pub evidence: Vec<f32>,
}

/// Memory of one recall, used again; all zero in between.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// By past need.
    similar: Vec<f32>,
    touched: Vec<u32>,
    /// By capability.
    said: Vec<Said>,
    met: Vec<u32>,
    /// The capabilities of one term.
    of_term: Vec<(u32, f32)>,
}

/// What was found of one capability.
#[derive(Debug, Clone, Copy, Default)]
struct Said {
    count: f32,
    met: bool,
    vote: f32,
    lean: f32,
    served: u32,
    refused: u32,
    best: f32,
    example: u32,
}

/// How likely capabilities are before a word is said.
#[derive(Debug, Clone, Copy)]
struct Prior {
    /// Turns forward weights into evidence.
    scale: f32,
    /// Evidence of all capabilities.
    of_all: f32,
}

impl Scratch {
    /// What `memory` says of a need, about capabilities of `catalog` that `fits` admits.
    pub(super) fn recall(
        &mut self,
        memory: &Memory,
        (need, terms): (&str, &Terms),
        (catalog, fits): (&Catalog, &dyn Fn(&Capability) -> bool),
        asked: &[&CapabilityId],
    ) -> Recall {
        let evidence = asked.iter().map(|id| memory.evidence_of(id)).collect();
        self.add(memory, &terms.of(need));
        let found = self.vote(memory);
        let mut recall = Recall { evidence, ..Recall::default() };
        let known = found.iter().filter_map(|number| {
            let capability = catalog.get(&memory.capabilities()[*number as usize])?;
            fits(capability).then(|| (Arc::clone(capability), self.said[*number as usize]))
        });
        let known: Vec<(Arc<Capability>, Said)> = known.take(RECALLED_MAX).collect();
        let total: f32 = known.iter().map(|(_, said)| said.vote.abs()).sum();
        let lean_max = known.iter().map(|(_, said)| said.lean).fold(f32::MIN_POSITIVE, f32::max);
        recall.young = YOUNG_NEEDS / (YOUNG_NEEDS + memory.needs() as f32);
        recall.confidence = total / (total + VOTES_HALF + VOTES_HALF_YOUNG * recall.young);
        if total > 0.0 {
            recall.recalled = known
                .into_iter()
                .map(|(capability, said)| {
                    let lean = if said.vote > 0.0 { LEAN * said.lean.max(0.0) / lean_max } else { 0.0 };
                    let best = memory.weighed(said.example);
                    // Where none is similar enough to be counted, the most telling is.
                    let (served, refused) = match (said.served, said.refused) {
                        (0, 0) => (best.served.into(), best.refused.into()),
                        counted => counted,
                    };
                    Recalled {
                        capability,
                        score: recall.confidence * (said.vote / total + lean),
                        served,
                        refused,
                        similar: example(memory.need(said.example)),
                    }
                })
                .collect();
        }
        self.clear();
        recall
    }

    /// How similar each past need is, and where each word leans.
    fn add(&mut self, memory: &Memory, need: &[(String, f32)]) {
        self.similar.resize(self.similar.len().max(memory.needs()), 0.0);
        self.said.resize(self.said.len().max(memory.capabilities().len()), Said::default());
        let all = memory.needs() as f32 + NEEDS_PRIOR;
        let weighed: Vec<(Option<u32>, f32)> = need
            .iter()
            .map(|(term, weight)| {
                let number = memory.number_of(term);
                let has = number.map_or(0, |number| memory.postings(number).len()) as f32;
                (number, weight * (all / (has + 0.5)).ln().max(0.0))
            })
            .collect();
        let rarity: f32 = weighed.iter().map(|(_, weight)| weight * weight).sum();
        let size: f32 = need.iter().map(|(_, weight)| weight * weight).sum::<f32>().sqrt();
        if rarity <= 0.0 {
            return;
        }
        let scale = memory.scale();
        let prior = Prior {
            scale,
            of_all: memory.evidence_of_all() * scale + EVIDENCE_PRIOR * memory.capabilities().len() as f32,
        };
        let mut known: Vec<(&[u32], f32)> = weighed
            .into_iter()
            .filter_map(|(number, weight)| Some((memory.postings(number?), weight * weight * size / rarity)))
            .collect();
        known.sort_by_key(|(postings, _)| postings.len());
        let (mut floor, mut read) = (0.0, 0);
        for (postings, share) in known {
            read += postings.len();
            if read > POSTINGS_MAX && read > postings.len() {
                break;
            }
            for past in postings {
                let known = memory.weighed(*past);
                let similar = &mut self.similar[*past as usize];
                if *similar == 0.0 {
                    self.touched.push(*past);
                }
                *similar += share * known.norm;
                let said = &mut self.said[known.capability as usize];
                if !said.met {
                    said.met = true;
                    self.met.push(known.capability);
                }
                if known.net > 0.0 {
                    if said.count == 0.0 {
                        self.of_term.push((known.capability, 0.0));
                    }
                    said.count += known.net * scale;
                }
            }
            floor += self.lean(memory, prior);
        }
        self.met.iter().for_each(|c| self.said[*c as usize].lean += floor);
    }

    /// Where the term whose capabilities were just counted leans; answers how it leans towards all that it was never asked of.
    fn lean(&mut self, memory: &Memory, prior: Prior) -> f32 {
        let Self { said, of_term, .. } = self;
        let of_word: f32 = of_term.iter().map(|(c, _)| said[*c as usize].count).sum();
        if of_word == 0.0 {
            return 0.0;
        }
        let unmet = (LEAN_CAUTION / (of_word + LEAN_CAUTION)).ln();
        let (mut tells, mut prior_met) = (0.0, 0.0);
        for (capability, log) in of_term.iter_mut() {
            let count = &mut said[*capability as usize].count;
            let before = (memory.evidence(*capability) * prior.scale + EVIDENCE_PRIOR) / prior.of_all;
            let share = (*count + LEAN_CAUTION * before) / (of_word + LEAN_CAUTION);
            *count = 0.0;
            *log = (share / before).ln();
            tells += share * *log;
            prior_met += before;
        }
        tells += unmet * LEAN_CAUTION * (1.0 - prior_met).max(0.0) / (of_word + LEAN_CAUTION);
        let tells = tells.max(0.0);
        for (capability, log) in of_term.drain(..) {
            said[capability as usize].lean += tells * (log - unmet);
        }
        tells * unmet
    }

    /// Counts the votes; answers the most telling capabilities, the first first.
    fn vote(&mut self, memory: &Memory) -> Vec<u32> {
        let scale = memory.scale();
        for past in &self.touched {
            let known = memory.weighed(*past);
            let similar = self.similar[*past as usize].min(1.0);
            let vote = similar.powi(3) * known.net * scale;
            let said = &mut self.said[known.capability as usize];
            said.vote += vote;
            if similar >= SIMILAR_MIN {
                said.served += u32::from(known.served);
                said.refused += u32::from(known.refused);
            }
            if vote.abs() > said.best || (vote.abs() == said.best && *past < said.example) {
                (said.best, said.example) = (vote.abs(), *past);
            }
        }
        let mut found = self.met.clone();
        found.retain(|c| self.said[*c as usize].vote != 0.0);
        let ids = memory.capabilities();
        let more_telling = |a: &u32, b: &u32| {
            let votes = |c: &u32| self.said[*c as usize].vote.abs();
            votes(b).total_cmp(&votes(a)).then_with(|| ids[*a as usize].cmp(&ids[*b as usize]))
        };
        if found.len() > LOOKED_UP_MAX {
            found.select_nth_unstable_by(LOOKED_UP_MAX, more_telling);
            found.truncate(LOOKED_UP_MAX);
        }
        found.sort_unstable_by(more_telling);
        found
    }

    fn clear(&mut self) {
        self.touched.drain(..).for_each(|past| self.similar[past as usize] = 0.0);
        self.met.drain(..).for_each(|c| self.said[c as usize] = Said::default());
        self.of_term.clear();
    }
}

fn example(need: &str) -> String {
    let line = need.split_whitespace().collect::<Vec<_>>().join(" ");
    let end = line.floor_char_boundary(EXAMPLE_BYTES_MAX);
    if end == line.len() { line } else { format!("{}…", &line[..end]) }
}
