//! Puts what the past says of a need together with what the words of the tools say: the one place where the two are weighed.

use std::sync::Arc;

use super::recall::{Recall, Recalled};
use crate::{
    matching::{
        Candidate, REJECTED_MAX, ROUTE_CANDIDATES_MAX, Reason, Rejection, Route, lexical::REASONS_MAX, refusal_of_need,
    },
    task::Need,
};

/// Evidence that the best match by words is worth.
const WORDS: f32 = 4.0;
/// As much less likely than the likeliest is a capability taken to be that was never called, when it is the best match by words: without it
/// whatever served first would keep others out.
const NEWCOMER: f32 = 2.5;
/// As much less it is when nothing of it matches.
const NEWCOMER_UNMATCHED: f32 = 16.0;
/// As much is added to one that was never called, at most, when the past is in doubt: of two that are as likely by it, often neither is meant.
const DOUBT: f32 = 4.0;
/// The past is in doubt when what the two likeliest are apart is no more than a few times this.
const DOUBT_GAP: f32 = 2.0;
/// It must know much of a need to be in doubt: with less evidence than this for the likeliest, it is so only in part.
const DOUBT_EVIDENCE: f32 = 20.0;
/// What is left of a score at least, as a share of it, when the past speaks against a capability.
const LEFT_MIN: f32 = 0.01;
/// A candidate that the past brings in has at least this share of the best score.
const SCORE_SHARE_MIN: f32 = 0.1;

/// The route of `found`, moved by the past. Where the past knows nothing like the need, the order stays as it was.
///
/// All is held against a capability that was never called. What the past adds to one is how much likelier it is than that, as far as it is
/// known itself.
pub(super) fn fuse(need: &Need, found: Route, recall: Recall) -> Route {
    let Recall { confidence, recalled } = recall;
    // Where the past speaks against all that it knows, what was never called is likelier than any of it.
    let Some(likeliest) = recalled.first().map(|first| first.evidence.max(0.0)) else { return found };
    let doubt = doubt(&recalled);
    let best = found.candidates.iter().map(|c| c.score).fold(0.0, f32::max);
    let unit = if best > 0.0 { best / WORDS } else { 1.0 };
    let adds = |one: &Recalled, words: f32| {
        let newcomer = likeliest - confidence * (NEWCOMER + NEWCOMER_UNMATCHED * (1.0 - words));
        unit * one.known * (one.evidence - newcomer)
    };
    let mut candidates = found.candidates;
    let mut rejected = found.rejected;
    let mut past: Vec<Option<Recalled>> = recalled.into_iter().map(Some).collect();
    for candidate in &mut candidates {
        let words = candidate.score / (unit * WORDS);
        let grown = 1.0 + confidence * NEWCOMER_UNMATCHED / WORDS;
        let known = |one: &&mut Option<Recalled>| one.as_ref().is_some_and(|r| r.capability.id == candidate.capability);
        let one = past.iter_mut().find(known).and_then(Option::take);
        let before = candidate.score * grown;
        let untried = before + unit * confidence * doubt;
        let score = one.as_ref().map_or(untried, |one| (before + adds(one, words)).max(LEFT_MIN * candidate.score));
        let told = one.and_then(|one| reason(one, score - before));
        rescale(
            &mut candidate.reasons,
            if told.is_some() { grown } else { score / candidate.score.max(f32::MIN_POSITIVE) },
        );
        candidate.score = score;
        candidate.reasons.extend(told);
        candidate.reasons.sort_by(|a, b| weight(b).total_cmp(&weight(a)));
        candidate.reasons.truncate(REASONS_MAX);
    }
    for one in past.into_iter().flatten() {
        let score = adds(&one, 0.0);
        if score <= 0.0 || rejected.iter().any(|r| r.capability == one.capability.id) {
            continue;
        }
        match refusal_of_need(&one.capability, need) {
            Some(reason) => rejected.push(Rejection { capability: one.capability.id.clone(), reason }),
            None => {
                let capability = Arc::clone(&one.capability);
                candidates.extend(reason(one, score).map(|told| Candidate::new(&capability, score, vec![told])));
            }
        }
    }
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.capability.cmp(&b.capability)));
    let least = candidates.first().map_or(0.0, |best| best.score * SCORE_SHARE_MIN);
    // What the words found stays, however little is left of its score: it is the next best when the others fail.
    let by_words = |c: &Candidate| c.reasons.iter().any(|r| !matches!(r, Reason::History { .. }));
    candidates.retain(|c| c.score >= least || by_words(c));
    candidates.truncate(ROUTE_CANDIDATES_MAX);
    rejected.truncate(REJECTED_MAX);
    Route { candidates, rejected }
}

