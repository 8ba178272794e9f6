//! How well a matcher routes: labelled needs over a set of tools, all in files, without a server or an engine.
//!
//! [`ToolSet`] and [`LabelledNeed`]s are read from JSON Lines; [`teach`] tells a matcher of past needs that were served; [`evaluate`] ranks
//! and counts. [`replay`] compares what a job store logged with another matcher's routes. They are the users' tools for testing their own
//! router against regressions, so all of it is public.

mod error;
mod figures;
mod lines;
mod replay;
mod tools;

use std::time::{Duration, Instant};

pub use self::{
    error::EvalError,
    figures::{Evaluation, Figures, Ranked},
    lines::{FILE_BYTES_MAX, LINE_BYTES_MAX},
    replay::{Change, LoggedNeed, Regret, Replay, replay},
    tools::{LabelledNeed, ToolSet},
};
use super::{CapabilityMatcher, Catalog, Outcome, Route, UNKNOWN_INPUT, Verdict};
use crate::{
    auth::Principal,
    id::JobId,
    json::RawJson,
    task::Need,
    time::{Clock as _, SystemClock, Timestamp},
};

/// Needs ranked before any is timed: the first one builds the index, some more warm the caches.
const WARM_UP_NEEDS: usize = 200;
/// Times taken at least, so that the slowest of a hundred is no single accident: few needs are ranked several times.
const TIMES_MIN: usize = 1_000;
/// Time between two past needs, in milliseconds: a matcher that forgets by time sees them in their order.
const HISTORY_STEP_MS: u64 = 1_000;
/// What a past call is told to have taken, in milliseconds.
const HISTORY_CALL_MS: u64 = 100;

/// A need in words whose input nobody has made yet: no schema refuses it.
fn open_need(words: &str) -> Need {
    Need { input: RawJson::parse(UNKNOWN_INPUT).expect("`null` is JSON"), ..Need::new(words) }
}

/// Tells the matcher that each of these needs was served by its tools, one after the other; the last one ended just now.
///
/// # Errors
/// When the matcher does not take an outcome in.
pub async fn teach(
    matcher: &dyn CapabilityMatcher,
    who: &Principal,
    history: &[LabelledNeed],
) -> Result<(), EvalError> {
    let span = HISTORY_STEP_MS.saturating_mul(u64::try_from(history.len()).unwrap_or(u64::MAX));
    let mut at = Timestamp::from_millis(SystemClock::default().now().as_millis().saturating_sub(span));
    for past in history {
        at = at + Duration::from_millis(HISTORY_STEP_MS);
        for capability in &past.tools {
            let outcome = Outcome {
                job: JobId::new(at),
                owner: who.clone(),
                need: open_need(&past.words),
                capability: capability.clone(),
                verdict: Verdict::Served,
                at,
                took: Duration::from_millis(HISTORY_CALL_MS),
            };
            matcher.observe(&outcome).await?;
        }
    }
    Ok(())
}

/// Ranks every need over the catalogue, by words alone, and tells where the right tools stand and how long `rank` took.
///
/// The needs are ranked one after the other by the thread that polls this. A first round that is not timed builds the index.
///
/// # Errors
/// When there is no need, or the matcher fails.
///
/// # Cancel safety
/// May be dropped; nothing is kept.
pub async fn evaluate(
    matcher: &dyn CapabilityMatcher,
    who: &Principal,
    catalog: &Catalog,
    needs: &[LabelledNeed],
) -> Result<Evaluation, EvalError> {
    if needs.is_empty() {
        return Err(EvalError::Nothing { what: "need to rank" });
    }
    let asked: Vec<Need> = needs.iter().map(|need| open_need(&need.words)).collect();
    for need in asked.iter().take(WARM_UP_NEEDS) {
        matcher.rank(who, need, catalog).await?;
    }
    let mut times = Vec::with_capacity(asked.len().max(TIMES_MIN));
    let mut ranked = Vec::with_capacity(asked.len());
    for (labelled, need) in needs.iter().zip(&asked) {
        let route = timed(matcher, who, need, catalog, &mut times).await?;
        ranked.push(Ranked::of(labelled, &route));
    }
    // What a round more answers is what the first one did.
    while times.len() < TIMES_MIN {
        for need in &asked {
            timed(matcher, who, need, catalog, &mut times).await?;
        }
    }
    Ok(Evaluation { figures: Figures::of(needs, &ranked, times), ranked })
}

async fn timed(
    matcher: &dyn CapabilityMatcher,
    who: &Principal,
    need: &Need,
    catalog: &Catalog,
    times: &mut Vec<Duration>,
) -> Result<Route, EvalError> {
    let begun = Instant::now();
    let route = matcher.rank(who, need, catalog).await?;
    times.push(begun.elapsed());
    Ok(route)
}
