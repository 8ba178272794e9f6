//! What the past says of a need: for each capability the log of how much likelier it is, now that the need is known, than before.
//!
//! Statistics of counts, nothing is trained. Three kinds of evidence are added up: each word, by how often it was said when the capability
//! served and when others did; what the need is about, by the mean of what the capability served (see [`super::meanings`]); and the most
//! similar past needs, each a vote that grows steeply with the similarity, so that few near needs outweigh many far ones.

use std::sync::Arc;

use super::{memory::Memory, reader::Heard};
use crate::{
    id::CapabilityId,
    matching::{Capability, Catalog},
};

/// Most capabilities that the past brings in for one need.
const RECALLED_MAX: usize = 32;
/// As many are looked into for that, those first of which words and votes say most.
const LOOKED_UP_MAX: usize = 64;
/// Most entries of word lists that are read for one need, the rarest words first: a word that most needs have says nothing and costs most.
const POSTINGS_MAX: usize = 4_096;
/// As many past needs are held against the need by what they are about: those that are the most similar by words.
const NEAR_MAX: usize = 256;
/// Past needs that are taken to have been, none with a word of this one: a short past cannot tell which words are rare.
const NEEDS_PRIOR: f32 = 64.0;
/// How often a word is taken to have been said to a capability, beside how often it was.
const WORD_PRIOR: f32 = 0.05;
/// How many words are taken to have been said to a capability, beside those that were.
const WORDS_PRIOR: f32 = 300.0;
/// What a need is about against its words, of which several say the same: evidence that is counted twice is overrated.
const MEANING: f32 = 0.4;
/// How votes are cast: by words alone, or by words and what the needs are about.
const BY_WORDS: Ballot = Ballot { meaning: 0.0, power: 3, little: 0.02, weight: 4.0 };
const BY_BOTH: Ballot = Ballot { meaning: 0.4, power: 6, little: 0.005, weight: 1.5 };
/// Past needs from which on words and meaning are believed half: what so few say is much by chance.
const NEEDS_HALF: f32 = 50.0;
/// Calls of a capability from which on it is half known.
const CALLS_HALF: f32 = 2.0;
/// From here on past needs count as similar when they are counted for people.
const SIMILAR_MIN: f32 = 0.25;
/// As much of a past need is told, in bytes.
const EXAMPLE_BYTES_MAX: usize = 120;

/// How similar past needs vote.
struct Ballot {
    /// Share of the similarity in meaning in all of it.
    meaning: f32,
    /// What the similarity is raised to.
    power: i32,
    /// Votes so few say nothing yet.
    little: f32,
    /// The log of the votes against a word.
    weight: f32,
}

/// A capability with what the past says of it.
#[derive(Debug, Clone)]
pub(super) struct Recalled {
    pub capability: Arc<Capability>,
    /// Log of how much likelier it is than before; below zero when it is less likely, or mostly failed.
    pub evidence: f32,
    /// How far the capability is known: 0 for one that was never called, near 1 for one that often was.
    pub known: f32,
    pub served: u32,
    pub refused: u32,
    /// The past need that said most; `None` when none shares a word with this one.
    pub similar: Option<String>,
}

/// What the past says of one need.
#[derive(Debug, Default)]
pub(super) struct Recall {
    /// How far words and meaning are believed: 0 when nothing was learned yet, near 1 when much was.
    pub confidence: f32,
    /// The most telling first; empty when the past knows nothing like this need.
    pub recalled: Vec<Recalled>,
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
    of_term: Vec<u32>,
}

/// What was found of one capability.
#[derive(Debug, Clone, Copy, Default)]
struct Said {
    met: bool,
    /// How much of one term was said to it.
    count: f32,
    /// Evidence of the words.
    words: f32,
    vote: f32,
    served: u32,
    refused: u32,
    best: f32,
    example: u32,
}

