//! What an evaluation counts, and how.

use std::{collections::HashSet, time::Duration};

use serde::Serialize;

use super::LabelledNeed;
use crate::{
    id::CapabilityId,
    matching::{ROUTE_CANDIDATES_MAX, Route},
};

/// The figures of an evaluation. As JSON they have the names of the field: `hit@1`, `recall@10`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Figures {
    /// Needs that were ranked.
    pub n: usize,
    /// Share of the needs with a right tool in the first place.
    #[serde(rename = "hit@1")]
    pub hit_at_1: f64,
    /// Share of the needs with a right tool among the first five.
    #[serde(rename = "hit@5")]
    pub hit_at_5: f64,
    /// Share of a need's right tools that are among the first ten, on average.
    #[serde(rename = "recall@10")]
    pub recall_at_10: f64,
    /// One divided by the place of the first right tool, 0 when there is none among the first ten, on average.
    pub mrr: f64,
    /// Half of the needs took no longer to rank than this, in microseconds.
    pub p50_us: f64,
    /// Ninety-nine of a hundred took no longer than this, in microseconds.
    pub p99_us: f64,
}

/// Where the right tools of one need stand.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ranked {
    /// Place of the first right tool, from 1; `None`: it is not in the route.
    pub place: Option<usize>,
    /// How many right tools are in the route.
    pub found: usize,
    /// The tool in the first place; `None`: the route is empty.
    pub first: Option<CapabilityId>,
}

/// Figures, and what stands behind them, need by need.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Evaluation {
    /// The figures.
    pub figures: Figures,
    /// One for each need, in their order.
    pub ranked: Vec<Ranked>,
}

impl Ranked {
    pub(super) fn of(need: &LabelledNeed, route: &Route) -> Self {
        let right = |id: &CapabilityId| need.tools.contains(id);
        let ids = || route.candidates.iter().map(|candidate| &candidate.capability).take(ROUTE_CANDIDATES_MAX);
        Self {
            place: ids().position(right).map(|at| at + 1),
            found: ids().filter(|id| right(id)).count(),
            first: ids().next().cloned(),
        }
    }
}

impl Figures {
    /// `needs` is not empty, nor is `times`.
    pub(super) fn of(needs: &[LabelledNeed], ranked: &[Ranked], mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let among =
            |first: usize| mean(ranked.iter().map(|r| f64::from(u8::from(r.place.is_some_and(|p| p <= first)))));
        let recall = |(need, ranked): (&LabelledNeed, &Ranked)| {
            let right: HashSet<&CapabilityId> = need.tools.iter().collect();
            ranked.found as f64 / right.len() as f64
        };
        Self {
            n: ranked.len(),
            hit_at_1: among(1),
            hit_at_5: among(5),
            recall_at_10: mean(needs.iter().zip(ranked).map(recall)),
            mrr: mean(ranked.iter().map(|ranked| reciprocal(ranked.place))),
            p50_us: percentile_us(&times, 50),
            p99_us: percentile_us(&times, 99),
        }
    }
}

/// One divided by a place; 0 for none.
pub(super) fn reciprocal(place: Option<usize>) -> f64 {
    place.map_or(0.0, |place| 1.0 / place as f64)
}

/// The mean of some numbers; 0 of none.
pub(super) fn mean(numbers: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = numbers.fold((0.0, 0_usize), |(sum, count), number| (sum + number, count + 1));
    if count == 0 { 0.0 } else { sum / count as f64 }
}

/// The smallest of the sorted times that `percent` of them do not exceed, in microseconds.
fn percentile_us(sorted: &[Duration], percent: usize) -> f64 {
    let place = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(place - 1).map_or(0.0, |time| time.as_nanos() as f64 / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_what_their_names_say() {
        let ids: Vec<CapabilityId> = ["s/a", "s/b"].iter().map(|id| id.parse().unwrap()).collect();
        let need = |tools: &[CapabilityId]| LabelledNeed { words: "x".to_owned(), tools: tools.to_vec() };
        // A tool that is named twice is one.
        let needs = [need(&ids), need(&ids[..1]), need(&[ids[0].clone(), ids[0].clone()])];
        let at = |place, found| Ranked { place, found, first: None };
        let ranked = [at(Some(2), 1), at(None, 0), at(Some(1), 1)];
        let times = (1..=200).rev().map(Duration::from_micros).collect();
        let figures = Figures::of(&needs, &ranked, times);
        let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert_eq!(figures.n, 3);
        assert!(close(figures.hit_at_1, 1.0 / 3.0) && close(figures.hit_at_5, 2.0 / 3.0), "{figures:?}");
        assert!(close(figures.recall_at_10, 0.5) && close(figures.mrr, 0.5), "{figures:?}");
        assert!(close(figures.p50_us, 100.0) && close(figures.p99_us, 198.0), "{figures:?}");
        let json = serde_json::to_value(figures).unwrap();
        assert!(json["hit@1"].is_f64() && json["recall@10"].is_f64());
    }
}
