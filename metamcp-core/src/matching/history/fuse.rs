//! Puts what the past says of a need together with what the words of the tools say: the one place where the two are weighed.

use super::recall::{Recall, Recalled};
use crate::{
    matching::{
        Candidate, REJECTED_MAX, ROUTE_CANDIDATES_MAX, Reason, Rejection, Route, lexical::REASONS_MAX, refusal,
    },
    task::Need,
};

/// The best match by words against the whole of the votes of the past.
const WORDS: f32 = 0.1;
/// What is added to that as long as little was learned and nothing of it is like the need.
const WORDS_YOUNG: f32 = 0.6;
/// What a good match by words adds to a capability that was never tried: without it whatever served first would keep others out.
const NEWCOMER: f32 = 0.35;
/// Served needs at which a capability is half known.
const KNOWN_HALF: f32 = 3.0;
/// A candidate that the past brings in has at least this share of the best score.
const SCORE_SHARE_MIN: f32 = 0.1;

/// The route of `found`, moved by the past. Where the past knows nothing like the need, the order stays as it was.
pub(super) fn fuse(need: &Need, found: Route, recall: Recall) -> Route {
    let Recall { confidence, young, recalled, evidence } = recall;
    if recalled.is_empty() {
        return found;
    }
    let top = found.candidates.iter().map(|c| c.score).fold(f32::MIN_POSITIVE, f32::max);
    let mut candidates: Vec<Candidate> = Vec::with_capacity(found.candidates.len() + recalled.len());
    for (mut candidate, evidence) in found.candidates.into_iter().zip(evidence) {
        let words = candidate.score / top;
        let unknown = KNOWN_HALF / (KNOWN_HALF + evidence);
        let trust = WORDS + WORDS_YOUNG * young * (1.0 - confidence);
        let by_words = trust * words + confidence * NEWCOMER * unknown * words * words;
        rescale(&mut candidate.reasons, by_words / candidate.score.max(f32::MIN_POSITIVE));
        candidate.score = by_words;
        candidates.push(candidate);
    }
    let mut rejected = found.rejected;
    for one in recalled {
        if let Some(known) = candidates.iter_mut().find(|c| c.capability == one.capability.id) {
            known.score = (known.score + one.score).max(0.0);
            known.reasons.push(reason(one));
            known.reasons.sort_by(|a, b| weight(b).total_cmp(&weight(a)));
            known.reasons.truncate(REASONS_MAX);
        } else if one.score > 0.0 && rejected.iter().all(|r| r.capability != one.capability.id) {
            match refusal(&one.capability, &need.input) {
                Some(reason) => rejected.push(Rejection { capability: one.capability.id.clone(), reason }),
                None => {
                    let capability = one.capability.clone();
                    candidates.push(Candidate::new(&capability, one.score, vec![reason(one)]));
                }
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

fn reason(recalled: Recalled) -> Reason {
    let Recalled { score, served, refused, similar, .. } = recalled;
    Reason::History { served, failed: refused, similar, score }
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