impl Scratch {
    /// What `memory` says of a need, about capabilities of `catalog` that `fits` admits: the most telling, and those that are `asked` about.
    pub(super) fn recall(
        &mut self,
        memory: &Memory,
        need: &Heard,
        (catalog, fits): (&Catalog, &dyn Fn(&Capability) -> bool),
        asked: &[&CapabilityId],
    ) -> Recall {
        let heard = self.listen(memory, &need.terms);
        let of_meaning = need.meaning.as_ref().and_then(|meaning| memory.meanings().ask(meaning));
        let ballot = if of_meaning.is_some() { BY_BOTH } else { BY_WORDS };
        self.vote(
            memory,
            |past, similar| {
                let near = of_meaning.as_ref().map_or(0.0, |asked| memory.meanings().cosine(past, asked).max(0.0));
                (ballot.meaning * near + (1.0 - ballot.meaning) * similar).powi(ballot.power)
            },
            of_meaning.is_some(),
        );
        let (all, scale) = (memory.known_of_all(), memory.scale());
        let confidence = weight(all.served, scale) / (weight(all.served, scale) + NEEDS_HALF);
        let of_all = weight(all.mass, scale);
        let by_words = |c: u32| {
            let said = &self.said[c as usize];
            let vote = ballot.weight * said.vote.signum() * (said.vote.abs() / ballot.little).ln_1p();
            // What the words speak against it, the more the more was said to it that was none of them.
            let own = weight(memory.known(c).mass, scale);
            let rest = ((own + WORDS_PRIOR) / ((of_all - own).max(0.0) + WORDS_PRIOR)).ln();
            confidence * (said.words - heard * rest) + vote
        };
        let asked: Vec<u32> = asked.iter().filter_map(|id| memory.number_of_capability(id)).collect();
        let mut found = self.most_telling(memory, by_words);
        found.extend(asked.iter().filter(|c| !found.contains(c)).copied().collect::<Vec<_>>());
        let evidence = |c: u32| {
            let known = memory.known(c);
            let leaning = of_meaning
                .as_ref()
                .map_or(0.0, |asked| memory.meanings().leaning(c, asked, weight(known.served, 1.0), scale));
            by_words(c) + confidence * MEANING * leaning
        };
        let mut found: Vec<(f32, u32)> = found.into_iter().map(|c| (evidence(c), c)).collect();
        let ids = memory.capabilities();
        found.sort_by(|(a, x), (b, y)| b.total_cmp(a).then_with(|| ids[*x as usize].cmp(&ids[*y as usize])));
        let mut recall = Recall { confidence, recalled: Vec::new() };
        if self.said.iter().any(|said| said.vote != 0.0) {
            let mut brought = 0;
            for (evidence, c) in found {
                if brought == RECALLED_MAX && !asked.contains(&c) {
                    continue;
                }
                if let Some(capability) = catalog.get(&ids[c as usize]).filter(|capability| fits(capability)) {
                    brought += usize::from(!asked.contains(&c));
                    recall.recalled.push(self.recalled(memory, Arc::clone(capability), (c, evidence)));
                }
            }
        }
        self.clear();
        recall
    }

    fn recalled(&self, memory: &Memory, capability: Arc<Capability>, (c, evidence): (u32, f32)) -> Recalled {
        let said = &self.said[c as usize];
        let tried = weight(memory.known(c).tried, memory.scale());
        // Where none is similar enough to be counted, the most telling is.
        let (served, refused) = match (said.served, said.refused, said.vote != 0.0) {
            (0, 0, true) => {
                let best = memory.weighed(said.example);
                (best.served.into(), best.refused.into())
            }
            (served, refused, _) => (served, refused),
        };
        let similar = (said.vote != 0.0).then(|| example(memory.need(said.example)));
        Recalled { capability, evidence, known: tried / (tried + CALLS_HALF), served, refused, similar }
    }

