//! Calls as they are made on a store, and their answers in a form that can be compared.

use std::{num::NonZeroU16, time::Duration};

use crate::{
    error::StoreResult,
    id::{JobId, Lane},
    queue::{
        Answer, Answered, Beat, Cancelled, Checkpoint, Durability, Enqueued, Fenced, Finish, Heartbeat, JobStore,
        LeaseBatch, LeaseKey, LeaseRequest, Maintained, Nack, NewJob, Redriven,
    },
    testing::ManualClock,
};

/// Rounds of maintenance after which there must be nothing more to do.
const MAINTAIN_ROUNDS_MAX: usize = 100;

/// A call as it is made.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// [`JobStore::enqueue`].
    Enqueue(Vec<NewJob>),
    /// [`JobStore::lease`].
    Lease(LeaseRequest),
    /// [`JobStore::heartbeat`].
    Heartbeat(Vec<Heartbeat>, Duration),
    /// [`JobStore::checkpoint`].
    Checkpoint(LeaseKey, Checkpoint),
    /// [`JobStore::finish`].
    Finish(Vec<Finish>),
    /// [`JobStore::nack`].
    Nack(Vec<Nack>),
    /// [`JobStore::answer`].
    Answer(JobId, Answer),
    /// [`JobStore::redrive`].
    Redrive(JobId),
    /// [`JobStore::cancel`].
    Cancel(JobId, String),
    /// [`JobStore::pause`].
    Pause(Lane, bool),
    /// [`JobStore::maintain`] until there is nothing more to do.
    Maintain,
    /// Time passes.
    Advance(Duration),
}

/// The answer to a [`Call`]. Durability is left out: it is the one thing in which stores may differ.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// To [`Call::Enqueue`].
    Enqueued(Vec<Enqueued>),
    /// To [`Call::Lease`].
    Leased(LeaseBatch),
    /// To [`Call::Heartbeat`].
    Beats(Vec<Beat>),
    /// To [`Call::Checkpoint`], [`Call::Finish`] and [`Call::Nack`].
    Fenced(Vec<Fenced>),
    /// To [`Call::Answer`].
    Answered(Answered),
    /// To [`Call::Redrive`].
    Redriven(Redriven),
    /// To [`Call::Cancel`].
    Cancelled(Cancelled),
    /// To [`Call::Maintain`]: all rounds together, sorted by id.
    Maintained(Box<Maintained>),
    /// To what answers nothing.
    Nothing,
}

/// Makes one call. Time passes on `clock`, which must be the store's.
///
/// # Errors
/// What the store answers.
pub async fn act(call: &Call, store: &dyn JobStore, clock: &ManualClock) -> StoreResult<Reply> {
    Ok(match call {
        Call::Enqueue(jobs) => {
            let mut answers = store.enqueue(jobs).await?;
            for answer in &mut answers {
                if let Enqueued::Ok { durability, .. } = answer {
                    *durability = Durability::Memory;
                }
            }
            Reply::Enqueued(answers)
        }
        Call::Lease(want) => Reply::Leased(store.lease(want).await?),
        Call::Heartbeat(beats, extend) => Reply::Beats(store.heartbeat(beats, *extend).await?),
        Call::Checkpoint(key, at) => Reply::Fenced(vec![store.checkpoint(*key, at.clone()).await?]),
        Call::Finish(done) => Reply::Fenced(store.finish(done).await?),
        Call::Nack(back) => Reply::Fenced(store.nack(back).await?),
        Call::Answer(job, answer) => Reply::Answered(store.answer(*job, answer.clone()).await?),
        Call::Redrive(job) => Reply::Redriven(store.redrive(*job).await?),
        Call::Cancel(job, reason) => Reply::Cancelled(store.cancel(*job, reason).await?),
        Call::Pause(lane, paused) => {
            store.pause(lane, *paused).await?;
            Reply::Nothing
        }
        Call::Maintain => Reply::Maintained(Box::new(maintain(store).await?)),
        Call::Advance(by) => {
            clock.advance(*by);
            Reply::Nothing
        }
    })
}

async fn maintain(store: &dyn JobStore) -> StoreResult<Maintained> {
    let mut all = Maintained::default();
    for _ in 0..MAINTAIN_ROUNDS_MAX {
        let round = store.maintain(NonZeroU16::MAX).await?;
        if round == Maintained::default() {
            all.reclaimed.sort_unstable();
            all.expired.sort_unstable();
            all.settled.sort_unstable();
            all.removed.sort_unstable();
            return Ok(all);
        }
        all.promoted += round.promoted;
        all.reclaimed.extend(round.reclaimed);
        all.expired.extend(round.expired);
        all.settled.extend(round.settled);
        all.removed.extend(round.removed);
    }
    panic!("there was still something to do after {MAINTAIN_ROUNDS_MAX} rounds of maintenance");
}
