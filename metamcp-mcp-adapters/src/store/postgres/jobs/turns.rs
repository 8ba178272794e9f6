//! Whose turn it is in a lane: its tenants by virtual time, and their ready jobs as far as they were read. Pure; who leases reads more when
//! [`Turns::next`] asks for it.
//!
//! The order is that of `metamcp_core::queue::Core`: a job that is looked at moves its tenant ahead by [`TURN`] over its weight, the tenant
//! least far ahead is next, who comes back starts no further behind than the lane, and when a lane runs empty all are level again. Between
//! two leases nothing of this needs to be kept up: a tenant that gets jobs is level with the lane at the least, whenever that is found out.

use std::collections::{BTreeMap, BTreeSet};

use metamcp_core::id::{JobId, TenantId};

/// What one job costs a tenant of weight 1; a tenant of weight `w` pays `TURN / w`.
const TURN: u64 = 1_000_000;

/// A position in a tenant's queue: place, then id.
pub(super) type Position = (u64, JobId);

/// What is known of one tenant's ready jobs.
#[derive(Debug, Clone, Default)]
struct Queue {
    known: BTreeSet<Position>,
    /// There may be more behind this position that were not read yet.
    more_behind: Option<Position>,
}

impl Queue {
    /// The first job, if it is certain that it is the first.
    fn first(&self) -> Option<Position> {
        let first = self.known.first().copied()?;
        self.more_behind.is_none_or(|behind| first <= behind).then_some(first)
    }

    /// How many jobs stand in a row without a gap that was not read.
    fn certain(&self) -> usize {
        self.more_behind.map_or(self.known.len(), |behind| self.known.range(..=behind).count())
    }

    fn is_empty(&self) -> bool {
        self.known.is_empty() && self.more_behind.is_none()
    }
}

/// What is next in a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// This job of this tenant.
    Job(TenantId, Position),
    /// More jobs of these tenants must be read first: behind which position, and how many.
    Read(Vec<Wanted>),
    /// Nothing.
    Empty,
}

/// Ready jobs of a tenant that are to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) tenant: TenantId,
    pub(super) behind: Position,
    pub(super) max: usize,
}

/// The turns of one lane within one lease call.
#[derive(Debug)]
pub(super) struct Turns {
    virtual_time: u64,
    /// How far ahead tenants are, as far as that is remembered.
    passes: BTreeMap<TenantId, u64>,
    queues: BTreeMap<TenantId, Queue>,
    /// Tenants that have ready jobs, or may have some, by pass.
    order: BTreeSet<(u64, TenantId)>,
    /// All were level at least once: what is stored of them is void.
    levelled: bool,
    paid: bool,
    /// Some ready jobs were left out: it is not known when the lane is empty.
    left_out: bool,
}

impl Turns {
    /// A lane as it is stored, with the tenants that have ready jobs in it.
    pub(super) fn new(
        virtual_time: u64,
        passes: BTreeMap<TenantId, u64>,
        tenants: impl IntoIterator<Item = TenantId>,
    ) -> Self {
        let mut turns = Self {
            virtual_time,
            passes,
            queues: BTreeMap::new(),
            order: BTreeSet::new(),
            levelled: false,
            paid: false,
            left_out: false,
        };
        for tenant in tenants {
            turns.order.insert((turns.pass(&tenant), tenant.clone()));
            turns.queues.insert(tenant, Queue { known: BTreeSet::new(), more_behind: Some((0, JobId::MIN)) });
        }
        turns
    }

    /// What is next, when at most `wanted` more jobs can be used.
    pub(super) fn next(&self, wanted: usize, weights: &BTreeMap<TenantId, u32>) -> Next {
        let Some((_, tenant)) = self.order.first() else { return Next::Empty };
        match self.queues.get(tenant).and_then(Queue::first) {
            Some(position) => Next::Job(tenant.clone(), position),
            None => Next::Read(self.wanted(wanted, weights)),
        }
    }

    /// Which jobs the next `turns` turns need, as far as they were not read; for each tenant one more, to see whether it runs out.
    fn wanted(&self, turns: usize, weights: &BTreeMap<TenantId, u32>) -> Vec<Wanted> {
        let mut order = self.order.clone();
        let mut uses = BTreeMap::<TenantId, usize>::new();
        for _ in 0..turns.max(1) {
            let Some((pass, tenant)) = order.pop_first() else { break };
            *uses.entry(tenant.clone()).or_default() += 1;
            order.insert((ahead(pass, &tenant, weights), tenant));
        }
        let wanted = uses.into_iter().filter_map(|(tenant, uses)| {
            let queue = self.queues.get(&tenant)?;
            let certain = queue.certain();
            let behind = queue.more_behind.filter(|_| certain < uses)?;
            Some(Wanted { tenant, behind, max: uses + 1 - certain })
        });
        wanted.collect()
    }