    /// How similar each past need is by words, and what each word says of each capability; answers how much was said.
    fn listen(&mut self, memory: &Memory, need: &[(String, f32)]) -> f32 {
        self.similar.resize(self.similar.len().max(memory.needs()), 0.0);
        self.said.resize(self.said.len().max(memory.capabilities().len()), Said::default());
        let all = memory.needs() as f32 + NEEDS_PRIOR;
        let weighed: Vec<(Option<u32>, f32, f32)> = need
            .iter()
            .map(|(term, weight)| {
                let number = memory.number_of(term);
                let has = number.map_or(0, |number| memory.postings(number).len()) as f32;
                (number, *weight, weight * (all / (has + 0.5)).ln().max(0.0))
            })
            .collect();
        let rarity: f32 = weighed.iter().map(|(.., rare)| rare * rare).sum();
        let size: f32 = need.iter().map(|(_, weight)| weight * weight).sum::<f32>().sqrt();
        if rarity <= 0.0 {
            return 0.0;
        }
        let mut known: Vec<(&[u32], f32, f32)> = weighed
            .into_iter()
            .filter_map(|(number, weight, rare)| Some((memory.postings(number?), weight, rare * rare * size / rarity)))
            .collect();
        known.sort_by_key(|(postings, ..)| postings.len());
        let (mut heard, mut read, scale) = (0.0, 0, memory.scale());
        for (postings, weight, share) in known {
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
                        self.of_term.push(known.capability);
                    }
                    said.count += known.net * scale * known.norm * weight;
                }
            }
            self.count_term(weight);
            heard += weight;
        }
        heard
    }

    /// Turns what was counted of a term into evidence.
    fn count_term(&mut self, weight: f32) {
        let Self { said, of_term, .. } = self;
        let of_all: f32 = of_term.iter().map(|c| said[*c as usize].count).sum();
        for c in of_term.drain(..) {
            let said = &mut said[c as usize];
            let count = std::mem::take(&mut said.count);
            let likelier = (1.0 + count / WORD_PRIOR) / (1.0 - count / (of_all + WORD_PRIOR));
            said.words += weight * likelier.ln();
        }
    }

    /// Counts the votes, each made of a past need and its similarity by words; with `near_only` only those of the most similar.
    fn vote(&mut self, memory: &Memory, cast: impl Fn(u32, f32) -> f32, near_only: bool) {
        let Self { touched, similar, said, .. } = self;
        let mut voters = touched.as_mut_slice();
        if near_only && voters.len() > NEAR_MAX {
            let nearer = |a: &u32, b: &u32| similar[*b as usize].total_cmp(&similar[*a as usize]).then(a.cmp(b));
            voters = voters.select_nth_unstable_by(NEAR_MAX, nearer).0;
        }
        let scale = memory.scale();
        for past in voters {
            let known = memory.weighed(*past);
            let similar = similar[*past as usize].min(1.0);
            let vote = cast(*past, similar) * known.net * scale;
            let said = &mut said[known.capability as usize];
            said.vote += vote;
            if similar >= SIMILAR_MIN {
                said.served += u32::from(known.served);
                said.refused += u32::from(known.refused);
            }
            if vote.abs() > said.best || (vote.abs() == said.best && *past < said.example) {
                (said.best, said.example) = (vote.abs(), *past);
            }
        }
    }

    /// The capabilities that share a word with the need, the first of them by `evidence`.
    fn most_telling(&self, memory: &Memory, evidence: impl Fn(u32) -> f32) -> Vec<u32> {
        let mut found: Vec<(f32, u32)> = self.met.iter().map(|c| (evidence(*c), *c)).collect();
        if found.len() > LOOKED_UP_MAX {
            let ids = memory.capabilities();
            found.select_nth_unstable_by(LOOKED_UP_MAX, |(a, x), (b, y)| {
                b.total_cmp(a).then_with(|| ids[*x as usize].cmp(&ids[*y as usize]))
            });
            found.truncate(LOOKED_UP_MAX);
        }
        found.into_iter().map(|(_, c)| c).collect()
    }

    fn clear(&mut self) {
        self.touched.drain(..).for_each(|past| self.similar[past as usize] = 0.0);
        self.met.drain(..).for_each(|c| self.said[c as usize] = Said::default());
        self.of_term.clear();
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a weight needs no more")]
fn weight(forward: f64, scale: f32) -> f32 {
    (forward.max(0.0) * f64::from(scale)) as f32
}

fn example(need: &str) -> String {
    let line = need.split_whitespace().collect::<Vec<_>>().join(" ");
    let end = line.floor_char_boundary(EXAMPLE_BYTES_MAX);
    if end == line.len() { line } else { format!("{}…", &line[..end]) }
}
