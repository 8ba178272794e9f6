//! Concurrency and rate keys of the jobs that a lease call looks at: who holds them, which slots are taken, and whether this call may say.
//!
//! A key belongs to whoever has its lock until the transaction ends. Leasing does not wait for locks: jobs whose key somebody else is at are
//! left for the next call.

use std::collections::{BTreeMap, HashMap, HashSet};

use metamcp_core::{
    id::JobId,
    queue::{JobHead, RateKey, moves},
    time::Timestamp,
};
use tokio::try_join;

use super::{
    super::{
        locks,
        time::{from_instant, to_instant},
        tx::{Fault, Tx},
    },
    heads::{Heads, Reach},
    hold::load_reach,
};

const TRY_LOCK: &str =
    "select pg_try_advisory_xact_lock(k.lock) from unnest($1::bigint[]) with ordinality k(lock, n) order by k.n";
const HOLDERS: &str = "
select (select count(*) from job where concurrency_lock = k.lock and state = 4)
from unnest($1::bigint[]) with ordinality k(lock, n) order by k.n";
const TAKEN: &str = "select key, taken_until from rate where key = any($1)";
/// Takes slots.
pub(super) const TAKE: &str = "
insert into rate (key, taken_until) select * from unnest($1::bytea[], $2::bigint[])
on conflict (key) do update set taken_until = excluded.taken_until";

/// Why a ready job cannot be leased now.
#[derive(Debug, Clone, Copy)]
pub(super) enum Obstacle {
    /// Its concurrency key is held as often as it may be.
    KeyHeld,
    /// The next free slot of its rate is yet to come.
    TooEarly,
}

/// What is known of keys within one lease call.
#[derive(Debug, Default)]
pub(super) struct Limits {
    /// How many leases hold a concurrency key.
    holders: HashMap<String, u64>,
    /// Up to when the slots of a rate key are taken.
    taken: HashMap<String, Option<Timestamp>>,
    /// Keys that somebody else is at, by their lock.
    busy: HashSet<i64>,
    /// Rate keys that slots were taken of.
    changed: HashSet<String>,
    /// How often a key may be let go by jobs that are given a slot later.
    let_go: BTreeMap<String, usize>,
}

impl Limits {
    /// Locks and reads the keys of these jobs, as far as that was not done.
    pub(super) async fn read(
        &mut self,
        tx: &mut Tx<'_>,
        heads: &mut Heads,
        jobs: &[JobId],
        schema: &str,
    ) -> Result<(), Fault> {
        let mut concurrency = Vec::new();
        let mut rates = Vec::new();
        let let_go_before: usize = self.let_go.values().sum();
        for head in jobs.iter().filter_map(|id| heads.get(*id)) {
            let rated = moves::slot_wanted(head);
            if let Some(limit) = &head.concurrency {
                if !self.holders.contains_key(&limit.key) && !concurrency.contains(&limit.key) {
                    concurrency.push(limit.key.clone());
                }
                // One that is given a slot later lets go of its key at once.
                if rated.is_some() {
                    *self.let_go.entry(limit.key.clone()).or_default() += 1;
                }
            }
            if let Some(rate) = rated
                && !self.taken.contains_key(&rate.key)
                && !rates.contains(&rate.key)
            {
                rates.push(rate.key.clone());
            }
        }
        if !concurrency.is_empty() || !rates.is_empty() {
            self.ask(tx, concurrency, &rates, schema).await?;
        }
        if self.let_go.values().sum::<usize>() == let_go_before {
            return Ok(());
        }
        // All that may go on in this call, from the first: those of before are blocked still, as far as the tables know.
        let mut reach = Reach { keys: self.let_go.clone(), ..Reach::default() };
        reach.keys.retain(|key, _| !self.busy.contains(&locks::of_concurrency(schema, key)));
        load_reach(tx, heads, &reach, schema).await
    }

