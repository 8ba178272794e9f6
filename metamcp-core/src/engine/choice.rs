//! The choice among servers that can do the same: by what each costs, counted in milliseconds of waiting. Pure: what is known goes in, the
//! route in its order comes out.
//!
//! ```text
//! cost = latency × (calls under way + 1) + failure rate × 5 s + what place and price add (+ 60 s while it is down)
//! ```
//! Of two candidates drawn at random the one that costs less comes first, the others follow by cost, those that are down last. Tools that do
//! different things are never put before one another.

use std::{sync::Arc, time::Duration};

use super::standing::Load;
use crate::{
    id::{CapabilityId, ServerName},
    matching::{
        Candidate, Catalog, Locality, REJECTED_MAX, ROUTE_CANDIDATES_MAX, Reason, Rejection, Route, ServerTerms,
        misfit, refusal_of_need,
    },
    task::Need,
};

/// What a call that fails costs, in milliseconds: it is made again, or its job is lost.
const FAILURE_MS: f64 = 5_000.0;
/// What one unit of price costs, in milliseconds.
const PRICE_MS: f64 = 1_000.0;
/// What it costs that data leaves this machine, in milliseconds: to a place of our own, and to somebody else's.
const OWNED_MS: f64 = 25.0;
const REMOTE_MS: f64 = 50.0;
/// What it costs that a server is down, in milliseconds.
const DOWN_MS: f64 = 60_000.0;
/// The least that a call under way is taken to last, in milliseconds: of a server that was never called nothing else is known.
const LATENCY_MS_MIN: f64 = 1.0;
/// Highest cost, in milliseconds: costs are stored, and what is not a number could not be read again.
const COST_MS_MAX: f64 = 1e9;
/// A server that has been down for longer is rejected while another one can do the same.
const DOWN_GRACE: Duration = Duration::from_secs(60);

/// What is known of a candidate's server when the choice is made.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) load: Load,
    /// Since when, and why, when the last attempt to reach it failed.
    pub(super) down: Option<(Duration, String)>,
    pub(super) terms: Arc<ServerTerms>,
}

impl Seen {
    /// What a further call would cost, in milliseconds of waiting.
    pub(super) fn cost_ms(&self) -> f64 {
        let calls = f64::from(self.load.in_flight);
        let latency = if calls > 0.0 { self.load.latency_ms.max(LATENCY_MS_MIN) } else { self.load.latency_ms };
        let down = if self.down.is_some() { DOWN_MS } else { 0.0 };
        let cost = latency * (calls + 1.0) + self.load.failure_rate * FAILURE_MS + self.place_ms() + down;
        cost.min(COST_MS_MAX)
    }

    /// What its place and price add.
    fn place_ms(&self) -> f64 {
        let far = match self.terms.locality {
            Locality::Local => 0.0,
            Locality::Owned => OWNED_MS,
            Locality::Remote => REMOTE_MS,
        };
        (far + self.price() * PRICE_MS).min(COST_MS_MAX)
    }

    fn price(&self) -> f64 {
        if self.terms.price.is_finite() { self.terms.price.max(0.0) } else { 0.0 }
    }

    #[expect(clippy::cast_possible_truncation, reason = "reasons are told to a few digits")]
    fn reasons(&self, drawn: bool) -> impl Iterator<Item = Reason> {
        let health = Reason::Health {
            up: self.down.is_none(),
            in_flight: self.load.in_flight,
            latency_ms: self.load.latency_ms as f32,
            failure_rate: self.load.failure_rate as f32,
            cost_ms: self.cost_ms() as f32,
            drawn,
        };
        let (locality, price) = (self.terms.locality, self.price());
        let place = Reason::Resource { locality, price, cost_ms: self.place_ms() as f32 };
        [Some(health), (self.place_ms() > 0.0).then_some(place)].into_iter().flatten()
    }
}

