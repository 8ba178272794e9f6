//! What is read when a journal is opened: live jobs, the ended ones that they use, paused lanes, and which events are kept.

use std::{collections::BTreeSet, ops::ControlFlow, sync::Arc};

use metamcp_core::{
    error::StoreResult,
    id::JobId,
    queue::{Core, CoreLimits},
    time::Clock,
};

use super::{
    codec, head,
    journal::{Journal, View},
    keys::{self, Kind},
    shared::EventSpan,
    state::State,
};

/// Reads the journal. Every lease of before is reclaimed: the lock proves that its holder is gone with its process.
pub(super) fn load(journal: Arc<Journal>, clock: Arc<dyn Clock>, limits: CoreLimits) -> StoreResult<State> {
    let view = journal.view()?;
    let mut core = Core::new(limits);
    view.scan(&(Kind::Live.first()..Kind::Live.end()), |key, record| {
        core.load(head::decode_head(key, record)?);
        Ok(ControlFlow::Continue(()))
    })?;
    load_used(&mut core, &view)?;
    view.scan(&(Kind::Paused.first()..Kind::Paused.end()), |key, record| {
        codec::decode_mark(key, record)?;
        core.load_paused(&keys::lane_of(key)?);
        Ok(ControlFlow::Continue(()))
    })?;
    let events = kept_events(&view)?;
    drop(view);
    let mut state = State::new(journal, clock, core, events);
    raise_format(&mut state)?;
    for (id, became) in state.core.reclaim_all(state.now()) {
        state.tell_later(id, became);
    }
    state.absorb();
    state.commit()?;
    Ok(state)
}

/// Loads the ended jobs that live ones wait for, or take results from.
fn load_used(core: &mut Core, view: &View) -> StoreResult<()> {
    let live = core.heads().filter(|head| !head.state.is_final());
    let used: BTreeSet<JobId> = live.flat_map(|head| &head.after).copied().filter(|id| !core.contains(*id)).collect();
    for id in used {
        let key = keys::job_key(Kind::Final, id);
        if let Some(record) = view.get(&key)? {
            core.load(head::decode_head(&key, &record)?);
        }
    }
    Ok(())
}

fn kept_events(view: &View) -> StoreResult<EventSpan> {
    let kept = Kind::Event.first()..Kind::Event.end();
    let newest = view.backwards(&kept)?.next().transpose()?.map(|(key, _)| keys::cursor_of(&key)).transpose()?;
    let newest = newest.unwrap_or_default();
    let mut oldest = newest + 1;
    view.scan(&kept, |key, _| {
        oldest = keys::cursor_of(key)?;
        Ok(ControlFlow::Break(()))
    })?;
    Ok(EventSpan { oldest, newest })
}

/// Lets builds that do not know the form of what is written from now on stop at the format record: in the first commit, so that nothing is
/// written where something cannot be read.
fn raise_format(state: &mut State) -> StoreResult<()> {
    let key = keys::format_key();
    if state.get(&key)?.is_none_or(|record| codec::version_of(&record) < codec::RECORD_VERSION) {
        let mark = codec::encode_mark(&key)?;
        state.put(key, mark);
    }
    Ok(())
}
