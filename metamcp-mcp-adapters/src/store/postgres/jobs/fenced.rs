//! What only the holder of a job's newest lease may do: keep it, save a checkpoint, end the job, give it back.

use std::{collections::BTreeMap, time::Duration};

use metamcp_core::{
    error::StoreResult,
    id::JobId,
    queue::{Beat, Checkpoint, Fenced, Finish, Heartbeat, JobHead, LeaseKey, Nack, moves},
};
use tokio::try_join;
use tokio_postgres::{Error, Row};

use super::{
    super::{
        Engine,
        tx::{Act, Fault, Tx},
    },
    codec::{self, job_id, uuid},
    heads::{Heads, Reach},
    hold::{NOW, hold, load_reach},
    save::{Counts, Woken, save},
};

/// Extends leases. The one write that does not go through `moves`: [`moves::beat`] in SQL, as it is the most frequent one and moves nothing.
const BEAT: &str = "
update job j
set lease_until = current_setting('metamcp.now')::bigint + $5::bigint, wake_at = current_setting('metamcp.now')::bigint + $5::bigint,
    progress = coalesce(u.progress::json, j.progress)
from unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::text[]) u(id, epoch, nonce, progress)
where j.id = u.id and j.epoch = u.epoch and j.nonce = u.nonce and j.state = 4
returning j.id, j.epoch, j.nonce, j.cancel_reason::text";
/// No lease is extended for longer, in milliseconds: about a million years, so that no instant overflows.
const EXTEND_MS_MAX: i64 = 1 << 55;

/// Entries of one call, each with the lease it is about.
#[derive(Clone, Copy)]
enum Entries<'a> {
    Finish(&'a [Finish]),
    Nack(&'a [Nack]),
    Checkpoint(LeaseKey, &'a Checkpoint),
}

struct Write<'a> {
    engine: &'a Engine,
    entries: Entries<'a>,
}

impl Act for Write<'_> {
    type Output = (Vec<Fenced>, Woken);

    async fn act(&mut self, tx: &mut Tx<'_>) -> Result<Self::Output, Fault> {
        let Self { engine, entries } = *self;
        let ids: Vec<_> = match entries {
            Entries::Finish(done) => done.iter().map(|finish| finish.lease.job).collect(),
            Entries::Nack(back) => back.iter().map(|nack| nack.lease.job).collect(),
            Entries::Checkpoint(lease, _) => vec![lease.job],
        };
        let mut heads = hold(tx, &engine.time, &ids).await?;
        let mut reach = heads.reach();
        match entries {
            Entries::Finish(_) => {}
            // Only a job that is done lets others go on at once.
            Entries::Nack(_) => reach.parents.clear(),
            Entries::Checkpoint(..) => reach = Reach::default(),
        }
        load_reach(tx, &mut heads, &reach, engine.schema()).await?;
        let answers = match entries {
            Entries::Finish(done) => done.iter().map(|finish| self::finish(&mut heads, finish)).collect(),
            Entries::Nack(back) => back.iter().map(|nack| self::nack(&mut heads, nack)).collect(),
            Entries::Checkpoint(lease, at) => vec![checkpoint(&mut heads, lease, at)],
        };
        let woken = save(tx, &heads, Counts::default(), engine.schema()).await?;
        Ok((answers, woken))
    }
}

fn finish(heads: &mut Heads, done: &Finish) -> Fenced {
    let now = heads.now();
    let fence = moves::fence(heads.get(done.lease.job), done.lease, |head| moves::ended_so(head, &done.end));
    moved(heads, done.lease, fence, |head| moves::finish(head, now, &done.end))
}

fn nack(heads: &mut Heads, back: &Nack) -> Fenced {
    let now = heads.now();
    let again = |head: &JobHead| head.lease_end == Some(moves::nacked_as(&back.how));
    let fence = moves::fence(heads.get(back.lease.job), back.lease, again);
    moved(heads, back.lease, fence, |head| moves::nack(head, now, &back.how))
}

fn checkpoint(heads: &mut Heads, lease: LeaseKey, at: &Checkpoint) -> Fenced {
    let fence = moves::fence(heads.get(lease.job), lease, |_| false);
    moved(heads, lease, fence, |head| moves::checkpoint(head, at.clone()))
}

