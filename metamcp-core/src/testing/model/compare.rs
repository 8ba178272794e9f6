//! The same calls on a store and on the model, compared after every one.

use std::sync::Arc;

use super::{call::act, caller::Caller, op::Op};
use crate::{
    queue::{JobQuery, JobStore, MemoryJobStore},
    testing::ManualClock,
};

/// Makes each call on `store` and on a fresh in-memory store, both on `clock`, and compares the answers, every job, the list, the counts and
/// the lanes. The store must be fresh, with the usual limits.
///
/// # Errors
/// The first difference, with the call that led to it.
pub async fn compare_with_model(store: &dyn JobStore, clock: &Arc<ManualClock>, ops: &[Op]) -> Result<(), String> {
    let model = MemoryJobStore::new(Arc::<ManualClock>::clone(clock));
    compare(store, &model, clock, &mut Caller::new(), ops).await
}

/// Makes the calls `before` on another store and lets `store` and a fresh in-memory one take in what it holds then, whatever state it is in;
/// from there on compares as [`compare_with_model`] does.
///
/// # Errors
/// The first difference, with the call that led to it.
pub async fn compare_restored_with_model(
    store: &dyn JobStore,
    clock: &Arc<ManualClock>,
    before: &[Op],
    ops: &[Op],
) -> Result<(), String> {
    let from = MemoryJobStore::new(Arc::<ManualClock>::clone(clock));
    let model = MemoryJobStore::new(Arc::<ManualClock>::clone(clock));
    let failed = |error| format!("a call fails: {error}");
    let mut caller = Caller::new();
    for op in before {
        let reply = act(&caller.call(op), &from, clock).await.map_err(failed)?;
        caller.learn(&reply);
    }
    for lane in Caller::lanes() {
        // Jobs are taken in, lanes are not: what is paused there is told apart from jobs.
        from.pause(&lane, false).await.map_err(failed)?;
    }
    let jobs = from.list(&JobQuery::default()).await.map_err(failed)?.jobs;
    let at = |what: String| format!("taking in {jobs:?}: {what}");
    let expected = model.restore(&jobs).await.map_err(failed)?;
    let answer = store.restore(&jobs).await.map_err(failed)?;
    if answer != expected {
        return Err(at(format!("the store answers {answer:?}, the model {expected:?}")));
    }
    same_state(store, &from).await.map_err(at)?;
    model.check().map_err(at)?;
    compare(store, &model, clock, &mut caller, ops).await
}

async fn compare(
    store: &dyn JobStore,
    model: &MemoryJobStore,
    clock: &Arc<ManualClock>,
    caller: &mut Caller,
    ops: &[Op],
) -> Result<(), String> {
    // Time passes once for both: the model's half of a call is given a clock of its own to move.
    let unheard = ManualClock::new();
    for (step, op) in ops.iter().enumerate() {
        let call = caller.call(op);
        let (expected, answer) = (act(&call, model, &unheard).await, act(&call, store, clock).await);
        let at = |what: String| format!("step {step}, {call:?}: {what}");
        let expected = expected.map_err(|error| at(format!("the model fails: {error}")))?;
        let answer = answer.map_err(|error| at(format!("the store fails: {error}")))?;
        if answer != expected {
            return Err(at(format!("the store answers {answer:?}, the model {expected:?}")));
        }
        caller.learn(&answer);
        same_state(store, model).await.map_err(at)?;
    }
    Ok(())
}

async fn same_state(store: &dyn JobStore, model: &MemoryJobStore) -> Result<(), String> {
    let failed = |error| format!("a read fails: {error}");
    let differs = |what: String| Err(format!("the state differs: {what}"));
    for id in Caller::jobs() {
        let (has, should) = (store.get(id).await.map_err(failed)?, model.get(id).await.map_err(failed)?);
        if has != should {
            return differs(format!("the store has {has:?}, the model {should:?}"));
        }
    }
    let query = JobQuery::default();
    let (has, should) = (store.list(&query).await.map_err(failed)?, model.list(&query).await.map_err(failed)?);
    if has.jobs != should.jobs {
        return differs(format!("the store lists {:?}, the model {:?}", has.jobs, should.jobs));
    }
    for lane in Caller::lanes() {
        let (has, should) = (store.counts(&lane).await.map_err(failed)?, model.counts(&lane).await.map_err(failed)?);
        if has != should {
            return differs(format!("lane {lane}: the store counts {has:?}, the model {should:?}"));
        }
    }
    let (has, should) = (store.lanes().await.map_err(failed)?, model.lanes().await.map_err(failed)?);
    if has != should {
        return differs(format!("the store tells lanes {has:?}, the model {should:?}"));
    }
    Ok(())
}
