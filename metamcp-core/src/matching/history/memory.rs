//! What one tenant's jobs taught: past needs by their words, each with the capability that was called and what it came to.
//!
//! A pure structure. What it holds depends on the lessons it was given, not on their order; what it answers depends on nothing else. There
//! is no clock: a lesson fades against the newest one, by the half-life.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{
    lesson::Lesson,
    meanings::Meanings,
    past::{Known, Past, Weighed, remember},
    reader::{Heard, Reader},
};
use crate::{id::CapabilityId, matching::Verdict, time::Timestamp};

/// Most past needs of one tenant; of more the lightest are forgotten.
pub(super) const NEEDS_MAX: usize = 16_384;
/// This part of the past needs is forgotten at a time, so that forgetting is rare.
const FORGOTTEN_PART: usize = 8;
/// After this time a lesson counts half.
pub(super) const HALF_LIFE: Duration = Duration::from_secs(30 * 24 * 3_600);
/// What an answer with an error takes away, against what one that served adds.
const REFUSED_COST: f32 = 1.0;
/// Half-lives a weight may be away from the landmark before all are weighed anew: far below what an `f32` holds.
const HALF_LIVES_MAX: f64 = 60.0;

/// What is remembered of one tenant's jobs.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    terms: HashMap<Box<str>, u32>,
    /// By term: the past needs that have it, in no particular order.
    postings: Vec<Vec<u32>>,
    numbers: HashMap<CapabilityId, u32>,
    capabilities: Vec<CapabilityId>,
    /// Beside `capabilities`.
    known: Vec<Known>,
    known_of_all: Known,
    pasts: Vec<Past>,
    /// Beside `pasts`.
    weighed: Vec<Weighed>,
    /// Beside `pasts`, when there is a table; otherwise empty.
    meanings: Meanings,
    by_terms: HashMap<(Arc<[u32]>, u32), u32>,
    /// What forward weights count from.
    landmark: Timestamp,
    newest: Timestamp,
}

impl Memory {
    /// Takes in a lesson; answers whether anything changed. One that is known already changes nothing.
    pub(super) fn learn(&mut self, lesson: Lesson, reader: &Reader) -> bool {
        if lesson.verdict == Verdict::Unreached {
            return false;
        }
        let Heard { terms: found, meaning } = reader.read(&lesson.need);
        if found.is_empty() {
            return false;
        }
        if self.pasts.is_empty() {
            (self.landmark, self.newest) = (lesson.at, lesson.at);
        }
        self.newest = self.newest.max(lesson.at);
        let norm = found.iter().map(|(_, weight)| weight * weight).sum::<f32>().sqrt().recip();
        let mass = norm * found.iter().map(|(_, weight)| weight).sum::<f32>();
        let mut numbers: Vec<u32> = found.into_iter().map(|(term, _)| self.term(term)).collect();
        numbers.sort_unstable();
        let capability = self.capability(&lesson.capability);
        let key = (Arc::<[u32]>::from(numbers), capability);
        let past = match self.by_terms.get(&key) {
            Some(past) => *past as usize,
            None => {
                meaning.iter().for_each(|meaning| self.meanings.push(meaning));
                self.add_past(key, norm, mass)
            }
        };
        if !remember(&mut self.pasts[past].lessons, lesson) {
            return false;
        }
        if self.half_lives(self.newest).abs() > HALF_LIVES_MAX {
            self.landmark = self.newest;
            self.weigh_anew();
        } else {
            self.weigh(past);
        }
        if self.pasts.len() > NEEDS_MAX {
            self.forget_lightest();
        }
        true
    }

    /// Removes lessons and answers which; what is left is as if they had never been learned.
    pub(super) fn remove(&mut self, meant: impl Fn(&Lesson) -> bool, reader: &Reader) -> usize {
        let before = self.lessons().count();
        let kept: Vec<Lesson> = self.lessons().filter(|lesson| !meant(lesson)).cloned().collect();
        let removed = before - kept.len();
        if removed > 0 {
            *self = Self::of(kept, reader);
        }
        removed
    }

    pub(super) fn of(lessons: impl IntoIterator<Item = Lesson>, reader: &Reader) -> Self {
        let mut memory = Self::default();
        lessons.into_iter().for_each(|lesson| _ = memory.learn(lesson, reader));
        memory
    }

    /// All that is remembered, in no particular order.
    pub(super) fn lessons(&self) -> impl Iterator<Item = &Lesson> {
        self.pasts.iter().flat_map(|past| &past.lessons)
    }

    /// Number of past needs.
    pub(super) const fn needs(&self) -> usize {
        self.pasts.len()
    }

    pub(super) const fn newest(&self) -> Timestamp {
        self.newest
    }

    pub(super) fn number_of(&self, term: &str) -> Option<u32> {
        self.terms.get(term).copied()
    }

    /// The past needs with a term.
    pub(super) fn postings(&self, term: u32) -> &[u32] {
        &self.postings[term as usize]
    }

    pub(super) fn weighed(&self, past: u32) -> &Weighed {
        &self.weighed[past as usize]
    }

    /// The words of a past need.
    pub(super) fn need(&self, past: u32) -> &str {
        self.pasts[past as usize].lessons.first().map_or("", |lesson| &lesson.need)
    }

    pub(super) fn capabilities(&self) -> &[CapabilityId] {
        &self.capabilities
    }

    /// The number of the capability of this id.
    pub(super) fn number_of_capability(&self, id: &CapabilityId) -> Option<u32> {
        self.numbers.get(id).copied()
    }