    async fn ask(
        &mut self,
        tx: &mut Tx<'_>,
        concurrency: Vec<String>,
        rates: &[String],
        schema: &str,
    ) -> Result<(), Fault> {
        let [try_lock, holders, taken] = tx.statements([TRY_LOCK, HOLDERS, TAKEN]).await?;
        let key_locks: Vec<i64> = concurrency.iter().map(|key| locks::of_concurrency(schema, key)).collect();
        let rate_locks = rates.iter().map(|key| locks::of_rate(schema, key));
        let all: Vec<i64> = key_locks.iter().copied().chain(rate_locks).collect();
        let rate_keys: Vec<&[u8]> = rates.iter().map(String::as_bytes).collect();
        let (locked, holders, taken) = try_join!(
            biased;
            tx.query(&try_lock, [&all]),
            tx.query_if(!key_locks.is_empty(), &holders, [&key_locks]),
            tx.query_if(!rate_keys.is_empty(), &taken, [&rate_keys]),
        )?;
        for (lock, row) in all.iter().zip(&locked) {
            if !row.try_get::<_, bool>(0)? {
                self.busy.insert(*lock);
            }
        }
        for (key, row) in concurrency.into_iter().zip(&holders) {
            self.holders.insert(key, u64::try_from(row.try_get::<_, i64>(0)?).unwrap_or_default());
        }
        self.taken.extend(rates.iter().map(|key| (key.clone(), None)));
        for row in &taken {
            let key = String::from_utf8_lossy(row.try_get(0)?).into_owned();
            self.taken.insert(key, Some(to_instant(row.try_get(1)?)));
        }
        Ok(())
    }

    /// Whether somebody else is at a key of this job.
    pub(super) fn is_busy(&self, head: &JobHead, schema: &str) -> bool {
        if self.busy.is_empty() {
            return false;
        }
        let concurrency = head.concurrency.as_ref().map(|limit| locks::of_concurrency(schema, &limit.key));
        let rate = moves::slot_wanted(head).map(|rate| locks::of_rate(schema, &rate.key));
        concurrency.into_iter().chain(rate).any(|lock| self.busy.contains(&lock))
    }

    /// Why a job cannot be leased now, if it cannot.
    pub(super) fn obstacle(&self, head: &JobHead, now: Timestamp) -> Option<Obstacle> {
        let holders = |key: &str| self.holders.get(key).copied().unwrap_or_default();
        if head.concurrency.as_ref().is_some_and(|limit| holders(&limit.key) >= u64::from(limit.max)) {
            return Some(Obstacle::KeyHeld);
        }
        let rate = moves::slot_wanted(head)?;
        (self.slot(rate, now).0 > now).then_some(Obstacle::TooEarly)
    }

    /// Passes a job over whose concurrency key is full, delays one that comes too early for its rate.
    pub(super) fn set_aside(&mut self, heads: &mut Heads, id: JobId, obstacle: Obstacle) {
        let now = heads.now();
        match obstacle {
            Obstacle::KeyHeld => heads.change(id, |head| moves::block(head, true)),
            Obstacle::TooEarly => {
                let slot = heads.get(id).and_then(|head| self.take_slot(head, now)).unwrap_or(now);
                heads.change(id, |head| moves::admit_later(head, now, slot))
            }
        };
    }

    /// A job is to be leased: it takes its slot and holds its key.
    pub(super) fn lease(&mut self, head: &JobHead, now: Timestamp) {
        self.take_slot(head, now);
        if let Some(limit) = &head.concurrency {
            *self.holders.entry(limit.key.clone()).or_default() += 1;
        }
    }

    fn slot(&self, rate: &RateKey, now: Timestamp) -> (Timestamp, Timestamp) {
        moves::slot(rate, now, self.taken.get(&rate.key).copied().flatten())
    }

    fn take_slot(&mut self, head: &JobHead, now: Timestamp) -> Option<Timestamp> {
        let rate = moves::slot_wanted(head)?;
        let (slot, taken_until) = self.slot(rate, now);
        self.taken.insert(rate.key.clone(), Some(taken_until));
        self.changed.insert(rate.key.clone());
        Some(slot)
    }

    /// The slots that were taken, as parameters of [`TAKE`].
    pub(super) fn taken(&self) -> (Vec<&[u8]>, Vec<i64>) {
        let changed = self.changed.iter().filter_map(|key| Some((key, self.taken.get(key).copied().flatten()?)));
        changed.map(|(key, until)| (key.as_bytes(), from_instant(until))).unzip()
    }
}
