//! The built-in matcher: words of the need against the words of every tool, by an inverted index with weights per field.
//!
//! No model, no service, no list of tools: what a tool is found by stands in its own definition and its server's configuration.
//! It does not learn; [`CapabilityMatcher::observe`] is a no-op here.

mod fields;
mod fusion;
mod index;
mod meaning;
mod part;
mod query;
mod search;
mod terms;
#[cfg(test)]
mod tests;
mod tokens;
mod words;

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use async_trait::async_trait;

pub(super) use self::terms::Terms;
use self::{
    fields::Field,
    index::Index,
    query::Query,
    search::{Pool, Scored},
    words::Words,
};
use super::{
    Candidate, Capability, CapabilityMatcher, Catalog, MatchError, Outcome, REJECTED_MAX, ROUTE_CANDIDATES_MAX, Reason,
    Rejection, Route,
    dense::DenseTable,
    schema::{Input, refusal},
};
use crate::{auth::Principal, id::Lane, task::Need};

/// Most tools of one need whose schema is held against the input.
const CHECKS_MAX: usize = 50;
/// Most reasons told of one candidate.
pub(super) const REASONS_MAX: usize = 8;
/// Indexes kept: the newest snapshots' of the engine and of the endpoints of a gateway, which show a part of it each.
const INDEXES_MAX: usize = 8;
/// A larger snapshot is indexed off the runtime's own threads.
const INLINE_TOOLS_MAX: usize = 512;
/// A candidate has at least this share of the best score.
const SCORE_SHARE_MIN: f32 = 0.1;
/// Score of a tool that the task named.
const NAMED_SCORE: f32 = 1.0;

/// Ranks by the words of name, title, description, input schema, labels and server.
///
/// A word that many tools have counts less, a word in a name more than one in a description; words of asking ("please list all")
/// support a match but make none. A tool is not ranked by how many others there are: adding tools that share no word with a need
/// leaves its route as it was.
///
/// The index of a snapshot is built by the first need that is ranked over it and kept by [`Catalog::revision`].
///
/// # Cancel safety
/// `rank` may be dropped at any time; an index being built is finished and kept.
#[derive(Debug, Clone)]
pub struct LexicalMatcher {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    words: Arc<Words>,
    table: Option<DenseTable>,
    indexes: ArcSwap<Vec<Arc<Index>>>,
    building: Mutex<()>,
    pool: Pool,
}

impl LexicalMatcher {
    /// A matcher with the built-in English words.
    #[must_use]
    pub fn new() -> Self {
        Self::with_synonyms([])
    }

    /// A matcher that also takes the words of each group, separated by spaces, for one another: `["ticket issue card"]`.
    #[must_use]
    pub fn with_synonyms<'a>(groups: impl IntoIterator<Item = &'a str>) -> Self {
        let mut words = Words::new();
        groups.into_iter().for_each(|group| words.add_synonyms(group));
        Self::of(Arc::new(words), None)
    }

    /// The same matcher, which also knows what is near in meaning by this table.
    #[must_use]
    pub fn with_table(self, table: DenseTable) -> Self {
        Self::of(self.shared.words.clone(), Some(table))
    }

    fn of(words: Arc<Words>, table: Option<DenseTable>) -> Self {
        let shared =
            Shared { words, table, indexes: ArcSwap::default(), building: Mutex::default(), pool: Pool::default() };
        Self { shared: Arc::new(shared) }
    }

    /// Builds the index of a snapshot now, so that the first need over it does not wait.
    ///
    /// Blocks the thread: about 100 ms for 10,000 tools.
    pub fn prepare(&self, catalog: &Catalog) {
        self.shared.index(catalog);
    }
}

impl Default for LexicalMatcher {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl CapabilityMatcher for LexicalMatcher {
    async fn rank(&self, _: &Principal, need: &Need, catalog: &Catalog) -> Result<Route, MatchError> {
        if let Some(named) = &need.tool {
            return Ok(catalog.get(named).map_or_else(Route::default, |capability| named_route(need, capability)));
        }
        let index = match self.shared.known(catalog) {
            Some(index) => index,
            None => self.build(catalog).await?,
        };
        Ok(self.shared.route(need, &index))
    }

    async fn observe(&self, _: &Outcome) -> Result<(), MatchError> {
        Ok(())
    }
}

impl LexicalMatcher {
    async fn build(&self, catalog: &Catalog) -> Result<Arc<Index>, MatchError> {
        if catalog.capabilities().len() <= INLINE_TOOLS_MAX || tokio::runtime::Handle::try_current().is_err() {
            return Ok(self.shared.index(catalog));
        }
        let (shared, catalog) = (self.shared.clone(), catalog.clone());
        let built = tokio::task::spawn_blocking(move || shared.index(&catalog)).await;
        built.map_err(|e| MatchError { message: format!("the index could not be built: {e}") })
    }
}

impl Shared {
    fn known(&self, catalog: &Catalog) -> Option<Arc<Index>> {
        self.indexes.load().iter().find(|i| i.revision() == catalog.revision()).cloned()
    }

    /// The index of this snapshot, built at most once.
    fn index(&self, catalog: &Catalog) -> Arc<Index> {
        if let Some(index) = self.known(catalog) {
            return index;
        }
        let _alone = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = self.known(catalog) {
            return index;
        }
        let index = Arc::new(Index::build(catalog, &self.words, self.table.as_ref(), &self.indexes.load()));
        let mut kept: Vec<Arc<Index>> = self.indexes.load().iter().cloned().collect();
        kept.push(index.clone());
        kept.sort_by_key(|i| std::cmp::Reverse(i.revision()));
        kept.truncate(INDEXES_MAX);
        self.indexes.store(Arc::new(kept));
        index
    }