/// The route with those of the catalogue beside each candidate that are declared to do the same: the words of a need may find one of them only.
/// Those that cannot serve the need are rejected with the reason. A need that names its tool keeps to it.
pub(super) fn with_equivalents(mut route: Route, need: &Need, catalog: &Catalog) -> Route {
    if need.tool.is_some() {
        return route;
    }
    let known = |route: &Route, id: &CapabilityId| {
        route.candidates.iter().any(|c| c.capability == *id) || route.rejected.iter().any(|r| r.capability == *id)
    };
    for at in 0..route.candidates.len() {
        let Some(group) = route.candidates[at].group.clone() else { continue };
        for other in catalog.group(&group) {
            if route.candidates.len() >= 2 * ROUTE_CANDIDATES_MAX || known(&route, &other.id) {
                continue;
            }
            match misfit(need, other).or_else(|| refusal_of_need(other, need)) {
                None => {
                    let text = format!("does the same as {}", route.candidates[at].capability);
                    let score = route.candidates[at].score;
                    route.candidates.push(Candidate::new(other, score, vec![Reason::Other { text, score: 0.0 }]));
                }
                Some(reason) if route.rejected.len() < REJECTED_MAX => {
                    route.rejected.push(Rejection { capability: other.id.clone(), reason });
                }
                Some(_) => {}
            }
        }
    }
    route
}

/// The route with the candidates that can do the same side by side, at the place of the best matched one, in the order in which they are to
/// be called. `draw` is random; the same one leads to the same order.
pub(super) fn order(route: Route, seen: &dyn Fn(&ServerName) -> Seen, draw: u64) -> Route {
    let Route { candidates, mut rejected } = route;
    let mut ordered = Vec::with_capacity(candidates.len());
    let mut left = candidates;
    while !left.is_empty() {
        let first = left.remove(0);
        let (mut alike, rest): (Vec<_>, Vec<_>) = left.into_iter().partition(|c| c.is_equivalent_to(&first));
        left = rest;
        alike.insert(0, first);
        if alike.len() == 1 {
            ordered.append(&mut alike);
            continue;
        }
        // Each group of the route has bits of its own.
        let draw = draw.rotate_left(u32::try_from(ordered.len()).unwrap_or_default() * 11);
        ordered.extend(among(alike, seen, draw, &mut rejected));
    }
    ordered.truncate(ROUTE_CANDIDATES_MAX);
    rejected.truncate(REJECTED_MAX);
    Route { candidates: ordered, rejected }
}

/// The route with how every server stands, also where there was nothing to choose.
pub(super) fn told(mut route: Route, seen: &dyn Fn(&ServerName) -> Seen) -> Route {
    for candidate in &mut route.candidates {
        if !candidate.reasons.iter().any(|reason| matches!(reason, Reason::Health { .. })) {
            let seen = seen(candidate.capability.server());
            candidate.reasons.extend(seen.reasons(false));
        }
    }
    route
}

/// Two or more that do the same, in the order in which they are to be called.
fn among(
    alike: Vec<Candidate>,
    seen: &dyn Fn(&ServerName) -> Seen,
    draw: u64,
    rejected: &mut Vec<Rejection>,
) -> impl Iterator<Item = Candidate> + use<> {
    let mut known: Vec<(Candidate, Seen)> = alike
        .into_iter()
        .map(|candidate| {
            let seen = seen(candidate.capability.server());
            (candidate, seen)
        })
        .collect();
    let up = known.iter().filter(|(_, seen)| seen.down.is_none()).count();
    if up > 0 {
        known.retain(|(candidate, seen)| match &seen.down {
            Some((since, why)) if *since > DOWN_GRACE => {
                let server = candidate.capability.server();
                let reason = format!("server `{server}` has been down for {} s: {why}", since.as_secs());
                rejected.insert(0, Rejection { capability: candidate.capability.clone(), reason });
                false
            }
            _ => true,
        });
    }
    known.sort_by(|(_, a), (_, b)| (a.down.is_some().cmp(&b.down.is_some())).then(a.cost_ms().total_cmp(&b.cost_ms())));
    let drawn = two_of(if up > 0 { up } else { known.len() }, draw);
    let chosen = drawn.map(|(one, other)| if known[other].1.cost_ms() < known[one].1.cost_ms() { other } else { one });
    if let Some(at) = chosen {
        let best = known.remove(at);
        known.insert(0, best);
    }
    known.into_iter().enumerate().map(move |(at, (mut candidate, seen))| {
        candidate.reasons.extend(seen.reasons(at == 0 && chosen.is_some()));
        candidate
    })
}

