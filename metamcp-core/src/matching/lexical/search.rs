//! Scores every tool that a query touches and keeps the few best, on scratch memory that is used again.
//!
//! A query allocates nothing that grows with the catalogue once the pool is warm, and clears only what it wrote.

use std::{cmp::Ordering, sync::Mutex};

use super::{
    fusion,
    index::{Index, View},
    query::{Query, Role},
};
use crate::matching::Capability;

/// Scratch memories kept for use again.
const POOL_MAX: usize = 64;
/// Scores looked at in one step of a scan.
const LANES: usize = 16;
/// Every tool is looked at when more than this part of them is reached: cheaper than noting which.
const ALL_SHARE: usize = 16;

/// A tool with its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scored {
    /// Its place in the catalogue.
    pub tool: u32,
    pub score: f32,
    /// What of its score the nearness of its pieces has added.
    pub nearness: f32,
}

impl Scored {
    pub(super) const fn new(tool: u32, score: f32) -> Self {
        Self { tool, score, nearness: 0.0 }
    }

    /// Better first; of equals the one that comes first in the catalogue.
    pub(super) fn rank(&self, other: &Self) -> Ordering {
        other.key().cmp(&self.key())
    }

    /// Greater is better. Scores are positive, so their bits are in their order.
    fn key(self) -> u64 {
        u64::from(self.score.to_bits()) << 32 | u64::from(!self.tool)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the two halves of the key")]
    fn of_key(key: u64) -> Self {
        Self::new(!(key as u32), f32::from_bits((key >> 32) as u32))
    }
}

/// The best few.
#[derive(Debug, Default)]
pub(super) struct Top {
    /// Up to twice as many as are wanted: thinned out when full, so that an offer costs little.
    keys: Vec<u64>,
    max: usize,
    /// What a key must exceed.
    floor: u64,
    items: Vec<Scored>,
}

impl Top {
    fn reset(&mut self, max: usize) {
        self.keys.clear();
        self.items.clear();
        self.max = max;
        self.floor = if max == 0 { u64::MAX } else { 0 };
    }

    fn offer(&mut self, new: Scored) {
        let key = new.key();
        if key <= self.floor {
            return;
        }
        self.keys.push(key);
        if self.keys.len() == 2 * self.max {
            let last = self.max - 1;
            let (_, lowest, _) = self.keys.select_nth_unstable_by(last, |a, b| b.cmp(a));
            self.floor = *lowest;
            self.keys.truncate(self.max);
        }
    }

    /// No lower score can matter.
    fn score_floor(&self) -> f32 {
        if self.max == 0 { f32::INFINITY } else { Scored::of_key(self.floor).score }
    }

    fn finish(&mut self) {
        self.keys.sort_unstable_by(|a, b| b.cmp(a));
        self.keys.truncate(self.max);
        self.items.extend(self.keys.iter().map(|key| Scored::of_key(*key)));
    }

    /// Best first, once the search is over.
    pub(super) fn items(&self) -> &[Scored] {
        &self.items
    }
}

/// Memory of one search.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// By term of the query: its weight there and its rarity in one.
    weights: Vec<f32>,
    /// By tool of a part, in whole steps of a scan; all zero between parts.
    scores: Vec<f32>,
    touched: Vec<u32>,
    /// Whether every tool is looked at, so that none need be noted as touched.
    all: bool,
    /// By group: whether it can serve at all.
    fitting: Vec<bool>,
    /// The best that fit.
    pub best: Top,
    /// The best that a hard filter keeps out.
    pub unfit: Top,
}

impl Scratch {
    /// Finds the `best_max` best tools, and with a filter the `unfit_max` best whose group it refuses.
    ///
    /// `fits` is asked once a group of tools, with one of them.
    pub(super) fn search(
        &mut self,
        query: &Query,
        index: &Index,
        (best_max, unfit_max): (usize, usize),
        fits: Option<&dyn Fn(&Capability) -> bool>,
    ) {
        self.best.reset(best_max);
        self.unfit.reset(unfit_max);
        let blocks = index.part_tools_max().next_multiple_of(LANES);
        if self.scores.len() < blocks {
            self.scores.resize(blocks, 0.0);
        }
        let mut fitting = std::mem::take(&mut self.fitting);
        fitting.clear();
        fitting.extend(fits.iter().flat_map(|fits| index.examples().map(fits)));
        let all_fit = fitting.iter().all(|fits| *fits);
        if all_fit {
            self.unfit.reset(0);
        }
        self.weights.clear();
        self.weights.extend(query.terms.iter().map(|t| t.weight * index.rarity(t.term)));
        for view in index.parts() {
            self.add(query, view);
            self.collect(view, |best, unfit, tool, scored| {
                let to = if all_fit || fitting[view.group(tool)] { best } else { unfit };
                to.offer(scored);
            });
        }
        self.fitting = fitting;
        self.best.finish();
        self.unfit.finish();
    }