    /// Takes in what was read: when there were fewer than wanted, there are no more.
    pub(super) fn take_in(&mut self, wanted: &Wanted, read: &[Position]) {
        let Some(queue) = self.queues.get_mut(&wanted.tenant) else { return };
        queue.more_behind = read.last().copied().filter(|_| read.len() >= wanted.max);
        queue.known.extend(read);
        if queue.is_empty() {
            self.run_out(&wanted.tenant);
        }
    }

    /// The tenant at turn pays for the job that is looked at.
    pub(super) fn pay(&mut self, weights: &BTreeMap<TenantId, u32>) {
        let Some((pass, tenant)) = self.order.pop_first() else { return };
        let next = ahead(pass, &tenant, weights);
        self.passes.insert(tenant.clone(), next);
        self.order.insert((next, tenant));
        self.virtual_time = self.virtual_time.max(pass);
        self.paid = true;
    }

    /// A job is ready no more.
    pub(super) fn leave(&mut self, tenant: &TenantId, position: Position) {
        let Some(queue) = self.queues.get_mut(tenant) else { return };
        queue.known.remove(&position);
        if queue.is_empty() {
            self.run_out(tenant);
        }
    }

    /// A job that stays ready is not for this call.
    pub(super) fn leave_out(&mut self, tenant: &TenantId, position: Position) {
        self.left_out = true;
        self.leave(tenant, position);
    }

    /// A job became ready.
    pub(super) fn join(&mut self, tenant: &TenantId, position: Position) {
        if !self.queues.contains_key(tenant) {
            self.order.insert((self.pass(tenant), tenant.clone()));
        }
        self.queues.entry(tenant.clone()).or_default().known.insert(position);
    }

    /// Tenants of whom it is not known whether they have ready jobs, when it is known of no tenant that it has some: one job of each is to
    /// be read, to see whether the lane ran empty.
    pub(super) fn doubtful(&self) -> Vec<Wanted> {
        // A tenant that was never read is there because it has a job.
        let has = |queue: &Queue| !queue.known.is_empty() || queue.more_behind == Some((0, JobId::MIN));
        if self.queues.values().any(has) {
            return Vec::new();
        }
        let doubtful = self.queues.iter().filter_map(|(tenant, queue)| {
            queue.more_behind.map(|behind| Wanted { tenant: tenant.clone(), behind, max: 1 })
        });
        doubtful.collect()
    }

    /// What is to be stored: the lane's time, whether all that is stored of its tenants is void, and who is ahead of the lane. `None`: as it
    /// was.
    pub(super) fn changed(&self) -> Option<(u64, bool, impl Iterator<Item = (&TenantId, u64)>)> {
        let ahead =
            self.passes.iter().filter(|(_, pass)| **pass > self.virtual_time).map(|(tenant, pass)| (tenant, *pass));
        (self.paid || self.levelled).then_some((self.virtual_time, self.levelled, ahead))
    }

    fn pass(&self, tenant: &TenantId) -> u64 {
        self.passes.get(tenant).copied().unwrap_or_default().max(self.virtual_time)
    }

    /// A tenant has no ready job left. When it was the last one, all are level.
    fn run_out(&mut self, tenant: &TenantId) {
        self.queues.remove(tenant);
        self.order.remove(&(self.pass(tenant), tenant.clone()));
        if self.order.is_empty() && !self.left_out {
            let farthest = self.passes.values().max().copied().unwrap_or_default();
            self.virtual_time = self.virtual_time.max(farthest);
            self.passes.clear();
            self.levelled = true;
        }
    }
}