    fn route(&self, need: &Need, index: &Index) -> Route {
        if need.text.trim().is_empty() {
            return Route::default();
        }
        let input = Input::of(need);
        let mut query = Query::new(&need.text, input.keys(), index, &self.words);
        if let Some(table) = &self.table {
            query.mean(&need.text, table);
        }
        let fits = |capability: &Capability| misfit(need, capability).is_none();
        let filter = need.lane.is_some() || need.resources != Default::default();
        let filter: Option<&dyn Fn(&Capability) -> bool> = if filter { Some(&fits) } else { None };
        self.pool.with(|scratch| {
            let unfit_max = if filter.is_some() { REJECTED_MAX } else { 0 };
            scratch.search(&query, index, (CHECKS_MAX, unfit_max), filter);
            scratch.look_closer(&query, index);
            answer(need, &input, &query, index, scratch.best.items(), scratch.unfit.items())
        })
    }
}

/// The route over tools that were found: `best` fit by lane and resources, `unfit` do not.
fn answer(need: &Need, input: &Input, query: &Query, index: &Index, best: &[Scored], unfit: &[Scored]) -> Route {
    let top = best.first().into_iter().chain(unfit.first()).map(|s| s.score).fold(0.0, f32::max);
    let worth = |s: &&Scored| s.score >= top * SCORE_SHARE_MIN;
    let mut route = Route::default();
    let mut refused: Vec<(Scored, String)> = Vec::new();
    for scored in best.iter().take_while(worth) {
        if route.candidates.len() == ROUTE_CANDIDATES_MAX {
            break;
        }
        let capability = index.capability(scored.tool);
        match input.refused_by(capability, index.outline(scored.tool)) {
            Some(reason) if refused.len() < REJECTED_MAX => refused.push((*scored, reason)),
            Some(_) => {}
            None => {
                let reasons = reasons(query, index, scored);
                route.candidates.push(Candidate::new(capability, scored.score, reasons));
            }
        }
    }
    for scored in unfit.iter().take_while(worth) {
        let reason = misfit(need, index.capability(scored.tool));
        refused.extend(reason.map(|reason| (*scored, reason)));
    }
    refused.sort_by(|(a, _), (b, _)| a.rank(b));
    refused.truncate(REJECTED_MAX);
    let rejection =
        |(scored, reason): (Scored, String)| Rejection { capability: index.capability(scored.tool).id.clone(), reason };
    route.rejected = refused.into_iter().map(rejection).collect();
    route
}

fn named_route(need: &Need, capability: &Capability) -> Route {
    match misfit(need, capability).or_else(|| refusal(capability, &need.input)) {
        Some(reason) => {
            Route { rejected: vec![Rejection { capability: capability.id.clone(), reason }], ..Route::default() }
        }
        None => {
            Route { candidates: vec![Candidate::new(capability, NAMED_SCORE, vec![Reason::Named])], ..Route::default() }
        }
    }
}

/// Why the place where a tool runs does not fit the need.
pub(crate) fn misfit(need: &Need, capability: &Capability) -> Option<String> {
    let terms = &capability.terms;
    if let Some(asked) = &need.lane {
        let light = Lane::light();
        let has = terms.lane.as_ref().unwrap_or(&light);
        if asked != has {
            let server = capability.id.server();
            return Some(format!("lane: the need asks for `{asked}`, server `{server}` is in `{has}`"));
        }
    }
    need.resources.refused_by(&terms.resources).map(|why| format!("resources: {why}"))
}

/// Which word of the need adds how much through which field, the weightiest first.
fn reasons(query: &Query, index: &Index, scored: &Scored) -> Vec<Reason> {
    let tool = scored.tool;
    let mut told: Vec<(&'static str, usize, f32)> = Vec::with_capacity(2 * query.terms.len());
    for t in &query.terms {
        let Some((weight, shares)) = index.shares(t.term, tool) else { continue };
        for (field, share) in Field::ALL.iter().zip(shares).filter(|(_, share)| *share > 0.0) {
            let score = weight * t.weight * share;
            match told.iter_mut().find(|(f, w, _)| (*f, *w) == (field.reported(), t.word)) {
                Some((_, _, sum)) => *sum += score,
                None => told.push((field.reported(), t.word, score)),
            }
        }
    }
    told.sort_by(|a, b| b.2.total_cmp(&a.2).then(a.1.cmp(&b.1)).then(a.0.cmp(b.0)));
    told.truncate(REASONS_MAX);
    let reason = |(field, word, score): (&'static str, usize, f32)| Reason::Term {
        field: Cow::Borrowed(field),
        term: query.words[word].clone(),
        score,
    };
    let mut reasons: Vec<Reason> = told.into_iter().map(reason).collect();
    let meaning = index.vector(tool).zip(query.meaning.as_ref());
    let meaning =
        meaning.and_then(|((vectors, number), need)| fusion::similarity(vectors, number, need, !reasons.is_empty()));
    let near = meaning.unwrap_or(0.0) + scored.nearness;
    if near > 0.0 {
        let place = reasons.partition_point(|r| matches!(r, Reason::Term { score, .. } if *score >= near));
        reasons.insert(place, Reason::Similarity { score: near });
        reasons.truncate(REASONS_MAX);
    }
    reasons
}
