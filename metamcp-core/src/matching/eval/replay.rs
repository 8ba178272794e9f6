//! What another matcher would make of needs that were served before.

use serde::Serialize;

use super::{
    super::{CapabilityMatcher, Catalog},
    EvalError,
    figures::{mean, reciprocal},
};
use crate::{auth::Principal, id::CapabilityId, task::Need};

/// A need as a job store logged it.
#[derive(Debug, Clone, PartialEq)]
pub struct LoggedNeed {
    /// Whose it was.
    pub owner: Principal,
    /// The need.
    pub need: Need,
    /// How many jobs had it.
    pub jobs: usize,
    /// The first place of the route it was given; `None`: the route was empty.
    pub old: Option<CapabilityId>,
    /// The capability that served it, and its place in the route it was given, from 1; `None`: it was not served.
    pub served_by: Option<(CapabilityId, usize)>,
}

/// Where a need stands before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Change {
    /// The need in words.
    pub need: String,
    /// How many jobs had it.
    pub jobs: usize,
    /// The first place of the logged route.
    pub old: Option<CapabilityId>,
    /// The first place of the new route.
    pub new: Option<CapabilityId>,
    /// The capability that served it.
    pub served_by: Option<CapabilityId>,
    /// The place of that one in the logged route, from 1.
    pub old_place: Option<usize>,
    /// Its place in the new route, from 1; none: it is not in it.
    pub new_place: Option<usize>,
}

/// What the new setting would have cost, over the distinct needs whose serving tool is still there.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Regret {
    /// Share of the needs whose serving tool was in the first place and is there no longer.
    pub first: f64,
    /// Share of the needs whose serving tool was among the first five and is there no longer.
    pub top5: f64,
    /// Mean reciprocal place of the serving tools in the logged routes.
    pub mrr_old: f64,
    /// The same in the new routes.
    pub mrr_new: f64,
}

/// What a replay found.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Replay {
    /// Distinct needs that were ranked.
    pub needs: usize,
    /// Those of them that were served by a tool which is still there: regret is counted over these.
    pub served: usize,
    /// Those that were served by a tool which is not in the catalogue any more.
    pub gone: usize,
    /// Those with another tool in the first place.
    pub changed: usize,
    /// What the new setting would have cost.
    pub regret: Regret,
    /// The needs whose first place changes, those that lose most first.
    pub changes: Vec<Change>,
}

/// Ranks logged needs anew and compares.
///
/// # Errors
/// When the matcher fails.
pub async fn replay(
    matcher: &dyn CapabilityMatcher,
    catalog: &Catalog,
    logged: &[LoggedNeed],
) -> Result<Replay, EvalError> {
    let (mut changes, mut served, mut gone) = (Vec::new(), Vec::new(), 0);
    for log in logged {
        let route = matcher.rank(&log.owner, &log.need, catalog).await?;
        let place = |id: &CapabilityId| route.candidates.iter().position(|c| c.capability == *id).map(|at| at + 1);
        let new = route.candidates.first().map(|candidate| candidate.capability.clone());
        let change = Change {
            need: log.need.text.clone(),
            jobs: log.jobs,
            old: log.old.clone(),
            served_by: log.served_by.as_ref().map(|(id, _)| id.clone()),
            old_place: log.served_by.as_ref().map(|(_, place)| *place),
            new_place: log.served_by.as_ref().and_then(|(id, _)| place(id)),
            new,
        };
        match &change.served_by {
            Some(id) if catalog.get(id).is_some() => served.push((change.old_place, change.new_place)),
            Some(_) => gone += 1,
            None => {}
        }
        if change.old != change.new {
            changes.push(change);
        }
    }
    changes.sort_by(|a, b| loss(b).total_cmp(&loss(a)).then_with(|| (b.jobs, &a.need).cmp(&(a.jobs, &b.need))));
    let lost = |first: usize| {
        let among = |place: Option<usize>| place.is_some_and(|place| place <= first);
        mean(served.iter().map(|(old, new)| f64::from(u8::from(among(*old) && !among(*new)))))
    };
    let regret = Regret {
        first: lost(1),
        top5: lost(5),
        mrr_old: mean(served.iter().map(|(old, _)| reciprocal(*old))),
        mrr_new: mean(served.iter().map(|(_, new)| reciprocal(*new))),
    };
    Ok(Replay { needs: logged.len(), served: served.len(), gone, changed: changes.len(), regret, changes })
}

/// How much reciprocal place the serving tool loses.
fn loss(change: &Change) -> f64 {
    reciprocal(change.old_place) - reciprocal(change.new_place)
}