    /// What is known of a capability.
    pub(super) fn known(&self, capability: u32) -> Known {
        self.known[capability as usize]
    }

    /// What is known of all capabilities together.
    pub(super) const fn known_of_all(&self) -> Known {
        self.known_of_all
    }

    pub(super) const fn meanings(&self) -> &Meanings {
        &self.meanings
    }

    /// Turns forward weights into lessons as new as the newest.
    #[expect(clippy::cast_possible_truncation, reason = "a weight needs no more")]
    pub(super) fn scale(&self) -> f32 {
        (-self.half_lives(self.newest)).exp2() as f32
    }

    fn term(&mut self, term: String) -> u32 {
        let next = self.postings.len();
        *self.terms.entry(term.into_boxed_str()).or_insert_with(|| {
            self.postings.push(Vec::new());
            number(next)
        })
    }

    fn capability(&mut self, id: &CapabilityId) -> u32 {
        if let Some(known) = self.numbers.get(id) {
            return *known;
        }
        let next = number(self.capabilities.len());
        self.numbers.insert(id.clone(), next);
        self.capabilities.push(id.clone());
        self.known.push(Known::default());
        next
    }

    fn add_past(&mut self, key: (Arc<[u32]>, u32), norm: f32, mass: f32) -> usize {
        let past = self.pasts.len();
        key.0.iter().for_each(|term| self.postings[*term as usize].push(number(past)));
        self.pasts.push(Past { terms: Arc::clone(&key.0), lessons: Vec::new() });
        self.weighed.push(Weighed { capability: key.1, net: 0.0, tried: 0.0, norm, mass, served: 0, refused: 0 });
        self.by_terms.insert(key, number(past));
        past
    }

    fn half_lives(&self, at: Timestamp) -> f64 {
        (at.as_millis() as f64 - self.landmark.as_millis() as f64) / HALF_LIFE.as_millis() as f64
    }

    #[expect(clippy::cast_possible_truncation, reason = "a weight needs no more; at most a handful of lessons")]
    fn weigh(&mut self, past: usize) {
        let (mut net, mut tried, mut served, mut refused) = (0.0, 0.0, 0, 0);
        for lesson in &self.pasts[past].lessons {
            let weight = self.half_lives(lesson.at).exp2() as f32;
            tried += weight;
            if lesson.verdict == Verdict::Served {
                (net, served) = (net + weight, served + 1);
            } else {
                (net, refused) = (net - REFUSED_COST * weight, refused + 1);
            }
        }
        let weighed = &mut self.weighed[past];
        let change = f64::from(net.max(0.0)) - f64::from(weighed.net.max(0.0));
        let change = Known {
            served: change,
            mass: change * f64::from(weighed.mass),
            tried: f64::from(tried) - f64::from(weighed.tried),
        };
        self.known[weighed.capability as usize].add(&change);
        self.known_of_all.add(&change);
        self.meanings.weigh(past, weighed.capability as usize, change.served as f32);
        (weighed.net, weighed.tried, weighed.served, weighed.refused) = (net, tried, served, refused);
    }

    /// From nothing, so that sums do not keep what is left over of weights that were far larger.
    fn weigh_anew(&mut self) {
        self.known.fill(Known::default());
        self.known_of_all = Known::default();
        self.meanings.unweigh();
        for past in 0..self.pasts.len() {
            (self.weighed[past].net, self.weighed[past].tried) = (0.0, 0.0);
            self.weigh(past);
        }
    }

    /// Forgets the past needs whose lessons are the oldest and the fewest.
    fn forget_lightest(&mut self) {
        let weight = |past: &Past| past.lessons.iter().map(|l| self.half_lives(l.at).exp2()).sum::<f64>();
        let mut order: Vec<(f64, usize)> = self.pasts.iter().map(weight).zip(0..).collect();
        order.sort_by(|(a, x), (b, y)| b.total_cmp(a).then_with(|| self.pasts[*x].key().cmp(&self.pasts[*y].key())));
        let mut kept = vec![false; self.pasts.len()];
        order.iter().take(NEEDS_MAX - NEEDS_MAX / FORGOTTEN_PART).for_each(|(_, past)| kept[*past] = true);
        self.keep_only(&kept);
    }

    /// Drops the other past needs, and the terms and capabilities that only they had.
    fn keep_only(&mut self, kept: &[bool]) {
        let old = std::mem::take(self);
        (self.landmark, self.newest) = (old.landmark, old.newest);
        let mut names = vec![Box::<str>::default(); old.postings.len()];
        old.terms.into_iter().for_each(|(name, number)| names[number as usize] = name);
        let mut numbers = vec![None; names.len()];
        let pasts = old.pasts.into_iter().zip(old.weighed).enumerate().zip(kept);
        for ((number, (past, weighed)), _) in pasts.filter(|(_, kept)| **kept) {
            let renumbered = past.terms.iter().map(|term| {
                let (number, name) = (&mut numbers[*term as usize], &mut names[*term as usize]);
                *number.get_or_insert_with(|| self.term(std::mem::take(name).into_string()))
            });
            let mut terms: Vec<u32> = renumbered.collect();
            terms.sort_unstable();
            let capability = self.capability(&old.capabilities[weighed.capability as usize]);
            self.meanings.push_from(&old.meanings, number);
            let at = self.add_past((terms.into(), capability), weighed.norm, weighed.mass);
            self.pasts[at].lessons = past.lessons;
            self.weigh(at);
        }
    }
}

fn number(at: usize) -> u32 {
    u32::try_from(at).expect("a memory is bounded far below four thousand million")
}