/// How much the past is in doubt over what is meant, as evidence for what was never called.
fn doubt(recalled: &[Recalled]) -> f32 {
    let Some((first, others)) = recalled.split_first() else { return 0.0 };
    let likeliest = first.evidence.max(0.0);
    // Between tools that do the same there is nothing to doubt.
    let next = others.iter().find(|one| !one.capability.is_equivalent_to(&first.capability));
    let gap = likeliest - next.map_or(0.0, |one| one.evidence.max(0.0));
    DOUBT * (-gap / DOUBT_GAP).exp() * (likeliest / DOUBT_EVIDENCE).min(1.0)
}

fn reason(recalled: Recalled, score: f32) -> Option<Reason> {
    let Recalled { served, refused, similar, .. } = recalled;
    Some(Reason::History { served, failed: refused, similar: similar?, score })
}

/// How much a reason moves the score, either way.
fn weight(reason: &Reason) -> f32 {
    match reason {
        Reason::Named => f32::INFINITY,
        reason => reason.score().map_or(0.0, f32::abs),
    }
}

/// Reasons add up to the score that they explain, so they shrink with it.
fn rescale(reasons: &mut [Reason], by: f32) {
    for reason in reasons {
        match reason {
            Reason::Term { score, .. }
            | Reason::Similarity { score }
            | Reason::History { score, .. }
            | Reason::Other { score, .. } => *score *= by,
            Reason::Named | Reason::Health { .. } | Reason::Resource { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{id::ServerName, matching::Capability};

    fn recalled(server: &str, tool: &str, evidence: f32) -> Recalled {
        let definition = json!({ "name": tool, "inputSchema": { "type": "object" } });
        let server = ServerName::new(server).unwrap();
        let capability = Capability::from_definition(&server, Arc::default(), definition.into()).unwrap();
        let similar = Some("a past need".to_owned());
        Recalled { capability: Arc::new(capability), evidence, known: 1.0, served: 9, refused: 0, similar }
    }

    #[test]
    fn the_past_is_in_doubt_between_tools_that_do_different_things_and_are_as_likely_by_much() {
        let of = |others: &[Recalled]| doubt(&[&[recalled("s", "mail", 30.0)], others].concat());
        assert_eq!(of(&[recalled("s", "ledger", 30.0)]), DOUBT);
        assert!(of(&[recalled("s", "ledger", 29.0)]) > of(&[recalled("s", "ledger", 25.0)]));
        assert!(of(&[]) < 0.01 && of(&[recalled("s", "ledger", -9.0)]) < 0.01, "nothing else comes near");
        let twin = recalled("t", "mail", 30.0);
        assert!(of(std::slice::from_ref(&twin)) < 0.01, "two that do the same are no doubt");
        assert_eq!(of(&[twin, recalled("s", "ledger", 30.0)]), DOUBT);
        assert_eq!(doubt(&[recalled("s", "mail", 5.0), recalled("s", "ledger", 5.0)]), DOUBT / 4.0, "little is known");
        assert_eq!(doubt(&[recalled("s", "mail", -1.0), recalled("s", "ledger", -1.0)]), 0.0);
    }

    #[test]
    fn what_was_never_called_stands_higher_when_the_past_is_in_doubt() {
        let untried = recalled("s", "new", 0.0).capability;
        let need = Need::new("a need");
        let score = |next: f32| {
            let reasons = vec![Reason::Similarity { score: 2.0 }];
            let found = Route { candidates: vec![Candidate::new(&untried, 2.0, reasons)], rejected: Vec::new() };
            let past = vec![recalled("s", "mail", 30.0), recalled("s", "ledger", next)];
            let route = fuse(&need, found, Recall { confidence: 1.0, recalled: past });
            let one = route.candidates.iter().find(|c| c.capability == untried.id).unwrap();
            let told: f32 = one.reasons.iter().filter_map(Reason::score).sum();
            assert!((told - one.score).abs() < 1e-3, "reasons add up: {one:?}");
            one.score
        };
        assert!(score(30.0) > score(10.0));
    }
}