fn moved(heads: &mut Heads, lease: LeaseKey, fence: Result<(), Fenced>, edit: impl FnOnce(&mut JobHead)) -> Fenced {
    match fence {
        Ok(()) => heads.change(lease.job, edit).map_or(Fenced::Gone, Fenced::Ok),
        Err(refused) => refused,
    }
}

async fn write(engine: &Engine, entries: Entries<'_>) -> StoreResult<Vec<Fenced>> {
    let (answers, woken) = engine.transact(Write { engine, entries }).await?;
    engine.wake(&woken);
    Ok(answers)
}

pub(super) async fn finish_all(engine: &Engine, done: &[Finish]) -> StoreResult<Vec<Fenced>> {
    write(engine, Entries::Finish(done)).await
}

pub(super) async fn nack_all(engine: &Engine, back: &[Nack]) -> StoreResult<Vec<Fenced>> {
    write(engine, Entries::Nack(back)).await
}

pub(super) async fn save_checkpoint(engine: &Engine, lease: LeaseKey, at: &Checkpoint) -> StoreResult<Option<Fenced>> {
    Ok(write(engine, Entries::Checkpoint(lease, at)).await?.pop())
}

/// Job, epoch and nonce.
type Lease = (JobId, u64, u64);
/// Leases that are to be extended, each once, in order of job, with the last progress that was told.
type Beats = BTreeMap<Lease, Option<String>>;

struct Extend<'a> {
    engine: &'a Engine,
    beats: &'a Beats,
    extend_ms: i64,
}

impl Act for Extend<'_> {
    type Output = Vec<Row>;

    async fn act(&mut self, tx: &mut Tx<'_>) -> Result<Vec<Row>, Fault> {
        let [now, beat] = tx.statements([NOW, BEAT]).await?;
        let keys = || self.beats.keys();
        let ids: Vec<_> = keys().map(|(id, ..)| uuid(*id)).collect();
        let epochs: Vec<i64> = keys().map(|(_, epoch, _)| epoch.cast_signed()).collect();
        let nonces: Vec<i64> = keys().map(|(.., nonce)| nonce.cast_signed()).collect();
        let progress: Vec<Option<&str>> = self.beats.values().map(Option::as_deref).collect();
        let given = self.engine.time.now();
        tx.opens();
        // A lost extension costs no more than the lease: it need not be on the disk.
        let ((), _, extended, ()) = try_join!(
            biased;
            tx.begin_unsynced(),
            tx.query(&now, [&given]),
            tx.query(&beat, [&ids, &epochs, &nonces, &progress, &self.extend_ms]),
            tx.commit(),
        )?;
        tx.committed();
        Ok(extended)
    }
}

pub(super) async fn heartbeat(engine: &Engine, beats: &[Heartbeat], extend: Duration) -> StoreResult<Vec<Beat>> {
    let key = |beat: &Heartbeat| (beat.lease.job, beat.lease.epoch, beat.lease.nonce);
    let mut once = Beats::new();
    for beat in beats {
        let told = once.entry(key(beat)).or_default();
        if let Some(progress) = &beat.progress {
            *told = Some(codec::progress(progress));
        }
    }
    let extend_ms = i64::try_from(extend.as_millis()).unwrap_or(EXTEND_MS_MAX).min(EXTEND_MS_MAX);
    let rows = engine.transact(Extend { engine, beats: &once, extend_ms }).await?;
    let mut extended = BTreeMap::new();
    for row in &rows {
        let (key, reason) = read_extended(row).map_err(|e| engine.failed(e))?;
        extended.insert(key, reason.map(|reason| codec::reason(&reason)).transpose()?);
    }
    let answer = |beat: &Heartbeat| match extended.get(&key(beat)) {
        Some(None) => Beat::Ok,
        Some(Some(reason)) => Beat::CancelAsked { reason: reason.clone() },
        None => Beat::Lost,
    };
    Ok(beats.iter().map(answer).collect())
}

fn read_extended(row: &Row) -> Result<(Lease, Option<String>), Error> {
    let (epoch, nonce): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
    Ok(((job_id(row.try_get(0)?), epoch.cast_unsigned(), nonce.cast_unsigned()), row.try_get(3)?))
}