    /// Adds to the scores of the first few what the nearness of their pieces is worth, and puts those few in order again.
    ///
    /// They stay before the rest, as nothing is taken from a score.
    pub(super) fn look_closer(&mut self, query: &Query, index: &Index) {
        let Some(need) = &query.pieces else { return };
        for top in [&mut self.best, &mut self.unfit] {
            let few = top.items.len().min(fusion::CLOSER_MAX);
            let few = &mut top.items[..few];
            for scored in &mut *few {
                let vector = index.vector(scored.tool);
                scored.nearness = vector.map_or(0.0, |(vectors, number)| fusion::nearness(vectors, number, need));
                scored.score += scored.nearness;
            }
            few.sort_unstable_by(Scored::rank);
        }
    }

    fn add(&mut self, query: &Query, view: View<'_>) {
        let content = query.terms.iter().filter(|t| t.role == Role::Content);
        let reach: usize = content.map(|t| view.postings(t.term).len()).sum();
        let meaning = view.vectors().zip(query.meaning.as_ref());
        self.all = meaning.is_some() || reach > view.tools() / ALL_SHARE;
        let scores = &mut self.scores[..view.tools()];
        self.touched.clear();
        for (t, weight) in query.terms.iter().zip(&self.weights) {
            let postings = view.postings(t.term);
            match (t.role, self.all) {
                (Role::Content, true) => {
                    for p in postings {
                        scores[p.tool as usize] += p.worth * weight;
                    }
                }
                (Role::Content, false) => {
                    for p in postings {
                        let score = &mut scores[p.tool as usize];
                        if *score == 0.0 {
                            self.touched.push(p.tool);
                        }
                        *score += p.worth * weight;
                    }
                }
                (Role::Support, _) => {
                    for p in postings {
                        let score = &mut scores[p.tool as usize];
                        if *score != 0.0 {
                            *score += p.worth * weight;
                        }
                    }
                }
            }
        }
        if let Some((vectors, need)) = meaning {
            fusion::add_similarity(scores, vectors, need);
        }
    }

    /// Offers every touched tool of a part and clears its score.
    fn collect(&mut self, view: View<'_>, mut offer: impl FnMut(&mut Top, &mut Top, u32, Scored)) {
        let (best, unfit) = (&mut self.best, &mut self.unfit);
        let mut offer = |best: &mut Top, unfit: &mut Top, tool: u32, score: f32| {
            if let Some(place) = view.place(tool) {
                offer(best, unfit, tool, Scored::new(place, score));
            }
        };
        if !self.all {
            for tool in &self.touched {
                let score = std::mem::take(&mut self.scores[*tool as usize]);
                offer(best, unfit, *tool, score);
            }
            return;
        }
        let scores = &mut self.scores[..view.tools().next_multiple_of(LANES)];
        let mut first = 0_u32;
        for block in scores.as_chunks::<LANES>().0 {
            let floor = best.score_floor().min(unfit.score_floor());
            // All are compared, whichever does: that is done at once.
            if block.iter().fold(false, |any, score| any | (*score >= floor)) {
                for (tool, score) in (first..).zip(block) {
                    if *score > 0.0 && *score >= floor {
                        offer(best, unfit, tool, *score);
                    }
                }
            }
            first += LANES as u32;
        }
        scores.fill(0.0);
    }
}

/// Scratch memories between searches.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<Vec<Scratch>>);

impl Pool {
    /// Runs `work` with a scratch memory. One that `work` panics with is not used again.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Scratch) -> T) -> T {
        let mut scratch = self.lock().pop().unwrap_or_default();
        let done = work(&mut scratch);
        let mut kept = self.lock();
        if kept.len() < POOL_MAX {
            kept.push(scratch);
        }
        done
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Scratch>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