/// Two different positions below `n`, by a random number; `None` when there are not two.
pub(super) fn two_of(n: usize, draw: u64) -> Option<(usize, usize)> {
    let count = u64::try_from(n).ok().filter(|n| *n >= 2)?;
    let one = draw % count;
    let other = (one + 1 + (draw >> 32) % (count - 1)) % count;
    Some((usize::try_from(one).ok()?, usize::try_from(other).ok()?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::pointer::Digest;

    fn candidate(server: &str, definition: &str, group: Option<&str>) -> Candidate {
        Candidate {
            capability: format!("{server}/t").parse().unwrap(),
            score: 1.0,
            reasons: Vec::new(),
            lane: None,
            definition: Digest::of(definition.as_bytes()),
            group: group.map(str::to_owned),
        }
    }

    fn route(candidates: Vec<Candidate>) -> Route {
        Route { candidates, rejected: Vec::new() }
    }

    fn loaded(in_flight: u32, latency_ms: f64, failure_rate: f64) -> Seen {
        Seen { load: Load { in_flight, latency_ms, failure_rate }, ..Seen::default() }
    }

    fn down(seconds: u64) -> Seen {
        Seen { down: Some((Duration::from_secs(seconds), "exit status 1".to_owned())), ..Seen::default() }
    }

    fn servers(route: &Route) -> Vec<&str> {
        route.candidates.iter().map(|c| c.capability.server().as_str()).collect()
    }

    fn ordered(candidates: Vec<Candidate>, seen: &BTreeMap<&str, Seen>, draw: u64) -> Route {
        order(route(candidates), &|server| seen.get(server.as_str()).cloned().unwrap_or_default(), draw)
    }

    #[test]
    fn the_cheaper_of_two_comes_first_and_what_differs_keeps_its_place() {
        let candidates = || vec![candidate("a", "x", None), candidate("other", "y", None), candidate("b", "x", None)];
        for (slow, quick) in [
            (loaded(0, 500.0, 0.0), loaded(0, 20.0, 0.0)),
            (loaded(9, 20.0, 0.0), loaded(0, 20.0, 0.0)),
            (loaded(0, 5.0, 0.5), loaded(3, 20.0, 0.0)),
            (down(1), loaded(30, 20.0, 0.9)),
        ] {
            let seen = BTreeMap::from([("a", slow), ("b", quick)]);
            for draw in [0, 7, u64::MAX] {
                let route = ordered(candidates(), &seen, draw);
                assert_eq!(servers(&route), ["b", "a", "other"]);
                let drawn = |c: &Candidate| c.reasons.iter().any(|r| matches!(r, Reason::Health { drawn: true, .. }));
                assert!(!drawn(&route.candidates[1]) && route.candidates[2].reasons.is_empty());
            }
        }
    }

    #[test]
    fn price_and_place_decide_between_servers_that_do_as_well() {
        let terms = |locality, price| Seen {
            terms: Arc::new(ServerTerms { locality, price, ..ServerTerms::default() }),
            ..Seen::default()
        };
        let both = || vec![candidate("a", "x", Some("g")), candidate("b", "y", Some("g"))];
        let seen = BTreeMap::from([("a", terms(Locality::Remote, 0.0)), ("b", terms(Locality::Owned, 0.0))]);
        assert_eq!(servers(&ordered(both(), &seen, 1)), ["b", "a"]);
        let seen = BTreeMap::from([("a", terms(Locality::Local, 0.5)), ("b", terms(Locality::Remote, 0.1))]);
        let route = ordered(both(), &seen, 1);
        assert_eq!(servers(&route), ["b", "a"]);
        assert!(matches!(route.candidates[0].reasons[1], Reason::Resource { locality: Locality::Remote, .. }));
        let odd = terms(Locality::Local, f64::NAN);
        assert_eq!(odd.cost_ms(), 0.0);
    }

    #[test]
    fn a_server_that_is_long_down_is_rejected_only_while_another_serves() {
        let both = || vec![candidate("a", "x", None), candidate("b", "x", None)];
        let route = ordered(both(), &BTreeMap::from([("a", down(3_600))]), 0);
        assert_eq!(servers(&route), ["b"]);
        assert!(route.rejected[0].reason.contains("down for 3600 s: exit status 1"), "{:?}", route.rejected);
        let route = ordered(both(), &BTreeMap::from([("a", down(3_600)), ("b", down(3_600))]), 0);
        assert_eq!(route.candidates.len(), 2);
        let route = ordered(both(), &BTreeMap::from([("a", down(5))]), 0);
        assert_eq!(servers(&route), ["b", "a"], "a short outage leaves it as the next best");
    }

    #[test]
    fn two_of_three_are_drawn_so_that_none_starves_and_the_worst_never_leads() {
        let names = ["a", "b", "c"];
        let all = || names.iter().map(|name| candidate(name, "x", None)).collect::<Vec<_>>();
        let seen =
            BTreeMap::from([("a", loaded(0, 10.0, 0.0)), ("b", loaded(0, 11.0, 0.0)), ("c", loaded(0, 900.0, 0.0))]);
        let leads = |seen: &BTreeMap<&str, Seen>| {
            let mut leads = BTreeMap::<String, u32>::new();
            for n in 0..300_u64 {
                let draw = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                *leads.entry(servers(&ordered(all(), seen, draw))[0].to_owned()).or_default() += 1;
            }
            leads
        };
        let told = leads(&seen);
        assert!(told["a"] > told["b"] && told["b"] > 50 && !told.contains_key("c"), "{told:?}");
        let even = leads(&BTreeMap::new());
        assert!(names.iter().all(|name| even[*name] > 50), "{even:?}");
    }

    proptest! {
        #[test]
        fn an_order_is_the_same_for_the_same_draw_and_loses_nobody(
            kinds in prop::collection::vec((0..3_u8, 0..3_u8), 0..8),
            loads in prop::collection::vec((0..9_u32, 0.0..2_000.0, 0.0..1.0), 8),
            draw: u64,
        ) {
            let named: Vec<String> = (0..kinds.len()).map(|n| format!("s{n}")).collect();
            let candidates: Vec<Candidate> = kinds.iter().zip(&named).map(|((definition, group), name)| {
                candidate(name, &definition.to_string(), (*group > 0).then(|| group.to_string()).as_deref())
            }).collect();
            let seen = named.iter().zip(loads).map(|(name, (n, ms, failed))| (name.as_str(), loaded(n, ms, failed))).collect();
            let one = ordered(candidates.clone(), &seen, draw);
            prop_assert_eq!(&one, &ordered(candidates.clone(), &seen, draw));
            let (mut before, mut after) = (servers(&route(candidates.clone())).join(" "), servers(&one).join(" "));
            let sorted = |text: &mut String| { let mut words: Vec<_> = text.split(' ').collect(); words.sort_unstable(); words.join(" ") };
            prop_assert_eq!(sorted(&mut before), sorted(&mut after));
            if let (Some(was), Some(is)) = (candidates.first(), one.candidates.first()) {
                prop_assert!(is.is_equivalent_to(was), "what does something else never comes first");
            }
        }
    }
}
