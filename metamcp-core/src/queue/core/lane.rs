//! One lane: its ready jobs, tenant by tenant, its delayed ones by due time, and how many stand elsewhere.
//!
//! Tenants take turns by virtual time: each job taken moves its tenant ahead by [`TURN`], the tenant least far ahead is next. A tenant that
//! comes back starts no further behind than the lane, so that idling earns no credit; when the lane runs empty all are level again, so that
//! nothing is remembered of tenants that are gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    id::{JobId, TenantId},
    queue::{
        job::{JobHead, JobState},
        lease::LaneCounts,
        moves::place,
    },
    time::Timestamp,
};

/// What one job costs a tenant of weight 1; a tenant of weight `w` pays `TURN / w`.
const TURN: u64 = 1_000_000;
/// The ready jobs of one tenant, and how far ahead it is.
#[derive(Debug, Default)]
struct Tenant {
    pass: u64,
    ready: BTreeSet<(u64, JobId)>,
}

/// One lane.
#[derive(Debug, Default)]
pub(super) struct LaneQueue {
    pub(super) paused: bool,
    tenants: BTreeMap<TenantId, Tenant>,
    /// Tenants with ready jobs, by pass.
    turns: BTreeSet<(u64, TenantId)>,
    /// Tenants without, by pass, as long as they are ahead of the lane.
    idle: BTreeSet<(u64, TenantId)>,
    virtual_time: u64,
    ready_by_due: BTreeSet<(Timestamp, JobId)>,
    delayed: BTreeSet<(Timestamp, JobId)>,
    blocked: u64,
    waiting: u64,
    pub(super) leased: u64,
    input: u64,
    dead: u64,
}

impl LaneQueue {
    /// Takes in a head.
    pub(super) fn add(&mut self, head: &JobHead) {
        match head.state {
            JobState::Ready if head.blocked => self.blocked += 1,
            JobState::Ready => self.add_ready(head),
            JobState::Waiting => self.waiting += 1,
            JobState::Delayed => {
                self.delayed.insert((head.due_at, head.id));
            }
            JobState::Leased => self.leased += 1,
            JobState::Input => self.input += 1,
            JobState::Dead => self.dead += 1,
            JobState::Done | JobState::Cancelled => {}
        }
    }

    /// Undoes [`add`](Self::add) of the same head.
    pub(super) fn remove(&mut self, head: &JobHead) {
        match head.state {
            JobState::Ready if head.blocked => self.blocked -= 1,
            JobState::Ready => self.remove_ready(head),
            JobState::Waiting => self.waiting -= 1,
            JobState::Delayed => {
                self.delayed.remove(&(head.due_at, head.id));
            }
            JobState::Leased => self.leased -= 1,
            JobState::Input => self.input -= 1,
            JobState::Dead => self.dead -= 1,
            JobState::Done | JobState::Cancelled => {}
        }
    }

    /// The job whose turn it is.
    pub(super) fn next(&self) -> Option<JobId> {
        let (_, tenant) = self.turns.first()?;
        self.tenants.get(tenant)?.ready.first().map(|(_, id)| *id)
    }

    /// The tenant at turn pays for the job that is looked at, by its weight.
    pub(super) fn pay_turn(&mut self, weights: &BTreeMap<TenantId, u32>) {
        let Some((pass, name)) = self.turns.pop_first() else { return };
        let weight = weights.get(&name).map_or(1, |weight| u64::from(*weight).max(1));
        let next = pass.saturating_add((TURN / weight).max(1));
        if let Some(tenant) = self.tenants.get_mut(&name) {
            tenant.pass = next;
        }
        self.turns.insert((next, name));
        self.virtual_time = self.virtual_time.max(pass);
        while self.idle.first().is_some_and(|(pass, _)| *pass <= self.virtual_time) {
            if let Some((_, level)) = self.idle.pop_first() {
                self.tenants.remove(&level);
            }
        }
    }

    /// The delayed job that is due first, if it is due.
    pub(super) fn first_due(&self, now: Timestamp) -> Option<JobId> {
        self.delayed.first().filter(|(due, _)| *due <= now).map(|(_, id)| *id)
    }