/// How far ahead a tenant is after one more turn.
fn ahead(pass: u64, tenant: &TenantId, weights: &BTreeMap<TenantId, u32>) -> u64 {
    let weight = weights.get(tenant).map_or(1, |weight| u64::from(*weight).max(1));
    pass.saturating_add((TURN / weight).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name).unwrap()
    }

    fn position(place: u64) -> Position {
        (place, JobId::MAX)
    }

    /// Takes `count` jobs where every tenant has `each`, and answers whose they were.
    fn taken(turns: &mut Turns, each: u64, count: usize, weights: &BTreeMap<TenantId, u32>) -> Vec<String> {
        let mut whose = Vec::new();
        while whose.len() < count {
            match turns.next(count - whose.len(), weights) {
                Next::Empty => break,
                Next::Read(wanted) => {
                    for wanted in wanted {
                        let behind = (wanted.behind.0 + 1..=each).map(position);
                        let read: Vec<Position> = behind.take(wanted.max).collect();
                        turns.take_in(&wanted, &read);
                    }
                }
                Next::Job(tenant, position) => {
                    turns.pay(weights);
                    turns.leave(&tenant, position);
                    whose.push(tenant.to_string());
                }
            }
        }
        whose
    }

    #[test]
    fn tenants_take_turns_by_weight_and_who_has_none_left_is_out() {
        let weights = BTreeMap::from([(tenant("b"), 2)]);
        let mut turns = Turns::new(0, BTreeMap::new(), [tenant("a"), tenant("b")]);
        assert_eq!(taken(&mut turns, 3, 10, &weights).concat(), "abbaba");
        let (time, levelled, ahead) = turns.changed().unwrap();
        assert_eq!((time, levelled, ahead.count()), (3 * TURN, true, 0), "empty: all are level where the farthest is");
    }

    #[test]
    fn who_is_ahead_waits_and_who_was_away_gets_no_credit() {
        let mut turns = Turns::new(5 * TURN, BTreeMap::from([(tenant("a"), 7 * TURN)]), [tenant("a"), tenant("z")]);
        assert_eq!(taken(&mut turns, 100, 5, &BTreeMap::new()).concat(), "zzaza");
        let (time, levelled, ahead) = turns.changed().unwrap();
        let ahead: Vec<_> = ahead.map(|(tenant, pass)| (tenant.to_string(), pass)).collect();
        assert_eq!((time, levelled), (8 * TURN, false));
        assert_eq!(ahead, [("a".to_owned(), 9 * TURN)], "z is level with the lane");
    }

    #[test]
    fn only_what_may_be_used_is_read_and_one_more() {
        let turns = Turns::new(0, BTreeMap::new(), (0..50).map(|n| tenant(&format!("t{n:02}"))));
        let Next::Read(wanted) = turns.next(3, &BTreeMap::new()) else { panic!("nothing was read yet") };
        let wanted: Vec<_> = wanted.iter().map(|wanted| (wanted.tenant.as_str(), wanted.max)).collect();
        assert_eq!(wanted, [("t00", 2), ("t01", 2), ("t02", 2)]);
    }

    #[test]
    fn a_job_that_comes_behind_what_was_read_waits_for_what_is_in_between() {
        let mut turns = Turns::new(0, BTreeMap::new(), [tenant("a")]);
        let Next::Read(wanted) = turns.next(1, &BTreeMap::new()) else { panic!("nothing was read yet") };
        turns.take_in(&wanted[0], &[position(1), position(2)]);
        turns.join(&tenant("a"), position(9));
        turns.join(&tenant("a"), position(0));
        for place in [0, 1, 2] {
            assert_eq!(turns.next(1, &BTreeMap::new()), Next::Job(tenant("a"), position(place)));
            turns.leave(&tenant("a"), position(place));
        }
        let Next::Read(wanted) = turns.next(1, &BTreeMap::new()) else { panic!("there may be one before") };
        assert_eq!(wanted[0].behind, position(2));
        turns.take_in(&wanted[0], &[position(3)]);
        assert_eq!(turns.next(1, &BTreeMap::new()), Next::Job(tenant("a"), position(3)));
    }

    #[test]
    fn a_lane_that_may_have_run_empty_is_looked_at() {
        let mut turns = Turns::new(0, BTreeMap::new(), [tenant("a")]);
        let Next::Read(wanted) = turns.next(1, &BTreeMap::new()) else { panic!("nothing was read yet") };
        turns.take_in(&wanted[0], &[position(1), position(2)]);
        turns.leave(&tenant("a"), position(1));
        assert!(turns.doubtful().is_empty(), "there is another");
        turns.leave(&tenant("a"), position(2));
        let doubtful = turns.doubtful();
        assert_eq!((doubtful.len(), doubtful[0].behind), (1, position(2)));
        turns.take_in(&doubtful[0], &[]);
        assert!(turns.changed().unwrap().1, "empty");
    }
}