    /// How long until a job may be leased; zero when one may be now.
    pub(super) fn next_due(&self, now: Timestamp) -> Option<Duration> {
        if self.turns.is_empty() { self.delayed.first().map(|(due, _)| due.since(now)) } else { Some(Duration::ZERO) }
    }

    /// What waits for its turn, whatever it waits for.
    pub(super) fn backlog(&self) -> u64 {
        (self.ready_by_due.len() + self.delayed.len()) as u64 + self.blocked + self.waiting
    }

    /// How many jobs stand where.
    pub(super) fn counts(&self, now: Timestamp) -> LaneCounts {
        let oldest = self.ready_by_due.first().map(|(due, _)| now.as_millis().saturating_sub(due.as_millis()));
        LaneCounts {
            ready: self.ready_by_due.len() as u64,
            blocked: self.blocked,
            waiting: self.waiting,
            delayed: self.delayed.len() as u64,
            leased: self.leased,
            input: self.input,
            dead: self.dead,
            oldest_ready_ms: oldest.unwrap_or_default(),
            paused: self.paused,
        }
    }

    /// Whether nothing would be lost by forgetting the lane.
    pub(super) fn is_blank(&self) -> bool {
        let elsewhere = self.blocked + self.waiting + self.leased + self.input + self.dead;
        !self.paused && self.turns.is_empty() && self.delayed.is_empty() && elsewhere == 0
    }

    /// Compares with a lane built anew from the same heads, and the turns with the jobs.
    pub(super) fn check(&self, anew: &Self) -> Result<(), &'static str> {
        let ready = |queue: &Self| -> Vec<(TenantId, BTreeSet<(u64, JobId)>)> {
            let tenants = queue.tenants.iter().filter(|(_, tenant)| !tenant.ready.is_empty());
            tenants.map(|(name, tenant)| (name.clone(), tenant.ready.clone())).collect()
        };
        let passes = |waiting: bool| -> BTreeSet<(u64, TenantId)> {
            let tenants = self.tenants.iter().filter(|(_, tenant)| tenant.ready.is_empty() != waiting);
            tenants.map(|(name, tenant)| (tenant.pass, name.clone())).collect()
        };
        let rules = [
            (ready(self) == ready(anew), "ready jobs"),
            (self.ready_by_due == anew.ready_by_due, "ready jobs by due time"),
            (self.delayed == anew.delayed, "delayed jobs"),
            ((self.leased, self.input, self.dead) == (anew.leased, anew.input, anew.dead), "counts"),
            ((self.blocked, self.waiting) == (anew.blocked, anew.waiting), "counts of what waits"),
            (self.turns == passes(true), "turns of tenants"),
            (self.idle == passes(false), "idle tenants"),
            (self.idle.first().is_none_or(|(pass, _)| *pass > self.virtual_time), "idle tenants behind the lane"),
            (!self.turns.is_empty() || self.idle.is_empty(), "tenants of an empty lane"),
        ];
        rules.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, what)| Err(what))
    }

    fn add_ready(&mut self, head: &JobHead) {
        let name = &head.owner.tenant;
        let tenant = self.tenants.entry(name.clone()).or_default();
        if tenant.ready.is_empty() {
            self.idle.remove(&(tenant.pass, name.clone()));
            tenant.pass = tenant.pass.max(self.virtual_time);
            self.turns.insert((tenant.pass, name.clone()));
        }
        tenant.ready.insert((place(head), head.id));
        self.ready_by_due.insert((head.due_at, head.id));
    }

    fn remove_ready(&mut self, head: &JobHead) {
        self.ready_by_due.remove(&(head.due_at, head.id));
        let name = &head.owner.tenant;
        let Some(tenant) = self.tenants.get_mut(name) else { return };
        tenant.ready.remove(&(place(head), head.id));
        if !tenant.ready.is_empty() {
            return;
        }
        let pass = tenant.pass;
        self.turns.remove(&(pass, name.clone()));
        if pass > self.virtual_time {
            self.idle.insert((pass, name.clone()));
        } else {
            self.tenants.remove(name);
        }
        if self.turns.is_empty() {
            let farthest = self.idle.last().map_or(0, |(pass, _)| *pass);
            self.virtual_time = self.virtual_time.max(farthest);
            self.idle.clear();
            self.tenants.clear();
        }
    }
}
